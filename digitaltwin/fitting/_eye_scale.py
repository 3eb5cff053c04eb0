"""The unit of the residuals: the distance of the outer eye corners in the image, W_eye (Eq. 1).

With ``(100 / W_eye)^2`` before the sum of squared pixels a residual is in percent of the eye distance, so the balance
of data and priors does not depend on the image's resolution. A turned head shows the distance foreshortened; the start
pose says by how much, and that is taken out.

Letters: k landmarks.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._unknowns import Unknowns, camera_of
from digitaltwin.geometry import project

_FRONTAL_COSINE = 0.3  # a pose turned further than this gives no scale that could be trusted


def residual_scale(fitter: Fitter, landmarks: Float[Array, "k 3"], photo: Photo, start: Unknowns) -> Float[Array, " k"]:
    """``(100 / W_eye) sqrt(w_k)`` [1/px]; as printed, ``sqrt(100 w_k / W_eye)``.

    The outer eye corners in the photo measure W_eye if both were seen; the start pose's projection of the given
    shape's does otherwise.
    """
    camera = camera_of(photo.focal_px, photo.principal_point_px, start)
    corners = jnp.array(fitter.eye_corners)
    predicted = project(camera, landmarks[corners])
    both_seen = jnp.all(photo.weights[corners] > 0.0)
    left, right = jnp.where(both_seen, photo.landmarks[corners], predicted)
    cosine = jnp.maximum(jnp.hypot(camera.rotation[0, 0], camera.rotation[1, 0]), _FRONTAL_COSINE)
    share = 100.0 * cosine / jnp.maximum(jnp.linalg.norm(left - right), 1e-3)
    if not fitter.config.squared_eye_scale:
        share = jnp.sqrt(share)
    seen = photo.weights > 0.0
    return jnp.where(seen, share * jnp.sqrt(jnp.where(seen, photo.weights, 1.0)), 0.0)  # the root's slope at 0 is inf
