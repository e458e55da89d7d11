"""Tasks of ``lakevec verify``: each compares files of an output with its log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from lakevec.pipeline.chunk_columns import CHUNK_INDEX
from lakevec.pipeline.encoding.node_files import NodeFiles
from lakevec.pipeline.encoding.options import (
    SCALE_SUFFIX,
    SUFFIXES,
    TOKENS_SUFFIX,
    WEIGHTS_SUFFIX,
    EncodeOptions,
)
from lakevec.pipeline.encoding.packed_signs import packed_width
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.encoding.text_validation import view_as_strings
from lakevec.pipeline.heads import columns as label_columns
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.output.file_entry import QUARANTINE
from lakevec.pipeline.storage import Location
from lakevec.udfs.upsert_tasks import open_rows
from lakevec.udfs.worker_cache import get_encoder

REPORT_SCHEMA = "report string"
_BATCH_ROWS = 16_384
# Large, since each read of an object store is a request.
_READ_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class VerifyTask:
    """Check files; a function for ``DataFrame.mapInArrow`` that returns a report per file.

    Parameters
    ----------
    output : Location
    fingerprint : str
        Fingerprint of the output's model.
    dimensions : int
    columns : dict of str to str
        Text column and the name of its embedding column.
    promised : tuple of str
        Columns that every file must have.
    vector_type : VectorType
    options : EncodeOptions
        How the texts were embedded.
    table : NodeFiles or None
        The model, to embed a sample again.
    sample_every : int
        Embed every n-th row of a file again; 0 for none.
    sha256 : bool
        Whether to compare checksums.
    schema : pyarrow.Schema, optional
        Columns of files that other programs wrote, which may lack some.
    has_chunk_order : bool, default=True
        Whether the chunks of a text follow one another in files that lakevec wrote.
    has_vectors : bool, default=True
        Whether files hold vectors, and not only labels.
    heads : tuple of Head, default=()
        Heads to label the sample with again.
    label_prefixes : dict of str to str
        What begins the names of the labels of each text column.
    """

    output: Location
    fingerprint: str
    dimensions: int
    columns: dict[str, str]
    promised: tuple[str, ...]
    vector_type: VectorType
    options: EncodeOptions
    table: NodeFiles | None
    sample_every: int
    sha256: bool
    schema: pa.Schema | None = None
    has_chunk_order: bool = True
    has_vectors: bool = True
    heads: tuple[Head, ...] = ()
    label_prefixes: dict[str, str] = field(default_factory=dict)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield a report for each file; a line of the input holds its name and its log entry as JSON."""
        for batch in batches:
            for line in batch.column(0).to_pylist():
                promised = json.loads(line)
                report = _Report(promised["name"])
                try:
                    self._check(report, promised)
                except FileNotFoundError:
                    report.problems.append("is missing")
                except (OSError, pa.ArrowException) as error:
                    report.problems.append(f"can't be read ({type(error).__name__})")
                yield pa.RecordBatch.from_pydict({"report": [json.dumps(vars(report))]})

    def _check(self, report: _Report, promised: dict[str, Any]) -> None:
        file = self.output / report.name
        with file.filesystem.open_input_file(file.path) as stream:
            if stream.size() != promised["bytes"]:
                report.problems.append(f"has {stream.size()} bytes instead of {promised['bytes']}")
            if self.sha256 and promised["sha256"]:
                report.summed = True
                digest = hashlib.sha256()
                while content := stream.read(_READ_BYTES):
                    digest.update(content)
                if digest.hexdigest() != promised["sha256"]:
                    report.problems.append("has another sha256")
            footer = pq.read_metadata(stream)
        report.in_byte_planes = _has_byte_planes(footer)
        if footer.num_rows != promised["rows"]:
            report.problems.append(f"has {footer.num_rows} rows instead of {promised['rows']}")
        if promised.get("texts") is not None:
            is_ordered = self.has_chunk_order and bool(promised["run"])
            report.problems += _chunk_problems(file, promised["texts"], is_ordered=is_ordered)
        if report.name.startswith(QUARANTINE):
            return
        model = (footer.metadata or {}).get(b"lakevec.model", b"").decode(errors="replace")
        is_own = bool(promised["run"])
        if is_own and model != self.fingerprint:
            report.problems.append("was written with another model")
        self._check_vectors(report, file, None if is_own else self.schema)

    def _check_vectors(self, report: _Report, file: Location, schema: pa.Schema | None) -> None:
        """Check every vector, and embed a sample of texts again."""
        dataset = open_rows(file, schema)
        missing = [name for name in self.promised if name not in dataset.schema.names]
        if missing:
            report.problems.append(f"has no column {missing[0]!r}")
            return
        start = 0
        for batch in dataset.to_batches(columns=self._columns(dataset.schema), batch_size=_BATCH_ROWS):
            for name in self.columns.values() if self.has_vectors else ():
                if self.vector_type is VectorType.BINARY:
                    problem = _bits_problem(batch.column(name), self.dimensions)
                else:
                    problem = _vector_problem(batch, name, self.dimensions)
                if not problem and self.options.store == "sum":
                    problem = _tokens_problem(batch, name)
                if problem:
                    report.problems.append(f"{problem} in column {name!r}")
                    return
            if self.sample_every:
                sample = np.arange(-start % self.sample_every, batch.num_rows, self.sample_every)
                self._embed_again(report, batch.take(pa.array(sample)))
            start += batch.num_rows

    def _columns(self, schema: pa.Schema) -> dict[str, pads.Expression]:
        """Select the vectors, and the texts to embed again."""
        wanted = [name + end for name in self.columns.values() for end in ("", *SUFFIXES)]
        if self.sample_every:
            wanted += [
                *self.columns,
                *(name for column in self.columns for name in self._label_names(column)),
            ]
        return {name: pads.field(name) for name in schema.names if name in wanted}

    def _embed_again(self, report: _Report, rows: pa.RecordBatch) -> None:
        """Compare stored vectors with those of their texts, bit for bit."""
        for column, name in self.columns.items():
            if column not in rows.schema.names or self.table is None:
                continue
            if not (self.has_vectors or self.heads):  # the heads are gone
                continue
            labels = self._label_names(column)
            stored = rows.column(name if self.has_vectors else labels[0])
            # An invalid text may have no vector.
            is_embedded = pa.array(np.asarray(stored.is_valid()))
            texts = view_as_strings(rows.column(column)).filter(is_embedded)
            encoded = get_encoder(self.table, self.options).encode(texts)
            report.sampled += len(texts)
            embedded = rows.filter(is_embedded)
            expected = to_arrow_columns(encoded, name, self.vector_type) if self.has_vectors else {}
            if any(_bits(embedded.column(column)) != _bits(array) for column, array in expected.items()):
                report.problems.append(f"holds vectors in column {name!r} that don't match their texts")
            predicted = label_columns.to_arrow_columns(
                self.heads, encoded.vectors, encoded.is_null, self.label_prefixes[column]
            )
            for label, array in predicted.items():
                if embedded.column(label).to_pylist() != array.to_pylist():
                    report.problems.append(f"holds labels in column {label!r} that don't match their texts")

    def _label_names(self, column: str) -> list[str]:
        prefix = self.label_prefixes.get(column, "")
        return [name for head in self.heads for name in label_columns.column_types(head, prefix)]


@dataclass
class _Report:
    """Findings about a file."""

    name: str
    problems: list[str] = field(default_factory=list)
    sampled: int = 0
    summed: bool = False
    in_byte_planes: bool = False


def _has_byte_planes(footer: pq.FileMetaData) -> bool:
    """Return whether a file stores vectors in byte planes, as earlier versions did for float16."""
    if not footer.num_row_groups:
        return False
    group = footer.row_group(0)
    return any("BYTE_STREAM_SPLIT" in group.column(index).encodings for index in range(group.num_columns))


def _chunk_problems(file: Location, texts: int, *, is_ordered: bool) -> Iterator[str]:
    """Describe what is wrong with the numbers of chunks in a file, whose first text may begin in another."""
    columns = pq.read_table(file.path, columns=[CHUNK_INDEX], filesystem=file.filesystem).columns
    index = columns[0].to_numpy() if columns else np.empty(0)
    if (found := int(np.count_nonzero(index == 0))) != texts:
        yield f"has {found} texts instead of {texts}"
    if is_ordered and not ((index[1:] == 0) | (np.diff(index) == 1)).all():
        yield "lacks chunks of a text"


def _vector_problem(batch: pa.RecordBatch, name: str, dimensions: int) -> str:
    """Describe the first problem of a batch's vectors; return "" if there is none."""
    vectors = batch.column(name)
    lengths = np.diff(vectors.offsets.to_numpy())[np.asarray(vectors.is_valid())]
    if (lengths != dimensions).any():
        return f"vectors of another length than {dimensions}"
    numbers = [vectors.flatten()]
    if (scale := name + SCALE_SUFFIX) in batch.schema.names:
        numbers.append(batch.column(scale).drop_null())
    for values in numbers:
        if values.null_count:
            return "vectors with nulls"
        if pa.types.is_floating(values.type) and not np.isfinite(values.to_numpy()).all():
            return "vectors that are not finite"
    return ""


def _bits_problem(vectors: pa.Array, dimensions: int) -> str:
    """Describe a problem of binary vectors; return "" if there is none."""
    lengths = pc.binary_length(vectors.cast(pa.binary()).drop_null())
    is_whole = pc.all(pc.equal(lengths, packed_width(dimensions))).as_py()
    return "" if is_whole in (True, None) else f"vectors of another length than {dimensions} bits"


def _tokens_problem(batch: pa.RecordBatch, name: str) -> str:
    """Describe a problem of the counts or weights that belong to sums; return "" if there is none."""
    has_weights = name + WEIGHTS_SUFFIX in batch.schema.names
    divisors = batch.column(name + (WEIGHTS_SUFFIX if has_weights else TOKENS_SUFFIX))
    kind = "sums of weights" if has_weights else "counts of tokens"
    if not divisors.is_null().equals(batch.column(name).is_null()):
        return f"sums without {kind}"
    # NaN is not at least 0, either.
    return "" if (divisors.drop_null().to_numpy() >= 0).all() else f"{kind} below 0"


def _bits(values: pa.Array) -> bytes:
    """Return the bytes of vectors, or of their scales."""
    if pa.types.is_fixed_size_binary(values.type) or pa.types.is_binary(values.type):
        return b"".join(values.to_pylist())
    flat = values.flatten() if pa.types.is_list(values.type) else values
    return bytes(flat.to_numpy(zero_copy_only=False).tobytes())
