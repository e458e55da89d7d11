"""``lakevec doctor``: what it finds here, and the remedy for what is missing."""

from __future__ import annotations

import pytest

from lakevec.jobs import doctor
from tests.support.commands import doctor as run_doctor


def test_doctor_finds_nothing_missing_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor([]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out
    assert out.endswith("embedding can run here\n")


def test_doctor_names_the_remedy_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "find_java", lambda: None)
    assert run_doctor([]) == 2
    captured = capsys.readouterr()
    assert "MISSING  Java" in captured.out
    assert "pip install 'lakevec[local]'" in captured.out
    assert captured.err == "lakevec doctor: missing: Java: see the remedies above\n"
