"""Freed pictures go back to the system, whatever small objects came to lie between them."""

import os
import platform
import subprocess
import sys

import pytest

_CODE = """
import sys
import numpy as np
from digitaltwin.io._memory import return_large_arrays
assert return_large_arrays() is (sys.argv[1] == "set")
def resident_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1e3
first = np.ones(30_000_000, np.uint8)
del first  # from now on glibc would take blocks of this size from its heap
before = resident_mb()
large, small = [], []
for _ in range(20):
    large.append(np.ones(10_000_000, np.uint8))
    small.append(np.ones(50_000, np.uint8))
del large
print(resident_mb() - before)
"""

linux = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


def grown_mb(how: str, **variables: str) -> float:
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, how], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@linux
def test_freed_pictures_go_back_to_the_system():
    assert grown_mb("set") < 20


@linux
def test_a_users_own_setting_is_left_alone():
    assert grown_mb("left", MALLOC_MMAP_THRESHOLD_=str(32 << 20)) > 100  # and the law has something to say
