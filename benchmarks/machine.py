"""What the figures were measured on, and how fast it was just then."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ("redis", "hiredis", "msgspec", "msgpack", "uvloop")


def describe(redis_version: str) -> dict[str, Any]:
    """Processor, cores, system, and the versions of what takes part."""
    import taskq

    versions = {"taskq": taskq.__version__, "python": platform.python_version(), "redis-server": redis_version}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "implementation": sys.implementation.name,
        "versions": versions,
    }


def available_memory() -> int:
    """Bytes that can be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def speed() -> float:
    """Loops per microsecond of a fixed piece of Python. On a shared host it varies from one minute to the next."""
    begin, total = time.perf_counter(), 0
    for number in range(200_000):
        total += number & 7
    return 0.2 / (time.perf_counter() - begin)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
