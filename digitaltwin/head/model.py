"""The head model: a linear, metric, rigged head as one documented pytree.

Letters: v skin vertices, f skin faces, t skin texture coordinates, p parts vertices, q parts faces, s parts texture
coordinates, e the 52 ARKit expressions, x further expressions, i identity components, g groups, k anchors.

The *skin* is what is fitted, deformed and decoded. The *parts* (eye sockets and mouth sock as "interior", eyeballs,
teeth, tongue) follow it: by targets of their own, and by the displacement of the skin around them.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int


class Anchors(NamedTuple):
    """Points fixed to the skin: barycentric coordinates on faces."""

    faces: Int[Array, " k"]
    """Index of the skin face each point lies on."""
    barycentric: Float[Array, "k 3"]
    """Weights of that face's three vertices; they sum to one."""


class Regions(NamedTuple):
    """Vertex masks of the skin."""

    face: Bool[Array, " v"]
    """Within 95 mm of the nose tip (the paper's error and loss region)."""
    eyes: Bool[Array, " v"]
    """Lids and their surroundings, both eyes."""
    lips: Bool[Array, " v"]
    scalp: Bool[Array, " v"]
    """Where hair usually grows."""
    neck: Bool[Array, " v"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HeadModel:
    """A rigged parametric head. Positions in mm, head frame (see :mod:`digitaltwin.types`)."""

    mean: Float[Array, "v 3"]
    """Neutral mean of the population."""
    faces: Int[Array, "f 3"]
    uv: Float[Array, "t 2"]
    """Texture coordinates, v upward."""
    uv_faces: Int[Array, "f 3"]
    """Texture coordinate indices beside ``faces``."""
    expressions: Float[Array, "e v 3"]
    """Displacement of each of the 52 ARKit expressions at full strength."""
    other_expressions: Float[Array, "x v 3"]
    identity: Float[Array, "i v 3"]
    """Identity basis, orthonormal over all 3v coordinates."""
    identity_deviation: Float[Array, " i"]
    """Standard deviation [mm] of each identity coefficient in the population."""
    group_identity: Float[Array, "g i"]
    """Identity coefficients of the group means, in the order of ``group_names``."""
    parts_mean: Float[Array, "p 3"]
    parts_faces: Int[Array, "q 3"]
    parts_uv: Float[Array, "s 2"]
    parts_uv_faces: Int[Array, "q 3"]
    parts_expressions: Float[Array, "e p 3"]
    parts_other_expressions: Float[Array, "x p 3"]
    parts_identity: Float[Array, "i p 3"]
    parts_follow_vertices: Int[Array, "p 4"]
    """Skin vertices whose displacement carries a parts vertex along ..."""
    parts_follow_weights: Float[Array, "p 4"]
    """... and their weights, which sum to one."""
    parts_face_part: Int[Array, " q"]
    """Index into ``part_names`` for each parts face."""
    landmarks: Anchors
    """The 104 landmarks of :mod:`digitaltwin.head.markup`."""
    mesh_points: Anchors
    """The 468 points of the face mesh."""
    mirror: Int[Array, " v"]
    """Index of each skin vertex's left-right mirror image."""
    regions: Regions
    expression_names: tuple[str, ...] = field(metadata={"static": True})
    other_expression_names: tuple[str, ...] = field(metadata={"static": True})
    group_names: tuple[str, ...] = field(metadata={"static": True})
    """The six groups, "female-african" to "male-caucasian"."""
    part_names: tuple[str, ...] = field(metadata={"static": True})
    """The parts: interior, left_eye, right_eye, upper_teeth, lower_teeth, tongue."""
