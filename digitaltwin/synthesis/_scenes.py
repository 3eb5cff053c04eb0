"""A folder of scenes whose truth is known: the records and the pictures, made where they are missing.

They tune and test the fit.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from digitaltwin.geometry import Camera
from digitaltwin.head import HeadModel, load_subjects
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io._images import write_image
from digitaltwin.io._resumable import ResumableJob
from digitaltwin.synthesis._appearance import SubjectAppearance
from digitaltwin.synthesis._config import FORMER_SETTINGS, SceneConfig
from digitaltwin.synthesis._drawing import draw_scene, draw_subjects
from digitaltwin.synthesis._pictures import detect_scene, render_scene
from digitaltwin.synthesis._scene import Scene, camera_on_host
from digitaltwin.types import InputError

_FORMER_FIELDS = {"scores": "detected_expression"}


def make_scenes(head: HeadModel, folder: str | Path, config: SceneConfig) -> Scene:
    """Make scenes, their pictures and what is detected in them, or read them from the folder; a second a scene.

    Args:
        head: The shipped head.
        folder: Holds ``render-000.npz`` and the picture ``render-000.png`` of each scene; it is made if it is missing.
            A run that was stopped goes on where it was.
        config: What decides the scenes.

    Returns:
        The scenes in whose pictures a face was found.

    Raises:
        InputError: The folder cannot be used, or holds scenes of other settings.

    Example:
        >>> import tempfile
        >>> from digitaltwin.head import load_head
        >>> scenes = make_scenes(load_head(), tempfile.mkdtemp(), SceneConfig(count=1))
        >>> scenes.landmarks_px.shape
        (1, 104, 2)
    """
    subjects = load_subjects()
    chosen = draw_subjects(subjects, config)
    appearance = None  # made for the first picture that is missing
    # The settings stand in each file, for a scene depends on them and its number alone: a folder of fewer scenes, or of
    # an older version, is continued.
    job = ResumableJob(folder, {})
    names = [f"render-{number:03d}.npz" for number in range(config.count)]
    rows = []
    with job.begin():
        missing = set(job.missing(names))
        for number in tqdm(range(config.count), desc="renders", unit=" renders", disable=None):
            if names[number] in missing:
                appearance = appearance or SubjectAppearance(head, subjects)
                path, subject = job.folder / names[number], int(chosen[number])
                scene = draw_scene(head, subjects, subject, number, config)
                rng = np.random.default_rng([config.seed, number, 3])
                picture = render_scene(head, scene, *appearance.textures(subject, rng), rng)
                write_image(path.with_suffix(".png"), picture)
                save_scene(path, detect_scene(scene, picture), number, config)
            rows.append(load_scene(job.folder / names[number], number, config))
    scenes = Scene(*(jax.tree.map(lambda *parts: np.stack(parts), *field) for field in zip(*rows)))
    if not scenes.found.all():
        logging.info("no face found on renders %s", np.flatnonzero(~scenes.found).tolist())
    return scenes.take(scenes.found)


def _settings(number: int, config: SceneConfig) -> dict[str, Any]:
    return {"number": number, **{name: value for name, value in asdict(config).items() if name != "count"}}


def save_scene(path: Path, scene: Scene, number: int, config: SceneConfig) -> None:
    """Write what is true of one scene and what was detected in its picture."""
    arrays = scene._asdict()
    camera = arrays.pop("camera")
    arrays |= {f"camera.{name}": value for name, value in camera._asdict().items()}
    save_arrays(path, arrays, {"unit": "mm, px, degrees", **_settings(number, config)})


def load_scene(path: Path, number: int, config: SceneConfig) -> Scene:
    """Read a scene that :func:`save_scene` wrote."""
    arrays, metadata = load_arrays(path)
    # A file may be older than a setting, which then has its default, or than a name.
    arrays = {_FORMER_FIELDS.get(name, name): value for name, value in arrays.items()}
    metadata = {FORMER_SETTINGS.get(name, name): value for name, value in metadata.items()}
    wanted, defaults = _settings(number, config), asdict(SceneConfig())
    differing = [name for name, value in wanted.items() if metadata.get(name, defaults.get(name)) != value]
    if differing:
        raise InputError(f"{path}: is of other settings ({', '.join(differing)}); name another folder, or remove it.")
    camera = camera_on_host(arrays.pop(f"camera.{name}") for name in Camera._fields)
    return Scene(camera=camera, **arrays)
