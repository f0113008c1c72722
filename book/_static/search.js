// The search page: excerpts also from a folder, and a word where nothing is searched for.
"use strict";
{
// From file:// a page may not read others. Their words then come from a script (book/_ext/pages.py).
if (location.protocol === "file:") {
  const root = new URL(document.documentElement.dataset.content_root, location);
  const loaded = new Promise((resolve) => {
    const script = Object.assign(document.createElement("script"),
      { src: new URL("_static/excerpts.js", root), onload: resolve, onerror: resolve });
    document.head.append(script);
  });
  window.fetch = async (address) => {
    await loaded;
    const page = new URL(address, location).href.slice(root.href.length).split("#")[0];
    return { ok: true, text: async () => `<div role="main">${window.excerpts?.[page] ?? ""}</div>` };
  };
}

const field = document.querySelector(".bd-article-container form.bd-search input");
const asked = new URLSearchParams(location.search).get("q")?.trim();
if (field) {
  if (asked) field.value = asked;
  else field.focus();
}
if (!asked) {
  const say = document.createElement("p");
  say.textContent = "Type one or more words and press Enter. Pages that hold all of them are listed here.";
  document.querySelector("#search-results")?.append(say);
}
}
