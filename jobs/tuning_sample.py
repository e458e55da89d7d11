"""Which rows of a lake a table is tuned on: the same texts however the lake's files are laid out."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as f

from jobs.lake_input import check_text_columns, missing_column, read_input
from pipeline.errors import InputError
from pipeline.settings import TuneSettings
from pipeline.tuning.sample import share_equally, share_in_proportion

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

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
    matter. Strata are doublings of length, each with its share of the lake's rows, or the values of a column,
    each with the same share. Of a stratum whose rows repeat so often that the first look finds too few texts,
    all rows are looked at, in a second pass.
    """
    texts = _read_texts(spark, settings)
    available = _count_strata(texts, settings)
    share = share_in_proportion if settings.stratify is None else share_equally
    shares = {stratum: number for stratum, number in share(available, settings.rows).items() if number}
    bounds = {stratum: _bound(number, available[stratum]) for stratum, number in shares.items()}
    chosen = _choose(texts, shares, bounds)
    found = Counter(row.stratum for row in chosen)
    short = {
        stratum: number
        for stratum, number in shares.items()
        if bounds[stratum] < _HASHES and found[stratum] < number
    }
    if short:
        chosen = [row for row in chosen if row.stratum not in short]
        chosen += _choose(texts, short, dict.fromkeys(short, _HASHES))
    # A text with several labels may have been chosen for each.
    return [text for _, text in sorted({(row.place, row.text) for row in chosen})]


def _count_strata(texts: DataFrame, settings: TuneSettings) -> dict[str, int]:
    """Return how many rows each stratum has."""
    counted = texts.groupBy("stratum").agg(f.count("*").alias("texts")).limit(settings.rows + 1).collect()
    if not counted:
        raise InputError("the input holds no text to tune on", expected="texts that are not empty")
    if len(counted) > settings.rows:
        raise InputError(
            f"column {settings.stratify!r} can't stratify {settings.rows:,} texts",
            got="more values than texts",
            expected="a column with few values",
        )
    return {row.stratum: row.texts for row in counted}


def _bound(share: int, available: int) -> int:
    """Return the hash below which a stratum's first texts should lie, so that little is sorted."""
    return min(_HASHES, int(_HASHES * (_MARGIN_FACTOR * share + _MARGIN_ROWS) / available))


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
    texts = reduce(lambda one, other: one.unionAll(other), parts).where(f.col("text").rlike(r"(?U)\S"))
    length = f.floor(f.log2(f.length("text"))).cast("string")
    stratum = f.coalesce(f.col("label").cast("string"), f.lit("")) if settings.stratify else length
    place = f.xxhash64("text", f.lit(settings.seed))
    return texts.select(stratum.alias("stratum"), place.alias("place"), "text")


def _choose(texts: DataFrame, shares: dict[str, int], bounds: dict[str, int]) -> list[Row]:
    """Take each stratum's first distinct texts among those whose hash is below its bound."""
    from pyspark.sql import Window

    limits = [(stratum, share, bounds[stratum]) for stratum, share in shares.items()]
    wanted = f.broadcast(texts.sparkSession.createDataFrame(limits, "stratum string, share long, bound long"))
    place = f.pmod("place", f.lit(_HASHES))
    near = texts.join(wanted, "stratum").where(place < f.col("bound")).drop("bound")
    within = Window.partitionBy("stratum").orderBy(place, "place", "text")
    numbered = near.distinct().withColumn("number", f.row_number().over(within))
    return numbered.where("number <= share").select("stratum", "place", "text").collect()
