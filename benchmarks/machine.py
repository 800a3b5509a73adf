"""The machine that the numbers are of."""

import os
import platform
from pathlib import Path

from builder import __version__


def machine_facts() -> dict[str, str]:
    """What a reader needs to compare numbers, load included: work that goes on beside a benchmark makes it slower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "tdx-builder": __version__,
        "user": "root" if os.getuid() == 0 else "ordinary",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
