"""The commit log: it stays short, and a missing commit is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output.commit_log import Commit, CommitLog, InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.storage import locate


def test_log_is_compacted_and_a_hole_is_told(tmp_path: Path) -> None:
    """Two thousand runs of a file each."""
    place = locate(str(tmp_path / "state"), error=OutputError)
    history = CommitLog(place)
    for number in range(2_000):
        entry = FileEntry(f"part-{number:05d}.parquet", 10, 100, {"t": {"rows": 10}})
        wave = InputBatch(input="i", batch=number, query="q")
        history.append(Commit(number=number, run="r", wave=wave, rows_read=10, added=[entry]))
        history.compact()
    log = tmp_path / "state" / "log"
    assert len(list(log.iterdir())) <= 41
    assert sum(file.stat().st_size for file in log.iterdir()) < 400_000
    again = CommitLog(place)
    again.read()
    assert again.state == history.state
    assert (again.state.rows, again.state.number, again.state.inputs["i"].batch) == (20_000, 1_999, 1_999)
    for number in (2_000, 2_001, 2_002):
        commit = Commit(
            number=number, run="r", wave=InputBatch(input="i", batch=number), rows_read=0, added=[]
        )
        again.append(commit)
    (log / "000000002001.json").unlink()
    with pytest.raises(CommitError, match="no commit 2001 before commit 2002"):
        CommitLog(place).read()
