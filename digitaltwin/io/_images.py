"""Photos in, pictures out.

A photo reaches the rest of the package in one form, whatever the file was: upright, three channels, float32, sRGB, of
bounded size. Letters: h w rows and columns.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, Image, ImageCms, ImageOps

from digitaltwin.io._files import FilePath, reason, write_bytes
from digitaltwin.types import InputError

MAX_MEGAPIXELS = 100
"""Larger photos are refused by their header, before any memory is spent on them."""
MIN_SIDE = 64
"""Smaller photos [px] hold no face that could be measured."""
WORKING_SIDE = 2560
"""Larger photos are reduced to this long side [px]: a face that fills one then covers the 2048 px texture."""

_DIAGONAL_35MM = 43.27  # mm, of the 36 x 24 mm frame that "35 mm equivalent" refers to
_FULL_SCALE_16 = 65535.0
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")


@dataclass(frozen=True)
class Photo:
    """A photo, ready to be measured."""

    pixels: Float[np.ndarray, "h w 3"]
    """Colours in [0, 1], float32 sRGB, upright."""
    focal_px: float | None = None
    """Focal length [px] at the size of ``pixels``: the caller's, else the camera's own (EXIF), else None."""
    original_hw: tuple[int, int] = (0, 0)
    """Height and width [px] in the file, upright."""
    notes: tuple[str, ...] = ()
    """What was done to the file's pixels that a reader of the results should know, one sentence each."""

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width [px] of ``pixels``."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def original_size(self) -> tuple[int, int]:
        """The old name of ``original_hw``."""
        warnings.warn("Photo.original_size is called original_hw now", DeprecationWarning, stacklevel=2)
        return self.original_hw

    def __post_init__(self) -> None:
        """Refuse a focal length that is none, however the photo came about."""
        object.__setattr__(self, "focal_px", checked_focal_px(self.focal_px))


def checked_focal_px(focal_px: SupportsFloat | None) -> float | None:
    """A focal length as a plain float, which JSON can hold; None stays None.

    Raises:
        InputError: It is not a positive, finite number.

    Example:
        >>> checked_focal_px(np.float32(900))
        900.0
    """
    if focal_px is None:
        return None
    try:
        value = float(focal_px)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 < value < float("inf"):  # written so that NaN fails too
        raise InputError(f"focal_px: {focal_px} is no focal length; give a positive number of pixels, or leave it out.")
    return value


def focal_from_35mm(focal_35mm: float, height: int, width: int) -> float:
    """Focal length in pixels from the 35 mm equivalent: ``f = f35 * diagonal_px / 43.27``.

    Example:
        >>> round(focal_from_35mm(26.0, 3024, 4032))
        3028
    """
    return focal_35mm * float(np.hypot(height, width)) / _DIAGONAL_35MM


def read_image(path: FilePath, *, focal_px: SupportsFloat | None = None, working_side_px: int = WORKING_SIDE) -> Photo:
    """Read a photo in any common format and colour mode.

    EXIF orientation and embedded colour profiles are applied, transparency is laid on white, the first frame of an
    animation is taken, and what is larger than ``working_side_px`` is reduced with antialiasing.

    Args:
        path: The file.
        focal_px: Focal length in pixels of the file, upright; without it, what EXIF says.
        working_side_px: Upper bound for the long side of the result.

    Returns:
        The photo.

    Raises:
        InputError: The file cannot be read, is no image, is damaged, or has a size no face can be measured at; or the
            focal length is none.

    Example:
        >>> from digitaltwin.io.assets import asset_path
        >>> read_image(asset_path("portrait.png")).pixels.shape
        (512, 512, 3)
    """
    source, focal = Path(path), checked_focal_px(focal_px)
    # Pillow warns of odd metadata and of sizes near its limit; what matters of it is refused or noted here.
    with _open_file(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open_image(source, file)
        width, height = image.size
        animated = _decode(source, image, working_side_px)
        if (image.width > image.height) != (width > height):  # EXIF has turned it
            width, height = height, width
        focal, notes = _focal_px(image, height, width) if focal is None else (focal, [])
    pixels, colour_notes = _srgb(source, image, working_side_px)
    notes += colour_notes
    if animated:
        notes.append("took the first of several frames")
    if pixels.shape[:2] != (height, width):
        notes.append(_reduction_note((height, width), pixels.shape[:2]))
        focal = focal and focal * max(pixels.shape) / max(height, width)
    return Photo(pixels, focal, (height, width), tuple(notes))


def check_photo(path: FilePath) -> None:
    """Refuse by its header what :func:`read_image` would refuse by its header, without decoding it.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read, is no image, or has a size no face can be measured at.
    """
    source = Path(path)
    with _open_file(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _open_image(source, file)


def photo_from_array(
    pixels: np.ndarray, *, focal_px: SupportsFloat | None = None, working_side_px: int = WORKING_SIDE
) -> Photo:
    """Take pixels from memory under the same conditions as :func:`read_image` takes them from a file.

    Args:
        pixels: ``[h w 3]``, or ``[h w]`` for grey; uint8, uint16, or floats in [0, 1]; sRGB.
        focal_px: Focal length in pixels of this array, if known.
        working_side_px: Upper bound for the long side of the result.

    Returns:
        The photo.

    Raises:
        InputError: Another shape, dtype or range, a size no face can be measured at, or a focal length that is none.

    Example:
        >>> photo_from_array(np.zeros((80, 100), np.uint8)).pixels.shape
        (80, 100, 3)
    """
    array, focal = np.asarray(pixels), checked_focal_px(focal_px)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise InputError(f"image array: its shape is {np.shape(pixels)}; pass [height width 3] or [height width].")
    height, width = array.shape[:2]
    _check_size("image array", height, width)
    if array.dtype in (np.uint8, np.uint16):
        array = array / np.float32(np.iinfo(array.dtype).max)
    elif not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"image array: its dtype is {array.dtype}; pass uint8, uint16 or floats in [0, 1].")
    elif not (np.min(array) >= 0 and np.max(array) <= 1):  # written so that NaN fails too
        raise InputError(
            f"image array: values from {np.min(array)} to {np.max(array)}; divide so that they lie in [0, 1]."
        )
    array = array.astype(np.float32)
    channels = [_reduce(Image.fromarray(channel), working_side_px) for channel in np.moveaxis(array, 2, 0)]
    array = np.clip(np.stack([np.asarray(channel) for channel in channels], axis=2), 0, 1)
    if array.shape[:2] == (height, width):
        return Photo(array, focal, (height, width))
    focal = focal and focal * max(array.shape) / max(height, width)
    return Photo(array, focal, (height, width), (_reduction_note((height, width), array.shape[:2]),))


def encode_png(pixels: Float[np.ndarray, "h w c"]) -> bytes:
    """Encode a picture of one, three or four channels in [0, 1] as an 8-bit PNG.

    Values outside the range are clipped.

    Raises:
        ValueError: A value is not finite.
    """
    if not np.isfinite(pixels).all():
        raise ValueError("the picture holds values that are not finite")
    levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    # Level 3 takes a third of the default's time for a few per cent more bytes.
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_image(path: FilePath, pixels: Float[np.ndarray, "h w c"]) -> None:
    """Write a picture as an 8-bit PNG; the file appears whole or not at all.

    Args:
        path: The file.
        pixels: One, three or four channels in [0, 1]; values outside the range are clipped.

    Raises:
        InputError: The file cannot be written.
        ValueError: A value is not finite.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> write_image(path, np.full((80, 100, 3), 0.5))
        >>> read_image(path).image_hw
        (80, 100)
    """
    write_bytes(path, encode_png(pixels))


def _check_size(source: object, height: int, width: int) -> None:
    """Refuse what is too large to decode or too small to hold a face."""
    if height * width > MAX_MEGAPIXELS * 1_000_000:
        raise InputError(
            f"{source}: {width} x {height} px is over {MAX_MEGAPIXELS} megapixels; make the photo smaller."
        )
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{source}: {width} x {height} px is too small; each side needs at least {MIN_SIDE} px.")


def _open_file(source: Path) -> io.BufferedReader:
    """Open a file that has something in it."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)}); name a photo that can.") from error
    if not file.peek(1):
        file.close()
        raise InputError(f"{source}: is empty; copy or download the photo again.")
    return file


def _open_image(source: Path, file: io.BufferedReader) -> Image.Image:
    """Read the header, and refuse by it what cannot or should not be decoded."""
    try:
        image = Image.open(file)
    except Image.DecompressionBombError as error:  # Pillow's limit, which lies above ours
        raise InputError(f"{source}: is over {MAX_MEGAPIXELS} megapixels; make the photo smaller.") from error
    except Exception as error:  # mostly UnidentifiedImageError, but damaged headers raise many things
        file.seek(0)
        if file.read(12)[4:] in _HEIC:
            raise InputError(f"{source}: HEIC photos cannot be read here; export it as JPEG.") from error
        raise InputError(f"{source}: is not an image, or damaged; pass a JPEG, PNG, WebP or TIFF.") from error
    _check_size(source, image.height, image.width)
    return image


def _decode(source: Path, image: Image.Image, working_side: int) -> bool:
    """Decode and turn upright, in place; says whether it is the first frame of an animation."""
    try:
        # The further frames of an MPO, a common output of phones, are depth maps or thumbnails.
        animated = getattr(image, "is_animated", False) and image.format != "MPO"
        # A JPEG decodes at 1/2, 1/4 or 1/8 for less than nothing; twice the target leaves the filtering to _reduce.
        image.draft(None, (2 * working_side, 2 * working_side))
        image.load()
    except Exception as error:  # whatever Pillow's decoders raise on damaged data, and they raise many things
        raise InputError(f"{source}: is damaged or cut short ({error}); copy or download the photo again.") from error
    # Damaged EXIF is no reason to refuse whole pixels; in place, because a copy forgets its EXIF in some formats.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return animated


def _focal_px(image: Image.Image, height: int, width: int) -> tuple[float | None, list[str]]:
    """Focal length [px] at the size in the file, from the 35 mm equivalent in EXIF; and what was odd about it."""
    try:
        exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
        focal_35mm = float(exif.get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
        taken = sorted(int(exif.get(tag, 0)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight))
    except Exception:  # damaged EXIF: the photo simply says nothing about its lens
        return None, []
    if not 0 < focal_35mm < 2000:  # 0 stands for unknown
        return None, []
    # The equivalent holds for the whole frame. Cropping keeps the tag, and shows as another shape than was taken.
    if taken[0] > 0 and abs(taken[0] / taken[1] * max(height, width) / min(height, width) - 1) > 0.01:
        return None, ["ignored the EXIF focal length: the photo was cropped since"]
    return focal_from_35mm(focal_35mm, height, width), []


def _srgb(source: Path, image: Image.Image, working_side: int) -> tuple[Float[np.ndarray, "h w 3"], list[str]]:
    """Any colour mode to float32 sRGB of working size; and what could not be honoured."""
    notes = []
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = Image.fromarray(np.asarray(image).astype(np.float32) / _FULL_SCALE_16)
        grey = np.clip(np.asarray(_reduce(grey, working_side)), 0, 1)
        return np.repeat(grey[..., None], 3, axis=2), notes
    profile = image.info.get("icc_profile")
    if image.has_transparency_data or image.mode in ("P", "1"):  # those cannot be filtered as they are
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image = _reduce(image, working_side)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if profile:
        try:
            source_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, source_profile, srgb, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("ignored the embedded colour profile: it is damaged or belongs to another colour mode")
    try:
        image = image.convert("RGB")
    except ValueError as error:
        raise InputError(f"{source}: colour mode {image.mode} cannot be read here; save it as RGB.") from error
    return np.asarray(image, np.float32) / np.float32(255), notes


def _reduce(image: Image.Image, working_side: int) -> Image.Image:
    """Reduce to a long side, antialiased; never enlarge."""
    scale = working_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _reduction_note(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return f"reduced from {before[1]} x {before[0]} to {after[1]} x {after[0]} px"
