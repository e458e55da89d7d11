"""The machine of a measurement."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Describe this machine.

    Returns
    -------
    dict
        ``processor``, ``cpus`` (numbers of the CPUs that this process may use), ``memory_bytes``, ``system``
        and ``python``.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:(.*)$", text, re.MULTILINE)
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
