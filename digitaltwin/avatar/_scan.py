"""Scan to avatar: the whole chain on one page.

    read scan -> landmarks -> skin in the head's topology -> texture -> files

:func:`avatar_from_scan` runs it, ``ScanAvatar.save`` writes the result. Every stage is a function of its own room
and can be called and replaced separately.
"""

import os
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from digitaltwin._stages import stage
from digitaltwin._version import __version__
from digitaltwin.export import head_primitives, write_glb
from digitaltwin.head import HeadModel, load_head, parts_vertices
from digitaltwin.io import read_landmarks, read_scan, save_arrays
from digitaltwin.io._files import FilePath, make_folder, write_json
from digitaltwin.io._images import write_image
from digitaltwin.registration import RegistrationConfig, find_landmarks, register_scan, scan_distances, transfer_texture
from digitaltwin.registration._register import Registration, ScanDistances
from digitaltwin.registration._scan_landmarks import front_camera, is_coloured, render_scan
from digitaltwin.render import head_meshes
from digitaltwin.render._portrait import fitting_camera, render_portraits
from digitaltwin.texture import complete_texture, eye_texture, make_layout, nearest_skin
from digitaltwin.texture._projection import Projection
from digitaltwin.types import InputError, Mesh

SATURATED_MM = 3.0
"""Distance at which the picture's colours end."""
DOUBTFUL_MM = 1.0
"""Mean distance over the face beyond which something went wrong."""
DOUBTFUL_LANDMARKS_MM = 3.0
"""Mean distance of the landmarks, likewise."""
# From near to far: dark violet, blue, green, yellow.
_HEAT = np.array([[0.27, 0.0, 0.33], [0.23, 0.32, 0.55], [0.13, 0.57, 0.55], [0.37, 0.79, 0.38], [0.99, 0.91, 0.14]])
_VIEWS_DEG = (0.0, 40.0, 85.0)
_VIEW_WIDTH_MM, _VIEW_PX = 312.5, 480  # of a picture, and its edge


@dataclass(frozen=True)
class ScanAvatar:
    """A textured, rigged head made of a scan, and how it came about."""

    head: HeadModel
    """The head model."""
    scan: Mesh
    """The scan as it was read, in its own frame and unit."""
    registration: Registration
    """The skin in the head's topology, and its pose on the scan."""
    distances: ScanDistances
    """How far the scan is from the skin [mm]."""
    texture: Float[np.ndarray, "s s 3"]
    """Colours of skin and interior, sRGB in [0, 1]."""
    eye_texture: Float[np.ndarray, "r r 3"]
    """Colours of both eyeballs, sRGB in [0, 1]."""
    report: dict[str, Any]
    """Plain numbers, warnings, and the seconds of each stage: what ``report.json`` holds."""

    @property
    def neutral(self) -> Float[np.ndarray, "v 3"]:
        """The person's skin [mm], head frame."""
        return np.asarray(self.registration.vertices, np.float32)

    def _parts(self) -> Float[np.ndarray, "p 3"]:
        """Interior, eyes, teeth and tongue [mm], head frame."""
        still = jnp.zeros(len(self.head.expressions))
        return np.asarray(parts_vertices(self.head, jnp.asarray(self.neutral), still))

    def save(self, folder: FilePath) -> None:
        """Write ``head.glb``, ``texture.png``, ``registration.npz``, ``picture.png`` and ``report.json``.

        Args:
            folder: Folder of the files; made if it is missing.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = make_folder(folder)
        seconds = dict(self.report["seconds"])
        with stage(seconds, "picture"):
            picture = self.picture()
        with stage(seconds, "write"):
            pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
            primitives = head_primitives(self.head, self.neutral, self._parts(), **pictures)
            write_glb(folder / "head.glb", primitives, self.head.expression_names)
            write_image(folder / "texture.png", self.texture)
            write_image(folder / "picture.png", picture)
            found = self.registration
            arrays = {
                "vertices": self.neutral,
                "vertices_in_scan": found.scan_from_head.apply(found.vertices),
                "identity": found.identity.astype(np.float32),
                "landmarks": found.landmarks.astype(np.float32),
                "distances_mm": self.distances.distances_mm.astype(np.float32),
                "valid": self.distances.valid,
                "judged": self.distances.valid,  # its former name, by which scripts read it
            }
            save_arrays(folder / "registration.npz", arrays, {"unit": found.unit})
        write_json(folder / "report.json", {**self.report, "seconds": seconds})

    def picture(self, size: int = _VIEW_PX) -> Float[np.ndarray, "rows columns 3"]:
        """Scan, head and distances, from the front, three-quarter and the side.

        Args:
            size: Edge of each of the nine pictures [px].

        Returns:
            sRGB in [0, 1]; distances from dark violet (none) to yellow (3 mm), grey where they are not valid.
        """
        found, distances = self.registration, self.distances
        share = np.nan_to_num(distances.distances_mm) / SATURATED_MM
        steps = np.linspace(0.0, 1.0, len(_HEAT))
        heat = np.stack([np.interp(share, steps, channel) for channel in _HEAT.T], axis=1)
        places = found.scan.places  # a vertex that the file repeats along a seam is valid once, and shown each time
        heat[~np.isin(places, places[distances.valid])] = 0.75
        coloured = Mesh(found.scan_from_head.apply(found.scan.vertices), found.scan.faces, colours=heat)
        pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
        meshes = head_meshes(self.head, self.neutral, self._parts(), **pictures)
        columns = []
        for yaw_deg in _VIEWS_DEG:
            camera = front_camera(found.scan_from_head, yaw_deg=yaw_deg, width_mm=_VIEW_WIDTH_MM, size=size)
            shaded = render_scan(coloured, camera, size=size)
            facing, seen = (
                samples.reshape(size, 2, size, 2).mean(axis=(1, 3))[..., None]
                for samples in (shaded.facing_ratio, shaded.face >= 0)
            )
            shown = shaded.picture * (1.0 - 0.5 * seen * (1.0 - facing))
            portrait = fitting_camera(np.asarray(meshes[0].vertices), yaw=float(np.deg2rad(yaw_deg)), size_px=size)
            rendered = np.asarray(render_portraits(meshes, [portrait], size_px=size)[0][0])
            columns.append(np.concatenate([render_scan(self.scan, camera, size=size).picture, rendered, shown]))
        return np.concatenate(columns, axis=1)


def avatar_from_scan(
    scan: FilePath | Mesh,
    *,
    landmarks: FilePath | Float[Any, "k 3"] | None = None,
    head: HeadModel | None = None,
    config: RegistrationConfig | None = None,
    texture_size: int = 2048,
    hair: bool = False,
) -> ScanAvatar:
    """Turn a scan of a head into a textured, rigged head in the head model's topology.

    Args:
        scan: A file (OBJ, PLY, STL, GLB, OFF) or a mesh, of any pose and unit, with or without texture; it may have
            holes, hair and shoulders.
        landmarks: The scan's landmarks: a file that :func:`digitaltwin.io.read_landmarks` reads, or positions [7 3]
            or [104 3] in the scan's frame; by default they are detected on rendered views.
        head: The head model; the shipped one by default.
        config: The configuration of the registration.
        texture_size: Edge of the texture [texels], a power of two of at least 512.
        hair: Whether to keep hair and collars in the texture.

    Returns:
        The avatar, its report included.

    Raises:
        InputError: The scan or its landmarks cannot be used; the message says why and what to do.

    Example:
        >>> from digitaltwin.io import asset_path
        >>> avatar = avatar_from_scan(asset_path("scan.glb"), landmarks=asset_path("scan.csv"), texture_size=512)
        >>> avatar.report["scan"]["unit"], avatar.report["face_mm"]["mean"] < 0.5
        ('m', True)
    """
    seconds: dict[str, float] = {}
    with stage(seconds, "read"):
        head = load_head() if head is None else head
        scan = scan if isinstance(scan, Mesh) else read_scan(scan)
        if isinstance(landmarks, str | os.PathLike):
            landmarks = read_landmarks(landmarks, scan.vertices)
    with stage(seconds, "landmarks"):
        known = find_landmarks(head, scan) if landmarks is None else np.asarray(landmarks, np.float64)
    with stage(seconds, "shape"):
        registration = register_scan(head, scan.vertices, scan.faces, known, config=config)
        distances = scan_distances(head, registration)
        if not distances.valid.any():
            raise InputError("scan: nothing of it lies over the face; check it, and its landmarks.")
    with stage(seconds, "texture"):
        layout = make_layout(head, size=texture_size, reach_mm=float("inf"))
        if is_coloured(scan):
            seen = transfer_texture(head, layout, registration, scan, hair=hair)
        else:  # nothing seen: the completion makes a shipped skin of it
            seen = Projection(jnp.full((texture_size, texture_size, 3), 0.35), jnp.zeros((texture_size, texture_size)))
        texture = np.asarray(complete_texture(seen, layout, jnp.asarray(nearest_skin(seen).pixels)))
        eyes = np.asarray(eye_texture(jax.random.key(0)))
    report = _make_report(registration, distances, scan, seconds)
    return ScanAvatar(head, scan, registration, distances, texture, eyes, report)


def _doubts(registration: Registration, distances: ScanDistances, scan: Mesh) -> list[str]:
    """What a user should know before trusting the result, one sentence each."""
    found = []
    if registration.unit == "unknown":
        size = 1.0 / registration.scan_from_head.scale
        found.append(f"the scan's unit is none of the usual ones: it was scaled by {size:.4g} to be of human size")
    if registration.faces_flipped:
        found.append("the scan's faces pointed inwards and were flipped")
    mean = distances.distances_mm[distances.valid].mean()
    off = distances.landmarks_mm[np.isfinite(distances.landmarks_mm)]
    if off.mean() > DOUBTFUL_LANDMARKS_MM or off.max() > 3.0 * DOUBTFUL_LANDMARKS_MM:
        found.append(f"landmarks are {off.mean():.1f} mm off on average, at most {off.max():.1f}: look at the picture")
    if mean > DOUBTFUL_MM:
        found.append(f"the scan is {mean:.1f} mm from the head on average: look at the picture")
    if not is_coloured(scan):
        found.append("the scan has no texture, or none where its file says: the head wears a skin of the package")
    return found


def _make_report(
    registration: Registration, distances: ScanDistances, scan: Mesh, seconds: dict[str, float]
) -> dict[str, Any]:
    """Plain numbers, ready for JSON."""
    valid = distances.distances_mm[distances.valid]
    known = distances.landmarks_mm[np.isfinite(distances.landmarks_mm)]
    pose = registration.scan_from_head
    return {
        "scan": {
            "vertices": len(scan.vertices),
            "faces": len(scan.faces),
            "unit": registration.unit,
            "textured": is_coloured(scan),
        },
        "face_mm": {
            "vertices": len(valid),
            "mean": round(float(valid.mean()), 4),
            "median": round(float(np.median(valid)), 4),
            "percentile_95": round(float(np.quantile(valid, 0.95)), 4),
            "largest": round(float(valid.max()), 4),
        },
        "landmarks_mm": {
            "count": len(known),
            "mean": round(float(known.mean()), 3),
            "largest": round(float(known.max()), 3),
        },
        "scan_from_head": {
            "scale": pose.scale,
            "rotation": pose.rotation.round(8).tolist(),
            "translation": pose.translation.tolist(),
        },
        "warnings": _doubts(registration, distances, scan),
        "seconds": seconds,
        "version": __version__,
    }
