// Tips: what a link in the text leads to, shown beside it. A term shows its entry of the
// glossary, a citation its reference, a figure's number the figure.
//
// By mouse: rest on the link; by keyboard: go to it; by touch: tap it once, and again to
// follow it. Esc closes. The contents come from sphinx-tippy (book/_ext/tips.py); a tip is
// made when it is asked for, so that a page does not load pictures that nobody sees.
"use strict";
(() => {
const REST = 250;  // milliseconds before a tip comes, and before it goes
const tips = window.tips ?? {};
const article = document.querySelector("article.bd-article");
if (!article) return;
let shown = null;  // { link, box }
let timer = 0;
let touched = false;  // whether the last press was a finger's

const linkAt = target => {
  const link = target.closest?.("article.bd-article a[href]");
  return link && !link.matches(".headerlink, .sd-stretched-link") && Object.hasOwn(tips, link.getAttribute("href"))
    ? link : null;
};

function hide() {
  clearTimeout(timer);
  if (!shown) return;
  shown.link.removeAttribute("aria-describedby");
  shown.box.remove();
  shown = null;
}

function show(link) {
  clearTimeout(timer);
  if (shown?.link === link) return;
  hide();
  const box = document.createElement("div");
  Object.assign(box, { id: "tip", className: "tip", innerHTML: tips[link.getAttribute("href")] });
  box.setAttribute("role", "tooltip");
  for (const named of box.querySelectorAll("[id]")) named.removeAttribute("id");  // the page has it
  if (touched) {
    const follow = document.createElement("a");
    Object.assign(follow, { href: link.href, className: "tip-follow", textContent: "Go there" });
    box.append(follow);
  }
  document.body.append(box);
  shown = { link, box };
  link.setAttribute("aria-describedby", "tip");
  place(link, box);
  window.setFormulas?.(box).then(() => shown?.box === box && place(link, box));
  for (const picture of box.querySelectorAll("img")) picture.addEventListener("load", () => place(link, box));
}

// In the margin beside the text where there is one; else below the line, or above it.
function place(link, box) {
  const lines = [...link.getClientRects()], line = lines.at(-1) ?? link.getBoundingClientRect();
  const { innerHeight } = window, width = document.documentElement.clientWidth, right = article.getBoundingClientRect().right;
  const margin = width - right - 24;
  const beside = margin >= 240;
  box.style.width = `${beside ? Math.min(margin, 380) : Math.min(width - 16, 480)}px`;
  const { offsetHeight: tall, offsetWidth: wide } = box;
  let left, top;
  if (beside) {
    left = right + 12;
    top = Math.min(lines[0].top - 8, innerHeight - tall - 8);
  } else {
    left = Math.min(Math.max(8, line.left - 24), width - wide - 8);
    top = line.bottom + tall + 14 <= innerHeight || lines[0].top < tall + 14 ? line.bottom + 6 : lines[0].top - tall - 6;
  }
  box.style.left = `${left + scrollX}px`;
  box.style.top = `${Math.max(8, top) + scrollY}px`;
}

const later = action => { clearTimeout(timer); timer = setTimeout(action, REST); };
document.addEventListener("pointerover", event => {
  if (event.pointerType === "touch") return;
  const link = linkAt(event.target);
  if (link) later(() => show(link));
  else if (shown?.box.contains(event.target)) clearTimeout(timer);
  else if (shown) later(hide);
  else clearTimeout(timer);
});
document.addEventListener("pointerdown", event => {
  touched = event.pointerType === "touch";
  if (shown && !shown.box.contains(event.target) && linkAt(event.target) !== shown.link) hide();
}, true);
document.addEventListener("click", event => {
  const link = linkAt(event.target);
  if (!link || !touched || shown?.link === link) return;
  event.preventDefault();
  show(link);
}, true);
document.addEventListener("focusin", event => {
  const link = linkAt(event.target);
  if (link?.matches(":focus-visible")) { touched = false; show(link); }
});
document.addEventListener("focusout", event => { if (event.target === shown?.link && !touched) hide(); });
document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
window.addEventListener("resize", hide);
})();
