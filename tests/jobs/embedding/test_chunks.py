"""One row a chunk: long texts through the whole command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.options import parse
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import SettingsError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.embed import EmbedSettings
from tests.support.commands import verify
from tests.support.lakes import embed

pytestmark = pytest.mark.usefixtures("spark")

CHUNKS = ["--chunk-tokens", "3", "--chunk-text"]
LONG = "North east. East north southwest nowhere!\n\nEast ü north"
CUT = ["North east.", "East north southwest nowhere!", "East ü north"]


def put(lake: Path, texts: dict[str, Any], *, n: int = 0, name: str = "a") -> None:
    rows = [{"id": key, "text": text, "n": n} for key, text in texts.items()]
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema({"id": "string", "text": "string", "n": "int64"})),
        lake / f"{name}.parquet",
    )


def read(out: Path) -> dict[str, list[str | None]]:
    """Return the chunks of each id, and check what each row says of its chunk."""
    found: dict[str, list[str | None]] = {}
    for row in pq.read_table(out).sort_by([("id", "ascending"), ("chunk_index", "ascending")]).to_pylist():
        assert row["chunk_index"] == len(found.setdefault(row["id"], []))
        found[row["id"]].append(row["chunk_text"])
    return found


@pytest.mark.parametrize("store", [[], ["--vector-type", "int8"]], ids=["float32", "int8"])
def test_each_chunk_is_a_row_with_its_own_vector(
    tiny_model: str, lake: Path, out: Path, store: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, {"long": LONG, "null": None, "empty": "", "short": " north "})
    record = embed(tiny_model, lake, out, *CHUNKS, *store)
    assert read(out) == {"long": CUT, "null": [None], "empty": [""], "short": [" north "]}
    rows = pq.read_table(out)
    assert rows.column_names[:6] == ["id", "n", "chunk_index", "chunk_start", "chunk_end", "chunk_text"]
    for row in rows.to_pylist():
        whole = {"long": LONG, "null": None, "empty": "", "short": " north "}[row["id"]]
        start, end = row["chunk_start"], row["chunk_end"]
        assert row["chunk_text"] == (whole if whole is None else whole[start:end])
        assert (row["text_embedding"] is None) == (whole is None) == (start is None)
    counts = (record["rows_read"], record["texts"], record["rows"], record["total"]["texts"])
    assert counts == (4, 4, 6, 4)
    assert "embedded 6 chunks of 4 texts in" in capsys.readouterr().out
    assert verify([str(out), "--sample", "100"]) == 0
    said = capsys.readouterr().out
    assert "6 rows, chunks of 4 texts, in 1 files" in said
    assert "5 texts embedded again" in said


def test_vectors_are_those_of_the_texts_alone(
    minilm_model: str, lake: Path, out: Path, general_texts: list[str]
) -> None:
    texts = {str(n): " ".join(general_texts[n::40]) for n in range(40)}
    put(lake, texts)
    embed(minilm_model, lake, out, "--chunk-tokens", "64", "--chunk-overlap", "16")
    rows = pq.read_table(out)
    spans = zip(*(rows[name].to_pylist() for name in ("id", "chunk_start", "chunk_end")), strict=True)
    alone = [texts[key][start:end] for key, start, end in spans]
    encoder = Encoder(load(minilm_model).table)
    expected = np.concatenate([encoder.encode(pa.array([text])).vectors for text in alone])
    vectors = rows["text_embedding"].combine_chunks().flatten().to_numpy()
    assert len(rows) > 400
    assert vectors.tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", [[], ["--table-format", "delta"]], ids=["parquet", "delta"])
def test_changed_text_replaces_the_chunks_of_its_key(
    tiny_model: str, lake: Path, out: Path, form: list[str]
) -> None:
    words = [*CHUNKS, "--key", "id", "--deletes", "remove", *form]
    put(lake, {"a": LONG, "b": LONG, "c": LONG, "d": "north"})
    embed(tiny_model, lake, out, *words)
    assert verify([str(out)]) == 0
    (lake / "a.parquet").unlink()
    put(lake, {"a": "East", "d": LONG})
    put(lake, {"b": LONG}, n=1, name="b")
    put(lake, {"e": LONG}, name="e")
    record = embed(tiny_model, lake, out, *words)
    found = pq.read_table(sorted(out.glob("*.parquet"))) if not form else _read_delta(out)
    rows = {(row["id"], row["chunk_index"]): (row["chunk_text"], row["n"]) for row in found.to_pylist()}
    assert len(rows) == len(found)
    of_long = [(key, index) for key in "bde" for index in range(3)]
    assert rows == {("a", 0): ("East", 0)} | {
        (key, index): (CUT[index], int(key == "b")) for key, index in of_long
    }
    assert list(record["keyed"].values())[:5] == [1, 2, 1, 0, 1]
    assert (record["total"]["texts"], record["total"]["rows"]) == (4, 10)
    assert verify([str(out)]) == 0
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"


def _read_delta(out: Path) -> pa.Table:
    from deltalake import DeltaTable

    return DeltaTable(str(out)).to_pyarrow_table()


def test_bad_texts_are_null_or_in_quarantine(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake, {"good": LONG, "bad": "north " * 50})
    record = embed(tiny_model, lake, out, *CHUNKS, "--max-chars", "100", "--on-bad-row", "quarantine")
    assert read(out) == {"good": CUT}
    assert (record["texts"], record["rows"], record["rows_quarantined"]) == (1, 3, 1)
    other = out.with_name("other")
    record = embed(tiny_model, lake, other, *CHUNKS, "--max-chars", "100", "--on-bad-row", "null")
    assert read(other) == {"good": CUT, "bad": [None]}
    assert record["columns"]["text"]["bad"] == 1


def test_verify_finds_lost_chunks(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, {"a": LONG, "b": LONG})
    embed(tiny_model, lake, out, *CHUNKS)
    [file] = out.glob("*.parquet")
    rows = pq.read_table(file)
    pq.write_table(pa.concat_tables([rows.slice(0, 1), rows.slice(2)]), file)
    assert verify([str(out)]) == 1
    said = capsys.readouterr().out
    assert "has 5 rows instead of 6" in said
    assert "lacks chunks of a text" in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--chunk-tokens", "3", "--max-tokens", "9"], "max_tokens and chunk_tokens can't both be given"),
        (["--chunk-tokens", "3", "--text", "text", "id"], "chunk_tokens needs a single text column"),
        (["--chunk-tokens", "3", "--keep", "id,text"], "can't be kept whole: use chunk_text"),
        (["--chunk-tokens", "3", "--chunk-overlap", "2"], "chunk_overlap may be at most 1"),
        (["--chunk-text"], "chunk_overlap and chunk_text need chunk_tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words: list[str], error: str) -> None:
    given = ["--text", "text", *words] if "--text" not in words else words
    with pytest.raises(SettingsError, match=re.escape(error)):
        parse(EmbedSettings, ["--model", "m", "--input", "in", "--output", "out", *given], "embed")


def test_other_chunks_than_those_of_the_output_are_refused(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, {"a": LONG})
    embed(tiny_model, lake, out, *CHUNKS)
    for words, error in (
        (["--chunk-tokens", "4", "--chunk-text"], "chunk tokens 4, not 3"),
        (["--chunk-tokens", "3", "--chunk-overlap", "1", "--chunk-text"], "chunk overlap 1, not 0"),
        (["--max-tokens", "9"], "chunk tokens none, not 3"),
    ):
        embed(tiny_model, lake, out, *words, code=2)
        assert error in capsys.readouterr().err


def test_column_with_the_name_of_one_of_chunks_is_refused(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"text": ["north"], "Chunk_Index": [1]}), lake / "a.parquet")
    embed(tiny_model, lake, out, *CHUNKS, code=2)
    assert "'Chunk_Index' of the input has a name that chunks need" in capsys.readouterr().err
