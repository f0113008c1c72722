"""Kinds of noise: one sigma for all weights, or each layer in the scale of its initialization.

Every kind is tried on the same old networks, with the same lamda, on the same fresh tables.
The code of Ash and Adams adds the parameters of a fresh network, and shrinks and perturbs
the biases too; the article adds normal noise of one sigma to the weights.

Rules, written before the run with seeds of their own:

- Question: does it matter which noise? Hypothesis from the run with seeds 0 and 1 on all tables: of small
  noise (a tenth of a new network's) no kind matters by half a point; of large noise it does.
- Comparisons, one joint family: the pairs of kinds that differ in one thing, named in chapter 8
  (:data:`COMPARISONS`, :func:`differences`).
- Protocol: *equal*, 500 epochs for all. Nothing is chosen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import draw_lanes, train_epochs
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, HALF, OLD_ROWS, random_network, stream
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.perturb import shrink_perturb_
from wsp.studies.engine import Tick
from wsp.studies.parts import Content, at_least_1
from wsp.studies.tables import ByTable, common, in_percent


def xavier_scale(network: MLP) -> list[float]:
    """The standard deviation with which each layer's weights are drawn when they are new.

    Examples
    --------
    >>> [round(scale, 2) for scale in xavier_scale(MLP())]
    [0.35, 0.32, 0.39]

    Source: Glorot and Bengio (2010), equation 12.
    """
    return [math.sqrt(2 / (layer.in_features + layer.out_features)) for layer in network.linears]


@dataclass(frozen=True)
class Kind:
    """What is done to the saved network.

    Attributes
    ----------
    lamda : float
    noise : {"none", "normal", "scaled", "fresh"}
        Nothing; normal noise of one standard deviation, the mean of :func:`xavier_scale`;
        normal noise of each layer's own; the weights of a fresh network.
    size : float
        By what the noise is multiplied: 1 is as large as a new network.
    biases : bool
        Whether the biases are shrunk (and perturbed) too. New biases are zero.
    """

    lamda: float
    noise: str
    size: float = 0.0
    biases: bool = False

    @property
    def key(self) -> str:
        """Its name in files and figures.

        Examples
        --------
        >>> Kind(0.4, "fresh", 0.1, biases=True).key
        '0.4, fresh 0.1, biases'
        """
        noise = f"{self.noise} {self.size:g}" if self.size else self.noise
        return f"{self.lamda:g}, {noise}" + (", biases" if self.biases else "")

    def start(self, saved: MLP, seed: int) -> MLP:
        """A changed copy of the saved network; the fresh one is that of a cold start."""
        network, generator = copy.deepcopy(saved), stream(seed, "noise")
        scales = xavier_scale(network)
        if self.noise == "normal":
            shrink_perturb_(network, self.lamda, self.size * sum(scales) / len(scales), generator=generator)
        elif self.noise == "scaled":
            for layer, scale in zip(network.linears, scales):
                shrink_perturb_(layer, self.lamda, self.size * scale, generator=generator)
        elif self.noise == "fresh":
            fresh = random_network(seed, "fresh weights")
            shrink_perturb_(network, self.lamda, self.size, noise=fresh)
        else:
            shrink_perturb_(network, self.lamda, 0.0)
        if self.biases:
            with torch.no_grad():
                for layer in network.linears:
                    layer.bias.mul_(self.lamda)
        return network


#: The kinds that the book compares. The paper's rule is "0.4, fresh 0.1, biases".
#:
#: :meta hide-value:
KINDS = {
    kind.key: kind
    for kind in (
        Kind(0.4, "none"),
        Kind(0.4, "none", biases=True),
        Kind(0.4, "normal", 0.1),
        Kind(0.4, "scaled", 0.1),
        Kind(0.4, "fresh", 0.1),
        Kind(0.4, "fresh", 0.1, biases=True),
        Kind(0.4, "normal", 1.0),
        Kind(0.4, "scaled", 1.0),
        Kind(0.4, "fresh", 1.0),
        Kind(0.4, "fresh", 1.0, biases=True),
        Kind(0.0, "none"),
        Kind(0.0, "none", biases=True),
        Kind(0.0, "fresh", 1.0),
    )
}

#: In what two kinds differ, and the two. The first edition named the same eight.
#:
#: :meta hide-value:
COMPARISONS = {
    "small: any noise at all": ("0.4, fresh 0.1", "0.4, none"),
    "small: a scale for each layer": ("0.4, scaled 0.1", "0.4, normal 0.1"),
    "small: uniform, not normal": ("0.4, fresh 0.1", "0.4, scaled 0.1"),
    "small: biases too, the paper's rule": ("0.4, fresh 0.1, biases", "0.4, fresh 0.1"),
    "large noise, not small": ("0.4, fresh 1", "0.4, fresh 0.1"),
    "large: a scale for each layer": ("0.4, scaled 1", "0.4, normal 1"),
    "large: uniform, not normal": ("0.4, fresh 1", "0.4, scaled 1"),
    "old biases under new weights": ("0, fresh 1", "cold"),
}


class Noise(ByTable):
    """``correct``: kind (and ``"cold"``) → test rows right, for each table a list over its seeds."""

    name, chapter = "noise", 8
    words = "kinds of noise: one sigma for all weights, or each layer's own scale"

    def specification(
        self,
        *,
        seeds: int = 2,
        first_epochs: int = ARMS["initial"].epochs,
        epochs: int = HALF,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each table's own
        first_epochs, epochs : int
            Of the old network, and of every retraining
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training
        """
        at_least_1(first_epochs=first_epochs, epochs=epochs)
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "kinds": list(KINDS),
            "first_epochs": first_epochs,
            "epochs": epochs,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        a_lane = OLD_ROWS * spec["first_epochs"] + (len(spec["kinds"]) + 1) * TRAIN_ROWS * spec["epochs"]
        return int(len(units) * spec["seeds"] * a_lane)

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """All kinds and a cold start on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)

        def fit(ensembles: Mapping[str, Ensemble], rows: int, order: str, epochs: int) -> None:
            orders, rate = orders_of([stream(seed, order) for seed in drawn.seeds]), spec["learning_rate"]
            for _ in train_epochs(ensembles, drawn.stacked, drawn.lanes, rows, orders, epochs, tick, rate):
                pass

        old = ensemble_of([random_network(seed, "first weights") for seed in drawn.seeds])
        fit({"old": old}, OLD_ROWS, "first order", spec["first_epochs"])
        saved = list(zip(old.networks(), drawn.seeds))
        ensembles = {"cold": ensemble_of([random_network(seed, "fresh weights") for seed in drawn.seeds])}
        for key in spec["kinds"]:
            ensembles[key] = ensemble_of([KINDS[key].start(network, seed) for network, seed in saved])
        fit(ensembles, TRAIN_ROWS, "order", spec["epochs"])
        right = {key: ensemble.measure(*drawn.test)[0] for key, ensemble in ensembles.items()}
        yield {
            "tables": list(units),
            "correct": {key: drawn.by_seed(counts) for key, counts in right.items()},
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, two kinds."""
        kinds = [kind for kind in content["specification"]["kinds"] if kind.endswith("1")][-2:]
        return content["specification"] | {"kinds": kinds}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Every kind as a line for people: accuracy, and points above cold."""
        cold = accuracy(content, "cold").mean()
        lines = [f"{'lamda, noise and its size':28s}{'%':>8s}{'- cold':>8s}"]
        for key in content["correct"]:
            mean = accuracy(content, key).mean()
            lines.append(f"{key:28s}{mean:8.2f}{mean - cold:+8.2f}")
        return "\n".join(lines)


STUDY = Noise()


def accuracy(found: Mapping[str, Any], key: str) -> Floats:
    """Test accuracy of a kind, or of ``"cold"``, in percent, one value a table."""
    return in_percent(found["specification"], found["correct"][key])


def differences(found: Mapping[str, Any]) -> dict[str, Interval]:
    """Each of :data:`COMPARISONS`, in points; intervals that hold for all of them at once."""
    return simultaneous(
        {what: accuracy(found, one) - accuracy(found, other) for what, (one, other) in COMPARISONS.items()}
    )
