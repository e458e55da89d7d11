"""Rows of the tasks that run now, from what executors report with each heartbeat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lakevec.udfs.row_progress import ROWS_PER_LINE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# In a plan, the node whose tasks put out blank lines and others, and the node that drops the blank ones.
_TASKS = re.compile(r"MapInArrow (?!RewriteTask)\w+\(.*\[entry#")
_FILTER = re.compile(r"Filter .*StartsWith\(entry#")
_METRIC = "number of output rows"


class ReadRows:
    """Rows that Spark's own readers have read in all stages since this object was made."""

    def __init__(self, spark: SparkSession) -> None:
        self._store = spark.sparkContext._jsc.sc().statusStore()
        self._running: set[int] = set()
        self._rows: dict[int, int] = {}

    def count(self) -> int:
        """Return the rows so far."""
        running = {stage.stageId(): stage for stage in _items(self._store.activeStages())}
        for number in self._running - running.keys():  # they have ended since the last call
            self._rows[number] = self._store.lastStageAttempt(number).inputRecords()
        self._rows |= {number: stage.inputRecords() for number, stage in running.items()}
        self._running = set(running)
        return sum(self._rows.values())


class EmbeddedRows:
    """Rows that the tasks of `embed` have told of in all queries since this object was made."""

    def __init__(self, spark: SparkSession) -> None:
        self._store = spark._jsparkSession.sharedState().statusStore()
        known = [query.executionId() for query in _items(self._store.executionsList())]
        self._next = max(known, default=-1) + 1
        self._running: list[int] = []
        self._rows: dict[int, int] = {}

    def count(self) -> int:
        """Return the rows so far."""
        while self._store.execution(self._next).isDefined():
            self._running.append(self._next)
            self._next += 1
        for query in list(self._running):
            has_ended = self._store.execution(query).get().completionTime().isDefined()
            self._rows[query] = ROWS_PER_LINE * self._count_blank_lines(query)
            if has_ended:
                self._running.remove(query)
        return sum(self._rows.values())

    def _count_blank_lines(self, query: int) -> int:
        nodes = list(_items(self._store.planGraph(query).allNodes()))
        tasks, filters = ([node for node in nodes if kind.match(node.desc())] for kind in (_TASKS, _FILTER))
        if not tasks:
            return 0
        values = self._store.executionMetrics(query)
        return sum(_count(node, values) for node in tasks) - sum(_count(node, values) for node in filters)


def _count(node: Any, values: Any) -> int:
    """Return how many rows a node has put out."""
    [metric] = [metric for metric in _items(node.metrics()) if metric.name() == _METRIC]
    value = values.get(metric.accumulatorId())
    return int(value.get().replace(",", "")) if value.isDefined() else 0


def _items(sequence: Any) -> Iterator[Any]:
    """Iterate over a Scala sequence."""
    iterator = sequence.iterator()
    while iterator.hasNext():
        yield iterator.next()
