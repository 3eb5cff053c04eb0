"""The 478-point face mesh and the 52 expression scores (MediaPipe's face landmarker v2).

Points 0 to 467 lie on the skin, 468 to 477 on the irises. Positions are (x, y, z) in image pixels; z grows away from
the camera, in the same unit, from an origin near the head's middle.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.head.markup import ARKIT_EXPRESSIONS, MESH_LEFT_EYE, MESH_RIGHT_EYE
from digitaltwin.perception._network import Network, apply_network
from digitaltwin.perception._region import Region, image_from_region, region_from_image

INPUT_SIZE = 256
POINT_COUNT = 478
_REGION_SCALE = 1.5  # side of the region over the long side of the mesh's bounds, as the network was trained
_RIGHT_EYE_OUTER, _LEFT_EYE_OUTER = MESH_RIGHT_EYE[0], MESH_LEFT_EYE[0]

NETWORK_EXPRESSIONS = ("_neutral", *(name for name in ARKIT_EXPRESSIONS if name != "tongueOut"))
"""The third network's outputs: it has no tongue, and a score for "none of these" in front."""

EXPRESSION_POINTS = np.array(
    """0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103
    105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 178
    181 185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 312
    314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 387 388 389
    390 397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477""".split(),
    dtype=np.int32,
)
"""The mesh points that the third network sees."""


class FaceMesh(NamedTuple):
    """A face mesh in the image."""

    points: Float[Array, "478 3"]
    """x, y, z [px]."""
    presence: Float[Array, ""]
    """Probability that there is a face."""


def read_mesh(network: Network, pixels: Float[Array, "256 256 3"], region: Region) -> FaceMesh:
    """Place the face mesh on the face in a region.

    Args:
        network: ``Perception.face_mesh``.
        pixels: The region, resampled.
        region: Where it lies, from :func:`~digitaltwin.perception._detector.region_of_detection` or
            :func:`region_of_mesh`.
    """
    points, logit, _ = apply_network(network, pixels[None])
    points = image_from_region(region, points.reshape(POINT_COUNT, 3) / INPUT_SIZE)
    return FaceMesh(points, jax.nn.sigmoid(logit.reshape(())))


def region_of_mesh(points: Float[Array, "478 3"]) -> Region:
    """The region to look at again, now that the mesh is known: around its bounds, turned so that the eyes are level.

    The bounds are taken along the region's own axes, so the region turns with the face.
    """
    across = points[_LEFT_EYE_OUTER] - points[_RIGHT_EYE_OUTER]
    turned = Region(jnp.zeros(2), jnp.ones(()), jnp.arctan2(across[1], across[0]))
    own = region_from_image(turned, points[:, :2])
    low, high = own.min(axis=0), own.max(axis=0)
    centre = image_from_region(turned, (low + high)[None] / 2)[0]
    return Region(centre, _REGION_SCALE * jnp.max(high - low), turned.angle)


def read_expression(network: Network, points: Float[Array, "478 3"]) -> Float[Array, "52"]:
    """Score the 52 ARKit expressions.

    The points are turned upright first, so a rolled head scores like an upright one; position and size do not matter.

    Args:
        network: ``Perception.expressions``.
        points: The face mesh [px].

    Returns:
        Scores in [0, 1] in the order of ``ARKIT_EXPRESSIONS``; tongueOut is 0.
    """
    upright = region_from_image(region_of_mesh(points), points)
    (scores,) = apply_network(network, upright[None, EXPRESSION_POINTS, :2] * INPUT_SIZE)
    scores = jnp.append(scores, 0.0)
    order = [NETWORK_EXPRESSIONS.index(name) if name in NETWORK_EXPRESSIONS else -1 for name in ARKIT_EXPRESSIONS]
    return scores[np.array(order)]
