"""The data that ships with the package (``digitaltwin/assets``, described in its README.md)."""

from importlib import resources
from pathlib import Path


def asset_path(name: str) -> Path:
    """Find a file that ships with the package, in a checkout as in an installed wheel.

    Args:
        name: The file's name: ``"portrait.png"``, ``"scan.glb"``, ``"head.npz"``.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: The installation lacks it.

    Example:
        >>> asset_path("README.md").name
        'README.md'
    """
    path = Path(str(resources.files("digitaltwin"))) / "assets" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from this installation of digitaltwin; install it anew.")
    return path
