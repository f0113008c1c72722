"""What came after shrink and perturb: each published rival in a file of its own.

:func:`dash_` and :func:`fire_` change a network once, when data have arrived, as
:func:`shrink_perturb_ <wsp.perturb.shrink_perturb_>` does. :func:`l2_init` bends the loss of the
training; :class:`Redo`, :class:`HareTortoise` and :class:`WeightClipping` are hooks between its steps;
:func:`add_layer_norm_` changes the architecture; :func:`fit_stopped` ends in time.
Written from the papers; where a paper leaves something open, the docstring says what we
took. :mod:`wsp.studies.field.contest` lets them meet.
"""

from wsp.lab.rivals.clipping import WeightClipping
from wsp.lab.rivals.dash import dash_
from wsp.lab.rivals.fire import fire_
from wsp.lab.rivals.hare_tortoise import HareTortoise
from wsp.lab.rivals.l2_init import l2_init
from wsp.lab.rivals.layer_norm import add_layer_norm_
from wsp.lab.rivals.redo import Redo, dormant, redo_, unit_layers
from wsp.lab.rivals.stopped import fit_stopped

__all__ = [
    "HareTortoise",
    "Redo",
    "WeightClipping",
    "add_layer_norm_",
    "dash_",
    "dormant",
    "fire_",
    "fit_stopped",
    "l2_init",
    "redo_",
    "unit_layers",
]
