"""Reading triangle meshes of other programs: OBJ, PLY, STL, GLB, OFF, by trimesh.

Letters: v vertices, f faces, h w rows and columns of a texture.
"""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int
from PIL import Image

from digitaltwin.io._files import FilePath, reason
from digitaltwin.types import InputError, Mesh

FORMATS = (".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
LARGEST_BYTES = 2_000_000_000
"""A file of more is no scan of a head, or will not fit into memory."""


_STAND_IN_PX = 2  # edge of the grey picture that trimesh gives for a texture it cannot find


def read_surface(path: FilePath) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices and triangles of a file, in its own order and unit; of a scene all meshes, where it puts them.

    Args:
        path: The file.

    Returns:
        Vertices and faces, quadrilaterals cut in two. Where a texture has a seam a vertex may come twice.

    Raises:
        InputError: The file is missing, of another format or too large, cannot be read, or holds no faces.

    Example:
        >>> from digitaltwin.io import asset_path
        >>> read_surface(asset_path("scan.glb"))[1].shape[1]
        3
    """
    loaded = _load(Path(path), textured=False)
    return np.array(loaded.vertices, np.float64), np.array(loaded.faces, np.int64)


def read_scan(path: FilePath) -> Mesh:
    """Read a mesh with its texture or the colours of its vertices; of several textures one picture is made.

    Args:
        path: The file; a texture lies beside it or in it.

    Returns:
        The scan. A texture that is missing or cannot be read is left out.

    Raises:
        InputError: As :func:`read_surface`.

    Example:
        >>> from digitaltwin.io import asset_path
        >>> read_scan(asset_path("scan.glb")).vertices.shape[1]
        3
    """
    loaded = _load(Path(path), textured=True)
    scan = Mesh(np.array(loaded.vertices, np.float64), np.array(loaded.faces, np.int64))
    visual: Any = loaded.visual
    uv = getattr(visual, "uv", None)
    picture = _picture(getattr(visual, "material", None))
    if uv is not None and picture is not None and np.shape(uv) == (len(scan.vertices), 2):
        texture = np.asarray(picture.convert("RGB"), np.float32) / np.float32(255.0)
        return scan._replace(uv=np.array(uv, np.float64), texture=texture)
    if getattr(visual, "kind", None) == "vertex":
        return scan._replace(colours=np.array(visual.vertex_colors[:, :3], np.float64) / 255.0)
    return scan


def _picture(material: Any) -> Image.Image | None:
    """The diffuse texture of a material, of whichever of trimesh's kinds it is."""
    for name in ("image", "baseColorTexture"):
        picture = getattr(material, name, None)
        if isinstance(picture, Image.Image) and min(picture.size) > _STAND_IN_PX:
            return picture
    return None


def _load(source: Path, *, textured: bool) -> trimesh.Trimesh:
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
        loaded = trimesh.load(source, process=False, force="mesh", skip_materials=not textured)
    except Exception as error:  # of whatever library trimesh has read it with
        raise InputError(f"{source}: cannot be read as a mesh ({error}).") from error
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise InputError(f"{source}: holds no faces; a cloud of points has to be meshed first.")
    return loaded
