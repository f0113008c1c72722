/* What the interactive figures share: elements, numbers, a handle to drag, a chart, a strip of intervals.

   A figure is an element with data-live, which holds its data as JSON (book/_ext/live.py). Its own script
   calls `live.figure(kind, make)`; `make(stage, data, figure)` builds it and returns what draws it. Classic
   scripts without a build step: they work from a file as well as from a server. */
window.live = (() => {
"use strict";

const SVG = "http://www.w3.org/2000/svg";

// Make an element: attributes, listeners (functions), children (elements or words).
function build(parent, tag, attributes = {}, ...children) {
  const element = parent.namespaceURI === SVG || tag === "svg"
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  parent.append(element);
  return element;
}

// Numbers as people write them: a real minus, none where it rounds to zero.
function fixed(number, digits = 1) {
  const words = Math.abs(number).toFixed(digits);
  return number < 0 && Number(words) ? `−${words}` : words;
}

function signed(number, digits = 1) {
  const words = fixed(number, digits);
  return number > 0 && Number(words) ? `+${words}` : words;
}

const points = ([estimate, low, high], digits = 1) =>
  `${signed(estimate, digits)} points (${signed(low, digits)} to ${signed(high, digits)})`;

// Draw now, and anew when the figure gets another width or the page other colors.
function figure(kind, make) {
  for (const element of document.querySelectorAll(`[data-live="${kind}"]`)) {
    const data = JSON.parse(element.querySelector("script").textContent);
    const stage = element.querySelector(".live-stage");
    const draw = make(stage, data, element);
    element.classList.add("is-live");
    if (data.still) standFor(element, document.getElementById(data.still));
    let width = 0;
    new ResizeObserver(() => {
      if (stage.clientWidth && stage.clientWidth !== width) {
        width = stage.clientWidth;
        draw();
      }
    }).observe(stage);
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }
}

// Take the place of a figure of the page: its caption with the number, and the links to it.
function standFor(element, still) {
  if (!still) return;
  const box = still.closest("figure") ?? still, caption = element.querySelector("figcaption");
  if (!caption.textContent.trim()) caption.append(...(box.querySelector("figcaption")?.cloneNode(true).childNodes ?? []));
  still.id += "-still";
  element.prepend(build(element, "span", { id: still.id.replace(/-still$/, "") }));
  box.classList.add("live-instead");
}

// A handle with stops: a native slider, whose stops need not be evenly spaced.
// `places` are from 0 to 1; `say(stop)` is what stands beside it, and what a screen reader says.
class Handle {
  constructor(parent, { label, places, start = 0, say, change }) {
    Object.assign(this, { places, say, change });
    const id = `live-handle-${document.querySelectorAll(".live-handle").length}`;
    this.box = build(parent, "div", { class: "live-handle" });
    build(this.box, "label", { for: id }, label);
    this.output = build(this.box, "output", { for: id });
    this.input = build(this.box, "input", {
      type: "range", id, min: 0, max: 1, step: "any",
      input: () => this.to(this.nearest(this.input.valueAsNumber)),
      keydown: event => this.key(event),
    });
    this.stop = start;
    this.show();
  }

  nearest(place) {
    const far = this.places.map(each => Math.abs(each - place));
    return far.indexOf(Math.min(...far));
  }

  // Go to a stop; whoever listens hears of it while the handle is still held.
  to(stop) {
    const next = Math.max(0, Math.min(this.places.length - 1, stop)), moved = next !== this.stop;
    this.stop = next;
    this.show();
    if (moved) this.change(next);
  }

  show() {
    this.input.value = this.places[this.stop];
    const words = this.say(this.stop);
    this.output.textContent = words;
    this.input.setAttribute("aria-valuetext", words);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.places.length - 1;
    const to = {
      ArrowRight: this.stop + 1, ArrowUp: this.stop + 1, ArrowLeft: this.stop - 1, ArrowDown: this.stop - 1,
      PageUp: this.stop + 3, PageDown: this.stop - 3, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.to(to);
  }

  // Lie below a chart, so that its thumb is below the chart's line.
  align(left, right) {
    this.box.style.setProperty("--left", `${left - 8}px`);
    this.box.style.setProperty("--right", `${right - 8}px`);
  }
}

// Where stops of epochs lie on a logarithmic axis from 0 to 1; epoch 0 is a step before the first.
function onLogAxis(stops) {
  const first = stops.find(each => each > 0), second = stops.filter(each => each > 0)[1];
  const logs = stops.map(each => Math.log(each || first * first / second));
  return logs.map(each => (each - logs[0]) / (logs.at(-1) - logs[0]));
}

// A chart in a drawing of its own, a unit a pixel. Its line can be dragged with the handle's.
class Chart {
  constructor(parent, { tall, left = 34, right = 12, top = 8, bottom = 34, handle }) {
    Object.assign(this, { tall, left, right, top, bottom, handle });
    this.svg = build(parent, "svg", { role: "img", class: "live-chart" });
    if (handle) {
      const follow = event => {
        const box = this.svg.getBoundingClientRect();
        handle().to(handle().nearest((event.clientX - box.left - this.left) / this.wide));
      };
      this.svg.classList.add("can-drag");
      this.svg.addEventListener("pointerdown", event => {
        this.svg.setPointerCapture(event.pointerId);
        follow(event);
      });
      this.svg.addEventListener("pointermove", event => event.buttons && follow(event));
    }
  }

  // Empty it and draw its axes. Ticks: [place, words]; places across from 0 to 1, heights in the data's units.
  frame({ low, high, across, up, acrossTitle, words }) {
    const { svg, left, right, top, bottom } = this;
    this.width = svg.parentElement.clientWidth;
    this.height = this.tall();
    this.wide = Math.max(1, this.width - left - right);
    this.high = this.height - top - bottom;
    this.x = place => left + place * this.wide;
    this.y = value => top + this.high * (high - value) / (high - low);
    svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    svg.setAttribute("height", this.height);
    svg.setAttribute("aria-label", words);
    svg.replaceChildren();
    for (const [value, text] of up) {
      const y = this.y(value);
      build(svg, "line", { x1: left, x2: left + this.wide, y1: y, y2: y, class: value ? "live-grid" : "live-zero" });
      build(svg, "text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text);
    }
    const taken = [];  // the ends have their names; between them those that find room
    for (const [place, text] of [across[0], across.at(-1), ...across.slice(1, -1)]) {
      const half = 3.6 * String(text).length, x = Math.min(this.x(place), this.width - half);
      if (taken.some(([other, room]) => Math.abs(other - x) < half + room + 5)) continue;
      taken.push([x, half]);
      build(svg, "text", { x, y: top + this.high + 15, "text-anchor": "middle" }, text);
    }
    if (acrossTitle) build(svg, "text", { x: left + this.wide / 2, y: this.height - 3, "text-anchor": "middle" }, acrossTitle);
    // What reaches beyond the plot is cut off.
    const box = { x: left - 4, y: top, width: this.wide + 8, height: this.high };
    this.inside = build(svg, "svg", { ...box, viewBox: Object.values(box).join(" ") });
    this.handle?.().align(left, right);
  }

  line(values, mark) {
    const path = values.map(([place, value], k) => `${k ? "L" : "M"}${this.x(place).toFixed(1)},${this.y(value).toFixed(1)}`);
    return build(this.inside, "path", { d: path.join(""), class: `live-line ${mark}` });
  }

  dot(place, value, mark, r = 4) {
    return build(this.inside, "circle", { cx: this.x(place), cy: this.y(value), r, class: `live-dot ${mark}` });
  }

  bar(place, [, low, high], mark) {
    const x = this.x(place);
    return build(this.inside, "line", { x1: x, x2: x, y1: this.y(low), y2: this.y(high), class: `live-bar ${mark}` });
  }

  // The line that the handle moves, with a grip at its foot.
  grip(place) {
    const x = this.x(place), foot = this.top + this.high;
    build(this.svg, "line", { x1: x, x2: x, y1: this.top, y2: foot, class: "live-stop" });
    build(this.svg, "circle", { cx: x, cy: foot, r: 6, class: "live-grip" });
  }
}

// Intervals below each other, one of them chosen: what each way does, in points over cold.
// `rows`: [{ key, words, interval, mark }]
function strip(svg, rows, chosen, { width, low, high, name = 132, words }) {
  const step = 21, left = name, wide = width - left - 10, foot = 6 + step * rows.length;
  const x = value => left + wide * (Math.max(low, Math.min(high, value)) - low) / (high - low);
  svg.setAttribute("viewBox", `0 0 ${width} ${foot + 32}`);
  svg.setAttribute("height", foot + 32);
  svg.setAttribute("aria-label", words);
  svg.replaceChildren();
  for (let tick = Math.ceil(low / 2) * 2; tick <= high; tick += 2) {
    build(svg, "line", { x1: x(tick), x2: x(tick), y1: 0, y2: foot, class: tick ? "live-grid" : "live-zero" });
    build(svg, "text", { x: x(tick), y: foot + 13, "text-anchor": "middle" }, tick ? signed(tick, 0) : "cold");
  }
  build(svg, "text", { x: left + wide / 2, y: foot + 29, "text-anchor": "middle" }, "points over a cold start");
  rows.forEach(({ key, words: said, interval: [estimate, lowest, highest], mark }, k) => {
    const y = 14 + step * k, row = build(svg, "g", { class: key === chosen ? "is-chosen" : "is-other" });
    build(row, "text", { x: left - 8, y: y + 4, "text-anchor": "end", class: `${mark}-text` }, said);
    build(row, "line", { x1: x(lowest), x2: x(highest), y1: y, y2: y, class: `live-bar ${mark}` });
    build(row, "circle", { cx: x(estimate), cy: y, r: key === chosen ? 6 : 4, class: `live-dot ${mark}` });
  });
}

return { build, fixed, signed, points, figure, Handle, onLogAxis, Chart, strip };
})();
