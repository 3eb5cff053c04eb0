"""Turn one photo of a face into a textured, rigged head.

    python -m experiments.avatar --image=photo.jpg --out=out

Writes avatar.glb, texture.png, preview.png and report.json. Ends with 0 when done, 2 when the photo or a flag cannot be
used (one line says why and what to do), 1 after a defect of its own.
"""

from absl import flags

from digitaltwin.avatar import create_avatar
from digitaltwin.io._files import make_folder
from digitaltwin.io.assets import asset_path
from experiments import command

_IMAGE = flags.DEFINE_string("image", None, "The photo; without it, the portrait that ships with the package.")
_OUT = flags.DEFINE_string("out", "out", "Folder for the results; made if it is missing.")
_FOCAL = flags.DEFINE_float("focal_px", None, "Focal length in pixels of the photo; without it, EXIF's or a guess.")
_TEXTURE = flags.DEFINE_enum("texture_size", "2048", ["512", "1024", "2048", "4096"], "Side of the texture in pixels.")
_QUICK = flags.DEFINE_bool("quick", False, "A smaller texture (512), for a first look.")


def main() -> None:
    """Read the flags, make the avatar, save it, say where it is."""
    command.keep_compiled_programs()
    folder = make_folder(_OUT.value)  # before the work, so that it is not done in vain
    image = asset_path("portrait.png") if _IMAGE.value is None else _IMAGE.value
    size = 512 if _QUICK.value else int(_TEXTURE.value)
    create_avatar(image, focal_px=_FOCAL.value, texture_size=size).save(folder)
    print(f"{folder}: avatar.glb, texture.png, preview.png, report.json")


if __name__ == "__main__":
    command.run(main)
