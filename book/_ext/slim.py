"""What the theme would make every page load, cut to what the pages of this book use.

Once all pages are written,

- the theme's 1.5 MB of icon script is replaced by the dozen icons that occur, drawn into the
  pages as that script would draw them (Font Awesome Free, CC BY 4.0);
- rules of the theme's style sheets that can match nothing in any page are dropped, and signs
  of its icon fonts that none of the rest names;
- scripts no longer hold up the first paint;
- formulas are set by KaTeX, on the pages that have any.

Nothing is listed by hand: a page that uses one more class or icon gets it with the next build.
Words that scripts contain count as classes that they may set.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tinycss2
from docutils import nodes
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.typing import ExtensionMetadata

# 1. Icons --------------------------------------------------------------------------------

ICON_SCRIPT = "_static/scripts/fontawesome.js"
ICON_TAG = re.compile(r"<(i|span)\s+class=\"([^\"]*\bfa-[^\"]*)\"([^>]*)></\1>")
SCRIPT_TAG = re.compile(r'[ \t]*<script src="[^"]*fontawesome\.js[^"]*"></script>\n?')
CREDIT = "<!-- Icons: Font Awesome Free, fontawesome.com, CC BY 4.0 -->"
STYLES_OF_ICONS = {
    "fa-solid": "fas", "fas": "fas", "fa-regular": "far", "far": "far", "fa-brands": "fab", "fab": "fab",
}  # fmt: skip
NO_ICONS = re.compile(r"fa-(?:solid|regular|brands|lg|sm|xs|fw|\d+x)")


@functools.cache
def drawings(script: str, name: str) -> list[tuple[str, str, str]]:
    """Width, height and path of an icon, once for every set of Font Awesome that has it."""
    entry = rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
    return re.findall(entry, script)


def draw_icons(page: str, script: str) -> str:
    """Put each icon where the theme's script would put it."""

    def drawn(match: re.Match[str]) -> str:
        classes, others = match[2].split(), match[3]
        name = next((c[3:] for c in classes if c.startswith("fa-") and not NO_ICONS.fullmatch(c)), "")
        kind = next((STYLES_OF_ICONS[c] for c in classes if c in STYLES_OF_ICONS), "fas")
        # The script holds its sets one after the other: brands, regular, solid.
        found = drawings(script, name)
        if not found:
            raise ExtensionError(f"slim: the theme has no icon {name!r} (class {match[2]!r})")
        width, height, path = found[-1] if kind == "fas" else found[0]
        kept = " ".join(c for c in classes if c not in STYLES_OF_ICONS)
        return (
            f'<svg class="svg-inline--fa {kept}"{others.rstrip()} aria-hidden="true" focusable="false"'
            f' viewBox="0 0 {width} {height}"><path fill="currentColor" d="{path}"/></svg>'
        )

    page, count = ICON_TAG.subn(drawn, page)
    page = SCRIPT_TAG.sub("", page)
    return page.replace("</head>", f"{CREDIT}\n</head>", 1) if count else page


# 2. Style sheets ---------------------------------------------------------------------------

CLASSES = re.compile(r"\bclass=\\?(?:\"([^\"]*?)\\?\"|'([^']*)')")
IDS = re.compile(r"\bid=\\?(?:\"([^\"]*?)\\?\"|'([^']*)')")
TAGS = re.compile(r"<([a-zA-Z][\w-]*)")
WORDS = re.compile(r"[A-Za-z_][\w-]*")
# What browsers add to a page, or scripts make in ways that their words do not show.
ALWAYS = {"html", "body", "head", "tbody", "thead", "tfoot", "bs-tooltip-auto"}


class Names:
    """Every class, id and element that can occur in the site."""

    def __init__(self) -> None:
        self.found = set(ALWAYS)

    def add_page(self, text: str) -> None:
        for pattern in (CLASSES, IDS):
            for groups in pattern.findall(text):
                self.found.update("".join(groups).split())
        self.found.update(map(str.lower, TAGS.findall(text)))

    def add_script(self, text: str) -> None:
        self.found.update(WORDS.findall(text))


def needs(selector: list[Any]) -> Iterator[str]:
    """The classes, ids and elements without which a selector matches nothing.

    What stands in brackets, such as ``:not(.x)`` or ``[class*=x]``, is not looked into: there
    the selector may match without it.
    """
    before = ""
    for token in selector:
        if token.type == "ident" and before == ".":
            yield token.value
        elif token.type == "ident" and not before.endswith(":"):
            yield token.lower_value
        elif token.type == "hash":
            yield token.value
        before = token.value if token.type == "literal" else ""


def split_at_commas(tokens: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for token in tokens:
        if token.type == "literal" and token.value == ",":
            yield part
            part = []
        else:
            part.append(token)
    yield part


def kept_rules(rules: Iterable[Any], names: set[str]) -> Iterator[str]:
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [s for s in split_at_commas(rule.prelude) if names.issuperset(needs(s))]
            if selectors:
                heads = ",".join(tinycss2.serialize(s).strip() for s in selectors)
                yield f"{heads}{{{tinycss2.serialize(rule.content).strip()}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports", "layer", "container"):
            if rule.content is None:  # such as `@layer a, b;`
                yield rule.serialize()
                continue
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            kept = "".join(kept_rules(inner, names))
            if kept:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{kept}}}"
        elif rule.type == "error":
            continue  # no browser reads it either
        else:
            yield rule.serialize()


NAMED = re.compile(r"@(?:-webkit-)?(keyframes|font-face)\s*([\w-]*)\s*\{")
FAMILY = re.compile(r"font-family:\s*[\"']?([^;\"'}]+)")


def purge(css: str, names: set[str]) -> str:
    """The rules that can match something, and the animations and fonts that these name."""
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    kept = list(kept_rules(rules, names))
    plain = "".join(rule for rule in kept if not NAMED.match(rule))

    def wanted(rule: str) -> bool:
        head = NAMED.match(rule)
        if not head:
            return True
        family = FAMILY.search(rule)
        name = head[2] if head[1] == "keyframes" else family[1] if family else ""
        return re.search(rf"(?<![\w-]){re.escape(name.strip())}(?![\w-])", plain) is not None

    return "".join(filter(wanted, kept))


FONTS = "_static/vendor/fontawesome/webfonts"
SOURCES = re.compile(r"src:url\(([^)]*/(fa-[\w-]+)\.woff2)\)[^;}]*")
SIGN = re.compile(r"\\([ef][0-9a-fA-F]{3})(?![0-9a-fA-F])|([\ue000-\uf8ff])")


def subset_fonts(site: Path, sheets: dict[Path, str]) -> dict[Path, str]:
    """Cut the theme's icon fonts to the signs that the style sheets name, and address these."""
    named = [found for css in sheets.values() for found in SIGN.findall(css)]
    signs = {int(code, 16) if code else ord(sign) for code, sign in named}
    folder = site / FONTS

    def cut(match: re.Match[str]) -> str:
        name = match[2]
        if (folder / f"{name}.ttf").exists():
            options = subset.Options(flavor="woff", hinting=False, layout_features=[])
            cutter = subset.Subsetter(options)
            cutter.populate(unicodes=signs)
            with subset.load_font(str(folder / f"{name}.ttf"), options) as font:
                cutter.subset(font)
                subset.save_font(font, str(folder / f"{name}.woff"), options)
        return f'src:url({match[1].removesuffix("2")}) format("woff")'

    sheets = {path: SOURCES.sub(cut, css) for path, css in sheets.items()}
    for path in folder.glob("*"):
        if path.suffix != ".woff":
            path.unlink()
    return sheets


# 3. Scripts ------------------------------------------------------------------------------

# It sets a constant that scripts inside of the page add to, and is small.
AT_ONCE = "documentation_options.js"
HEAD_SCRIPT = re.compile(
    r"<script (?![^>]*\b(?:defer|async)\b)(?=[^>]*\bsrc=)(?![^>]*" + re.escape(AT_ONCE) + r")"
)
PRELOAD = re.compile(r'[ \t]*<link rel="preload" as="script"[^>]*/?>\n?')


def defer_scripts(page: str) -> str:
    """Let scripts of the head wait for the page: they run in the same order, when it is there."""
    head, mark, body = page.partition("</head>")
    head = PRELOAD.sub("", head)  # what is deferred needs no hurry, and would hold up the styles
    return HEAD_SCRIPT.sub("<script defer ", head) + mark + body


# 4. Formulas -----------------------------------------------------------------------------


def drop_mathjax(app: Sphinx, config: Config) -> None:
    """Unhook MathJax, which Jupyter Book loads on every page; its marks for formulas stay."""
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if each.handler.__module__ != "sphinx.ext.mathjax"]


def load_katex(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Set formulas on the pages that have some."""
    if re.search(r'class="(?:amsmath )?math\b', context.get("body", "")):
        app.add_css_file("vendor/katex/katex.min.css")
        app.add_js_file("vendor/katex/katex.min.js", loading_method="defer")
        app.add_js_file("formulas.js", loading_method="defer")


# 5. All of it ----------------------------------------------------------------------------

STYLE_LINK = re.compile(r'(<link [^>]*href=")([^"?]+\.css)(?:\?[^"]*)?(")')
OURS = (  # nothing in vain
    "vendor/", "warm-starts.css", "print.css", "playground.css", "lamda-sigma-map.css", "live.css",
    "guess.css",
)  # fmt: skip


def slim(site: Path) -> None:
    """Cut the style sheets and finish the pages of a built site, in place."""
    script_of_icons = site / ICON_SCRIPT
    icons = script_of_icons.read_text() if script_of_icons.exists() else ""
    pages: dict[Path, str] = {}
    names = Names()
    for path in sorted(site.rglob("*.html")):
        page = path.read_text()
        if icons:
            page = draw_icons(page, icons)
        pages[path] = defer_scripts(page)
        names.add_page(pages[path])
    named = "".join(pages.values())
    for path in sorted((site / "_static").rglob("*.js")):
        inside = path.relative_to(site / "_static").as_posix()
        if inside.startswith("tippy/"):  # pieces of pages, named anew with every build
            if path.name in named:
                names.add_page(path.read_text())
            else:
                path.unlink()
        elif path != script_of_icons and not inside.startswith("vendor/"):
            names.add_script(path.read_text())
    sheets: dict[Path, str] = {}
    for path in sorted((site / "_static").rglob("*.css")):
        inside = path.relative_to(site / "_static").as_posix()
        css = path.read_text()
        sheets[path] = css if inside.startswith(OURS) else purge(css, names.found)
    versions: dict[Path, str] = {}
    for path, css in subset_fonts(site, sheets).items():
        path.write_text(css)
        versions[path.resolve()] = hashlib.sha256(css.encode()).hexdigest()[:8]
    for path, page in pages.items():

        def versioned(link: re.Match[str], folder: Path = path.parent) -> str:
            """Address a style sheet by what is in it, so that no browser keeps an older one."""
            version = versions.get((folder / link[2]).resolve())
            return f"{link[1]}{link[2]}?v={version}{link[3]}" if version else link[0]

        page = STYLE_LINK.sub(versioned, page)
        if page != path.read_text():
            path.write_text(page)
    script_of_icons.unlink(missing_ok=True)


def slim_site(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        slim(Path(app.outdir))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("config-inited", drop_mathjax)
    app.connect("html-page-context", load_katex)
    app.connect("build-finished", slim_site, priority=800)  # when all pages are as they will be
    return {"parallel_read_safe": True, "parallel_write_safe": True}
