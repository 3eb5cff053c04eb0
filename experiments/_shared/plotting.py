"""matplotlib for the commands that draw curves and maps, to files; it is no dependency of the package."""

import sys

try:
    import matplotlib
except ImportError:
    print("matplotlib: is not installed, and this command draws with it; pip install matplotlib.", file=sys.stderr)
    raise SystemExit(2) from None

matplotlib.use("Agg")  # before pyplot is loaded: no screen is needed

from matplotlib import colormaps  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import PolyCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

__all__ = ["Axes", "Figure", "PolyCollection", "colormaps", "plt"]
