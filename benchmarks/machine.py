"""What a measured number depends on besides the code: without it, a table says nothing."""

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import digitaltwin


def describe(*packages: str) -> dict[str, Any]:
    """Processor, cores this process may use, memory, system, Python, our version and the named packages'."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "digitaltwin": digitaltwin.__version__,
        **{package: metadata.version(package) for package in packages},
    }


def megabytes(maxrss: int) -> float:
    """Peak memory as the operating system reports it: Linux counts in KiB, macOS in bytes."""
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far.

    On Linux from its status file: ``getrusage`` also counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return peaks[0] * 1024 / 1e6 if peaks else megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _processor() -> str:
    """The model name, which Python's own ``platform.processor`` leaves empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
