"""``EmbedText``: the texts of a PCollection get their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import typehints
from apache_beam.utils.windowed_value import WindowedValue

from lakevec.beam.batching import BatchFn
from lakevec.beam.counting_encoder import (
    CountingEncoder,
    EmbedOptions,
    OnBadRow,
    encode_any,
    to_arrow,
    to_lists,
)
from lakevec.beam.elements import Fields
from lakevec.beam.shared_model import SharedModel, WorkerModel
from lakevec.beam.tables import TABLE_ROWS, embed_table
from lakevec.pipeline.encoding.text_validation import NOT_UTF8
from lakevec.pipeline.errors import UsageError

_INVALID = "invalid"
_EMBEDDED = "embedded"


class EmbedText(beam.PTransform):
    """Embed the texts of a PCollection.

    =====================  ===================================================
    Element                Result
    =====================  ===================================================
    str, bytes or None     ``(text, vector)``
    dict                   a new dict with the vector
    Beam row, NamedTuple   a ``beam.Row`` with the vector; it has a schema, too
    pyarrow Table          the table with a ``list<float>`` column
    =====================  ===================================================

    A vector is a list of D floats; None if the text is None. A text without a known token gets D zeros.
    Windows and timestamps stay as they are. A table of more than 16,384 rows becomes several.

    Parameters
    ----------
    model : str or WorkerModel
        A path, URI or id that `lakevec.load` accepts, here and on the workers. It is read and checked now,
        and workers refuse another one. If only workers can read it, pass a `WorkerModel`.
    text : str, optional
        Field of the text. Required unless elements are texts.
    output : str, optional
        Field of the vector. Default: ``<text>_embedding``.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text. Default: all.
    dimensions : int, optional
        Width D of the vectors, made of the table's first columns. Default: all columns.
    max_chars : int, optional
        Treat longer texts as invalid. Default: no limit.
    on_bad_row : {"fail", "null", "quarantine"}, default="fail"
        What to do with a value that is neither a string nor bytes, is not valid UTF-8, or is too long.
        ``fail`` raises `DataError`. ``null`` gives None in place of the vector, and of a text that is not
        valid UTF-8. ``quarantine`` leaves the element out. Then the result is a pair of PCollections: the
        embedded elements, and ``(element, reason)`` of the others. There, texts are bytes.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    UsageError
        If `on_bad_row` is none of the three.
    SettingsError
        If `max_tokens` or `dimensions` is below 1, or the table has fewer columns than `dimensions`.
    InputError
        If the PCollection's schema lacks `text` or already has `output`.

    Notes
    -----
    The same text gives the same bits as `lakevec.Artifact.encode` and ``lakevec embed``, whatever the runner,
    the bundles and the batches. Each machine holds one copy of the table, which all its processes map.

    Counters have the namespace ``lakevec``: ``rows``, ``nulls``, ``empties``, ``zero_vectors``, ``tokens``,
    ``unknown_tokens`` and ``truncated`` as in ``run.json``; ``bad`` counts invalid texts with ``null``, and
    ``quarantined`` those with ``quarantine``.

    Examples
    --------
    >>> with beam.Pipeline() as pipeline:  # doctest: +SKIP
    ...     texts = pipeline | beam.Create([{"id": 1, "body": "parse a date"}])
    ...     vectors = texts | EmbedText("models/minilm", text="body")
    """

    def __init__(
        self,
        model: str | WorkerModel,
        text: str | None = None,
        *,
        output: str | None = None,
        max_tokens: int | None = None,
        dimensions: int | None = None,
        max_chars: int | None = None,
        on_bad_row: OnBadRow = "fail",
    ) -> None:
        super().__init__()
        if on_bad_row not in get_args(OnBadRow):
            raise UsageError("on_bad_row", got=repr(on_bad_row), expected="'fail', 'null' or 'quarantine'")
        self._fields = Fields(text, (output or f"{text}_embedding",))
        shared = SharedModel.of(model, dimensions)
        self._options = EmbedOptions(shared, max_tokens, max_chars, on_bad_row)

    def expand(self, elements: Any) -> Any:
        """Return one PCollection, or two with ``quarantine``."""
        [vector] = self._fields.added
        is_null = self._options.on_bad_row == "null"
        text: Any = typehints.Optional[elements.element_type] if is_null else elements.element_type
        kind = self._fields.result_type(
            elements.element_type,
            [(vector, Sequence[np.float32] | None)],
            alone=typehints.Tuple[text, list[float] | None],
            may_lose_text=is_null,
        )
        embed = beam.ParDo(_EmbedFn(self._options, self._fields)).with_output_types(kind)
        if self._options.on_bad_row != "quarantine":
            return elements | "Embed" >> embed
        both = elements | "Embed" >> embed.with_outputs(_INVALID, main=_EMBEDDED)
        return both[_EMBEDDED], both[_INVALID]


class _EmbedFn(BatchFn):
    """Embed batches and tables."""

    def __init__(self, options: EmbedOptions, fields: Fields) -> None:
        self._options = options
        self.fields = fields

    def setup(self) -> None:
        """Map the table."""
        self._encoder = CountingEncoder(self._options)

    def handle(self, batch: Sequence[WindowedValue]) -> Iterator[Any]:
        """Yield each element with its vector, or as an invalid one with the reason."""
        fields, is_alone = self.fields, self.fields.text is None
        texts, is_no_text = to_arrow([fields.read(each.value) for each in batch])
        encoded, found = self._encoder.encode(texts, is_no_text)
        reasons = {int(row): reason for reason, rows in found.items() for row in rows.nonzero()[0]}
        vectors = to_lists(encoded)
        for row, each in enumerate(batch):
            reason = reasons.get(row)
            if reason and self._encoder.leaves_out:
                pair = self._with_bytes(each.value), reason
                yield beam.pvalue.TaggedOutput(_INVALID, each.with_value(pair))
            else:
                element = fields.with_text(each.value, None) if reason == NOT_UTF8 else each.value
                vector = next(vectors)
                yield each.with_value((element, vector) if is_alone else fields.write(element, vector))

    def handle_table(self, rows: pa.Table) -> Iterator[Any]:
        """Yield slices of the table with their vectors, and the parts that are invalid with their reasons."""
        for first in range(0, len(rows) or 1, TABLE_ROWS):
            for table, reason in embed_table(self._encoder, rows.slice(first, TABLE_ROWS), self.fields):
                yield beam.pvalue.TaggedOutput(_INVALID, (table, reason)) if reason else table

    def _with_bytes(self, element: Any) -> Any:
        """Turn a text into bytes, since no coder writes strings that are not valid UTF-8."""
        text = self.fields.read(element)
        return self.fields.with_text(element, encode_any(text)) if isinstance(text, str) else element
