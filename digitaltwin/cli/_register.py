"""``digitaltwin register``: a scan into a head of the package's topology, texture and rig."""

from pathlib import Path

from absl import flags

from digitaltwin._stages import stage
from digitaltwin.cli._command import Command, Speaker, define_common, keep_compiled_programs
from digitaltwin.io._files import check_folder, reason, whole_folder
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError

FILES = ("head.glb", "texture.png", "registration.npz", "picture.png", "report.json")


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_string("scan", None, "The scan; with --quick, the shipped one.", flag_values=values)
    flags.DEFINE_string("out", "registered", "Folder for the results; made if it is missing.", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "Replace a head that stands in the folder.", flag_values=values)
    flags.DEFINE_string(
        "landmarks", None, "CSV of the scan's seven landmarks; without it they are detected.", flag_values=values
    )
    flags.DEFINE_enum(
        "texture_size", "2048", ["512", "1024", "2048", "4096"], "Side of the texture in pixels.", flag_values=values
    )
    flags.DEFINE_float(
        "scalp", 0.0, "Weight of the scan where hair usually grows; 1 for the bald.", 0.0, 1.0, flag_values=values
    )
    flags.DEFINE_bool("hair", False, "Keep hair and collars in the texture.", flag_values=values)
    flags.DEFINE_bool("quick", False, "A smaller texture (512), for a first look.", flag_values=values)
    define_common(values)


def work(values: flags.FlagValues, rest: list[str], *, sample: bool = False) -> None:
    """Register, write, and say what came out.

    Args:
        values: The flags.
        rest: The scan, if no flag names it.
        sample: Whether the shipped scan is taken where none is named.
    """
    named = [*rest, *([] if values.scan is None else [values.scan])]
    if not named and (values.quick or sample):
        named = [str(asset_path("scan.glb"))]
    if len(named) != 1:
        raise InputError("--scan: name one scan (--quick needs none, and takes the one that ships with the package).")
    scan, out = Path(named[0]), Path(values.out)
    for path in [scan] if values.landmarks is None else [scan, Path(values.landmarks)]:
        try:
            with path.open("rb") as file:
                if not file.read(1):
                    raise InputError(f"{path}: is empty; write or copy it anew.")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)}); check the path.") from error
    if not values.overwrite and any((out / name).exists() for name in ("head.glb", "report.json")):
        raise InputError(f"{out}: holds a head already; add --overwrite to replace it, or name another --out.")
    check_folder(out)
    speaker = Speaker(quiet=values.quiet)
    speaker.say(f"{scan} -> {out}: {', '.join(FILES)} (half a minute)")
    with speaker.stages():
        with stage({}, "start"):
            keep_compiled_programs()
            from digitaltwin.avatar import avatar_from_scan
            from digitaltwin.registration import RegistrationConfig

        avatar = avatar_from_scan(
            scan,
            landmarks=values.landmarks,
            config=RegistrationConfig(scalp=values.scalp),
            texture_size=512 if values.quick else int(values.texture_size),
            hair=values.hair,
        )
        with whole_folder(out) as temporary:
            avatar.save(temporary)
    for sentence in avatar.report["warnings"]:
        speaker.problem(f"note: {sentence}")
    unit, face = avatar.report["scan"]["unit"], avatar.report["face_mm"]
    print(
        f"{out}: unit {unit}; face {face['mean']:.2f} mm on average, at most {face['largest']:.2f}; "
        f"landmarks {avatar.report['landmarks_mm']['mean']:.2f} mm; {', '.join(FILES)}"
    )


COMMAND = Command(
    usage="digitaltwin register --scan=scan.obj [--landmarks=landmarks.csv] [--out=DIR]",
    description=f"""\
Register a scan of a head: bring the head's skin onto it, and transfer its texture.

The scan (OBJ, PLY, STL, GLB, OFF; any pose and unit, with or without texture) may have holes, hair and shoulders. Its
landmarks are detected on rendered views, or given: --landmarks is a CSV with a row name,x,y,z for each of
digitaltwin.io.LANDMARKS. Writes {", ".join(FILES)}: the head rigged and textured, the skin in the order of the
head's vertices in its own frame and in the scan's, a picture of scan, head and the distances between them, and all
numbers.""",
    define=define,
    work=work,
    takes="scan",
)
