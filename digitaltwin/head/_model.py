"""The head model: a linear, metric, rigged head as one documented pytree.

Letters: v skin vertices, f skin faces, t skin texture coordinates, p parts vertices, q parts faces, s parts texture
coordinates, e the 52 ARKit expressions, x further expressions, i identity components, g groups, k landmarks.

The *skin* is what is fitted, deformed and decoded. The *parts* follow it, by targets of their own and by the move
of the skin around them: the interior (eye sockets, mouth sock), eyeballs, teeth, tongue.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from digitaltwin.geometry import SurfacePoints
from digitaltwin.head.markup import LANDMARK_COUNT, MESH_POINT_COUNT


class Regions(NamedTuple):
    """Vertex masks of the skin."""

    face: Bool[Array, " v"]
    """Within 95 mm of the nose tip (the paper's error and loss region)."""
    eyes: Bool[Array, " v"]
    """Lids and their surroundings, both eyes."""
    lips: Bool[Array, " v"]
    """Both lips."""
    scalp: Bool[Array, " v"]
    """Where hair usually grows."""
    neck: Bool[Array, " v"]
    """Below the chin, down to the cut."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HeadModel:
    """A rigged parametric head; a pytree. Positions are in mm in the head frame (see :mod:`digitaltwin.types`).

    A person's skin is ``mean + sum_j identity_j I_j + sum_i beta_i B_i``, see :func:`neutral_shape` and
    :func:`express`.
    """

    mean: Float[Array, "v 3"]
    """Neutral mean of the population [mm]."""
    faces: Int[Array, "f 3"]
    """Triangles of the skin, counter-clockwise seen from outside."""
    uv: Float[Array, "t 2"]
    """Texture coordinates, v upward."""
    uv_faces: Int[Array, "f 3"]
    """Texture coordinate indices beside ``faces``."""
    expressions: Float[Array, "e v 3"]
    """Displacement B of each of the 52 ARKit expressions at full strength [mm]."""
    other_expressions: Float[Array, "x v 3"]
    """Displacement of each further expression at full strength [mm]."""
    identity: Float[Array, "i v 3"]
    """Identity basis I, orthonormal over all 3v coordinates."""
    identity_std: Float[Array, " i"]
    """Standard deviation [mm] of each identity coefficient in the population."""
    group_identity: Float[Array, "g i"]
    """Identity coefficients of the group means [mm], in the order of ``group_names``."""
    parts_mean: Float[Array, "p 3"]
    """Positions of the parts on the mean head [mm]."""
    parts_faces: Int[Array, "q 3"]
    """Triangles of the parts."""
    parts_uv: Float[Array, "s 2"]
    """Texture coordinates of the parts."""
    parts_uv_faces: Int[Array, "q 3"]
    """Texture coordinate indices beside ``parts_faces``."""
    parts_expressions: Float[Array, "e p 3"]
    """Displacement of the parts by each expression at full strength [mm]."""
    parts_other_expressions: Float[Array, "x p 3"]
    """Displacement of the parts by each further expression [mm]."""
    parts_identity: Float[Array, "i p 3"]
    """Displacement of the parts along the identity basis."""
    parts_follow_vertices: Int[Array, "p 4"]
    """Skin vertices whose displacement carries a parts vertex along."""
    parts_follow_weights: Float[Array, "p 4"]
    """Weights of those vertices, which sum to one."""
    parts_face_part: Int[Array, " q"]
    """Index into ``part_names`` for each parts face."""
    landmarks: SurfacePoints
    """The 104 landmarks of :mod:`digitaltwin.head.markup`."""
    mesh_points: SurfacePoints
    """The 468 points of the face mesh."""
    mirror: Int[Array, " v"]
    """Index of each skin vertex's left-right mirror image."""
    regions: Regions
    """Vertex masks of the skin."""
    expression_names: tuple[str, ...] = field(metadata={"static": True})
    """Names of the 52 ARKit expressions, in the order of ``expressions``."""
    other_expression_names: tuple[str, ...] = field(metadata={"static": True})
    """Names of the further expressions."""
    group_names: tuple[str, ...] = field(metadata={"static": True})
    """Names of the six groups, "female-african" to "male-caucasian"."""
    part_names: tuple[str, ...] = field(metadata={"static": True})
    """Names of the parts: mouth_sock, left_eye, right_eye, upper_teeth, lower_teeth, tongue, eye_sockets."""

    @property
    def identity_deviation(self) -> Float[Array, " i"]:
        """Former name of ``identity_std``."""
        warnings.warn("HeadModel.identity_deviation is identity_std now.", DeprecationWarning, stacklevel=2)
        return self.identity_std

    def validate(self) -> None:
        """Check that the arrays belong together.

        Raises:
            ValueError: Naming the first thing that does not fit: a shape, an index out of range, landmarks or follow
                weights that are negative or do not sum to one, a basis that is not orthonormal, a mirror map that is
                not its own inverse, a value that is not finite.
        """
        _check(arrays_of_head(self), {name: getattr(self, name) for name in _NAMES})


_NAMES = ("expression_names", "other_expression_names", "group_names", "part_names")
_BUNDLES: dict[str, type] = {"landmarks": SurfacePoints, "mesh_points": SurfacePoints, "regions": Regions}
_ARRAYS = [f.name for f in fields(HeadModel) if f.name not in _NAMES]
_STORED = {"identity_std": "identity_deviation"}  # names in files that differ from the fields


def arrays_of_head(head: HeadModel) -> dict[str, np.ndarray]:
    """Lay out a head as plain arrays on the host, bundles as ``"landmarks.faces"``."""
    arrays: dict[str, np.ndarray] = {}
    for name in _ARRAYS:
        value = getattr(head, name)
        if name in _BUNDLES:
            arrays |= {f"{name}.{part}": np.asarray(array) for part, array in value._asdict().items()}
        else:
            arrays[_STORED.get(name, name)] = np.asarray(value)
    return arrays


def head_from_arrays(arrays: Mapping[str, np.ndarray], names: Mapping[str, Any]) -> HeadModel:
    """Assemble a validated head from plain arrays (bundles as ``"landmarks.faces"``) and its lists of names.

    Everything happens on the host; the arrays go to the device in one transfer, and nothing is compiled.

    Raises:
        KeyError: An array or a list of names is missing.
        ValueError: The arrays do not belong together.
    """
    parts = [f"{name}.{part}" for name, bundle in _BUNDLES.items() for part in bundle._fields]
    stored = [*parts, *(_STORED.get(name, name) for name in _ARRAYS if name not in _BUNDLES)]
    host = {name: _narrowed(arrays[name]) for name in stored}
    lists: dict[str, Any] = {name: tuple(names[name]) for name in _NAMES}
    _check(host, lists)
    device: dict[str, Any] = jax.device_put(host)
    for name, bundle in _BUNDLES.items():
        device[name] = bundle(*(device.pop(f"{name}.{part}") for part in bundle._fields))
    for name, in_file in _STORED.items():
        device[name] = device.pop(in_file)
    return HeadModel(**device, **lists)


def _narrowed(array: np.ndarray) -> np.ndarray:
    return array.astype({"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int32))


def _check(arrays: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, ...]]) -> None:
    """See :meth:`HeadModel.validate`."""
    v, p = len(arrays["mean"]), len(arrays["parts_mean"])
    e, x, i = len(names["expression_names"]), len(names["other_expression_names"]), len(arrays["identity_deviation"])
    shapes = {
        "expressions": (e, v, 3),
        "other_expressions": (x, v, 3),
        "identity": (i, v, 3),
        "group_identity": (len(names["group_names"]), i),
        "uv_faces": arrays["faces"].shape,
        "parts_expressions": (e, p, 3),
        "parts_other_expressions": (x, p, 3),
        "parts_identity": (i, p, 3),
        "parts_follow_vertices": (p, 4),
        "parts_follow_weights": (p, 4),
        "parts_uv_faces": arrays["parts_faces"].shape,
        "parts_face_part": (len(arrays["parts_faces"]),),
        "mirror": (v,),
        **{f"regions.{name}": (v,) for name in Regions._fields},
    }
    for name, shape in shapes.items():
        _require(arrays[name].shape == shape, f"{name} has shape {arrays[name].shape}, not {shape}")
    faces = len(arrays["faces"])
    counts = {
        "faces": v,
        "uv_faces": len(arrays["uv"]),
        "parts_faces": p,
        "parts_uv_faces": len(arrays["parts_uv"]),
        "parts_face_part": len(names["part_names"]),
        "parts_follow_vertices": v,
        "mirror": v,
        "landmarks.faces": faces,
        "mesh_points.faces": faces,
    }
    for name, count in counts.items():
        index = arrays[name]
        inside = not index.size or bool(0 <= index.min() <= index.max() < count)
        _require(inside, f"{name} points outside [0, {count})")
    rows = {
        "landmarks.barycentric": LANDMARK_COUNT,
        "mesh_points.barycentric": MESH_POINT_COUNT,
        "parts_follow_weights": p,
    }
    for name, count in rows.items():
        weights = arrays[name]
        _require(len(weights) == count, f"{name} has {len(weights)} rows, not {count}")
        _require(bool(np.allclose(weights.sum(1), 1, atol=1e-3)), f"rows of {name} do not sum to one")
        _require(bool((weights >= 0).all()), f"{name} holds negative weights")
    basis = arrays["identity"].reshape(i, -1)
    # Half precision, in which the basis is stored, is what limits this, so float32 is enough for the products.
    _require(bool(np.abs(basis @ basis.T - np.eye(i)).max() < 5e-3), "the identity basis is not orthonormal")
    mirror = arrays["mirror"]
    _require(bool((mirror[mirror] == np.arange(v)).all()), "mirror is not its own inverse")
    for name, array in arrays.items():
        _require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name} is not finite")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(f"HeadModel: {problem}.")


@jax.jit
def landmark_points(head: HeadModel, vertices: Float[Array, "v 3"]) -> Float[Array, "k 3"]:
    """Place the 104 landmarks on a head's skin.

    Args:
        head: The model whose topology ``vertices`` has.
        vertices: Skin, in any frame.

    Returns:
        Positions [104 3] in the frame of ``vertices``, in the order of :mod:`digitaltwin.head.markup`.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> landmark_points(head, head.mean).shape
        (104, 3)
    """
    return head.landmarks.interpolate(vertices, head.faces)


@jax.jit
def neutral_shape(head: HeadModel, identity: Float[Array, " i"]) -> Float[Array, "v 3"]:
    """Compute the neutral skin of a person: ``mean + sum_j identity_j I_j``.

    Args:
        head: The model.
        identity: Identity coefficients [mm]; ``head.identity_std`` is their standard deviation.

    Returns:
        Positions [mm], head frame.

    Example:
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> mean_asian_woman = neutral_shape(head, head.group_identity[head.group_names.index("female-asian")])
        >>> mean_asian_woman.shape
        (2699, 3)
    """
    return head.mean + jnp.einsum("i,ivx->vx", identity, head.identity, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def express(head: HeadModel, neutral: Float[Array, "v 3"], expression: Float[Array, " e"]) -> Float[Array, "v 3"]:
    """Add an expression to a neutral skin: ``neutral + sum_i beta_i B_i``.

    Args:
        head: The model.
        neutral: Skin without expression [mm], head frame.
        expression: Expression coefficients beta, usually from 0 to 1.

    Returns:
        Positions [mm], head frame.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> smile = jnp.zeros(52).at[head.expression_names.index("mouthSmileLeft")].set(0.7)
        >>> express(head, head.mean, smile).shape
        (2699, 3)
    """
    return neutral + jnp.einsum("e,evx->vx", expression, head.expressions, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def parts_vertices(
    head: HeadModel, neutral: Float[Array, "v 3"], expression: Float[Array, " e"]
) -> Float[Array, "p 3"]:
    """Compute the interior, eyeballs, teeth and tongue of a person, which follow the skin.

    The neutral skin's offset from the mean splits into its projection on the identity basis, along which the parts
    have targets of their own, and an out-of-basis residual (correction field, a decoder's detail), which carries them
    with the skin around them.

    Args:
        head: The model.
        neutral: Skin without expression, correction included [mm], head frame.
        expression: Expression coefficients.

    Returns:
        Positions [mm], head frame.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.head import load_head
        >>> head = load_head()
        >>> bool(jnp.allclose(parts_vertices(head, head.mean, jnp.zeros(52)), head.parts_mean))
        True
    """
    highest = jax.lax.Precision.HIGHEST
    offset = neutral - head.mean
    identity = jnp.einsum("ivx,vx->i", head.identity, offset, precision=highest)
    residual = offset - jnp.einsum("i,ivx->vx", identity, head.identity, precision=highest)
    followed = jnp.einsum(
        "pj,pjx->px", head.parts_follow_weights, residual[head.parts_follow_vertices], precision=highest
    )
    own = jnp.einsum("i,ipx->px", identity, head.parts_identity, precision=highest)
    return (
        head.parts_mean
        + own
        + followed
        + jnp.einsum("e,epx->px", expression, head.parts_expressions, precision=highest)
    )
