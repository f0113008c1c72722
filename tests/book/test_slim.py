"""What is cut from the built site, and the last touches to its pages: nothing that shows may go."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from sphinx.errors import ExtensionError

import pages
import slim
import tips

ICONS = (
    '{brands:{"file":[1,2,[],"f1","Mbrand"]},regular:{"file":[3,4,[],"f2","Mregular"]},'
    'solid:{"file":[384,512,[128196],"f15b","Msolid"],bars:[448,512,["navicon"],"f0c9","Mbars"]}}'
)


def names(page: str, script: str = "") -> set[str]:
    found = slim.Names()
    found.add_page(page)
    found.add_script(script)
    return found.found


PAGE = '<p class="a b" id="i">x</p><a href="#">y</a>'


@pytest.mark.parametrize(
    "rule",
    [
        "p{color:red}",
        ".a{color:red}",
        "#i{color:red}",
        "p.a>a:hover{color:red}",
        'p::before{content:"x"}',
        ".set-by-script .a{color:red}",
        ":not(.gone){color:red}",
        "[class*=gone]{color:red}",
        "[data-theme=dark] .a:is(.gone,.b){color:red}",
        "*{color:red}",
        ":root{--x:1}",
        "@media print{.a{color:red}}",
        "@supports (display:grid){.a{color:red}}",
        '@font-face{font-family:"F";src:url(f.woff)}p{font-family:F}',
        "@keyframes k{0%{top:0}50.5%{top:1px}}p{animation:k 1s}",
    ],
)
def test_what_can_match_is_kept(rule: str) -> None:
    def plain(css: str) -> str:
        return css.replace(" ", "").replace("\n", "")

    assert plain(slim.purge(rule, names(PAGE, "e.classList.add('set-by-script')"))) == plain(rule)


@pytest.mark.parametrize(
    "rule",
    [
        ".gone{color:red}",
        "#gone{color:red}",
        "video{color:red}",
        ".a .gone{color:red}",
        ".gone:not(.a){color:red}",
        "@media print{.gone{color:red}}",
        '@font-face{font-family:"G";src:url(g.woff)}',
        "@keyframes gone{0%{top:0}}",
        "/* a comment */",
    ],
)
def test_what_can_match_nothing_is_dropped(rule: str) -> None:
    assert slim.purge(rule, names(PAGE)) == ""


def test_of_a_list_of_selectors_the_useful_stay() -> None:
    assert slim.purge(".gone,.a , video , p{color:red}", names(PAGE)) == ".a,p{color:red}"


def test_pieces_of_pages_in_scripts_count() -> None:
    assert {"tip-class", "named"} <= names(r'{"a":"<dl class=\"tip-class\" id=\"named\">"}')


def test_icons_are_drawn_as_the_script_would() -> None:
    page = (
        '<head></head><i class="fas  fa-file fa-lg" data-mode="x"></i><span class="fa-solid fa-bars"></span>'
    )
    drawn = slim.draw_icons(page, ICONS)
    assert '<svg class="svg-inline--fa fa-file fa-lg" data-mode="x" aria-hidden="true"' in drawn
    assert 'viewBox="0 0 384 512"><path fill="currentColor" d="Msolid"/></svg>' in drawn
    assert 'd="Mbars"' in drawn and "CC BY 4.0" in drawn
    assert "<i" not in drawn and "<span" not in drawn


def test_an_icon_that_the_theme_lacks_stops_the_build() -> None:
    with pytest.raises(ExtensionError, match="nosuch"):
        slim.draw_icons('<i class="fas fa-nosuch"></i>', ICONS)


def test_scripts_wait_but_for_one() -> None:
    head = (
        '<link rel="preload" as="script" href="b.js" />\n'
        '<script src="a/documentation_options.js?v=1"></script>'
        '<script src="b.js"></script><script defer src="c.js"></script><script>let x = 1;</script>'
        '<script data-x="1" src="d.js"></script></head><body><script src="e.js"></script>'
    )
    wanted = head.partition("\n")[2].replace('<script src="b.js"', '<script defer src="b.js"')
    assert slim.defer_scripts(head) == wanted.replace("<script data-x", "<script defer data-x")


def test_style_sheets_are_addressed_by_their_content(tmp_path: Path) -> None:
    """A page that uses one more class must not meet the style sheet of yesterday in the cache."""
    static = tmp_path / "_static"
    static.mkdir()

    def build(page: str) -> str:
        (static / "theme.css").write_text(".a{color:red}.b{color:blue}")
        (tmp_path / "p.html").write_text(f'<head><link href="_static/theme.css?digest=1"></head>{page}')
        slim.slim(tmp_path)
        return (tmp_path / "p.html").read_text()

    before = build('<p class="a">')
    assert (static / "theme.css").read_text() == ".a{color:red}"
    after = build('<p class="a b">')
    assert before.split("css?v=")[1][:8] != after.split("css?v=")[1][:8]
    slim.slim(tmp_path)
    assert (tmp_path / "p.html").read_text() == after, "twice is once"


def test_pictures_get_their_size(tmp_path: Path) -> None:
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(pages.PNG + b"\0\0\0\rIHDR" + struct.pack(">II", 640, 480))
    picture = '<img alt="A" src="_images/a.png" />'
    odd = '<img src="_images/gone.png"/><img width="3" src="_images/a.png"/>'
    page = pages.size_pictures(picture + picture + odd, tmp_path)
    first, second, *others = page.split("<img ")[1:]
    assert first == 'alt="A" src="_images/a.png" width="640" height="480">'
    assert second == 'alt="A" src="_images/a.png" width="640" height="480" loading="lazy">'
    assert others == ['src="_images/gone.png"/>', 'width="3" src="_images/a.png"/>']


@pytest.mark.parametrize(
    "glued, written",
    [
        ("-0.28", "−0.28"),
        ("-0.00", "0.00"),
        ("+0.0 to +0.1", "0.0 to +0.1"),
        ("+0.03 (-0.10 to +0.16)", "+0.03 (−0.10\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}+0.16)"),
        ("CIFAR-10", "CIFAR-10"),
        ("1e-05", "1e-05"),
        ("10-20", "10-20"),
        ("2021-02-01", "2021-02-01"),
    ],
)
def test_numbers_are_written_as_people_do(glued: str, written: str) -> None:
    page = '<p>-1 <span class="pasted-text">{}</span></p>'
    assert pages.mend_numbers(page.format(glued)) == page.format(written)


def test_tips_keep_their_contents_alone() -> None:
    contents = '{"a[href=\\"g.html#x\\"]": "<p>A \\"tip\\"</p>"}'
    script = f"selector_to_html = {contents}\nskip_classes = []\nwindow.onload = 1;"
    assert tips.contents_only(script) == 'window.tips = {"g.html#x":"<p>A \\"tip\\"</p>"};\n'
    assert tips.contents_only(tips.contents_only(script)) == tips.contents_only(script)
    assert tips.contents_only("") == ""


def test_excerpts_are_words_in_their_sections() -> None:
    page = (
        '<nav>no</nav><article class="bd-article"><section id="s">'
        '<h1>T<a class="headerlink" href="#s">#</a></h1>'
        "<script>no()</script><p>Some <b>words</b>.</p></section></article>"
    )
    assert " ".join(pages.excerpt(page).split()) == '<section id="s"> T Some words. </section>'


def test_icon_fonts_keep_the_signs_that_are_named(tmp_path: Path) -> None:
    import pydata_sphinx_theme
    from fontTools.ttLib import TTFont

    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    shutil.copytree(theme / "vendor" / "fontawesome", tmp_path / "_static" / "vendor" / "fontawesome")
    face = "@font-face{font-family:F;src:url(vendor/fontawesome/webfonts/fa-solid-900.woff2) format(x)}"
    sheet = tmp_path / "_static" / "theme.css"
    rules = '.a{font-family:F;content:"\\f0f3";top:0}.b{content:"\uf058"}.gone{content:"\\f00c"}'
    sheet.write_text(face + rules)
    (tmp_path / "p.html").write_text('<p class="a b">')
    slim.slim(tmp_path)
    assert "fa-solid-900.woff) format" in sheet.read_text()
    left = list((tmp_path / slim.FONTS).iterdir())
    assert [path.name for path in left] == ["fa-solid-900.woff"] and left[0].stat().st_size < 5_000
    with TTFont(left[0]) as font:
        assert set(font.getBestCmap()) == {0xF0F3, 0xF058}


def test_tips_of_an_earlier_build_go(tmp_path: Path) -> None:
    folder = tmp_path / "_static" / "tippy"
    folder.mkdir(parents=True)
    for name in ("p.old.js", "p.new.js"):
        (folder / name).write_text("window.tips = {};")
    (tmp_path / "p.html").write_text('<script src="_static/tippy/p.new.js"></script>')
    slim.slim(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["p.new.js"]
