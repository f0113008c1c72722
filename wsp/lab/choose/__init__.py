"""Choose a start for a network of your own: a small sweep on rows held out, and what follows from it.

:func:`choose` tries starts, :func:`recommend` says in words what follows, :func:`plot` draws it,
:func:`start` makes the network to go on with. Networks that are no classifiers bring a score:
:func:`one_logit`, :func:`multi_label`, :func:`squared_error`, or a function of your own. The template
``book/templates/your_data.ipynb`` puts it all together.
"""

from wsp.lab.choose.chosen import Candidate, can_tell, cheapest, plot, recommend
from wsp.lab.choose.procedure import FOLDS, LAMDAS, SIGMAS, candidates, choose, split, start
from wsp.lab.choose.scores import multi_label, one_logit, right_class, score_rows, squared_error

__all__ = [
    "FOLDS",
    "LAMDAS",
    "SIGMAS",
    "Candidate",
    "can_tell",
    "candidates",
    "cheapest",
    "choose",
    "multi_label",
    "one_logit",
    "plot",
    "recommend",
    "right_class",
    "score_rows",
    "split",
    "squared_error",
    "start",
]
