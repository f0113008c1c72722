"""Warm Starts: new data have arrived; continue, start again, or shrink and perturb?

``wsp.shrink_perturb_`` is the trick. The modules around it are what the book
uses to find out what it is worth. Importing ``wsp`` loads no plotting library,
touches no network and no GPU.
"""

from wsp.perturb import perturbed_parameters, shrink_perturb_

__all__ = ["perturbed_parameters", "shrink_perturb_"]
