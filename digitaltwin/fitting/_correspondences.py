"""The points of the head that a photo's landmarks are: fixed anchors, and places on the outline that follow the pose.

Letters: k landmarks, n fixed ones and then c on the contour; l lines of j candidates, q of all lines; p = n + q points
that carry multipliers; u coefficients (e expressions, then identity).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.fitting._contour import Candidates, candidates_on, nearest_on_outline, silhouettes
from digitaltwin.fitting._elimination import Choice, blend, field_at_candidates
from digitaltwin.fitting._fitter import Fitter, points_on
from digitaltwin.fitting._observation import Photo
from digitaltwin.fitting._unknowns import Unknowns, camera_of
from digitaltwin.geometry import project


class Neutral(NamedTuple):
    """The given neutral shape at the points that photos see."""

    points: Float[Array, "k 3"]
    """The landmarks at their fixed anchors [mm]."""
    candidates: Candidates | None
    """The contour's candidates; None where nothing slides."""


class Landmarks(NamedTuple):
    """The points of the head that one photo's landmarks are, their correspondences frozen."""

    base: Float[Array, "k 3"]
    """On the given shape [mm]."""
    modes: Float[Array, "k 3 u"]
    """Displacement by each coefficient."""
    lagged: Float[Array, "k 3 e"] | None
    """``Pi C``; None but for the lagged prior."""
    choice: Choice | None
    """Which candidates the contour's landmarks are; None where nothing slides."""


def neutral_points(fitter: Fitter, shape: Float[Array, "v 3"]) -> Neutral:
    """Landmarks and candidates on a neutral shape."""
    points, contour = points_on(fitter, shape), fitter.contour
    if contour is None:
        return Neutral(points, None)
    closed = fitter.closed_contour
    return Neutral(points, candidates_on(shape, contour.corners, contour.barycentric, closed=closed))


def match_landmarks(
    fitter: Fitter, neutral: Neutral, photo: Photo, unknowns: Unknowns, field: Float[Array, "k 3"]
) -> tuple[Landmarks, Float[Array, "k 3"]]:
    """Freeze what the landmarks of one photo are under the present pose and shape, and read the field there.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        neutral: The given shape.
        photo: One photo.
        unknowns: Where the solver stands.
        field: The eliminated field at the landmarks as they were before [mm]; that of the fixed ones is kept.

    Returns:
        The landmarks, and the field at them.
    """
    n, contour = fitter.fixed_count, fitter.contour
    lagged = None if fitter.lagged is None else jnp.asarray(fitter.lagged.points)
    base, modes = neutral.points[:n], fitter.points.modes[:n]
    if contour is None or neutral.candidates is None:
        return Landmarks(base, modes, None if lagged is None else lagged[:n], None), field
    candidates = neutral.candidates
    places = candidates.points.reshape(-1, 3)

    camera = camera_of(photo.focal_px, photo.principal_point_px, unknowns)
    index = silhouettes(camera, candidates)
    on_lines = field_at_candidates(fitter.correction, unknowns.multipliers, index)
    correction = on_lines
    if lagged is not None:
        correction -= jnp.einsum("lxe,e->lx", lagged[n:][index], unknowns.change, precision=Precision.HIGHEST)
    moved = jnp.einsum("lxu,u->lx", contour.modes[index], unknowns.coefficients, precision=Precision.HIGHEST)
    outline = project(camera, places[index] + (moved + correction))
    found = nearest_on_outline(outline, photo.landmarks[n:], closed=fitter.closed_contour)
    share = found.share[:, None]
    on_contour = (1.0 - share) * on_lines[found.first] + share * on_lines[found.second]

    choice = Choice(index[found.first], index[found.second], found.share)
    landmarks = Landmarks(
        jnp.concatenate([base, blend(places, choice)]),
        jnp.concatenate([modes, blend(contour.modes, choice)]),
        None if lagged is None else jnp.concatenate([lagged[:n], blend(lagged[n:], choice)]),
        choice,
    )
    return landmarks, jnp.concatenate([field[:n], on_contour])


def positions(landmarks: Landmarks, unknowns: Unknowns, field: Float[Array, "k 3"]) -> Float[Array, "k 3"]:
    """The landmarks of one photo on the head, expression, identity and correction included [mm]."""
    moved = jnp.einsum("kxu,u->kx", landmarks.modes, unknowns.coefficients, precision=Precision.HIGHEST)
    if landmarks.lagged is not None:
        moved -= jnp.einsum("kxe,e->kx", landmarks.lagged, unknowns.change, precision=Precision.HIGHEST)
    return landmarks.base + (moved + field)
