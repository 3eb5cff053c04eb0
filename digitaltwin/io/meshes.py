"""Reading triangle meshes of other programs: OBJ, PLY, STL, GLB, OFF, by trimesh."""

from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int

from digitaltwin.io.files import FilePath, reason
from digitaltwin.types import InputError

FORMATS = (".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
LARGEST_BYTES = 2_000_000_000
"""A file of more is no scan of a head, or will not fit into memory."""


def read_surface(path: FilePath) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices and triangles of a file, in its own order and unit; of a scene all meshes, where it puts them.

    Args:
        path: The file.

    Returns:
        Vertices and faces, quadrilaterals cut in two. Where a texture has a seam a vertex may come twice.

    Raises:
        InputError: The file is missing, of another format or too large, cannot be read, or holds no faces.
    """
    source = Path(path)
    if source.suffix.lower() not in FORMATS:
        raise InputError(f"{source}: is not one of {', '.join(FORMATS)}; convert it.")
    try:
        size = source.stat().st_size
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)}).") from error
    if size > LARGEST_BYTES:
        raise InputError(f"{source}: has {size / 1e9:.1f} GB, more than {LARGEST_BYTES / 1e9:.0f}; reduce it first.")
    if size == 0:
        raise InputError(f"{source}: is empty.")
    try:
        loaded = trimesh.load(source, process=False, force="mesh", skip_materials=True)
    except Exception as error:  # of whatever library trimesh has read it with
        raise InputError(f"{source}: cannot be read as a mesh ({error}).") from error
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise InputError(f"{source}: holds no faces; a cloud of points has to be meshed first.")
    return np.array(loaded.vertices, np.float64), np.array(loaded.faces, np.int64)
