"""Models and outputs on an S3 API that runs on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from lakevec.pipeline.errors import BusyError, OutputError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.output.output_folder import OutputFolder
from tests.support.commands import embed as main
from tests.support.paths import ROOT

deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
from tests.faults.commits import Play  # noqa: E402 - needs deltalake

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def names_below(uri: str) -> list[str]:
    filesystem, path = pafs.FileSystem.from_uri(uri)
    found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    return sorted(info.path.removeprefix(f"{path}/") for info in found if info.type == pafs.FileType.File)


def read(uri: str) -> pa.Table:
    filesystem, path = pafs.FileSystem.from_uri(uri)
    return pq.read_table(path, filesystem=filesystem, partitioning=None).sort_by("id")


def test_model_is_published_and_loaded(bucket: Any, tiny_table: StaticTable) -> None:
    publish(tiny_table, bucket("models/tiny"), provenance={}, quality={})
    artifact = load(bucket("models/tiny"))
    assert artifact.table.fingerprint == tiny_table.fingerprint
    assert "marker" not in artifact.uri
    with pytest.raises(OutputError, match=r"model output 's3://\*\*\*@lake/models/tiny\?.*' exists"):
        publish(tiny_table, bucket("models/tiny"), provenance={}, quality={})


@pytest.mark.usefixtures("spark")
def test_tasks_write_there_and_credentials_stay_out_of_what_is_shown(
    bucket: Any, tiny_model: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["north", None, "", "east", "north " * 9]
    lake = pa.table({"id": range(5), "k": ["a", "b", "a", None, "c"], "text": texts})
    pq.write_table(lake, tmp_path / "lake.parquet")
    words = ["--model", tiny_model, "--input", str(tmp_path / "lake.parquet"), "--text", "text"]
    output = bucket("vectors")
    words += ["--partition-by", "k", "--checkpoint", str(tmp_path / "checkpoint")]
    words += ["--max-chars", "9", "--on-bad-row", "quarantine"]
    assert main([*words, "--output", output]) == 0
    rows = read(output)
    assert rows["text_embedding"].to_pylist() == [[0.0, 1.0], None, [0.0, 0.0], [1.0, 0.0]]
    names = names_below(output)
    folders = {name.rpartition("/")[0] for name in names if not name.startswith("_lakevec/")}
    assert folders == {"", "k=a", "k=b", "k=__HIVE_DEFAULT_PARTITION__"}
    assert {"_SUCCESS", "_lakevec/current.json", "_lakevec/run.json"} < set(names)
    assert not [name for name in names if "staging" in name or "lease" in name]
    filesystem, path = pafs.FileSystem.from_uri(output)
    record = filesystem.open_input_stream(f"{path}/_lakevec/run.json").read().decode()
    assert (json.loads(record)["rows"], json.loads(record)["rows_quarantined"]) == (4, 1)
    (bad,) = [name for name in names if name.startswith("_lakevec/quarantine/")]
    (row,) = pq.read_table(f"{path}/{bad}", filesystem=filesystem).to_pylist()
    assert (row["id"], row["k"], row["text"]) == (4, "c", texts[4].encode())
    assert main([*words, "--output", output]) == 0
    shown = capsys.readouterr()
    assert "nothing new" in shown.out
    assert "marker" not in record + shown.out + shown.err


def test_bucket_that_is_not_there_is_one_line(
    bucket: Any, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", bucket("nowhere"), "--input", "lake", "--text", "text", "--output", "out"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "does not exist" in err
    assert err.count("\n") == 1
    assert "marker" not in err


_KILLED = """
import os, signal, sys
from tests.faults.commits import Play
def die(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
eval(sys.argv[1]).run(sys.argv[2], die)
"""


def ids_and_vectors(uri: str, play: Play) -> list[tuple[int, int]]:
    """What a reader sees: of Delta its log's files, else all that a listing shows."""
    if play.is_delta:
        options = dict(pair.split("=") for pair in uri.partition("?")[2].split("&"))
        table = deltalake.DeltaTable(
            f"s3://{uri.partition('@')[2].partition('?')[0]}",
            storage_options={
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "marker",
                "AWS_ENDPOINT_URL": f"http://{options['endpoint_override']}",
                "AWS_REGION": "us-east-1",
                "AWS_ALLOW_HTTP": "true",
            },
        ).to_pyarrow_table()
    else:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        table = pq.read_table(path, filesystem=filesystem, partitioning=None)
    return sorted(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("old", "play", "steps"),
    [
        (Play("old", waves=1), Play("append"), ("checked", "logged", "moved", "applied")),
        (
            Play("old", is_delta=True),
            Play("refresh delta", waves=2, model=2, is_delta=True, is_refresh=True),
            ("logged", "delta replaced"),
        ),
        (
            Play("old", is_delta=True),
            Play("rewrite delta", is_delta=True, is_rewrite=True),
            ("checked", "logged"),
        ),
    ],
    ids=["append", "refresh delta", "rewrite delta"],
)
def test_killed_commit_is_finished_or_forgotten_there(
    bucket: Any, old: Play, play: Play, steps: tuple[str, ...]
) -> None:
    """SIGKILL between two steps leaves rows that are whole, and a rerun that ends well."""
    output = bucket(f"killed/{'-'.join(play.name.split())}")
    old.run(output, lambda step: None)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for step in steps:
        words = [sys.executable, "-c", _KILLED, repr(play), output, step]
        killed = subprocess.run(words, env=env, capture_output=True, text=True)
        assert killed.returncode == -9, killed.stderr
        assert play.allows(old.result(), ids_and_vectors(output, play))
    play.run(output, lambda step: None)
    assert ids_and_vectors(output, play) == play.result()
    assert not [name for name in names_below(output) if "staging" in name or "lease/" in name]


def test_second_run_is_refused_while_the_first_lives_there(bucket: Any) -> None:
    first = OutputFolder(bucket("busy"), "r1")
    first.inspect()
    second = OutputFolder(bucket("busy"), "r2")
    second.inspect()
    with first.open(grace_s=0.0):
        with pytest.raises(BusyError, match="got run r1") as refused, second.open(grace_s=0.0):
            pass
        assert "marker" not in str(refused.value)
