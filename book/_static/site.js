// Small things that the theme leaves undone, on every page.
"use strict";
{
const all = (selector, root = document) => root.querySelectorAll(selector);

// The theme lets the keyboard into what scrolls, such as a wide table, but measures it only
// when the page loads, changes size or gains elements: what was folded away then stays out
// of reach. Ask for a new measurement whenever something unfolds.
const measureAgain = () => window.dispatchEvent(new Event("resize"));
document.addEventListener("toggle", measureAgain, true); // a <details>; does not bubble
document.addEventListener("click", (event) => {
  if (event.target.closest(".toggle-button")) measureAgain();
});

// A link in a drawer of a narrow screen closes it: what it leads to may be on this page.
for (const drawer of all("dialog[id$='-sidebar-modal']")) {
  drawer.addEventListener("click", (event) => {
    if (event.target.closest("a[href]")) drawer.close();
  });
}

// The button for the theme says which of its three states it is in.
const THEMES = { light: "light", dark: "dark", auto: "as your system" };
function nameTheme() {
  const words = `Colors: ${THEMES[document.documentElement.dataset.mode] ?? THEMES.auto}`;
  for (const button of all(".theme-switch-button")) {
    button.setAttribute("aria-label", words);
    button.dataset.bsTitle = words;
    window.bootstrap?.Tooltip.getInstance(button)?.setContent({ ".tooltip-inner": words });
    for (const icon of all("[title]", button)) icon.removeAttribute("title");
  }
}
nameTheme();
new MutationObserver(nameTheme).observe(document.documentElement, { attributeFilter: ["data-mode"] });

// Esc closes the exact figure that a number in words shows; leaving it makes it show again.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const each of all(".told:hover, .told:focus")) each.classList.add("closed");
});
for (const leave of ["pointerout", "focusout"]) {
  document.addEventListener(leave, (event) => event.target.closest?.(".told")?.classList.remove("closed"));
}

// A figure is enlarged in its place: press it, scroll in it, press again or Esc.
document.addEventListener("click", (event) => {
  const link = event.target.closest(".figure-alone");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const box = document.createElement("dialog"), picture = link.querySelector("img");
  const still = link.querySelector("svg.wide");
  box.className = still ? "figure-large still" : "figure-large";
  box.setAttribute("aria-label", "Figure, enlarged");
  const large = still ? still.cloneNode(true) : Object.assign(new Image(), { src: link.href, alt: picture.alt });
  for (const named of all("[id]", large)) named.removeAttribute("id");  // the page has it
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
  const stage = document.createElement("div");
  stage.tabIndex = 0;  // it scrolls
  stage.append(large);
  box.append(close, stage);
  document.body.append(box);
  box.addEventListener("close", () => { box.remove(); link.focus({ preventScroll: true }); });
  for (const element of [close, large]) element.addEventListener("click", () => box.close());
  box.addEventListener("click", (press) => { if (press.target === box) box.close(); });
  box.showModal();
});

// Read or run: fold all code that the page folds, or open it; the choice is kept.
const code = all("article details.above-input");
const title = document.querySelector("article h1");
if (code.length && title) {
  const choice = document.createElement("div");
  choice.className = "read-or-run";
  choice.setAttribute("role", "group");
  choice.setAttribute("aria-label", "Code of figures and tables");
  const pick = (run, keep = true) => {
    for (const details of code) details.open = run;
    for (const button of choice.children) button.setAttribute("aria-pressed", (button.value === "run") === run);
    if (keep) try { localStorage.setItem("read-or-run", run ? "run" : "read"); } catch { /* a private window */ }
  };
  for (const [value, words] of [["read", "Read"], ["run", "Run: show all code"]]) {
    const button = Object.assign(document.createElement("button"), { type: "button", value, textContent: words });
    button.addEventListener("click", () => pick(value === "run"));
    choice.append(button);
  }
  let before = "read";
  try { before = localStorage.getItem("read-or-run"); } catch { /* a private window */ }
  title.after(choice);
  pick(before === "run", false);
}

// Paper is white, and what is folded on it cannot be unfolded.
let theme, folded = [];
window.addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  // But code that is folded away, and the tables of what is to be played with, are left out.
  const kept = (details) => !details.closest(".playground, .lamda-sigma-map, .live, .above-input");
  folded = [...all("article details:not([open])")].filter(kept);
  for (const details of folded) details.open = true;
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = theme;
  for (const details of folded) details.open = false;
});
}
