"""Photo to avatar: the whole chain on one page.

    read photo -> face mesh, landmarks, expression -> pose, identity, expression, correction -> texture -> files

:func:`create_avatar` runs it, :meth:`Avatar.save` writes the result. Every stage is a function of its own room and can
be called, batched and replaced separately; what JAX computes of a stage is one compiled program, kept on disk
(:mod:`digitaltwin.io._programs`), and all else is NumPy.
"""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float

from digitaltwin._stages import stage
from digitaltwin.avatar._fit_stage import fit_face, with_expression
from digitaltwin.avatar._report import UNUSABLE_PERCENT, doubts, make_report, residuals
from digitaltwin.export import head_primitives, preview, write_glb
from digitaltwin.fitting import FitConfig, FitResult, GroupMeans, MeanHead, Shape, make_fitter
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io import photo_from_array, read_image
from digitaltwin.io._files import FilePath, make_folder, write_json
from digitaltwin.io._images import Photo, write_image
from digitaltwin.io._memory import return_large_arrays
from digitaltwin.io._programs import note_programs_stored
from digitaltwin.perception import detect_landmarks, load_perception
from digitaltwin.perception._detection import FaceLandmarks, Perception
from digitaltwin.render import head_meshes
from digitaltwin.texture import (
    complete_texture,
    eye_texture,
    make_layout,
    nearest_skin,
    project_texture,
)
from digitaltwin.texture._eyes import seen_iris_colour
from digitaltwin.texture._layout import TextureLayout
from digitaltwin.types import InputError


@dataclass(frozen=True)
class AvatarPipeline:
    """Prepared data that all avatars of one configuration share; :func:`make_pipeline` makes it."""

    head: HeadModel
    """The head model."""
    perception: Perception
    """The networks that detect the face."""
    fitter: Fitter
    """The model prepared for the fit."""
    layout: TextureLayout
    """Texels of the skin, at the size of the texture."""


@dataclass(frozen=True)
class Avatar:
    """A textured, rigged head and how it came about."""

    head: HeadModel
    """The head model."""
    photo: Photo
    """The photo it was made from."""
    face: FaceLandmarks
    """The face that was detected in it."""
    fit: FitResult
    """The fit to its landmarks."""
    neutral: Float[np.ndarray, "v 3"]
    """The person's neutral skin [mm], head frame."""
    neutral_parts: Float[np.ndarray, "p 3"]
    """Interior, eyeballs, teeth and tongue without expression [mm], head frame."""
    texture: Float[np.ndarray, "s s 3"]
    """Texture of skin and interior, sRGB."""
    eye_texture: Float[np.ndarray, "r r 3"]
    """Texture of both eyeballs, sRGB."""
    report: dict[str, Any]
    """Every fitted value, residuals, seconds of each stage, versions: what ``report.json`` holds."""

    def save(self, folder: FilePath) -> None:
        """Write ``avatar.glb``, ``texture.png``, ``preview.png`` and ``report.json``.

        Args:
            folder: Where to; made if it is missing. Files of these names are replaced.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = make_folder(folder)
        seconds = dict(self.report["seconds"])
        # GLB and texture are encoded while the preview is rendered.
        with ThreadPoolExecutor(2) as threads:
            files = [threads.submit(self._write_glb, folder / "avatar.glb")]
            files += [threads.submit(write_image, folder / "texture.png", self.texture)]
            with stage(seconds, "preview"):
                write_image(folder / "preview.png", self.preview())
            with stage(seconds, "export"):
                for file in files:
                    file.result()
        write_json(folder / "report.json", {**self.report, "seconds": seconds})
        note_programs_stored()

    def _write_glb(self, path: FilePath) -> None:
        pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
        primitives = head_primitives(self.head, self.neutral, self.neutral_parts, **pictures)
        write_glb(path, primitives, self.head.expression_names)

    def preview(self, size: int = 640) -> Float[np.ndarray, "rows columns 3"]:
        """Render the photo with the fitted mesh over it, then front, three-quarter and side view with the expression.

        Args:
            size: Edge of each of the four squares [px].

        Returns:
            An sRGB picture, ``[size, 4 size, 3]``.
        """
        skin, parts = with_expression(self.head, jax.device_put(self.neutral), self.fit.expression)
        pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
        meshes = head_meshes(self.head, np.asarray(skin), np.asarray(parts), **pictures)
        return preview(self.photo.pixels, meshes, self.fit.camera, size=size)


def make_pipeline(
    head: HeadModel | None = None, *, config: FitConfig | None = None, texture_size: int = 2048
) -> AvatarPipeline:
    """Prepare what no photo changes: networks, factorised correction field, texels of the atlas.

    With glibc, blocks of a megabyte and more are mapped on their own from then on (``M_MMAP_THRESHOLD``, for the whole
    process, unless the user has set it): otherwise memory would grow with every size of photo.

    Args:
        head: The head model; the shipped one by default.
        config: Configuration of the fit. The starts ``MeanHead()`` and ``GroupMeans()`` need ``fit_identity``; for a
            shape that is given, it decides whether the identity may still move.
        texture_size: Edge of the texture [texels], a power of two of at least 512.

    Returns:
        The pipeline, for any number of calls of :func:`create_avatar`.

    Raises:
        InputError: The texture's size is none of these.

    Example:
        >>> pipeline = make_pipeline(texture_size=512)
        >>> pipeline.layout.covered.shape
        (512, 512)
    """
    return_large_arrays()
    head = load_head() if head is None else head
    config = FitConfig() if config is None else config
    return AvatarPipeline(head, load_perception(), make_fitter(head, config), make_layout(head, size=texture_size))


@functools.lru_cache(maxsize=2)  # a layout of 2048 texels holds about 100 MB
def _default_pipeline(texture_size: int, fit_identity: bool) -> AvatarPipeline:
    return make_pipeline(config=FitConfig(fit_identity=fit_identity), texture_size=texture_size)


def create_avatar(
    image: FilePath | Photo | Float[np.ndarray, "h w 3"] | np.ndarray,
    *,
    focal_px: float | None = None,
    start: MeanHead | GroupMeans | Shape | None = None,
    texture_size: int = 2048,
    pipeline: AvatarPipeline | None = None,
    shape: str | Float[Array, "v 3"] | None = None,
    workshop: AvatarPipeline | None = None,
) -> Avatar:
    """Turn one photo of a face into a textured, rigged head.

    Args:
        image: A file, or pixels: float sRGB in [0, 1] or uint8, [h w 3]. Of several faces the largest counts.
        focal_px: Focal length in pixels of the image; EXIF's, or else an estimate, by default.
        start: Where the fit starts from. ``MeanHead()``, the default, fits the identity coefficients of the head model
            along with everything else, as classical morphable model fitting does. ``GroupMeans()`` does so from the
            mean of each of the head's groups and keeps the fit of the lowest energy; that seldom is the person's group
            (docs/accuracy.md). ``Shape(vertices)`` takes the neutral shape [mm] as given, as a trained decoder
            predicts it.
        texture_size: Edge of the texture [texels], a power of two of at least 512; ignored with ``pipeline``.
        pipeline: What :func:`make_pipeline` has made, for another head model or configuration.
        shape: Deprecated: ``"basis"`` is ``start=MeanHead()``, ``"groups"`` is ``start=GroupMeans()``, an array is
            ``start=Shape(array)``.
        workshop: Deprecated name of ``pipeline``.

    Returns:
        The avatar.

    Raises:
        InputError: The image cannot be read, shows no usable face, or an argument does not fit.

    Example:
        >>> from digitaltwin.io.assets import asset_path
        >>> avatar = create_avatar(asset_path("portrait.png"), texture_size=512)
        >>> avatar.texture.shape, avatar.report["face"]["count"]
        ((512, 512, 3), 1)
    """
    if shape is not None:
        warnings.warn(
            "create_avatar(shape=) is now start=MeanHead() | GroupMeans() | Shape(vertices).",
            DeprecationWarning,
            stacklevel=2,
        )
        start = _start_of(shape)
    if workshop is not None:
        warnings.warn("create_avatar(workshop=) is now pipeline=.", DeprecationWarning, stacklevel=2)
        pipeline = workshop
    start = MeanHead() if start is None else start
    seconds: dict[str, float] = {}
    with stage(seconds, "read"):
        photo = _as_photo(image, focal_px)
    with stage(seconds, "prepare"):
        if pipeline is None:
            pipeline = _default_pipeline(texture_size, not isinstance(start, Shape))
        head = pipeline.head
    with stage(seconds, "landmarks"):
        face = detect_landmarks(photo.pixels, perception=pipeline.perception)
    with stage(seconds, "fit"):
        fitted = fit_face(head, pipeline.fitter, photo, face, start)
        measured = residuals(fitted)
        if measured["held_out_mesh_points"] > UNUSABLE_PERCENT:
            raise InputError(
                f"image: the head could not be fitted (off by {measured['held_out_mesh_points']:.0f} % of the eye "
                "distance); take a photo that shows the whole face from the front."
            )
        result = fitted.result
        for sentence in doubts(result, measured):
            logging.warning("%s", sentence)
        still = jax.device_put(np.zeros(result.expression.shape, np.float32))
        _, neutral_parts = with_expression(head, result.neutral, still)
    with stage(seconds, "texture"):
        projection = project_texture(
            photo.pixels,
            fitted.posed,
            head.faces,
            pipeline.layout,
            focal_px=float(result.camera.focal_px),
            principal_point_px=np.asarray(result.camera.principal_point_px),
        )
        skin = nearest_skin(projection)
        texture = np.asarray(complete_texture(projection, pipeline.layout, skin.pixels))
        scores = dict(zip(head.expression_names, np.asarray(face.scores).tolist()))
        iris = seen_iris_colour(
            photo.pixels,
            np.asarray(face.mesh_px),
            left_blink=scores["eyeBlinkLeft"],
            right_blink=scores["eyeBlinkRight"],
        )
        eye = np.asarray(eye_texture(0, iris=iris))
    choices = {"start": fitted.start, "skin": skin.name, "iris": iris}
    report = make_report(head, photo, face, result, measured, choices, seconds)
    neutral = np.asarray(result.neutral)
    return Avatar(head, photo, face, result, neutral, np.asarray(neutral_parts), texture, eye, report)


def _as_photo(image: Any, focal_px: float | None) -> Photo:
    if isinstance(image, Photo):
        return image if focal_px is None else replace(image, focal_px=focal_px)
    if isinstance(image, (np.ndarray, jax.Array)):
        return photo_from_array(np.asarray(image), focal_px=focal_px)
    return read_image(image, focal_px=focal_px)


def _start_of(shape: Any) -> MeanHead | GroupMeans | Shape:
    """The start that the deprecated argument ``shape`` names."""
    if isinstance(shape, str):
        if shape not in ("basis", "groups"):
            raise InputError(f"shape: {shape!r} is no way to find one; give 'basis', 'groups' or an array of vertices.")
        return MeanHead() if shape == "basis" else GroupMeans()
    return Shape(jnp.asarray(shape))
