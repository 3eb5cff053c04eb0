"""``digitaltwin PHOTO [PHOTO ...|FOLDER]``: photos into avatars, one by one or as a batch that can be continued."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from absl import flags

from digitaltwin._stages import stage
from digitaltwin.cli._command import (
    DEFECT,
    DONE,
    UNUSABLE_INPUT,
    Command,
    Speaker,
    define_common,
    report_defect,
)
from digitaltwin.io._files import check_folder, reason, whole_folder, write_csv
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

FILES = ("avatar.glb", "texture.png", "preview.png", "report.json")
"""What an avatar's folder holds."""
SUMMARY = "summary.csv"
DEFAULT_OUT = "avatars"
_SETTINGS = "settings.json"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"}
"""Files of a folder that are taken for photos; what cannot be read of them is refused one by one."""

MADE, STOOD, REFUSED, DEFECTIVE = "made", "stood already", "refused", "defect"


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_string(
        "out",
        None,
        f"Folder for the results, made if it is missing; {DEFAULT_OUT}/PHOTO without it.",
        flag_values=values,
    )
    flags.DEFINE_bool("overwrite", False, "Replace avatars that stand in the folder.", flag_values=values)
    flags.DEFINE_float(
        "focal_px", None, "Focal length in pixels of the photo; without it, EXIF's or a guess.", flag_values=values
    )
    flags.DEFINE_enum(
        "texture_size", "2048", ["512", "1024", "2048", "4096"], "Side of the texture in pixels.", flag_values=values
    )
    flags.DEFINE_bool(
        "quick", False, "A smaller texture (512), for a first look; without a photo, of the shipped portrait.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("image", None, "A photo, as another way to name one.", flag_values=values)
    define_common(values)


def work(values: flags.FlagValues, rest: list[str], *, sample: bool = False, out: str | None = None) -> int:
    """Make one avatar, or one of each photo.

    Args:
        values: The flags.
        rest: Photos and folders.
        sample: Whether the shipped portrait is taken where no photo is named.
        out: What takes the place of ``--out``.

    Returns:
        The exit code.
    """
    named = [*rest, *([] if values.image is None else [values.image])]
    if not named and (values.quick or sample):
        named = [str(asset_path("portrait.png"))]
    out = out if values.out is None else values.out
    if not named:
        raise InputError("digitaltwin: name a photo, or a folder of photos (--help says more; --quick needs none).")
    settings = {"texture_size": 512 if values.quick else int(values.texture_size), "focal_px": values.focal_px}
    if settings["focal_px"] is not None and not 0 < settings["focal_px"] < float("inf"):  # NaN fails too
        raise InputError(
            f"focal_px: {values.focal_px} is no focal length; give a positive number of pixels, or leave it out."
        )
    speaker = Speaker(quiet=values.quiet)
    if len(named) == 1 and not Path(named[0]).is_dir():
        photo = Path(named[0])
        folder = Path(DEFAULT_OUT) / photo.stem if out is None else Path(out)
        return _make_one(photo, folder, settings, speaker, overwrite=values.overwrite)
    return _make_all(_photos(named), Path(out or DEFAULT_OUT), settings, speaker, overwrite=values.overwrite)


def _make_one(photo: Path, out: Path, settings: dict, speaker: Speaker, *, overwrite: bool) -> int:
    """Make one avatar, in a folder of its own."""
    check_file(photo)
    if not overwrite and _stands(out):
        raise InputError(f"{out}: holds an avatar already; add --overwrite to replace it, or name another --out.")
    check_folder(out)
    speaker.say(f"{photo} -> {out}: {', '.join(FILES)}{_compiling()}")
    with speaker.stages():
        _make(photo, out, settings)
    print(f"{out}: {', '.join(FILES)}")
    return DONE


class Outcome(NamedTuple):
    """What became of one photo: a row of the summary."""

    photo: str
    folder: str
    outcome: str
    seconds: float
    message: str


def _make_all(photos: Sequence[Path], out: Path, settings: dict, speaker: Speaker, *, overwrite: bool) -> int:
    """Make an avatar of each photo, each in a folder below ``out``; what stands there of the same photo is kept."""
    folders, digests = _folders(photos, out)
    troubles = {photo: trouble for photo in photos if (trouble := _trouble(photo)) is not None}
    if len(troubles) == len(photos):
        for trouble in troubles.values():
            speaker.problem(trouble)
        return UNUSABLE_INPUT
    check_folder(out)
    kept = {
        photo
        for photo, digest in digests.items()
        if not overwrite and _is_whole(out / folders[photo]) and _is_of(out / folders[photo], digest)
    }
    new = len(photos) - len(kept) - len(troubles)
    speaker.say(
        f"{len(photos)} photos -> {out}: {new} avatars to make, {len(kept)} stand already{_compiling() if new else ''}"
    )
    from digitaltwin.io._resumable import ResumableJob

    if overwrite:
        (out / _SETTINGS).unlink(missing_ok=True)
    outcomes: list[Outcome] = []
    with ResumableJob(out, settings, settings_name=_SETTINGS).begin():
        try:
            for number, photo in enumerate(photos, 1):
                begun = time.perf_counter()
                if photo in troubles:
                    outcome, message = REFUSED, troubles[photo]
                    speaker.problem(message)
                elif photo in kept:
                    outcome, message = STOOD, ""
                else:
                    outcome, message = _attempt(photo, out / folders[photo], settings, speaker)
                taken = round(time.perf_counter() - begun, 2)
                folder = folders[photo] if outcome in (MADE, STOOD) else ""
                outcomes.append(Outcome(str(photo), folder, outcome, taken, message))
                if outcome != STOOD:
                    speaker.say(f"[{number}/{len(photos)}] {photo}: {outcome}, {taken:.2f} s")
        finally:
            write_csv(out / SUMMARY, [Outcome._fields, *outcomes])
    counts = {name: sum(outcome.outcome == name for outcome in outcomes) for name in (MADE, STOOD, REFUSED, DEFECTIVE)}
    print(f"{out}: {', '.join(f'{count} {name}' for name, count in counts.items() if count)}; {SUMMARY}")
    if counts[DEFECTIVE]:
        return DEFECT
    return UNUSABLE_INPUT if counts[REFUSED] else DONE


def _attempt(photo: Path, folder: Path, settings: dict, speaker: Speaker) -> tuple[str, str]:
    """Make one avatar of many; whatever is wrong with its photo stops none of the others."""
    try:
        _make(photo, folder, settings)
    except InputError as error:
        speaker.problem(f"{photo}: {error}" if str(photo) not in str(error) else str(error))
        return REFUSED, str(error)
    except Exception as error:
        report_defect()
        return DEFECTIVE, repr(error)
    return MADE, ""


def _make(photo: Path, folder: Path, settings: dict) -> None:
    """Make an avatar and write its files, all or none; this is where JAX is imported."""
    with stage({}, "start"):
        from digitaltwin.avatar import create_avatar
    avatar = create_avatar(photo, focal_px=settings["focal_px"], texture_size=settings["texture_size"])
    described = {**avatar.report["photo"], "file": photo.name, "sha256": _digest(photo)}
    avatar = replace(avatar, report={**avatar.report, "photo": described})
    with whole_folder(folder) as temporary:
        avatar.save(temporary)


def check_file(photo: Path) -> None:
    """Refuse what cannot be a photo: first by whether it can be opened, which needs nothing imported."""
    try:
        with photo.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{photo}: cannot be read ({reason(error)}); name a photo that can.") from error
    from digitaltwin.io._images import check_photo

    check_photo(photo)


def _trouble(photo: Path) -> str | None:
    try:
        check_file(photo)
    except InputError as error:
        return str(error)
    return None


def _compiling() -> str:
    from digitaltwin.io._store import programs_stored

    return "" if programs_stored() else " (compiling once, about a minute)"


def _photos(named: Sequence[str]) -> list[Path]:
    """List the photos that arguments name, a folder for those in it; none twice.

    Raises:
        InputError: A folder holds none.
    """
    photos = []
    for name in named:
        path = Path(name)
        if not path.is_dir():
            photos.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
        inside = [file for file in inside if not file.name.startswith(".")]
        if not inside:
            raise InputError(f"{path}: holds no photo ({', '.join(sorted(_SUFFIXES))}); name another folder.")
        photos += inside
    return list(dict.fromkeys(photos))


def _folders(photos: Sequence[Path], out: Path) -> tuple[dict[Path, str], dict[Path, str]]:
    """Choose a folder's name for each photo, its stem where that is free; returned with the digests that it took.

    A folder that holds the avatar of the very same photo is its own; one that holds another's is left alone.
    """
    digests, folders, taken = {}, {}, set()
    for photo in photos:
        names, own = [photo.stem], []
        while names[-1] in taken or _stands(out / names[-1]):
            names.append(f"{photo.stem}-{len(names) + 1}")
        if len(names) > 1 and photo.is_file():  # digests are taken of those alone that may be done already
            digests[photo] = _digest(photo)
            own = [name for name in names if name not in taken and _is_of(out / name, digests[photo])]
        folders[photo] = own[0] if own else names[-1]
        taken.add(folders[photo])
    return folders, digests


def _stands(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("avatar.glb", "report.json"))


def _is_of(folder: Path, digest: str) -> bool:
    """Tell by the photo's digest whether a folder holds its avatar."""
    try:
        return json.loads((folder / "report.json").read_text())["photo"]["sha256"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _digest(photo: Path) -> str:
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


COMMAND = Command(
    usage="digitaltwin PHOTO [--out=DIR]\ndigitaltwin PHOTO PHOTO ... [--out=DIR]\ndigitaltwin FOLDER [--out=DIR]",
    description=f"""\
Turn a photo of a face into a textured, rigged head: {", ".join(FILES)}.

Several photos, or those of a folder, become one avatar each in DIR/PHOTO, and {SUMMARY} says what became of each. A
photo that cannot be used stops none of the others. A second run makes only what is missing.

An avatar that stands in the folder is not replaced without --overwrite. Ends with 0 when done, 2 when a photo or a flag
cannot be used (one line says why and what to do; of many photos, when any could not), 1 after a defect of its own, 130
after an interrupt (Ctrl-C), which leaves nothing half-written.""",
    define=define,
    work=work,
    takes="photos",
)
