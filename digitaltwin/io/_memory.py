"""Large arrays given back to the system as they are freed."""

import ctypes
import functools
import os
import platform

_THRESHOLD_PARAMETER = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BYTES = 1 << 20


@functools.cache
def return_large_arrays() -> bool:
    """Have glibc map every block of a megabyte and more on its own, so that freed pictures do not stay in the heap.

    By default glibc takes blocks of up to 32 MB from its heap once blocks of that size have been freed. There small
    blocks that live on come to lie between them, and the memory of a process that makes avatars of photos of many sizes
    grows with each. The setting holds for the whole process. A user's own setting (``MALLOC_MMAP_THRESHOLD_`` or
    ``GLIBC_TUNABLES``) is left alone, and so is every other C library.

    Returns:
        Whether it was set.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_THRESHOLD_PARAMETER, _LARGE_BYTES))
    except (OSError, AttributeError):
        return False
