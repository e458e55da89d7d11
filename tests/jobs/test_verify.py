"""``lakevec verify``: what it checks, and that it finds what is wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.commands import verify as main
from tests.support.lakes import embed, put

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def sound(tiny_model: str, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    put(folder / "lake" / "a.parquet", ["a", "b"])
    put(folder / "lake" / "b.parquet", ["c"], "east")
    (folder / "lake" / "c.parquet").write_bytes(b"PAR1 no parquet PAR1")
    bad = pa.array([b"north", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["d", "e"], "text": bad}), folder / "lake" / "d.parquet")
    words = ["--sha256", "--wave-files", "2", "--on-bad-row", "quarantine", "--on-bad-file", "skip"]
    embed(tiny_model, folder / "lake", folder / "out", *words)
    return folder / "out"


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "out")
    return tmp_path / "out"


def test_sound_output_is_praised(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out), "--sha256"]) == 0
    told = capsys.readouterr().out
    assert "sound: 4 rows, all vectors finite and of length 2, model sha256:" in told
    assert "4 texts embedded again, with the same bits" in told
    assert "files compared by sha256" in told


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    """Write a file again so that rows and size may be the same and what it holds is not."""

    def damage(out: Path) -> None:
        file = next(file for file in out.glob("*.parquet") if pq.read_metadata(file).num_rows > 1)
        table = pq.read_table(file)
        pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), file)

    return damage


def with_vectors(table: pa.Table, vectors: list[list[float | None]]) -> pa.Table:
    kind = pa.list_(pa.field("element", pa.float32()))
    return table.set_column(
        table.schema.get_field_index("text_embedding"), "text_embedding", pa.array(vectors, kind)
    )


def flip(file: Path, place: int = 4) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: next(out.glob("*.parquet")).unlink(), "is missing"),
        (lambda out: next(out.glob("*.parquet")).write_bytes(b"PAR1"), "has 4 bytes instead of"),
        (lambda out: flip(next(out.glob("*.parquet"))), "has another sha256"),
        (lambda out: flip(next(out.glob("_lakevec/quarantine/*"))), "has another sha256"),
        (
            lambda out: shutil.copy(next(out.glob("*.parquet")), out / "x.parquet"),
            "x.parquet is in the output but in no commit",
        ),
        (rewritten(lambda table: table.slice(1)), "has 1 rows instead of 2"),
        (
            rewritten(lambda table: with_vectors(table, [[float("nan"), 0.0]] * 2)),
            "vectors that are not finite",
        ),
        (rewritten(lambda table: with_vectors(table, [[1.0]] * 2)), "vectors of another length than 2"),
        (rewritten(lambda table: with_vectors(table, [[None, 1.0]] * 2)), "vectors with nulls"),
        (rewritten(lambda table: with_vectors(table, [[0.0, 0.5]] * 2)), "that don't match their texts"),
        (rewritten(lambda table: table.drop(["text_embedding"])), "has no column 'text_embedding'"),
    ],
)
def test_what_is_wrong_is_found(
    out: Path, damage: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(out)
    assert main([str(out), "--sha256"]) == 1
    shown = capsys.readouterr()
    assert message in shown.out
    assert "is damaged: got" in shown.err
    assert shown.err.count("\n") == 1


def test_another_model_is_refused_or_told(
    out: Path,
    tiny_model: str,
    other_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(out), "--model", other_model]) == 1
    assert f"the output was written with another model than {other_model!r}: got" in capsys.readouterr().err
    put(tmp_path / "lake" / "a.parquet", ["a"])
    gone = tmp_path / "model"
    shutil.copytree(tiny_model, gone)
    embed(str(gone), tmp_path / "lake", tmp_path / "new")
    shutil.rmtree(gone)
    assert main([str(tmp_path / "new")]) == 0
    assert f"no text is embedded again: model '{gone}'" in capsys.readouterr().out
    shutil.copytree(other_model, gone)
    assert main([str(tmp_path / "new")]) == 0
    assert f"no text is embedded again: '{gone}' now holds another model" in capsys.readouterr().out
    assert main([str(tmp_path / "new"), "--model", tiny_model]) == 0
    embed(tiny_model, tmp_path / "lake", tmp_path / "ids", "--keep", "id")
    assert main([str(tmp_path / "ids")]) == 0
    assert "the output holds no text column" in capsys.readouterr().out


def test_key_that_stands_twice_is_found(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "lake" / "a.parquet", ["a", "b"])
    embed(tiny_model, tmp_path / "lake", tmp_path / "out", "--key", "id")
    [file] = (tmp_path / "out").glob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "id", pa.array(["a", "a"])), file)
    [log] = (tmp_path / "out").glob("_lakevec/*/log/*.json")
    size = re.search(r'"bytes": (\d+)', log.read_text())
    assert size is not None
    log.write_text(log.read_text().replace(size[0], f'"bytes": {file.stat().st_size}'))
    assert main([str(tmp_path / "out")]) == 1
    assert "1 keys occur more than once" in capsys.readouterr().out


def test_what_is_no_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "is no output of lakevec embed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_compact_vectors_are_checked_too(
    tiny_model: str, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "lake" / "a.parquet", ["a", "b"])
    embed(tiny_model, tmp_path / "lake", tmp_path / "out", "--vector-type", kind)
    assert main([str(tmp_path / "out")]) == 0
    assert "2 texts embedded again" in capsys.readouterr().out
