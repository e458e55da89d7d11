"""``lakevec doctor``: what it finds here, and the remedy for what is missing."""

from __future__ import annotations

import tomllib

import pytest

from lakevec.jobs import doctor
from tests.support.commands import doctor as run_doctor
from tests.support.paths import ROOT


def test_doctor_finds_nothing_missing_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor([]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out
    assert out.endswith("embedding can run here\n")


def test_doctor_names_every_extra_that_users_can_add() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"local", "connect", "dev"}


def test_extra_that_is_absent_is_told_and_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy", "no-such-package>=1; extra == 'lance'"])
    assert doctor.check_packages("lance", "to export to Lance") == doctor.Finding(
        *("lance", "without no-such-package", "pip install 'lakevec[lance]', to export to Lance"),
        needed=False,
    )


def test_doctor_names_the_remedy_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "find_java", lambda: None)
    assert run_doctor([]) == 2
    captured = capsys.readouterr()
    assert "MISSING  Java" in captured.out
    assert "pip install 'lakevec[local]'" in captured.out
    assert captured.err == "lakevec doctor: missing: Java: see the remedies above\n"
