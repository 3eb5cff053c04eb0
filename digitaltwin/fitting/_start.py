"""Where a fit starts from: the neutral shape from which identity is measured.

Three small objects for functions that choose the fit on a caller's behalf, such as
:func:`digitaltwin.create_avatar`. They hold no JAX arrays, so that command lines can make them before JAX is loaded.

Letters: v vertices.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float


@dataclass(frozen=True)
class MeanHead:
    """Start from the mean head of the model; the identity coefficients say how the person differs from it.

    Example:
        >>> MeanHead()
        MeanHead()
    """


@dataclass(frozen=True)
class GroupMeans:
    """Start from the mean of each of the model's groups in turn and keep the fit of the lowest energy.

    On a face detector's landmarks the winning group is seldom the person's (docs/accuracy.md).

    Example:
        >>> GroupMeans()
        GroupMeans()
    """


@dataclass(frozen=True, eq=False)
class Shape:
    """Start from a given neutral shape, such as a trained decoder's prediction for this person.

    Args:
        vertices: Neutral skin in the head frame, [v 3], in millimetres.

    Example:
        >>> from digitaltwin.head import load_head
        >>> Shape(load_head().mean).vertices.shape
        (2699, 3)
    """

    vertices: Float[Any, "v 3"]
    """Neutral skin in the head frame [mm]."""
