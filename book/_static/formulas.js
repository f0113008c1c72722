// Set the formulas of a page, and those of a tip, with KaTeX. Sphinx writes them as
// <span class="math">\(x\)</span> and <div class="math">\[x\]</div>.
"use strict";
window.setFormulas = (() => {
  const here = document.currentScript.src;
  let loading;

  // Pages with formulas have KaTeX. Elsewhere a tip may bring the first one.
  function load() {
    if (window.katex) return Promise.resolve();
    return loading ??= new Promise((resolve, reject) => {
      const style = Object.assign(document.createElement("link"),
        { rel: "stylesheet", href: new URL("vendor/katex/katex.min.css", here) });
      const script = Object.assign(document.createElement("script"),
        { src: new URL("vendor/katex/katex.min.js", here), onload: resolve, onerror: reject });
      document.head.append(style, script);
    });
  }

  function set(element) {
    const words = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE);
    const tex = words.map(node => node.data).join("").trim().replace(/^\\[([]|\\[)\]]$/g, "");
    if (!tex) return;  // it is set already
    const place = document.createElement("span");
    words[0].before(place);
    words.forEach(node => node.remove());
    const displayed = element.tagName === "DIV";
    window.katex.render(tex, place, { displayMode: displayed, throwOnError: false });
    if (displayed) place.tabIndex = 0;  // on a phone it scrolls: the keyboard must get there
  }

  async function setFormulas(root) {
    const formulas = root.querySelectorAll(".math");
    if (!formulas.length) return;
    await load();
    formulas.forEach(set);
  }

  setFormulas(document);
  return setFormulas;
})();
