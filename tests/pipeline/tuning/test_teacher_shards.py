"""Shards of texts and vectors on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lakevec.pipeline.errors import DataError, InputError
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.storage import locate
from lakevec.pipeline.tuning.teacher_shards import TeacherShards, open_shards


def test_shards_belong_to_teacher_texts_and_layout(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    found = open_shards(str(tmp_path), texts, teacher="t", shard_rows=2)
    assert found.number == 2
    others = [("u", texts, 2), ("t", ["a", "bc"], 2), ("t", texts, 3)]
    names = {
        open_shards(str(tmp_path), these, teacher=name, shard_rows=rows).folder.name
        for name, these, rows in others
    }
    assert len(names | {found.folder.name}) == 4
    assert texts_sha256(["ab", "c"]) != texts_sha256(["a", "bc"])


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    shards = TeacherShards(locate(str(tmp_path), error=InputError), 1)
    shards.write_vectors(0, np.full((2, 3), np.nan, np.float32))
    with pytest.raises(DataError, match="hold NaN or infinity"):
        shards.read_vectors()
    (tmp_path / "vectors" / "000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"vectors/000000\.parquet can't be read"):
        shards.read_vectors()
