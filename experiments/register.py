"""Register a scan of a head: bring the head's skin onto it, and transfer its texture.

    python -m experiments.register --scan=scan.obj --out=out

The scan (OBJ, PLY, STL, GLB, OFF; any pose and unit, with or without texture) may have holes, hair and shoulders. Its
landmarks are detected on rendered views, or given: --landmarks is a CSV with a row ``name,x,y,z`` for each of
digitaltwin.io.LANDMARKS. Writes head.glb (rigged and textured), texture.png, registration.npz (the skin in the order of
the head's vertices, in its own frame and in the scan's), picture.png (scan, head, and how far they are apart) and
report.json. Without --scan it registers the one that ships with the package.
"""

from absl import flags

from experiments import command

_SCAN = flags.DEFINE_string("scan", None, "The scan; without it, the one that ships with the package.")
_OUT = flags.DEFINE_string("out", "registered", "Folder for the results; made if it is missing.")
_LANDMARKS = flags.DEFINE_string("landmarks", None, "CSV of the scan's seven landmarks; without it they are detected.")
_TEXTURE = flags.DEFINE_enum("texture_size", "2048", ["512", "1024", "2048", "4096"], "Side of the texture in pixels.")
_SCALP = flags.DEFINE_float("scalp", 0.0, "Weight of the scan where hair usually grows; 1 for the bald.", 0.0, 1.0)
_HAIR = flags.DEFINE_bool("hair", False, "Keep hair and collars in the texture.")
_QUICK = flags.DEFINE_bool("quick", False, "A smaller texture (512), for a first look.")


def main() -> None:
    """Register, write, and say what came out."""
    from digitaltwin.avatar import avatar_from_scan
    from digitaltwin.io import asset_path
    from digitaltwin.io._files import make_folder
    from digitaltwin.registration import RegistrationConfig

    command.keep_compiled_programs()
    folder = make_folder(_OUT.value)
    avatar = avatar_from_scan(
        asset_path("scan.glb") if _SCAN.value is None else _SCAN.value,
        landmarks=_LANDMARKS.value,
        config=RegistrationConfig(scalp=_SCALP.value),
        texture_size=512 if _QUICK.value else int(_TEXTURE.value),
        hair=_HAIR.value,
    )
    avatar.save(folder)
    report = avatar.report
    for sentence in report["warnings"]:
        print(f"note: {sentence}")
    unit, face, marks = report["scan"]["unit"], report["face_mm"], report["landmarks_mm"]
    print(
        f"{folder}: unit {unit}; face {face['mean']:.2f} mm on average, at most {face['largest']:.2f}; "
        f"landmarks {marks['mean']:.2f} mm; head.glb, texture.png, registration.npz, picture.png, report.json"
    )


if __name__ == "__main__":
    command.run(main)
