"""Where the faces are: the short-range BlazeFace detector (Bazarevsky et al. 2019, MediaPipe's anchors and decoding).

Letters: n candidates (anchors), d detections. Boxes are (left, top, right, bottom), all coordinates in image pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from digitaltwin.perception._network import Network, apply_network
from digitaltwin.perception._region import Region, image_from_region

INPUT_SIZE = 128
MIN_SCORE = 0.5
"""A candidate below is no face."""
MIN_OVERLAP = 0.3
"""Candidates that share more (intersection over union) are one face."""
MAX_FACES = 16
RIGHT_EYE, LEFT_EYE = 0, 1
"""Rows of ``Detections.keypoints``; the others: nose tip, mouth, right and left ear."""
_GRIDS = ((16, 2), (8, 6))  # cells along the input's side, anchors in a cell
_REGION_SCALE = 1.5  # side of the mesh network's region over the long side of the detector's box


class Detections(NamedTuple):
    """Faces, or candidates for one."""

    boxes: Float[Array, "*d 4"]
    keypoints: Float[Array, "*d 6 2"]
    scores: Float[Array, "*d"]
    """Probability of a face; 0 in a row that holds none."""


def detect_candidates(network: Network, pixels: Float[Array, "128 128 3"], region: Region) -> Detections:
    """Look for faces in one region, upright with respect to it, about 1/10 of its side or larger.

    Args:
        network: ``Perception.detector``.
        pixels: The region, resampled, black outside the image as the network has learned it.
        region: Where it lies; its angle must be a multiple of a quarter turn, or the boxes would not stay upright.

    Returns:
        A candidate for each of the 896 anchors, scores below ``MIN_SCORE`` set to 0.
    """
    values, logits = apply_network(network, 2 * pixels[None] - 1)
    return decode(values[0], logits[0, :, 0], region)


def decode(values: Float[Array, "n 16"], logits: Float[Array, " n"], region: Region) -> Detections:
    """Turn the network's output into candidates in the image.

    Args:
        values: For each anchor centre, width, height of the box and six key points, in input pixels, positions relative
            to the anchor.
        logits: Log odds of a face.
        region: The region that was looked at.
    """
    anchors = jnp.concatenate([jnp.repeat(_cell_centres(cells), count, axis=0) for cells, count in _GRIDS])
    values = values.reshape(-1, 8, 2) / INPUT_SIZE
    centre, half = anchors + values[:, 0], values[:, 1] / 2
    points = jnp.concatenate([jnp.stack([centre - half, centre + half], axis=1), anchors[:, None] + values[:, 2:]], 1)
    points = jax.vmap(image_from_region, (None, 0))(region, points)
    corners = points[:, :2]
    boxes = jnp.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    scores = jax.nn.sigmoid(logits)
    return Detections(boxes, points[:, 2:], jnp.where(scores >= MIN_SCORE, scores, 0.0))


def suppress(candidates: Detections) -> Detections:
    """Reduce the candidates of one region to faces: the best takes all that overlap it, then the best of the rest.

    A face is the score-weighted mean of its candidates.

    Args:
        candidates: n of them.

    Returns:
        ``MAX_FACES`` faces by falling score; rows that hold none have score 0.
    """

    def take_best(scores, _):
        best = jnp.argmax(scores)
        overlap = jax.vmap(intersection_over_union, (None, 0))(candidates.boxes[best], candidates.boxes)
        # The best belongs to its own cluster even if its box is degenerate, so that the search always moves on.
        cluster = (overlap > MIN_OVERLAP).at[best].set(True)
        weights = jnp.where(cluster, scores, 0.0)
        weights = weights / jnp.maximum(weights.sum(), MIN_SCORE)
        mean_box = jnp.sum(weights[:, None] * candidates.boxes, axis=0)
        mean_keypoints = jnp.sum(weights[:, None, None] * candidates.keypoints, axis=0)
        return jnp.where(cluster, 0.0, scores), Detections(mean_box, mean_keypoints, scores[best])

    return lax.scan(take_best, candidates.scores, length=MAX_FACES)[1]


def intersection_over_union(a: Float[Array, "4"], b: Float[Array, "4"]) -> Float[Array, ""]:
    """Shared over total area of two boxes; 0 where both are empty.

    Example:
        >>> float(intersection_over_union(jnp.array([0.0, 0.0, 2.0, 1.0]), jnp.array([1.0, 0.0, 2.0, 1.0])))
        0.5
    """

    def area(box):
        return jnp.prod(jnp.maximum(box[2:] - box[:2], 0.0))

    shared = area(jnp.concatenate([jnp.maximum(a[:2], b[:2]), jnp.minimum(a[2:], b[2:])]))
    return shared / jnp.maximum(area(a) + area(b) - shared, jnp.finfo(jnp.float32).tiny)


def region_of_detection(box: Float[Array | np.ndarray, "4"], keypoints: Float[Array | np.ndarray, "6 2"]) -> Region:
    """The region the mesh network looks at: around the box, turned so that the eyes are level.

    Of NumPy arrays it is computed by NumPy: which detections are worth a look is decided on the host.
    """
    xp = np if isinstance(box, np.ndarray) else jnp
    across = keypoints[LEFT_EYE] - keypoints[RIGHT_EYE]
    side = _REGION_SCALE * (box[2:] - box[:2]).max()
    return Region((box[:2] + box[2:]) / 2, side, xp.arctan2(across[1], across[0]))


def _cell_centres(cells: int) -> Float[Array, "n 2"]:
    y, x = jnp.meshgrid(*[(jnp.arange(cells) + 0.5) / cells] * 2, indexing="ij")
    return jnp.stack([x.ravel(), y.ravel()], axis=1)
