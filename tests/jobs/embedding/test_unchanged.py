"""A rerun with nothing new, found without Spark: the same answer as Spark's stream, or none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lakevec.jobs.embedding.plan import plan_run
from lakevec.jobs.embedding.unchanged import finish_unchanged
from lakevec.jobs.options import parse
from lakevec.pipeline.settings.embed import EmbedSettings
from tests.support.commands import embed as main
from tests.support.lakes import ids, put, record
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("spark")


def words(model: str, out: Path, *inputs: Path | str) -> list[str]:
    paths = ["--input", *map(str, inputs), "--text", "text", "--output", str(out)]
    return ["--model", model, *paths]


def is_answered(argv: list[str]) -> bool:
    """Whether lakevec finds without Spark that nothing is new."""
    settings, *_ = parse(EmbedSettings, argv, "embed")
    plan = plan_run(settings)
    assert plan.output is not None
    with plan.output.open(grace_s=0.0) as opened:
        return finish_unchanged(plan, opened) is not None


def ask_stream(argv: list[str], out: Path) -> str:
    """Run again with another setting, which leaves the answer to Spark's stream; return the status."""
    assert main([*argv, "--batch-rows", "77"]) == 0
    return str(record(out)["status"])


def nothing(lake: Path) -> None:
    """Change nothing."""


def add(name: str) -> Callable[[Path], None]:
    def change(lake: Path) -> None:
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        put(lake / name, ["new"])

    return change


def touch(lake: Path) -> None:
    os.utime(lake / "a.parquet", ns=(0, 0))


def remove(lake: Path) -> None:
    (lake / "b.parquet").unlink()


def link_folder(lake: Path) -> None:
    (lake / "again").symlink_to(lake)


# What happens to the lake, the input below it, whether lakevec answers, and what the stream says.
CASES = {
    "nothing": (nothing, "", True, "nothing new"),
    "new file": (add("c.parquet"), "", False, "done"),
    "odd name": (add("odd [x]{a,b}*? %20 é.parquet"), "", False, "done"),
    "touched": (touch, "", False, "nothing new"),
    "removed": (remove, "", False, "nothing new"),
    "hidden files": (add("_c.parquet"), "", True, "nothing new"),
    "a folder that Spark skips": (add("more/c.parquet"), "", True, "nothing new"),
    "a folder that is hidden": (add(".more/c.parquet"), "", True, "nothing new"),
    "a link": (link_folder, "", False, "nothing new"),
    "one file": (add("c.parquet"), "a.parquet", True, "nothing new"),
    "pattern": (nothing, "*.parquet", True, "nothing new"),
    "pattern, new match": (add("c.parquet"), "[a-c].parquet", False, "done"),
    "pattern, no new match": (add("z.parquet"), "{a,[bc]}.parquet", True, "nothing new"),
    "pattern, hidden match": (add("_c.parquet"), "*", True, "nothing new"),
}


@pytest.mark.parametrize(("change", "inputs", "answered", "status"), CASES.values(), ids=CASES)
def test_answer_is_that_of_the_stream(
    tiny_model: str,
    lake: Path,
    out: Path,
    change: Callable[[Path], None],
    inputs: str,
    answered: bool,
    status: str,
) -> None:
    put(lake / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"])
    argv = words(tiny_model, out, f"{lake}/{inputs}")
    assert main(argv) == 0
    before = ids(out)
    change(lake)
    assert is_answered(argv) is answered
    assert ids(out) == before
    assert ask_stream(argv, out) == status
    assert ids(out) == sorted(before + ["new"] * (status == "done"))


@pytest.mark.parametrize(
    ("more", "answered"),
    [
        (["--option", "recursiveFileLookup=true"], True),
        (["--conf", "spark.sql.files.ignoredPathSegmentRegex="], False),
        (["--checkpoint"], True),
        (["--metrics"], True),
    ],
    ids=["recursive", "nothing is hidden", "checkpoint", "metrics"],
)
def test_answer_with_other_settings(
    tiny_model: str, lake: Path, out: Path, tmp_path: Path, more: list[str], answered: bool
) -> None:
    put(lake / "more" / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"])
    values = {"--checkpoint": [str(tmp_path / "checkpoint")], "--metrics": [str(tmp_path / "run.prom")]}
    argv = [*words(tiny_model, out, lake), *more, *values.get(more[0], [])]
    assert main(argv) == 0
    assert is_answered(argv) is answered
    assert main(argv) == 0
    assert record(out)["status"] == "nothing new"
    add("more/c.parquet" if "Lookup" in more[-1] else "c.parquet")(lake)
    assert is_answered(argv) is False


def test_record_says_what_it_says_after_the_stream(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    argv = words(tiny_model, out, lake)
    assert main(argv) == 0
    assert ask_stream(argv, out) == "nothing new"
    of_stream = record(out)
    assert main([*argv, "--batch-rows", "77"]) == 0
    again = record(out)
    changing = {"run", "started", "last_success", "seconds"}
    assert {key: again[key] for key in again.keys() - changing} == {
        key: of_stream[key] for key in of_stream.keys() - changing
    }
    assert again["run"] != of_stream["run"]


@pytest.mark.parametrize("name", ["day=2/b.parquet", "day=1/b.parquet"])
def test_new_file_of_a_partition_folder_is_left_to_spark(
    tiny_model: str, lake: Path, out: Path, name: str
) -> None:
    add("day=1/a.parquet")(lake)
    argv = words(tiny_model, out, lake)
    assert main(argv) == 0
    assert is_answered(argv)
    add(name)(lake)
    assert not is_answered(argv)
    assert main(argv) == 0
    assert ids(out) == ["new"] * 2
    assert is_answered(argv)


def test_every_input_counts(tiny_model: str, tmp_path: Path, out: Path) -> None:
    lakes = [tmp_path / "one", tmp_path / "two"]
    for lake in lakes:
        add("a.parquet")(lake)
    argv = words(tiny_model, out, *lakes)
    assert main(argv) == 0
    assert is_answered(argv)
    add("b.parquet")(lakes[1])
    assert not is_answered(argv)
    assert main(argv) == 0
    assert ids(out) == ["new"] * 3
    assert is_answered(argv)


def test_new_files_after_answers_without_spark_are_embedded_once(
    tiny_model: str, lake: Path, out: Path
) -> None:
    """More batches than Spark's log keeps in single files."""
    put(lake / "0.parquet", ["0"])
    argv = [*words(tiny_model, out, lake), "--wave-files", "1"]
    assert main(argv) == 0
    for name in ("1", "2"):
        assert is_answered(argv)
        for part in range(6):
            put(lake / f"{name}-{part}.parquet", [f"{name}-{part}"])
        assert not is_answered(argv)
        assert main(argv) == 0
    assert is_answered(argv)
    assert ids(out) == sorted(["0", *(f"{name}-{part}" for name in "12" for part in range(6))])
    assert list(out.rglob("sources/0/*.compact"))


OTHER_RUNS = {
    "text": ["--max-chars", "5"],
    "refresh": ["--full-refresh"],
    "choice of files": ["--option", "pathGlobFilter=*.parquet"],
}


@pytest.mark.parametrize("more", OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_other_settings_are_left_to_spark(tiny_model: str, lake: Path, out: Path, more: list[str]) -> None:
    put(lake / "a.parquet", ["a"])
    assert main(words(tiny_model, out, lake)) == 0
    assert not is_answered([*words(tiny_model, out, lake), *more])


def test_job_of_spark_submit_is_left_to_spark(
    tiny_model: str, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake / "a.parquet", ["a"])
    argv = words(tiny_model, out, lake)
    assert main(argv) == 0
    assert is_answered(argv)
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert not is_answered(argv)


@pytest.mark.parametrize("damaged", ["metadata", "offsets/0", "commits/0", "sources/0/0"])
def test_damaged_checkpoint_is_left_to_spark(tiny_model: str, lake: Path, out: Path, damaged: str) -> None:
    put(lake / "a.parquet", ["a"])
    argv = words(tiny_model, out, lake)
    assert main(argv) == 0
    [metadata] = out.rglob("checkpoint/*/metadata")
    (metadata.parent / damaged).write_text("v2\n")
    assert not is_answered(argv)


def test_skipped_file_is_left_to_spark(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    (lake / "b.parquet").write_bytes(b"PAR1 broken PAR1")
    argv = [*words(tiny_model, out, lake), "--on-bad-file", "skip"]
    assert main(argv) == 0
    assert not is_answered(argv)


def test_rerun_starts_neither_spark_nor_numba(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    argv = words(tiny_model, out, lake)
    assert main(argv) == 0
    code = (
        "import sys; from lakevec.jobs.cli import main; code = main(['embed', *sys.argv[1:]]);"
        "print({'pyspark', 'numba', 'pandas'} & set(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing new, after" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"
