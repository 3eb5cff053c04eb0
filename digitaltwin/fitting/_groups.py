"""The fit from the mean of each group of the head model.

Letters: v vertices, k landmarks, i identity coefficients, g groups.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.fitting._fit import fit
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import ImageSize
from digitaltwin.fitting._result import GroupFit
from digitaltwin.fitting._status import FitStatus
from digitaltwin.io._programs import stored_program
from digitaltwin.solvers._blas import call_with_single_blas_thread
from digitaltwin.types import InputError


def fit_groups(
    fitter: Fitter,
    landmarks: Float[Array, "k 2"] | Float[np.ndarray, "k 2"],
    image_size: ImageSize,
    **options: Any,
) -> GroupFit:
    """Fit from the mean shape of every group of the head model and keep the start with the lowest energy.

    Identity coefficients are measured from the start, so the right group leaves the least to explain. That holds for
    people near their group's mean and landmarks off by about 1 % of the eye distance. A face detector's are off by
    more: it then finds the group hardly more often than chance does, and :func:`fit` from ``fitter.mean`` comes nearer
    to the person (docs/accuracy.md).

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`, with ``fit_identity``.
        landmarks: As for :func:`fit`.
        image_size: Height and width [px].
        **options: The other options of :func:`fit`.

    Returns:
        The best fit, its group, and every group's energy.

    Raises:
        InputError: The fitter holds the identity, so that a group's mean would be the answer.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import make_fitter, predict_landmarks
        >>> from digitaltwin.geometry import Camera
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> fitter = make_fitter(head)
        >>> camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(640.0), jnp.array([320.0, 240.0]))
        >>> photo = predict_landmarks(fitter, camera, head.mean, jnp.zeros(52))
        >>> best = fit_groups(fitter, photo, (480, 640))
        >>> best.energies.shape, int(best.result.status)
        ((6,), 0)
    """
    if not fitter.config.fit_identity:
        raise InputError("fitter: fit_groups needs one made with fit_identity=True.")
    return call_with_single_blas_thread(_fit_all_groups, fitter, landmarks, image_size, options)


@stored_program
def _fit_all_groups(fitter: Fitter, landmarks: Array, image_size: Any, options: dict[str, Any]) -> GroupFit:
    """The compiled part of :func:`fit_groups`."""
    offsets = jnp.einsum("gi,ivx->gvx", fitter.group_identity, fitter.identity, precision=Precision.HIGHEST)
    one = partial(fit, fitter, landmarks=landmarks, image_size=image_size, **options)
    results = jax.vmap(one)(fitter.mean[None] + offsets)
    energies = jnp.where(results.status == FitStatus.OK, results.energies[:, -1], jnp.inf)
    best = jnp.argmin(energies)
    return GroupFit(jax.tree.map(lambda part: part[best], results), best, energies)
