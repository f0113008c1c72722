"""The book keeps its own rules, and every rule can be broken."""

from __future__ import annotations

import copy
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
from conftest import ROOT, Site

BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
PAGES = sorted(BOOK.glob("*.md"))

READ = {path: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
CASES = [(rule, path) for rule in rules.EVERYWHERE for path in NOTEBOOKS]
CASES += [(rule, path) for rule in rules.IN_CHAPTERS for path in CHAPTERS]


def test_there_are_chapters() -> None:
    assert CHAPTERS, f"no chapter in {BOOK}"


@pytest.mark.parametrize("rule, path", CASES, ids=[f"{rule.__name__}-{path.stem}" for rule, path in CASES])
def test_chapter(rule: rules.Rule, path: Path) -> None:
    assert not rule(READ[path])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page(path: Path) -> None:
    words = path.read_text()
    assert not rules.typed_numbers_in(words) + rules.alt_text_in_markdown(words)


# Every rule can fail -------------------------------------------------------------------


def good_chapter() -> rules.Notebook:
    """A chapter that keeps every rule."""
    picture = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    exercise = (
        "```{{exercise}}\n:label: ex-{0}\nTry it.\n```\n\n```{{solution-start}} ex-{0}\n:class: dropdown\n```"
    )
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# Look\n\nThe article reports {quoted}`77.50 % <pureai2021>`, with 200 rows and $37.5$.\n\n"
                ":::{div} opening\n**In this chapter**\n: you look.\n\n**You will be able to**\n: see.\n\n"
                "**You need**\n: chapter 1.\n\n**Runs in**\n: {seconds}`01_retrain`.\n:::"
            ),
            new_markdown_cell(
                "## Run\n\nWe got {glue:text}`cold:.2f` %, 95 % intervals, and `77.50 %` in code."
            ),
            new_code_cell(
                "print(1)", execution_count=1, outputs=[new_output("stream", name="stdout", text="1\n")]
            ),
            new_code_cell(
                "plot()",
                execution_count=2,
                outputs=[picture],
                metadata={"mystnb": {"image": {"alt": "Two bars; cold is the higher one"}}},
            ),
            new_code_cell(
                "t = time.perf_counter()", execution_count=3, metadata={"tags": ["nbval-ignore-output"]}
            ),
            new_markdown_cell(exercise.format(1)),
            new_code_cell("2", execution_count=4),
            new_markdown_cell("```{solution-end}\n```"),
            new_markdown_cell(exercise.format(2)),
            new_code_cell("3", execution_count=5),
            new_markdown_cell(
                "```{solution-end}\n```\n\n## What to remember\n\n- A thing.\n\n**Next:** chapter 2."
            ),
        ]
    )


def say(words: str) -> Callable[[rules.Notebook], None]:
    """Spoil a chapter by adding these words to its text."""
    return lambda notebook: notebook["cells"].append(new_markdown_cell(words))


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
    (rules.alt_text, edit(3, metadata={})),
    (rules.alt_text, edit(3, metadata={"mystnb": {"image": {"alt": "A plot"}}})),
    (rules.alt_text, lambda n: n["cells"][3]["outputs"].append(n["cells"][3]["outputs"][0])),
    (rules.alt_text, add_output("display_data", data={"text/html": "<img src='x.png'>"})),
    (rules.alt_text, say("![](curve.png)")),
    (rules.alt_text, say("```{figure} curve.png\n:name: fig-curve\nIt rises.\n```")),
    (rules.parts, drop("**You need**", "Bring")),
    (rules.parts, drop("**In this chapter**", "**Runs in**")),
    (rules.parts, drop("## What to remember", "## Summary")),
    (rules.parts, drop("**Next:**", "Then")),
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
    (rules.typed_numbers, edit(3, metadata={"mystnb": {"image": {"alt": "Cold reaches 77.5 percent"}}})),
    (rules.outputs_compared, edit(2, metadata={"tags": ["nbval-skip"]})),
    (rules.outputs_compared, edit(2, metadata={"tags": ["nbval-ignore-output"]})),
    (rules.outputs_compared, edit(2, source="# NBVAL_IGNORE_OUTPUT\nprint(1)")),
    (rules.code_fits, drop("print(1)", f"print({'1' * 90})")),
]


@pytest.mark.parametrize("rule", rules.EVERYWHERE + rules.IN_CHAPTERS, ids=lambda rule: rule.__name__)
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
    ],
)
def test_what_nbval_forgives(stored: str, found: str, alike: bool) -> None:
    """Rounding and the wall clock, and nothing else."""
    forgiven = (ROOT / "tests" / "wall_clock.cfg").read_text()
    for regex, replace in re.findall(r"^regex: (.*)\nreplace: (.*)$", forgiven, re.M):
        stored, found = re.sub(regex, replace, stored), re.sub(regex, replace, found)
    assert (stored == found) is alike


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
    assert len(there) >= 2 * len(listed)
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
    page.write_text(spoiled if check is nameless_pages and "img" not in spoiled else good.format(spoiled))
    assert check(tmp_path, html_pages(tmp_path))


def test_signatures_are_readable(site: Site) -> None:
    """No default is written out that is longer than what it explains."""
    pages = [BeautifulSoup(path.read_text(), "html.parser") for path in site.html.glob("book/api_*.html")]
    lengths = {sig.get("id"): len(sig.get_text()) for page in pages for sig in page.select("dt.sig")}
    assert len(lengths) > 100 and {name for name, length in lengths.items() if length > 500} == set()


def test_pages_are_small(site: Site) -> None:
    """A page weighs at most 300 KB without shared files."""
    sizes = {path.name: path.stat().st_size for path in site.html.glob("book/*.html")}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}
