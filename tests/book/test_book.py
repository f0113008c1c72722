"""The book keeps its own rules, and every rule can be broken."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book_rules as rules
import contents
import inline_stills
import tutorial_rules as tutorial
import warm_starts
from helpers import ROOT, Site
from measure_pages import stills_in

BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
PAGES = sorted(BOOK.glob("*.md"))

READ = {path: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
# Cells that are still too long -> their lines. The list may only shrink: shorten a cell, and take it out.
LONG_CELLS: dict[str, dict[str, int]] = {
    "evidence_07": {
        "cell-6": 45,
        "cell-7": 68,
        "cell-14": 59,
        "cell-19": 46,
        "findings": 46,
        "cell-21": 62,
        "cell-22": 62,
        "cell-32": 44,
    },
}

# Chapters that are still their own log. The list may only shrink.
OLD_FORM: set[str] = set()

CASES = [(rule, path) for rule in rules.EVERYWHERE for path in NOTEBOOKS if rule is not rules.code_is_short]
CASES += [(rule, path) for rule in rules.IN_CHAPTERS for path in CHAPTERS]
CASES += [(rule, path) for rule in tutorial.TUTORIAL for path in CHAPTERS if path.stem not in OLD_FORM]
MINUTES = {**dict.fromkeys(range(6, 13), 9), 13: 14}  # to read a chapter, at most
MINUTES_OF_PART_I = 40  # chapters 1 to 5 together


def test_there_are_chapters() -> None:
    assert CHAPTERS, f"no chapter in {BOOK}"


@pytest.mark.parametrize("rule, path", CASES, ids=[f"{rule.__name__}-{path.stem}" for rule, path in CASES])
def test_chapter(rule: rules.Rule, path: Path) -> None:
    assert not rule(READ[path])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_get_no_longer(path: Path) -> None:
    found, allowed = rules.long_cells(READ[path]), LONG_CELLS.get(path.stem, {})
    assert {name: lines for name, lines in found.items() if lines > allowed.get(name, 0)} == {}
    assert set(allowed) <= set(found), "these are short by now: take them out of LONG_CELLS"


def test_long_cells_are_those_of_chapters() -> None:
    assert set(LONG_CELLS) <= {path.stem for path in NOTEBOOKS}


def test_a_chapter_is_read_at_one_sitting() -> None:
    minutes = {int(path.stem[:2]): contents.read_chapter(path).minutes for path in CHAPTERS}
    old = {int(name[:2]) for name in OLD_FORM}
    assert sum(minutes[number] for number in range(1, 6)) <= MINUTES_OF_PART_I
    too_long = {n: found for n, found in minutes.items() if n not in old and found > MINUTES.get(n, 99)}
    assert too_long == {}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page(path: Path) -> None:
    words = path.read_text()
    assert not rules.typed_numbers_in(words) + rules.alt_text_in_markdown(words)


# Every rule can fail -------------------------------------------------------------------


def good_chapter() -> rules.Notebook:
    """A chapter that keeps every rule."""
    title = "Two bars; cold is the higher one"
    still = {"image/svg+xml": f"<svg><title>{title}</title></svg>", "image/png": "iVBORw0KGgo="}
    picture = new_output("display_data", data=still | {"text/plain": title})
    exercise = (
        "```{{exercise}}\n:label: ex-{0}\nTry it.\n```\n\n```{{solution-start}} ex-{0}\n:class: dropdown\n```"
    )
    glued_gap = new_output(
        "display_data",
        data={"application/papermill.record/text/plain": "'1.0 points (0.5 to 1.5)'"},
        metadata={"scrapbook": {"name": "gap"}},
    )
    question = ":::{quiz} Which?\n- [ ] warm | No.\n- [x] cold | Yes.\n:::\n"
    end = "## What to remember\n\n" + "- A thing.\n" * 3 + "\n## Check yourself\n\n" + question * 3
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# Look\n\n:::{div} opening\n**What is there?** Two bars.\n\nNeeds chapter 1.\n:::\n\n"
                "The article reports {quoted}`77.50 % <pureai2021>`, with 200 rows and $37.5$.\n\n"
                "Cold leads by {told}`a point <lead|1>`, in general."
            ),
            new_markdown_cell(
                "## Run\n\nWe got {glue:text}`cold:.2f` %, 95 % intervals, and `77.50 %` in code."
            ),
            new_code_cell(
                "print(1)",
                execution_count=1,
                outputs=[new_output("stream", name="stdout", text="1\n"), glued_gap],
            ),
            new_code_cell(
                f"figures.show({title!r})",
                execution_count=2,
                outputs=[picture],
                metadata={
                    "tags": ["hide-input"],
                    "jupyter": {"source_hidden": True},
                },
            ),
            new_code_cell(
                "import time\n\nt = time.perf_counter()",
                execution_count=3,
                metadata={"tags": ["nbval-ignore-output"]},
            ),
            new_markdown_cell(f"{end}\n\n## Exercises\n\n{exercise.format(1)}"),
            new_code_cell("2", execution_count=4),
            new_markdown_cell("```{solution-end}\n```"),
            new_markdown_cell(exercise.format(2)),
            new_code_cell("3", execution_count=5),
            new_markdown_cell("```{solution-end}\n```\n\n**Next:** chapter 2."),
        ]
    )


def say(words: str) -> Callable[[rules.Notebook], None]:
    """Spoil a chapter by adding these words to its text."""
    return lambda notebook: notebook["cells"].append(new_markdown_cell(words))


def before_the_end(words: str) -> Callable[[rules.Notebook], None]:
    """Spoil a chapter by adding these words to what is read first."""
    return lambda notebook: notebook["cells"].insert(2, new_markdown_cell(words))


def drop(words: str, instead: str = "") -> Callable[[rules.Notebook], None]:
    """Spoil a chapter by replacing these words."""

    def spoil(notebook: rules.Notebook) -> None:
        before = [cell["source"] for cell in notebook["cells"]]
        for cell in notebook["cells"]:
            cell["source"] = cell["source"].replace(words, instead)
        assert before != [cell["source"] for cell in notebook["cells"]], f"{words!r} is not there"

    return spoil


def add_output(kind: str, **fields: object) -> Callable[[rules.Notebook], None]:
    return lambda notebook: notebook["cells"][2]["outputs"].append(new_output(kind, **fields))


def edit(place: int, **fields: object) -> Callable[[rules.Notebook], None]:
    return lambda notebook: notebook["cells"][place].update(fields)


SPOILED: list[tuple[rules.Rule, Callable[[rules.Notebook], None]]] = [
    (rules.executed, edit(2, execution_count=None)),
    (rules.executed, edit(2, execution_count=7)),
    (rules.executed, add_output("error", ename="ValueError", evalue="no", traceback=[])),
    (rules.executed, add_output("stream", name="stderr", text="a warning")),
    (rules.no_local_paths, add_output("stream", name="stdout", text="saved in /home/ann/book/x.pth")),
    (rules.no_local_paths, add_output("execute_result", data={"text/plain": "PosixPath('/tmp/a/b')"})),
    (rules.no_local_paths, drop("print(1)", "open(r'C:\\Users\\ann\\x.csv')")),
    (rules.alt_text, add_output("display_data", data={"image/png": "iVBORw0KGgo="})),
    (rules.alt_text, add_output("display_data", data={"image/svg+xml": "<svg></svg>"})),
    (rules.alt_text, add_output("display_data", data={"image/svg+xml": "<svg><title>A plot</title></svg>"})),
    (rules.alt_text, edit(3, metadata={"mystnb": {"image": {"alt": "Two bars; cold is the higher one"}}})),
    (rules.alt_text, lambda n: n["cells"][3]["outputs"].append(n["cells"][3]["outputs"][0])),
    (rules.alt_text, add_output("display_data", data={"text/html": "<img src='x.png'>"})),
    (rules.alt_text, say("![](curve.png)")),
    (rules.alt_text, say("```{figure} curve.png\n:name: fig-curve\nIt rises.\n```")),
    (tutorial.answer_first, drop("**What is there?** Two bars.", "You look at two bars.")),
    (tutorial.answer_first, drop("## Run", "## Wait\n\n## Run")),
    (tutorial.ending, drop("## What to remember", "## Summary")),
    (tutorial.ending, drop("- A thing.\n- A thing.", "- A thing.")),
    (tutorial.ending, drop("{quiz} Which?", "{note} Which?")),
    (tutorial.ending, drop("**Next:**", "Then")),
    (tutorial.brief, before_the_end("word " * 1000)),
    (
        tutorial.brief,
        add_output("stream", name="stdout", text="of words that a cell prints there are many\n" * 120),
    ),
    (tutorial.few_intervals, before_the_end("So it is (1 to 2), (2 to 3), (3 to 4), (4 to 5).")),
    (tutorial.few_intervals, before_the_end("{glue:text}`gap` " * 4)),
    (tutorial.small_tables, before_the_end("| a |\n|---|\n" + "| 1 |\n" * 7)),
    (
        tutorial.small_tables,
        add_output("display_data", data={"text/html": f"<table><tbody>{'<tr></tr>' * 7}</table>"}),
    ),
    (tutorial.visible_code_stands_alone, edit(2, source="print(figures)")),
    (rules.exercises, drop("{exercise}", "{note}")),
    (rules.exercises, drop("{solution-start} ex-2", "{solution-start} ex-3")),
    (rules.exercises, drop(":class: dropdown", ":class: open")),
    (rules.exercises, lambda n: n["cells"].insert(6, new_markdown_cell("```python\n2\n```"))),
    (rules.typed_numbers, say("It reached 77.50 % in the end.")),
    (rules.typed_numbers, say("It reached 80 percent.")),
    (rules.typed_numbers, say("It reached eighty percent.")),
    (rules.typed_numbers, say("Better by 2.5 points.")),
    (rules.typed_numbers, say("It got 31 of 40 right.")),
    (rules.typed_numbers, say("The accuracy was 77.50 again.")),
    (rules.typed_numbers, say("This took 12 seconds.")),
    (rules.typed_numbers, say("It is 200 times faster.")),
    (rules.typed_numbers, say("```{note}\nIt reached 70 %.\n```")),
    (rules.typed_numbers, edit(3, source='figures.show("Cold reaches 77.5 percent, warm less")')),
    (rules.typed_numbers, edit(3, metadata={"mystnb": {"figure": {"caption": "Cold reaches 77.5 percent"}}})),
    (rules.outputs_compared, edit(2, metadata={"tags": ["nbval-skip"]})),
    (rules.outputs_compared, edit(2, metadata={"tags": ["nbval-ignore-output"]})),
    (rules.outputs_compared, edit(2, source="# NBVAL_IGNORE_OUTPUT\nprint(1)")),
    (rules.code_fits, drop("print(1)", f"print({'1' * 90})")),
    (rules.code_is_short, edit(2, source="print(1)\n" * 26)),
    (rules.code_is_short, edit(3, source="print(1)\n" * 41)),
    (rules.folded, edit(2, metadata={"tags": ["remove-input"]})),
    (rules.folded, edit(2, metadata={"tags": ["hide-cell"], "jupyter": {"outputs_hidden": True}})),
    (rules.folded, edit(2, metadata={"jupyter": {"source_hidden": True}})),
]


@pytest.mark.parametrize(
    "rule", rules.EVERYWHERE + rules.IN_CHAPTERS + tutorial.TUTORIAL, ids=lambda rule: rule.__name__
)
def test_good_chapter_passes(rule: rules.Rule) -> None:
    assert not rule(good_chapter())
    assert any(rule is spoiled for spoiled, _ in SPOILED), "no test shows that this rule can fail"


@pytest.mark.parametrize(
    "rule, spoil", SPOILED, ids=[f"{rule.__name__}-{number}" for number, (rule, _) in enumerate(SPOILED)]
)
def test_spoiled_chapter_fails(rule: rules.Rule, spoil: Callable[[rules.Notebook], None]) -> None:
    chapter = copy.deepcopy(good_chapter())
    spoil(chapter)
    assert rule(chapter)


# The book as a whole -------------------------------------------------------------------


def test_contents_list_every_page() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [toc["root"]]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            listed += [chapter["file"], *(section["file"] for section in chapter.get("sections", []))]
    there = {f"book/{path.stem}" for path in NOTEBOOKS + PAGES}
    assert len(listed) == len(set(listed))
    assert set(listed) == there
    numbers = [int(name[5:7]) for name in listed if re.match(r"book/\d\d_", name)]
    assert numbers == list(range(1, len(numbers) + 1)), "the site numbers chapters by their place"


@pytest.mark.parametrize(
    "stored, found, alike",
    [
        ("0.991914195122048", "0.9919141951220469", True),  # the last bits of a sum
        ("0.991914195", "0.991914196", False),
        ("31 of 40", "32 of 40", False),
        ("took 0.31 s", "took 12.5 s", True),
        ("77.50 %", "77.51 %", False),
        ('href="data:image/png;base64,iVB+/o="', 'href="data:image/png;base64,AAAA"', True),
        ('data-digest="0f3a"', 'data-digest="0f3b"', False),
        ('<svg data-compare="0f3a" width="1">\nM 1 2', '<svg data-compare="0f3a" width="1">\nM 1 3', True),
        ('<svg data-compare="0f3a">', '<svg data-compare="0f3b">', False),
    ],
)
def test_what_nbval_forgives(stored: str, found: str, alike: bool) -> None:
    """Rounding and the wall clock, and nothing else."""
    forgiven = (ROOT / "tests" / "wall_clock.cfg").read_text()
    for regex, replace in re.findall(r"^regex: (.*)\nreplace: (.*)$", forgiven, re.M):
        stored, found = re.sub(regex, replace, stored), re.sub(regex, replace, found)
    assert (stored == found) is alike


def test_what_make_sphinx_adds_is_pinned_and_newer() -> None:
    """It names only what differs from the pins of the book; what is the same comes from .venv."""
    pinned = (ROOT / "requirements.txt").read_text() + (ROOT / "constraints.txt").read_text()
    ours = dict(re.findall(r"^([\w.-]+)==([\d.]+)", pinned, re.M))
    lines = [x for x in (ROOT / "requirements-sphinx.txt").read_text().splitlines() if x and x[0] != "#"]
    theirs = dict(re.findall(r"^([\w.-]+)==([\d.]+)$", "\n".join(lines), re.M))
    assert len(theirs) == len(lines) and int(theirs["Sphinx"].split(".")[0]) >= 9
    for name, version in theirs.items():
        numbers = [[int(part) for part in v.split(".")] for v in (version, ours.get(name, "0"))]
        assert numbers[0] > numbers[1], f"{name}: {version} is not newer than {ours.get(name)}"


def test_stills_that_are_not_compared_are_few() -> None:
    """Only one page shows something that must differ between processors: chaos."""
    spared = [
        path.stem
        for path, notebook in READ.items()
        for _, cell in rules.cells(notebook, "code")
        for output in cell["outputs"]
        if "data-compare=" in output.get("data", {}).get("image/svg+xml", "")
    ]
    assert spared == ["checked"]


def test_requirements_are_pinned() -> None:
    pins: dict[str, str] = {}
    for name in ("requirements.txt", "constraints.txt"):
        for line in (ROOT / name).read_text().splitlines():
            line = line.split("#")[0].strip()
            if not line or line == "-c constraints.txt":
                continue
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
            assert match, f"{name}: {line!r} is not NAME==VERSION"
            key = re.sub(r"[-_.]+", "-", match[1]).lower()
            assert key not in pins, f"{name}: {match[1]} is pinned twice"
            pins[key] = match[2]
    assert pins["jupyter-book"] == "1.0.4.post1"  # 2.x cannot read _config.yml
    assert pins["sphinx-book-theme"] == "1.2.0"  # 1.3.0 has a dead sidebar button


def test_citation_file() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_repository(name: str) -> None:
    """Files that README and CONTRIBUTING name are there."""
    words = rules.CODE.sub(" ", rules.CODE_FENCE.sub(" ", (ROOT / name).read_text()))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", words) if "://" not in target]
    assert [target for target in targets if not (ROOT / target.split("#")[0]).exists()] == []


# What is gathered while the book is built ------------------------------------------------


def test_minutes_to_read(tmp_path: Path) -> None:
    """200 words take a minute, a figure or shown code half of one; exercises do not count."""
    words = " ".join(["word"] * 400)
    cells = [
        new_markdown_cell(f"# Title\n\n{words} {{term}}`word`"),
        new_code_cell("shown()"),
        new_code_cell("hidden()", metadata={"tags": ["remove-input"]}),
        new_markdown_cell(f"## Exercises\n\n{words}"),
        new_code_cell("solution()"),
    ]
    path = tmp_path / "01_short.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    assert contents.read_chapter(path).minutes == 3  # 2 + a bit for the title + 0.5


def test_every_chapter_says_what_it_is_about() -> None:
    for path in CHAPTERS:
        assert len(contents.read_chapter(path).about) > 40, path.stem


def test_the_landing_page_maps_every_chapter(site: Site) -> None:
    page = BeautifulSoup((site.html / "book" / "index.html").read_text(), "html.parser")
    entries = page.select(".chapters li")
    listed = [chapter for _, chapters in contents.read_parts(ROOT) for chapter in chapters]
    assert [entry.a["href"] for entry in entries] == [f"{chapter.name}.html" for chapter in listed]
    starts = [int(box.get("start", 1)) for box in page.select(".chapters ol")]
    assert starts[0] == 1 and all(start > 1 for start in starts[1:]), "numbers go on from part to part"
    for entry, chapter in zip(entries, listed):
        title = re.search(r"^# (.+)$", chapter.story, re.M)
        assert title and entry.a.text == title[1]
        cost = entry.select_one(".cost").text
        assert re.fullmatch(r"\d+ minutes to read, \d+ seconds to run", cost), cost
        assert len(entry.text) > len(title[1]) + len(cost) + 40, "what it is about"


def test_every_exercise_is_listed(site: Site) -> None:
    """The page of exercises leads to each of them, and gives its text."""
    folder = site.html / "book"
    page = BeautifulSoup((folder / "exercises.html").read_text(), "html.parser")
    listed = [chapter for _, chapters in contents.read_parts(ROOT) for chapter in chapters]
    there = {
        f"{chapter.name}.html#{box['id']}"
        for chapter in listed
        for box in BeautifulSoup((folder / f"{chapter.name}.html").read_text(), "html.parser").select(
            "div.exercise[id]"
        )
    }
    entries = [item for item in page.select(".exercises li") if item.select_one(":scope > p > a")]
    assert {place.split(".")[0] for place in there} == {chapter.name for chapter in listed}
    assert {entry.a["href"] for entry in entries} == there
    assert all(re.match(r"Exercise \d+\.\d+: .{20}", entry.text, re.S) for entry in entries)


# The built site ------------------------------------------------------------------------


def test_builds_without_a_warning(site: Site) -> None:
    complaints = [line for line in site.log.splitlines() if re.search("WARNING|ERROR|rror:", line)]
    assert site.returncode == 0, "\n".join(complaints or site.log.splitlines()[-30:])
    assert complaints == []


def test_builds_without_a_network(site: Site) -> None:
    if not site.offline:
        pytest.skip("this system lets us make no namespace without a network (unshare --net)")
    assert site.returncode == 0


def html_pages(folder: Path) -> dict[Path, BeautifulSoup]:
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in paths}


def broken_links(folder: Path, pages: dict[Path, BeautifulSoup]) -> list[str]:
    """Links to files or anchors of the site that are not there."""
    anchors = {
        path: {tag[key] for key in ("id", "name") for tag in page.find_all(attrs={key: True})}
        for path, page in pages.items()
    }
    faults = []
    for path, page in pages.items():
        for tag in page.find_all(["a", "link", "img", "script", "source"]):
            address = urlsplit(tag.get("href") or tag.get("src") or "")
            if address.scheme or address.netloc or not (address.path or address.fragment):
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            where = f"{path.relative_to(folder)} -> {address.path}#{address.fragment}"
            if not target.is_file():
                faults.append(f"{where}: no such file")
            elif address.fragment and unquote(address.fragment) not in anchors.get(
                target, {address.fragment}
            ):
                faults.append(f"{where}: no such anchor")
    return faults


def foreign_resources(folder: Path, pages: dict[Path, BeautifulSoup]) -> list[str]:
    """What a page would fetch from another host."""
    faults = []
    for path, page in pages.items():
        for tag in page.find_all(["script", "link", "img", "iframe", "source", "video", "audio"]):
            address = (
                tag.get("src") or (tag.get("href") if "canonical" not in tag.get("rel", []) else "") or ""
            )
            if re.match(r"(https?:)?//", address):
                faults.append(f"{path.relative_to(folder)}: {tag.name} {address}")
        for script in page.find_all("script", src=False):
            faults += [
                f"{path.relative_to(folder)}: inline script names {found}"
                for found in re.findall(r"https?://[^\s\"']*(?:unpkg|jsdelivr|cdn)[^\s\"']*", script.text)
            ]
    return faults


def nameless_pages(folder: Path, pages: dict[Path, BeautifulSoup]) -> list[str]:
    """Pages of the book without a language, title or description; pictures without words."""
    faults = []
    for path, page in pages.items():
        if path.parent.name != "book":
            continue
        name = path.relative_to(folder)
        if not page.html or page.html.get("lang") != "en":
            faults.append(f"{name}: no language")
        if not page.title or not page.title.text.strip():
            faults.append(f"{name}: no title")
        description = page.find("meta", attrs={"name": "description"})
        if not description or not 30 <= len(description["content"]) <= 160:
            faults.append(f"{name}: no description of 30 to 160 characters")
        for image in page.select("article img"):
            alt = image.get("alt", "")
            if not alt or re.search(r"\.(png|svg|jpe?g)$", alt):
                faults.append(f"{name}: {image['src']} has the alt text {alt!r}")
        for still in page.select("article .still svg"):
            if still.get("role") != "img" or not still.title or len(still.title.text) < rules.SHORTEST_ALT:
                faults.append(f"{name}: a still without role or title")
    return faults


@pytest.mark.parametrize("check", [broken_links, foreign_resources, nameless_pages], ids=lambda f: f.__name__)
def test_site(check: Callable[..., list[str]], site: Site) -> None:
    pages = html_pages(site.html)
    assert {path.stem for path in NOTEBOOKS + PAGES} <= {path.stem for path in pages}
    assert not check(site.html, pages)


@pytest.mark.parametrize(
    "check, spoiled",
    [
        (broken_links, '<a href="nowhere.html">x</a>'),
        (broken_links, '<a href="page.html#nothing">x</a>'),
        (broken_links, '<a href="#nothing">x</a>'),
        (foreign_resources, '<script src="https://example.org/x.js"></script>'),
        (foreign_resources, '<script>const u = "https://unpkg.com/thebe"</script>'),
        (nameless_pages, "<p>No title, no language, no description.</p>"),
        (nameless_pages, '<article><img src="x.png" alt="_images/3f2a.png"></article>'),
        (nameless_pages, '<article><div class="still"><svg role="img"></svg></div></article>'),
    ],
)
def test_site_checks_can_fail(check: Callable[..., list[str]], spoiled: str, tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    good = (
        '<html lang="en"><head><title>T</title><meta name="description" '
        'content="A page that says what it is about."></head><body id="here">'
        '<a href="#here">x</a> <a href="page.html#here">x</a> {}</body></html>'
    )
    page = tmp_path / "book" / "page.html"
    page.write_text(good.format(""))
    assert not check(tmp_path, html_pages(tmp_path))
    page.write_text(spoiled if check is nameless_pages and "article" not in spoiled else good.format(spoiled))
    assert check(tmp_path, html_pages(tmp_path))


def test_stills_are_numbered_figures_of_the_page(site: Site) -> None:
    """In the page itself, twice: for the column and for phones; with a caption and a number."""
    drawn = 0
    for path, page in html_pages(site.html).items():
        for still in page.select("article .still"):
            wide, narrow = still.find_all("svg")
            assert (wide["class"][0], narrow["class"][0]) == ("wide", "narrow"), path
            assert wide["width"] and narrow["height"] and wide.title.text == narrow.title.text
            figure = still.find_parent("figure")
            if figure is not None and "live" not in figure["class"]:  # one that moves has no number
                assert re.match(r"Fig\. \d+", figure.figcaption.text.strip()), path
            drawn += 1
        names = [tag["id"] for tag in page.select("article .still [id]")]
        assert len(names) == len(set(names)), path
    assert drawn > 30


def test_what_is_no_still_is_refused() -> None:
    with pytest.raises(ValueError, match="no title or no drawing for phones"):
        inline_stills.for_a_page("<svg></svg>")


def test_signatures_are_readable(site: Site) -> None:
    """No default is written out that is longer than what it explains."""
    pages = [BeautifulSoup(path.read_text(), "html.parser") for path in site.html.glob("book/api_*.html")]
    values = [
        value.get_text()
        for page in pages
        for value in page.select("dt.sig .default_value, dt.sig > .property")
    ]
    assert len(values) > 100 and [value for value in values if len(value) > 100] == []


def test_a_function_without_a_signature_is_left_alone() -> None:
    """Sphinx 9 asks about what a module merely imports, too."""
    with pytest.raises(ValueError):
        inspect.signature(max)  # written in C
    found = warm_starts.shorten_defaults(None, "function", "max", max, {}, "(x)", None)
    assert found == ("(x)", None)


def test_pages_are_small(site: Site) -> None:
    """A page weighs at most 300 KB without shared files and pictures."""
    sizes = {path.name: path.stat().st_size - stills_in(path) for path in site.html.glob("book/*.html")}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}
