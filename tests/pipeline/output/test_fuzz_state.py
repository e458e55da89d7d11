"""Damaged or planted state of an output: an error of one line, and nothing is lost or written elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakevec.jobs.cli import RunContext, run_job
from lakevec.pipeline.output import commit_log, lease
from lakevec.pipeline.settings.models import InspectSettings
from tests.support.commits import a_commit, a_run, write
from tests.support.fuzzing import DOCUMENTS, change, fuzz, outcome, spoil, tree

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


def run_once(folder: Path, run: str, *, refresh: bool = False) -> None:
    """Add one file to an output, as a run does."""
    with a_run(folder, run, refresh=refresh) as output:
        output.commit(a_commit(output, run, [write(output, f"part-{run}", ["a", "b"])]))
        output.finish({"rows": 2})


@pytest.fixture(scope="module")
def whole_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four commits: a state, two commits behind it, and what a killed run would leave."""
    folder = tmp_path_factory.mktemp("state") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commit_log, "SNAPSHOT_EVERY", 2)
        for run in ("r0", "r1", "r2"):
            run_once(folder, run)
    (folder / "_lakevec" / "staging" / "r9").mkdir(parents=True)
    (folder / "_lakevec" / "staging" / "r9" / "run").write_bytes(b"")
    (folder / "_lakevec" / "lease").mkdir()
    claim = {"host": "h", "pid": 1, "started": "1", "boot": "b", "namespace": "pid:[1]", "beats": 0}
    (folder / "_lakevec" / "lease" / "r9.json").write_text(json.dumps(claim))
    return folder


@contextmanager
def an_output(whole: Path) -> Iterator[Path]:
    """A copy of the output to spoil, with neighbours and rows that must stay as they are."""
    parent = whole.parent / "spoiled"
    shutil.rmtree(parent, ignore_errors=True)
    shutil.copytree(whole, parent / "near" / "out")
    for name in ("canary", "near/canary.parquet", "near/plant/evil.parquet"):
        (parent / name).parent.mkdir(exist_ok=True)
        (parent / name).write_text("stays")
    outside = tree(parent / "near", but="out"), (parent / "canary").read_text()
    rows = {file.name: file.read_bytes() for file in (parent / "near" / "out").glob("*.parquet")}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease, "EXPIRY_S", 0.01)  # of a claim that nobody can read
        patched.setattr("time.sleep", lambda seconds: None)
        yield parent / "near" / "out"
    assert (tree(parent / "near", but="out"), (parent / "canary").read_text()) == outside
    assert {file.name for file in parent.iterdir()} == {"near", "canary"}
    for name, content in rows.items():
        assert (parent / "near" / "out" / name).read_bytes() == content


def go_on(folder: Path, *, refresh: bool = False) -> str:
    """Run again; return what is wrong in one line, or nothing."""

    def body(settings: InspectSettings, context: RunContext) -> None:
        run_once(folder, "r10", refresh=refresh)

    return outcome(lambda: run_job(InspectSettings, body, ["m"], name="embed"))[1]


def state_files(folder: Path) -> list[str]:
    own = folder / "_lakevec"
    return sorted(str(file.relative_to(folder)) for file in own.rglob("*.json") if file.name != "run.json")


@given(data=st.data())
@fuzz(60)
def test_damaged_state_is_one_line_and_nothing_is_lost(data: st.DataObject, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        spoil(folder / data.draw(st.sampled_from(state_files(folder))), data)
        go_on(folder)


@given(data=st.data())
@fuzz(80)
def test_state_with_other_values_is_one_line_and_nothing_is_lost(
    data: st.DataObject, whole_output: Path
) -> None:
    with an_output(whole_output) as folder:
        file = folder / data.draw(st.sampled_from(state_files(folder)))
        file.write_text(json.dumps(change(json.loads(file.read_text()), data)))
        go_on(folder)


@pytest.mark.parametrize("content", [*DOCUMENTS.values(), "{}", "\ufeff{}"], ids=[*DOCUMENTS, "{}", "mark"])
@pytest.mark.parametrize(
    "pattern", ["current.json", "*/output.json", "*/log/*2.json", "*/log/*.state.json", "lease/*.json"]
)
def test_state_of_anything_is_one_line(pattern: str, content: str, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (file,) = (folder / "_lakevec").glob(pattern)
        file.write_text(content)
        # A claim that says nothing is one of a run that is dead, once it has not changed for a while.
        assert bool(go_on(folder)) == (pattern != "lease/*.json")


@pytest.mark.parametrize(
    "generation", ["../x", "..", "/etc", "a/b", "", ".", "a\0b", "\ud800", "²", 7, None, ["a"]]
)
def test_generation_that_leads_elsewhere_is_refused(generation: Any, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "current.json").write_text(json.dumps({"generation": generation}))
        assert "no name of a generation" in go_on(folder)
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "current.json").write_text(json.dumps({"generation": generation}))
        assert "no name of a generation" in go_on(folder, refresh=True)


@pytest.mark.parametrize(
    ("changes", "name", "staged"),
    [
        ({}, "../canary.parquet", "canary.parquet"),
        ({}, "../evil.parquet", "evil.parquet"),
        ({}, "../../canary", ""),
        ({}, "/tmp/evil.parquet", ""),
        ({}, "a/../../evil.parquet", "evil.parquet"),
        ({}, "_lakevec/current.json", ""),
        ({}, "", ""),
        ({}, "a\0b", ""),
        ({}, "\ud800", ""),
        ({"run": "../../../plant"}, "evil.parquet", ""),
        ({"run": "../../../../plant"}, "evil.parquet", ""),
        ({"run": ""}, "r9/run", ""),
        ({"removed": ["../canary.parquet"]}, "part-r2-000.parquet", ""),
        ({"number": 99}, "part-r2-000.parquet", ""),
    ],
)
def test_log_that_names_files_elsewhere_is_refused(
    changes: dict[str, Any], name: str, staged: str, whole_output: Path
) -> None:
    """Recovery moves what the last commit names; a planted name must not lead out of the output."""
    with an_output(whole_output) as folder:
        (log,) = (folder / "_lakevec").glob("*/log/*2.json")
        commit = json.loads(log.read_text()) | changes
        commit["added"][0]["name"] = name
        log.write_text(json.dumps(commit))
        staging = folder / "_lakevec" / "staging"
        (staging / "r2").mkdir()
        if staged:
            (staging / staged).write_text("planted")
        assert go_on(folder)


def test_file_among_staging_folders_is_not_in_the_way(whole_output: Path) -> None:
    """As some file managers and network disks leave them everywhere."""
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "staging" / ".DS_Store").write_text("")
        assert not go_on(folder)


@pytest.mark.parametrize(
    "name", ["x.json", "000000000000².json", "-1.json", "9" * 200 + ".json", "\n.json", ".json"]
)
def test_log_with_other_files_is_refused(name: str, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (log,) = (folder / "_lakevec").glob("*/log/*2.json")
        shutil.copy(log, log.parent / name)
        told = go_on(folder)
        assert "the log of an output is damaged" in told or name.startswith(".")
