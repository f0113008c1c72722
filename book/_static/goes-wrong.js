/* A warm start goes wrong: drag how long the first network was trained, and how long both have trained since.

   Three maps of what the book's two networks predict, unpacked from runs (wsp/studies/head_start.py), and two
   charts over fresh tables. Data: book/_ext/goes_wrong.py. */
(() => {
"use strict";
const { build, fixed, points, Handle, Chart, onLogAxis } = live;
const MARKS = [  // of a job, around 0, 0
  { tag: "circle", r: 3.1 },
  { tag: "rect", x: -2.9, y: -2.9, width: 5.8, height: 5.8 },
  { tag: "path", d: "M0,-3.8L3.7,2.8H-3.7Z" },
];
const FINE = 3;  // pixels of a canvas across a cell
const HATCH = 7;

function unpack(packed) {
  const jobs = [];
  for (const byte of atob(packed)) {
    const code = byte.charCodeAt(0), job = code >> 6;
    for (let k = code & 63; k >= 0; k--) jobs.push(job);
  }
  return jobs;
}

const epochs = count => `${count} epoch${count === 1 ? "" : "s"}`;

live.figure("goes-wrong", (stage, data, figure) => {
  const { first, readAt, leads, cold, warm, rows } = data, [columns, lines] = data.grid;
  const firstPlaces = onLogAxis(first), readPlaces = onLogAxis(readAt);
  const unpacked = new Map();
  const jobsOf = (start, reading) => {
    const key = `${start} ${reading}`;
    if (!unpacked.has(key)) unpacked.set(key, unpack(data.maps[start][reading]));
    return unpacked.get(key);
  };

  // 1. Maps ---------------------------------------------------------------------------------

  const maps = build(stage, "div", { class: "gw-maps" });
  const [ofCold, ofWarm, apart] = ["cold", "warm", "apart"].map(name => {
    const box = build(maps, "div", { class: `gw-map gw-${name}` });
    const head = build(box, "div", { class: "gw-head" });
    const ground = build(box, "div", { class: "gw-ground" });
    const canvas = build(ground, "canvas", { width: columns * FINE, height: lines * FINE });
    const svg = build(ground, "svg", { role: "img", viewBox: "0 0 216 162" });
    for (const [age, income, job, isNew] of rows) {
      const { tag, ...shape } = MARKS[job];
      const x = 216 * (age - data.ages[0]) / (data.ages[1] - data.ages[0]);
      const y = 162 - 162 * (income / 10 - data.incomes[0]) / (data.incomes[1] - data.incomes[0]);
      build(svg, tag, { ...shape, transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`,
                        class: `gw-row gw-job-${job} ${isNew ? "gw-new" : "gw-old"}` });
    }
    return { head, canvas, svg };
  });
  const legend = build(stage, "p", { class: "gw-legend" });
  legend.append(`Book's table, ${data.sex}, ${data.branch}: age across, income up. `);
  data.jobs.forEach((job, k) => {
    const mark = build(build(legend, "span", { class: "gw-key" }), "svg", { viewBox: "-5 -5 10 10", "aria-hidden": true });
    const { tag, ...shape } = MARKS[k];
    build(mark, tag, { ...shape, class: `gw-row gw-job-${k} gw-old` });
    mark.after(` ${job} `);
  });
  legend.append("· filled: old row, hollow: new row");

  const color = name => {
    const probe = build(stage, "i", { style: `color: var(${name})` });
    const numbers = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return numbers;
  };

  // Every cell in the color that `paint(cell, x, y)` gives, in fine pixels; rows go up.
  function fill(canvas, paint) {
    const context = canvas.getContext("2d"), { width, height } = canvas;
    const image = context.createImageData(width, height);
    for (let y = 0, at = 0; y < height; y++) {
      const line = lines - 1 - Math.floor(y / FINE);
      for (let x = 0; x < width; x++, at += 4) {
        const [red, green, blue] = paint(line * columns + Math.floor(x / FINE), x, y);
        image.data[at] = red;
        image.data[at + 1] = green;
        image.data[at + 2] = blue;
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }

  function drawMaps() {
    const at = since.stop, start = 1 + before.stop;
    const paper = color("--ground"), ink = color("--ink");
    const jobs = data.jobs.map((_, k) => color(`--job-${k}`).map((value, c) => paper[c] + 0.42 * (value - paper[c])));
    const one = jobsOf(0, at), other = jobsOf(start, at);
    fill(ofCold.canvas, cell => jobs[one[cell]]);
    fill(ofWarm.canvas, cell => jobs[other[cell]]);
    fill(apart.canvas, (cell, x, y) => one[cell] !== other[cell] && (x + y) % HATCH < 2 ? ink : paper);
    const share = fixed(100 * data.apart[start][at] / data.people, 0);
    const right = [data.correct[0][at], data.correct[start][at]].map(count => `${count} of ${data.testRows}`);
    ofCold.head.innerHTML = `<b>cold</b> ${right[0]}`;
    ofWarm.head.innerHTML = `<b>warm</b> ${right[1]}`;
    apart.head.innerHTML = `<b>disagree</b> ${share} %`;
    ofCold.svg.setAttribute("aria-label", `Jobs that the cold network predicts; it gets ${right[0]} test rows right`);
    ofWarm.svg.setAttribute("aria-label", `Jobs that the warm network predicts; it gets ${right[1]} test rows right`);
    apart.svg.setAttribute("aria-label", `Hatched where the two disagree: on ${share} % of ${data.people} people`);
  }

  // 2. Charts -------------------------------------------------------------------------------

  const charts = build(stage, "div", { class: "live-two" });
  const tall = () => stage.clientWidth < 560 ? 122 : 180;
  const readout = build(stage, "p", { class: "live-says" });
  charts.before(readout);
  const panels = ["warm minus cold, points", "accuracy on new people, %"].map(title => {
    const panel = build(charts, "div");
    build(panel, "div", { class: "live-head" }, title);
    return panel;
  });
  let before = null, since = null;
  const byFirst = new Chart(panels[0], { tall, bottom: 20, handle: () => before });
  const bySince = new Chart(panels[1], { tall, right: 46, bottom: 20, handle: () => since });
  before = new Handle(panels[0], {
    label: "first network trained for", places: firstPlaces, start: first.length - 1,
    say: stop => epochs(first[stop]), change: () => draw(),
  });
  since = new Handle(panels[1], {
    label: "both trained since for", places: readPlaces, start: readAt.length - 1,
    say: stop => epochs(readAt[stop]), change: () => draw(),
  });

  function drawFirst() {
    const at = since.stop, values = leads.map(row => row[at]);
    const most = Math.max(...values.map(value => value[2]));
    const high = [1, 4, 16, 40].find(each => each >= most), low = high > 4 ? -4 : -3;
    const ticks = { 1: [-3, -2, -1, 0, 1], 4: [-2, 0, 2, 4], 16: [0, 5, 10, 15], 40: [0, 10, 20, 30, 40] }[high];
    byFirst.frame({
      low, high, up: ticks.map(tick => [tick, fixed(tick, 0)]),
      across: first.map((each, k) => [firstPlaces[k], each]),
      words: `Warm minus cold after ${epochs(readAt[at])} on all rows: `
        + first.map((each, k) => `first training ${each}, ${points(values[k])}`).join("; "),
    });
    build(byFirst.inside, "rect", { x: byFirst.left, width: byFirst.wide, class: "live-small",
      y: byFirst.y(data.small), height: byFirst.y(-data.small) - byFirst.y(data.small) });
    byFirst.line(values.map((value, k) => [firstPlaces[k], value[0]]), "is-warm");
    values.forEach((value, k) => {
      byFirst.bar(firstPlaces[k], value, "is-warm");
      byFirst.dot(firstPlaces[k], value[0], "is-warm", k === before.stop ? 6 : 3.5);
    });
    byFirst.grip(firstPlaces[before.stop]);
  }

  function drawSince() {
    const mine = warm[before.stop];
    bySince.frame({
      low: 45, high: 73, up: [50, 60, 70].map(tick => [tick, tick]),
      across: readAt.map((each, k) => [readPlaces[k], each]),
      words: `Accuracy, first training ${epochs(first[before.stop])}: `
        + readAt.map((each, k) => `epoch ${each}, cold ${fixed(cold[k])} %, warm ${fixed(mine[k])} %`).join("; "),
    });
    const ends = [["cold", cold], ["warm", mine]];
    for (const [name, curve] of ends) bySince.line(curve.map((value, k) => [readPlaces[k], value]), `is-${name}`);
    for (const [name, curve] of ends) bySince.dot(readPlaces[since.stop], curve[since.stop], `is-${name}`, 5);
    const heights = ends.map(([, curve]) => bySince.y(curve.at(-1)));
    const middle = (heights[0] + heights[1]) / 2, upper = heights[0] <= heights[1] ? -1 : 1;
    ends.forEach(([name], k) => build(bySince.svg, "text", {
      x: bySince.width - bySince.right + 7, class: `is-${name}-text`,
      y: (Math.abs(heights[0] - heights[1]) < 15 ? middle + (k ? -upper : upper) * 7.5 : heights[k]) + 4,
    }, name));
    bySince.grip(readPlaces[since.stop]);
  }

  function draw() {
    const lead = leads[before.stop][since.stop], at = since.stop;
    readout.innerHTML = `${data.tables} tables: <b class="is-cold-text">cold ${fixed(cold[at])} %</b>, `
      + `<b class="is-warm-text">warm ${fixed(warm[before.stop][at])} %</b>, warm − cold <b>${points(lead)}</b>`;
    drawMaps();
    drawFirst();
    drawSince();
  }
  figure.live = { before, since };
  return draw;
});
})();
