"""The rule by which measured differences become one recommendation. Frozen; see :mod:`wsp.studies.advice`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsp.lab.statistics import SMALL, Interval

CHEAPER = 0.9  # of a cold start's training: what counts as cheaper


@dataclass(frozen=True)
class Start:
    """A way to start.

    Attributes
    ----------
    key, words : str
    code : str
        Lines that make ``model`` the network to train, from ``build`` and the file ``old.pth``.
    shrinks : bool
        Whether running statistics have to be measured again.
    """

    key: str
    words: str
    code: str
    shrinks: bool = True


_LOAD = 'model = build()\nmodel.load_state_dict(torch.load("old.pth", weights_only=True))'
#: Every start that can be recommended, by key.
#:
#: :meta hide-value:
STARTS = {
    start.key: start
    for start in (
        Start("cold", "Start cold", "model = build()", shrinks=False),
        Start("warm", "Start warm", _LOAD, shrinks=False),
        Start(
            "shrink_perturb",
            "Shrink and perturb, lamda 0.5, sigma 0.01",
            f"{_LOAD}\nshrink_perturb_(model, lamda=0.5, sigma=0.01)",
        ),
        Start(
            "shrink_perturb_0.3",
            "Shrink and perturb, lamda 0.3, sigma 0.01",
            f"{_LOAD}\nshrink_perturb_(model, lamda=0.3, sigma=0.01)",
        ),
        Start(
            "official",
            "Shrink and perturb by the paper's rule, lamda 0.4, sigma 0.1",
            f"{_LOAD}\nshrink_perturb_(model, 0.4, 0.1, noise=build(), include=lambda name, p: True)",
        ),
        Start(
            "fresh_shrunk",
            "Start cold from halved weights",
            "model = build()\nshrink_perturb_(model, lamda=0.5, sigma=0.01)",
        ),
        Start(
            "fresh_shrunk_0.3",
            "Start cold from weights cut to 0.3",
            "model = build()\nshrink_perturb_(model, lamda=0.3, sigma=0.01)",
        ),
    )
}


@dataclass(frozen=True)
class Compared:
    """What was measured in one case.

    Attributes
    ----------
    minus_cold : dict
        Start → its accuracy minus a cold start's, in points. Not of every start: who was not compared
        cannot be recommended.
    cost : dict
        Start → its training as a share of a cold start's; empty where all train equally long.
    units : int
        Tables or splits behind the intervals.
    elsewhere : dict
        Another setting → the same differences there. Told, and without a say in the rule.
    """

    minus_cold: Mapping[str, Interval]
    cost: Mapping[str, float] = field(default_factory=dict)
    units: int = 0
    elsewhere: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What the rule made of it.

    Attributes
    ----------
    start : str
        Key of ``STARTS``.
    why : {"better", "cheaper", "default"}
    gain : Interval or None
        Over always starting cold; None where cold itself is recommended.
    warm : Interval or None
        Of a warm start, minus cold, where it was compared.
    cost : float
        Training, as a share of a cold start's.
    """

    start: str
    why: str
    gain: Interval | None
    warm: Interval | None
    cost: float


def decide(found: Compared) -> Decision:
    """Cold, unless another start is shown to be better, or shown to be hardly worse and cheaper.

    Examples
    --------
    >>> better, level, worse = Interval(0.7, 0.4, 1.0), Interval(0.1, -0.2, 0.4), Interval(-1.0, -1.5, -0.5)
    >>> decide(Compared({"warm": worse, "shrink_perturb": better})).start
    'shrink_perturb'
    >>> found = decide(Compared({"warm": level}, {"warm": 0.4}))
    >>> found.start, found.why
    ('warm', 'cheaper')
    >>> decide(Compared({"warm": level})).start, decide(Compared({"warm": worse}, {"warm": 0.4})).start
    ('cold', 'cold')
    """
    if unknown := set(found.minus_cold) - set(STARTS):
        raise ValueError(f"no start {sorted(unknown)}: choose from {', '.join(STARTS)}")
    leads = found.minus_cold

    def cost(start: str) -> float:
        return found.cost.get(start, 1.0)

    better = [start for start, lead in leads.items() if lead.low > 0]
    cheaper = [start for start, lead in leads.items() if lead.low > -SMALL and cost(start) <= CHEAPER]
    start, why = "cold", "default"
    if better:
        highest = max(leads[start].estimate for start in better)
        near = [start for start in better if leads[start].estimate > highest - SMALL]
        start, why = min(near, key=lambda key: (cost(key), -leads[key].estimate)), "better"
    elif cheaper:
        start, why = min(cheaper, key=cost), "cheaper"
    return Decision(start, why, leads.get(start), leads.get("warm"), cost(start))
