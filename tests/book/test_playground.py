"""The playground: its random numbers, its arithmetic, its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import ROOT, Site
from playground import pack
from wsp.lab import employees
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, ARTICLE, MAX_SEED, SEED, random_network, rows_and_order, run_arms, stream
from wsp.lab.training import LEARNING_RATE, train
from wsp.perturb import shrink_perturb_
from wsp.studies import sweep

STATIC = ROOT / "book" / "_static"
SCRIPT = STATIC / "playground.js"
STARTS = ("cold", "warm", "shrink_perturb")
OTHER_SEEDS = (SEED + 1, MAX_SEED)
MANY = 20  # what the button says
PATIENCE = 1_200_000  # milliseconds: half a minute of work, on a machine that may be busy
JavaScript = Callable[..., Any]


# The pages, made by the directive ------------------------------------------------------

CONF = """
import sys
sys.path[:0] = [{root!r}, {extensions!r}]
project = "Playground"
extensions = ["myst_parser", "playground"]
html_theme = "basic"
html_static_path = ["_static"]
html_css_files = ["warm-starts.css"]
suppress_warnings = ["toc.not_included"]
"""
PAGES = {
    "index": """# All

```{playground}
:tour: warm 50 curves | cold 100 curves | shrink_perturb 50 weights

1. **Warm.** Press *Play*.
2. **Cold.** The same.
3. **The trick.** Look.
```

```{playground}
:starts: cold, warm
:start: warm
:controls: few
```
""",
    "without": "# Without\n\nNothing to play with.\n",
    "wrong": """# Wrong

```{playground}
:starts: cold warm
:start: shrink_perturb
```

```{playground}
:start: tepid
```

```{playground}
:tour: warm 50 curves | cold 50 weights

1. One card for two settings.
```
""",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small site with playgrounds, and what building it said."""
    source = tmp_path_factory.mktemp("playground")
    (source / "_static").mkdir()
    for path in (SCRIPT, STATIC / "playground.css", STATIC / "warm-starts.css"):
        shutil.copy(path, source / "_static")
    (source / "conf.py").write_text(CONF.format(root=str(ROOT), extensions=str(ROOT / "book" / "_ext")))
    for name, text in PAGES.items():
        (source / f"{name}.md").write_text(text)
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(source), str(source / "html")],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return source / "html", build.stderr


def test_loaded_where_needed(built: tuple[Path, str]) -> None:
    pages = {name: (built[0] / f"{name}.html").read_text() for name in PAGES}
    assert pages["index"].count("playground.js") == pages["index"].count("playground.css") == 1
    assert pages["index"].count('class="playground"') == 2
    assert pages["index"].count('class="playground-book"') == 1, "the tables are needed once"
    assert "<noscript><p>" in pages["index"]
    assert "playground." not in pages["without"]


def test_wrong_options_are_refused(built: tuple[Path, str]) -> None:
    complaints = built[1]
    assert "start 'shrink_perturb' is not among its starts" in complaints
    assert "tepid" in complaints  # MyST reports such an option and goes on without it
    assert "sets up 2 cards, but lists 1" in complaints
    assert (built[0] / "wrong.html").read_text().count('class="playground"') == 1


def book_on(page: str) -> str:
    return page.split('class="playground-book">')[1].split("</script>")[0]


def test_small(built: tuple[Path, str]) -> None:
    """Script, style and data together, as they are served: a twentieth of what a page may weigh."""
    data = book_on((built[0] / "index.html").read_text())
    served = [(built[0] / "_static" / name).read_bytes() for name in ("playground.js", "playground.css")]
    assert sum(map(len, served)) + len(data.encode()) <= 50_000
    assert len(SCRIPT.read_bytes()) + len(data.encode()) <= 50_000, "the script as it is written"


def test_too_wide_a_number_is_refused() -> None:
    """Packed columns have a fixed width; a table that does not fit must not be cut."""
    frame = employees.read(employees.find("employees_test.csv"))
    assert set(map(len, pack(frame).values())) == {40, 80, 120}
    for column, value in (("age", 100), ("income", 123_400), ("income", 54_150)):
        spoiled = frame.copy()
        spoiled.loc[0, column] = value
        with pytest.raises(ValueError, match="playground"):
            pack(spoiled)


# The arithmetic, in Node and in a browser ------------------------------------------------


@pytest.fixture(params=["node", "chromium"])
def javascript(request: pytest.FixtureRequest, built: tuple[Path, str]) -> Iterator[JavaScript]:
    """``run("(core, given) => ...", given)``; `given` holds the page's data as ``given.book``."""
    book = json.loads(book_on((built[0] / "index.html").read_text()))
    if request.param == "node":
        if shutil.which("node") is None:
            pytest.skip("no node found; the same runs in Chromium where there is one")
        yield lambda code, **given: run_in_node(code, given | {"book": book})
    else:
        page = request.getfixturevalue("browser").new_page()
        page.goto((built[0] / "without.html").as_uri())
        page.add_script_tag(path=SCRIPT)
        yield lambda code, **given: page.evaluate(
            f"given => ({code})(warmStarts, given)", given | {"book": book}
        )
        page.close()


def run_in_node(code: str, given: dict[str, Any]) -> Any:
    program = (
        f"const core = require({json.dumps(str(SCRIPT))});"
        "const given = JSON.parse(require('fs').readFileSync(0));"
        f"process.stdout.write(JSON.stringify(({code})(core, given)));"
    )
    done = subprocess.run(["node", "-e", program], input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close(found: list[float], wanted: torch.Tensor, within: float) -> bool:
    return torch.allclose(torch.tensor(found, dtype=torch.float64), wanted, rtol=0, atol=within)


RANDOM = """(core, { seed, sizes }) => {
  const one = new core.Twister(seed), order = new core.Twister(seed), mixed = new core.Twister(seed);
  return {
    uniform: Array.from({ length: 2000 }, () => one.uniform()),
    orders: [200, 100, 200, 1, 100].map(n => order.permutation(n)),
    normals: sizes.map(n => [...new core.Twister(seed).normals(n)]),
    mixed: [[...mixed.normals(60)], [mixed.uniform()], [...mixed.normals(18)], mixed.permutation(7)],
  };
}"""


@pytest.mark.parametrize("seed", [0, 1, 5 * SEED + 3, 5 * MAX_SEED + 4, 2**32 - 1])
def test_random_numbers_are_those_of_pytorch(seed: int, javascript: JavaScript) -> None:
    sizes = [16, 17, 30, 31, 32, 60, 100, 1000]
    found = javascript(RANDOM, seed=seed, sizes=sizes)

    def fresh() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def normals(n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.empty(n, dtype=torch.float64).normal_(generator=generator)

    assert found["uniform"] == torch.rand(2000, dtype=torch.float64, generator=fresh()).tolist()
    order = fresh()
    assert found["orders"] == [torch.randperm(n, generator=order).tolist() for n in (200, 100, 200, 1, 100)]
    for n, values in zip(sizes, found["normals"], strict=True):
        assert close(values, normals(n, fresh()), 1e-14), n
    mixed = fresh()  # one kind after the other, from the same stream
    expected = [
        normals(60, mixed),
        torch.rand(1, dtype=torch.float64, generator=mixed),
        normals(18, mixed),
        torch.randperm(7, generator=mixed).double(),
    ]
    for values, tensor in zip(found["mixed"], expected, strict=True):
        assert close(values, tensor, 1e-14)


def test_tables_are_encoded_alike(javascript: JavaScript) -> None:
    found = javascript("""(core, { book }) => {
      const { train, test } = core.readBook(book);
      return [train, test].map(t => [t.inputs.map(row => [...row]), t.labels]);
    }""")
    for (inputs, labels), table in zip(found, (employees.load_train(), employees.load_test()), strict=True):
        assert inputs == table.inputs.tolist()
        assert labels == table.labels.tolist()


FLAT = "network => network.layers.flatMap(l => [...l.weight, ...l.bias])"


def flat(network: MLP) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_starts(javascript: JavaScript) -> None:
    found = javascript(
        f"""(core, {{ book, seed }}) => {{
      const flat = {FLAT}, random = name => core.stream(book, seed, name);
      const fresh = () => new core.Network(book.sizes, random("fresh weights"));
      const noise = () => random("noise");
      return [flat(fresh()), flat(fresh().shrinkPerturb(0.5, 0.01, noise())),
              flat(fresh().shrinkPerturb(0.5, 0, noise())), flat(fresh().shrinkPerturb(1, 0, noise()))];
    }}""",
        seed=SEED,
    )
    settings = ((1.0, 0.0), (0.5, 0.01), (0.5, 0.0), (1.0, 0.0))
    for values, (lamda, sigma) in zip(found, settings, strict=True):
        network = random_network(SEED, "fresh weights")
        shrink_perturb_(network, lamda, sigma, generator=stream(SEED, "noise"))
        assert close(values, flat(network), 1e-15)


def test_gradients(javascript: JavaScript) -> None:
    found = javascript(
        """(core, { book, seed, batch }) => {
      const { inputs, labels } = core.readBook(book).train;
      const network = new core.Network(book.sizes, core.stream(book, seed, "fresh weights"));
      for (const i of batch) network.backward(inputs[i], labels[i]);
      return network.layers.flatMap(l => [...l.weightGradient, ...l.biasGradient]);
    }""",
        seed=SEED,
        batch=list(range(10)),
    )
    table, network = employees.load_train(), random_network(SEED, "fresh weights")
    logits = network(table.inputs[:10])
    torch.nn.functional.cross_entropy(logits, table.labels[:10], reduction="sum").backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    assert float(gradient.abs().max()) > 0.1
    assert close(found, gradient, 1e-12)


@pytest.mark.parametrize("arm", ["initial", "cold"])
def test_a_hundred_steps(arm: str, javascript: JavaScript) -> None:
    """The order of the rows, the batches, the learning rate and the arithmetic together."""
    table = employees.load_train()
    rows, order = rows_and_order(ARMS[arm], table, SEED)
    epochs = 1000 // len(rows.labels)
    found = javascript(
        f"""(core, {{ book, seed, arm, epochs }}) => {{
      const run = new core.Run(core.readBook(book), book.arms[arm], seed);
      for (const _ of run.trainUntil(epochs));
      return ({FLAT})(run.network);
    }}""",
        seed=SEED,
        arm=arm,
        epochs=epochs,
    )
    network = random_network(SEED, f"{ARMS[arm].start} weights")
    before = flat(network)
    train(network, rows, order, epochs=epochs, learning_rate=LEARNING_RATE)
    assert float((flat(network) - before).abs().max()) > 0.1
    assert close(found, flat(network), 1e-9)


# The page, in a browser ------------------------------------------------------------------


@pytest.fixture
def page(browser: Any, built: tuple[Path, str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto((built[0] / "index.html").as_uri())
    wait(tab)
    yield tab
    context.close()
    assert faults == []


def wait(page: Any, which: int = 0, task: str = "idle") -> None:
    page.wait_for_function(
        "([which, task]) => document.querySelectorAll('.playground')[which].playground.task === task",
        arg=[which, task],
        timeout=PATIENCE,
    )


def press(page: Any, name: str, which: int = 0) -> None:
    page.locator(".playground").nth(which).get_by_role("button", name=name, exact=True).click()


def choose(page: Any, start: str) -> None:
    page.locator(f".playground >> nth=0 >> input[value={start}]").check()
    wait(page)


def set_to(page: Any, key: str, value: float) -> None:
    """Move a slider by hand: the element, its value, and the events a reader causes."""
    slider = page.locator(".pg-sliders label", has_text=key).locator("input")
    slider.evaluate(
        """(slider, value) => {
      slider.value = value;
      for (const event of ["input", "change"]) slider.dispatchEvent(new Event(event));
    }""",
        value,
    )
    wait(page)


def status(page: Any) -> str:
    return str(page.locator(".pg-status").first.inner_text())


def numbers(page: Any) -> dict[str, list[str]]:
    """The page's own table, a list for each start."""
    first, *_ = tables(page).values()
    return {line[0].replace("shrink and perturb", "shrink_perturb"): line[1:] for line in first[1:]}


def tables(page: Any) -> dict[str, list[list[str]]]:
    """The page's tables, by their captions."""
    return dict(
        page.locator(".playground >> nth=0 >> table").evaluate_all("""all => all.map(table => [
      table.caption.textContent,
      [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))])""")
    )


@cache
def expected(seed: int) -> dict[str, tuple[int, int]]:
    """Right training and test rows of the article's arms, by PyTorch."""
    results = run_arms(employees.load_train(), employees.load_test(), seed, arms=ARTICLE)
    return {key: (result.train.correct, result.test.correct) for key, result in results.items()}


@pytest.mark.parametrize("seed", [SEED, *OTHER_SEEDS])
def test_a_seed_gives_the_counts_of_python(seed: int, page: Any) -> None:
    page.locator(".pg-bar input").first.fill(str(seed))
    page.keyboard.press("Enter")
    wait(page)
    for start in STARTS:
        choose(page, start)
        press(page, "To the end")
        wait(page)
        on_train, on_test = expected(seed)[start]
        assert f": {on_test} of 40 test rows right, {on_train} of 200 training rows, " in status(page)
    shown = numbers(page)
    assert int(shown["first network"][2]) == expected(seed)["initial"][1]
    for start in STARTS:
        assert (int(shown[start][1]), int(shown[start][2])) == expected(seed)[start]


def test_many_seeds(page: Any) -> None:
    """The counts of twenty seeds are those of the ensemble, and the page stays alive."""
    page.evaluate("() => { window.ticks = 0; setInterval(() => window.ticks++, 10); }")
    press(page, f"Run {MANY} seeds")
    wait(page, task="seeds")
    marks = "[...document.querySelectorAll('.pg-seeds svg > text')]"
    axis = f"{marks}.map(e => e.textContent + e.getAttribute('x'))"
    page.wait_for_function("document.querySelectorAll('.pg-seeds circle').length >= 8", timeout=PATIENCE)
    assert page.get_by_role("button", name="Stop").is_visible()
    assert 1 <= page.locator(".pg-bar progress").first.evaluate("bar => bar.value") < MANY
    assert f"of {MANY} seeds done" in page.locator(".pg-seeds figcaption").inner_text()
    before = page.evaluate(axis)
    wait(page)
    assert page.evaluate(axis) == before and len(before) > 4, "the axis keeps still"
    assert page.locator(".pg-bar progress").first.is_hidden()
    assert page.evaluate("window.ticks") > 100, "a page that trains in one piece has no time to tick"
    assert status(page).startswith(f"Cold over {MANY} seeds: against warm better in ")

    table, test = employees.load_train(), employees.load_test()
    counts: dict[str, list[int]] = {}

    def read(members: Any, epoch: int, ensemble: Any) -> None:
        for arm in members:
            if arm.epochs == epoch:
                counts[arm.key] = ensemble.measure(*test)[0].tolist()

    sweep.train_lanes([table], [(0, SEED + k) for k in range(MANY)], ARTICLE.values(), read)
    found = {
        key: page.evaluate("key => document.querySelector('.playground').playground.countsOf(key)", key)
        for key in ARTICLE
    }
    assert found == {key: counts[key] for key in ARTICLE}
    assert page.locator(".pg-seeds circle").count() == MANY * len(ARTICLE)
    assert numbers(page)["warm"][3:] == [
        str(MANY),
        f"{sum(counts['warm']) / MANY:.2f}",
        str(min(counts["warm"])),
        str(max(counts["warm"])),
    ]


def test_play_pause_step_reset(page: Any) -> None:
    epoch = "document.querySelector('.playground').playground.run.epoch"
    press(page, "Step")
    assert page.evaluate(epoch) == 1
    assert "epoch 1 of 1000" in status(page)
    press(page, "Play")
    page.wait_for_function(f"{epoch} > 5")
    press(page, "Pause")
    stopped = page.evaluate(epoch)
    page.wait_for_timeout(100)
    assert page.evaluate(epoch) == stopped < 1000
    assert f"epoch {stopped} of 1000" in status(page)
    press(page, "Reset")
    wait(page)
    assert page.evaluate(epoch) == 0
    assert "before" not in page.locator(".pg-curves svg").first.text_content()


def test_played_or_not_the_end_is_the_same(page: Any) -> None:
    set_to(page, "epochs", 50)
    press(page, "To the end")
    wait(page)
    at_once = status(page)
    press(page, "Play")  # a finished run starts anew
    wait(page, task="playing")
    wait(page)
    assert status(page) == at_once
    assert "before" not in page.locator(".pg-curves svg").first.text_content()


def test_keeping_everything_is_the_warm_start(page: Any) -> None:
    curve = "document.querySelector('.playground').playground.curve"
    choose(page, "warm")
    set_to(page, "epochs", 100)
    assert page.locator(".pg-sliders input").nth(1).is_disabled()
    press(page, "To the end")
    wait(page)
    warm = page.evaluate(curve)
    choose(page, "shrink_perturb")
    for key, value in (("lamda", 1), ("sigma", 0), ("epochs", 100)):
        set_to(page, key, value)
    press(page, "To the end")
    wait(page)
    assert page.evaluate(curve) == warm | {"key": "shrink_perturb"}


def test_every_drawing_has_its_numbers(page: Any) -> None:
    """What the drawings show stands in tables, too, and is what the network says."""
    set_to(page, "epochs", 50)
    press(page, "To the end")
    wait(page)
    shown = tables(page)
    _, curves, regions, *weights = shown
    assert curves == "Right answers while it trains" and regions.startswith("Prediction: women, anaheim")
    epochs, on_train, on_test = shown[curves]
    assert epochs == ["epoch", *map(str, range(0, 51, 5))]
    assert (on_train[-1], on_test[-1]) == tuple(numbers(page)["cold"][1:3])
    network = page.evaluate("document.querySelector('.playground').playground.run.network")
    for k, title in enumerate(weights):
        values = [float(value.replace("−", "-")) for line in shown[title][1:] for value in line[1:]]
        assert "-" not in "".join(value for line in shown[title][1:] for value in line[1:])
        wanted = network["layers"][k]["weight"]
        assert values == pytest.approx(wanted, abs=0.0051)
    rows = shown[regions]
    assert {job for line in rows[1:] for job in line[1:]} <= set(employees.JOBS)
    predicted = page.evaluate(
        """([income, age]) => {
      const { run, book } = document.querySelector('.playground').playground;
      const row = Float64Array.of(1, age / 100, 1, 0, 0, income / 100000);
      return book.jobs[run.network.predict(row)];
    }""",
        [int(rows[2][0]), int(rows[0][3])],
    )
    assert rows[2][3] == predicted
    assert page.locator(".playground >> nth=0 >> figure").count() == 4


def test_shrinking_shows_in_the_weights(page: Any) -> None:
    choose(page, "shrink_perturb")
    set_to(page, "sigma", 0)
    words = page.locator(".pg-weights figcaption").inner_text()
    now, saved = map(float, re.findall(r"\d+\.\d+", words))
    assert now == pytest.approx(saved / 2, abs=0.01)  # both are rounded
    assert saved > 0.5


def test_longer_training_goes_on(page: Any) -> None:
    """A run of 100 epochs is a run of 150 read at 100."""
    set_to(page, "epochs", 100)
    press(page, "To the end")
    wait(page)
    set_to(page, "epochs", 150)
    assert "100 of 150" in page.locator(".pg-result").first.inner_text()
    press(page, "To the end")
    wait(page)
    went_on = status(page)
    press(page, "Reset")
    wait(page)
    press(page, "To the end")
    wait(page)
    assert status(page) == went_on


def test_a_bad_seed_says_so_and_changes_nothing(page: Any) -> None:
    seed, field = "document.querySelector('.playground').playground.seed", page.locator(".pg-bar input").first
    complaint = page.locator(".playground >> nth=0 >> .pg-complaint")
    assert not complaint.is_visible()
    for bad in ("-1", "1.5", str(MAX_SEED + 1), ""):
        before = status(page)
        field.fill(bad)
        assert f"from 0 to {MAX_SEED}" in complaint.inner_text(), bad
        page.keyboard.press("Enter")
        assert page.evaluate(seed) == SEED and status(page) == before
        assert field.get_attribute("aria-invalid") == "true"
        where, beside = complaint.bounding_box(), field.bounding_box()
        assert 0 <= where["y"] - beside["y"] < 150, "it is said beside the field"
    field.fill(str(SEED + 1))
    assert not complaint.is_visible()
    page.keyboard.press("Enter")
    wait(page)
    assert page.evaluate(seed) == SEED + 1


SIZES = [{"viewport": {"width": 1400, "height": 900}},
         {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}]  # fmt: skip
GAME = "document.querySelector('.playground').playground"


@pytest.fixture(params=SIZES, ids=["desk", "phone"])
def screen(request: pytest.FixtureRequest, browser: Any, site: Site) -> Iterator[Any]:
    """The book's own page of the playground, scrolled so that Play is at hand."""
    context = browser.new_context(**request.param)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto((site.html / "book" / "playground.html").as_uri())
    wait(tab)
    tab.evaluate("document.querySelector('.pg-starts').scrollIntoView(); window.scrollBy(0, -60)")
    yield tab
    context.close()
    assert faults == []


def in_sight(page: Any, *selectors: str) -> None:
    """Each is seen whole, without scrolling."""
    tall = page.viewport_size["height"]
    for selector in selectors:
        box = page.locator(f"{selector}:visible").first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= tall, (selector, box)


def press_on(page: Any, selector: str) -> None:
    """With a finger where there is one, else with the mouse."""
    target = page.locator(f"{selector}:visible").first
    target.tap() if page.evaluate("navigator.maxTouchPoints") else target.click()


def test_what_is_pressed_and_what_moves_are_in_sight(screen: Any) -> None:
    play = ".pg-bar >> button:has-text('Play')"
    in_sight(screen, play, ".pg-curves .pg-stage", ".pg-sliders", ".pg-result")
    before = screen.evaluate("scrollY")
    press_on(screen, play)
    screen.wait_for_function(f"{GAME}.run.epoch > 5")
    in_sight(screen, ".pg-bar >> button:has-text('Pause')", ".pg-curves .pg-stage")
    assert screen.evaluate("scrollY") == before
    press_on(screen, ".pg-bar >> button:has-text('Pause')")
    for kind in ("regions", "weights", "seeds"):
        press_on(screen, f".pg-to-{kind}")
        in_sight(screen, play, f".pg-to-{kind}", f".pg-{kind} .pg-stage")


def drag(page: Any, slider: Any, ends: tuple[float, float]) -> Iterator[None]:
    """Drag a slider slowly, by finger or mouse; the caller looks after every move."""
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    xs = [box["x"] + box["width"] * (ends[0] + (ends[1] - ends[0]) * k / 6) for k in range(7)]
    if page.evaluate("navigator.maxTouchPoints"):
        session = page.context.new_cdp_session(page)
        for k, x in enumerate(xs):
            session.send(
                "Input.dispatchTouchEvent",
                {"type": "touchMove" if k else "touchStart", "touchPoints": [{"x": x, "y": y}]},
            )
            if k > 1:  # browsers wait for the second move to tell a drag from a tap
                yield
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    else:
        page.mouse.move(xs[0], y)
        page.mouse.down()
        for x in xs[1:]:
            page.mouse.move(x, y)
            yield
        page.mouse.up()
    yield


OPACITIES = "all => all.map(e => +e.getAttribute('fill-opacity'))"


def test_weights_follow_the_slider_while_it_is_dragged(screen: Any) -> None:
    press_on(screen, ".pg-starts label:has([value=shrink_perturb])")
    wait(screen)
    slider = screen.locator(".pg-sliders label", has_text="lamda").locator("input")
    sizes, saved = [], screen.evaluate(f"{GAME}.firsts.get({GAME}.seed).meanSize()")
    for _ in drag(screen, slider, (0.5, 0.95)):
        in_sight(screen, ".pg-sliders label:has-text('lamda')", ".pg-weights .pg-stage")
        words = screen.locator(".pg-weights figcaption").inner_text()
        sizes.append(float(re.findall(r"\d+\.\d+", words)[0]))
        shown = screen.locator(".pg-weights rect").evaluate_all(OPACITIES)
        assert sum(shown) / len(shown) == pytest.approx(sizes[-1] / 2, rel=0.25), "drawn, not only said"
        assert sizes[-1] == pytest.approx(float(slider.input_value()) * saved, abs=0.02)
    assert len(set(sizes)) >= 4 and sizes == sorted(sizes)


def test_regions_follow_the_slider(page: Any) -> None:
    choose(page, "shrink_perturb")
    picture, seen = "document.querySelector('.pg-regions canvas').toDataURL()", set()
    slider = page.locator(".pg-sliders label", has_text="lamda").locator("input")
    page.get_by_role("button", name="Prediction").first.click()
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(50)
        page.evaluate("document.querySelectorAll('.pg-figure')[1].classList.add('pg-beside')")
        page.evaluate(f"{GAME}.draw()")
        seen.add(page.evaluate(picture))
    assert len(seen) == 4


def test_a_change_while_playing_starts_over_and_says_so(page: Any) -> None:
    press(page, "Play")
    page.wait_for_function(f"{GAME}.run.epoch > 20")
    page.locator("input[value=warm]").first.check()
    page.wait_for_function(f"{GAME}.task === 'playing' && {GAME}.run.epoch > 0")
    assert "Start: warm: started over." in page.locator(".pg-result").first.inner_text()
    press(page, "Pause")
    assert "started over" not in page.locator(".pg-result").first.inner_text()


def test_the_tour_sets_things_up(page: Any) -> None:
    tour = page.locator(".playground >> nth=0 >> .pg-tour")
    assert page.locator(".playground-tour").is_hidden(), "the list is for those without JavaScript"
    assert tour.inner_text().startswith("Try it: 1 of 3")
    for start, epochs in (("warm", 50), ("cold", 100), ("shrink_perturb", 50)):
        tour.get_by_role("button", name="Set it up").click()
        wait(page)
        assert page.locator(f"input[value={start}]").first.is_checked()
        assert page.evaluate(f"{GAME}.arm.epochs") == epochs
        if start != "shrink_perturb":
            tour.get_by_role("button", name="Next").click()
    assert page.locator(".pg-weights").first.is_visible()
    assert tour.get_by_role("button", name="Next").is_disabled()


def test_keyboard(page: Any) -> None:
    page.locator("input[value=cold]").first.focus()
    page.keyboard.press("ArrowRight")
    wait(page)
    assert status(page).startswith("Warm, ")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "epoch 1 of 1000" in status(page)


def test_few_controls(page: Any) -> None:
    few = page.locator(".playground").nth(1)
    wait(page, 1)
    assert few.locator("input[type=radio]").evaluate_all("all => all.map(e => e.value)") == ["cold", "warm"]
    assert few.locator("input[value=warm]").is_checked()
    assert few.locator("input[type=range], .pg-weights, .pg-seeds").count() == 0
    press(page, "Step", 1)
    assert "epoch 1 of 1000" in few.locator(".pg-status").inner_text()
    assert "epoch 0 of 1000" in status(page), "the other one stands still"


def test_calm_on_request(browser: Any, built: tuple[Path, str]) -> None:
    """Who asks for reduced motion sees the start and the end of a run."""
    context = browser.new_context(reduced_motion="reduce")
    tab = context.new_page()
    tab.goto((built[0] / "index.html").as_uri())
    wait(tab)
    tab.evaluate("""() => {
      window.drawn = 0;
      const { curves } = document.querySelector('.playground').playground, draw = curves.draw.bind(curves);
      curves.draw = (...given) => { window.drawn++; draw(...given); };
    }""")
    press(tab, "Play")
    wait(tab)
    assert "epoch 1000 of 1000" in status(tab)
    assert tab.evaluate("window.drawn") == 1
    context.close()


def test_dark_mode_repaints(page: Any) -> None:
    ground = "document.querySelector('.pg-regions canvas').toDataURL()"
    light = page.evaluate(ground)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{ground} !== {json.dumps(light)}")


# axe-core leaves the text of drawings out. This gives each one's contrast to the page.
CONTRASTS = """() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map((value) => {
      value /= 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = document.createElement("i");
  page.style.color = "var(--ground)";
  document.querySelector(".playground").append(page);
  const ground = luminance(getComputedStyle(page).color);
  return [...document.querySelectorAll(".playground svg text")].map((text) => {
    const ink = luminance(getComputedStyle(text).fill);
    const [dark, bright] = [ink, ground].sort((a, b) => a - b);
    return [text.textContent, (bright + 0.05) / (dark + 0.05)];
  });
}"""


@pytest.mark.parametrize("theme, ground", [("light", "#fff"), ("dark", "#121212")])
def test_drawings_can_be_read(theme: str, ground: str, page: Any) -> None:
    page.evaluate(
        """([theme, ground]) => {
      document.documentElement.dataset.theme = theme;
      document.documentElement.style.setProperty("--pst-color-background", ground);
    }""",
        [theme, ground],
    )
    for start in ("cold", "warm", "shrink_perturb"):
        choose(page, start)
        press(page, "To the end")
        wait(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [(text, round(contrast, 2)) for text, contrast in contrasts if contrast < 4.5] == []
