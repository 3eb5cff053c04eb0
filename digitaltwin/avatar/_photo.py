"""Photo to avatar: the whole chain on one page.

    read photo -> face mesh, landmarks, expression -> pose, identity, expression, correction -> texture -> files

:func:`create_avatar` runs it, :meth:`Avatar.save` writes the result. Every stage is a function of its own room and can
be called, batched and replaced separately; nothing here computes anything.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float

from digitaltwin._stages import stage
from digitaltwin.avatar._report import UNUSABLE_PERCENT, doubts, make_report, residuals
from digitaltwin.export import head_primitives, preview, write_glb
from digitaltwin.fitting import OK, FitConfig, FitResult, Fitter, fit, fit_groups, make_fitter
from digitaltwin.geometry import camera_points
from digitaltwin.head import HeadModel, express, load_head, parts_vertices
from digitaltwin.io import Photo, photo_from_array, read_image, write_image
from digitaltwin.io._files import FilePath, make_folder, write_json
from digitaltwin.perception import FaceLandmarks, Perception, detect_landmarks, load_perception
from digitaltwin.render import head_meshes
from digitaltwin.texture import (
    TextureLayout,
    complete_texture,
    eye_texture,
    make_layout,
    nearest_skin,
    project_texture,
    seen_iris_colour,
)
from digitaltwin.types import InputError

_FIT_PROBLEMS = {
    1: "the landmarks are not finite",
    2: "too few landmarks were found",
    3: "the head would lie behind the camera",
    4: "the fit did not converge",
}


class Workshop(NamedTuple):
    """What all avatars of one configuration share; made by :func:`make_workshop`."""

    head: HeadModel
    perception: Perception
    fitter: Fitter
    layout: TextureLayout


@dataclass(frozen=True)
class Avatar:
    """A textured, rigged head and how it came about."""

    head: HeadModel
    photo: Photo
    face: FaceLandmarks
    fit: FitResult
    neutral: Float[np.ndarray, "v 3"]
    """The person's neutral skin [mm], head frame."""
    neutral_parts: Float[np.ndarray, "p 3"]
    texture: Float[np.ndarray, "s s 3"]
    """sRGB, of skin and interior."""
    eye_texture: Float[np.ndarray, "r r 3"]
    """sRGB, of both eyeballs."""
    report: dict[str, Any]
    """Every fitted value, residuals, seconds of each stage, versions: what ``report.json`` holds."""

    def save(self, folder: FilePath) -> None:
        """Write ``avatar.glb``, ``texture.png``, ``preview.png`` and ``report.json``.

        Args:
            folder: made if it is missing.

        Raises:
            InputError: the folder cannot be written to.
        """
        folder = make_folder(folder)
        seconds = dict(self.report["seconds"])

        def export() -> None:
            with stage(seconds, "export"):
                pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
                primitives = head_primitives(self.head, self.neutral, self.neutral_parts, **pictures)
                write_glb(folder / "avatar.glb", primitives, self.head.expression_names)
                write_image(folder / "texture.png", self.texture)

        # Compressing takes one core, and as long as drawing.
        with ThreadPoolExecutor(max_workers=1) as pool:
            exported = pool.submit(copy_context().run, export)  # whoever listens to stages hears of this one too
            with stage(seconds, "preview"):
                write_image(folder / "preview.png", self.preview())
            exported.result()
        write_json(folder / "report.json", {**self.report, "seconds": seconds})

    def preview(self, size: int = 640) -> Float[np.ndarray, "rows columns 3"]:
        """The photo with the fitted mesh over it, then front, three-quarter and side view, the expression on."""
        expression = self.fit.expression
        skin = express(self.head, jnp.asarray(self.neutral), expression)
        parts = parts_vertices(self.head, jnp.asarray(self.neutral), expression)
        pictures = {"texture": self.texture, "eye_texture": self.eye_texture}
        meshes = head_meshes(self.head, np.asarray(skin), np.asarray(parts), **pictures)
        return preview(self.photo.pixels, meshes, self.fit.camera, size=size)


def make_workshop(
    head: HeadModel | None = None, *, config: FitConfig | None = None, texture_size: int = 2048
) -> Workshop:
    """Prepare what no photo changes: networks, factorised correction field, texels of the atlas.

    Args:
        head: the shipped one by default.
        config: of the fit. ``shape="basis"`` and ``shape="groups"`` need ``fit_identity``; for a shape that is given,
            it decides whether the identity may still move.
        texture_size: edge of the texture [texels], a power of two of at least 512.
    """
    head = load_head() if head is None else head
    config = FitConfig() if config is None else config
    return Workshop(head, load_perception(), make_fitter(head, config), make_layout(head, size=texture_size))


@functools.lru_cache(maxsize=2)  # a layout of 2048 texels holds about 100 MB
def _default_workshop(texture_size: int, fit_identity: bool) -> Workshop:
    return make_workshop(config=FitConfig(fit_identity=fit_identity), texture_size=texture_size)


def create_avatar(
    image: FilePath | Photo | Float[np.ndarray, "h w 3"] | np.ndarray,
    *,
    focal_px: float | None = None,
    shape: Literal["basis", "groups"] | Float[Array, "v 3"] = "basis",
    texture_size: int = 2048,
    workshop: Workshop | None = None,
) -> Avatar:
    """Turn one photo of a face into a textured, rigged head.

    Args:
        image: a file, or pixels: float sRGB in [0, 1] or uint8, [h w 3]. Of several faces the largest counts.
        focal_px: focal length in pixels of the image; EXIF's, or else an estimate, by default.
        shape: ``"basis"`` fits the identity coefficients of the head model along with everything else, as classical
            morphable model fitting does, from the mean head. ``"groups"`` does so from the mean of each of the head's
            groups and keeps the fit of the lowest energy; it seldom is the person's group (docs/accuracy.md). An array
            is taken as the neutral shape [mm], as a trained decoder predicts it.
        texture_size: edge of the texture [texels], a power of two of at least 512; ignored with ``workshop``.
        workshop: of :func:`make_workshop`, for another head model or configuration.

    Returns:
        The avatar.

    Raises:
        InputError: the image cannot be read, shows no usable face, or an argument does not fit.

    Example:
        >>> from digitaltwin.io.assets import asset_path
        >>> avatar = create_avatar(asset_path("portrait.png"), texture_size=512)
        >>> avatar.texture.shape, avatar.report["face"]["count"]
        ((512, 512, 3), 1)
    """
    seconds: dict[str, float] = {}
    with stage(seconds, "read"):
        photo = _as_photo(image, focal_px)
    with stage(seconds, "prepare"):
        shop = _default_workshop(texture_size, isinstance(shape, str)) if workshop is None else workshop
    with stage(seconds, "landmarks"):
        face = detect_landmarks(photo.pixels, perception=shop.perception)
    with stage(seconds, "fit"):
        result, start = _fit(shop, photo, face, shape)
        measured = residuals(shop.head, shop.fitter, face, result)
        if measured["held_out_mesh_points"] > UNUSABLE_PERCENT:
            raise InputError(
                f"image: the head could not be fitted (off by {measured['held_out_mesh_points']:.0f} % of the eye "
                "distance); take a photo that shows the whole face from the front."
            )
        for sentence in doubts(result, measured):
            logging.warning("%s", sentence)
    with stage(seconds, "texture"):
        camera = jax.tree.map(np.asarray, result.camera)  # on the host: nothing is compiled for two sums
        projection = project_texture(
            photo.pixels,
            camera_points(camera, np.asarray(result.vertices)),
            shop.head.faces,
            shop.layout,
            focal_px=camera.focal_px,
            principal_point_px=camera.principal_point_px,
        )
        skin = nearest_skin(projection)
        texture = np.asarray(complete_texture(projection, shop.layout, skin.pixels))
        left_blink, right_blink = (
            float(face.scores[shop.head.expression_names.index(f"eyeBlink{side}")]) for side in ("Left", "Right")
        )
        iris = seen_iris_colour(photo.pixels, np.asarray(face.mesh_px), left_blink=left_blink, right_blink=right_blink)
        eye = np.asarray(eye_texture(0, iris=iris))
    neutral_parts = parts_vertices(shop.head, result.neutral, jnp.zeros_like(result.expression))
    report = make_report(
        shop.head, photo, face, result, measured, {"start": start, "skin": skin.name, "iris": iris}, seconds
    )
    return Avatar(
        shop.head, photo, face, result, np.asarray(result.neutral), np.asarray(neutral_parts), texture, eye, report
    )


def _as_photo(image: Any, focal_px: float | None) -> Photo:
    if isinstance(image, Photo):
        return image if focal_px is None else replace(image, focal_px=focal_px)
    if isinstance(image, (np.ndarray, jax.Array)):
        return photo_from_array(np.asarray(image), focal_px=focal_px)
    return read_image(image, focal_px=focal_px)


def _fit(
    shop: Workshop, photo: Photo, face: FaceLandmarks, shape: Literal["basis", "groups"] | Float[Array, "v 3"]
) -> tuple[FitResult, str]:
    """The fit and what it started from."""
    size = jnp.asarray(photo.pixels.shape[:2])
    options: dict[str, Any] = {"scores": face.scores, "focal_px": photo.focal_px}
    if isinstance(shape, str):
        if shape not in ("basis", "groups"):
            raise InputError(f"shape: {shape!r} is no way to find one; give 'basis', 'groups' or an array of vertices.")
        if not shop.fitter.config.fit_identity:
            raise InputError(
                "workshop: its fitter holds the identity; make it with fit_identity=True, or give a shape."
            )
        if shape == "groups":
            best = fit_groups(shop.fitter, face.landmarks_px, size, **options)
            result, start = best.result, f"mean of {shop.head.group_names[int(best.group)]}"
        else:
            result, start = fit(shop.fitter, shop.fitter.mean, face.landmarks_px, size, **options), "mean head"
    else:
        result, start = fit(shop.fitter, jnp.asarray(shape), face.landmarks_px, size, **options), "given shape"
    status = int(result.status)
    if status != OK:
        raise InputError(f"image: {_FIT_PROBLEMS[status]} (status {status}); take a sharper photo from the front.")
    return result, start
