"""What a missing package is told as."""

from __future__ import annotations

import pytest

from lakevec.jobs.extras import requires_extra
from lakevec.pipeline.errors import SetupError


def test_missing_package_is_one_line_that_says_what_to_install() -> None:
    with pytest.raises(SetupError) as told, requires_extra("evaluate", "evaluating"):
        import no_such_package  # noqa: F401
    assert str(told.value) == (
        "evaluating needs a package that is not installed: got no_such_package; "
        "pip install 'lakevec[evaluate]'"
    )
