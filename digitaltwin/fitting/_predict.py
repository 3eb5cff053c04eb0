"""Where a photo of a known head shows its landmarks.

Letters: v vertices, k landmarks, n of them fixed to the skin, e expressions, u coefficients, p points.
"""

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

from digitaltwin.fitting._contour import nearest_on_outline, silhouettes
from digitaltwin.fitting._correspondences import neutral_points
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.geometry import Camera, project
from digitaltwin.io._programs import stored_program


@stored_program
def predict_landmarks(
    fitter: Fitter,
    camera: Camera,
    neutral: Float[Array, "v 3"],
    expression: Float[Array, " e"],
    *,
    near: Float[Array, "k 2"] | None = None,
) -> Float[Array, "k 2"]:
    """Where a photo of a known head shows the landmarks, those of a sliding contour on its outline.

    Args:
        fitter: From :func:`~digitaltwin.fitting.make_fitter`.
        camera: Pose and intrinsics, as in ``FitResult.camera``.
        neutral: The person's neutral shape, as in ``FitResult.neutral`` [mm].
        expression: Weights of the expressions.
        near: Landmarks [px]; a contour's are the points of the outline nearest to them, or to its fixed anchors by
            default.

    Returns:
        Landmarks [px], in the photo's order.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import make_fitter
        >>> from digitaltwin.geometry import Camera
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> camera = Camera(jnp.eye(3), jnp.array([0.0, 0.0, 500.0]), jnp.array(640.0), jnp.array([320.0, 240.0]))
        >>> predict_landmarks(make_fitter(head), camera, head.mean, jnp.zeros(52)).shape
        (104, 2)
    """
    n, e = fitter.fixed_count, len(fitter.expressions)
    neutral_ = neutral_points(fitter, neutral.astype(fitter.mean.dtype))

    def image(base: Float[Array, "p 3"], modes: Float[Array, "p 3 u"]) -> Float[Array, "p 2"]:
        moved = jnp.einsum("pxe,e->px", modes[..., :e], expression, precision=Precision.HIGHEST)
        return project(camera, base + moved)

    seen = image(neutral_.points, fitter.points.modes)
    if fitter.contour is not None and neutral_.candidates is not None:
        index = silhouettes(camera, neutral_.candidates)
        outline = image(neutral_.candidates.points.reshape(-1, 3)[index], fitter.contour.modes[index])
        wanted = seen[n:] if near is None else near[fitter.order[n:]]
        found = nearest_on_outline(outline, wanted, closed=fitter.closed_contour)
        share = found.share[:, None]
        seen = seen.at[n:].set((1.0 - share) * outline[found.first] + share * outline[found.second])
    return jnp.zeros_like(seen).at[fitter.order].set(seen)
