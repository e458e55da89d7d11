"""``lakevec embed --key``: one row a key, and only what changed is embedded.

Two columns of the output say what a row was made of: a hash of what its vector and its folder come from, and
one of all other columns. A run joins the input's keys and hashes with those, embeds rows that are new or have
another text, and writes the files again that hold rows which changed or went.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Observation
from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.embedding.context import EmbedRun, entries_of, select
from lakevec.jobs.embedding.spark_writer import quoted
from lakevec.jobs.spark.session import changed_conf
from lakevec.pipeline.errors import CommitError, DataError, InputError
from lakevec.pipeline.output.commit_log import InputBatch, Snapshot
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.table_metadata import TableMetadata

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from lakevec.jobs.spark.input import Columns

TEXT_HASH = "lakevec_text_hash"
ROW_HASH = "lakevec_row_hash"
# Names that no input has: the run's own columns, beside all of the input's.
_KEY, _ORDER, _ACTION, _NAME, _ROW = (f"lakevec {word}" for word in ("key", "order", "action", "name", "row"))
_KEY_TYPES = (t.StringType, t.IntegralType, t.DateType, t.DecimalType, t.BinaryType)
_MICROSECONDS = {
    "ignoreNullFields": "false",
    "timeZone": "UTC",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


class KeyedRun(EmbedRun):
    """A run that keeps one row a key; see `EmbedRun` for the parameters."""

    @property
    def _key(self) -> str:
        return str(self.settings.key)

    def run(self, frame: DataFrame, contract: TableMetadata, schema: str) -> None:
        """Bring the output up to date with the input.

        Parameters
        ----------
        frame : pyspark.sql.DataFrame
            The whole input.
        contract : TableMetadata
        schema : str
            See `OutputFolder.begin`.
        """
        refresh = self.settings.full_refresh
        source = self._hashed(frame)
        if self.output.is_begun and (refresh or self.output.is_other_model(contract)):
            # Every row is embedded anew, so the old ones are no help; but none may be lost.
            self._refuse_to_lose(source)
            refresh = True
        self.output.begin(contract, schema, refresh=refresh)
        if self.output.state.files:
            self.output.check_can_rewrite()
        self._update(source)

    def _update(self, source: DataFrame) -> None:
        state = self.output.state
        seen = Observation("lakevec keys")
        actions = ("new", "changed", "updated", "unchanged", "gone")
        counted = [f.count_if(f.col(_ACTION) == action).alias(action) for action in actions]
        nulls = f.count_if(f.col(_KEY).isNull()).alias("nulls")
        invalid = f.count_if(~_is_valid(f.col(_KEY), source.schema[_KEY].dataType)).alias("invalid")
        classified = self._classify(source, state).observe(
            seen, *counted, f.sum("rows").alias("rows"), nulls, invalid
        )
        wanted = ["new", "changed", "updated"] + (["gone"] if self.settings.deletes == "remove" else [])
        # Else the little that is kept lies in two hundred partitions.
        with changed_conf(self.spark, {"spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true"}):
            self._apply_changes(source, classified, wanted, seen, state)

    def _apply_changes(
        self, source: DataFrame, classified: DataFrame, wanted: list[str], seen: Observation, state: Snapshot
    ) -> None:
        """Keep what changed, count it, and write it."""
        changes = classified.filter(f.col(_ACTION).isin(wanted)).persist(StorageLevel.DISK_ONLY)
        try:
            changes.count()
            counts = {name: int(number or 0) for name, number in seen.get.items()}
            if counts["nulls"]:
                raise DataError(
                    f"key column {self._key!r} has rows without a key",
                    got="null",
                    expected="a value in every row",
                    remedy="leave those rows out in a view or table first",
                )
            if counts["invalid"] and self.settings.on_bad_row == "null":
                raise DataError(
                    f"key column {self._key!r} has values that can't become null",
                    got=f"{counts['invalid']} values that are not valid UTF-8",
                    remedy="clean the column, or run with --on-bad-row quarantine",
                )
            self._note(counts)
            self.details["rows_embedded"] = counts["new"] + counts["changed"]
            self._write(source, changes, counts, state)
        finally:
            changes.unpersist()

    def _note(self, counts: dict[str, int]) -> None:
        keys = sum(counts[name] for name in ("new", "changed", "updated", "unchanged"))
        is_removed = self.settings.deletes == "remove"
        self.details["keyed"] = {
            "new": counts["new"],
            "with another text": counts["changed"],
            "changed otherwise": counts["updated"],
            "unchanged": counts["unchanged"],
            "removed": counts["gone"] if is_removed else 0,
            "kept though gone": 0 if is_removed else counts["gone"],
            "of a key that is there already": counts["rows"] - keys,
        }

    def _write(self, source: DataFrame, changes: DataFrame, counts: dict[str, int], state: Snapshot) -> None:
        is_removing = self.settings.deletes == "remove"
        if not (counts["new"] + counts["changed"] + counts["updated"] + is_removing * counts["gone"]):
            return
        keys = sum(counts[name] for name in ("new", "changed", "updated", "unchanged"))
        has_duplicates = counts["rows"] > keys
        entries: list[FileEntry] = []
        if to_embed := counts["new"] + counts["changed"]:
            rows = source
            if state.files or state.quarantine or has_duplicates:
                rows = self._rows_of(source, changes, ["new", "changed"], unique=has_duplicates)
            entries, _ = self.embed_selected(select(rows, self.columns))
            self._check(entries, to_embed)
        rewritten, removed = self._rewrite(source, changes, state, has_duplicates=has_duplicates)
        added = [*entries, *rewritten]
        self.commit(
            InputBatch(input="key", format=self.settings.format),
            added,
            rows_read=to_embed + sum(entry.rows for entry in rewritten),
            removed=removed,
        )

    def _rewrite(
        self, source: DataFrame, changes: DataFrame, state: Snapshot, *, has_duplicates: bool
    ) -> tuple[list[FileEntry], list[str]]:
        """Write the files that hold changed rows again; return the new ones, and the names of the old."""
        from lakevec.udfs.embed_task import ENTRY_SCHEMA
        from lakevec.udfs.upsert_tasks import RewriteTask

        touched = changes.filter(f.col(_NAME).isNotNull())
        found = touched.groupBy(_NAME, _ACTION).count().collect()
        removed = sorted({row[0] for row in found})
        if not removed:
            return [], []
        kept = self.columns.kept
        dropped = touched.filter(f.col(_ACTION) != "updated").select(
            *(f.lit(None).cast(self._type(name)).alias(f"c{n}") for n, name in enumerate(kept)),
            f.col(_NAME).alias("name"),
            f.col(_ROW).alias("row"),
            f.lit(False).alias("is_update"),
        )
        updated = self._rows_of(source, changes, ["updated"], unique=has_duplicates).select(
            *(quoted(name).alias(f"c{n}") for n, name in enumerate(kept)),
            f.col(_NAME).alias("name"),
            f.col(_ROW).alias("row"),
            f.lit(True).alias("is_update"),
        )
        # A number of our own, since Spark would put little data into one task, however large the files are.
        ordered = dropped.unionByName(updated).repartition(min(2 * len(removed), 10_000), "name")
        ordered = ordered.sortWithinPartitions("name", "row")
        task = RewriteTask(
            self.output.location,
            kept,
            self.output.staging,
            self.run_id,
            self.layout,
            on_bad_row=self.settings.on_bad_row,
        )
        entries, _ = entries_of(ordered.mapInArrow(task, ENTRY_SCHEMA))
        known = state.files | state.quarantine
        gone = sum(row["count"] for row in found if row[1] != "updated")
        self._check(entries, sum(known[name].rows for name in removed) - gone)
        return entries, removed

    def _check(self, entries: list[FileEntry], expected: int) -> None:
        written = sum(entry.rows for entry in entries)
        if written != expected:
            raise CommitError(
                "the input changed while it was read",
                got=f"{written} rows written",
                expected=f"{expected}, as its keys said",
                remedy="nothing was committed; run again",
            )

    def _rows_of(
        self, source: DataFrame, changes: DataFrame, actions: list[str], *, unique: bool
    ) -> DataFrame:
        """Take the input's rows whose keys have one of the actions."""
        marks = changes.filter(f.col(_ACTION).isin(actions)).select(
            f.col(_KEY).alias("lakevec k"),
            f.col("best.o").alias("lakevec o"),
            f.col("best.t").alias("lakevec t"),
            f.col("best.r").alias("lakevec r"),
            _NAME,
            _ROW,
        )
        is_it = (
            (f.col(_KEY) == f.col("lakevec k"))
            & f.col(_ORDER).eqNullSafe(f.col("lakevec o"))
            & (f.col(TEXT_HASH) == f.col("lakevec t"))
            & (f.col(ROW_HASH) == f.col("lakevec r"))
        )
        rows = source.join(marks, is_it)
        return rows.dropDuplicates([_KEY]) if unique else rows

    def _classify(self, source: DataFrame, state: Snapshot) -> DataFrame:
        """Say of every key what became of it since the last run."""
        best = f.max(
            f.struct(
                f.col(_ORDER).alias("o"),
                f.col(TEXT_HASH).alias("t"),
                f.col(ROW_HASH).alias("r"),
                self._has_invalid(source).alias("invalid"),
            )
        )
        now = source.groupBy(_KEY).agg(best.alias("best"), f.count(f.lit(1)).alias("rows"))
        known = self._known(state, source.schema[_KEY].dataType)
        action = (
            f.when(f.col("known text").isNull(), "new")
            .when(f.col("rows").isNull(), "gone")
            .when(f.col("best.t") != f.col("known text"), "changed")
            .when(f.col("best.r") != f.col("known row"), "updated")
            .otherwise("unchanged")
        )
        # A row in quarantine has no vector to keep, and one that goes there keeps none.
        has_none = f.col(_NAME).startswith("_lakevec/") | f.col("best.invalid")
        action = f.when((action == "updated") & has_none, f.lit("changed")).otherwise(action)
        joined = now.join(known, now[_KEY] == known["known key"], "full_outer")
        return joined.withColumn(_ACTION, action).withColumn(_KEY, f.coalesce(_KEY, "known key"))

    def _has_invalid(self, source: DataFrame) -> Column:
        """Say whether a row goes into quarantine for a string that is not valid UTF-8."""
        if self.settings.on_bad_row != "quarantine":
            return f.lit(False)
        kinds = {name: source.schema[name].dataType for name in self.columns.kept if name in source.columns}
        valid = [_is_valid(quoted(name), kind) for name, kind in kinds.items()]
        return ~reduce(and_, (f.coalesce(part, f.lit(True)) for part in valid), f.lit(True))

    def _known(self, state: Snapshot, kind: t.DataType) -> DataFrame:
        """List the keys and hashes that the output holds."""
        from lakevec.udfs.upsert_tasks import ReadKeysTask

        names = [(name,) for name in (*state.files, *state.quarantine)]
        schema = t.StructType(
            [
                t.StructField("c0", kind),
                t.StructField("c1", t.BinaryType()),
                t.StructField("c2", t.BinaryType()),
                t.StructField("name", t.StringType()),
                t.StructField("row", t.LongType()),
            ]
        )
        files = self.spark.createDataFrame(names, "name string").repartition(max(1, min(len(names), 10_000)))
        read = ReadKeysTask(
            self.output.location,
            (self._key, TEXT_HASH, ROW_HASH),
            is_text=isinstance(kind, t.StringType),
        )
        rows = files.mapInArrow(read, schema)
        return rows.toDF("known key", "known text", "known row", _NAME, _ROW)

    def _refuse_to_lose(self, source: DataFrame) -> None:
        """Refuse to write everything anew where rows would be lost whose text is not at hand any more."""
        if self.settings.deletes == "remove" or self.output.key != self._key:
            return
        known = self._known(self.output.state, source.schema[_KEY].dataType)
        gone = known.join(source, known["known key"] == source[_KEY], "left_anti").count()
        if gone:
            raise DataError(
                "writing everything anew needs the texts of all rows",
                got=f"{gone} rows of the output whose key is gone from the input",
                remedy="give an input that has them, or let them go with --deletes remove",
            )

    def _hashed(self, frame: DataFrame) -> DataFrame:
        """Add the hashes, the key and the order to the input's rows."""
        columns = self.columns
        of_text = [self._bytes(frame, name) for name in (*columns.embeddings, *columns.partition_by)]
        plain = [name for name in columns.kept if name not in (*columns.embeddings, TEXT_HASH, ROW_HASH)]
        of_row = [self._bytes(frame, name) for name in plain]
        return self._ordered(frame).withColumns(
            {TEXT_HASH: _hash(of_text), ROW_HASH: _hash(of_row), _KEY: quoted(self._key)}
        )

    def _bytes(self, frame: DataFrame, name: str) -> Column:
        """Write a column's values so that equal bytes mean equal values, whatever the session's settings."""
        if isinstance(frame.schema[name].dataType, t.StringType | t.BinaryType):
            return _exact(quoted(name))
        return _exact(f.to_json(f.struct(quoted(name)), _MICROSECONDS))

    def _ordered(self, frame: DataFrame) -> DataFrame:
        """Add what says which of two rows with one key counts."""
        if self.settings.key_order is not None:
            return frame.withColumn(_ORDER, quoted(self.settings.key_order))
        try:
            return frame.withColumn(_ORDER, f.col("_metadata.file_modification_time"))
        except AnalysisException:  # no files
            return frame.withColumn(_ORDER, f.lit(0))

    def _type(self, name: str) -> t.DataType:
        return self.columns.schema[name].dataType


def _exact(column: Column) -> Column:
    """Write a value so that its end is known and null is unlike any value."""
    content = column.cast("string").cast("binary")
    length = f.concat(f.octet_length(content).cast("string"), f.lit(":")).cast("binary")
    return f.coalesce(f.concat(length, content), f.lit("-").cast("binary"))


def _is_valid(column: Column, kind: t.DataType) -> Column:
    return f.is_valid_utf8(column) if isinstance(kind, t.StringType) else f.lit(True)


def _hash(parts: list[Any]) -> Column:
    """Take SHA-256 of values one behind the other."""
    return f.unhex(f.sha2(f.concat(f.lit("").cast("binary"), *parts), 256))


def with_hashes(columns: Columns, key: str) -> Columns:
    """Add the columns that a keyed run writes beside those of every run.

    Parameters
    ----------
    columns : Columns
    key : str
        Column of which the output shall hold every value once.

    Returns
    -------
    Columns

    Raises
    ------
    InputError
        If the column can be no key.
    """
    _check_key(key, columns)
    added = [t.StructField(name, t.BinaryType()) for name in (TEXT_HASH, ROW_HASH)]
    return replace(
        columns,
        kept=(*columns.kept, TEXT_HASH, ROW_HASH),
        schema=t.StructType([*columns.schema.fields, *added]),
    )


def _check_key(key: str, columns: Columns) -> None:
    """Refuse what can't be a key."""
    if key not in columns.kept:
        raise InputError(
            f"key column {key!r} is not among the columns that are written",
            expected=f"one of {', '.join(map(repr, columns.kept))}",
            remedy="add it to --keep, or choose another --key",
        )
    kind = columns.schema[key].dataType
    if not isinstance(kind, _KEY_TYPES):
        raise InputError(
            f"key column {key!r}",
            got=kind.simpleString(),
            expected="strings, integers, decimals, dates or binary",
        )
    if clash := {TEXT_HASH, ROW_HASH} & {name.lower() for name in columns.kept}:
        raise InputError(f"column {min(clash)!r} has a name that lakevec writes", remedy="rename it")
