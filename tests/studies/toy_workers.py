"""Workers as in the real table, made up: for tests where nobody has installed it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wsp.lab import workers

EDUCATION, JOBCLASS = ("1. school", "2. some college", "3. degree"), ("1. industrial", "2. information")


def made_up_workers(a_year: int, seed: int = 0) -> pd.DataFrame:
    """So many a year, in the order of the years; older and better educated ones earn more."""
    draw = np.random.default_rng(seed)
    count = a_year * len(workers.YEARS)
    age, education = draw.integers(18, 80, count), draw.integers(0, len(EDUCATION), count)
    education[: len(EDUCATION)] = range(len(EDUCATION))
    return pd.DataFrame(
        {
            "year": np.repeat(workers.YEARS, a_year),
            "age": age,
            "education": [EDUCATION[place] for place in education],
            "jobclass": [JOBCLASS[place] for place in draw.integers(0, 2, count)],
            "wage": 40 + age / 2 + 20 * education + draw.normal(0, 15, count),
        }
    )
