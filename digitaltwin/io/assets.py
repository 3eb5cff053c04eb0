"""The data that ships with the package (``digitaltwin/assets``, described in its README.md)."""

from importlib import resources
from pathlib import Path


def asset_path(name: str) -> Path:
    """Where a shipped file lies, in a checkout as in an installed wheel.

    Raises:
        FileNotFoundError: the installation lacks it.

    Example:
        >>> asset_path("README.md").name
        'README.md'
    """
    path = Path(str(resources.files("digitaltwin"))) / "assets" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from this installation of digitaltwin; install it anew.")
    return path
