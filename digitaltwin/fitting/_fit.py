"""The fit of a head to the landmarks of one photo (the paper's section 4.2, with the corrections named below).

Letters: v vertices, k landmarks, e expressions, u coefficients that are unknown (expressions, then identity).

    P_F = P + sum_u c_u B_u + dP                      c = (beta, z - z_0): expressions, and identity beyond P's own
    E   = (100 / W_eye)^2 sum_k w_k |project(P_F; q, t, f_s)_k - y_k|^2                                       Eq. 1
        + tr(dP' A dP),    A = omega_c (L'WL + lambda W)                                                      Eq. 2
        + omega_r ( sum ((beta - mu) / sigma)^2 + sum hinge(beta; 0, 1)^2 / sigma^2 + lambda_q |q|^2 + lambda_f s^2 )
        + omega_i sum ((z - z_0) / sigma_z)^2                                                                 Eq. 3

W_eye is the distance of the outer eye corners in the image, without the start pose's foreshortening: with it inside
the square (the paper prints it outside) the balance of the terms is the same at every resolution. ``f_s = exp(s)``
stays positive, and ``log^2 f_s`` is ``s^2``. mu are the expression coefficients detected in the photo, and the hinge
keeps expressions near [0, 1], where the shapes were made. The prior's L acts on dP alone (the paper's on last
iteration's expressions too, so that its steps minimise no single energy: ``FitConfig.lagged_laplacian``).

The way of the data: a caller's arguments become an ``Observation``, that becomes a ``Photo`` whose values are safe and
in the energy's units (:mod:`digitaltwin.fitting._observation`), and the steps compute with it
(:mod:`digitaltwin.fitting._minimise`). Landmarks see dP through k points, and it is eliminated exactly:
:mod:`digitaltwin.fitting._elimination`. Those on the contour slide: before every step
:mod:`digitaltwin.fitting._contour` says what they are on the skin.

Where identity is unknown the head's size is a gauge: :mod:`digitaltwin.fitting._size_gauge`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.fitting._correspondences import neutral_points
from digitaltwin.fitting._eye_scale import residual_scale
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._minimise import minimise
from digitaltwin.fitting._observation import (
    ImageSize,
    Observation,
    Scalar,
    as_floats,
    check_shapes,
    make_observation,
    photo_of,
)
from digitaltwin.fitting._result import FitResult, make_result
from digitaltwin.fitting._start_pose import given_start, start_unknowns
from digitaltwin.fitting._unknowns import Unknowns, all_finite, with_photo_axis, without_photo_axis
from digitaltwin.io._programs import stored_program
from digitaltwin.solvers._blas import call_with_single_blas_thread


def fit(
    fitter: Fitter,
    shape: Float[Array, "v 3"] | Float[np.ndarray, "v 3"],
    landmarks: Float[Array, "k 2"] | Float[np.ndarray, "k 2"],
    image_size: ImageSize,
    *,
    scores: Float[Array, " e"] | Float[np.ndarray, " e"] | None = None,
    focal_px: Scalar | None = None,
    principal_point_px: Float[Array, " 2"] | Float[np.ndarray, " 2"] | None = None,
    weights: Float[Array, " k"] | Float[np.ndarray, " k"] | None = None,
    init: Unknowns | None = None,
) -> FitResult:
    """Fit pose, focal scale, expression, identity and a correction field to one photo's landmarks.

    It minimises Eq. 1 to 3 of the paper's section 4.2 by ``FitConfig.iterations`` Gauss-Newton steps; docs/fitting.md
    derives them. The function is pure: ``vmap`` it over photos, or see :func:`~digitaltwin.fitting.fit_batch`. Trouble
    in the data is reported in ``status`` and stays within its photo. Derivatives go through the steps; EPnP's pose
    counts as a constant, which changes the derivative at convergence by 0.2 % (the pose takes the foreshortening out of
    W_eye), and so does the choice of silhouettes.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        shape: Neutral shape P [mm]: a prediction for this person, or a group's mean (:func:`fit_groups`).
        landmarks: The fitter's landmarks [px], x first: 104, or the 478 points of a face mesh. NaN is allowed where
            the weight is 0.
        image_size: Height and width [px].
        scores: Expression coefficients detected in the photo, in the order of the head's expressions; 0 by default.
        focal_px: Focal length [px] where it is known (EXIF: ``f35 * diagonal_px / 43.27``). The longer side of the
            image by default, its scale then free.
        principal_point_px: Optical axis [px], x first; the middle of the image by default. Give it for a crop.
        weights: Weight of each landmark, times the fitter's own (``FitConfig.contour_weight`` for the contour's); 0 for
            a landmark that was not seen.
        init: Start, instead of EPnP's pose and the scores, such as ``result.unknowns`` of a film's last frame. The
            energy does not depend on it: W_eye's foreshortening is that of EPnP's pose in any case.

    Returns:
        The fit: head, expression, pose, focal scale, energies and status.

    Raises:
        InputError: The number of vertices, landmarks or scores is not the fitter's.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import make_fitter
        >>> from digitaltwin.geometry import Camera, project
        >>> from digitaltwin.head import landmark_points, load_head
        >>> head = load_head()
        >>> camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(640.0), jnp.array([320.0, 240.0]))
        >>> photo = project(camera, landmark_points(head, head.mean + 0.8 * head.expressions[24]))
        >>> result = fit(make_fitter(head), head.mean, photo, (480, 640))
        >>> head.expression_names[24], head.expression_names[int(result.expression.argmax())], int(result.status)
        ('jawOpen', 'jawOpen', 0)

    Source: Wang et al. 2019, "Digital Twin: Acquiring High-Fidelity 3D Avatar from a Single Image", section 4.2.
    """
    observation = make_observation(
        fitter,
        landmarks,
        image_size,
        scores=scores,
        focal_px=focal_px,
        principal_point_px=principal_point_px,
        weights=weights,
    )
    check_shapes(fitter, shape, observation, init)
    shape = as_floats(shape, fitter.mean.dtype)
    return call_with_single_blas_thread(fit_photo, fitter, shape, observation, init)


@stored_program
def fit_photo(fitter: Fitter, shape: Float[Array, "v 3"], observation: Observation, init: Unknowns | None) -> FitResult:
    """The compiled part of :func:`fit`: arrays of the fitter's type, of the right shapes."""
    shape_finite = jnp.all(jnp.isfinite(shape))
    shape = jnp.where(shape_finite, shape, fitter.mean)
    others_finite = shape_finite if init is None else shape_finite & all_finite(init)
    neutral = neutral_points(fitter, shape)
    photo, status = photo_of(fitter, observation, others_finite=others_finite)
    start = start_unknowns(fitter, neutral.points, photo)
    photo = photo._replace(scale=residual_scale(fitter, neutral.points, photo, start))

    # From here to the last step a photo is the only one of w = 1: the steps are made for all photos of a head at once.
    start, photos = with_photo_axis(start), jax.tree.map(lambda part: part[None], photo)
    shared = start.coefficients.shape[1]
    if init is not None:
        start = given_start(start, with_photo_axis(init), status[None], shared=shared)
    unknowns, energies = minimise(fitter, neutral, photos, start, shared=shared, has_correction=init is not None)
    return make_result(fitter, shape, photo, without_photo_axis(unknowns), energies, status)
