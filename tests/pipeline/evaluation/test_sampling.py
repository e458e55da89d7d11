"""Samples of distinct texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.sampling import sample_texts
from tests.support.tasks import write


def test_sample_is_of_the_texts_and_not_of_their_files(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(500)]
    write(tmp_path / "one" / "a.parquet", body=texts)
    write(tmp_path / "two" / "a.parquet", body=[None, " ", "", *texts[:200:-1]])
    write(tmp_path / "two" / "b.parquet", body=[*texts[:300], *texts[:50]])
    found = sample_texts(str(tmp_path / "one"), "body", rows=20)
    assert found == sample_texts(str(tmp_path / "two"), "body", rows=20)
    assert len(set(found)) == 20
    more = sample_texts(str(tmp_path / "one" / "a.parquet"), "body", rows=30)
    assert more[:20] == found
    assert sorted(sample_texts(str(tmp_path / "two"), "body", rows=5000)) == sorted(texts)


def test_samples_that_can_not_be_taken_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", body=["x", "x", ""], number=[1, 2, 3])
    for column, message in (
        ("bodi", "has no column 'bodi': expected one of 'body', 'number'; did you mean 'body'?"),
        ("number", "column 'number': got int64; expected strings"),
        ("body", "column 'body': got 1 distinct texts; expected at least 20"),
    ):
        with pytest.raises(InputError) as caught:
            sample_texts(str(tmp_path / "a.parquet"), column, rows=5)
        assert str(caught.value).endswith(message)
    with pytest.raises(InputError, match="gone' can't be read"):
        sample_texts(str(tmp_path / "gone"), "body", rows=5)
