"""Hostile rows and files: the right vectors or the end of the run, and good files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from tests.support.commands import embed as main
from tests.support.fuzzing import fuzz, outcome, tree

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


_BYTES = (
    st.text(max_size=20).map(str.encode)
    | st.binary(max_size=12)
    | st.sampled_from([b"", b"North EAST", b"north \xed\xa0\x80", b"\0", b"\xef\xbb\xbfnorth", b"x" * 70_000])
)
_NAMES = st.sampled_from(["text", "a b", "a.b", "`", "Ω", "a,b;{}()=\n\t", "lakevec_reason", "%41", "_x"])


@st.composite
def lakes(draw: st.DrawFn) -> tuple[str, pa.Array]:
    """A column's name and texts: binary, or strings of any bytes."""
    texts = pa.array(draw(st.lists(st.none() | _BYTES, max_size=8)), pa.binary())
    return draw(_NAMES), texts.view(pa.string()) if draw(st.booleans()) else texts


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def embed(folder: Path, model: str, text: str, *more: str) -> int:
    """Run the job on ``folder/lake``; whatever it does, nothing but the output changes."""
    words = ["--model", model, "--input", str(folder / "lake"), "--text", text]
    words += ["--output", str(folder / "out"), *more]
    before = tree(folder, but="out")
    code, _ = outcome(lambda: main(words))
    assert tree(folder, but="out") == before
    return code


@given(lake=lakes(), on_bad_row=st.sampled_from(["fail", "null", "quarantine"]))
@fuzz(5)
def test_any_texts_have_the_encoders_vectors_or_end_the_run(
    lake: tuple[str, pa.Array],
    on_bad_row: str,
    tiny_model: str,
    tmp_path_factory: pytest.TempPathFactory,
    spark: Any,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "lake").mkdir()
    name, texts = lake
    table = pa.table({"row number": pa.array(range(len(texts)), pa.int64()), name: texts})
    pq.write_table(table, folder / "lake" / "a.parquet")
    code = embed(folder, tiny_model, name, "--on-bad-row", on_bad_row)
    values = texts.view(pa.binary()).to_pylist()
    bad = {number for number, value in enumerate(values) if not _is_utf8(value)}
    is_written = bool(values) and not (bad and on_bad_row == "fail")
    assert (code, (folder / "out").exists()) == (int(not is_written), is_written)
    good = pa.array([None if number in bad else value for number, value in enumerate(values)], pa.binary())
    vectors = Encoder(load(tiny_model).table).encode(good.view(pa.string())).to_arrow()
    found = read_rows(folder / "out", f"{name}_embedding")
    aside = read_rows(folder / "out" / "_lakevec" / "quarantine", "lakevec_reason")
    assert aside.keys() == {"quarantine": bad}.get(on_bad_row, set())
    right = {row: vector for row, vector in enumerate(vectors.to_pylist()) if row not in aside}
    assert found == {True: right, False: {}}[is_written]


def read_rows(folder: Path, column: str) -> dict[int, Any]:
    tables = [pq.ParquetFile(file).read(["row number", column]) for file in folder.glob("*.parquet")]
    rows = [row for table in tables for row in zip(*(each.to_pylist() for each in table), strict=True)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@given(data=st.data(), on_bad_file=st.sampled_from(["fail", "skip"]))
@fuzz(4)
def test_damaged_parquet_is_refused_or_left_out_and_good_files_are_whole(
    data: st.DataObject,
    on_bad_file: str,
    tiny_model: str,
    tmp_path_factory: pytest.TempPathFactory,
    spark: Any,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    (folder / "lake").mkdir()
    for part in range(2):
        rows = {"row number": range(3 * part, 3 * part + 3), "text": ["north", None, "east east"]}
        pq.write_table(pa.table(rows), folder / "lake" / f"{part}.parquet")
    file = folder / "lake" / "1.parquet"
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    del content[data.draw(st.just(len(content)) | st.integers(1, len(content) - 1)) :]
    file.write_bytes(content)
    code = embed(folder, tiny_model, "text", "--on-bad-file", on_bad_file)
    assert (folder / "out").exists() == (code == 0)
    # What a flipped bit leaves readable may be any text with any number; the other file's rows are there.
    found = [row for file in (folder / "out").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    right = zip(range(3), ["north", None, "east east"], [[0.0, 1.0], None, [1.0, 0.0]], strict=True)
    rows = [{"row number": n, "text": text, "text_embedding": vector} for n, text, vector in right]
    assert {0: [row for row in rows if row not in found]}.get(code, []) == []
