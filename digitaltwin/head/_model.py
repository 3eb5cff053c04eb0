"""The head model: a linear, metric, rigged head as one documented pytree.

Letters: v skin vertices, f skin faces, t skin texture coordinates, p parts vertices, q parts faces, s parts texture
coordinates, e the 52 ARKit expressions, x further expressions, i identity components, g groups, k anchors.

The *skin* is what is fitted, deformed and decoded. The *parts* follow it, by targets of their own and by the move
of the skin around them: the interior (eye sockets, mouth sock), eyeballs, teeth, tongue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry import SurfacePoints
from digitaltwin.head.markup import LANDMARK_COUNT, MESH_POINT_COUNT
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError


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
    landmarks: SurfacePoints
    """The 104 landmarks of :mod:`digitaltwin.head.markup`."""
    mesh_points: SurfacePoints
    """The 468 points of the face mesh."""
    mirror: Int[Array, " v"]
    """Index of each skin vertex's left-right mirror image."""
    regions: Regions
    expression_names: tuple[str, ...] = field(metadata={"static": True})
    other_expression_names: tuple[str, ...] = field(metadata={"static": True})
    group_names: tuple[str, ...] = field(metadata={"static": True})
    """The six groups, "female-african" to "male-caucasian"."""
    part_names: tuple[str, ...] = field(metadata={"static": True})
    """The parts: mouth_sock, left_eye, right_eye, upper_teeth, lower_teeth, tongue, eye_sockets."""

    def validate(self) -> None:
        """Check that the arrays belong together.

        Raises:
            ValueError: naming the first thing that does not fit: a shape, an index out of range, anchors or follow
                weights that are negative or do not sum to one, a basis that is not orthonormal, a mirror map that is
                not its own inverse, a value that is not finite.
        """
        v, p = len(self.mean), len(self.parts_mean)
        e, x, i = len(self.expression_names), len(self.other_expression_names), len(self.identity_deviation)
        shapes = {
            "expressions": (e, v, 3),
            "other_expressions": (x, v, 3),
            "identity": (i, v, 3),
            "group_identity": (len(self.group_names), i),
            "uv_faces": self.faces.shape,
            "parts_expressions": (e, p, 3),
            "parts_other_expressions": (x, p, 3),
            "parts_identity": (i, p, 3),
            "parts_follow_vertices": (p, 4),
            "parts_follow_weights": (p, 4),
            "parts_uv_faces": self.parts_faces.shape,
            "parts_face_part": (len(self.parts_faces),),
            "mirror": (v,),
        }
        for name, shape in shapes.items():
            _require(getattr(self, name).shape == shape, f"{name} has shape {getattr(self, name).shape}, not {shape}")
        for name, mask in self.regions._asdict().items():
            _require(mask.shape == (v,), f"regions.{name} has shape {mask.shape}, not {(v,)}")
        ranges = {
            "faces": (self.faces, v),
            "uv_faces": (self.uv_faces, len(self.uv)),
            "parts_faces": (self.parts_faces, p),
            "parts_uv_faces": (self.parts_uv_faces, len(self.parts_uv)),
            "parts_face_part": (self.parts_face_part, len(self.part_names)),
            "parts_follow_vertices": (self.parts_follow_vertices, v),
            "mirror": (self.mirror, v),
            "landmarks.faces": (self.landmarks.faces, len(self.faces)),
            "mesh_points.faces": (self.mesh_points.faces, len(self.faces)),
        }
        for name, (index, count) in ranges.items():
            inside = (np.asarray(index) >= 0).all() and (np.asarray(index) < count).all()
            _require(bool(inside), f"{name} points outside [0, {count})")
        sums = {
            "landmarks.barycentric": (self.landmarks.barycentric, LANDMARK_COUNT),
            "mesh_points.barycentric": (self.mesh_points.barycentric, MESH_POINT_COUNT),
            "parts_follow_weights": (self.parts_follow_weights, p),
        }
        for name, (weights, count) in sums.items():
            _require(len(weights) == count, f"{name} has {len(weights)} rows, not {count}")
            _require(bool(np.allclose(np.asarray(weights).sum(1), 1, atol=1e-3)), f"rows of {name} do not sum to one")
            _require(bool((np.asarray(weights) >= 0).all()), f"{name} holds negative weights")
        basis = np.asarray(self.identity, np.float64).reshape(i, -1)
        _require(bool(np.abs(basis @ basis.T - np.eye(i)).max() < 5e-3), "the identity basis is not orthonormal")
        mirror = np.asarray(self.mirror)
        _require(bool((mirror[mirror] == np.arange(v)).all()), "mirror is not its own inverse")
        for leaf in jax.tree.leaves(self):
            _require(bool(np.isfinite(np.asarray(leaf)).all()), f"an array of shape {leaf.shape} is not finite")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(f"HeadModel: {problem}.")


_NAMES = ("expression_names", "other_expression_names", "group_names", "part_names")
_BUNDLES: dict[str, type] = {"landmarks": SurfacePoints, "mesh_points": SurfacePoints, "regions": Regions}
# Stored in half precision: displacements and bases (below 0.02 mm off), but neither positions nor texture coordinates.
_HALF = (
    "expressions",
    "other_expressions",
    "identity",
    "parts_expressions",
    "parts_other_expressions",
    "parts_identity",
)


def head_from_arrays(arrays: Mapping[str, np.ndarray], names: Mapping[str, Any]) -> HeadModel:
    """Assemble a head from plain arrays (bundles as ``"landmarks.faces"``) and its lists of names."""
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(HeadModel)):
        if name in _NAMES:
            values[name] = tuple(names[name])
        elif name in _BUNDLES:
            bundle = _BUNDLES[name]
            values[name] = bundle(**{part: _device(arrays[f"{name}.{part}"]) for part in bundle._fields})
        else:
            values[name] = _device(arrays[name])
    return HeadModel(**values)


def _device(array: np.ndarray) -> Array:
    kind = {"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int32)
    return jnp.asarray(array.astype(kind))


def save_head(head: HeadModel, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a head as a compressed ``.npz`` with its names as JSON; displacements in half precision.

    Args:
        head: the model.
        path: file to write.
        metadata: further facts to keep beside the names, such as sources and licence.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in (f.name for f in fields(HeadModel)):
        value = getattr(head, name)
        if name in _BUNDLES:
            arrays |= {f"{name}.{part}": np.asarray(array) for part, array in value._asdict().items()}
        elif name not in _NAMES:
            arrays[name] = np.asarray(value, np.float16 if name in _HALF else None)
    save_arrays(path, arrays, {**(metadata or {}), **{name: list(getattr(head, name)) for name in _NAMES}})


def load_head(path: str | Path | None = None) -> HeadModel:
    """Read a head model, by default the one that ships with the package.

    Args:
        path: ``.npz`` written by :func:`save_head`.

    Returns:
        The validated model, float32.

    Raises:
        InputError: ``path`` cannot be read or is no head model.
        RuntimeError: the shipped file is damaged; install the package anew.

    Example:
        >>> head = load_head()
        >>> len(head.expression_names), head.mean.shape[1]
        (52, 3)
    """
    try:
        head = head_from_arrays(*load_arrays(asset_path("head.npz") if path is None else path))
        head.validate()
    except (KeyError, ValueError) as error:  # InputError, of an unreadable file, is a ValueError
        if path is None:  # not the user's input, but a broken installation
            raise RuntimeError(f"the shipped head.npz is damaged ({error}); install digitaltwin anew.") from error
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not a head model ({error}); write it with save_head.") from error
    return head


def landmark_points(head: HeadModel, vertices: Float[Array, "v 3"]) -> Float[Array, "k 3"]:
    """Positions of the 104 landmarks on a head's skin.

    Args:
        head: the model whose topology ``vertices`` has.
        vertices: skin, in any frame.

    Returns:
        [104 3] in the frame of ``vertices``.

    Example:
        >>> head = load_head()
        >>> landmark_points(head, head.mean).shape
        (104, 3)
    """
    return anchor_points(head.landmarks, head.faces, vertices)


def anchor_points(
    anchors: SurfacePoints, faces: Int[Array, "f 3"], vertices: Float[Array, "v 3"]
) -> Float[Array, "k 3"]:
    """Positions of anchors on a deformed surface, in the frame of ``vertices``."""
    return anchors.interpolate(vertices, faces)


def neutral_shape(head: HeadModel, identity: Float[Array, " i"]) -> Float[Array, "v 3"]:
    """Neutral skin of a person: ``mean + sum_j identity_j basis_j`` [mm], coefficients in mm."""
    return head.mean + jnp.einsum("i,ivx->vx", identity, head.identity, precision=jax.lax.Precision.HIGHEST)


def express(head: HeadModel, neutral: Float[Array, "v 3"], expression: Float[Array, " e"]) -> Float[Array, "v 3"]:
    """Skin with an expression on: ``neutral + sum_i beta_i B_i`` [mm], weights from 0 to 1."""
    return neutral + jnp.einsum("e,evx->vx", expression, head.expressions, precision=jax.lax.Precision.HIGHEST)


def parts_vertices(
    head: HeadModel, neutral: Float[Array, "v 3"], expression: Float[Array, " e"]
) -> Float[Array, "p 3"]:
    """Interior, eyeballs, teeth and tongue of a person, following the skin.

    The neutral skin's offset from the mean splits into its projection on the identity basis, along which the parts
    have targets of their own, and a remainder (correction field, a decoder's detail), which carries them with the skin
    around them.

    Args:
        head: the model.
        neutral: skin without expression, correction included [mm].
        expression: weights of the 52 expressions.

    Returns:
        Positions [mm], head frame.
    """
    highest = jax.lax.Precision.HIGHEST
    offset = neutral - head.mean
    identity = jnp.einsum("ivx,vx->i", head.identity, offset, precision=highest)
    remainder = offset - jnp.einsum("i,ivx->vx", identity, head.identity, precision=highest)
    followed = jnp.einsum(
        "pj,pjx->px", head.parts_follow_weights, remainder[head.parts_follow_vertices], precision=highest
    )
    own = jnp.einsum("i,ipx->px", identity, head.parts_identity, precision=highest)
    return (
        head.parts_mean
        + own
        + followed
        + jnp.einsum("e,epx->px", expression, head.parts_expressions, precision=highest)
    )
