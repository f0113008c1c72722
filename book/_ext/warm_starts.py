"""What this book adds to Sphinx, in one small extension.

- The role ``{quoted}`` marks a number that is somebody else's:
  ``{quoted}`60 % <pureai2021>``` shows "60 %" as a link to that entry of
  ``references.bib``. An unknown entry is a warning, and warnings are errors.
- Every page gets a description, taken from its first paragraph.
- Every figure links to its picture.
- Docstrings of wsp may name each other without the module: ``Table`` finds
  ``wsp.lab.employees.Table``. A long default is shown by its name.
- Thebe, which Jupyter Book always adds and which names another host, is left out.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import ReferenceRole
from sphinx.util.inspect import object_description
from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)

# A picture that a cell drew. Its address is relative to the page, as a link's is.
FIGURE = re.compile(r'(<img [^>]*src="((?:\.\./)*_images/[0-9a-f]{64}\.png)"[^>]*/>)')

TOGGLE = '<summary><span class="toctree-toggle"'
NAMED_TOGGLE = '<summary aria-label="Pages below this one"><span class="toctree-toggle"'


class quoted(nodes.inline):
    """A number with the key of its source, until ResolveQuoted makes it a link."""


class QuotedRole(ReferenceRole):
    """``number <key>``, with the key of an entry of references.bib."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if not self.has_explicit_title:
            logger.warning(
                "quoted: %r names no source; write {quoted}`number <key of references.bib>`",
                self.text,
                location=self.get_location(),
            )
        node = quoted(self.rawtext, self.title, key=self.target)
        self.set_source_info(node)
        return [node], []


class ResolveQuoted(SphinxPostTransform):
    """Turn each quoted number into a link to its source."""

    default_priority = 6  # just after sphinxcontrib-bibtex has settled the citations

    def run(self, **kwargs: Any) -> None:
        citations = {c.key: c for c in self.env.get_domain("cite").citations}  # type: ignore[attr-defined]
        for node in list(self.document.findall(quoted)):
            citation = citations.get(node["key"])
            if citation is None:
                logger.warning("quoted: no entry %r in references.bib", node["key"], location=node)
                node.replace_self(nodes.inline("", node.astext(), classes=["quoted"]))
                continue
            page = citation.bibliography_key.docname
            uri = self.app.builder.get_relative_uri(self.env.docname, page)
            node.replace_self(
                nodes.reference(
                    "",
                    node.astext(),
                    internal=True,
                    classes=["quoted"],
                    refuri=f"{uri}#{citation.citation_id}",
                    reftitle=f"Quoted from {_authors_and_year(citation.entry)}",
                )
            )


def _authors_and_year(entry: Any) -> str:
    names = [" ".join(person.last_names).strip("{}") for person in entry.persons.get("author", [])]
    if len(names) > 2:
        names = [f"{names[0]} et al."]
    who = " and ".join(names) or entry.fields.get("title", "?")
    return f"{who} ({entry.fields.get('year', 'n.d.')})"


def find_in_wsp(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Resolve ``Table`` or ``wsp.Table`` where exactly one module of wsp documents it."""
    if node.get("refdomain") != "py":
        return None
    prefix, _, name = node["reftarget"].rpartition(".")
    if prefix not in ("", "wsp"):
        return None
    domain: Any = env.get_domain("py")
    found = [full for full in domain.objects if full.rpartition(".")[2] == name]
    if len(found) != 1:
        return None
    resolved: nodes.Element | None = domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", found[0], node, contnode
    )
    return resolved


def short_name(default: Any, constants: dict[str, Any]) -> str | None:
    """What stands in the source for a default that is long when it is written out."""
    if isinstance(default, int | float | str):
        return None
    for name, value in constants.items():
        if value is default and name.isupper():
            return name
    if dataclasses.is_dataclass(default):
        kind: Callable[[], Any] = type(default)
        return f"{kind.__name__}()" if default == kind() else None
    if inspect.isroutine(default):
        return "..." if default.__name__ == "<lambda>" else default.__name__
    return None


def shorten_defaults(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A default that is a constant or a function of the module is shown by its name.

    autodoc_preserve_defaults would do the same, but it changes the functions themselves,
    and the playground's directive calls them while the book is built.
    """
    if signature is None or what not in ("function", "method", "class"):
        return signature, returns
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):  # written in C, and it says nothing of its parameters
        return signature, returns
    constants = vars(sys.modules[obj.__module__])
    for parameter in parameters:
        short = short_name(parameter.default, constants)
        if short:
            signature = signature.replace(object_description(parameter.default), short)
    return signature, returns


def add_description(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Describe a page by its first paragraph, unless it describes itself."""
    if doctree is None or 'name="description"' in context.get("metatags", ""):
        return
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if text:
            if len(text) > 160:
                text = text[:157].rsplit(" ", 1)[0] + "…"
            quote = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
            context["metatags"] = (
                context.get("metatags", "") + f'\n<meta name="description" content="{quote}">'
            )
            return


def link_figures(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let a figure be opened alone: on a phone that is how to read what is small in it."""
    if "body" in context:
        context["body"] = FIGURE.sub(r'<a class="figure-alone" href="\2">\1</a>', context["body"])


def mend_roles(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Docutils calls a bibliography a list but its entries no list items; screen readers
    then announce an empty list. Without the roles they just read the entries."""
    if "body" in context:
        for role in ("list", "doc-biblioentry"):
            context["body"] = context["body"].replace(f' role="{role}"', "")


def drop_thebe(app: Sphinx, config: Config) -> None:
    """Unhook sphinx-thebe: it writes the address of another host into every page."""
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if not each.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [
        (name, attributes) for name, attributes in app.registry.css_files if name != "sphinx-thebe.css"
    ]


def name_toggles(app: Sphinx, exception: Exception | None) -> None:
    """Name what unfolds the contents: the theme gives it an arrow and no words."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            page = path.read_text()
            if TOGGLE in page:
                path.write_text(page.replace(TOGGLE, NAMED_TOGGLE))


def drop_sources(app: Sphinx, exception: Exception | None) -> None:
    """Maps of the theme's sources are 40 % of the site and help no reader, nor do its templates."""
    if exception is None and app.builder.format == "html":
        for path in (*Path(app.outdir).rglob("*.map"), *Path(app.outdir, "_static").glob("*macros.html")):
            path.unlink()


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_node(quoted)
    app.add_role("quoted", QuotedRole())
    app.add_post_transform(ResolveQuoted)
    app.connect("config-inited", drop_thebe)
    app.connect("missing-reference", find_in_wsp)
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("html-page-context", add_description)
    app.connect("html-page-context", link_figures)
    app.connect("html-page-context", mend_roles)
    app.connect("build-finished", name_toggles)
    app.connect("build-finished", drop_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
