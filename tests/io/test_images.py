"""Every file ends as the same kind of photo, or as one clear refusal."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from digitaltwin.io import read_image
from digitaltwin.io._images import Photo, encode_png, focal_from_35mm, photo_from_array, write_image
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

ONE_LEVEL = 1 / 255 + 1e-6
# What turns an upright picture into the stored one, by the EXIF orientation that undoes it (EXIF 2.3, table 6).
STORED = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: np.rot90,
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: lambda x: np.rot90(x, -1),
}


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    """[96 128 3] uint8, smooth but different in every corner and channel."""
    y, x = np.mgrid[0:96, 0:128]
    return np.stack([x * 2, y * 2.5, 250 - x - y], axis=2).astype(np.uint8)


def exif_with(
    orientation: int = 1, focal_35mm: float | None = None, taken: tuple[int, int] | None = None
) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if focal_35mm is not None:
        details[ExifTags.Base.FocalLengthIn35mmFilm] = focal_35mm
    if taken is not None:
        details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = taken
    return exif


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises so many pixels and ends where they should begin."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert ";" in message, "the remedy follows a semicolon"
    assert "\n" not in message
    return message


# Upright


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_orientation_gives_the_upright_photo_exactly(tmp_path, levels, orientation, suffix):
    path = tmp_path / f"turned.{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](levels)))
    stored.save(
        path, exif=exif_with(orientation, 26.0), **({"lossless": True, "exact": True} if suffix == "webp" else {})
    )
    photo = read_image(path)
    np.testing.assert_array_equal(photo.pixels, levels / np.float32(255))
    assert photo.original_hw == (96, 128)
    if suffix != "tiff":  # where Pillow writes no Exif directory
        assert photo.focal_px == pytest.approx(focal_from_35mm(26.0, 96, 128))


def test_turned_jpeg_stays_upright_when_it_is_reduced(tmp_path, levels):
    upright = Image.fromarray(levels).resize((1024, 768))
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](np.asarray(upright))))
    stored.save(tmp_path / "turned.jpg", exif=exif_with(6, 28), quality=95)
    photo = read_image(tmp_path / "turned.jpg", working_side_px=128)
    assert photo.original_hw == (768, 1024)
    assert photo.notes == ("reduced from 1024 x 768 to 128 x 96 px",)
    assert photo.focal_px == pytest.approx(focal_from_35mm(28.0, 96, 128))
    np.testing.assert_allclose(photo.pixels, levels / 255, atol=6 / 255)
    given = read_image(tmp_path / "turned.jpg", working_side_px=128, focal_px=1000.0)
    assert given.focal_px == pytest.approx(1000 / 8)


def test_damaged_exif_does_not_cost_the_photo(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, levels / np.float32(255))


# Focal length


def test_a_full_frame_lens_sees_the_full_frame_angle():
    # 36 mm at f = 18 mm is 90 degrees across: half the width equals the focal length.
    assert focal_from_35mm(18.0, 2400, 3600) == pytest.approx(1800, rel=2e-4)


@pytest.mark.parametrize(
    ("focal_35mm", "taken", "used"),
    [(26, None, True), (26, (4000, 3000), True), (26, (3000, 4000), True), (26, (4000, 4000), False), (0, None, False)],
)
def test_focal_length_counts_unless_unknown_or_cropped(tmp_path, levels, focal_35mm, taken, used):
    Image.fromarray(levels).save(tmp_path / "a.jpg", exif=exif_with(1, focal_35mm, taken))
    photo = read_image(tmp_path / "a.jpg")
    assert (photo.focal_px is not None) == used
    assert any("cropped" in note for note in photo.notes) == (taken == (4000, 4000))


# Colour modes


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("jpg", mode) for mode in ("L", "RGB", "CMYK")]
    + [("png", mode) for mode in ("L", "LA", "1", "P", "RGBA", "RGB", "I;16")]
    + [("tiff", mode) for mode in ("L", "LA", "1", "P", "RGBA", "RGB", "CMYK", "I;16", "I")],
)
def test_every_mode_gives_the_colours_it_stores(tmp_path, levels, suffix, mode):
    rgb = Image.fromarray(levels)
    expected = levels / 255
    if mode in ("I;16", "I"):
        grey = (levels[..., 0].astype(np.uint16) * 257).astype(np.uint16 if mode == "I;16" else np.int32)
        image, expected = Image.fromarray(grey), np.repeat(levels[..., :1] / 255, 3, axis=2)
    else:
        image = rgb.convert(mode)
        if mode in ("L", "LA", "1", "P"):
            expected = np.asarray(image.convert("RGB")) / 255
    image.save(tmp_path / f"a.{suffix}", **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    photo = read_image(tmp_path / f"a.{suffix}")
    assert photo.pixels.dtype == np.float32
    assert photo.pixels.shape == (96, 128, 3)
    np.testing.assert_allclose(photo.pixels, expected, atol=3 / 255 if suffix == "jpg" else 1e-6)


def test_16_bit_rgb_is_scaled_rightly(tmp_path, levels):
    # Pillow cannot write such a file, so it is put together here.
    rows = (levels.astype(">u2") * 257).reshape(96, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = b"IHDR" + struct.pack(">IIBBBBB", 128, 96, 16, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, b"IDAT" + data, b"IEND"):
        file += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(file)
    np.testing.assert_allclose(read_image(tmp_path / "a.png").pixels, levels / 255, atol=ONE_LEVEL)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 32, 64))
    if mode == "P":
        image = Image.new("P", (64, 64), 0)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.paste(1, (0, 0, 32, 64))
        image.info["transparency"] = 0
    image.convert(mode).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(pixels[:, :32], 0)
    np.testing.assert_array_equal(pixels[:, 32:], 1)


def test_colour_profiles_are_applied(tmp_path, levels):
    # In a profile whose red and blue primaries change places, swapped channels are the same colours.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    swapped = bytearray(srgb.tobytes())
    count = struct.unpack(">I", swapped[128:132])[0]
    tags = {bytes(swapped[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
    swapped[red : red + 8], swapped[blue : blue + 8] = swapped[blue : blue + 8], swapped[red : red + 8]
    Image.fromarray(levels[..., ::-1]).save(tmp_path / "a.png", icc_profile=bytes(swapped))
    np.testing.assert_allclose(read_image(tmp_path / "a.png").pixels, levels / 255, atol=2 * ONE_LEVEL)


def test_a_damaged_profile_is_ignored_and_said(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "a.png", icc_profile=b"not a profile")
    photo = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, levels / np.float32(255))
    assert "colour profile" in photo.notes[0]


def test_first_frame_of_an_animation(tmp_path, levels):
    frames = [Image.fromarray(levels), Image.fromarray(levels[::-1].copy())]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    photo = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, levels / np.float32(255))
    assert photo.notes == ("took the first of several frames",)


def test_the_portrait_is_what_scikit_image_ships():
    data = pytest.importorskip("skimage.data")
    photo = read_image(asset_path("portrait.png"))
    np.testing.assert_array_equal(photo.pixels, data.astronaut() / np.float32(255))
    assert photo.notes == ()


# Size


def test_reduction_is_antialiased_and_keeps_the_mean(tmp_path):
    stripes = np.zeros((256, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    for photo in (read_image(tmp_path / "a.png", working_side_px=256), photo_from_array(stripes, working_side_px=256)):
        assert photo.pixels.shape == (64, 256, 3)
        np.testing.assert_allclose(photo.pixels[8:-8, 8:-8], 0.5, atol=0.01)


def test_large_photos_are_reduced_to_the_working_size(tmp_path):
    Image.new("L", (6000, 3000), 128).save(tmp_path / "a.jpg")
    photo = read_image(tmp_path / "a.jpg")
    assert photo.pixels.shape == (1280, 2560, 3)
    assert photo.original_hw == (3000, 6000)


# Refusals


def test_too_many_pixels_are_refused_by_the_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30_000, 30_000))
    assert "over 100 megapixels" in refusal(path)
    path.write_bytes(png_header(12_000, 9_000))  # between our limit and Pillow's own
    assert "12000 x 9000 px is over 100 megapixels" in refusal(path)


@pytest.mark.parametrize("size", [(1, 1), (63, 640), (640, 63)])
def test_too_few_pixels(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert f"{size[0]} x {size[1]} px is too small" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"Dear diary,\n" * 100, "is not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (png_header(100, 100), "damaged or cut short"),
        (b"\xff\xd8\xff", "is not an image"),
    ],
)
def test_what_is_no_image(tmp_path, content, problem):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert problem in refusal(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "gif", "bmp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_truncated_files(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(kept * buffer.tell())])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damaged_files_give_a_photo_or_a_refusal(tmp_path, levels, file_format):
    # Flipped bytes make Pillow raise and warn in many ways, metadata first; nothing else may come out here.
    buffer = io.BytesIO()
    options = {"exif": exif_with(6, 26.0)} if file_format in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    Image.fromarray(levels).save(buffer, file_format, **options)
    rng = np.random.default_rng(0)
    for i in range(100):
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        end = 200 if i % 2 else len(data)
        data[rng.integers(0, min(end, len(data)), 4)] = rng.integers(0, 256, 4)
        (tmp_path / "a").write_bytes(data.tobytes())
        try:
            photo = read_image(tmp_path / "a")
        except InputError:
            continue
        assert np.isfinite(photo.pixels).all()
        assert photo.focal_px is None or 0 < photo.focal_px < np.inf


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.jpg")
    assert "is a directory" in refusal(tmp_path)


def test_no_permission(tmp_path, levels):
    path = tmp_path / "private.png"
    Image.fromarray(levels).save(path)
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # whom permissions do not stop
            os.seteuid(65534)
        assert "permission denied" in refusal(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((80, 80, 4), np.float32), r"shape is \(80, 80, 4\)"),
        (np.full((80, 80, 3), 255.0), r"values from 255.0 to 255.0"),
        (np.full((80, 80, 3), np.nan), "values from nan"),
        (np.zeros((80, 80, 3), np.int64), "dtype is int64"),
        (np.zeros((8, 80, 3), np.uint8), "too small"),
    ],
)
def test_arrays_are_checked_too(array, problem):
    with pytest.raises(InputError, match=problem):
        photo_from_array(array)


@pytest.mark.parametrize("focal_px", [0, -3, float("nan"), float("inf"), np.float32("nan")])
def test_a_focal_length_that_is_none_is_refused_at_every_door(tmp_path, levels, focal_px):
    Image.fromarray(levels).save(tmp_path / "a.png")
    for make in (
        lambda: read_image(tmp_path / "a.png", focal_px=focal_px),
        lambda: photo_from_array(levels, focal_px=focal_px),
        lambda: Photo(levels / np.float32(255), float(focal_px)),
    ):
        with pytest.raises(InputError, match=f"^focal_px: {float(focal_px):g}"):
            make()


def test_a_focal_length_becomes_a_plain_float_at_the_size_of_the_pixels(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "a.png")
    for number in (900, 900.0, np.float32(900), np.int64(900)):
        for photo in (
            read_image(tmp_path / "a.png", focal_px=number, working_side_px=64),
            photo_from_array(levels, focal_px=number, working_side_px=64),
        ):
            assert type(photo.focal_px) is float  # all that JSON can hold
            assert photo.focal_px == 450.0


def test_arrays_and_files_agree(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "a.png")
    expected = read_image(tmp_path / "a.png").pixels
    for array in (levels, levels.astype(np.uint16) * 257, levels / 255):
        np.testing.assert_allclose(photo_from_array(array).pixels, expected, atol=1e-7)
    grey = photo_from_array(levels[..., 0]).pixels
    np.testing.assert_array_equal(grey, np.repeat(expected[..., :1], 3, axis=2))


# Writing


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_come_back_within_half_a_level(tmp_path, channels):
    picture = np.random.default_rng(0).uniform(-0.2, 1.2, (70, 80, channels)).astype(np.float32)
    write_image(tmp_path / "a.png", picture)
    back = np.asarray(Image.open(tmp_path / "a.png")).reshape(70, 80, channels) / 255
    np.testing.assert_allclose(back, np.clip(picture, 0, 1), atol=0.5 / 255 + 1e-6)


def test_pictures_with_nan_are_a_defect_of_ours():
    with pytest.raises(ValueError, match="not finite"):
        encode_png(np.full((8, 8, 3), np.nan))
