// Tables whose rows stay the same elements from reading to reading, so that focus and selection stay where they are.

import { element, setText } from "./dom.js";

export class Table {
  // columns: {title, text(row), kind?} or {title, make(row) → element, change(element, row)}
  constructor(table, columns) {
    this.columns = columns;
    this.rows = new Map();
    const titles = columns.map(({ title, kind }) => element("th", { scope: "col", role: "columnheader", class: kind ?? "" }, title));
    this.body = element("tbody", { role: "rowgroup" });
    table.append(
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...titles)),
      this.body,
    );
  }

  // entries: [key, row] in the order in which they are shown
  draw(entries) {
    const keys = new Set(entries.map(([key]) => key));
    for (const [key, { line }] of this.rows) {
      if (keys.has(key)) continue;
      line.remove();
      this.rows.delete(key);
    }
    entries.forEach(([key, row], index) => {
      if (!this.rows.has(key)) this.rows.set(key, this.make(row));
      const { line, cells } = this.rows.get(key);
      if (this.body.children[index] !== line) this.body.insertBefore(line, this.body.children[index] ?? null);
      this.columns.forEach(({ text, change }, column) => {
        if (text) setText(cells[column], text(row));
        else change(cells[column], row);
      });
    });
  }

  make(row) {
    const cells = this.columns.map(({ make }) => (make ? make(row) : element("span")));
    const line = element(
      "tr",
      { role: "row" },
      ...cells.map((cell, column) => {
        const { title, kind } = this.columns[column];
        return element("td", { role: "cell", "data-title": title, class: kind ?? "" }, cell);
      }),
    );
    return { line, cells };
  }
}

// A state as a coloured word.
export const pill = {
  make: () => element("span", { class: "pill" }),
  change: (cell, { ok, state, paused_for: why }) => setState(cell, ok === false ? "no answer" : state, why),
};

// The state of something that rests although nobody asked for it, such as for want of memory, comes with the reason.
export function setState(target, state, why = []) {
  const reasons = state.startsWith("paus") ? unasked(why) : [];
  setText(target, reasons.length ? `${state} (${reasons.join(", ")})` : state);
  target.dataset.state = state;
}

export const unasked = (why = []) => why.filter((reason) => reason !== "request");
