"""``EmbedText``: the texts of a PCollection get their vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

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
from lakevec.beam.tables import embed_table
from lakevec.pipeline.encoding.text_validation import NOT_UTF8
from lakevec.pipeline.errors import UsageError

_INVALID = "invalid"
_EMBEDDED = "embedded"
# A batch of Python objects has no more rows or characters.
_BATCH_ROWS = 4096
_BATCH_CHARS = 1 << 22


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
    Windows and timestamps stay as they are.

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
    max_chars : int, optional
        Treat longer texts as invalid. Default: no limit.
    on_bad_row : {"fail", "null", "quarantine"}, default="fail"
        What to do if a value is no text, not valid UTF-8 or too long. ``fail`` raises `DataError`. ``null``
        gives None in place of the vector, and of a text that is not valid UTF-8. ``quarantine`` leaves the
        element out. Then the result is a pair of PCollections: the embedded elements, and
        ``(element, reason)`` of the others. There, texts are bytes.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    UsageError
        If `on_bad_row` is none of the three.
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
        max_chars: int | None = None,
        on_bad_row: OnBadRow = "fail",
    ) -> None:
        super().__init__()
        if on_bad_row not in get_args(OnBadRow):
            raise UsageError("on_bad_row", got=repr(on_bad_row), expected="'fail', 'null' or 'quarantine'")
        self._fields = Fields(text, output or f"{text}_embedding")
        self._options = EmbedOptions(SharedModel.of(model), max_tokens, max_chars, on_bad_row)

    def expand(self, elements: Any) -> Any:
        """Return one PCollection, or two with ``quarantine``."""
        kind = self._fields.result_type(elements.element_type)
        embed = beam.ParDo(_EmbedFn(self._options, self._fields)).with_output_types(kind)
        if self._options.on_bad_row != "quarantine":
            return elements | "Embed" >> embed
        both = elements | "Embed" >> embed.with_outputs(_INVALID, main=_EMBEDDED)
        return both[_EMBEDDED], both[_INVALID]


class _EmbedFn(beam.DoFn):
    """Embed tables one by one, and other elements in batches of a bundle."""

    def __init__(self, options: EmbedOptions, fields: Fields) -> None:
        self._options = options
        self._fields = fields

    def setup(self) -> None:
        """Map the table."""
        self._encoder = CountingEncoder(self._options)

    def start_bundle(self) -> None:
        """Forget elements of a bundle that failed."""
        self._waiting: list[WindowedValue] = []
        self._chars = 0

    # Beam asks for each window of an element by itself, since `process` names it.
    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        """Embed a table; let another element wait until its batch is full."""
        if isinstance(element, pa.Table):
            yield from self._embed_table(element)
            return
        self._waiting.append(WindowedValue(element, timestamp, (window,)))
        text = self._fields.read(element)
        self._chars += len(text) if isinstance(text, str | bytes) else 0
        if len(self._waiting) >= _BATCH_ROWS or self._chars >= _BATCH_CHARS:
            yield from self._embed_waiting()

    def finish_bundle(self) -> Iterator[Any]:
        """Embed the last batch."""
        yield from self._embed_waiting()

    def _embed_waiting(self) -> Iterator[Any]:
        waiting, fields = self._waiting, self._fields
        self.start_bundle()
        texts, is_no_text = to_arrow([fields.read(each.value) for each in waiting])
        encoded, found = self._encoder.encode(texts, is_no_text)
        reasons = {int(row): reason for reason, rows in found.items() for row in rows.nonzero()[0]}
        vectors = to_lists(encoded)
        for row, each in enumerate(waiting):
            reason = reasons.get(row)
            if reason and self._encoder.leaves_out:
                text = fields.read(each.value)
                # Bytes, since no coder writes a text that is not valid UTF-8.
                is_string = isinstance(text, str)
                element = fields.with_text(each.value, encode_any(text)) if is_string else each.value
                yield beam.pvalue.TaggedOutput(_INVALID, each.with_value((element, reason)))
            else:
                element = fields.with_text(each.value, None) if reason == NOT_UTF8 else each.value
                yield each.with_value(fields.write(element, next(vectors)))

    def _embed_table(self, rows: pa.Table) -> Iterator[Any]:
        for table, reason in embed_table(self._encoder, rows, self._fields):
            yield beam.pvalue.TaggedOutput(_INVALID, (table, reason)) if reason else table
