"""Models and outputs on an S3 API that runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from jobs.embed import main
from pipeline.errors import OutputError
from pipeline.model.artifact import load
from pipeline.model.publishing import publish
from pipeline.model.table import StaticTable

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A function that names places in a bucket, credentials included."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    def place(name: str) -> str:
        return f"s3://key:marker@lake/{name}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"

    maker = pafs.S3FileSystem(
        access_key="key",
        secret_key="marker",
        endpoint_override=f"{host}:{port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    maker.create_dir("lake")
    yield place
    server.stop()


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
    lake = pa.table({"id": range(4), "k": ["a", "b", "a", None], "text": ["north", None, "", "east"]})
    pq.write_table(lake, tmp_path / "lake.parquet")
    words = ["--model", tiny_model, "--input", str(tmp_path / "lake.parquet"), "--text", "text"]
    output = bucket("vectors")
    words += ["--partition-by", "k", "--checkpoint", str(tmp_path / "checkpoint")]
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
    assert json.loads(record)["rows"] == 4
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
