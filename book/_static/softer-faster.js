/* Shrinking is softer and faster: drag lamda, or lock one of the two effects.

   Without biases shrinking multiplies the logits by lamda to the number of layers, and a step, measured
   against the weights, by one over its square (chapter 7). Both are computed here; the logits with biases
   and the accuracies are data of the page (book/_ext/softer_faster.py). */
(() => {
"use strict";
const { build, fixed, points, Handle, strip } = live;
const LOCK = {  // of a padlock, 16 by 16
  open: "M4 7V5a4 4 0 0 1 7.5-2M3 7h10v7H3z",
  shut: "M4 7V5a4 4 0 0 1 8 0v2M3 7h10v7H3z",
};
const FIRST_STEP = 0.05;  // of the width of the valley, where nothing is shrunk

const softmax = logits => {
  const most = Math.max(...logits), powers = logits.map(each => Math.exp(each - most));
  const sum = powers.reduce((total, each) => total + each, 0);
  return powers.map(each => each / sum);
};
const highest = values => values.indexOf(Math.max(...values));

live.figure("softer-faster", (stage, data, figure) => {
  let only = "";  // "softer" or "faster": the other effect is locked
  let handle = null;
  const panels = build(stage, "div", { class: "live-two" });
  const soft = build(panels, "div"), fast = build(panels, "div");
  const heads = [soft, fast].map(panel => build(panel, "div", { class: "live-head" }));
  const bars = build(soft, "svg", { role: "img" }), valley = build(fast, "svg", { role: "img" });
  const says = build(stage, "p", { class: "live-says" });
  handle = new Handle(stage, {
    label: "lamda, the fraction kept:", places: data.lamdas.map(lamda => 1 - lamda).map(place => place / 0.8),
    say: stop => fixed(data.lamdas[stop], 2), change: () => draw(),
  });
  const choice = build(stage, "div", { class: "live-row" });
  const locks = ["softer", "faster"].map(kind => {
    const button = build(choice, "button", {
      type: "button", class: "live-button", "aria-pressed": false,
      click: () => { only = only === kind ? "" : kind; draw(); },
    });
    const icon = build(button, "svg", { viewBox: "0 0 16 16", class: "sf-lock", "aria-hidden": true });
    build(icon, "path", { d: LOCK.open });
    button.append(`${kind} only`);
    return { kind, button, path: icon.firstChild };
  });
  const tick = build(build(choice, "label", { class: "live-tick" }), "input", { type: "checkbox", change: () => draw() });
  tick.after("with biases, left as they are");
  const gaps = build(stage, "svg", { role: "img" });
  const note = build(stage, "p", { class: "live-note" });
  note.textContent = `Accuracy: ${data.case}, ${data.units} ${data.case === "employees" ? "tables" : "splits"}, at the lowest `
    + "training loss that both reach; 95 % intervals that hold at once. The parts were measured for one half. "
    + "The valley is drawn by the rule, not measured.";

  const tall = () => stage.clientWidth < 560 ? 112 : 170;

  function drawBars(chances) {
    const width = bars.parentElement.clientWidth, height = tall(), side = Math.min(height - 24, width * 0.28);
    const left = side + 16, wide = (width - left) / 10, top = 16, foot = height - 16;
    bars.setAttribute("viewBox", `0 0 ${width} ${height}`);
    bars.setAttribute("height", height);
    bars.replaceChildren();
    data.image.forEach((ink, k) => build(bars, "rect", {
      x: (k % 8) * side / 8, y: 12 + Math.floor(k / 8) * side / 8, width: side / 8 + 0.4, height: side / 8 + 0.4,
      class: "sf-pixel", "fill-opacity": ink,
    }));
    build(bars, "rect", { x: 0, y: 12, width: side, height: side, class: "sf-frame" });
    const best = highest(chances);
    build(bars, "line", { x1: left, x2: width, y1: foot, y2: foot, class: "live-zero" });
    chances.forEach((chance, digit) => {
      const x = left + digit * wide, high = (foot - top) * chance;
      build(bars, "rect", { x: x + 2, y: foot - high, width: wide - 4, height: high,
                            class: digit === best ? "sf-best" : "sf-bar" });
      build(bars, "text", { x: x + wide / 2, y: height - 2, "text-anchor": "middle" }, digit);
    });
    build(bars, "text", { x: left + (best + 0.5) * wide, y: foot - (foot - top) * chances[best] - 3,
                          "text-anchor": best > 7 ? "end" : best < 2 ? "start" : "middle", class: "sf-says" }, fixed(chances[best], 2));
    bars.setAttribute("aria-label", "Probabilities: "
      + chances.map((chance, digit) => `${digit}: ${fixed(chance, 2)}`).join(", "));
  }

  // The loss over one weight, in units of the weight: its shape stays, the step grows.
  function drawValley(times) {
    const width = valley.parentElement.clientWidth, height = tall();
    const x = u => 10 + (width - 20) * u / 1.2, loss = u => 2.6 * (u - 0.58) ** 2 + 0.06 * Math.cos(13 * u) + 0.08;
    const y = u => height - 20 - (height - 34) * Math.min(1.06, loss(u));
    valley.setAttribute("viewBox", `0 0 ${width} ${height}`);
    valley.setAttribute("height", height);
    valley.replaceChildren();
    const path = Array.from({ length: 121 }, (_, k) => `${k ? "L" : "M"}${x(k / 100).toFixed(1)},${y(k / 100).toFixed(1)}`);
    build(valley, "path", { d: path.join(""), class: "live-line sf-valley" });
    const from = 0.1, to = from + FIRST_STEP * times, end = Math.min(to, 1.17);
    const height1 = y(from) - 4, tip = x(end);
    build(valley, "line", { x1: x(from), x2: tip - 6, y1: height1, y2: height1, class: "sf-step" });
    build(valley, "path", { d: `M${tip},${height1}l-9,-5v10z`, class: "sf-tip" });
    if (to <= 1.17) {
      build(valley, "line", { x1: tip, x2: tip, y1: height1 + 6, y2: y(to) - 7, class: "live-stop" });
      build(valley, "circle", { cx: tip, cy: y(to) - 5, r: 5, class: "sf-ball sf-next" });
    }
    build(valley, "circle", { cx: x(from), cy: height1 - 1, r: 6, class: "sf-ball" });
    build(valley, "text", { x: width / 2, y: height - 3, "text-anchor": "middle" }, "one weight, in units of its size");
    valley.setAttribute("aria-label", `A step in a valley of the loss, ${fixed(times)} times as large for the weight`);
  }

  function draw() {
    const lamda = data.lamdas[handle.stop], biased = tick.checked;
    const softer = only !== "faster", faster = only !== "softer";
    const stop = softer ? handle.stop : 0;
    const logits = biased ? data.biased[stop] : data.logits.map(each => each * data.lamdas[stop] ** data.layers);
    const chances = softmax(logits), before = highest(biased ? data.biased[0] : data.logits);
    const times = faster ? lamda ** -2 : 1;
    const best = highest(chances);
    drawBars(chances);
    drawValley(times);
    heads[0].innerHTML = softer ? (biased ? "logits: no one factor" : `logits × <b>${fixed(data.lamdas[stop] ** data.layers, 3)}</b>`)
      : "logits: locked";
    heads[1].innerHTML = faster ? `step, for the weights: × <b>${fixed(times)}</b>` : "step: locked";
    const answer = best === before ? `It still says <b>${best}</b>` : `It now says <b class="is-warm-text">${best}</b>, not ${before}`;
    const near = Object.keys(data.employees).find(each => Math.abs(each - data.lamdas[stop]) < 0.001);
    says.innerHTML = `${answer}, with probability ${fixed(chances[best], 2)}. `
      + (biased ? `Of its answers on new images ${fixed(data.kept[stop], 0)} % stay`
        + (near ? `; of the employee network's, ${data.employees[near]} %.` : ".")
        : "Without biases no answer ever changes.");
    for (const { kind, button, path } of locks) {
      button.setAttribute("aria-pressed", only === kind);
      path.setAttribute("d", only === kind ? LOCK.shut : LOCK.open);
    }
    const nearHalf = Math.abs(lamda - data.half) < Math.abs(1 - lamda);
    const chosen = nearHalf ? only || "shrunk" : "warm";
    const rows = data.rows.map(row => ({ ...row, mark: { warm: "is-warm", shrunk: "is-shrink-perturb" }[row.key] ?? "is-part" }));
    const ends = rows.flatMap(row => row.interval);
    strip(gaps, rows, chosen, {
      width: stage.clientWidth, low: Math.min(-2, Math.floor(Math.min(...ends))), high: Math.max(2, Math.ceil(Math.max(...ends))),
      words: `Points over a cold start. Chosen: ${rows.map(row => `${row.key === chosen ? "→ " : ""}${row.words} ${points(row.interval)}`).join("; ")}`,
    });
  }
  figure.live = { handle };
  return draw;
});
})();
