"""Rows whose text is too long or not valid UTF-8: null, in quarantine, or the end of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.lakes import embed, ids

pytestmark = pytest.mark.usefixtures("spark")


BAD = pa.table(
    {
        "id": ["good", "invalid", "long", "null"],
        "text": pa.array([b"north", b"north \xff", b"north east north", None], pa.binary()),
        "k": ["1", "1", "2", "2"],
    }
)


def write_bad_rows(lake: Path, kind: pa.DataType) -> None:
    text = BAD["text"].combine_chunks().view(kind)
    pq.write_table(BAD.set_column(1, "text", text), lake / "a.parquet")


ON_BAD_ROWS = ["--max-chars", "12", "--partition-by", "k", "--keep", "id", "--on-bad-row"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()], ids=str)
def test_bad_rows_become_null(tiny_model: str, lake: Path, out: Path, kind: pa.DataType, spark: Any) -> None:
    write_bad_rows(lake, kind)
    record = embed(tiny_model, lake, out, *ON_BAD_ROWS, "null")
    found = {row.id: row.text_embedding for row in spark.read.parquet(str(out)).collect()}
    assert found == {"good": [0.0, 1.0], "invalid": None, "long": None, "null": None}
    assert record["columns"]["text"]["bad"] == 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()], ids=str)
def test_bad_rows_go_into_quarantine(
    tiny_model: str, lake: Path, out: Path, kind: pa.DataType, spark: Any
) -> None:
    write_bad_rows(lake, kind)
    record = embed(tiny_model, lake, out, *ON_BAD_ROWS, "quarantine")
    found = {row.id: row.text_embedding for row in spark.read.parquet(str(out)).collect()}
    assert found == {"good": [0.0, 1.0], "null": None}
    assert (record["rows_read"], record["rows"], record["rows_quarantined"]) == (4, 2, 2)
    assert record["columns"]["text"]["quarantined"] == 2
    bad = pq.read_table(out / "_lakevec" / "quarantine").sort_by("id").to_pylist()
    assert bad == [
        {"id": "invalid", "text": b"north \xff", "k": "1", "lakevec_reason": "text: not valid UTF-8"},
        {
            "id": "long",
            "text": b"north east north",
            "k": "2",
            "lakevec_reason": "text: longer than 12 characters",
        },
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [([], "a text is not valid UTF-8"), (["--max-chars", "5"], "a text of column 'text' can't be embedded")],
)
def test_bad_row_ends_the_run_by_default(
    tiny_model: str, lake: Path, out: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(BAD, lake / "a.parquet")
    embed(tiny_model, lake, out, *more, code=1)
    err = capsys.readouterr().err
    assert message in err
    assert "north" not in err
    assert not out.exists()
    embed(tiny_model, lake, out, *more, "--on-bad-row", "quarantine")
    assert "good" in ids(out)
