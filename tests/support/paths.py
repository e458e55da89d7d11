"""Where things are, and whether the longest cases run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
IS_WHOLE = bool(os.environ.get("LAKEVEC_WHOLE"))


def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this run of pytest that all of xdist's workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
