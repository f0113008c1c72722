/* The playground: the 6-(10-10)-3 network of the book, trained in the page.

   It follows wsp/retraining.py draw for draw, in double precision, so that a seed
   gives the counts that `python -m wsp` gives. A classic script without a build step:
   it works from a file as well as from a server. The tables and every constant come
   from the page, where book/_ext/playground.py puts them. */
(() => {
"use strict";

// 1. Random numbers, as PyTorch's generator draws them on a CPU ---------------------------

// The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998).
class Twister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1];
      this.state[i] = Math.imul(last ^ (last >>> 30), 1812433253) + i;
    }
    this.used = 624;
  }

  refill() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const joined = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.used = 0;
  }

  // 32 random bits.
  bits() {
    if (this.used === 624) this.refill();
    let x = this.state[this.used++];
    x ^= x >>> 11;
    x ^= (x << 7) & 0x9d2c5680;
    x ^= (x << 15) & 0xefc60000;
    return (x ^ (x >>> 18)) >>> 0;
  }

  // torch.rand in float64: 53 of 64 bits, the upper half drawn first.
  uniform() {
    const upper = this.bits() & 0x1fffff;
    return (upper * 2 ** 32 + this.bits()) * 2 ** -53;
  }

  // torch.randperm: each place swaps with one at or after it.
  permutation(n) {
    const order = Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const j = i + (this.bits() % (n - i));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  // Tensor.normal_ in float64, for 16 values or more: in blocks of 16, by Box and Muller,
  // the first eight with the last eight. (Smaller tensors take another way; we have none.)
  normals(n) {
    const values = new Float64Array(n);
    const fill = start => { for (let i = start; i < n; i++) values[i] = this.uniform(); };
    const transform = start => {
      for (let i = start; i < start + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
        const angle = 2 * Math.PI * values[i + 8];
        values[i] = radius * Math.cos(angle);
        values[i + 8] = radius * Math.sin(angle);
      }
    };
    fill(0);
    for (let start = 0; start + 16 <= n; start += 16) transform(start);
    if (n % 16) {  // a tail is met by drawing the last 16 anew
      fill(n - 16);
      transform(n - 16);
    }
    return values;
  }
}

// 2. The network (wsp/network.py) and its training (wsp/training.py) -----------------------

class Network {
  constructor(sizes, random) {
    this.sizes = sizes;
    this.layers = sizes.slice(1).map((outputs, k) => {
      const inputs = sizes[k], n = inputs * outputs;
      return { inputs, outputs, weight: new Float64Array(n), bias: new Float64Array(outputs),
               weightGradient: new Float64Array(n), biasGradient: new Float64Array(outputs) };
    });
    this.units = sizes.map(n => new Float64Array(n));  // what each layer gives for one row
    this.deltas = sizes.map(n => new Float64Array(n));  // the loss's gradient by its sums
    for (const { inputs, outputs, weight } of this.layers) {  // Xavier-uniform
      const limit = Math.sqrt(3) * Math.sqrt(2 / (inputs + outputs));
      weight.forEach((_, i) => { weight[i] = random.uniform() * (2 * limit) - limit; });
    }
  }

  copy() {
    return Object.setPrototypeOf(structuredClone(this), Network.prototype);
  }

  shrinkPerturb(lamda, sigma, random) {
    for (const { weight } of this.layers) {
      const noise = sigma && random.normals(weight.length);
      weight.forEach((w, i) => { weight[i] = lamda * w + (sigma && sigma * noise[i]); });
    }
    return this;
  }

  // The logits of one row.
  forward(row) {
    const last = this.layers.length - 1;
    this.units[0].set(row);
    for (let k = 0; k <= last; k++) {
      const { inputs, outputs, weight, bias } = this.layers[k];
      const below = this.units[k], units = this.units[k + 1];
      for (let j = 0, at = 0; j < outputs; j++) {
        let sum = bias[j];
        for (let i = 0; i < inputs; i++) sum += weight[at++] * below[i];
        units[j] = k < last ? Math.tanh(sum) : sum;
      }
    }
    return this.units[last + 1];
  }

  // Softmax of the logits.
  probabilities(row) {
    const p = this.forward(row);
    let highest = -Infinity, sum = 0;
    for (let c = 0; c < p.length; c++) highest = Math.max(highest, p[c]);
    for (let c = 0; c < p.length; c++) sum += p[c] = Math.exp(p[c] - highest);
    for (let c = 0; c < p.length; c++) p[c] /= sum;
    return p;
  }

  // Add the gradient of one row's cross-entropy to the sums in the layers.
  backward(row, label) {
    const top = this.layers.length;
    this.deltas[top].set(this.probabilities(row));
    this.deltas[top][label] -= 1;
    for (let k = top - 1; k >= 0; k--) {
      const { inputs, outputs, weight, weightGradient, biasGradient } = this.layers[k];
      const units = this.units[k], delta = this.deltas[k + 1];
      for (let j = 0, at = 0; j < outputs; j++) {
        biasGradient[j] += delta[j];
        for (let i = 0; i < inputs; i++) weightGradient[at++] += delta[j] * units[i];
      }
      if (k === 0) break;  // nothing below the inputs
      const below = this.deltas[k].fill(0);
      for (let j = 0, at = 0; j < outputs; j++) {
        for (let i = 0; i < inputs; i++) below[i] += delta[j] * weight[at++];
      }
      for (let i = 0; i < inputs; i++) below[i] *= 1 - units[i] * units[i];  // tanh' = 1 - tanh²
    }
  }

  // One step of stochastic gradient descent on a batch of rows.
  step(table, batch, rate) {
    for (const layer of this.layers) {
      layer.weightGradient.fill(0);
      layer.biasGradient.fill(0);
    }
    for (const i of batch) this.backward(table.inputs[i], table.labels[i]);
    const factor = rate / batch.length;
    for (const { weight, bias, weightGradient, biasGradient } of this.layers) {
      for (let i = 0; i < weight.length; i++) weight[i] -= factor * weightGradient[i];
      for (let i = 0; i < bias.length; i++) bias[i] -= factor * biasGradient[i];
    }
  }

  predict(row) {
    const logits = this.forward(row);
    return logits.indexOf(Math.max(...logits));
  }

  // How many rows it gets right.
  correct(table) {
    return table.labels.filter((label, i) => this.predict(table.inputs[i]) === label).length;
  }

  // The mean absolute value of its weights.
  meanSize() {
    const all = this.layers.flatMap(layer => Array.from(layer.weight, Math.abs));
    return all.reduce((a, b) => a + b) / all.length;
  }
}

// 3. The table (wsp/employees.py) and the arms (wsp/retraining.py) -------------------------

// Inputs of one employee; branch is 0, 1 or 2.
function encode(sex, age, branch, income) {
  return Float64Array.of(sex === "M" ? -1 : 1, age / 100, ...[0, 1, 2].map(b => +(b === branch)),
                         income / 100000);
}

// A table comes packed: a fixed number of letters or digits a row, income in hundreds.
function readTable(packed) {
  const numbers = (column, width) => packed[column].match(RegExp(`.{${width}}`, "g")).map(Number);
  const labels = numbers("job", 1), branch = numbers("branch", 1), sex = [...packed.sex];
  const age = numbers("age", 2), income = numbers("income", 3).map(n => 100 * n);
  const inputs = labels.map((_, i) => encode(sex[i], age[i], branch[i], income[i]));
  return { inputs, labels, sex, age, branch, income, rows: labels.length };
}

function readBook(packed) {
  return { ...packed, train: readTable(packed.train), test: readTable(packed.test) };
}

function stream(book, seed, name) {
  return new Twister(book.streams.length * seed + book.streams.indexOf(name));
}

// One training run. `arm` says where it starts: {start, lamda, sigma}.
class Run {
  constructor(book, arm, seed, saved) {
    const first = arm.start === "first";
    this.book = book;
    this.rows = first ? book.oldRows : book.train.rows;
    this.order = stream(book, seed, first ? "first order" : "order");
    this.network = arm.start === "saved" ? saved.copy()
      : new Network(book.sizes, stream(book, seed, `${arm.start} weights`));
    this.network.shrinkPerturb(arm.lamda, arm.sigma, stream(book, seed, "noise"));
    this.epoch = 0;
  }

  trainEpoch() {
    const { train, batchSize, learningRate } = this.book;
    const order = this.order.permutation(this.rows);
    for (let at = 0; at < this.rows; at += batchSize) {
      this.network.step(train, order.slice(at, at + batchSize), learningRate);
    }
    this.epoch++;
  }

  // Train up to an epoch, pausing after each for whoever has to draw.
  * trainUntil(epoch) {
    while (this.epoch < epoch) {
      this.trainEpoch();
      yield;
    }
  }
}

// The network trained on the old rows alone, from which warm starts go on.
function* trainFirst(book, seed) {
  const run = new Run(book, book.arms.initial, seed);
  yield* run.trainUntil(book.arms.initial.epochs);
  return run.network;
}

// How many test rows one arm gets right, trained from its start to its last epoch.
function* countCorrect(book, arm, seed, saved) {
  const run = new Run(book, arm, seed, saved);
  yield* run.trainUntil(arm.epochs);
  return run.network.correct(book.test);
}

const core = { Twister, Network, Run, readBook, stream, trainFirst, countCorrect };
if (typeof module === "object") module.exports = core;  // for the tests
if (typeof document === "undefined") return;
window.warmStarts = core;

// 4. Drawing -----------------------------------------------------------------------------

const SEEDS = 20;
const SLICE = 12;  // milliseconds of work between two looks at what the reader does
const SMOOTH = 25;  // epochs that a line averages
const HEAVY = 2;  // a weight of this size has the full color
const NAMES = { initial: "first network", cold: "cold", warm: "warm", shrink_perturb: "shrink and perturb" };
const ABOUT = {
  cold: "a fresh network",
  warm: "the saved first network",
  shrink_perturb: "the saved network, shrunk, plus noise",
};
const PEOPLE = { F: "women", M: "men" };
const TABS = { curves: "Answers", regions: "Prediction", weights: "Weights", seeds: "Many seeds" };

// A new element in `parent`, in SVG where the parent is; functions become listeners.
function build(parent, name, attributes = {}, ...children) {
  const space = name === "svg" ? "http://www.w3.org/2000/svg" : parent.namespaceURI;
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== false) element.setAttribute(key, value);
  }
  element.append(...children);
  parent.append(element);
  return element;
}

const colors = key => `pg-${key.replace("_", "-")}`;
// With a real minus; what rounds to zero has none.
const decimal = (value, digits) => {
  const words = Math.abs(value).toFixed(digits);
  return value < 0 && Number(words) ? `−${words}` : words;
};
const percent = (n, of) => `${decimal(100 * n / of, 0)} %`;
const upper = words => words[0].toUpperCase() + words.slice(1);
const mean = values => values.reduce((a, b) => a + b) / values.length;
const scale = (from, to, start, end) => v => start + (v - from) / (to - from) * (end - start);
const steps = (from, to, by) => {
  const values = [];
  for (let v = from; v <= to; v += by) values.push(v);
  return values;
};

// A title, a drawing as wide as there is room, and a caption that says the finding.
class Figure {
  constructor(parent, book, kind, title) {
    this.book = book;
    this.kind = kind;
    this.element = build(parent, "figure", { class: `pg-figure pg-${kind}` });
    this.title = build(this.element, "div", { class: "pg-title" }, title);
    this.stage = build(this.element, "div", { class: "pg-stage", role: "img", "aria-label": title });
    this.caption = build(this.element, "figcaption");
    this.name = title;
  }

  // Begin an empty drawing if the width has changed; false where nothing can be seen.
  fit(height) {
    const width = Math.floor(this.stage.clientWidth);
    if (width && width !== this.width) {
      Object.assign(this, { width, height });
      if (this.svg) this.svg.remove();
      this.svg = build(this.stage, "svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": true });
      this.frame();
    }
    return width > 0;
  }

  text(x, y, words, attributes = {}) {
    return build(this.svg, "text", { x, y, ...attributes }, words);
  }

  // Scales x and y, ticks and titles, with room for a key below.
  axes(xs, xTicks, xTitle, ys, yTicks, yTitle, unit, right) {
    const left = 32, top = 24, bottom = this.height - 52;
    this.x = scale(...xs, left, right);
    this.y = scale(...ys, bottom, top);
    this.text(0, 12, yTitle);
    this.text(right, bottom + 31, xTitle, { "text-anchor": "end" });
    for (const x of xTicks) this.text(this.x(x), bottom + 16, x, { "text-anchor": "middle" });
    for (const y of yTicks) {
      this.text(left - 6, this.y(y) + 4, y / unit, { "text-anchor": "end" });
      build(this.svg, "line", { x1: left, x2: right, y1: this.y(y), y2: this.y(y) });
    }
    return { left, top, width: right - left, height: bottom - top };
  }

  say(finding) {
    this.caption.textContent = finding;
    this.stage.setAttribute("aria-label", `${this.name}. ${finding}`);
  }
}

// Right answers against epochs: this run, and the last finished one of each start.
class Curves extends Figure {
  constructor(parent, book) {
    super(parent, book, "curves", "Right answers while it trains");
  }

  frame() {
    const last = this.book.arms.initial.epochs, key = this.height - 6;
    const { left } = this.axes([0, last], steps(0, last, last / 4), "epochs",
      [20, 100], steps(20, 100, 20), "percent", 1, this.width - 78);
    build(this.svg, "path", { d: `M${left},${key - 4}h22`, class: "pg-test" });
    this.text(left + 28, key, "test rows");
    build(this.svg, "path", { d: `M${left + 96},${key - 4}h22`, class: "pg-train" });
    this.text(left + 124, key, "training rows");
    this.lines = build(this.svg, "g");
  }

  line(counts, of, classes) {
    const points = counts.map((n, epoch) => `${this.x(epoch).toFixed(1)},${this.y(100 * n / of).toFixed(1)}`);
    build(this.lines, "path", { d: `M${points.join("L")}`, class: classes });
  }

  // Each point the mean of the last epochs: one epoch is a jumpy thing.
  smooth(counts, of, classes) {
    this.line(counts.map((_, i) => mean(counts.slice(Math.max(0, i + 1 - SMOOTH), i + 1))), of, classes);
  }

  // `finished`: start -> curve; `now`: the curve of the present run; `until`: its last epoch.
  draw(first, finished, now, until) {
    const { test: { rows }, train, arms } = this.book, at = now.test.length - 1, labels = [];
    const every = Math.max(1, Math.floor(at / 10)), shown = steps(0, at, every);
    this.tables = [[this.name, [["epoch", ...shown], ["training rows", ...shown.map(i => now.train[i])],
      ["test rows", ...shown.map(i => now.test[i])]]]];
    this.say(`The dot: ${percent(now.test[at], rows)} of the test rows are right after ${at} epochs; the first `
      + `network has ${percent(first, rows)}. Lines are means of ${SMOOTH} epochs.`);
    if (!this.fit(270)) return;
    this.lines.replaceChildren();
    const label = (epoch, n, of, words, key) => labels.push(
      { epoch, level: 100 * n / of, words: `${words} ${percent(n, of)}`, classes: `pg-label pg-halo ${colors(key)}` });
    build(this.lines, "path", { class: "pg-until", d: `M${this.x(until)},${this.y(20)}V${this.y(100)}` });
    this.line(Array(arms.initial.epochs + 1).fill(first), rows, "pg-first pg-initial");
    label(at, now.test[at], rows, "test", now.key);
    label(at, now.train[at], train.rows, "train", now.key);
    label(arms.initial.epochs, first, rows, "first", "initial");
    for (const [key, curve] of Object.entries(finished)) {
      if (curve === now) continue;
      this.smooth(curve.test, rows, `pg-test pg-ghost ${colors(key)}`);
      label(curve.test.length - 1, curve.test.at(-1), rows, key === now.key ? "before" : NAMES[key], key);
    }
    this.line(now.test, rows, `pg-raw ${colors(now.key)}`);
    this.smooth(now.train, train.rows, `pg-train ${colors(now.key)}`);
    this.smooth(now.test, rows, `pg-test ${colors(now.key)}`);
    const [cx, cy] = [this.x(at), this.y(100 * now.test[at] / rows)];
    build(this.lines, "circle", { cx, cy, r: 4, class: colors(now.key) });
    this.place(labels);
  }

  // Write each label where its line ends, or at the nearest free height.
  place(labels) {
    const taken = [];
    for (const { epoch, level, words, classes } of labels) {
      const width = 7.2 * words.length, x = Math.min(this.x(epoch) + 7, this.width - width);
      const free = y => taken.every(t => Math.abs(t.y - y) > 13 || x > t.x + t.width || t.x > x + width);
      let y = this.y(level) + 4;
      for (let away = 1; !free(y) && away < 120; away++) y += away % 2 ? away : -away;
      taken.push({ x, y, width });
      build(this.lines, "text", { x, y, class: classes }, words);
    }
  }
}

// Which job the network gives whom: by age and income, for one sex and branch.
class Regions extends Figure {
  constructor(parent, book, redraw) {
    super(parent, book, "regions", "Prediction");
    const choose = (name, options) => build(this.title, "select", { change: redraw, "aria-label": name }, ...options);
    this.sex = choose("sex", Object.entries(PEOPLE).map(([value, name]) => new Option(name, value)));
    this.branch = choose("branch", book.branches.map((name, i) => new Option(upper(name), i)));
    this.canvas = build(this.stage, "canvas", { width: 72, height: 54 });
    const { age, income } = book.train;
    this.ages = [Math.min(...age) - 2, Math.max(...age) + 2];
    this.incomes = [Math.min(...income) - 3000, Math.max(...income) + 3000];
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  frame() {
    const key = this.height - 6;
    const place = this.axes(this.ages, steps(20, this.ages[1], 10), "age, years", this.incomes,
      steps(20000, this.incomes[1], 20000), "income, thousand dollars", 1000, this.width - 4);
    for (const [side, pixels] of Object.entries(place)) this.canvas.style[side] = `${pixels}px`;
    [...this.book.jobs, "old row"].forEach((name, k) => {
      this.mark(this.svg, 38 + 62 * k, key - 4, k, k < 3);
      this.text(48 + 62 * k, key, name);
    });
    this.points = build(this.svg, "g");
  }

  // A circle, a square or a triangle; hollow for an old row.
  mark(parent, x, y, job, filled) {
    const shape = ["m-4.5,0a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0", "m-4,-4h8v8h-8z", "m0,-5l5,9h-10z"][job % 3];
    build(parent, "path", { d: `M${x},${y}${shape}`, class: !filled && "pg-old", style: `--job: var(--job-${job})` });
  }

  draw(network) {
    const { train, oldRows } = this.book, sex = this.sex.value, branch = Number(this.branch.value);
    const chosen = steps(0, train.rows - 1, 1).filter(i => train.sex[i] === sex && train.branch[i] === branch);
    const ages = steps(20, this.ages[1], 10), incomes = steps(20000, this.incomes[1], 20000).reverse();
    const name = (age, income) => this.book.jobs[network.predict(encode(sex, age, branch, income))];
    this.tables = [[`${this.name}: ${PEOPLE[sex]}, ${this.book.branches[branch]}, by income and age`, [["", ...ages],
      ...incomes.map(income => [income, ...ages.map(age => name(age, income))])]]];
    const right = chosen.filter(i => network.predict(train.inputs[i]) === train.labels[i]).length;
    this.say(`${right} of these ${chosen.length} training rows lie on the color of their job. `
      + "The fainter the ground, the less sure the network is.");
    if (!this.fit(270)) return;
    this.paint(network, sex, branch);
    this.points.replaceChildren();
    for (const i of chosen) {
      this.mark(this.points, this.x(train.age[i]), this.y(train.income[i]), train.labels[i], i >= oldRows);
    }
  }

  paint(network, sex, branch) {
    const { width, height } = this.canvas, context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.element), image = context.createImageData(width, height);
    const jobs = this.book.jobs.map((_, k) => {
      const hex = style.getPropertyValue(`--job-${k}`).trim();
      return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
    });
    const age = scale(0, width - 1, ...this.ages), income = scale(height - 1, 0, ...this.incomes);
    for (let at = 0; at < width * height; at++) {
      const row = encode(sex, age(at % width), branch, income(Math.floor(at / width)));
      const p = network.probabilities(row), sure = Math.max(...p);
      image.data.set([...jobs[p.indexOf(sure)], 40 + 130 * (sure - 1 / 3)], 4 * at);
    }
    context.putImageData(image, 0, 0);
  }
}

// The weight matrices, a cell a weight: its color is the sign, its strength the size.
class Weights extends Figure {
  constructor(parent, book) {
    super(parent, book, "weights", "Its weights");
    const { sizes: [, units], branches, jobs } = book, names = steps(1, units, 1).map(n => `unit ${n}`);
    this.names = [["sex", "age", ...branches, "income"], names, names, jobs];
    this.titles = ["inputs to units", "units to units", "units to jobs"];
  }

  frame() {
    const { sizes, jobs } = this.book, [inputs, units] = sizes;
    const cell = Math.min(16, Math.floor((this.width - 80) / (inputs + units)));
    const right = cell * inputs + 30, below = 20 + cell * units + 34;
    const matrix = (k, left, top) => {
      const box = build(this.svg, "g");
      this.text(left, top - 6, this.titles[k]);
      return steps(0, sizes[k] * sizes[k + 1] - 1, 1).map(i => build(box, "rect", {
        x: left + cell * (i % sizes[k]), y: top + cell * Math.floor(i / sizes[k]),
        width: cell - 1, height: cell - 1 }));
    };
    this.cells = [matrix(0, 0, 20), matrix(1, right, 20), matrix(2, right, below)];
    jobs.forEach((job, j) => this.text(right + cell * units + 5, below + cell * (j + 0.8), job));
    this.names[0].forEach((name, i) => {
      const x = cell * (i + 0.75), y = 24 + cell * units;
      this.text(x, y, name, { transform: `rotate(-90 ${x} ${y})`, "text-anchor": "end" });
    });
  }

  draw(network, saved) {
    this.tables = network.layers.map(({ weight, inputs }, k) => [`${this.name}: ${this.titles[k]}`,
      [["", ...this.names[k]], ...this.names[k + 1].map((name, j) =>
        [name, ...Array.from(weight.subarray(j * inputs, (j + 1) * inputs), w => decimal(w, 2))])]]);
    this.say(`Red is positive, blue negative. Their mean size is ${network.meanSize().toFixed(2)}; `
      + `in the saved first network it is ${saved.meanSize().toFixed(2)}.`);
    if (!this.fit(270)) return;
    network.layers.forEach(({ weight }, k) => this.cells[k].forEach((rect, i) => {
      rect.setAttribute("class", weight[i] < 0 ? "pg-negative" : "pg-positive");
      rect.setAttribute("fill-opacity", Math.min(1, Math.abs(weight[i]) / HEAVY));
    }));
  }
}

// How many test rows each start gets right over many seeds, a dot a seed.
class Seeds extends Figure {
  constructor(parent, book) {
    super(parent, book, "seeds", "Many seeds");
  }

  frame() {}

  draw(rows) {  // [{key, counts}]
    const of = this.book.test.rows, tall = 54, ground = tall * rows.length;
    // From three eighths to all of the test rows; wider only for what would lie outside.
    const low = 5 * Math.floor(Math.min(3 * of / 8, ...rows.flatMap(row => row.counts)) / 5), high = of;
    this.width = 0;  // all dots anew
    if (!this.fit(ground + 36)) return;
    const x = scale(low, high, 124, this.width - 8);
    rows.forEach(({ key, counts }, k) => {
      const y = tall * (k + 1), row = build(this.svg, "g", { class: colors(key) });
      build(row, "line", { x1: 0, x2: this.width, y1: y, y2: y });
      build(row, "text", { x: 0, y: y - 22, class: "pg-label" }, NAMES[key]);
      if (!counts.length) return;
      if (counts.length > 1) {
        build(row, "text", { x: 0, y: y - 7, class: "pg-label" }, `mean ${mean(counts).toFixed(1)}`);
        build(row, "path", { d: `M${x(mean(counts))},${y - 3}v8`, class: "pg-mean" });
      }
      const stack = new Map(), highest = Math.max(...counts.map(n => counts.filter(m => m === n).length));
      for (const n of counts) {
        stack.set(n, (stack.get(n) || 0) + 1);
        build(row, "circle", { cx: x(n), cy: y + 3 - stack.get(n) * Math.min(8, 42 / highest), r: 3.5 });
      }
    });
    for (const n of steps(low, high, 5)) this.text(x(n), ground + 18, n, { "text-anchor": "middle" });
    this.text(this.width, ground + 33, `test rows right, of ${of}`, { "text-anchor": "end" });
  }
}

// 5. The page ----------------------------------------------------------------------------

// Let the page react and draw. A message to ourselves comes back at once; browsers make
// timers wait for milliseconds.
const pause = () => new Promise(resolve => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); resolve(); };
  port2.postMessage(0);
});
const nextFrame = () => new Promise(requestAnimationFrame);
const known = n => n !== undefined;

class Playground {
  constructor(element, book, { starts, start, few, tour }, number) {
    Object.assign(this, { element, book, starts, start, few, seed: book.seed });
    this.arms = structuredClone(book.arms);
    this.firsts = new Map();  // seed -> its trained first network
    this.counts = new Map();  // the name of a run -> its count of correct test rows
    this.finished = {};  // start -> the curve of its last finished run with this seed
    this.sliders = [];
    this.ticket = 0;
    element.replaceChildren();
    if (tour) this.buildTour(tour);
    this.buildStarts(number);
    this.buildButtons();
    if (!few) this.buildSliders();
    this.result = build(element, "p", { class: "pg-result" });
    this.status = build(element, "p", { class: "pg-status", role: "status" });
    this.buildFigures();
    this.buildTables();
    new ResizeObserver(() => this.draw()).observe(element);
    window.addEventListener("beforeprint", () => this.print());
    window.addEventListener("afterprint", () => { this.element.classList.remove("pg-all"); this.draw(); });
    this.reset();
  }

  // What there is to try, a card at a time; the page has it as a list. `tour` holds for each
  // card what it sets: [start, epochs, tab].
  buildTour(tour) {
    let list = this.element.previousElementSibling;
    if (list?.matches(".playground-book")) list = list.previousElementSibling;
    const cards = list?.matches(".playground-tour") ? [...list.querySelectorAll("ol > li")] : [];
    if (cards.length !== tour.length) return;
    const box = build(this.element, "section", { class: "pg-tour", "aria-label": "Guided tour" });
    const bar = build(box, "div", { class: "pg-bar" }), place = build(bar, "p", { class: "pg-place" });
    const text = build(box, "div", { "aria-live": "polite" });
    const button = (name, click) => build(bar, "button", { type: "button", click }, name);
    let at = 0;
    const show = next => {
      at = next;
      place.textContent = `Try it: ${at + 1} of ${cards.length}`;
      text.replaceChildren(...[...cards[at].childNodes].map(node => node.cloneNode(true)));
      back.disabled = at === 0;
      on.disabled = at === cards.length - 1;
    };
    const back = button("Back", () => show(at - 1)), on = button("Next", () => show(at + 1));
    button("Set it up", () => {
      const [start, epochs, tab] = tour[at];
      this.start = start;
      this.arms[start] = { ...this.book.arms[start], epochs };
      this.element.querySelector(`input[value=${start}]`).checked = true;
      this.choose(tab);
      this.reset();
    });
    list.hidden = true;
    show(0);
  }

  // Figures one at a time; where there is room, the curves and one beside them.
  buildFigures() {
    const { element, book } = this, tabs = build(element, "div", { class: "pg-tabs", role: "group", "aria-label": "Show" });
    const grid = build(element, "div", { class: "pg-grid" });
    this.curves = new Curves(grid, book);
    this.regions = new Regions(grid, book, () => this.draw());
    this.figures = [this.curves, this.regions];
    if (!this.few) this.figures.push(this.weights = new Weights(grid, book), this.seeds = new Seeds(grid, book));
    for (const figure of this.figures) {
      figure.tab = build(tabs, "button", { type: "button", class: `pg-to-${figure.kind}`,
        click: () => { this.choose(figure.kind); this.draw(); } }, TABS[figure.kind]);
    }
    this.choose("regions");
    this.choose("curves");
  }

  choose(kind) {
    for (const figure of this.figures) {
      const chosen = figure.kind === kind;
      figure.tab.setAttribute("aria-pressed", chosen);
      figure.element.classList.toggle("pg-chosen", chosen);
      if (kind === "curves") continue;
      figure.element.classList.toggle("pg-beside", chosen);
      figure.tab.classList.toggle("pg-beside", chosen);
    }
  }

  // On paper: everything, and a run that has come to its end.
  print() {
    this.element.classList.add("pg-all");
    if (this.run && this.task !== "preparing") {
      this.begin("idle");
      for (const _ of this.training());
      this.rest();
    }
  }

  buildStarts(number) {
    const box = build(this.element, "fieldset", { class: "pg-starts" });
    build(box, "legend", {}, "Start from");
    for (const key of this.starts) {
      const label = build(box, "label", { class: colors(key) });
      build(label, "input", { type: "radio", name: `pg-start-${number}`, value: key, checked: key === this.start && "",
        change: () => { this.start = key; this.startOver(`Start: ${NAMES[key]}`); } });
      const words = build(label, "span");
      build(words, "b", {}, upper(NAMES[key]));
      words.append(ABOUT[key]);
    }
  }

  buildButtons() {
    const bar = build(this.element, "div", { class: "pg-bar" });
    const button = (name, click) => build(bar, "button", { type: "button", click }, name);
    this.playButton = button("Play", () => (this.task === "playing" ? this.rest() : this.play()));
    button("Step", () => this.step());
    button("To the end", () => this.toTheEnd());
    button("Reset", () => this.reset());
    if (!this.few) this.seedsButton = button("", () => (this.task === "seeds" ? this.rest() : this.runSeeds()));
    const label = build(bar, "label", {}, "Seed "), id = `pg-complaint-${this.element.querySelector("input").name}`;
    this.seedInput = build(label, "input", { type: "number", min: 0, max: this.book.maxSeed, required: "",
      value: this.seed, "aria-describedby": id, input: () => this.checkSeed(), change: () => this.changeSeed() });
    this.complaint = build(bar, "p", { class: "pg-complaint", id, role: "alert" });
    this.progress = build(bar, "progress", { max: SEEDS, hidden: "", "aria-label": "seeds done" });
  }

  buildSliders() {
    const box = build(this.element, "div", { class: "pg-sliders" }), last = this.book.arms.initial.epochs;
    const slider = (key, about, min, max, step) => {
      const label = build(box, "label", {}, `${key}, ${about}`);
      const output = build(label, "output"), change = () => this.changeArm(key, Number(input.value));
      const input = build(label, "input", { type: "range", min, max, step, change,
        input: () => { output.value = input.value; this.drag(key, Number(input.value)); } });
      this.sliders.push({ key, input, output });
    };
    slider("epochs", "retraining", last / 20, last, last / 20);
    if (!this.starts.includes("shrink_perturb")) return;
    slider("lamda", "share kept", 0, 1, 0.05);
    slider("sigma", "noise", 0, 0.5, 0.01);
  }

  // Set the sliders to the chosen start; only shrink and perturb has a lamda and a sigma.
  showSliders() {
    for (const { key, input, output } of this.sliders) {
      input.disabled = key !== "epochs" && this.start !== "shrink_perturb";
      input.value = output.value = (input.disabled ? this.arms.shrink_perturb : this.arm)[key];
    }
  }

  // What the drawings show, for those who cannot see them.
  buildTables() {
    const details = build(this.element, "details"), name = "The numbers as tables";
    build(details, "summary", {}, name);
    this.tables = build(details, "div", { tabindex: 0, role: "region", "aria-label": name });
  }

  get arm() {
    return this.arms[this.start];
  }

  // While a slider is dragged: show what the run would begin with, at once.
  drag(key, value) {
    this.arm[key] = value;
    if (!this.firsts.has(this.seed) || this.task === "preparing") return;
    if (key === "epochs") return this.draw();
    this.wasPlaying ||= this.task === "playing";
    if (this.weights && !this.weights.element.matches(".pg-chosen, .pg-beside")) this.choose("weights");
    this.begin("idle");
    this.prepare();
    this.draw();
  }

  changeArm(key, value) {
    this.arm[key] = value;
    // A run of 500 epochs is a run of 1000 read at 500, so it may go on.
    if (key === "epochs" && this.run && value > this.run.epoch) this.draw();
    else this.startOver(`${key} ${value}`);
  }

  // A change makes another run. One that was playing plays on from its beginning, and says so.
  async startOver(what) {
    const again = this.task === "playing" || this.wasPlaying;
    this.wasPlaying = false;
    if (!await this.reset() || !again) return;
    this.note = `${what}: started over. `;
    this.play();
  }

  // Whether the seed can be run; if not, say beside it why.
  checkSeed() {
    const good = this.seedInput.validity.valid;
    this.complaint.textContent = good ? "" : `Not run: a seed is a whole number from 0 to ${this.book.maxSeed}.`;
    this.seedInput.setAttribute("aria-invalid", !good);
    return good;
  }

  changeSeed() {
    if (!this.checkSeed()) return;
    this.seed = Number(this.seedInput.value);
    this.finished = {};
    this.startOver(`Seed ${this.seed}`);
  }

  // One task at a time: a task that begins takes the next ticket, and older ones see that
  // they are over.
  begin(task) {
    this.task = task;
    this.playButton.textContent = task === "playing" ? "Pause" : "Play";
    if (task !== "playing") this.note = "";
    if (this.seedsButton) {
      this.seedsButton.textContent = task === "seeds" ? "Stop" : `Run ${SEEDS} seeds`;
      this.progress.hidden = task !== "seeds";
    }
    return ++this.ticket;
  }

  // Work in slices, so that the page stays alive; false if another task took over.
  async inSlices(work, ticket) {
    for (;;) {
      const end = performance.now() + SLICE;
      do {
        if (work.next().done) return true;
      } while (performance.now() < end);
      await pause();
      if (ticket !== this.ticket) return false;
    }
  }

  * firstNetwork(seed) {
    if (!this.firsts.has(seed)) this.firsts.set(seed, yield* trainFirst(this.book, seed));
    return this.firsts.get(seed);
  }

  // Stand before the first epoch of the chosen start.
  async reset() {
    const ticket = this.begin("preparing");
    this.showSliders();
    if (!this.firsts.has(this.seed)) this.result.textContent = "Training the first network with this seed …";
    if (!await this.inSlices(this.firstNetwork(this.seed), ticket)) return false;
    this.prepare();
    this.rest();
    return true;
  }

  prepare() {
    this.run = new Run(this.book, this.arm, this.seed, this.firsts.get(this.seed));
    this.curve = { key: this.start, train: [], test: [] };
    this.record();
  }

  record() {
    for (const rows of ["train", "test"]) this.curve[rows].push(this.run.network.correct(this.book[rows]));
  }

  // One epoch at a time, to the last.
  * training() {
    while (this.run.epoch < this.arm.epochs) {
      this.run.trainEpoch();
      this.record();
      yield;
    }
  }

  // Make sure that there is an epoch left to train.
  async ready() {
    if (this.task !== "preparing" && this.run.epoch < this.arm.epochs) return true;
    return this.reset();
  }

  async play() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.toTheEnd();
    const { note } = this;
    if (!await this.ready()) return;
    const ticket = this.begin("playing"), work = this.training();
    this.note = note;
    let before = performance.now(), due = 0;
    while (this.run.epoch < this.arm.epochs) {
      const now = await nextFrame();
      if (ticket !== this.ticket) return;
      // Slow at first, when most happens: 60 epochs a second, 460 in the end.
      due += Math.min(now - before, 50) / 1000 * (60 + 0.4 * this.run.epoch);
      before = now;
      for (const end = performance.now() + SLICE; due >= 1 && performance.now() < end; due--) work.next();
      this.draw();
    }
    this.rest();
  }

  async toTheEnd() {
    if (await this.ready() && await this.inSlices(this.training(), this.begin("playing"))) this.rest();
  }

  async step() {
    if (!await this.ready()) return;
    this.training().next();
    this.rest();
  }

  // Nothing moves: keep the run if it is finished, draw everything, say how it stands.
  rest() {
    this.begin("idle");
    if (this.run.epoch === this.arm.epochs) {
      this.finished[this.start] = this.curve;
      this.counts.set(this.nameOf(this.start, this.seed), this.curve.test.at(-1));
    }
    this.draw();
    this.status.textContent = `${upper(NAMES[this.start])}, seed ${this.seed}: ${this.result.textContent}.`;
  }

  // What tells one run from another.
  nameOf(key, seed) {
    const { lamda, sigma, epochs } = this.arms[key];
    return [key, seed, lamda, sigma, epochs].join();
  }

  manySeeds() {
    const first = Math.min(this.seed, this.book.maxSeed - SEEDS + 1);
    return steps(first, first + SEEDS - 1, 1);
  }

  countsOf(key) {
    return this.manySeeds().map(seed => this.counts.get(this.nameOf(key, seed)));
  }

  * trainSeeds() {
    for (const seed of this.manySeeds()) {
      const saved = yield* this.firstNetwork(seed);
      this.counts.set(this.nameOf("initial", seed), saved.correct(this.book.test));
      for (const key of this.starts) {
        const name = this.nameOf(key, seed);
        if (!this.counts.has(name)) this.counts.set(name, yield* countCorrect(this.book, this.arms[key], seed, saved));
      }
      this.drawSeeds();
    }
  }

  async runSeeds() {
    if (this.task === "preparing" && !await this.reset()) return;
    this.choose("seeds");
    if (!await this.inSlices(this.trainSeeds(), this.begin("seeds"))) return;
    this.rest();
    this.status.textContent = this.seeds.caption.textContent;
  }

  draw() {
    if (!this.run || this.task === "preparing") return;
    const { book: { test, train }, run, curve, arm } = this;
    const saved = this.firsts.get(this.seed), first = saved.correct(test);
    this.result.replaceChildren();
    if (this.note) build(this.result, "em", {}, this.note);
    build(this.result, "b", { class: colors(this.start) }, `${curve.test.at(-1)} of ${test.rows}`);
    this.result.append(` test rows right, ${curve.train.at(-1)} of ${train.rows} training rows, `
      + `at epoch ${run.epoch} of ${arm.epochs}`);
    this.result.dataset.run = `${upper(NAMES[this.start])}, seed ${this.seed}: `;  // for paper
    const seen = figure => figure && (this.task !== "playing" || figure.stage.clientWidth);
    if (seen(this.curves)) this.curves.draw(first, this.finished, curve, arm.epochs);
    if (seen(this.regions)) this.regions.draw(run.network);
    if (seen(this.weights)) this.weights.draw(run.network, saved);
    if (this.task === "playing") return;
    if (this.seeds) this.drawSeeds();
    this.drawTables(first);
  }

  drawSeeds() {
    const seeds = this.manySeeds(), mine = this.countsOf(this.start), done = mine.filter(known).length;
    this.seeds.draw(["initial", ...this.starts].map(key => ({ key, counts: this.countsOf(key).filter(known) })));
    const against = this.starts.filter(key => key !== this.start).map(key => {
      const gaps = this.countsOf(key).map((n, i) => mine[i] - n);
      const many = sign => gaps.filter(gap => Math.sign(gap) === sign).length;
      return ` against ${NAMES[key]} better in ${many(1)}, equal in ${many(0)}, worse in ${many(-1)}`;
    });
    this.progress.value = done;
    this.seeds.say(this.task === "seeds" ? `${done} of ${SEEDS} seeds done.` : done < 2 ? `A dot a seed: the button trains every start with seeds ${seeds[0]} to ${seeds.at(-1)}.`
      : `${upper(NAMES[this.start])} over ${done} seeds:${against.join(";")}.`);
  }

  drawTables(first) {
    const lines = [["start", "epochs", "training rows right", "test rows right",
      "seeds run", "their mean", "lowest", "highest"]];
    for (const key of ["initial", ...this.starts]) {
      const curve = this.finished[key], counts = this.countsOf(key).filter(known);
      const one = key === "initial" ? [this.arms.initial.epochs, "", first]
        : curve ? [curve.test.length - 1, curve.train.at(-1), curve.test.at(-1)] : ["", "", ""];
      const many = counts.length
        ? [counts.length, mean(counts).toFixed(2), Math.min(...counts), Math.max(...counts)] : ["", "", "", ""];
      lines.push([NAMES[key], ...one, ...many]);
    }
    this.tables.replaceChildren();
    const drawings = [this.curves, this.regions, this.weights].flatMap(figure => figure?.tables ?? []);
    for (const [title, rows] of [["Runs with this seed, and with many", lines], ...drawings]) {
      const table = build(this.tables, "table");
      build(table, "caption", {}, title);
      rows.forEach((line, i) => {
        const row = build(table, "tr");
        line.forEach((value, j) => (i && j ? build(row, "td", {}, String(value))
          : build(row, "th", { scope: i ? "row" : "col" }, String(value))));
      });
    }
  }
}

function begin() {
  const packed = document.querySelector(".playground-book");
  const book = packed && readBook(JSON.parse(packed.textContent));
  document.querySelectorAll(".playground").forEach((element, number) => {
    element.playground = new Playground(element, book, JSON.parse(element.dataset.options), number);
  });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
else begin();
})();
