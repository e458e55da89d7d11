"""Which rows of a lake a table is tuned on: the same texts however the lake's files are laid out."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as f

from jobs.lake_input import check_text_columns, missing_column, read_input
from pipeline.errors import InputError
from pipeline.settings import TuneSettings
from pipeline.tuning.sample import share_equally, share_in_proportion

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Of a stratum's rows so many times its share are looked at first; what repeats is dropped from them.
_MARGIN_FACTOR, _MARGIN_ROWS = 2, 200
_HASHES = 1 << 32


def sample_lake(spark: SparkSession, settings: TuneSettings) -> list[str]:
    """Take distinct texts of the lake.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : TuneSettings

    Returns
    -------
    list of str
        At most ``settings.rows``, in the order of their hashes, cut at ``settings.max_chars``. Nulls and
        texts of white space alone are left out.

    Raises
    ------
    InputError
        If a column is missing or holds no strings, or there is no text.

    Notes
    -----
    A text's place is decided by xxHash64 of the text and the seed, so files, partitions and their order don't
    matter. Strata are doublings of length, each with its share of the lake, or the values of a column, each
    with the same share. Where most rows of a stratum are repeated, all rows are looked at, in a second pass.
    """
    texts = _read_texts(spark, settings)
    available = {
        row.stratum: row.texts for row in texts.groupBy("stratum").agg(f.count("*").alias("texts")).collect()
    }
    if not available:
        raise InputError("the input holds no text to tune on", expected="texts that are not empty")
    share = share_in_proportion if settings.stratify is None else share_equally
    shares = share(available, settings.rows)
    chosen = _choose(_thin_out(texts, available, shares), shares)
    if len(chosen) < min(settings.rows, sum(available.values())):
        chosen = _choose(texts, shares)
    return chosen


def _read_texts(spark: SparkSession, settings: TuneSettings) -> DataFrame:
    """Return the columns stratum, place and text of all texts that are not empty."""
    rows = read_input(spark, settings)
    check_text_columns(rows.schema, settings.text)
    if settings.stratify is not None and settings.stratify not in rows.columns:
        raise missing_column(settings.stratify, rows.columns)
    quoted = [f.col(f"`{column.replace('`', '``')}`") for column in settings.text]
    label = f.col(f"`{settings.stratify.replace('`', '``')}`") if settings.stratify else f.lit(None)
    parts = [
        rows.select(
            f.substring(text.cast("string"), 1, settings.max_chars).alias("text"), label.alias("label")
        )
        for text in quoted
    ]
    texts = reduce(lambda one, other: one.unionAll(other), parts).where(f.trim("text") != "")
    length = f.floor(f.log2(f.length("text"))).cast("string")
    stratum = f.coalesce(f.col("label").cast("string"), f.lit("")) if settings.stratify else length
    place = f.xxhash64("text", f.lit(settings.seed))
    return texts.select(stratum.alias("stratum"), place.alias("place"), "text")


def _thin_out(texts: DataFrame, available: dict[str, int], shares: dict[str, int]) -> DataFrame:
    """Leave what may be among the first of its stratum, so that little is sorted."""
    limits = [
        (stratum, min(_HASHES, int(_HASHES * (_MARGIN_FACTOR * share + _MARGIN_ROWS) / available[stratum])))
        for stratum, share in shares.items()
    ]
    spark = texts.sparkSession
    bounds = f.broadcast(spark.createDataFrame(limits, "stratum string, bound long"))
    near = f.pmod("place", f.lit(_HASHES)) < f.col("bound")
    return texts.join(bounds, "stratum").where(near).drop("bound")


def _choose(texts: DataFrame, shares: dict[str, int]) -> list[str]:
    """Take each stratum's first distinct texts."""
    from pyspark.sql import Window

    # As they were thinned out, so that the first ones are still there.
    order = [f.pmod("place", f.lit(_HASHES)), f.col("place"), f.col("text")]
    within = Window.partitionBy("stratum").orderBy(*order)
    wanted = texts.sparkSession.createDataFrame(list(shares.items()), "stratum string, share long")
    # A text with several labels counts for the first of them.
    distinct = texts.groupBy("place", "text").agg(f.min("stratum").alias("stratum"))
    numbered = distinct.withColumn("number", f.row_number().over(within))
    chosen = numbered.join(f.broadcast(wanted), "stratum").where("number <= share")
    rows = chosen.orderBy("place", "text").select("text").collect()
    return [row.text for row in rows]
