"""README and --help say what the code does."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from pipeline.settings import DistillSettings, EmbedSettings, Settings


def settings_table(kind: type[Settings]) -> list[str]:
    return [
        f"| `{name}` | "
        + (
            "required"
            if field.is_required()
            else f"`{json.dumps(field.get_default(call_default_factory=True))}`"
        )
        + f" | {field.description} |"
        for name, field in kind.model_fields.items()
    ]


@pytest.mark.parametrize(("name", "kind"), [("embed", EmbedSettings), ("distill", DistillSettings)])
def test_readme_lists_every_setting_as_it_is(name: str, kind: type[Settings]) -> None:
    readme = (ROOT / "README.md").read_text()
    found = re.search(f"<!-- {name} settings -->\n(.*?)<!-- /{name} settings -->", readme, re.DOTALL)
    assert found is not None
    rows = [line for line in found[1].splitlines() if line.startswith("| `")]
    assert rows == settings_table(kind)


@pytest.mark.parametrize("job", ["embed", "distill", "demo", "doctor"])
def test_help_tells_every_option_and_needs_no_spark(job: str) -> None:
    code = f"import sys; from jobs.cli import main; sys.exit(main(['{job}', '--help']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"usage: lakevec {job}" in done.stdout
    for option in ("--config", "--dry-run", "--verbose"):
        assert option in done.stdout


def test_readme_commands_use_options_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    known = {
        f"--{name.replace('_', '-')}"
        for kind in (EmbedSettings, DistillSettings)
        for name in kind.model_fields
    }
    known |= {"--config", "--dry-run", "--verbose", "--py-files", "--master", "--properties-file", "--files"}
    commands = re.findall(r"^\s*(?:lakevec|spark-submit) .*?(?<!\\)$", readme, re.MULTILINE | re.DOTALL)
    assert len(commands) >= 3
    used = {option for command in commands for option in re.findall(r"(?<=\s)--[a-z-]+", command)}
    assert used <= known, f"README uses {sorted(used - known)}"


def test_unknown_job_is_told_with_the_nearest() -> None:
    code = "import sys; from jobs.cli import main; sys.exit(main(['embd']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    expected = (
        "lakevec: unknown job 'embd'; expected one of demo, distill, doctor, embed; did you mean 'embed'?\n"
    )
    assert done.stderr == expected


def test_doctor_finds_nothing_missing_here(capsys: pytest.CaptureFixture[str]) -> None:
    from jobs.doctor import main

    assert main([]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out
    assert out.endswith("embedding can run here\n")


def test_doctor_names_the_remedy_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import doctor

    monkeypatch.setattr(doctor, "find_java", lambda: None)
    assert doctor.main([]) == 2
    captured = capsys.readouterr()
    assert "MISSING  Java" in captured.out
    assert "pip install 'lakevec[local]'" in captured.out
    assert captured.err == "lakevec doctor: missing: Java: see the remedies above\n"
