"""The real scan that ships: a face of flesh and blood, for registration and evaluation to be shown and tested on.

Of menpo3d's data (Imperial College London, BSD-3-Clause): a textured surface of a man's head from ear to ear, with 68
landmarks set by hand. Kept as glTF wants it, in metres, its texture at half the size.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals

from digitaltwin.export import Material, Primitive, write_glb
from digitaltwin.io._files import write_bytes, write_csv
from digitaltwin.types import Mesh

SOURCE = "menpo3d-{version}/menpo3d/data/james"
LICENCE = "menpo3d-{version}/LICENSE.txt"
_METRES = 1e-3
_NAMED = {"right_eye_outer": 17, "right_eye_inner": 20, "left_eye_inner": 23, "left_eye_outer": 26, "nose_tip": 37,
          "mouth_right": 48, "mouth_left": 54}  # fmt: skip
"""The seven landmarks of evaluation among the 68; the source's left and right are the onlooker's."""


def build_scan(package: Path, version: str, out: Path) -> None:
    """Write ``scan.glb``, ``scan.csv`` (its landmarks, in the same unit) and the licence.

    Args:
        package: The source distribution.
        version: Of the package.
        out: Folder.
    """
    with tarfile.open(package) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(name.format(version=version))
            assert file is not None, name
            return file.read()

        surface = trimesh.load(io.BytesIO(member(SOURCE + ".obj")), file_type="obj", process=False)
        picture = Image.open(io.BytesIO(member(SOURCE + ".jpg"))).convert("RGB")
        points = json.loads(member(SOURCE + ".ljson"))["groups"]["LJSON"]["landmarks"]["points"]
        write_bytes(out / "scan-licence.txt", member(LICENCE))
    assert isinstance(surface, trimesh.Trimesh)
    assert isinstance(surface.visual, TextureVisuals)
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    faces = np.asarray(surface.faces)
    primitive = Primitive(
        Mesh(np.asarray(surface.vertices, np.float32), faces, np.asarray(surface.visual.uv, np.float32)),
        displacements=np.zeros((0, len(surface.vertices), 3), np.float32),
        material=Material("skin", np.asarray(half, np.float32) / 255.0),
    )
    write_glb(out / "scan.glb", [primitive], [], name="scan")
    names = {index: name for name, index in _NAMED.items()}
    rows = [
        [names.get(index, f"point_{index}"), *(f"{_METRES * value:.6f}" for value in point)]
        for index, point in enumerate(points)
    ]
    write_csv(out / "scan.csv", [["landmark", "x", "y", "z"], *rows])
