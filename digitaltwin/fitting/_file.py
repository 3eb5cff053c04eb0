"""From a file of landmarks to a file of fits, in resumable chunks; ``digitaltwin fit --help`` describes both files."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from digitaltwin._version import __version__
from digitaltwin.fitting._batch import fit_batch
from digitaltwin.fitting._config import FitConfig
from digitaltwin.fitting._fitter import Fitter, make_fitter
from digitaltwin.fitting._points import FacePoints, landmark_points_of, mesh_points_of
from digitaltwin.fitting._result import FitResult
from digitaltwin.geometry import Camera, project
from digitaltwin.geometry._rotations import matrix_from_quaternion
from digitaltwin.head import HeadModel, landmark_points, load_head, load_subjects, neutral_shape
from digitaltwin.io._members import map_member, read_members
from digitaltwin.io._resumable import ResumableArrays
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

POINTS = {"landmarks": landmark_points_of, "mesh": mesh_points_of}
"""Which points of the face the input holds."""
QUICK_COUNT = 256
QUICK_SIZE = (480, 640)


Arrays = dict[str, np.ndarray]


class Source(NamedTuple):
    """Where the heads come from."""

    count: int
    fingerprint: dict[str, Any]
    arrays: Callable[[Path], tuple[Arrays, Arrays]]
    """Given a folder for what has to be unpacked: what each head has of its own, and what all have in common."""


def fields_of(head: HeadModel, count: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes, for one head of ``count`` points, of what the input may hold."""
    return {
        "landmarks": (count, 2),
        "image_size": (2,),
        "shape": tuple(head.mean.shape),
        "scores": (len(head.expressions),),
        "focal_px": (),
        "principal_point_px": (2,),
        "weights": (count,),
    }


def check_source(path: Path, head: HeadModel, points: FacePoints) -> Source:
    """Check that a file can serve as the input, without reading its arrays.

    Raises:
        InputError: It cannot be read, lacks something, or an array's shape or type does not fit.
    """
    members, fields = read_members(path), fields_of(head, len(points.rest))
    for name in ("landmarks", "image_size"):
        if name not in members:
            raise InputError(f"--landmarks={path}: holds no {name} (but {', '.join(members) or 'nothing'}); add it.")
    count = (members["landmarks"].shape or (0,))[0]
    if count == 0:
        raise InputError(
            f"--landmarks={path}: holds no head: landmarks has shape {members['landmarks'].shape}; add some."
        )
    used = [name for name in fields if name in members]
    for name in used:
        shape, dtype, _ = members[name]
        one, many = fields[name], (count, *fields[name])
        if dtype.kind not in "fiu" or shape not in ([many] if name == "landmarks" else [one, many]):
            wanted = f"{many}" if name == "landmarks" else f"{many}, or {one} for all"
            raise InputError(f"--landmarks={path}: {name} is {dtype} {shape}; it has to be numbers, {wanted}.")

    def arrays(scratch: Path) -> tuple[Arrays, Arrays]:
        mapped = {name: map_member(path, name, scratch) for name in used}
        own = {name: part for name, part in mapped.items() if part.ndim > len(fields[name])}
        return own, {name: part for name, part in mapped.items() if name not in own}

    return Source(count, {name: members[name].fingerprint for name in used}, arrays)


def quick_source(head: HeadModel) -> Source:
    """Project landmarks of shipped subjects with random expressions and poses, as a detector without errors would."""
    of_people, of_looks, of_poses = jax.random.split(jax.random.key(0), 3)
    subjects = load_subjects()
    people = jax.random.choice(of_people, len(subjects.identity), (QUICK_COUNT,), replace=False)
    scores = 0.3 * jax.random.uniform(of_looks, (QUICK_COUNT, len(head.expressions))) ** 4
    poses = 0.15 * jax.random.normal(of_poses, (QUICK_COUNT, 3))
    centre = jnp.array([QUICK_SIZE[1] / 2.0, QUICK_SIZE[0] / 2.0])

    @jax.jit
    @jax.vmap
    def look(identity: jax.Array, scores: jax.Array, pose: jax.Array) -> jax.Array:
        vertices = neutral_shape(head, identity) + jnp.einsum("e,evx->vx", scores, head.expressions)
        quaternion = jnp.concatenate([jnp.ones(1), pose])
        rotation = matrix_from_quaternion(quaternion / jnp.linalg.norm(quaternion))
        camera = Camera(rotation, jnp.array([0.0, 0.0, 500.0]), jnp.asarray(700.0), centre)
        return project(camera, landmark_points(head, vertices))

    own = {"landmarks": np.asarray(look(subjects.identity[people], scores, poses)), "scores": np.asarray(scores)}
    return Source(QUICK_COUNT, {"quick": True}, lambda _: (own, {"image_size": np.array(QUICK_SIZE)}))


def part_of(count: int, text: str) -> slice:
    """Find the heads that ``--part`` names.

    Raises:
        InputError: It names none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not part < parts <= count:
        raise InputError(f"--part={text}: name it I/N with I below N, and N at most the {count} heads.")
    return slice(count * part // parts, count * (part + 1) // parts)


def kept(result: FitResult, count: int, *, vertices: bool) -> dict[str, np.ndarray]:
    """Return what the output holds of a chunk's first ``count`` fits."""
    arrays: dict[str, Any] = {
        name: getattr(result, name) for name in ("expression", "identity", "rotation", "translation", "focal_scale")
    }
    arrays |= {"energy": result.energies[:, -1], "status": result.status.astype(jnp.uint8)}
    if vertices:
        arrays["vertices"] = result.vertices
    else:
        arrays |= {
            f"unknowns_{jax.tree_util.keystr(path, simple=True, separator='_')}": leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(result.unknowns)[0]
        }
    return {name: np.asarray(value)[:count] for name, value in arrays.items()}


def fit_chunks(fitter: Fitter, source: Source, first: int, job: ResumableArrays) -> Iterator[tuple[int, FitResult]]:
    """Fit the chunks that are missing; each is under way before the one before it is waited for."""
    own, shared = source.arrays(job.folder)
    shared = {"shape": fitter.mean} | {name: np.array(part, np.float32) for name, part in shared.items()}
    before = None
    for number in job.missing_chunks():
        rows = slice(first + job.rows(number).start, first + job.rows(number).stop)
        options = shared | {name: np.array(part[rows], np.float32) for name, part in own.items()}
        required = [options.pop(name) for name in ("shape", "landmarks", "image_size")]
        result = fit_batch(fitter, *required, **options, chunk_size=min(job.chunk, job.count))
        if before is not None:
            yield before
        before = number, result
    if before is not None:
        yield before


def settings_of(
    source: Source, part: slice, chunk: int, config: FitConfig, *, points: str, vertices: bool
) -> dict[str, Any]:
    """Collect all that decides what the output holds, but for the machine's own rounding."""
    return {
        "digitaltwin": __version__,
        "jax": jax.__version__,
        "head": hashlib.sha256(asset_path("head.npz").read_bytes()).hexdigest(),
        "input": source.fingerprint,
        "rows": [part.start, part.stop],
        "chunk": chunk,
        "config": dataclasses.asdict(config),
        "points": points,
        "vertices": vertices,
    }


def fit_file(
    landmarks: Path | None,
    out: Path,
    *,
    chunk: int,
    config: FitConfig,
    points: str,
    part: str,
    vertices: bool,
    quick: bool,
    quiet: bool | None = None,
) -> str:
    """Fit what is missing; the parameters are the flags of ``digitaltwin fit``.

    Args:
        landmarks: The ``.npz`` with the landmarks; None for the shipped subjects' own.
        out: The ``.npz`` to write; its folder exists.
        chunk: Heads that are computed, and written, at once.
        config: Configuration of the fit.
        points: One of :data:`POINTS`.
        part: ``I/N``: of the N equal parts of the file only the I-th, from 0.
        vertices: Whether to write the skin's vertices, not the unknowns.
        quick: Whether to stop after :data:`QUICK_COUNT` heads.
        quiet: Whether to show no progress; None shows it where stderr is a terminal.

    Returns:
        What was done, in one line.

    Raises:
        InputError: A file or a flag cannot be used.
    """
    if landmarks is None and not quick:
        raise InputError("--landmarks: has to name the file with the landmarks; --quick shows the command without one.")
    if landmarks is None and points != "landmarks":
        raise InputError(f"--points={points}: needs a file; name it with --landmarks.")
    if not out.parent.is_dir():
        raise InputError(f"--out={out}: there is no folder {out.parent}; make it, or name another.")
    head = load_head()
    face_points = POINTS[points](head)
    source = quick_source(head) if landmarks is None else check_source(landmarks, head, face_points)
    rows = part_of(min(source.count, QUICK_COUNT) if quick else source.count, part)
    count = rows.stop - rows.start
    job = ResumableArrays(out, settings_of(source, rows, chunk, config, points=points, vertices=vertices), count, chunk)
    if job.is_done():
        job.remove()  # a run that was killed between its last two steps leaves its folder
        return f"{out}: {count} heads, none of them new"
    with job.begin():
        fitter = make_fitter(head, config, points=face_points)
        new = job.length(job.missing_chunks())
        with tqdm(total=count, initial=count - new, unit=" heads", disable=quiet) as bar:
            for number, result in fit_chunks(fitter, source, rows.start, job):
                length = job.length([number])
                job.write(number, kept(result, length, vertices=vertices))
                bar.update(length)
        # Of all points that a contour may slide over, a head needs few.
        described = {"unit": "mm", "expression_names": list(head.expression_names)}
        job.assemble(described, compress=("unknowns_multipliers", "unknowns_change"))
    return f"{out}: {count} heads, {new} of them new"
