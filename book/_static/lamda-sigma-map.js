/* The map of lamda and sigma: choose a pair, see what it gives.

   The page holds the map as a table and its data as JSON (book/_ext/lamda_sigma_map.py).
   This script makes the table a grid in the sense of ARIA: one cell is selected, by mouse, by
   touch or by the arrow keys, and its numbers and learning curve are shown beside it. A classic
   script without a build step: it works from a file as well as from a server. */
(() => {
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const END = "end", TIME = "time";

// Make an element: attributes, listeners (functions), children (elements or words).
function build(parent, tag, attributes = {}, ...children) {
  const element = parent.namespaceURI === SVG || tag === "svg"
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  parent.append(element);
  return element;
}

// With its sign and a real minus; what rounds to zero has none.
function signed(number, digits = 2) {
  const words = Math.abs(number).toFixed(digits);
  return Number(words) === 0 ? words : (number < 0 ? "−" : "+") + words;
}

const percent = value => value.toFixed(2);
const range = ([, low, high], write) => `${write(low)} to ${write(high)}`;

class Explorer {
  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.querySelector("script").textContent);
    this.table = element.querySelector(".lsm-cells");
    this.fields = [...this.table.querySelectorAll("td")];
    this.columns = this.data.sigmas.length;
    this.makeGrid();
    this.makeDetail();
    this.show(END);
    const first = this.fields.findIndex(field => field.dataset.cell === this.data.start);
    this.select(Math.max(0, first));
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  // 1. The grid ---------------------------------------------------------------------------

  makeGrid() {
    const { table } = this;
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", "Map of lamda, down, and sigma, across");
    for (const row of table.rows) row.setAttribute("role", "row");
    for (const head of table.querySelectorAll("th")) {
      head.setAttribute("role", head.scope === "row" ? "rowheader" : "columnheader");
    }
    for (const field of this.fields) {
      field.setAttribute("role", "gridcell");
      field.dataset.points = field.textContent;
    }
    table.addEventListener("keydown", event => this.key(event));
    table.addEventListener("focusin", event => this.select(this.fields.indexOf(event.target)));
    table.addEventListener("pointerdown", event => this.point(event, true));
    table.addEventListener("pointermove", event => event.buttons && this.point(event, false));
    const choose = build(table.parentElement, "fieldset", { class: "lsm-show" });
    table.before(choose);
    build(choose, "legend", {}, "Show");
    const name = `lsm-show-${document.querySelectorAll(".lsm-show").length}`;
    for (const [value, words] of [[END, "accuracy"], [TIME, "time"]]) {
      const label = build(choose, "label");
      build(label, "input", { type: "radio", name, value, change: () => this.show(value) });
      label.append(words);
    }
    choose.querySelector("input").checked = true;
  }

  // The cell under the pointer; a finger's first cell would otherwise get all its moves.
  point(event, pressed) {
    if (event.target.hasPointerCapture?.(event.pointerId)) {
      event.target.releasePointerCapture(event.pointerId);
    }
    const place = this.fields.indexOf(document.elementFromPoint(event.clientX, event.clientY));
    if (place < 0 || (!pressed && place === this.chosen)) return;
    this.select(place);
    this.fields[place].focus({ preventScroll: true });
  }

  key(event) {
    const { columns } = this, last = this.fields.length - 1;
    const row = Math.floor(this.chosen / columns), column = this.chosen % columns;
    const places = {
      ArrowLeft: column > 0 ? this.chosen - 1 : this.chosen,
      ArrowRight: column < columns - 1 ? this.chosen + 1 : this.chosen,
      ArrowUp: row > 0 ? this.chosen - columns : this.chosen,
      ArrowDown: this.chosen + columns <= last ? this.chosen + columns : this.chosen,
      Home: event.ctrlKey ? 0 : row * columns,
      End: event.ctrlKey ? last : row * columns + columns - 1,
      PageUp: column,
      PageDown: last - (columns - 1 - column),
    };
    if (!(event.key in places) || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.fields[places[event.key]].focus();
  }

  // One cell is selected, and it alone is reached by Tab.
  select(place) {
    if (place < 0 || place === this.chosen) return;
    this.chosen = place;
    this.fields.forEach((field, k) => {
      field.tabIndex = k === place ? 0 : -1;
      field.setAttribute("aria-selected", k === place);
    });
    this.name = this.fields[place].dataset.cell;
    this.tell();
    this.draw();
  }

  // Color the map by the accuracy at the end or by the time until cold's accuracy.
  show(what) {
    this.what = what;
    const { cells, epochs } = this.data;
    const most = Math.max(...Object.values(cells).map(cell => Math.abs(cell.minusCold[0])));
    for (const field of this.fields) {
      const { minusCold: [points], epochs: [time] } = cells[field.dataset.cell];
      const strength = what === END ? Math.abs(points) / most : 1 - Math.log(time) / Math.log(epochs.at(-1));
      field.textContent = what === END ? field.dataset.points : time;
      field.className = what === TIME ? "lsm-soon" : points < 0 ? "lsm-below" : "lsm-above";
      field.style.setProperty("--strength", strength.toFixed(2));
    }
    this.table.caption.textContent = this.data.captions[what];
  }

  // 2. The chosen cell --------------------------------------------------------------------

  makeDetail() {
    const parts = this.element.querySelector(".lsm-parts");
    const detail = build(parts, "div", { class: "lsm-detail" });
    this.title = build(detail, "div", { class: "lsm-title" });
    this.list = build(detail, "dl");
    this.stage = build(detail, "div", { class: "lsm-stage" });
    this.svg = build(this.stage, "svg", { role: "img" });
    build(detail, "p", { class: "lsm-note" },
      `Numbers: after ${this.data.epochs.at(-1)} epochs, with 95 % intervals over tables; those of the `
      + "differences hold for all pairs at once. Lines: means; dashed, what cold ends with.");
    this.status = build(this.element, "div", { class: "lsm-status", role: "status" });
  }

  tell() {
    const cell = this.data.cells[this.name], [lamda, sigma] = this.name.split(", ");
    this.title.replaceChildren();
    build(this.title, "b", {}, `lamda ${lamda}, sigma ${sigma}`);
    if (this.name === "1, 0") this.title.append(": this is the warm start");
    const lines = [
      ["accuracy, %", percent(cell.accuracy[0]), range(cell.accuracy, percent)],
      ["points over cold", signed(cell.minusCold[0]), range(cell.minusCold, signed)],
      ["points over warm", signed(cell.minusWarm[0]), range(cell.minusWarm, signed)],
      ["epochs to match cold", cell.epochs[0], range(cell.epochs, String)],
      ["runs that match it, %", cell.reached.toFixed(1), ""],
    ];
    this.list.replaceChildren();
    for (const [name, value, interval] of lines) {
      build(this.list, "dt", {}, name);
      const field = build(this.list, "dd", {}, value);
      if (interval) build(field, "span", {}, ` (${interval})`);
    }
    this.status.textContent = `lamda ${lamda}, sigma ${sigma}: ${percent(cell.accuracy[0])} %, `
      + `${signed(cell.minusCold[0])} points from cold, ${cell.epochs[0]} epochs to match cold`;
  }

  // The learning curve of the cell, of cold and of warm, over epochs on a logarithmic axis.
  draw() {
    const width = this.stage?.clientWidth, height = this.element.clientWidth < 640 ? 195 : 250;
    if (!width || !this.name) return;
    const { epochs, cold, warm, cells } = this.data, cell = cells[this.name], last = epochs.at(-1);
    const left = 34, right = width - 84, top = 10, bottom = height - 34;
    const lowest = Math.floor(this.data.initial) - 6;
    const highest = Math.ceil(Math.max(...Object.values(cells).flatMap(c => c.curve), ...cold.curve));
    const x = epoch => left + (right - left) * Math.log(epoch) / Math.log(last);
    const y = level => bottom - (bottom - top) * (level - lowest) / (highest - lowest);
    const { svg } = this;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `Learning curves: the pair lamda, sigma ${this.name} ends at `
      + `${cell.curve.at(-1)} %, cold at ${cold.curve.at(-1)} %, warm at ${warm.curve.at(-1)} %`);
    for (let level = Math.ceil(lowest / 2) * 2; level <= highest; level += 2) {
      build(svg, "line", { x1: left, x2: right, y1: y(level), y2: y(level) });
      build(svg, "text", { x: left - 6, y: y(level) + 4, "text-anchor": "end" }, level);
    }
    for (const epoch of [1, 10, 100, last]) {
      build(svg, "text", { x: x(epoch), y: bottom + 16, "text-anchor": "middle" }, epoch);
    }
    build(svg, "text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" },
      "epochs (logarithmic); up: test accuracy, %");
    const target = y(cold.curve.at(-1));
    build(svg, "line", { x1: left, x2: right, y1: target, y2: target, class: "lsm-target" });
    const box = { x: left, y: 0, width: right - left + 2, height: bottom };  // what is below it is cut off
    const inside = build(svg, "svg", { ...box, viewBox: Object.values(box).join(" ") });
    const ends = [];
    for (const [kind, curve] of [["cold", cold.curve], ["warm", warm.curve], ["cell", cell.curve]]) {
      const path = curve.map((level, k) => `${k ? "L" : "M"}${x(epochs[k]).toFixed(1)},${y(level).toFixed(1)}`);
      build(inside, "path", { d: path.join(""), class: `lsm-${kind}` });
      ends.push({ kind, at: y(Math.max(lowest, curve.at(-1))) });
    }
    // Labels at the ends of the lines, pushed apart.
    ends.sort((a, b) => a.at - b.at);
    let above = -Infinity;
    for (const { kind, at } of ends) {
      above = Math.max(at + 4, above + 14);
      build(svg, "text", { x: right + 6, y: above, class: `lsm-${kind}` }, kind === "cell" ? "this pair" : kind);
    }
  }
}

for (const element of document.querySelectorAll(".lamda-sigma-map")) new Explorer(element);
})();
