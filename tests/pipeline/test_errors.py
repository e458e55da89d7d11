"""The error for a missing optional package."""

from __future__ import annotations

import pytest

from lakevec.pipeline.errors import SetupError, requires_extra


def test_missing_package_is_one_line_that_says_what_to_install() -> None:
    with pytest.raises(SetupError) as told, requires_extra("evaluate", "evaluating"):
        import no_such_package  # noqa: F401
    assert str(told.value) == (
        "evaluating needs no_such_package, which is not installed: pip install 'lakevec[evaluate]'"
    )
