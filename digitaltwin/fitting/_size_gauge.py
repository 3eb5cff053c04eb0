"""The size of a fitted head, which one photo does not tell from its distance.

Head and translation scaled together leave every projection unchanged. But the priors are in millimetres, and a smaller
head is corrected more cheaply (``tr(dP' A dP)`` falls with the square of the size), so the minimum lies at a head that
is a few percent too small. Where identity is unknown the size is therefore a gauge, fixed after the last step: the
whole fit is scaled by

    size(landmarks on P) / size(landmarks on the fitted neutral shape)          size = RMS distance from their centroid

over all landmarks. The contour's belong to it: of a neutral face they measure the outline, and with them the ratio
follows the face's own size more closely than without.

Letters: v vertices.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from digitaltwin.fitting._fitter import Fitter, points_on


def size_gauge(
    fitter: Fitter, shape: Float[Array, "v 3"], fitted: Float[Array, "v 3"], *, usable: Bool[Array, ""]
) -> Float[Array, ""]:
    """The factor that gives the fitted neutral shape the size of the given one; 1 where there is no telling."""
    gauge = _size(fitter, shape) / _size(fitter, fitted)
    return jnp.where(usable & jnp.isfinite(gauge) & (gauge > 0.0), gauge, 1.0)


def _size(fitter: Fitter, neutral: Float[Array, "v 3"]) -> Float[Array, ""]:
    """Root mean square distance of the landmarks on a neutral shape from their centroid [mm]."""
    points = points_on(fitter, neutral)
    centred = points - jnp.mean(points, axis=0, keepdims=True)
    return jnp.sqrt(jnp.mean(jnp.sum(centred**2, axis=1)))
