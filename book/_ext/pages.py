"""The last touches to the pages, once all are written.

- Pictures say how large they are, so that nothing moves when they come; those further down
  are loaded when they are near.
- Numbers that chapters glue into the text get true minus signs, none where they round to
  zero, and intervals that do not break.
- ``llms.txt`` lists the pages with what each is about, for programs that read.
- ``_static/excerpts.js`` holds the words of the pages, for searching from a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PICTURE = re.compile(r'<img (?![^>]*\bwidth=)([^>]*\bsrc="([^"]*_images/[^"]+\.png)"[^>]*?)\s*/?>')
PNG = b"\x89PNG\r\n\x1a\n"
GLUED = re.compile(r'(<span class="pasted-(?:text|inline)">)([^<]*)(</span>)')
NUMBER = re.compile(r"(?<![\w.-])([-+])(\d[\d.,]*)")
INTERVAL = re.compile(r"\([−+]?[\d.,]+ to [−+]?[\d.,]+\)")

# Pictures --------------------------------------------------------------------------------


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height of a PNG in pixels, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or not head.startswith(PNG):
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def size_pictures(page: str, folder: Path) -> str:
    """Give every picture its width and height; all but the first wait until they are near."""
    first = True

    def sized(match: re.Match[str]) -> str:
        nonlocal first
        path = folder / match[2]
        size = size_of(path) if path.exists() else None
        if size is None:
            return match[0]
        wait = "" if first or "loading=" in match[1] else ' loading="lazy"'
        first = False
        return f'<img {match[1]} width="{size[0]}" height="{size[1]}"{wait}>'

    return PICTURE.sub(sized, page)


# Numbers ---------------------------------------------------------------------------------


def write_numbers(text: str) -> str:
    """As people write them.

    Examples
    --------
    >>> write_numbers("-0.28 (-0.31 to +0.00)")
    '−0.28 (−0.31 to 0.00)'
    """

    def written(match: re.Match[str]) -> str:
        sign, digits = match[1].replace("-", "−"), match[2]
        return sign + digits if digits.strip("0.,") else digits

    return NUMBER.sub(written, text)


def mend_numbers(page: str) -> str:
    """Write the numbers that chapters glue, and keep intervals on one line."""

    def mended(match: re.Match[str]) -> str:
        words = write_numbers(match[2])
        words = INTERVAL.sub(lambda interval: interval[0].replace(" ", "\N{NO-BREAK SPACE}"), words)
        return match[1] + words + match[3]

    return GLUED.sub(mended, page)


# Lists of pages ----------------------------------------------------------------------------

TITLE = re.compile(r"<title>(.*?)(?: &#8212; [^<]*)?</title>", re.S)
ABOUT = re.compile(r'<meta name="description" content="([^"]*)"')
ARTICLE = re.compile(r"<article class=\"bd-article\"[^>]*>(.*?)</article>", re.S)
UNREAD = re.compile(r"<(script|style|noscript|svg)\b.*?</\1>|<a class=\"headerlink\".*?</a>", re.S)
BLOCK = re.compile(r"</?(?:p|li|h\d|div|t[dhr]|d[dt]|pre|br|figcaption|caption|summary)\b[^>]*>")
TAG = re.compile(r"<(?!/?section\b)[^>]*>")


def entries(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Captions of ``_toc.yml`` with the names of their pages."""
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    for part in contents.get("parts", [{"caption": "Pages", "chapters": contents.get("chapters", [])}]):
        names = []
        for chapter in part["chapters"]:
            names += [chapter["file"], *(section["file"] for section in chapter.get("sections", []))]
        yield part["caption"], names


def write_llms(site: Path, root: Path, sources: dict[str, str]) -> str:
    """The book as a list of pages, each with its first sentence. See llmstxt.org."""

    def line(name: str) -> str:
        page = (site / f"{name}.html").read_text()
        title, about = TITLE.search(page), ABOUT.search(page)
        words = f"- [{unescape(title[1]) if title else name}]({name}.html)"
        if about:
            words += f": {unescape(about[1])}"
        return words + f" ([source](_sources/{sources[name]}))" if name in sources else words

    contents = yaml.safe_load((root / "_toc.yml").read_text())
    about = ABOUT.search((site / f"{contents['root']}.html").read_text())
    lines = ["# Warm Starts", "", f"> {unescape(about[1])}" if about else "", "", line(contents["root"])]
    for caption, names in entries(root):
        lines += ["", f"## {caption}", "", *map(line, names)]
    return "\n".join(lines) + "\n"


def excerpt(page: str) -> str:
    """The words of a page; its sections keep their names."""
    found = ARTICLE.search(page)
    return " ".join(TAG.sub("", BLOCK.sub(" ", UNREAD.sub("", found[1]))).split()) if found else ""


# All of it -------------------------------------------------------------------------------


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for path in sorted(site.rglob("*.html")):
        before = path.read_text()
        after = mend_numbers(size_pictures(before, path.parent))
        if after != before:
            path.write_text(after)
    names = sorted(app.env.found_docs)
    words = {f"{name}.html": excerpt((site / f"{name}.html").read_text()) for name in names}
    inlined = json.dumps(words, ensure_ascii=False, separators=(",", ":"))
    (site / "_static" / "excerpts.js").write_text(f"window.excerpts = {inlined};\n")
    sources = {name: Path(app.env.doc2path(name)).relative_to(app.srcdir).as_posix() for name in names}
    (site / "llms.txt").write_text(write_llms(site, Path(app.srcdir), sources))


def link_list(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Link to llms.txt, for programs in the head and for people at the foot of every page."""
    address = "../" * page.count("/") + "llms.txt"
    context["metatags"] = (
        context.get("metatags", "")
        + f'\n<link rel="alternate" type="text/plain" title="llms.txt" href="{address}">'
    )
    footer = context.get("theme_extra_footer") or ""
    context["theme_extra_footer"] = f'{footer} All pages in one list: <a href="{address}">llms.txt</a>.'
    if page == "search":
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_css_file("print.css", media="print")
    app.connect("html-page-context", link_list)
    app.connect("build-finished", finish, priority=700)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
