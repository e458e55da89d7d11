"""Labelled rows of a lake with their vectors, for `lakevec train-head`.

The layout of the lake's files does not change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import quoted
from lakevec.jobs.spark.input import check_text_columns, missing_column, read_input
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.settings.train_head import TrainHeadSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.pipeline.model.table import StaticTable

_HASHES = 1 << 32
# Hashes are not spread evenly, so take a few more rows than wanted before sorting them.
_MARGIN_FACTOR, _MARGIN_ROWS = 1.1, 1000


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Distinct pairs of a text and a label, in the order of their hashes.

    Parameters
    ----------
    vectors : float32 ndarray of shape (N, D)
    labels : list
    counts : dict of str to int
        Rows that were read, and why rows were left out.
    """

    vectors: np.ndarray
    labels: list[Any]
    counts: dict[str, int]


def read_labelled(spark: SparkSession, settings: TrainHeadSettings, table: StaticTable) -> LabelledRows:
    """Read labelled rows, and let executors embed them.

    Raises
    ------
    InputError
        If a column is missing or of another type, or no row has a text and a label.
    """
    # It imports pandas, which other commands do without.
    from lakevec.udfs.column_functions import make_embed_udf

    rows, counts = _read_rows(spark, settings)
    embed = make_embed_udf(spark, table, max_tokens=settings.max_tokens)
    found = _take(rows, counts["rows_distinct"], settings).select("label", embed("text").alias("vector"))
    labels: list[Any] = []
    parts = []
    for batch in found.toArrow().to_batches():
        labels += batch.column("label").to_pylist()
        parts.append(batch.column("vector").flatten().to_numpy().reshape(len(batch), table.dimensions))
    return LabelledRows(np.concatenate(parts), labels, {**counts, "rows_used": len(labels)})


def _read_rows(spark: SparkSession, settings: TrainHeadSettings) -> tuple[DataFrame, dict[str, int]]:
    """Return text, label and place (their hash) of distinct rows without nulls, and counts."""
    frame, [text] = read_input(spark, settings), [*set(settings.text)]
    check_text_columns(frame.schema, [text])
    if settings.label not in frame.columns:
        raise missing_column(settings.label, frame.columns)
    label = _convert(settings, frame.schema[settings.label].dataType)
    both = frame.select(quoted(text).cast("string").alias("text"), label.alias("label"))
    counted = both.agg(
        f.count(f.lit(1)).alias("rows_read"),
        f.count_if(f.col("label").isNull()).alias("rows_without_label"),
        f.count_if(f.col("label").isNotNull() & f.col("text").isNull()).alias("rows_without_text"),
    )
    distinct = both.dropna().distinct()
    counts = {**counted.collect()[0].asDict(), "rows_distinct": distinct.count()}
    if not counts["rows_distinct"]:
        raise InputError(
            "no row can train a head",
            got=f"{counts['rows_read']:,} rows, {counts['rows_without_label']:,} without a label",
            expected="rows with a text and a label",
        )
    return distinct.withColumn("place", f.xxhash64("text", "label", f.lit(settings.seed))), counts


def _convert(settings: TrainHeadSettings, kind: t.DataType) -> Any:
    """Return the label column as string, boolean, bigint, double without NaN, or array of strings."""
    column = quoted(settings.label)
    if isinstance(kind, t.ArrayType) and isinstance(kind.elementType, t.StringType):
        return f.array_sort(f.array_distinct(f.array_compact(column)))
    if isinstance(kind, t.IntegralType) and settings.kind != "regression":
        return column.cast("bigint")
    if isinstance(kind, t.NumericType):
        # pandas writes a missing number as NaN.
        return f.nanvl(column.cast("double"), f.lit(None).cast("double"))
    if isinstance(kind, t.StringType | t.CharType | t.VarcharType):
        return column.cast("string")
    if isinstance(kind, t.BooleanType):
        return column
    raise InputError(
        f"label column {settings.label!r}",
        got=kind.simpleString(),
        expected="string, boolean, a number, or array<string>",
        remedy="cast it in a view or table first",
    )


def _take(rows: DataFrame, distinct: int, settings: TrainHeadSettings) -> DataFrame:
    """Return the rows with the smallest hashes, sorted; equal hashes are ordered by text and label."""
    if distinct > settings.rows:
        # So that Spark sorts few rows.
        bound = int(_HASHES * (_MARGIN_FACTOR * settings.rows + _MARGIN_ROWS) / distinct)
        rows = rows.where(f.pmod("place", f.lit(_HASHES)) < f.lit(min(bound, _HASHES)))
    order = f.pmod("place", f.lit(_HASHES)), "place", "text", "label"
    return rows.orderBy(*order).limit(settings.rows)
