"""The site to take along: one zip of all pages, which reads from a folder, offline.

``{take-along}`` links to it. The zip does not hold itself, so the pages in it are
without that link, and its notebooks are without their pictures, which the pages show.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

NAME = "warm-starts.zip"
FOLDER = "warm-starts"
LEFT_OUT = {NAME, "objects.inv", ".buildinfo", ".nojekyll"}  # what only servers and builders read
LINK = '<p class="take-along">{before}<a href="{address}" download>{words}</a>{after}</p>'
LINKED = re.compile(r'<p class="take-along">.*?</p>\n?', re.S)


class TakeAlong(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        link = LINK.format(
            before="To read it offline, ",
            address="../" * self.env.docname.count("/") + NAME,
            words="take the whole site along",
            after=": unpack the zip and open <code>index.html</code>.",
        )
        return [nodes.raw("", link, format="html")]


def without_pictures(notebook: str) -> str:
    """The notebook with its outputs, but for those pictures of which it also holds the words.

    Examples
    --------
    >>> output = {"data": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}}
    >>> without_pictures(json.dumps({"cells": [{"outputs": [output]}]}))
    '{"cells": [{"outputs": [{"data": {"text/plain": "<Figure>"}}]}]}'
    """
    content = json.loads(notebook)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/plain" in data:
                data.pop("image/png", None)
    return json.dumps(content, ensure_ascii=False)


def pack(site: Path) -> None:
    """Write the zip into the site, always the same for the same pages."""
    with zipfile.ZipFile(site / NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(site.rglob("*")):
            if not path.is_file() or path.name in LEFT_OUT:
                continue
            content = path.read_bytes()
            if path.suffix == ".html":
                content = LINKED.sub("", content.decode()).encode()
            elif path.suffix == ".ipynb":
                content = without_pictures(content.decode()).encode()
            entry = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(site).as_posix()}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def pack_site(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        pack(Path(app.outdir))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("take-along", TakeAlong)
    app.connect("build-finished", pack_site, priority=900)  # after whatever still changes pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
