"""The machine that a measurement is made on."""

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
    named = (
        re.search(r"^model name\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    )
    return {
        "processor": named[1].strip() if named else platform.processor() or platform.machine(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
