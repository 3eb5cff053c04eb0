"""glTF 2.0 in one binary file: one mesh, a primitive for each material, morph targets for the expressions.

glTF wants metres, +y up, +z the front, which is the head frame over 1000. Letters: v vertices, t texture coordinates,
f faces, e expressions (morph targets), u vertices of glTF, each one pair (vertex, texture coordinate).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pygltflib as gltf
from jaxtyping import Float, Int
from PIL import Image

from digitaltwin._version import __version__
from digitaltwin.io._files import FilePath, write_bytes
from digitaltwin.types import Mesh

_METRES = 1e-3
_JPEG_QUALITY = 92
_STILL_MM = 1e-4  # displacements below a tenth of a micrometre are rounding, not motion


@dataclass(frozen=True)
class Material:
    """A material as glTF describes it: a picture or one colour, and a roughness."""

    name: str
    """Name in the file."""
    texture: Float[np.ndarray, "h w 3"] | None = None
    """Colours in sRGB, in [0, 1]; None for one colour."""
    linear_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Linear light in [0, 1]; multiplies the texture."""
    roughness: float = 0.6
    """Roughness, from 0 (a mirror) to 1 (chalk)."""


@dataclass(frozen=True)
class Primitive:
    """A part of the head with one material."""

    mesh: Mesh
    """The neutral part in the head frame [mm], with texture coordinates; the material has the texture."""
    displacements: Float[np.ndarray, "e v 3"]
    """Displacement of every vertex at each expression's full strength [mm]."""
    material: Material
    """Material of the whole part."""


def write_glb(
    path: FilePath,
    primitives: Sequence[Primitive],
    expression_names: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    name: str = "head",
) -> None:
    """Write a rigged, textured mesh as ``.glb``, atomically.

    Vertices on a texture seam are split, and keep their common normal. A morph target is stored sparsely where that is
    smaller; one that moves nothing in a primitive stays, as the format wants the same targets everywhere. Primitives
    that hold the same material object share it.

    Args:
        path: The file.
        primitives: The parts.
        expression_names: Names of the targets, into ``mesh.extras.targetNames`` where viewers look for them.
        weights: Default strengths of the targets, in [0, 1]; all 0 if left out.
        name: Name of node and mesh.

    Raises:
        InputError: The file cannot be written.
        ValueError: A primitive has another number of displacements than there are names.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> corners, face = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]]), np.array([[0, 1, 2]])
        >>> mesh = Mesh(corners, face, corners[:, :2] / 100)
        >>> path = Path(tempfile.mkdtemp()) / "face.glb"
        >>> write_glb(path, [Primitive(mesh, np.zeros((0, 3, 3)), Material("grey"))], [])
        >>> path.read_bytes()[:4]
        b'glTF'

    Source: Khronos Group, "glTF 2.0 Specification" (2021).
    """
    document = _Document()
    materials = list({id(primitive.material): primitive.material for primitive in primitives}.values())
    for material in materials:
        document.add_material(material)
    parts = []
    for primitive in primitives:
        if len(primitive.displacements) != len(expression_names):
            raise ValueError(
                f"{primitive.material.name}: {len(primitive.displacements)} targets, {len(expression_names)} names"
            )
        number = next(i for i, material in enumerate(materials) if material is primitive.material)
        parts.append(document.add_primitive(primitive, number))
    mesh = gltf.Mesh(
        name=name,
        primitives=parts,
        weights=[float(w) for w in weights] if weights is not None else [0.0] * len(expression_names),
        extras={"targetNames": list(expression_names)},
    )
    write_bytes(path, document.finish(mesh, name))


class _Document:
    """Accessors, buffer views and the bytes behind them, as they grow."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._views: list[gltf.BufferView] = []
        self._accessors: list[gltf.Accessor] = []
        self._materials: list[gltf.Material] = []
        self._textures: list[gltf.Texture] = []
        self._images: list[gltf.Image] = []

    def add_material(self, material: Material) -> None:
        surface = gltf.PbrMetallicRoughness(
            baseColorFactor=[*material.linear_colour, 1.0], metallicFactor=0.0, roughnessFactor=material.roughness
        )
        if material.texture is not None:
            picture = Image.fromarray(np.round(np.clip(material.texture, 0, 1) * 255).astype(np.uint8))
            encoded = io.BytesIO()
            # No chroma subsampling: it would bleed the lips' red over their edge.
            picture.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            view = self._add_view(encoded.getvalue(), None)
            surface.baseColorTexture = gltf.TextureInfo(index=len(self._textures))
            self._textures.append(gltf.Texture(source=len(self._images), sampler=0))
            self._images.append(gltf.Image(bufferView=view, mimeType="image/jpeg", name=material.name))
        # Double-sided: the neck is open, and looking into it should show a surface.
        self._materials.append(gltf.Material(name=material.name, pbrMetallicRoughness=surface, doubleSided=True))

    def add_primitive(self, primitive: Primitive, material: int) -> gltf.Primitive:
        mesh = primitive.mesh
        if mesh.uv is None:
            raise ValueError(f"{primitive.material.name}: the mesh has no texture coordinates")
        corners = np.asarray(mesh.faces)
        vertices = np.asarray(mesh.vertices, np.float64)
        uv_faces = corners if mesh.uv_faces is None else np.asarray(mesh.uv_faces)
        vertex, coordinate, faces = _split_seams(corners, uv_faces)
        positions = vertices[vertex] * _METRES
        normals = _vertex_normals(vertices, corners)[vertex]
        # Texture rows run downward in glTF.
        uv = np.asarray(mesh.uv)[coordinate] * [1, -1] + [0, 1]
        attributes = gltf.Attributes(
            POSITION=self._add_vectors(positions, bounds=True),
            NORMAL=self._add_vectors(normals),
            TEXCOORD_0=self._add_vectors(uv),
        )
        kind = np.uint16 if len(vertex) < 2**16 - 1 else np.uint32
        indices = self._add_accessor(faces.reshape(-1).astype(kind), gltf.SCALAR, gltf.ELEMENT_ARRAY_BUFFER)
        targets = [gltf.Attributes(POSITION=self._add_target(d[vertex] * _METRES)) for d in primitive.displacements]
        return gltf.Primitive(attributes=attributes, indices=indices, material=material, targets=targets)

    def finish(self, mesh: gltf.Mesh, name: str) -> bytes:
        document = gltf.GLTF2(
            asset=gltf.Asset(version="2.0", generator=f"digitaltwin {__version__}"),
            scene=0,
            scenes=[gltf.Scene(nodes=[0])],
            nodes=[gltf.Node(name=name, mesh=0)],
            meshes=[mesh],
            accessors=self._accessors,
            bufferViews=self._views,
            buffers=[gltf.Buffer(byteLength=len(self._blob))],
            materials=self._materials,
            textures=self._textures,
            images=self._images,
        )
        if self._textures:
            document.samplers = [
                gltf.Sampler(
                    magFilter=gltf.LINEAR,
                    minFilter=gltf.LINEAR_MIPMAP_LINEAR,
                    wrapS=gltf.CLAMP_TO_EDGE,
                    wrapT=gltf.CLAMP_TO_EDGE,
                )
            ]
        document.set_binary_blob(bytes(self._blob))
        return b"".join(document.save_to_bytes())

    def _add_view(self, data: bytes, target: int | None) -> int:
        offset = len(self._blob)
        self._blob += data + bytes(-len(data) % 4)
        self._views.append(gltf.BufferView(buffer=0, byteOffset=offset, byteLength=len(data), target=target))
        return len(self._views) - 1

    def _add_accessor(self, array: np.ndarray, kind: str, target: int | None, **extra: Any) -> int:
        component = {"uint16": gltf.UNSIGNED_SHORT, "uint32": gltf.UNSIGNED_INT, "float32": gltf.FLOAT}[
            array.dtype.name
        ]
        view = self._add_view(array.tobytes(), target)
        self._accessors.append(
            gltf.Accessor(bufferView=view, componentType=component, count=len(array), type=kind, **extra)
        )
        return len(self._accessors) - 1

    def _add_vectors(self, array: np.ndarray, *, bounds: bool = False) -> int:
        array = array.astype(np.float32)
        extra = {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()} if bounds else {}
        return self._add_accessor(array, f"VEC{array.shape[1]}", gltf.ARRAY_BUFFER, **extra)

    def _add_target(self, displacement: Float[np.ndarray, "u 3"]) -> int:
        displacement = np.where(np.abs(displacement) > _STILL_MM * _METRES, displacement, 0).astype(np.float32)
        moved = np.flatnonzero(displacement.any(axis=1))
        # A sparse accessor must hold at least one value, if only a zero.
        moved = moved if len(moved) else np.zeros(1, int)
        kind = np.uint16 if len(displacement) < 2**16 else np.uint32
        if len(moved) * (12 + np.dtype(kind).itemsize) >= displacement.nbytes:
            return self._add_vectors(displacement, bounds=True)
        component = gltf.UNSIGNED_SHORT if kind == np.uint16 else gltf.UNSIGNED_INT
        sparse = gltf.Sparse(
            count=len(moved),
            indices=gltf.AccessorSparseIndices(
                bufferView=self._add_view(moved.astype(kind).tobytes(), None), componentType=component
            ),
            values=gltf.AccessorSparseValues(bufferView=self._add_view(displacement[moved].tobytes(), None)),
        )
        self._accessors.append(
            gltf.Accessor(
                byteOffset=None,  # which belongs to a buffer view, and there is none
                componentType=gltf.FLOAT,
                count=len(displacement),
                type=gltf.VEC3,
                sparse=sparse,
                min=displacement.min(axis=0).tolist(),
                max=displacement.max(axis=0).tolist(),
            )
        )
        return len(self._accessors) - 1


def _vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Unit normals, on the host; +z where there is none, for the format allows no zero."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    index = faces.reshape(-1)
    sums = np.stack([np.bincount(index, normals[:, axis], len(vertices)) for axis in range(3)], axis=1)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 1e-12, sums / np.maximum(lengths, 1e-12), [0.0, 0.0, 1.0])


def _split_seams(
    faces: Int[np.ndarray, "f 3"], uv_faces: Int[np.ndarray, "f 3"]
) -> tuple[Int[np.ndarray, " u"], Int[np.ndarray, " u"], Int[np.ndarray, "f 3"]]:
    """One vertex for every pair (vertex, texture coordinate) in use: the two indices of each, and the faces anew."""
    pairs = np.stack([faces.reshape(-1), uv_faces.reshape(-1)], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.reshape(-1, 3)
