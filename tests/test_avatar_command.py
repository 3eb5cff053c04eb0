"""The command's contract (files, exit codes, one clear line) and the laws of the whole chain, on real photographs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import ExifTags, Image

from digitaltwin import create_avatar
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

ROOT = Path(__file__).parents[1]
FILES = {"avatar.glb", "texture.png", "preview.png", "report.json"}
FOCAL_PX = 1000.0
"""Given in the tests that change the frame, because without it the guess depends on the frame."""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def positions(folder: Path) -> np.ndarray:
    """All vertices of an exported head [mm], whose order does not depend on the photo."""
    scene = trimesh.load_scene(folder / "avatar.glb", process=False)
    return 1000 * np.concatenate([scene.geometry[name].vertices for name in sorted(scene.geometry)])


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum((a - b) ** 2, axis=1))))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes an avatar with a small texture; all in this process, so that every program compiles once."""

    def make(image, **options) -> Path:
        folder = tmp_path_factory.mktemp("avatar")
        create_avatar(image, texture_size=512, **options).save(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.asarray(Image.open(asset_path("portrait.png")))


@pytest.fixture(scope="module")
def reference(make) -> Path:
    return make(asset_path("portrait.png"))


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
        (["--image={folder}/coffee.png"], "coffee.png"),
        (["--out={folder}/diary.jpg/out"], "diary.jpg/out: cannot write"),
        (["--imgae=photo.jpg"], "imgae"),
        (["photo.jpg"], "photo.jpg"),
        (["--focal_px=-3"], "focal_px"),
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
print(jax.jit(lambda x: x + 1)(1))
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
        assert result.stdout == "2\n"
        assert any(cache.glob("digitaltwin/jax/*")) == kept


# The chain


def test_the_report_is_json_with_the_time_of_every_stage(reference):
    report = json.loads((reference / "report.json").read_text())
    assert sum(report["seconds"].values()) > 0
    assert all(seconds >= 0 for seconds in report["seconds"].values())


def test_the_head_is_a_head(reference):
    head = positions(reference)
    height, breadth, depth = np.ptp(head, axis=0)[[1, 0, 2]]
    assert 120 < breadth < 190
    assert 200 < height < 400
    assert 150 < depth < 260
    assert Image.open(reference / "texture.png").size == (512, 512)


@pytest.mark.parametrize("orientation", [6, 3])
def test_a_turned_photo_gives_the_upright_ones_files(tmp_path, make, portrait, reference, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turns = {6: 1, 3: 2}[orientation]
    Image.fromarray(np.ascontiguousarray(np.rot90(portrait, turns))).save(tmp_path / "turned.png", exif=exif)
    turned = make(tmp_path / "turned.png")
    for name in ("avatar.glb", "texture.png"):
        assert (turned / name).read_bytes() == (reference / name).read_bytes()


def test_an_array_gives_the_files_of_its_photo(make, portrait, reference):
    assert (make(portrait) / "avatar.glb").read_bytes() == (reference / "avatar.glb").read_bytes()


@pytest.mark.parametrize(
    ("mode", "suffix", "bound_mm"), [("L", "png", 3.0), ("RGBA", "png", 0.0), ("CMYK", "jpg", 1.5)]
)
def test_the_shape_hardly_depends_on_the_colour_mode(tmp_path, make, portrait, reference, mode, suffix, bound_mm):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(portrait).convert(mode).save(path, quality=95)
    assert rms(positions(make(path)), positions(reference)) <= bound_mm


@pytest.fixture(scope="module")
def with_focal(make, portrait) -> Path:
    return make(portrait, focal_px=FOCAL_PX)


@pytest.mark.parametrize("padding", [((0, 0), (100, 156)), ((60, 196), (0, 0))], ids=["landscape", "portrait"])
def test_the_frame_does_not_matter(make, portrait, with_focal, padding):
    framed = np.pad(portrait, (*padding, (0, 0)), mode="edge")
    # Not exactly: the face lies elsewhere relative to the axis of the camera that is assumed.
    assert rms(positions(make(framed, focal_px=FOCAL_PX)), positions(with_focal)) < 3.0


def test_of_two_faces_the_larger_is_taken_and_both_are_counted(make, portrait, with_focal):
    smaller = np.asarray(Image.fromarray(portrait).resize((307, 307), Image.Resampling.LANCZOS))
    both = np.concatenate([portrait, np.pad(smaller, ((205, 0), (0, 0), (0, 0)), mode="edge")], axis=1)
    folder = make(both, focal_px=FOCAL_PX)
    assert json.loads((folder / "report.json").read_text())["face_count"] == 2
    assert rms(positions(folder), positions(with_focal)) < 3.0


def test_a_photo_without_a_face_is_refused():
    data = pytest.importorskip("skimage.data")
    with pytest.raises(InputError, match="face"):
        create_avatar(data.coffee())
