"""``digitaltwin PHOTO``: files, exit codes, one clear line; batches that go on; interrupts that leave nothing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import digitaltwin.avatar
from digitaltwin.cli import main
from digitaltwin.cli._avatar import FILES
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class FakeAvatar:
    """What the command needs of an avatar, at no cost."""

    report: dict[str, Any]

    def save(self, folder):
        for name in FILES[:-1]:
            (folder / name).write_text(name)
        (folder / "report.json").write_text(json.dumps(self.report))


@pytest.fixture
def made(monkeypatch):
    """Replaces the chain; the photos it was given, in order."""
    photos = []

    def create_avatar(photo, *, focal_px, texture_size):
        photos.append(Path(photo).name)
        if "cat" in Path(photo).name:
            raise InputError("image: no face found; take a photo that shows one.")
        if "defect" in Path(photo).name:
            raise ZeroDivisionError("a defect")
        return FakeAvatar({"photo": {"focal_px": focal_px}, "texture_size": texture_size})

    monkeypatch.setattr(digitaltwin.avatar, "create_avatar", create_avatar)
    return photos


@pytest.fixture
def photos(tmp_path):
    """A folder of photos of different bytes, and something that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("anna.jpg", "bert.png", "cat.jpg", "anna.png")):
        Image.fromarray(np.full((80, 80, 3), number, np.uint8)).save(folder / name)
    (folder / "diary.txt").write_text("Dear diary,\n")
    return folder


def rows(out):
    with (out / "summary.csv").open() as file:
        return {Path(row["photo"]).name: row for row in csv.DictReader(file)}


# One photo


@pytest.mark.slow
def test_the_command_writes_the_four_files_and_says_where(tmp_path):
    out = tmp_path / "new" / "folder"
    result = subprocess.run(
        [sys.executable, "-m", "digitaltwin", str(asset_path("portrait.png")), f"--out={out}", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{out}: {', '.join(FILES)}\n"
    assert {path.name for path in out.iterdir()} == set(FILES)
    lines = result.stderr.splitlines()
    assert str(out) in lines[0], "the first line says what it does"
    timed = {line.split()[0] for line in lines[1:] if line.endswith(" s")}
    assert {"landmarks", "fit", "texture", "export"} <= timed, result.stderr
    assert json.loads((out / "report.json").read_text())["photo"]["file"] == "portrait.png"


def test_an_avatar_that_stands_is_replaced_only_on_request(tmp_path, photos, made, capsys):
    arguments = [str(photos / "anna.jpg"), f"--out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    (tmp_path / "out" / "mine.txt").write_text("of the user")
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "holds an avatar already; add --overwrite" in said.err
    assert said.err.count("\n") == 1
    assert main([*arguments, "--overwrite", "--texture_size=512"]) == 0
    assert made == ["anna.jpg"] * 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["texture_size"] == 512
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "mine.txt"}


def test_without_out_the_avatar_goes_where_its_photo_says(tmp_path, photos, made, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["photos/anna.jpg"]) == 0
    assert capsys.readouterr().out.startswith(f"{Path('avatars/anna')}: ")
    assert main(["--image=photos/bert.png", "--out", "mine", "--focal_px", "900", "--quick"]) == 0
    report = json.loads(Path("mine/report.json").read_text())
    assert report["photo"]["focal_px"] == 900.0
    assert report["texture_size"] == 512


def test_quiet_says_only_the_result(tmp_path, photos, made, capsys):
    assert main([str(photos / "anna.jpg"), f"--out={tmp_path / 'out'}", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["{folder}/absent.jpg"], "absent.jpg: cannot be read"),
        (["{folder}/diary.txt"], "diary.txt: is not an image"),
        (["{folder}/cat.jpg"], "no face found"),
        (["{folder}/anna.jpg", "--out={folder}/diary.txt/out"], "diary.txt/out: cannot write"),
        (["{folder}/anna.jpg", "--focal_px=-3"], "focal_px: -3"),
        (["{folder}/anna.jpg", "--focal_px=nan"], "focal_px: nan"),
        (["{folder}/anna.jpg", "--texture_size=100"], "texture_size"),
        (["--imgae={folder}/anna.jpg"], "imgae'. Did you mean: image"),
        ([], "name a photo"),
    ],
)
def test_unusable_input_ends_with_2_one_line_and_no_folder(tmp_path, photos, made, capsys, arguments, problem):
    out = tmp_path / "new" / "out"
    code = main([f"--out={out}", "--quiet", *(argument.format(folder=photos) for argument in arguments)])
    said = capsys.readouterr()
    assert code == 2
    assert problem in said.err
    assert said.err.count("\n") == 1, said.err
    assert said.out == ""
    assert not out.parent.exists()


def test_a_defect_ends_with_1_a_traceback_and_a_request(tmp_path, photos, made, capsys):
    shutil.copy(photos / "anna.jpg", photos / "defect.jpg")
    assert main([str(photos / "defect.jpg"), f"--out={tmp_path / 'out'}"]) == 1
    errors = capsys.readouterr().err
    assert "ZeroDivisionError" in errors
    assert "please report" in errors.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_an_interrupt_ends_with_130_one_line_and_nothing_half_written(tmp_path):
    command = [sys.executable, "-m", "digitaltwin", str(asset_path("portrait.png")), "--out=out/new", "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # up to a stage in which programs are compiled
            if line.split()[0] == "landmarks":
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130
    problems = [line for line in rest.splitlines() if not line.endswith(" s")]
    assert problems == ["interrupted: nothing was left half-written"]
    assert list(tmp_path.iterdir()) == []


# Many photos


def test_a_folder_gives_an_avatar_for_each_photo_and_a_bad_one_stops_nothing(tmp_path, photos, made, capsys):
    out = tmp_path / "out"
    (photos / "broken.jpg").write_bytes(b"no image")
    assert main([str(photos), f"--out={out}"]) == 2, "as one photo was refused"
    said = capsys.readouterr()
    assert said.out == f"{out}: 3 made, 2 refused; summary.csv\n"
    assert made == ["anna.jpg", "anna.png", "bert.png", "cat.jpg"]
    found = rows(out)
    assert {name: row["outcome"] for name, row in found.items()} == {
        "anna.jpg": "made",
        "anna.png": "made",
        "bert.png": "made",
        "broken.jpg": "refused",
        "cat.jpg": "refused",
    }
    assert "no face found" in found["cat.jpg"]["message"]
    assert "broken.jpg: is not an image" in said.err
    folders = {found[name]["folder"] for name in ("anna.jpg", "anna.png", "bert.png")}
    assert folders == {"anna", "anna-2", "bert"}, "photos of one stem do not replace each other"
    for folder in folders:
        assert {path.name for path in (out / folder).iterdir()} == set(FILES)
    assert {path.name for path in out.iterdir()} == {*folders, "summary.csv", "settings.json"}


def test_a_second_run_makes_only_what_is_missing(tmp_path, photos, made, capsys):
    out = tmp_path / "out"
    (photos / "cat.jpg").unlink()
    assert main([str(photos), f"--out={out}"]) == 0
    shutil.rmtree(out / "anna")
    (out / "bert" / "texture.png").unlink()
    (out / ".anna.0123456789abcdef").mkdir()  # of a run that was killed while it wrote
    (out / ".anna.0123456789abcdef" / "avatar.glb").write_text("half")
    made.clear()
    assert main([str(photos), f"--out={out}"]) == 0
    assert "1 stood already" in capsys.readouterr().out
    assert made == ["anna.jpg", "bert.png"], "what is missing, and what is not whole"
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"anna", "anna-2", "bert"}
    assert rows(out)["bert.png"]["folder"] == "bert"
    made.clear()
    assert main([str(photos), f"--out={out}"]) == 0
    assert made == []
    assert {row["outcome"] for row in rows(out).values()} == {"stood already"}
    assert main([str(photos), f"--out={out}", "--texture_size=512"]) == 2
    assert "other input or flags (texture_size)" in capsys.readouterr().err
    assert main([str(photos), f"--out={out}", "--texture_size=512", "--overwrite"]) == 0
    assert len(made) == 3


def test_another_photo_of_the_same_name_gets_a_folder_of_its_own(tmp_path, photos, made):
    others = tmp_path / "others"
    others.mkdir()
    Image.fromarray(np.full((80, 80, 3), 99, np.uint8)).save(others / "bert.png")
    out = tmp_path / "out"
    assert main([str(photos / "anna.jpg"), str(photos / "bert.png"), f"--out={out}"]) == 0
    assert main([str(others), f"--out={out}"]) == 0
    assert rows(out)["bert.png"]["folder"] == "bert-2"
    assert made == ["anna.jpg", "bert.png", "bert.png"]


def test_a_defect_in_a_batch_stops_nothing_and_ends_with_1(tmp_path, photos, made, capsys):
    (photos / "bert.png").rename(photos / "a-defect.png")
    assert main([str(photos), f"--out={tmp_path / 'out'}"]) == 1
    assert made[0] == "a-defect.png"
    assert "please report" in capsys.readouterr().err
    assert sum(row["outcome"] == "made" for row in rows(tmp_path / "out").values()) == 2


def test_a_batch_without_a_usable_photo_leaves_no_folder(tmp_path, made, capsys):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no image")
    assert main([str(tmp_path), f"--out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), f"--out={tmp_path / 'out'}"]) == 2
    assert "holds no photo" in capsys.readouterr().err


def test_an_interrupted_batch_keeps_what_is_whole(tmp_path, photos, monkeypatch, capsys):
    def create_avatar(photo, **_):
        if Path(photo).name == "bert.png":
            raise KeyboardInterrupt
        return FakeAvatar({"photo": {}})

    monkeypatch.setattr(digitaltwin.avatar, "create_avatar", create_avatar)
    out = tmp_path / "out"
    assert main([str(photos), f"--out={out}", "--quiet"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was left half-written\n"
    assert {path.name for path in out.iterdir()} == {"anna", "anna-2", "summary.csv", "settings.json"}
    assert set(rows(out)) == {"anna.jpg", "anna.png"}
