// Small pictures: a line over time, and a bar in parts.

import { element, setText, shape } from "./dom.js";
import { duration, known } from "./format.js";

const HEIGHT = 40; // px
const EDGE = 4; // px, room for the line's width and the dot at its end

export class Sparkline {
  constructor(label, text) {
    this.label = label;
    this.text = text; // a value in words
    this.area = shape("path", { class: "area" });
    this.line = shape("path", { class: "line" });
    this.dot = shape("circle", { class: "dot", r: 2.5, visibility: "hidden" });
    this.svg = shape("svg", { class: "spark", role: "img", height: HEIGHT });
    this.svg.append(this.area, this.line, this.dot);
    this.element = this.svg;
  }

  // points: [seconds, value] with the oldest first; a value that is not known leaves a gap.
  draw(points) {
    const width = this.svg.clientWidth;
    const values = points.map(([, value]) => value).filter(known);
    if (!width || values.length < 2) {
      this.svg.setAttribute("aria-label", `${this.label}: nothing to draw yet`);
      return;
    }
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const [from, to] = [points[0][0], points[points.length - 1][0]];
    // A line that hardly changes stays in the middle instead of showing its noise.
    const room = Math.max(most - least, 0.05 * Math.max(Math.abs(most), Math.abs(least)), 1e-9);
    const bottom = (most + least - room) / 2;
    const place = ([time, value]) => [
      EDGE + ((width - 2 * EDGE) * (time - from)) / Math.max(to - from, 1e-9),
      HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * (value - bottom)) / room,
    ];
    const pieces = runs(points).map((piece) => piece.map(place));
    const path = (piece) => piece.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.line.setAttribute("d", pieces.map((piece) => `M${path(piece)}`).join(""));
    this.area.setAttribute(
      "d",
      pieces.map((piece) => `M${piece[0][0]},${HEIGHT}L${path(piece)}L${piece[piece.length - 1][0]},${HEIGHT}Z`).join(""),
    );
    const [x, y] = pieces[pieces.length - 1].slice(-1)[0];
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", y);
    this.dot.setAttribute("visibility", "visible");
    const range = `${this.text(least)} to ${this.text(most)} in the last ${duration(to - from)}`;
    this.svg.setAttribute("aria-label", `${this.label}: ${range}`);
  }
}

// The stretches of points without an unknown value between them.
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (known(point[1])) found[found.length - 1].push(point);
    else if (found[found.length - 1].length) found.push([]);
  }
  return found.filter((piece) => piece.length);
}

export class Bar {
  constructor(names) {
    this.parts = new Map(names.map((name) => [name, element("span", { class: `part ${name}` })]));
    this.numbers = new Map(names.map((name) => [name, element("b")]));
    const legend = names.map((name) => element("li", {}, element("i", { class: name }), this.numbers.get(name), ` ${name}`));
    this.element = element(
      "div",
      { class: "bar" },
      element("div", { class: "parts", "aria-hidden": "true" }, ...this.parts.values()),
      element("ul", { class: "legend" }, ...legend),
    );
  }

  draw(counts) {
    for (const [name, part] of this.parts) {
      part.style.flexGrow = counts[name] ?? 0;
      setText(this.numbers.get(name), String(counts[name] ?? 0));
    }
  }
}
