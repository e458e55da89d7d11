"""``lakevec embed --key``: keep one row per key, and embed only new or changed texts.

The output has two hash columns: a hash of each row's text and partition, and a hash of all other columns. A
run joins the input's keys and hashes with them. It embeds rows with a new key or another text, and rewrites
the files that hold changed or deleted rows. If texts are split, all chunks of a key have its hashes, and the
first one stands for them in the join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as f
from pyspark.sql import types as t
from pyspark.sql.window import Window

from lakevec.jobs.embedding.context import EmbedContext, collect_results, select
from lakevec.jobs.spark.column_types import is_valid_utf8, quoted
from lakevec.jobs.spark.input import Columns
from lakevec.jobs.spark.session import changed_conf
from lakevec.pipeline.errors import CommitError, DamagedOutputError, DataError, InputError, OutputError
from lakevec.pipeline.output.commit_log import InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.udfs.embed_task import ENTRY_SCHEMA
from lakevec.udfs.upsert_tasks import ReadKeysTask, RewriteTask

TEXT_HASH = "lakevec_text_hash"
ROW_HASH = "lakevec_row_hash"
# Temporary columns beside those of the input. The space avoids names that lakevec writes.
_KEY, _ORDER, _INVALID = "lakevec key", "lakevec order", "lakevec invalid"
_ACTION, _NAME, _ROW, _CHUNK = "lakevec action", "lakevec name", "lakevec row", "lakevec chunk"
_NEWEST, _ROWS = "lakevec newest", "lakevec rows"
_CHANGED_KEY, _CHANGED_VERSION = "lakevec changed key", "lakevec changed version"
_IS_SURPLUS = "lakevec surplus"
_KNOWN_KEY, _KNOWN_TEXT, _KNOWN_ROW = "lakevec known key", "lakevec known text", "lakevec known row"
# These identify a row among the input rows of its key.
_VERSION = (_ORDER, TEXT_HASH, ROW_HASH)
_ACTIONS = ("new", "changed", "updated", "unchanged", "gone", "surplus")
_KEY_TYPES = (t.StringType, t.IntegralType, t.DateType, t.DecimalType, t.BinaryType)
_MICROSECONDS = {
    "ignoreNullFields": "false",
    "timeZone": "UTC",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def upsert_rows(context: EmbedContext, frame: DataFrame, metadata: TableMetadata, schema: str) -> None:
    """Begin the output, and update it from the input.

    Parameters
    ----------
    context : EmbedContext
        Its columns are from `with_hashes`.
    frame : pyspark.sql.DataFrame
        The whole input.
    metadata : TableMetadata
    schema : str
        See `OpenOutput.begin`.
    """
    output = context.output
    refresh = context.settings.full_refresh
    upsert = _Upsert(context, frame)
    stored = output.read_metadata()
    if stored is not None and (refresh or stored.is_other_model(metadata)):
        # A refresh keeps only rows of the input, so refuse it if it would lose rows of the output.
        if stored.key == context.settings.key:
            upsert.refuse_to_lose(stored)
        refresh = True
    output.begin(metadata, schema, refresh=refresh)
    if output.state.files:
        output.check_can_replace()
    upsert.run()


class _Upsert:
    """The steps of one upsert. `_changes` holds keys with an action, `_counts` the number of each action."""

    _changes: DataFrame
    _counts: dict[str, int]

    def __init__(self, context: EmbedContext, frame: DataFrame) -> None:
        self._context = context
        self._spark, self._settings, self._columns = context.spark, context.settings, context.columns
        self._key = str(context.settings.key)
        self._removes = context.settings.deletes == "remove"
        self._source = self._add_hashes(frame)

    def run(self) -> None:
        """Classify the keys, count the actions, and write the changes."""
        observation = Observation("lakevec keys")
        is_text = f.coalesce(_CHUNK, f.lit(0)) == 0
        counted = [f.count_if((f.col(_ACTION) == action) & is_text).alias(action) for action in _ACTIONS]
        nulls = f.count_if(f.col(_KEY).isNull() & f.col(_NAME).isNull()).alias("nulls")
        invalid = f.count_if(~is_valid_utf8(f.col(_KEY), self._source.schema[_KEY].dataType)).alias("invalid")
        duplicates = f.sum(f.when(f.col(_ACTION) != "surplus", f.col(_ROWS) - 1)).alias("duplicates")
        classified = self._classify().observe(observation, *counted, nulls, invalid, duplicates)
        wanted = ["new", "changed", "updated", "surplus"] + (["gone"] if self._removes else [])
        # Let Spark coalesce the few kept keys, which would lie in 200 partitions.
        with changed_conf(self._spark, {"spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true"}):
            self._changes = classified.filter(f.col(_ACTION).isin(wanted)).persist(StorageLevel.DISK_ONLY)
            try:
                is_changed = bool(self._changes.count())
                self._counts = {name: int(number or 0) for name, number in observation.get.items()}
                self._check_keys()
                self._record()
                if is_changed:
                    self._write()
            finally:
                self._changes.unpersist()

    def _check_keys(self) -> None:
        if self._counts["nulls"]:
            raise DataError(
                f"key column {self._key!r} has rows without a key",
                got="null",
                expected="a value in every row",
                remedy="leave those rows out in a view or table first",
            )
        if self._counts["invalid"] and self._settings.on_bad_row == "null":
            raise DataError(
                f"key column {self._key!r} has values that can't become null",
                got=f"{self._counts['invalid']} values that are not valid UTF-8",
                remedy="clean the column, or run with --on-bad-row quarantine",
            )

    def _record(self) -> None:
        counts, surplus = self._counts, self._counts["surplus"]
        self._context.details |= {
            "keyed": {
                "new": counts["new"],
                "with another text": counts["changed"],
                "changed otherwise": counts["updated"],
                "unchanged": counts["unchanged"],
                "removed": counts["gone"] if self._removes else 0,
                "kept though gone": 0 if self._removes else counts["gone"],
                "of a key that is there already": counts["duplicates"],
                **({"removed, since others doubled their key": surplus} if surplus else {}),
            },
            "rows_embedded": counts["new"] + counts["changed"],
        }

    def _write(self) -> None:
        """Embed, rewrite and commit."""
        before = self._context.output.state
        to_embed = self._counts["new"] + self._counts["changed"]
        entries: list[FileEntry] = []
        if to_embed:
            is_all = not (before.all_files or self._counts["duplicates"])
            rows = self._source if is_all else self._rows_of("new", "changed")
            rows = self._keep_others(rows)
            entries, _ = self._context.embed(select(rows, self._context.columns))
            _check_rows(sum(entry.input_rows for entry in entries), to_embed)
        rewritten, removed = self._rewrite()
        self._context.commit(
            InputBatch(input="key", format=self._settings.format),
            [*entries, *rewritten],
            to_embed + sum(entry.input_rows for entry in rewritten),
            removed=removed,
        )

    def _keep_others(self, rows: DataFrame) -> DataFrame:
        """Give rows with another text the values that they have in columns of other programs."""
        context, changes = self._context, self._context.output.changes
        fields = [t.StructField.fromJson(column) for column in changes.columns]
        names = [field.name for field in fields if field.name not in self._columns.embeddings]
        if not names or not self._counts["changed"]:
            return rows
        fields = [field for field in fields if field.name in names]
        changed = self._changes.filter((f.col(_ACTION) == "changed") & ~f.col(_NAME).startswith("_lakevec/"))
        files = changed.select(f.col(_NAME).alias("name")).distinct()
        kinds = t.StructType(
            [t.StructField(f"c{number}", field.dataType) for number, field in enumerate(fields)]
        )
        read = ReadKeysTask(context.output.location, tuple(names), schema=changes.schema)
        places = kinds.add("name", t.StringType()).add("row", t.LongType()).add("chunk", t.IntegerType())
        values = files.mapInArrow(read, places).drop("chunk")
        columns = self._columns
        context.columns = replace(
            columns,
            kept=(*columns.kept, *names),
            schema=t.StructType([*columns.schema.fields, *fields]),
        )
        return rows.drop(*names).join(values.toDF(*names, _NAME, _ROW), [_NAME, _ROW], "left")

    def _rewrite(self) -> tuple[list[FileEntry], list[str]]:
        """Rewrite files that hold changed rows; return the new entries and the old names."""
        context, kept = self._context, self._columns.kept
        touched = self._touched()
        tallied = [f.count(f.lit(1)).alias("rows"), f.count_if(f.col(_CHUNK) == 0).alias("texts")]
        tallies = touched.groupBy(_NAME, _ACTION).agg(*tallied).collect()
        removed = sorted({row[0] for row in tallies})
        if not removed:
            return [], []
        place = [f.col(_NAME).alias("name"), f.col(_ROW).alias("row")]
        values = (quoted(name).alias(f"c{number}") for number, name in enumerate(kept))
        updated = self._with_all_chunks(self._rows_of("updated")).select(
            *values, *place, f.lit(True).alias("is_update")
        )
        dropped = touched.filter(f.col(_ACTION) != "updated").select(*place, f.lit(False).alias("is_update"))
        rows = updated.unionByName(dropped, allowMissingColumns=True)
        # Set the number of tasks, since Spark knows only these few rows, not the large files to rewrite.
        ordered = rows.repartition(min(2 * len(removed), 10_000), "name").sortWithinPartitions("name", "row")
        task = RewriteTask(
            context.output.location,
            kept,
            context.output.staging,
            context.plan.run_id,
            context.layout,
            on_bad_row=self._settings.on_bad_row,
            schema=context.output.changes.schema,
        )
        entries = collect_results(ordered.mapInArrow(task, ENTRY_SCHEMA)).entries
        known = [context.output.state.all_files[name] for name in removed]
        gone = [row for row in tallies if row[1] != "updated"]
        rows_left = sum(file.rows for file in known) - sum(row["rows"] for row in gone)
        _check_rows(sum(entry.rows for entry in entries), rows_left)
        texts_left = sum(file.input_rows for file in known) - sum(row["texts"] for row in gone)
        _check_rows(sum(entry.input_rows for entry in entries), texts_left)
        return entries, removed

    def _touched(self) -> DataFrame:
        """Return action and place of each row of the output that is replaced or removed."""
        places = self._changes.filter(f.col(_NAME).isNotNull())
        is_surplus = f.col(_ACTION) == "surplus"
        # Each surplus row is among the changes. The rest of its key's rows may stay.
        parts = self._with_all_chunks(places.filter(~is_surplus)), places.filter(is_surplus)
        rest, surplus = (part.select(_ACTION, _NAME, _ROW, _CHUNK) for part in parts)
        return rest.unionByName(surplus)

    def _with_all_chunks(self, rows: DataFrame) -> DataFrame:
        """Return keys with the place of each of their chunks, in place of the first one's."""
        if self._context.chunks is None:
            return rows
        known = self._known().filter(~f.col(_IS_SURPLUS)).select(_KNOWN_KEY, _NAME, _ROW, _CHUNK)
        return rows.drop(_NAME, _ROW, _CHUNK).join(known, rows[_KEY] == known[_KNOWN_KEY])

    def _rows_of(self, *actions: str) -> DataFrame:
        """Select the newest input row of each key with one of the actions."""
        newest = f.struct(*(f.col(_NEWEST).getField(name).alias(name) for name in _VERSION))
        changed = self._changes.filter(f.col(_ACTION).isin(list(actions))).select(
            f.col(_KEY).alias(_CHANGED_KEY), newest.alias(_CHANGED_VERSION), _NAME, _ROW, _CHUNK
        )
        is_newest = f.struct(*_VERSION).eqNullSafe(f.col(_CHANGED_VERSION))
        rows = self._source.join(changed, (f.col(_KEY) == f.col(_CHANGED_KEY)) & is_newest)
        return rows.dropDuplicates([_KEY]) if self._counts["duplicates"] else rows

    def _classify(self) -> DataFrame:
        """Compare the input with the output, and give each key an action."""
        source = self._source
        invalid = self._has_invalid(source).alias(_INVALID)
        newest = f.max(f.struct(*_VERSION, invalid)).alias(_NEWEST)
        now = source.groupBy(_KEY).agg(newest, f.count(f.lit(1)).alias(_ROWS))
        field = f.col(_NEWEST).getField
        action = (
            f.when(f.col(_NAME).isNull(), "new")
            .when(f.col(_IS_SURPLUS), "surplus")
            .when(f.col(_ROWS).isNull(), "gone")
            # A row that another program added has no hashes.
            .when(~field(TEXT_HASH).eqNullSafe(f.col(_KNOWN_TEXT)), "changed")
            .when(~field(ROW_HASH).eqNullSafe(f.col(_KNOWN_ROW)), "updated")
            .otherwise("unchanged")
        )
        # A quarantined row has no vector, so embed it again instead of copying its vector.
        has_no_vector = f.col(_NAME).startswith("_lakevec/") | field(_INVALID)
        action = f.when((action == "updated") & has_no_vector, f.lit("changed")).otherwise(action)
        known = self._known().filter((f.col(_CHUNK) == 0) | f.col(_IS_SURPLUS))
        joined = now.join(known, now[_KEY] == known[_KNOWN_KEY], "full_outer")
        return joined.withColumn(_ACTION, action).withColumn(_KEY, f.coalesce(_KEY, _KNOWN_KEY))

    def _has_invalid(self, source: DataFrame) -> Column:
        """Return the condition that invalid UTF-8 puts a row into quarantine."""
        if self._settings.on_bad_row != "quarantine":
            return f.lit(False)
        kept = t.StructType([field for field in source.schema.fields if field.name in self._columns.kept])
        return ~is_valid_utf8(f.struct(*map(quoted, kept.names)), kept)

    def _known(self) -> DataFrame:
        """Read the keys and hashes of the output's rows, and their places."""
        before = self._context.output.state
        kind = self._source.schema[_KEY].dataType
        names = [(name,) for name in before.all_files]
        keys = t.StructType().add("c0", kind).add("c1", t.BinaryType()).add("c2", t.BinaryType())
        schema = keys.add("name", t.StringType()).add("row", t.LongType()).add("chunk", t.IntegerType())
        partitions = max(1, min(len(names), 10_000))
        files = self._spark.createDataFrame(names, "name string").repartition(partitions)
        read = ReadKeysTask(
            self._context.output.location,
            (self._key, TEXT_HASH, ROW_HASH),
            is_text=isinstance(kind, t.StringType),
            schema=self._context.output.changes.schema,
            has_chunks=self._context.chunks is not None,
        )
        known = files.mapInArrow(read, schema).toDF(_KNOWN_KEY, _KNOWN_TEXT, _KNOWN_ROW, _NAME, _ROW, _CHUNK)
        is_surplus: Column = f.lit(False)
        if read.schema is not None:  # other programs may have added rows of a key that is there
            # Keep the chunks of one text, so choose by its hashes. Equal hashes have the same chunks.
            hashes = f.struct(_KNOWN_TEXT, _KNOWN_ROW)
            first = Window.partitionBy(_KNOWN_KEY).orderBy(
                f.col(_CHUNK).asc_nulls_last(), f.col(_KNOWN_TEXT).isNull(), _NAME, _ROW
            )
            same = Window.partitionBy(_KNOWN_KEY, _CHUNK, _KNOWN_TEXT, _KNOWN_ROW).orderBy(_NAME, _ROW)
            is_kept = hashes.eqNullSafe(f.first(hashes).over(first)) & (f.row_number().over(same) == 1)
            is_surplus = f.col(_KNOWN_KEY).isNotNull() & ~is_kept
        return known.withColumn(_IS_SURPLUS, is_surplus)

    def refuse_to_lose(self, stored: TableMetadata) -> None:
        """Refuse a refresh that would lose rows whose text the input no longer holds."""
        if self._removes:
            return
        try:
            self._context.output.adopt(stored)
        except DamagedOutputError as error:
            raise OutputError(
                "a full refresh can't tell which rows it would lose",
                got=error.got,
                remedy="rewrite the output without such rows: --full-refresh --deletes remove",
            ) from error
        known = self._known().filter(f.col(_CHUNK) == 0)
        lost = known.join(self._source, known[_KNOWN_KEY] == self._source[_KEY], "left_anti").count()
        if lost:
            raise DataError(
                "a full refresh needs the text of every row",
                got=f"{lost} rows of the output whose key is not in the input",
                remedy="give an input that holds these rows, or remove them with --deletes remove",
            )

    def _add_hashes(self, frame: DataFrame) -> DataFrame:
        """Add hashes, the key, and the order that determines a key's newest row."""
        columns, order = self._columns, self._settings.key_order
        of_text = (*columns.embeddings, *columns.partition_by)
        of_row = [name for name in columns.kept if name not in (*columns.embeddings, TEXT_HASH, ROW_HASH)]
        added = {TEXT_HASH: _hash(frame, of_text), ROW_HASH: _hash(frame, of_row), _KEY: quoted(self._key)}
        if order is not None:
            return frame.withColumns({**added, _ORDER: quoted(order)})
        try:
            return frame.withColumns({**added, _ORDER: f.col("_metadata.file_modification_time")})
        except AnalysisException:  # no files
            return frame.withColumns({**added, _ORDER: f.lit(0)})


def _check_rows(written: int, expected: int) -> None:
    if written != expected:
        raise CommitError(
            "the input changed while it was read",
            got=f"{written} rows written",
            expected=f"{expected}, as counted by key",
            remedy="nothing was committed; run again",
        )


def _hash(frame: DataFrame, names: Sequence[str]) -> Column:
    """Return the SHA-256 of columns: equal values have equal hashes under any session settings."""
    values = (_encode(quoted(name), frame.schema[name].dataType) for name in names)
    return f.unhex(f.sha2(f.concat(f.lit("").cast("binary"), *values), 256))


def _encode(column: Column, kind: t.DataType) -> Column:
    """Encode a value with its length, and null differently from any value."""
    if not isinstance(kind, t.StringType | t.BinaryType):
        column = f.to_json(f.struct(column), _MICROSECONDS)
    content = column.cast("string").cast("binary")
    length = f.concat(f.octet_length(content).cast("string"), f.lit(":")).cast("binary")
    return f.coalesce(f.concat(length, content), f.lit("-").cast("binary"))


def with_hashes(columns: Columns, key: str) -> Columns:
    """Add the hash columns of an upsert; raise InputError if column `key` can't be the key."""
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
    added = [t.StructField(name, t.BinaryType()) for name in (TEXT_HASH, ROW_HASH)]
    return replace(
        columns,
        kept=(*columns.kept, TEXT_HASH, ROW_HASH),
        schema=t.StructType([*columns.schema.fields, *added]),
    )
