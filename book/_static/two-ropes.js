/* Who pulls at the weights: a puck between two ropes, as thick as old and new rows pull hard at a restart.

   Drag lamda, or balance by weighting the rows. Data: book/_ext/two_ropes.py. */
(() => {
"use strict";
const { build, fixed, points, Handle, strip } = live;
const THICK = 17;  // pixels, of the hardest pull of a case
const FARTHEST = Math.log(100);  // a ratio that takes the puck to the end

live.figure("two-ropes", (stage, data, figure) => {
  let current = data.cases[0], balanced = false, handle = null;
  if (data.cases.length > 1) {
    const choose = build(stage, "fieldset", { class: "live-choose" });
    build(choose, "legend", { class: "live-hidden" }, "Measured on");
    const name = `tr-${document.querySelectorAll(".live-choose").length}`;
    data.cases.forEach((each, k) => {
      const label = build(choose, "label");
      build(label, "input", { type: "radio", name, value: k, change: () => { current = each; draw(); } }).checked = !k;
      label.append(each.words);
    });
  }
  const ropes = build(stage, "svg", { role: "img" });
  const says = build(stage, "p", { class: "live-says" });
  const pulls = data.cases[0].pulls;
  handle = new Handle(stage, {
    label: "lamda, the fraction kept:", places: pulls.map(pull => (1 - pull.lamda) / (1 - pulls.at(-1).lamda)),
    say: stop => fixed(pulls[stop].lamda, 2), change: () => { balanced = false; draw(); },
  });
  const row = build(stage, "div", { class: "live-row" });
  const button = build(row, "button", {
    type: "button", class: "live-button", "aria-pressed": false,
    click: () => {
      balanced = !balanced;
      if (balanced && handle.stop) { handle.to(0); balanced = true; }  // it was measured without shrinking
      draw();
    },
  }, "balance by weighting");
  const gaps = build(stage, "svg", { role: "img" });
  const note = build(stage, "p", { class: "live-note" });

  // What both pull with once rows are weighted: as the stronger, or so that weights are 1 on average.
  function weighted({ old, new: fresh }) {
    const both = current.balanced === "raised" ? Math.max(old, fresh) : 2 * old * fresh / (old + fresh);
    return { old: both, new: both, ratio: [1, 1, 1] };
  }

  function drawRopes(pull) {
    const width = stage.clientWidth, height = width < 560 ? 104 : 128, y = height / 2 - 8;
    const most = Math.max(...current.pulls.flatMap(each => [each.old, each.new]));
    const thick = value => Math.max(0.7, THICK * value / most);
    const post = 26, reach = width / 2 - post - 44;
    const push = Math.max(-1, Math.min(1, Math.log(pull.new / pull.old) / FARTHEST));
    const x = width / 2 + push * reach;
    ropes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    ropes.setAttribute("height", height);
    ropes.replaceChildren();
    build(ropes, "line", { x1: width / 2, x2: width / 2, y1: 4, y2: height - 34, class: "live-stop" });
    for (const [side, value, from] of [["old", pull.old, post], ["new", pull.new, width - post]]) {
      build(ropes, "line", { x1: from, x2: x, y1: y, y2: y, "stroke-width": thick(value), class: `tr-rope tr-${side}` });
      build(ropes, "rect", { x: from - 7, y: y - 26, width: 14, height: 52, rx: 4, class: `tr-post tr-${side}` });
      build(ropes, "text", { x: side === "old" ? 0 : width, y: height - 4, class: `tr-${side}-text`,
                             "text-anchor": side === "old" ? "start" : "end" }, `${side} rows pull ${fixed(value, 3)}`);
    }
    build(ropes, "circle", { cx: x, cy: y, r: 15, class: "tr-puck" });
    build(ropes, "text", { x, y: y + 4, "text-anchor": "middle", class: "tr-name" }, "W");
    ropes.setAttribute("aria-label", `Old rows pull with ${fixed(pull.old, 3)}, new rows with ${fixed(pull.new, 3)}: `
      + `${fixed(pull.ratio[0])} times as hard`);
  }

  function draw() {
    const measured = current.pulls[handle.stop], pull = balanced ? weighted(measured) : measured;
    const [times, low, high] = pull.ratio;
    drawRopes(pull);
    button.setAttribute("aria-pressed", balanced);
    const digits = times < 10 ? 1 : 0;
    says.innerHTML = balanced ? `Weighted, both pull alike. ${current.verdict}`
      : `New rows pull <b>${fixed(times, digits)}</b> times as hard as old ones (${fixed(low, digits)} to ${fixed(high, digits)}), `
        + `over ${current.units} ${current.unit}.`;
    const lamda = measured.lamda, nearHalf = Math.abs(lamda - data.half) < Math.abs(1 - lamda);
    const chosen = balanced ? current.balanced : nearHalf ? "shrunk" : "warm";
    const rows = current.rows.map(each => ({
      ...each, mark: { warm: "is-warm", shrunk: "is-shrink-perturb" }[each.key] ?? "is-part",
    }));
    const ends = rows.flatMap(each => each.interval);
    strip(gaps, rows, chosen, {
      width: stage.clientWidth, name: 150, low: Math.min(-2, Math.floor(Math.min(...ends))), high: Math.max(2, Math.ceil(Math.max(...ends))),
      words: `Points over a cold start: ${rows.map(each => `${each.key === chosen ? "→ " : ""}${each.words} ${points(each.interval)}`).join("; ")}`,
    });
    note.textContent = `Accuracy: ${current.words}, ${current.gapUnits} ${current.unit}, at the lowest training loss that both reach; `
      + "95 % intervals that hold at once. Ropes: norm of the gradient at the restart, geometric means.";
  }
  figure.live = { handle };
  return draw;
});
})();
