"""An encoder that handles invalid texts as the Spark job does, and counts as Beam metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from apache_beam.metrics.metric import Metrics

from lakevec.beam.shared_model import SharedModel
from lakevec.pipeline.encoding.encoder import Encoded, Encoder
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.encoding.text_validation import find_invalid_texts, without
from lakevec.pipeline.errors import DataError

OnBadRow = Literal["fail", "null", "quarantine"]
NOT_TEXT = "missing or no text"
_NAMESPACE = "lakevec"


@dataclass(frozen=True)
class EmbedOptions:
    """What `EmbedText` asks of an encoder; its parameters."""

    model: SharedModel
    max_tokens: int | None
    max_chars: int | None
    on_bad_row: OnBadRow

    def __post_init__(self) -> None:
        EncodeOptions(self.max_tokens)  # refuses a wrong limit before the pipeline runs


class CountingEncoder:
    """Encode texts with this process's encoder, and count."""

    def __init__(self, options: EmbedOptions) -> None:
        self._options = options
        self._encoder: Encoder = options.model.open(options.max_tokens)

    @property
    def leaves_out(self) -> bool:
        """Whether invalid texts get no vector at all."""
        return self._options.on_bad_row == "quarantine"

    def encode(
        self, texts: pa.LargeStringArray, is_no_text: np.ndarray | None = None
    ) -> tuple[Encoded, dict[str, np.ndarray]]:
        """Return the vectors, and the invalid rows by reason; if it leaves them out, vectors of the others.

        Parameters
        ----------
        texts : pyarrow large_string array of length N
            May contain bytes that are not UTF-8.
        is_no_text : bool ndarray of shape (N,), optional
            Values that were no texts; they are null in `texts`.
        """
        found = find_invalid_texts(texts, max_chars=self._options.max_chars)
        if is_no_text is not None:
            found[NOT_TEXT] = is_no_text
        if found:
            texts = self._handle(texts, found)
        encoded = self._encoder.encode(texts)
        for name, number in asdict(encoded.counts).items():
            count(name, number)
        return encoded, found

    def _handle(self, texts: pa.LargeStringArray, found: dict[str, np.ndarray]) -> pa.LargeStringArray:
        invalid = np.logical_or.reduce(list(found.values()))
        if self._options.on_bad_row == "fail":
            raise DataError(
                "a text can't be embedded",
                got=f"one {next(iter(found))}",
                remedy="clean the texts, or choose on_bad_row='null' or 'quarantine'",
            )
        count("quarantined" if self.leaves_out else "bad", int(invalid.sum()))
        return texts.filter(pa.array(~invalid)) if self.leaves_out else without(texts, invalid)


def to_arrow(texts: Sequence[Any]) -> tuple[pa.LargeStringArray, np.ndarray | None]:
    """Return texts as Arrow strings, whose bytes are not checked, and which values are no texts, if any."""
    try:
        return pa.array(texts, type=pa.large_string()), None
    except (pa.ArrowException, TypeError, UnicodeError):
        pass
    values = [encode_any(each) if isinstance(each, str) else each for each in texts]
    is_no_text = np.array([not isinstance(each, bytes | None) for each in values], dtype=bool)
    known = [None if bad else each for each, bad in zip(values, is_no_text, strict=True)]
    binary = pa.array(known, type=pa.large_binary())
    return binary.view(pa.large_string()), is_no_text if is_no_text.any() else None


def encode_any(text: str) -> bytes:
    """Return a text's bytes; a lone surrogate gives bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def to_lists(encoded: Encoded) -> Iterator[list[float] | None]:
    """Yield each vector as a list, None for a null text."""
    for vector, is_null in zip(encoded.vectors, encoded.is_null, strict=True):
        yield None if is_null else vector.tolist()


def count(name: str, number: int) -> None:
    """Add to a counter; one that stays 0 is left out."""
    if number:
        Metrics.counter(_NAMESPACE, name).inc(number)
