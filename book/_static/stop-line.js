/* Accuracy against epochs for every run, with a line where you stop, and the ranking there.

   Data: book/_ext/stop_line.py. */
(() => {
"use strict";
const { build, fixed, signed, points, Handle, Chart, onLogAxis } = live;
const STEP = 25;  // pixels from one place of the ranking to the next

live.figure("stop-line", (stage, data, figure) => {
  const { epochs, runs } = data, places = onLogAxis(epochs);
  const placeOf = new Map(epochs.map((epoch, k) => [epoch, places[k]]));
  let split = false;  // read as the article does: the trick early, all others late
  let handle = null;

  const two = build(stage, "div", { class: "sl-two" });
  const left = build(two, "div"), right = build(two, "div");
  build(left, "div", { class: "live-head" }, "mean test accuracy, %");
  const chart = new Chart(left, { tall: () => stage.clientWidth < 560 ? 178 : 270, bottom: 20, right: 14, handle: () => handle });
  handle = new Handle(left, {
    label: "stop after", places, start: epochs.indexOf(data.early),
    say: stop => `${epochs[stop]} epoch${epochs[stop] === 1 ? "" : "s"}`,
    change: () => { split = false; draw(); },
  });
  build(right, "div", { class: "live-head" }, "ranking there");
  const list = build(right, "div", { class: "sl-list", "aria-hidden": true, style: `height: ${STEP * runs.length}px` });
  const lines = new Map(runs.map(run => {
    const line = build(list, "div", { class: `sl-line is-${run.mark}` });
    const parts = ["rank", "swatch", "words", "value"].map(part => build(line, "span", { class: `sl-${part}` }));
    parts[2].textContent = run.words;
    return [run.key, { line, parts }];
  }));
  const row = build(stage, "div", { class: "live-row" });
  const presets = [[`all at ${data.early}`, data.early, false], [`all at ${data.late}`, data.late, false],
                   [`the article's: trick at ${data.early}, others at ${data.late}`, data.late, true]];
  const buttons = presets.map(([words, epoch, apart]) => build(row, "button", {
    type: "button", class: "live-button",
    click: () => { handle.to(epochs.indexOf(epoch)); split = apart; draw(); },
  }, words));
  const says = build(stage, "p", { class: "live-says", role: "status" });

  const family = run => run.key === data.trick;
  // Where a run is read.
  const readAt = run => split && family(run) ? data.early : epochs[handle.stop];
  const valueOf = run => run.means[run.epochs.indexOf(readAt(run))] ?? NaN;  // some were not trained so long

  function draw() {
    const top = Math.max(...runs.flatMap(run => run.means)), low = Math.floor(top) - 15, high = Math.ceil(top + 0.4);
    const there = runs.filter(run => valueOf(run)).sort((a, b) => valueOf(b) - valueOf(a));
    const ranking = [...there, ...runs.filter(run => !valueOf(run))];
    const ticks = Array.from({ length: 4 }, (_, k) => 5 * Math.ceil(low / 5) + 5 * k).filter(tick => tick <= high);
    chart.frame({
      low, high, up: ticks.map(tick => [tick, tick]),
      across: epochs.map((epoch, k) => [places[k], epoch]).filter(([, epoch]) => String(epoch).match(/^[125]0*$/)),
      words: `Stopped there: ${there.map((run, k) => `${k + 1}. ${run.words}, ${fixed(valueOf(run))} %`).join("; ")}`,
    });
    for (const run of runs) {
      chart.line(run.epochs.map((epoch, k) => [placeOf.get(epoch), run.means[k]]), `is-${run.mark}`);
    }
    for (const run of there) chart.dot(placeOf.get(readAt(run)), valueOf(run), `is-${run.mark}`, 4.5);
    if (split) {
      const x = chart.x(placeOf.get(data.early));
      build(chart.svg, "line", { x1: x, x2: x, y1: chart.top, y2: chart.top + chart.high, class: "live-stop is-shrink-perturb" });
    }
    chart.grip(places[handle.stop]);
    let rank = 0, before = "";
    ranking.forEach((run, place) => {
      const { line, parts } = lines.get(run.key), trained = place < there.length;
      const value = trained ? `${fixed(valueOf(run))} %` : `ends at ${run.epochs.at(-1)}`;
      if (value !== before) rank = place + 1;  // what reads the same shares its place
      before = value;
      line.classList.toggle("is-gone", !trained);
      parts[0].textContent = trained ? `${rank}.` : "";
      parts[3].textContent = value;
      line.style.transform = `translateY(${STEP * place}px)`;
    });
    const [trick, cold] = [data.trick, data.cold].map(key => runs.find(run => run.key === key));
    const gap = data.gaps.find(([one, other]) => one === readAt(trick) && other === readAt(cold));
    const words = gap ? points(gap.slice(2)) : `${signed(valueOf(trick) - valueOf(cold))} points`;
    const short = data.gaps.length && !gap ? " (intervals are stored for the three buttons)" : "";
    says.innerHTML = `Shrink and perturb minus cold: <b>${words}</b>${short}`;
    buttons.forEach((button, k) => {
      const [, epoch, apart] = presets[k];
      button.setAttribute("aria-pressed", epoch === epochs[handle.stop] && apart === split);
    });
  }
  figure.live = { handle };
  return draw;
});
})();
