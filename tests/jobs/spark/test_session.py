from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from lakevec.jobs.spark.session import open_session

POOL = "ARROW_DEFAULT_MEMORY_POOL"


@pytest.mark.parametrize(("chosen", "used"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_arrow_in_workers_uses_the_systems_allocator_unless_another_is_chosen(
    spark: Any, monkeypatch: pytest.MonkeyPatch, chosen: str | None, used: str
) -> None:
    def report(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"pool": [pa.default_memory_pool().backend_name]})

    monkeypatch.delenv(POOL, raising=False)
    monkeypatch.delitem(spark.sparkContext.environment, POOL, raising=False)
    if chosen:
        # As `spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL` does.
        monkeypatch.setitem(spark.sparkContext.environment, POOL, chosen)
    with open_session("test", master=None, conf={}) as session:
        rows = session.range(1, numPartitions=1).mapInArrow(report, "pool string").collect()
    assert [row.pool for row in rows] == [used]
