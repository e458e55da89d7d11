"""A task of tune that dies."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa

from lakevec.udfs.teacher_task import TeacherTask


class DyingTask(TeacherTask):
    """Encode shards; number 3 kills its worker."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.column(0).to_pylist() == [3]:
                os._exit(1)
            yield from super().__call__(iter([batch]))
