"""A study small enough to see through: the square of every number, and sums on the way.

As a program it is the command line of the studies with this one in it:
``python toy.py toy --count 6 --slow 0.1 --out FILE``. Stopped by SIGTERM's harder sisters, it must
lose nothing that was finished.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from wsp.studies import catalog
from wsp.studies.__main__ import main
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, at_least_1


class Toy(Study):
    """``squares`` of all numbers; ``total``, the sum of the squares and of their cubes."""

    name, words, chapter, key = "toy", "squares of numbers", 1, "numbers"
    sums, same, chunk = ("total",), ("names",), 2

    def specification(
        self, *, count: int = 5, power: int = 2, slow: float = 0.0, fails_at: int = -1
    ) -> Content:
        """What to raise, and to what.

        Parameters
        ----------
        count : int
            So many numbers, from 0.
        power : int
            Of each.
        slow : float
            Seconds a number.
        fails_at : int
            The number at which it fails.
        """
        at_least_1(count=count)
        return {"format": "wsp toy 1", "count": count, "power": power, "slow": slow, "fails_at": fails_at}

    def units(self, spec: Content, content: Content | None, *, more: int = 0) -> Sequence[int]:
        """All numbers; once they are there, some more, as a study does that chooses first.

        Parameters
        ----------
        more : int
            So many more.
        """
        first = range(spec["count"])
        whole = content is not None and set(first) <= set(content["numbers"])
        return range(spec["count"] + more) if whole else first

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Raise them."""
        for number in units:
            time.sleep(spec["slow"])
            if number == spec["fails_at"]:
                raise ArithmeticError(f"no power of {number}")
            tick(1)
        squares = [number ** spec["power"] for number in units]
        total = [sum(squares), sum(number**3 for number in units)]
        yield {
            "numbers": list(units),
            "squares": squares,
            "at": {"total": total},
            "names": ["square", "cube"],
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last number."""
        return content["specification"], content["numbers"][-1:]

    def finish(self, spec: Content, content: Content) -> Content:
        """The largest square."""
        return content

    def as_text(self, content: Content) -> str:
        """The squares."""
        return f"squares {content['squares']}"


STUDY = Toy()

if __name__ == "__main__":
    catalog.STUDIES["toy"] = STUDY
    sys.exit(main())
