"""``ChunkText``: each element becomes one element per chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from lakevec.beam.batching import BatchFn
from lakevec.beam.counting_encoder import count, to_arrow
from lakevec.beam.elements import Fields
from lakevec.beam.shared_model import SharedModel, WorkerModel
from lakevec.beam.tables import chunk_table
from lakevec.pipeline.chunk_columns import CHUNK_END, CHUNK_INDEX, CHUNK_START
from lakevec.pipeline.encoding.chunking import Chunker
from lakevec.pipeline.encoding.options import ChunkOptions
from lakevec.pipeline.encoding.text_validation import find_invalid_texts, split_invalid


class ChunkText(beam.PTransform):
    """Split the texts of a PCollection at paragraphs, sentences and white space: one element per chunk.

    An element may be all that `EmbedText` takes. Strings give strings, and bytes give bytes. A dict, row or
    table row gives one for each chunk: `text` holds the chunk, ``chunk_index`` its number from 0, and
    ``chunk_start`` and ``chunk_end`` its place in the text, in characters. Other fields are repeated.

    Parameters
    ----------
    model : str or WorkerModel
        As in `EmbedText`. Its tokens are counted.
    text : str, optional
        Field of the text. Required unless elements are texts.
    tokens : int
        Most known tokens of a chunk.
    overlap : int, default=0
        Most tokens at the end of a chunk that the next one repeats.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    SettingsError
        If `tokens` or `overlap` is out of range.
    SetupError
        If ICU is missing on a worker: ``pip install 'lakevec[beam,chunk]'``.
    InputError
        If the PCollection's schema lacks `text` or has a field of the new names.

    Notes
    -----
    The chunks are those of `lakevec.Chunker` and of ``lakevec embed --chunk-tokens``. None and invalid
    values pass through as they are, without a place, for `EmbedText` to handle. A table with many chunks
    becomes several.

    The counters ``texts`` and ``chunks`` have the namespace ``lakevec``.

    Examples
    --------
    >>> with beam.Pipeline() as pipeline:  # doctest: +SKIP
    ...     texts = pipeline | beam.Create([{"id": 1, "body": "A long document. It goes on."}])
    ...     chunks = texts | ChunkText("models/minilm", text="body", tokens=256, overlap=32)
    ...     vectors = chunks | EmbedText("models/minilm", text="body")
    """

    # Fields that results have besides those of the elements.
    PLACE = (CHUNK_INDEX, CHUNK_START, CHUNK_END)

    def __init__(
        self, model: str | WorkerModel, text: str | None = None, *, tokens: int, overlap: int = 0
    ) -> None:
        super().__init__()
        self._fields = Fields(text, self.PLACE)
        self._options = ChunkOptions(tokens, overlap)
        self._model = SharedModel.of(model)

    def expand(self, elements: Any) -> Any:
        """Return the chunks."""
        kinds = (int, int | None, int | None)
        added = list(zip(self.PLACE, kinds, strict=True))
        kind = self._fields.result_type(elements.element_type, added, alone=elements.element_type)
        chunk = beam.ParDo(_ChunkFn(self._model, self._options, self._fields))
        return elements | "Chunk" >> chunk.with_output_types(kind)


class _ChunkFn(BatchFn):
    """Split batches and tables."""

    def __init__(self, model: SharedModel, options: ChunkOptions, fields: Fields) -> None:
        self._model = model
        self._options = options
        self.fields = fields

    def setup(self) -> None:
        """Use this process's encoder and its token cache."""
        self._chunker = Chunker(self._model.open(None), self._options)

    def handle(self, batch: Sequence[WindowedValue]) -> Iterator[Any]:
        """Yield an element for each chunk."""
        fields = self.fields
        texts, _ = to_arrow([fields.read(each.value) for each in batch])
        valid, _ = split_invalid(texts, find_invalid_texts(texts))
        chunks = self._chunker.split(valid)
        count("texts", len(batch))
        count("chunks", len(chunks))
        for parent, *place, text in zip(
            *(values.to_pylist() for values in vars(chunks).values()), strict=True
        ):
            each = batch[parent]
            element = each.value
            if text is not None:
                is_bytes = isinstance(fields.read(element), bytes)
                element = fields.with_text(element, text.encode() if is_bytes else text)
            yield each.with_value(element if fields.text is None else fields.write(element, *place))

    def handle_table(self, rows: pa.Table) -> Iterator[Any]:
        """Yield tables with a row for each chunk, of bounded size."""
        count("texts", len(rows))
        for chunks in chunk_table(self._chunker, rows, self.fields):
            count("chunks", len(chunks))
            yield chunks
