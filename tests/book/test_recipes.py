"""Five lines for a framework, as the page shows them: each is run as it stands.

With the real package where it is installed, else with a small stand-in of its documented layout.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from torch import nn

from helpers import ROOT
from wsp import shrink_perturb_

PAGE = ROOT / "book" / "ten_questions.ipynb"
RECIPE = re.compile(r"^```\{code-block\} python\n:name: recipe-([\w-]+)\n\n(.*?)^```$", re.M | re.S)


def recipes() -> dict[str, str]:
    """Name → code, from the page."""
    cells = nbformat.read(PAGE, as_version=4).cells
    story = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return dict(RECIPE.findall(story))


RECIPES = recipes()


def there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Put a module in the place of a package that is not installed."""
    module = types.ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def run(name: str, **given: Any) -> dict[str, Any]:
    """Run a recipe; what it defined."""
    exec(compile(RECIPES[name], f"recipe-{name}", "exec"), given)
    return given


def build(seed: int | None = 0, tracked: bool = False) -> nn.Sequential:
    if seed is not None:
        torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(8)] if tracked else []
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_process(folder: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def expected(old: nn.Module, **how: Any) -> dict[str, torch.Tensor]:
    """The trick by itself, with the generator of the recipes."""
    model = build()
    model.load_state_dict(old.state_dict())
    shrink_perturb_(model, 0.5, 0.01, generator=torch.Generator().manual_seed(0), **how)
    return model.state_dict()


def assert_alike(found: nn.Module, wanted: dict[str, torch.Tensor]) -> None:
    state = found.state_dict()
    assert set(state) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, msg=name)


def is_halved(now: torch.Tensor, before: torch.Tensor, noise: float = 0.05) -> bool:
    return bool((now - before / 2).abs().max() < noise) and not torch.equal(now, before)


# ---------------------------------------------------------------- the frameworks


class Callback:
    """What a callback of Lightning inherits."""


class LightningTrainer:
    """The order of a fit: set up by the callbacks, then optimizers, then steps."""

    def __init__(self, max_epochs: int, callbacks: list[Any]) -> None:
        self.max_epochs, self.callbacks = max_epochs, callbacks

    def fit(self, module: Any, rows: Any) -> None:
        for callback in self.callbacks:
            callback.setup(self, module, "fit")
        optimizer = module.configure_optimizers()
        for _ in range(self.max_epochs):
            for batch in rows:
                optimizer.zero_grad()
                module.training_step(batch, 0).backward()
                optimizer.step()


def lightning_module(base: type) -> Any:
    class Module(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = build()
            self.began: dict[str, torch.Tensor] = {}

        def training_step(self, batch: Any, place: int) -> Any:
            if not self.began:
                self.began = {name: value.clone() for name, value in self.network.state_dict().items()}
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    return Module()


@pytest.mark.filterwarnings("ignore")
def test_lightning(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    rows = [(torch.randn(4, 6), torch.tensor([0, 1, 2, 0]))]
    base: type = nn.Module
    if there("pytorch_lightning"):
        import pytorch_lightning as pl

        base = pl.LightningModule
        rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*rows[0]), 4)  # type: ignore[assignment]
    else:
        pretend(monkeypatch, "pytorch_lightning", Callback=Callback, Trainer=LightningTrainer)
    module, old = lightning_module(base), build(1)
    torch.save(
        {"state_dict": {f"network.{name}": value for name, value in old.state_dict().items()}}, "old.ckpt"
    )
    run("lightning", module=module, rows=rows)
    for name, value in expected(old).items():
        torch.testing.assert_close(module.began[name], value, msg="shrunk before the first step")


class HuggingFaceTrainer:
    """Trains the model that it is given; resumes nothing unless it is told to."""

    def __init__(self, model: nn.Module, args: Any, train_dataset: Any) -> None:
        self.model = model

    def train(self, resume_from_checkpoint: Any = None) -> None:
        assert resume_from_checkpoint is None


@pytest.mark.filterwarnings("ignore")
def test_transformers(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    old = transformers.BertForSequenceClassification(config)
    old.save_pretrained("old")
    args = None
    rows = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(0)}]
    if there("accelerate"):
        args = transformers.TrainingArguments(
            "out", max_steps=1, learning_rate=0.0, use_cpu=True, report_to=[], disable_tqdm=True
        )
    else:
        real = transformers.AutoModelForSequenceClassification
        pretend(
            monkeypatch, "transformers", AutoModelForSequenceClassification=real, Trainer=HuggingFaceTrainer
        )
    model = run("transformers", args=args, rows=rows)["model"]
    monkeypatch.undo()
    again = transformers.BertForSequenceClassification.from_pretrained(folder / "start")
    before, embedding = old.state_dict(), "bert.embeddings.word_embeddings.weight"
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], msg=name)
        if value.dim() > 1 and name != embedding:
            assert is_halved(value, before[name], 0.02), name
    assert torch.equal(again.state_dict()[embedding][0], before[embedding][0]), "the padding row"


class Average(nn.Module):
    """timm's average of the weights: a copy of the network that it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)


def test_timm(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    try:
        import timm  # needs a torchvision that fits, so being there is not enough

        make = partial(timm.create_model, "resnet18", num_classes=10)
        first, tracked, batches = "conv1.weight", "bn1", [torch.randn(4, 3, 64, 64)]
    except (ImportError, RuntimeError):

        def load_checkpoint(model: nn.Module, path: str, use_ema: bool = True) -> None:
            found = torch.load(path, weights_only=True)
            model.load_state_dict(found["state_dict_ema" if use_ema else "state_dict"])

        make = partial(build, None, tracked=True)
        models = types.SimpleNamespace(load_checkpoint=load_checkpoint)
        pretend(monkeypatch, "timm", models=models, create_model=lambda name, num_classes: make())
        pretend(monkeypatch, "timm.utils", ModelEmaV3=Average)
        first, tracked, batches = "0.weight", "1", [torch.randn(9, 6)]
    old, average = make(), make()
    torch.save({"state_dict": old.state_dict(), "state_dict_ema": average.state_dict()}, "old.pth.tar")
    made = run("timm", batches=batches)
    now = made["model"].state_dict()
    assert is_halved(now[first], average.state_dict()[first])
    assert now[f"{tracked}.num_batches_tracked"] == 1, "measured once more, on one batch"
    torch.testing.assert_close(made["ema"].module.state_dict()[first], now[first])


class Lora(nn.Module):
    """A frozen layer with a low-rank update, under the names that PEFT gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(6, 8).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 8, bias=False)})

    def update(self) -> torch.Tensor:
        return self.lora_B["default"].weight @ self.lora_A["default"].weight  # type: ignore[operator, return-value]


@pytest.mark.filterwarnings("ignore")
def test_peft(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def update_of(model: nn.Module) -> torch.Tensor:
        weights = dict(model.named_parameters())
        [first] = [value for name, value in weights.items() if "lora_A" in name]
        [second] = [value for name, value in weights.items() if "lora_B" in name]
        return (second @ first).detach().clone()

    base: nn.Module = build()
    if there("peft"):
        import peft

        made = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], init_lora_weights=False))
        made.save_pretrained("adapter")
        before, base = update_of(made), build()
    else:
        layer = Lora()
        before = layer.update().detach()

        class PeftModel:
            @staticmethod
            def from_pretrained(base: nn.Module, name: str, is_trainable: bool = False) -> nn.Module:
                assert is_trainable, "else everything is frozen"
                return layer

        pretend(monkeypatch, "peft", PeftModel=PeftModel)
    frozen = {name: value.clone() for name, value in base.state_dict().items()}
    model = run("peft", base=base)["model"]
    torch.testing.assert_close(update_of(model), before / 2)
    both = Lora()
    whole = both.update().detach()
    shrink_perturb_(both, 0.5, 0.0)
    torch.testing.assert_close(both.update(), whole / 4, msg="why the page says: B alone")
    for name, value in base.state_dict().items():
        plain = name.replace("base_layer.", "")
        assert "lora" in name or torch.equal(value, frozen[plain]), name


class Dfl(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)


class Detector(nn.Module):
    """As Ultralytics' networks: a fixed layer among the others; saved in half precision, all frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Module()
        self.head.dfl = Dfl()


def test_ultralytics(folder: Path) -> None:
    network = Detector().half().requires_grad_(False)
    torch.save(
        {"epoch": 99, "model": None, "ema": network, "optimizer": {"state": {}}, "train_args": {}}, "old.pt"
    )
    run("ultralytics")
    start = torch.load("start.pt", weights_only=False)
    made = start["ema"] or start["model"]  # as their loader looks for it
    assert is_halved(made.model[0].weight, network.model[0].weight.float())  # type: ignore[union-attr, operator]
    assert torch.equal(made.head.dfl.conv.weight.flatten(), torch.arange(16.0))
    assert start["optimizer"] is None and start["epoch"] == -1 and start["train_args"] == {}


class SkorchNet:
    """Initialize builds module and optimizer; fit initializes, partial_fit does not."""

    def __init__(self) -> None:
        self.fits = 0

    def initialize(self) -> SkorchNet:
        self.module_ = build(3)
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=0.0)
        return self

    def load_params(self, f_params: str) -> None:
        self.module_.load_state_dict(torch.load(f_params, weights_only=True))

    def partial_fit(self, X: torch.Tensor, y: torch.Tensor) -> None:
        self.fits += 1


@pytest.mark.filterwarnings("ignore")
def test_skorch(folder: Path) -> None:
    old = build(1)
    torch.save(old.state_dict(), "old.pt")
    net: Any = SkorchNet()
    if there("skorch"):
        import skorch

        net = skorch.NeuralNetClassifier(
            build, criterion=nn.CrossEntropyLoss, lr=0.0, max_epochs=1, verbose=0, train_split=None
        )
    X, y = torch.randn(6, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(7)
    run("skorch", net=net, X=X, y=y)
    assert is_halved(net.module_[0].weight, old[0].weight)
    assert torch.equal(net.module_[0].bias, old[0].bias)


@pytest.mark.filterwarnings("ignore")  # what compiling imports is deprecated by itself
def test_compile(folder: Path) -> None:
    old, model = build(1), build()
    torch.save({f"_orig_mod.{name}": value for name, value in old.state_dict().items()}, "old.pth")
    made = run("compile", model=model)
    assert is_halved(model[0].weight, old[0].weight)
    assert made["compiled"]._orig_mod is model


@pytest.mark.filterwarnings("ignore")
def test_ddp(one_process: None) -> None:
    model = build(1)
    wanted = expected(model)
    made = run("ddp", model=model)
    assert_alike(made["model"].module, wanted)


@pytest.mark.filterwarnings("ignore")
def test_fsdp2(one_process: None) -> None:
    model = build(1)
    wanted = expected(model)
    made = run("fsdp2", model=model)
    whole = {name: value.full_tensor() for name, value in made["model"].state_dict().items()}  # type: ignore[union-attr, operator]
    for name, value in wanted.items():
        torch.testing.assert_close(whole[name], value, msg=name)
    held = {id(p) for group in made["optimizer"].param_groups for p in group["params"]}
    assert held == {id(p) for p in made["model"].parameters()}


def zero_3(model: nn.Module) -> Callable[..., contextlib.AbstractContextManager[None]]:
    """Parameters without elements here, as ZeRO-3 leaves them, and what brings them back for a while."""
    whole = {name: p.data.clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.ds_shape, p.ds_id = p.shape, id(p)  # type: ignore[attr-defined]
        p.data = torch.empty(0)

    @contextlib.contextmanager
    def gathered(params: list[nn.Parameter], modifier_rank: int | None = None) -> Iterator[None]:
        assert modifier_rank == 0, "else changes are lost"
        assert {id(p) for p in params} == {id(p) for p in model.parameters()}
        for name, p in model.named_parameters():
            p.data = whole[name]
        yield
        for name, p in model.named_parameters():
            whole[name], p.data = p.data, torch.empty(0)

    model.whole = whole  # type: ignore[assignment]
    return gathered


def test_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(1)
    wanted = expected(model)
    zero = types.SimpleNamespace(GatheredParameters=zero_3(model))
    copied: dict[str, torch.Tensor] = {}

    def initialize(model: Any, config: Any) -> tuple[Any, None, None, None]:
        copied.update({name: value.clone() for name, value in model.whole.items()})
        return model, None, None, None

    pretend(monkeypatch, "deepspeed", zero=zero, initialize=initialize)
    with pytest.raises(ValueError, match="GatheredParameters"):
        shrink_perturb_(model, generator=torch.Generator().manual_seed(0))
    run("deepspeed", model=model, config={})
    for name, value in wanted.items():
        torch.testing.assert_close(copied[name], value, msg=name)


def test_every_recipe_of_the_page_was_run() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(RECIPES) == tests - {"every_recipe_of_the_page_was_run"}
    assert all(len(code.splitlines()) <= 16 for code in RECIPES.values())
