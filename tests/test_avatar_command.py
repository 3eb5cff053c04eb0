"""The command's contract (files, exit codes, one clear line) and the laws of the whole chain, on real photographs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from PIL import ExifTags, Image

from digitaltwin import Avatar, create_avatar
from digitaltwin.io import photo_from_array
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

ROOT = Path(__file__).parents[1]
FILES = {"avatar.glb", "texture.png", "preview.png", "report.json"}
SIZE = 512
"""Of the texture: small, and the same everywhere, so that every program compiles once."""
FOCAL_PX = 1000.0
"""Given in the tests that change the frame, because without it the guess depends on the frame."""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def rms(a: Avatar, b: Avatar) -> float:
    """Distance [mm] of two neutral heads, root mean square over the vertices."""
    return float(np.sqrt(np.mean(np.sum((a.neutral - b.neutral) ** 2, axis=1))))


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    with Image.open(asset_path("portrait.png")) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def reference() -> Avatar:
    return create_avatar(asset_path("portrait.png"), texture_size=SIZE)


@pytest.fixture(scope="module")
def with_focal(portrait) -> Avatar:
    return create_avatar(portrait, texture_size=SIZE, focal_px=FOCAL_PX)


# The command


def test_command_writes_the_four_files_and_says_where(tmp_path):
    result = run("-m", "experiments.avatar", f"--out={tmp_path / 'new' / 'folder'}", "--quick")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert str(tmp_path / "new" / "folder") in result.stdout
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == FILES


def test_help_names_every_flag():
    result = run("-m", "experiments.avatar", "--help")
    assert result.returncode == 0
    for flag in ("--image", "--out", "--focal_px", "--texture_size", "quick"):
        assert flag in result.stdout


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--image={folder}/absent.jpg"], "absent.jpg: cannot be read"),
        (["--image={folder}/diary.jpg"], "diary.jpg: is not an image"),
        (["--image={folder}/coffee.png"], "no face found"),
        (["--out={folder}/diary.jpg/out"], "diary.jpg/out: cannot write"),
        (["--imgae=photo.jpg"], "imgae"),
        (["photo.jpg"], "photo.jpg"),
        (["--focal_px=-3"], "focal_px: -3"),
        (["--focal_px=nan"], "focal_px: nan"),
    ],
)
def test_unusable_input_ends_with_2_and_one_line(tmp_path, flags, problem):
    skimage = pytest.importorskip("skimage")
    (tmp_path / "diary.jpg").write_text("Dear diary,\n")
    Image.fromarray(skimage.data.coffee()).save(tmp_path / "coffee.png")
    flags = [f"--out={tmp_path / 'out'}", *(flag.format(folder=tmp_path) for flag in flags)]
    result = run("-m", "experiments.avatar", *flags)
    assert result.returncode == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""


def test_a_defect_ends_with_1_a_traceback_and_a_request():
    result = run("-c", "from experiments import command; command.run(lambda: 1 / 0)")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "please report" in result.stderr.splitlines()[-1]


def test_an_unwritable_cache_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("")
    code = """
import jax
from experiments.command import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # whatever this small program takes
print(jax.jit(lambda x: x + 1)(1))
print(jax.config.jax_compilation_cache_max_size)
"""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    for cache, kept in ((tmp_path / "file", False), (tmp_path / "cache", True)):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**environment, "XDG_CACHE_HOME": str(cache)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.split() == ["2", "1000000000" if kept else "-1"]
        assert any(cache.glob("digitaltwin/programs/*-cache")) == kept


# The chain


def test_the_report_is_json_with_the_time_of_every_stage(tmp_path, reference):
    reference.save(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"read", "landmarks", "fit", "texture", "export", "preview"} <= set(report["seconds"])
    assert all(0 <= seconds < 600 for seconds in report["seconds"].values())
    with Image.open(tmp_path / "texture.png") as texture:
        assert texture.size == (SIZE, SIZE)


@pytest.fixture(scope="module")
def grace_hopper() -> Avatar:
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photo = np.asarray(Image.open(file))
    return create_avatar(photo, texture_size=SIZE)


@pytest.mark.parametrize("name", ["reference", "grace_hopper"])
def test_the_fit_is_honest(request, name):
    # It reaches the landmarks by the head's shape and not by bending it: the points that it did not see follow.
    residuals = request.getfixturevalue(name).report["residuals"]
    assert residuals["landmarks"] < 2
    assert residuals["held_out_mesh_points"] < 3
    assert residuals["correction_p95_mm"] < 3


def test_a_fit_starts_at_the_mean_head_unless_told_otherwise(portrait, reference):
    assert reference.report["fit"]["start"] == "mean head"
    start = create_avatar(portrait, texture_size=SIZE, shape="groups").report["fit"]["start"]
    assert start in {f"mean of {name}" for name in reference.head.group_names}


def test_a_photo_takes_another_focal_length(portrait, with_focal):
    photo = photo_from_array(portrait, focal_px=FOCAL_PX / 2)
    assert create_avatar(photo, texture_size=SIZE, focal_px=FOCAL_PX).report["photo"] == with_focal.report["photo"]


def test_saving_where_nothing_can_be_written_is_refused(tmp_path, reference):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into this folder"):
        reference.save(tmp_path / "file" / "out")


@pytest.mark.parametrize("orientation", [6, 3])
def test_a_turned_photo_gives_the_upright_ones_avatar(tmp_path, portrait, reference, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turns = {6: 1, 3: 2}[orientation]
    Image.fromarray(np.ascontiguousarray(np.rot90(portrait, turns))).save(tmp_path / "turned.png", exif=exif)
    turned = create_avatar(tmp_path / "turned.png", texture_size=SIZE)
    np.testing.assert_array_equal(turned.neutral, reference.neutral)
    np.testing.assert_array_equal(turned.texture, reference.texture)


def test_an_array_gives_the_avatar_of_its_photo(portrait, reference):
    avatar = create_avatar(portrait, texture_size=SIZE)
    np.testing.assert_array_equal(avatar.neutral, reference.neutral)


@pytest.mark.parametrize(
    ("mode", "suffix", "bound_mm"), [("L", "png", 3.0), ("RGBA", "png", 0.0), ("CMYK", "jpg", 1.5)]
)
def test_the_shape_hardly_depends_on_the_colour_mode(tmp_path, portrait, reference, mode, suffix, bound_mm):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(portrait).convert(mode).save(path, quality=95)
    assert rms(create_avatar(path, texture_size=SIZE), reference) <= bound_mm


@pytest.mark.parametrize("padding", [((0, 0), (100, 156)), ((60, 196), (0, 0))], ids=["landscape", "portrait"])
def test_the_frame_does_not_matter(portrait, with_focal, padding):
    framed = np.pad(portrait, (*padding, (0, 0)), mode="edge")
    # Not exactly: the face lies elsewhere relative to the axis of the camera that is assumed.
    assert rms(create_avatar(framed, texture_size=SIZE, focal_px=FOCAL_PX), with_focal) < 3.0


def test_of_two_faces_the_larger_is_taken_and_both_are_counted(portrait):
    face = Image.fromarray(portrait[:256, 96:352])
    both = np.zeros((256, 512, 3), np.uint8)
    both[:, 256:], both[:192, :192] = np.asarray(face), np.asarray(face.resize((192, 192)))
    report = create_avatar(both, texture_size=SIZE).report
    assert report["face"]["count"] == 2
    assert report["face"]["box_px"][0] > 256


def test_a_photo_without_a_face_is_refused():
    data = pytest.importorskip("skimage.data")
    with pytest.raises(InputError, match="face"):
        create_avatar(data.coffee(), texture_size=SIZE)
