"""The old place of :mod:`experiments._shared.plotting`."""

from experiments._shared.plotting import Axes as Axes
from experiments._shared.plotting import Figure as Figure
from experiments._shared.plotting import PolyCollection as PolyCollection
from experiments._shared.plotting import colormaps as colormaps
from experiments._shared.plotting import plt as plt
