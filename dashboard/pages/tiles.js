// The figures: a name, the value now, a remark, and how it came to be.

import { Bar, Sparkline } from "./charts.js";
import { element, setText } from "./dom.js";
import { bytes, count, figure, known, NOTHING, percent } from "./format.js";

const SLOT_STATES = ["free", "writing", "ready", "reading"];

const seconds = (value) => (known(value) ? `${figure(value)} s` : NOTHING);

// name in the history, title, a value in words, a remark on the run now
const TILES = [
  ["decisions_per_second", "Decisions per second", figure, (run) => `${count(run.figures.decisions ?? run.decisions)} so far`],
  ["simulated_per_second", "Simulated seconds per second", figure, (run) => `${count(run.episodes)} episodes ended`],
  ["delay", "Delay", seconds, () => "mean of recent trips"],
  ["lag", "Lag", figure, () => "policy versions from acting to learning"],
  ["return", "Return", figure, (run) => `loss ${figure(run.figures.loss)}`],
  ["memory_bytes", "Memory", bytes, (run) => budget(run.figures) + altogether(bytes, run.altogether?.memory)],
  ["restarts", "Restarts", count, (run) => `of SUMOs and collectors${altogether(count, run.altogether?.restarts)}`],
  ["queue_fill", "Queue", percent, (run) => `learner waits ${percent(run.figures.wait_share)} of the time`],
];

function budget({ memory_bytes: used, memory_budget: limit }) {
  return known(limit) && limit > 0 ? `${percent(used / limit)} of ${bytes(limit)}` : "no budget known";
}

// What all ranks have, where there are several.
const altogether = (text, value) => (known(value) ? `; ${text(value)} on all ranks` : "");

export class Tiles {
  constructor(container) {
    this.bar = new Bar(SLOT_STATES);
    this.gauge = element("meter", { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0, "aria-label": "memory of its budget" });
    const extras = { queue_fill: this.bar.element, memory_bytes: this.gauge };
    this.tiles = TILES.map(([name, title, text, remark]) => {
      const [value, note, spark] = [element("p", { class: "value" }), element("p", { class: "quiet" }), new Sparkline(title, text)];
      const extra = extras[name] ? [extras[name]] : [];
      container.append(
        element("article", { class: "card tile", "data-figure": name }, element("h3", {}, title), value, note, ...extra, spark.element),
      );
      return { name, text, remark, value, note, spark };
    });
  }

  draw(run) {
    for (const { name, text, remark, value, note } of this.tiles) {
      setText(value, text(run.figures[name]));
      setText(note, remark(run));
    }
    this.bar.draw(run.queue);
    const { memory_bytes: used, memory_budget: limit } = run.figures;
    this.gauge.hidden = !(known(used) && known(limit) && limit > 0);
    if (!this.gauge.hidden) this.gauge.value = used / limit;
  }

  drawHistory(rows) {
    for (const { name, spark } of this.tiles) spark.draw(rows.map((row) => [row.time, row[name]]));
  }
}
