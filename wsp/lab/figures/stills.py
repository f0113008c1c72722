"""Stills: one figure, drawn once for the page and once for a phone, as SVG that follows the theme.

``show`` takes the place of ``plt.show``. A notebook gets the SVG, a picture beside it for viewers
that show no SVG, and the alt text for those that show neither. The book's extension (book/_ext/stills.py)
puts the SVG itself into the page.

One unit is one pixel: a figure's inches are set so that a size of type in points is its size in
pixels on the page.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

INK = "#374151"
WIDE, NARROW = 656, 342  # pixels: the column of the book, and that of a phone of 390
SMALLEST_TYPE = 11  # pixels
MANY_POINTS = 500  # more are drawn as a picture inside the SVG
SHORTEST_ALT = 20  # characters; shorter ones say what kind of thing it is, not what it shows
INCH = 72  # units of matplotlib's SVG in an inch

#: What a reader's theme may change besides the ink: the paper and the colors (warm-starts.css, stills.css).
#:
#: :meta hide-value:
THEMED = {
    "#ffffff": "var(--pst-color-background,#fff)",
    "#6b7280": "var(--arm-initial,#6b7280)",
    "#0072b2": "var(--arm-cold,#0072b2)",
    "#d55e00": "var(--arm-warm,#d55e00)",
    "#00805d": "var(--arm-shrink-perturb,#00805d)",
    "#7b3294": "var(--job-mgmt,#7b3294)",
    "#a6761d": "var(--job-supp,#a6761d)",
    "#1b9e9e": "var(--job-tech,#1b9e9e)",
}
# Verdana is as wide as DejaVu Sans, with which the figure was laid out.
FONTS = "DejaVu Sans,Verdana,sans-serif"
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NARROW_BEGINS = '<svg class="narrow" display="none"'

#: What must be placed anew when a figure changes its size, such as labels pushed apart.
_settlers: WeakKeyDictionary[Figure, list[Callable[[], None]]] = WeakKeyDictionary()


def settle(figure: Figure, place: Callable[[], None]) -> None:
    """Call `place` now, and again whenever `show` has changed the size of the figure."""
    place()
    _settlers.setdefault(figure, []).append(place)


def show(alt: str, columns: int | None = None, compare: object = None) -> None:
    """Show the current figure as a still, and close it.

    Parameters
    ----------
    alt : str
        What the figure shows, in words, for those who do not see it: at least 20 characters,
        and no measured number typed by hand.
    columns : int, optional
        Panels beside each other on a phone. Default: one where the figure has a row of up to four,
        half of them where it has a longer row; panels in several rows stay as they are.
    compare : object, optional
        What a test compares instead of the drawing, where this is not the same on all processors:
        something whose repr is. Default: the drawing is compared, letter by letter.

    Raises
    ------
    ValueError
        If there is no figure, or `alt` says too little.

    Notes
    -----
    The height is that of the figure in inches, at 72 pixels an inch; the width is that of the
    book's column, whatever the figure's. On a phone, panels side by side stand one below the
    other, type is 11 pixels, and long titles wrap. Clouds of more than 500 points become a picture.
    """
    from IPython.display import display  # only where something is shown

    if len(alt.strip()) < SHORTEST_ALT:
        raise ValueError(f"alt must say what the figure shows, in {SHORTEST_ALT} characters or more: {alt!r}")
    if not plt.get_fignums():
        raise ValueError("there is no figure to show; draw one first, for example with plt.subplots()")
    figure = plt.gcf()
    still, picture = draw(figure, alt, columns, compare)
    plt.close(figure)
    display(  # type: ignore[no-untyped-call]
        {
            "image/svg+xml": still,
            "image/png": base64.b64encode(picture).decode(),
            "text/plain": alt,
        },
        metadata={"image/png": {"width": WIDE}},
        raw=True,
    )


def draw(figure: Figure, alt: str, columns: int | None = None, compare: object = None) -> tuple[str, bytes]:
    """The SVG of a figure, with the one for phones hidden in it, and a PNG. Changes the figure's size."""
    height = round(INCH * figure.get_figheight())
    resize(figure, WIDE, height, 1.0)
    wide, themed = body(figure, alt + " wide"), follows_theme(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    before, after = stack(figure, columns)
    resize(figure, NARROW, round(height * (1 if before == after else 0.8 * after / before)), 0.85)
    narrow = body(figure, alt + " narrow")
    small_height = round(INCH * figure.get_figheight())
    shared = f'color="{INK}" fill="currentColor" font-family="{FONTS}" stroke-linejoin="round"'
    paper = '<rect class="paper" width="100%" height="100%" fill="#fff"/>'
    kept = "" if themed else " on-paper"
    instead = "" if compare is None else f'data-compare="{_hash(repr(compare))}" '
    still = (
        f'<svg xmlns="{SVG[1:-1]}" xmlns:xlink="{XLINK[1:-1]}" class="wide{kept}" role="img" '
        f'{instead}width="{WIDE}" height="{height}" viewBox="0 0 {WIDE} {height}" {shared}>\n'
        f"<title>{escape(alt)}</title>\n{paper}{wide}\n"
        f'{NARROW_BEGINS} width="{NARROW}" height="{small_height}" viewBox="0 0 {NARROW} {small_height}">'
        f"\n{paper}{narrow}\n</svg>\n</svg>"
    )
    return still, picture.getvalue()


def resize(figure: Figure, width: int, height: int, scale: float) -> None:
    """Give a figure its size in pixels, and its type a size that can be read."""
    figure.set_size_inches(width / INCH, height / INCH)
    figure.draw_without_rendering()  # makes the labels of the ticks
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            for tick in axis.get_major_ticks():  # new ticks take the size of these
                size = max(SMALLEST_TYPE, scale * float(tick.label1.get_fontsize()))
                axis.set_tick_params(labelsize=size)
                break
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontsize(max(SMALLEST_TYPE, scale * float(text.get_fontsize())))
    for ax in figure.axes:
        for words in (ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label):  # type: ignore[attr-defined]
            words.set_wrap(True)
    for place in _settlers.get(figure, []):
        place()


def stack(figure: Figure, columns: int | None = None) -> tuple[int, int]:
    """Put panels below each other, as `show` says; return the number of rows before and after.

    Panels that are no simple grid stay where they are.
    """
    specs = [ax.get_subplotspec() for ax in figure.axes]
    grids = {id(spec.get_gridspec()): spec.get_gridspec() for spec in specs if spec is not None}
    grid = next(iter(grids.values()), None)
    if None in specs or grid is None or len(grids) > 1 or grid.nrows * grid.ncols != len(specs):
        return 1, 1
    if columns is None and grid.nrows > 1:
        return grid.nrows, grid.nrows
    columns = columns or (1 if len(specs) <= 4 else (len(specs) + 1) // 2)
    rows = -(-len(specs) // columns)
    if (rows, columns) == (grid.nrows, grid.ncols):
        return rows, rows
    places = figure.add_gridspec(rows, columns)
    first = figure.axes[0]
    for place, ax in enumerate(figure.axes):
        ax.set_subplotspec(places[divmod(place, columns)])
        if columns == 1 and ax is not first:
            if first.get_shared_y_axes().joined(first, ax):
                ax.tick_params(labelleft=True)
                ax.set_ylabel(ax.get_ylabel() or first.get_ylabel())
            if grid.nrows > 1:
                ax.tick_params(labelbottom=True)
    return grid.nrows, rows


def follows_theme(figure: Figure) -> bool:
    """Whether dark paper suits a figure: a map whose colors are a picture keeps its light one."""
    maps = [mesh for ax in figure.axes for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    return not maps and not any(ax.images for ax in figure.axes)


def body(figure: Figure, salt: str) -> str:
    """What a figure draws, as the inside of an SVG element: the same text for the same data.

    `salt` makes the names in it its own, because all stills of a page share one space of names.
    """
    figure.patch.set_visible(False)
    for ax in figure.axes:
        ax.patch.set_visible(ax.get_facecolor()[:3] != (1.0, 1.0, 1.0))
        for cloud in ax.collections:
            points = len(np.atleast_1d(cloud.get_offsets())) if isinstance(cloud, PathCollection) else 0
            cells = cloud.get_array() if isinstance(cloud, QuadMesh) else None
            cloud.set_rasterized(points > MANY_POINTS or (cells is not None and cells.size > MANY_POINTS))
    text = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(text, format="svg", dpi=2 * INCH, metadata={"Date": None, "Creator": None})
    figure.patch.set_visible(True)
    named, source = _renamed(text.getvalue(), salt)
    drawn = ElementTree.fromstring(source)
    for group in drawn.iter(f"{SVG}g"):
        _share_style(group)
    colors = THEMED if follows_theme(figure) else {}
    return "".join("".join(_written(child, named, colors)) for child in drawn)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _renamed(source: str, salt: str) -> tuple[set[str], str]:
    """Number the names that are used; return them, and the drawing with them.

    matplotlib makes names from coordinates with all their bits, and the last ones differ between runs.
    """
    own = f"s{_hash(salt)[:8]}"
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#(\w+)', source))
    names = {name: f"{own}-{number}" for number, name in enumerate(used)}
    for name, new in names.items():
        source = re.sub(rf"\b{name}\b", new, source)
    return set(names.values()), source


def _share_style(group: ElementTree.Element) -> None:
    """Say once for a cloud of points how they look, instead of at every point."""
    styles = {child.get("style") if child.tag == f"{SVG}use" else None for child in group}
    if len(group) > 1 and len(styles) == 1 and None not in styles and "style" not in group.attrib:
        group.set("style", group[0].attrib["style"])
        for child in group:
            del child.attrib["style"]


def _written(node: ElementTree.Element, named: set[str], colors: dict[str, str]) -> Iterator[str]:
    """A part of the drawing, written short: no groups without a meaning, no names nobody uses."""
    tag = node.tag.removeprefix(SVG)
    if tag in ("metadata", "style"):
        return
    inside = [piece for child in node for piece in _written(child, named, colors)]
    attributes = dict(_attributes(node, named, colors))
    if tag == "defs" and not inside:
        return
    if tag == "g" and not attributes:
        yield from inside
        return
    words = escape(node.text) if tag in ("text", "tspan") and node.text else ""
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    yield f"\n<{tag}{written}"
    yield f">{words}{''.join(inside)}</{tag}>" if words or inside else "/>"


def _attributes(
    node: ElementTree.Element, named: set[str], colors: dict[str, str]
) -> Iterator[tuple[str, str]]:
    for key, value in node.attrib.items():
        key = key.replace(XLINK, "xlink:")
        if key == "id" and value not in named:
            continue
        if key == "style":
            value = _style(value, colors)
        elif key == "transform":
            value = re.sub(r"^rotate\(-?0 .*?\)$", "", value)
            value = value if "matrix" in value or "scale" in value else _rounded(value, 1)
        elif key == "xlink:href" and value.startswith("data:"):
            yield "data-digest", digest(value)
        elif key not in ("xlink:href", "clip-path", "id"):
            value = _rounded(value, 1)
        if value:
            yield key, escape(value, {'"': "&quot;"})


def _rounded(numbers: str, digits: int) -> str:
    """Every number in a text to so many digits; lines of a path are joined."""

    def one(match: re.Match[str]) -> str:
        return f"{float(match[0]):z.{digits}f}".rstrip("0").removesuffix(".")

    return " ".join(re.sub(r"-?\d+\.\d+(?:e-?\d+)?", one, numbers).split())


def _style(style: str, colors: dict[str, str]) -> str:
    """A style without the font, which the whole still shares, and with the theme's colors."""
    kept = []
    for part in style.split(";"):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "font":
            weight = re.match(r"(bold|[5-9]00)\b", value)
            kept += ["font-weight:700"] if weight else []
            kept += ["font-style:italic"] if re.search(r"\b(italic|oblique)\b", value) else []
            size = re.search(r"[\d.]+px", value)
            key, value = "font-size", size[0] if size else ""
        if key in ("fill", "stroke"):
            value = "currentColor" if colors and is_ink(value) else colors.get(value, value)
        if key not in ("", "font-family", "image-rendering"):  # browsers smooth pictures by themselves
            kept.append(f"{key}:{value if 'opacity' in key else _rounded(value, 2)}")
    return ";".join(kept)


def is_ink(color: str) -> bool:
    """Black, the ink and other dark grays, in which lines and words are drawn.

    Examples
    --------
    >>> is_ink(INK), is_ink("#000000"), is_ink("#0072b2"), is_ink("#9ca3af"), is_ink("none")
    (True, True, False, False, False)
    """
    if not re.fullmatch("#[0-9a-f]{6}", color):
        return False
    channels = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return max(channels) < 0x60 and max(channels) - min(channels) <= 0x20


def digest(picture: str) -> str:
    """A name for what a picture inside an SVG shows, the same on every processor.

    Its bytes depend on how it was compressed, and single pixels on the last bits of the data.
    So the mean color of every block of 8 x 8 pixels, in fiftieths, is what counts.
    """
    data = base64.b64decode(picture.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), dtype=float) / 255
    down, across = (8 * (side // 8) or side for side in pixels.shape[:2])
    step = 8 if min(down, across) >= 8 else 1
    blocks = pixels[:down, :across].reshape(down // step, step, across // step, step, 4).mean(axis=(1, 3))
    return hashlib.sha256(np.rint(50 * blocks).astype(np.uint8).tobytes()).hexdigest()[:16]
