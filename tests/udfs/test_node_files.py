from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels import compilation
from lakevec.pipeline.encoding.node_files import Fetch, NodeFiles, open_encoder, pack_table
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import private_folder
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs import worker_cache
from lakevec.udfs.shipped_code import unpack
from tests.support.paths import ROOT

# No cache of this user's, and Numba prints what it loads from another.
NO_CACHE = {"XDG_CACHE_HOME": "/proc/none", "NUMBA_DEBUG_CACHE": "1"}
LOADED = "[cache] data loaded from"


@pytest.fixture
def packed(tiny_table: StaticTable, tmp_path: Path) -> NodeFiles:
    return pack_table(tiny_table, node_dir=str(tmp_path))


def open_fetched(packed: NodeFiles, fetch: Fetch | None = None) -> Encoder:
    """As a worker does; by default the bytes arrive as they were packed."""
    files = replace(packed, fetch=fetch or packed.fetch)
    return open_encoder(files.provide(), EncodeOptions())


def refuse() -> dict[str, bytes]:
    raise AssertionError("fetched although the node has a copy")


def embed(encoder: Encoder) -> list[list[float]]:
    vectors: list[list[float]] = encoder.encode(pa.array(["north east", "southwest"])).vectors.tolist()
    return vectors


def copy_folder(tmp_path: Path) -> Path:
    [folder] = (tmp_path / f"lakevec-{os.getuid()}").iterdir()
    return folder


def test_second_worker_maps_the_first_ones_copy(packed: NodeFiles, tmp_path: Path) -> None:
    first, second = open_fetched(packed), open_fetched(packed, refuse)
    assert embed(first) == embed(second) == [[0.5, 0.5], [-1.0, -1.0]]
    assert copy_folder(tmp_path).name == packed.fingerprint.removeprefix("sha256:")


def test_machine_code_is_kept_where_a_loop_has_none(
    tiny_table: StaticTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is left alone, and data of an index that is gone is not trusted."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(compilation, "cache_folders", {folder})
    made = {
        "a-1.py3.1.nbc": b"a",
        "b-1.py3.1.nbc": b"b",
        "a-1.py3.nbi": b"index a",
        "b-1.py3.nbi": b"index b",
    }
    monkeypatch.setattr("lakevec.pipeline.encoding.node_files.machine_code", lambda: made)
    packed = pack_table(tiny_table, node_dir=str(tmp_path))
    (folder / "a-1.py3.nbi").write_bytes(b"compiled here")
    (folder / "b-1.py3.1.nbc").write_bytes(b"of another processor")
    open_fetched(packed)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "a-1.py3.nbi": b"compiled here",
        "b-1.py3.1.nbc": b"b",
        "b-1.py3.nbi": b"index b",
    }
    open_fetched(packed, refuse)
    with pytest.raises(DataError, match="damaged on its way"):
        (folder / "b-1.py3.nbi").unlink()
        open_fetched(packed, lambda: packed.fetch() | {"b-1.py3.1.nbc": b"planted"})


def test_another_processor_makes_its_machine_code_from_what_was_kept(
    minilm_model: str, tmp_path: Path
) -> None:
    code = (
        "import sys, pyarrow as pa; from lakevec.pipeline.encoding.encoder import Encoder, warm_up;"
        "from lakevec.pipeline.encoding.kernels.segment_scan import scan_words;"
        "from lakevec.pipeline.model.artifact import load;"
        "table = load(sys.argv[1]).table; warm_up(table);"
        "print(sum(scan_words.stats.cache_misses.values()));"
        "print(Encoder(table).encode(pa.array(['The Größe of 日本', 'x' * 70])).vectors.tobytes())"
    )
    said = []
    another = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
    for processor in ({}, another, another):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **processor}
        argv = [sys.executable, "-c", code, minilm_model]
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        said.append(done.stdout.splitlines())
    compiled, vectors = zip(*said, strict=True)
    assert compiled == ("1", "0", "0")
    assert len(set(vectors)) == 1


def test_workers_share_the_pages_of_one_file(packed: NodeFiles, tmp_path: Path) -> None:
    """The encoder keeps no copy of its own: it reads the mapped file."""
    encoder = open_fetched(packed)
    file = copy_folder(tmp_path) / "embeddings.npy"
    [permissions] = re.findall(rf"^\S+ (\S+) .* {file}$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert permissions == "r--s"
    rows = np.load(file, mmap_mode="r+")
    rows *= 2
    assert embed(encoder) == [[1.0, 1.0], [-2.0, -2.0]]


@pytest.mark.parametrize("name", ["embeddings.npy", "table.json"])
def test_damaged_copy_is_laid_down_anew(packed: NodeFiles, tmp_path: Path, name: str) -> None:
    open_fetched(packed)
    (copy_folder(tmp_path) / name).write_bytes(b"planted")
    assert embed(open_fetched(packed)) == [[0.5, 0.5], [-1.0, -1.0]]


def test_copy_that_was_cut_off_is_laid_down_anew(packed: NodeFiles, tmp_path: Path) -> None:
    open_fetched(packed)
    (copy_folder(tmp_path) / "table.json").unlink()
    assert embed(open_fetched(packed)) == [[0.5, 0.5], [-1.0, -1.0]]


def test_bytes_damaged_on_the_way_are_refused(packed: NodeFiles) -> None:
    with pytest.raises(DataError, match=r"was damaged on its way to the node: run again"):
        open_fetched(packed, lambda: packed.fetch() | {"table.json": b"{}"})


def test_workers_that_race_end_with_one_copy(packed: NodeFiles, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: embed(open_fetched(packed)), range(32)))
    assert results == [[[0.5, 0.5], [-1.0, -1.0]]] * 32
    assert sorted(file.name for file in copy_folder(tmp_path).iterdir()) == ["embeddings.npy", "table.json"]


def test_copies_that_no_worker_used_lately_are_removed(packed: NodeFiles, tmp_path: Path) -> None:
    base = private_folder(str(tmp_path))
    day = 86_400
    ages = {f"{number:064x}": number * day for number in range(7)}
    ages |= {f"code-{number:016x}": number * day for number in range(6)}
    ages |= {"0123456789abcdef.left": 2 * day, "code.left": 2 * day, "machine-code": 9 * day, "mine": 9 * day}
    now = time.time()
    for name, age in ages.items():
        (base / name).mkdir()
        (base / name / "file").write_bytes(b"")
        os.utime(base / name, (now - age, now - age))
    code = base / "machine-code"
    for name, days in {"old.nbi": 61, "old.1.nbc": 61, "new.nbi": 59}.items():
        (code / name).write_bytes(b"")
        os.utime(code / name, (now - days * day, now - days * day))
    open_fetched(packed)
    assert [path.name for path in code.glob("*.nb[ci]")] == ["new.nbi"]
    tables = {f"{number:064x}" for number in range(3)} | {packed.fingerprint.removeprefix("sha256:")}
    codes = {f"code-{number:016x}" for number in range(4)}
    assert {path.name for path in base.iterdir()} == {*tables, *codes, "machine-code", "mine"}


def test_copy_in_use_counts_as_new(packed: NodeFiles, tmp_path: Path) -> None:
    open_fetched(packed)
    os.utime(copy_folder(tmp_path), (0, 0))
    open_fetched(packed, refuse)
    assert time.time() - copy_folder(tmp_path).stat().st_mtime < 60


def test_folder_that_others_can_write_is_not_trusted(packed: NodeFiles, tmp_path: Path) -> None:
    (tmp_path / f"lakevec-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"lakevec-{os.getuid()}").chmod(0o777)
    with pytest.raises(DataError, match="can't be trusted: expected a folder that only this user can write"):
        open_fetched(packed)


def test_link_in_place_of_the_folder_is_not_trusted(packed: NodeFiles, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"lakevec-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="can't be trusted"):
        open_fetched(packed)


def test_float16_table_stays_float16_on_the_node_and_gives_float32_vectors(
    tiny_table: StaticTable, tmp_path: Path
) -> None:
    half = StaticTable(tiny_table.embeddings.astype(np.float16), tiny_table.tokenizer_json, normalize=False)
    packed = pack_table(half, node_dir=str(tmp_path))
    assert np.load(packed.provide() / "embeddings.npy").dtype == np.float16
    assert embed(open_fetched(packed)) == [[0.5, 0.5], [-1.0, -1.0]]


def test_worker_keeps_its_encoder(packed: NodeFiles) -> None:
    worker_cache.forget_encoders()
    first = worker_cache.get_encoder(packed, EncodeOptions())
    assert worker_cache.get_encoder(replace(packed, fetch=refuse), EncodeOptions()) is first
    other = worker_cache.get_encoder(replace(packed, fetch=refuse), EncodeOptions(max_tokens=1))
    assert other is not first


@pytest.mark.parametrize(("chosen", "used"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_worker_returns_freed_memory_unless_somebody_chose_arrows_allocator(
    packed: NodeFiles, monkeypatch: pytest.MonkeyPatch, chosen: str | None, used: str
) -> None:
    default = pa.default_memory_pool()
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    if chosen:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    worker_cache.forget_encoders()
    try:
        pa.set_memory_pool(pa.mimalloc_memory_pool())
        worker_cache.get_encoder(packed, EncodeOptions())
        assert pa.default_memory_pool().backend_name == used
    finally:
        pa.set_memory_pool(default)


def test_worker_keeps_the_encoders_used_last(packed: NodeFiles) -> None:
    worker_cache.forget_encoders()

    def get(max_tokens: int) -> Encoder:
        return worker_cache.get_encoder(packed, EncodeOptions(max_tokens))

    first, second, *_ = map(get, (1, 2, 3, 4))
    assert get(1) is first
    get(5)  # takes the place of the second
    assert get(1) is first
    assert get(2) is not second


@pytest.mark.parametrize("cache", ["writable", "not writable"])
def test_shipped_code_runs_and_compiles_once_where_it_can(tmp_path: Path, cache: str) -> None:
    """The archive lies elsewhere in every application, and maybe no folder can be written."""
    code = (
        "import lakevec.udfs, numpy as np; from lakevec.pipeline.encoding.kernels import pooling;"
        "table, ids, out = np.ones((1, 2), np.float32), np.zeros(1, np.int32), np.empty((1, 2), np.float32);"
        "pooling.pool_mean(table, ids, np.array([0, 1]), out, normalize=False);"
        "print(pooling.__file__, out)"
    )
    said, loaded = [], []
    for application in ("first", "second"):
        archive = tmp_path / application / "lakevec.zip"
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as content:
            modules = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("udfs/*.py")]
            for file in [ROOT / "lakevec" / "__init__.py", *modules]:
                name = file.relative_to(ROOT)
                content.write(file, name if name.parts[0] == "lakevec" else f"lakevec/{name}")
        node = {"writable": tmp_path, "not writable": Path("/proc/none")}[cache]
        env = {"PYTHONPATH": str(archive), "LOCAL_DIRS": str(node), **NO_CACHE}
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[-1].split(maxsplit=1))
        loaded.append(LOADED in done.stdout)
    assert {out for _, out in said} == {"[[1. 1.]]"}
    unpacked = ["code-" in file for file, _ in said]
    assert unpacked == {"writable": [True, True], "not writable": [False, False]}[cache]
    assert loaded == {"writable": [False, True], "not writable": [False, False]}[cache]


@pytest.mark.parametrize(("node", "loaded"), [("node", [False, True]), ("/proc/none", [False])])
def test_machine_code_lies_in_the_nodes_folder_where_numba_has_none(
    tmp_path: Path, node: str, loaded: list[bool]
) -> None:
    """Code that another user installed, no cache of this user's, and maybe no folder of the node's."""
    code = (
        "import numpy as np; from lakevec.pipeline.encoding.kernels import pooling;"
        "table, ids, out = np.ones((1, 2), np.float32), np.zeros(1, np.int32), np.empty((1, 2), np.float32);"
        "print(pooling.pool_mean(table, ids, np.array([0, 1]), out, normalize=False), out)"
    )
    installed = tmp_path / "installed"
    shutil.copytree(ROOT / "lakevec", installed / "lakevec", ignore=shutil.ignore_patterns("__pycache__"))
    # A file in a folder's place stops root, too.
    (installed / "lakevec" / "pipeline" / "encoding" / "kernels" / "__pycache__").touch()
    env = {"PYTHONPATH": str(installed), "LOCAL_DIRS": str(tmp_path / node), **NO_CACHE}
    argv = [sys.executable, "-c", code]
    said = [subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True) for _ in loaded]
    assert [done.stdout.splitlines()[-1:] for done in said] == [["0 [[1. 1.]]"]] * len(loaded), said[0].stderr
    assert [LOADED in done.stdout for done in said] == loaded
    assert any((tmp_path / node).glob("lakevec-*/machine-code/**/*.nbi")) == any(loaded)


def make_archive(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "lakevec.zip", "w") as content:
        content.writestr("lakevec/pipeline/__init__.py", "x = 1\n")
        content.writestr("lakevec/pipeline/errors.py", "y = 2\n")
        content.writestr("lakevec/udfs/__init__.py", "")
    return folder / "lakevec.zip"


def test_code_is_unpacked_once_and_again_where_a_part_was_tidied_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DIRS", str(tmp_path / "node"))
    folder = unpack(make_archive(tmp_path / "one"))
    assert sorted(file.name for file in folder.rglob("*.py")) == ["__init__.py", "errors.py"]
    made = folder.stat().st_ino
    assert unpack(make_archive(tmp_path / "two")) == folder
    assert folder.stat().st_ino == made
    (folder / "lakevec" / "pipeline" / "errors.py").unlink()
    assert unpack(make_archive(tmp_path / "two")) == folder
    assert (folder / "lakevec" / "pipeline" / "errors.py").read_text() == "y = 2\n"
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
