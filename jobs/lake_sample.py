"""Sample a lake's texts for tuning. The layout of the lake's files does not change the sample."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as f

from lakevec.jobs.spark.input import check_text_columns, missing_column, read_input
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.tuning.sampling import allocate_equally, allocate_proportionally

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# Duplicates are dropped, so the first pass takes a multiple of a stratum's share, plus some rows.
_MARGIN_FACTOR, _MARGIN_ROWS = 2, 200
_HASHES = 1 << 32


def sample_lake(spark: SparkSession, settings: TuneSettings) -> list[str]:
    """Take distinct texts of the lake, without near-duplicates by default.

    Returns
    -------
    list of str
        At most ``settings.rows``, in the order of their hashes, cut at ``settings.max_chars``. Nulls and
        blank texts are left out.

    Raises
    ------
    InputError
        If a column is missing or holds no strings, or there is no text.

    Notes
    -----
    Texts that differ only in case, digits, punctuation or white space are near-duplicates, of which the first
    in the order of strings is taken. Texts are sorted by xxHash64 of their form (`_normalize`) and seed, so
    the order of files and partitions does not matter. By default, a stratum is a doubling of length, and has
    the same share of the sample as of the lake. If
    ``settings.stratify`` names a column, each of its values is a stratum, and all have equal shares. If
    duplicates leave a stratum short, a second pass reads all its rows. If it is still short, a third pass
    takes more rows of the other strata.
    """
    texts = _read_texts(spark, settings)
    available = _count_strata(texts, settings)
    allocate = allocate_proportionally if settings.stratify is None else allocate_equally
    shares = allocate(available, settings.rows)
    bounds = {name: _bound(share, available[name]) for name, share in shares.items()}
    chosen = _choose(texts, shares, bounds)
    short = [name for name in shares if len(chosen[name]) < shares[name] and bounds[name] < _HASHES]
    chosen |= _choose(texts, {name: shares[name] for name in short}, dict.fromkeys(short, _HASHES))
    lacking = [name for name in shares if len(chosen[name]) < shares[name]]
    left = settings.rows - sum(len(chosen[name]) for name in lacking)
    others = {name: rows for name, rows in available.items() if name not in lacking}
    more = {name: share for name, share in allocate(others, left).items() if share > shares[name]}
    chosen |= _choose(texts, more, {name: _bound(share, available[name]) for name, share in more.items()})
    # A text with several labels may be in several strata.
    sample: dict[int, str] = {}
    for place, text in sorted(set().union(*chosen.values())):
        sample.setdefault(place, text)
    return list(sample.values())


def _read_texts(spark: SparkSession, settings: TuneSettings) -> DataFrame:
    """Return the columns stratum, place (hash of its form) and text of all texts that are not blank."""
    rows = read_input(spark, settings)
    check_text_columns(rows.schema, settings.text)
    if settings.stratify is not None and settings.stratify not in rows.columns:
        raise missing_column(settings.stratify, rows.columns)
    label = _column(settings.stratify) if settings.stratify else f.lit(None)
    parts = [
        rows.select(
            f.substring(_column(name).cast("string"), 1, settings.max_chars).alias("text"),
            label.alias("label"),
        )
        for name in settings.text
    ]
    texts = reduce(lambda one, other: one.unionAll(other), parts).where(f.col("text").rlike(r"(?U)\S"))
    # A text's form stands in for it, so that near-duplicates share stratum and place.
    form = _normalize(f.col("text")) if settings.near_duplicates == "drop" else f.col("text")
    texts = texts.withColumn("form", form)
    length = f.floor(f.log2(f.length("form"))).cast("string")
    stratum = f.coalesce(f.col("label").cast("string"), f.lit("")) if settings.stratify else length
    place = f.xxhash64("form", f.lit(settings.seed))
    return texts.select(stratum.alias("stratum"), place.alias("place"), "text")


def _normalize(text: Column) -> Column:
    """Lower-case a text, replace each number by 0 and other characters than letters by a blank.

    A text of neither letters nor digits, such as an emoji, stays as it is.
    """
    words = f.regexp_replace(f.lower(text), r"[^\p{L}\p{M}\p{N}]+", " ")
    # The parts of a number, such as those of a date, are by now apart by blanks.
    form = f.trim(f.regexp_replace(words, r"\p{N}[\p{N} ]*", "0 "))
    return f.coalesce(f.nullif(form, f.lit("")), text)


def _column(name: str) -> Column:
    return f.col(f"`{name.replace('`', '``')}`")


def _count_strata(texts: DataFrame, settings: TuneSettings) -> dict[str, int]:
    strata = texts.groupBy("stratum").agg(f.count("*").alias("texts"))
    # A column with more values than rows is refused, so count no further.
    counted = (strata.limit(settings.rows + 1) if settings.stratify else strata).collect()
    if not counted:
        raise InputError("the input holds no text to tune on", expected="texts that are not empty")
    if settings.stratify and len(counted) > settings.rows:
        raise InputError(
            f"column {settings.stratify!r} can't stratify {settings.rows:,} texts",
            got="more values than texts",
            expected="a column with few values",
        )
    return {row.stratum: row.texts for row in counted}


def _bound(share: int, available: int) -> int:
    """Return an upper bound for the hashes of a stratum's first texts, so that Spark sorts few rows."""
    return min(_HASHES, int(_HASHES * (_MARGIN_FACTOR * share + _MARGIN_ROWS) / available))


def _choose(
    texts: DataFrame, shares: dict[str, int], bounds: dict[str, int]
) -> dict[str, list[tuple[int, str]]]:
    """Take each stratum's first distinct texts among those whose hash is below its bound."""
    chosen: dict[str, list[tuple[int, str]]] = {stratum: [] for stratum in shares}
    limits = [(stratum, share, bounds[stratum]) for stratum, share in shares.items() if share]
    if not limits:
        return chosen
    wanted = f.broadcast(texts.sparkSession.createDataFrame(limits, "stratum string, share long, bound long"))
    place = f.pmod("place", f.lit(_HASHES))
    near = texts.join(wanted, "stratum").where(place < f.col("bound")).drop("bound")
    within = Window.partitionBy("stratum").orderBy(place, "place")
    distinct = near.groupBy("stratum", "place", "share").agg(f.min("text").alias("text"))
    numbered = distinct.withColumn("number", f.row_number().over(within))
    for row in numbered.where("number <= share").select("stratum", "place", "text").collect():
        chosen[row.stratum].append((row.place, row.text))
    return chosen
