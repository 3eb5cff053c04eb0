"""Lay the head's skin over a scan, and take its texture over.

    python -m experiments.register --scan=scan.obj --out=out

The scan (OBJ, PLY, STL, GLB, OFF; any pose and unit, with or without texture) may have holes, hair and shoulders. Its
landmarks are found on rendered views, or given: --landmarks is a CSV with a row ``name,x,y,z`` for each of
digitaltwin.evaluation.LANDMARKS. Writes head.glb (rigged and textured), texture.png, registration.npz (the skin in the
order of the head's vertices, in its own frame and in the scan's), picture.png (scan, head, and how far they are apart)
and report.json. Without --scan it registers the one that ships with the package.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import digitaltwin
from digitaltwin.evaluation import read_landmarks
from digitaltwin.export import head_primitives, write_glb
from digitaltwin.head import HeadModel, load_head, parts_vertices
from digitaltwin.io import save_arrays, write_image
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.io.assets import asset_path
from digitaltwin.io.meshes import read_scan
from digitaltwin.registration import (
    Registration,
    RegistrationConfig,
    ScanDistances,
    find_landmarks,
    from_front,
    look,
    register_scan,
    scan_distances,
    transfer_texture,
)
from digitaltwin.render import fitting_camera, head_meshes, render_portraits
from digitaltwin.texture import Projection, complete_texture, eye_texture, make_layout, nearest_skin
from digitaltwin.types import InputError, Mesh
from experiments import command

SATURATED_MM = 3.0
DOUBTFUL_MM = 1.0  # mean distance over the face beyond which something went wrong
DOUBTFUL_LANDMARKS_MM = 3.0  # mean distance of the landmarks, likewise
# From near to far: dark violet, blue, green, yellow.
_HEAT = np.array([[0.27, 0.0, 0.33], [0.23, 0.32, 0.55], [0.13, 0.57, 0.55], [0.37, 0.79, 0.38], [0.99, 0.91, 0.14]])
_VIEWS_DEG = (0.0, 40.0, 85.0)
_SHOT = 480  # edge of a picture [px]

_SCAN = flags.DEFINE_string("scan", None, "The scan; without it, the one that ships with the package.")
_OUT = flags.DEFINE_string("out", "registered", "Folder for the results; made if it is missing.")
_LANDMARKS = flags.DEFINE_string("landmarks", None, "CSV of the scan's seven landmarks; without it they are found.")
_TEXTURE = flags.DEFINE_enum("texture_size", "2048", ["512", "1024", "2048", "4096"], "Side of the texture in pixels.")
_SCALP = flags.DEFINE_float("scalp", 0.0, "What the scan counts where hair usually grows; 1 for the bald.", 0.0, 1.0)
_HAIR = flags.DEFINE_bool("hair", False, "Keep hair and collars in the texture.")
_QUICK = flags.DEFINE_bool("quick", False, "A smaller texture (512), for a first look.")


@contextmanager
def stage(progress: tqdm, seconds: dict[str, float], name: str) -> Iterator[None]:
    """Say what is being done, and keep how long it took."""
    progress.set_description(name)
    begun = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begun, 3)
    progress.update()


def doubts(registration: Registration, distances: ScanDistances, scan: Mesh) -> list[str]:
    """What a user should know before trusting the result."""
    found = []
    if registration.unit == "unknown":
        size = 1.0 / registration.placement.scale
        found.append(f"the scan's unit is none of the usual ones: it was scaled by {size:.4g} to be of human size")
    if registration.turned:
        found.append("the scan's faces pointed inwards and were turned")
    mean = distances.distances_mm[distances.judged].mean()
    off = distances.landmarks_mm[np.isfinite(distances.landmarks_mm)]
    if off.mean() > DOUBTFUL_LANDMARKS_MM or off.max() > 3.0 * DOUBTFUL_LANDMARKS_MM:
        found.append(f"landmarks are {off.mean():.1f} mm off on average, at most {off.max():.1f}: look at the picture")
    if mean > DOUBTFUL_MM:
        found.append(f"the scan is {mean:.1f} mm from the head on average: look at the picture")
    if scan.texture is None and scan.colours is None:
        found.append("the scan has no texture, or none where its file says: the head wears a skin of the package")
    return found


def make_report(
    registration: Registration, distances: ScanDistances, scan: Mesh, warnings: list[str], seconds: dict[str, float]
) -> dict[str, Any]:
    """Plain numbers, ready for JSON."""
    judged = distances.distances_mm[distances.judged]
    known = distances.landmarks_mm[np.isfinite(distances.landmarks_mm)]
    placement = registration.placement
    return {
        "scan": {
            "vertices": len(scan.vertices),
            "faces": len(scan.faces),
            "unit": registration.unit,
            "textured": scan.texture is not None or scan.colours is not None,
        },
        "face_mm": {
            "vertices": len(judged),
            "mean": round(float(judged.mean()), 4),
            "median": round(float(np.median(judged)), 4),
            "percentile_95": round(float(np.quantile(judged, 0.95)), 4),
            "largest": round(float(judged.max()), 4),
        },
        "landmarks_mm": {
            "count": len(known),
            "mean": round(float(known.mean()), 3),
            "largest": round(float(known.max()), 3),
        },
        "scan_from_head": {
            "scale": placement.scale,
            "rotation": placement.rotation.round(8).tolist(),
            "translation": placement.translation.tolist(),
        },
        "warnings": warnings,
        "seconds": seconds,
        "version": digitaltwin.__version__,
    }


def draw(
    head: HeadModel,
    registration: Registration,
    distances: ScanDistances,
    scan: Mesh,
    texture: np.ndarray,
    eyes: jax.Array,
) -> np.ndarray:
    """Mesh, head and distances, from the front, aside and from the side."""
    share = np.nan_to_num(distances.distances_mm) / SATURATED_MM
    heat = np.stack([np.interp(share, np.linspace(0.0, 1.0, len(_HEAT)), channel) for channel in _HEAT.T], axis=1)
    places = registration.scan.places  # a vertex that the file repeats along a seam is judged once, and shown each time
    heat[~np.isin(places, places[distances.judged])] = 0.75
    vertices = registration.placement.apply(registration.scan.vertices)
    coloured = Mesh(vertices, registration.scan.faces, colours=heat)
    rows = []
    for yaw in _VIEWS_DEG:
        camera = from_front(registration.placement, yaw)
        wider = (camera[0], camera[1], 1.25 * camera[2])
        shaded = look(coloured, *wider, size=_SHOT)
        light = shaded.squarely.reshape(_SHOT, 2, _SHOT, 2).mean(axis=(1, 3))[..., None]
        seen = (shaded.face >= 0).reshape(_SHOT, 2, _SHOT, 2).mean(axis=(1, 3))[..., None]
        picture = shaded.picture * (1.0 - 0.5 * seen * (1.0 - light))
        skin = jnp.asarray(registration.vertices, jnp.float32)
        parts = parts_vertices(head, skin, jnp.zeros(len(head.expressions)))
        meshes = head_meshes(head, np.asarray(skin), np.asarray(parts), texture=texture, eye_texture=eyes)
        portrait = fitting_camera(np.asarray(meshes[0].vertices), yaw=float(np.deg2rad(yaw)), size_px=_SHOT)
        rows.append(
            np.stack(
                [
                    look(scan, *wider, size=_SHOT).picture,
                    render_portraits(meshes, [portrait], size_px=_SHOT)[0][0],
                    picture,
                ]
            )
        )
    return np.concatenate([np.concatenate(list(kind), axis=1) for kind in np.swapaxes(np.stack(rows), 0, 1)])


def plain_projection(size: int) -> Projection:
    """Nothing seen: what the completion makes a shipped skin of."""
    return Projection(jnp.full((size, size, 3), 0.35), jnp.zeros((size, size)))


def register(folder: Path, progress: tqdm) -> tuple[dict[str, Any], list[str]]:
    """Read, register, write; returns the report, and what to know before trusting it."""
    head, seconds = load_head(), {}
    size = 512 if _QUICK.value else int(_TEXTURE.value)
    with stage(progress, seconds, "read"):
        scan = read_scan(asset_path("scan.glb") if _SCAN.value is None else Path(_SCAN.value))
    with stage(progress, seconds, "landmarks"):
        if _LANDMARKS.value is None:
            landmarks = find_landmarks(head, scan)
        else:
            landmarks = read_landmarks(_LANDMARKS.value, scan.vertices)
    with stage(progress, seconds, "shape"):
        config = RegistrationConfig(scalp=_SCALP.value)
        registration = register_scan(head, scan.vertices, scan.faces, landmarks, config=config)
        distances = scan_distances(head, registration)
        if not distances.judged.any():
            raise InputError("scan: nothing of it lies over the face; check it, and its landmarks.")
    with stage(progress, seconds, "texture"):
        layout = make_layout(head, size=size, reach_mm=float("inf"))
        coloured = scan.texture is not None or scan.colours is not None
        seen = transfer_texture(head, layout, registration, scan, hair=_HAIR.value) if coloured else None
        seen = plain_projection(size) if seen is None else seen
        texture = np.asarray(complete_texture(seen, layout, jnp.asarray(nearest_skin(seen).pixels)))
        eyes = eye_texture(jax.random.key(0))
    with stage(progress, seconds, "picture"):
        picture = draw(head, registration, distances, scan, texture, eyes)
    with stage(progress, seconds, "write"):
        neutral = np.asarray(registration.vertices, np.float32)
        parts = np.asarray(parts_vertices(head, jnp.asarray(neutral), jnp.zeros(len(head.expressions))))
        pictures = {"texture": texture, "eye_texture": np.asarray(eyes)}
        write_glb(folder / "head.glb", head_primitives(head, neutral, parts, **pictures), head.expression_names)
        write_image(folder / "texture.png", texture)
        write_image(folder / "picture.png", picture)
        arrays = {
            "vertices": neutral,
            "vertices_in_scan": registration.placement.apply(registration.vertices),
            "identity": registration.identity.astype(np.float32),
            "landmarks": registration.landmarks.astype(np.float32),
            "distances_mm": distances.distances_mm.astype(np.float32),
            "judged": distances.judged,
        }
        save_arrays(folder / "registration.npz", arrays, {"unit": registration.unit})
    warnings = doubts(registration, distances, scan)
    report = make_report(registration, distances, scan, warnings, seconds)
    write_json(folder / "report.json", report)
    return report, warnings


def main() -> None:
    """Register, and say what came out."""
    command.keep_compiled_programs()
    folder = make_folder(_OUT.value)
    with tqdm(total=6, unit=" stages", leave=False) as progress:
        report, warnings = register(folder, progress)
    for sentence in warnings:
        print(f"note: {sentence}")
    unit, face, marks = report["scan"]["unit"], report["face_mm"], report["landmarks_mm"]
    print(
        f"{folder}: unit {unit}; face {face['mean']:.2f} mm on average, at most {face['largest']:.2f}; "
        f"landmarks {marks['mean']:.2f} mm; head.glb, texture.png, registration.npz, picture.png, report.json"
    )


if __name__ == "__main__":
    command.run(main)
