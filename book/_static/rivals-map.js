/* What every rival gains over a warm start, and what it costs: a scatter with a tab for each contest.

   A dot tells its name by mouse, touch or the arrow keys. Data: book/_ext/rivals_map.py. */
(() => {
"use strict";
const { build, fixed, points } = live;

live.figure("rivals-map", (stage, data, figure) => {
  let current = 0, chosen = "warm";
  const id = figure.id || "rivals-map";
  const tabs = build(stage, "div", { class: "rm-tabs", role: "tablist", "aria-label": "Contest" });
  const buttons = data.tabs.map((tab, k) => build(tabs, "button", {
    type: "button", role: "tab", id: `${id}-tab-${k}`, "aria-controls": `${id}-panel`,
    click: () => open(k),
    keydown: event => {
      const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: data.tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      open((to + data.tabs.length) % data.tabs.length);
      buttons[current].focus();
    },
  }, tab.words));
  const panel = build(stage, "div", { role: "tabpanel", id: `${id}-panel`, tabindex: "-1" });
  build(panel, "div", { class: "live-head" }, "accuracy minus a warm start's, points");
  const svg = build(panel, "svg", { role: "group", "aria-label": "Methods: what they cost and gain", class: "rm-plot" });
  const ground = build(svg, "g", { "aria-hidden": true }), dots = build(svg, "g"), names = build(svg, "g", { "aria-hidden": true });
  const says = build(panel, "p", { class: "live-says", role: "status" });
  build(panel, "p", { class: "live-note" }, "Squares stop early. Bars: 95 % intervals that hold for all methods of a contest "
    + "at once. Every method with its tuned setting; up and to the left is better.");
  const keys = new Set(data.tabs.flatMap(tab => tab.points.map(point => point.key)));
  const marks = new Map([...keys].map(key => {
    const group = build(dots, "g", {
      role: "img", tabindex: "-1", focus: () => choose(key), keydown: event => step(event, key),
    });
    return [key, { group, bar: build(group, "line", { class: "live-bar" }) }];
  }));
  let at = new Map();  // where dots are: key -> [x, y]
  svg.addEventListener("pointermove", event => near(event, false));
  svg.addEventListener("pointerdown", event => near(event, true));

  const byCost = () => [...data.tabs[current].points].sort((a, b) => a.cost - b.cost);

  // The arrow keys go from dot to dot, by cost.
  function step(event, key) {
    const order = byCost(), at = order.findIndex(point => point.key === key);
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    marks.get(order[Math.max(0, Math.min(order.length - 1, to))].key).group.focus();
  }

  // The dot nearest to mouse or finger; pressed again, the one behind it.
  function near(event, pressed) {
    const box = svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const far = ([left, top]) => Math.hypot(left - x, top - y);
    const [first, second] = [...at.keys()].sort((a, b) => far(at.get(a)) - far(at.get(b)));
    if (far(at.get(first)) > 60) return;
    const behind = pressed && first === chosen && far(at.get(second)) < 9;
    if (behind || first !== chosen) choose(behind ? second : first);
  }

  function choose(key) {
    chosen = key;
    draw();
  }

  function open(k) {
    current = k;
    draw();
  }

  function draw() {
    const list = data.tabs[current].points, width = panel.clientWidth, narrow = width < 560;
    const height = narrow ? 300 : 360, left = 34, right = 14, top = 12, bottom = 36;
    const ends = list.flatMap(point => point.gain), most = Math.max(...list.map(point => point.cost)) * 1.06;
    const spread = Math.max(...ends) - Math.min(...ends);
    const low = Math.min(...ends) - 0.05 * spread, high = Math.max(...ends) + 0.05 * spread;
    const x = cost => left + (width - left - right) * cost / most;
    const y = gain => top + (height - top - bottom) * (high - gain) / (high - low);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    ground.replaceChildren();
    names.replaceChildren();
    const wide = [0.5, 1, 2, 5, 10].find(each => spread / each <= 6);
    for (let tick = Math.ceil(low / wide) * wide; tick <= high; tick += wide) {
      build(ground, "line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: tick ? "live-grid" : "rm-warm" });
      build(ground, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, fixed(tick, wide < 1 ? 1 : 0));
    }
    for (let tick = 0; tick <= most; tick += most > 160 ? 50 : 25) {
      build(ground, "text", { x: x(tick), y: height - 20, "text-anchor": "middle" }, tick);
    }
    build(ground, "text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" },
      "training images seen, % of a cold start's");
    if (!list.some(point => point.key === chosen)) chosen = "warm";  // not in this contest
    for (const [key, { group }] of marks) if (!list.some(point => point.key === key)) group.remove();
    at = new Map(list.map(point => [point.key, [x(point.cost), y(point.gain[0])]]));
    for (const point of list) {
      const { group, bar } = marks.get(point.key), [gain, least, largest] = point.gain;
      const is = point.key === chosen;
      if (!group.isConnected) dots.append(group);
      group.setAttribute("class", `rm-dot is-${point.mark} ${is ? "is-chosen" : "is-other"}`);
      group.setAttribute("tabindex", is ? 0 : -1);
      group.style.transform = `translate(${x(point.cost)}px, ${y(gain)}px)`;
      group.setAttribute("aria-label", `${point.words}: ${point.key === "warm" ? "what others are compared with" : points(point.gain)}, `
        + `${fixed(point.cost, 0)} % of the images`);
      bar.setAttribute("y1", y(least) - y(gain));
      bar.setAttribute("y2", y(largest) - y(gain));
      group.querySelector(".live-dot")?.remove();
      const r = is ? 8 : 5.5;
      if (point.stopped) build(group, "rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, class: "live-dot" });
      else build(group, "circle", { r, class: "live-dot" });
    }
    label(list, x, y, width - right, narrow);
    if (marks.get(chosen).group !== document.activeElement) dots.append(marks.get(chosen).group);  // on top
    const point = list.find(each => each.key === chosen);
    says.innerHTML = point.key === "warm"
      ? `<b>${point.words}</b>: what all others are compared with; ${fixed(point.cost, 0)} % of a cold start's images`
      : `<b>${point.words}</b>: ${points(point.gain)} over warm, ${fixed(point.cost, 0)} % of a cold start's images`;
    buttons.forEach((button, k) => {
      button.setAttribute("aria-selected", k === current);
      button.tabIndex = k === current ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${id}-tab-${current}`);
  }

  // Names beside dots where they find room: the chosen one first.
  function label(list, x, y, end, narrow) {
    const taken = list.map(point => [x(point.cost) - 7, x(point.cost) + 7, y(point.gain[0]) - 7, y(point.gain[0]) + 7]);
    const wanted = [...list].sort((a, b) => (b.key === chosen) - (a.key === chosen)).filter(
      point => point.key === chosen || (narrow ? data.always.slice(0, 3) : data.always).includes(point.key));
    for (const point of wanted) {
      const words = point.words, wide = 6.6 * words.length;
      const cx = x(point.cost), cy = y(point.gain[0]);
      const spots = [[cx + 11, cy + 4, "start"], [cx - 11, cy + 4, "end"], [cx + 9, cy - 10, "start"], [cx - 9, cy - 10, "end"],
                     [cx + 9, cy + 18, "start"], [cx - 9, cy + 18, "end"]];
      const box = ([left, base, side]) => [side === "start" ? left : left - wide, side === "start" ? left + wide : left, base - 11, base + 3];
      const free = spots.find(spot => {
        const [from, to, above, below] = box(spot);
        return from > 34 && to < end + 8 && taken.every(([l, r, t, b]) => to < l || from > r || below < t || above > b);
      }) ?? (point.key === chosen ? spots[cx > end / 2 ? 1 : 0] : null);
      if (!free) continue;
      taken.push(box(free));
      build(names, "text", { x: free[0], y: free[1], "text-anchor": free[2],
        class: `is-${point.mark}-text ${point.key === chosen ? "rm-name" : ""}` }, words);
    }
  }

  figure.live = { open, choose };
  return draw;
});
})();
