"""The embedding table as a frozen value: rows, tokenizer, and the flags that change a vector."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.errors import LakevecError, ModelError, SettingsError, one_line
from lakevec.pipeline.model.bigrams import LARGEST_VALUE, Bigrams, check_bigrams


@dataclass(frozen=True, eq=False)
class StaticTable:
    """An embedding table: one row per token of a tokenizer.

    Parameters
    ----------
    embeddings : float32, float16 or int8 ndarray of shape (R, D)
        Stored rows. C-contiguous, finite.
    tokenizer_json : str
        The `tokenizers` serialisation, without truncation, padding or post-processor.
    normalize : bool, default=True
        Whether text vectors are scaled to length 1.
    weights : float32 ndarray of shape (V,), optional
        Factor of each token's row: the scale of int8 rows, or the difference of tokens that share a row.
    mapping : int32 ndarray of shape (V,), optional
        Stored row of each token, if tokens share rows. Default: token i has row i.
    pools_unknown : bool, default=False
        Whether the unknown token's row counts in the mean, as in Sentence Transformers.
    position_scale : float, optional
        Above 0. The token at position p, counted from 0 over a text's known tokens, counts
        ``1 / (1 + p / position_scale)``. Default: all tokens count alike.
    bigrams : Bigrams, optional
        Rows of pairs of neighbouring tokens. The row of each such pair in a text counts in place of the row
        of its second token. Default: none.

    Attributes
    ----------
    unknown_token_id : int or None
        Id of the unknown token, read from the tokenizer; None if there is none or its row is pooled.

    Raises
    ------
    ModelError
        If shapes, types or values can't be an embedding table of this tokenizer.

    Notes
    -----
    Token i has the row ``weights[i] * embeddings[mapping[i]]``. model2vec and Sentence Transformers read the
    three arrays alike.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models
    >>> tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "north": 1, "east": 2}, unk_token="[UNK]"))
    >>> table = StaticTable(np.array([[0, 0], [0, 1], [1, 0]], np.float32), tokenizer.to_str())
    >>> table.rows, table.dimensions, table.unknown_token_id
    (3, 2, 0)
    """

    embeddings: np.ndarray
    tokenizer_json: str
    normalize: bool = True
    weights: np.ndarray | None = None
    mapping: np.ndarray | None = None
    pools_unknown: bool = False
    position_scale: float | None = None
    bigrams: Bigrams | None = None
    unknown_token_id: int | None = field(init=False)

    def __post_init__(self) -> None:
        _check_arrays(self)
        _check_position_scale(self)
        if self.bigrams is not None:
            check_bigrams(self.bigrams, self.dimensions, self.rows)
        with parsing_tokenizer("tokenizer.json"):
            tokenizer = Tokenizer.from_str(self.tokenizer_json)
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size != self.rows:
            raise ModelError(
                "tokenizer and table don't match",
                got=f"{size} tokens and {self.rows} rows",
                expected="one row per token",
            )
        check_token_ids(tokenizer)
        token = json.loads(self.tokenizer_json)["model"].get("unk_token")
        if token is not None and tokenizer.token_to_id(token) is None:
            raise ModelError(
                "the tokenizer's unknown token is not in its vocabulary",
                got=repr(token),
                expected="one of its tokens",
            )
        unknown = None if self.pools_unknown else find_unknown_token_id(tokenizer)
        object.__setattr__(self, "unknown_token_id", unknown)

    @property
    def rows(self) -> int:
        """Number of tokens, V."""
        per_token = self.weights if self.mapping is None else self.mapping
        return len(self.embeddings if per_token is None else per_token)

    @property
    def dimensions(self) -> int:
        """Output width, D."""
        return int(self.embeddings.shape[1])

    @property
    def row_type(self) -> np.dtype[Any]:
        """Type of the rows: float16 if they are stored so and have no weights, else float32."""
        is_half = self.embeddings.dtype == np.float16 and self.weights is None
        return np.dtype(np.float16 if is_half else np.float32)

    def token_rows(self) -> np.ndarray:
        """Return each token's row: `row_type` of shape (V, D), without a copy if they are stored so."""
        rows = self.embeddings if self.mapping is None else self.embeddings[self.mapping]
        rows = np.ascontiguousarray(rows, dtype=self.row_type)
        return rows if self.weights is None else rows * self.weights[:, None]

    def dense_rows(self) -> np.ndarray:
        """Return each token's row: float32 of shape (V, D), without a copy if they are stored so."""
        return np.ascontiguousarray(self.token_rows(), dtype=np.float32)

    def cut(self, dimensions: int | None) -> StaticTable:
        """Return the table of the first columns, whose vectors have `dimensions` elements.

        Parameters
        ----------
        dimensions : int or None
            1 to D. None, like D, returns the table itself.

        Raises
        ------
        SettingsError
            If the table has fewer columns.

        Notes
        -----
        PCA orders the columns of a distilled table by variance, so the first ones are the best table of their
        number. A model that normalises gives vectors of length 1 again.
        """
        width = check_dimensions(dimensions, self.dimensions)
        if width == self.dimensions:
            return self
        bigrams = None if self.bigrams is None else self.bigrams.shorten(width)
        return replace(self, embeddings=np.ascontiguousarray(self.embeddings[:, :width]), bigrams=bigrams)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in model2vec's ``model.safetensors``."""
        named = {"embeddings": self.embeddings, "weights": self.weights, "mapping": self.mapping}
        return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 hexadecimal digits over everything that changes a vector."""
        head: dict[str, Any] = {
            "scheme": 1,
            "shape": list(self.embeddings.shape),
            "dtype": self.embeddings.dtype.name,
            "normalize": self.normalize,
            "tokenizer": hashlib.sha256(self.tokenizer_json.encode()).hexdigest(),
        }
        # Absent arrays and flags are not named, so plain tables keep the fingerprint of format 1.0.
        for name, array in self.tensors().items():
            if name != "embeddings":
                head[name] = hashlib.sha256(array.data).hexdigest()
        if self.pools_unknown:
            head["pools_unknown"] = True
        if self.position_scale is not None:
            head["position_scale"] = self.position_scale
        if self.bigrams is not None:
            tensors = self.bigrams.tensors().items()
            head["bigrams"] = {name: hashlib.sha256(array.data).hexdigest() for name, array in tensors}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.embeddings).data)
        return f"sha256:{digest.hexdigest()}"


def check_dimensions(dimensions: int | None, width: int) -> int:
    """Return the number of columns to use of `width`; None is all. Raise SettingsError if there are fewer."""
    if dimensions is None:
        return width
    if not 1 <= dimensions <= width:
        raise SettingsError(
            "dimensions",
            got=f"{dimensions:,}",
            expected=f"1 to {width:,}, the width of the model's table",
            remedy="ask for fewer, or take a wider model",
        )
    return dimensions


@contextmanager
def parsing_tokenizer(name: str) -> Iterator[None]:
    """Turn errors of the `tokenizers` library into a `ModelError`: `name` can't be read."""
    try:
        yield
    except LakevecError:
        raise
    except BaseException as error:
        # A panic of Rust is no `Exception`, and its class can't be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{name} can't be read", got=one_line(error)) from None


def check_token_ids(tokenizer: Tokenizer) -> None:
    """Refuse token ids with a gap: the table has one row per token, so the last ids would have none."""
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    if ids and max(ids) >= len(ids):
        raise ModelError(
            "tokenizer has token ids beyond the table's rows",
            got=str(max(ids)),
            expected=f"ids from 0 to {len(ids) - 1}, without a gap",
        )


def find_unknown_token_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the tokenizer's unknown token; None if it has none."""
    model = json.loads(tokenizer.to_str())["model"]
    if "unk_id" in model:  # Unigram records an id, all others a token
        unknown: int | None = model["unk_id"]
        return unknown
    token = model.get("unk_token")
    return tokenizer.token_to_id(token) if token is not None else None


def check_mapping(mapping: np.ndarray, rows: int) -> None:
    """Refuse a mapping to rows that the table doesn't have."""
    if mapping.min() < 0 or mapping.max() >= rows:
        raise ModelError("mapping names rows that the table lacks", expected=f"rows below {rows}")


def _check_arrays(table: StaticTable) -> None:
    embeddings = table.embeddings
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ModelError("embeddings", got=f"shape {embeddings.shape}", expected="(V, D), both at least 1")
    if embeddings.dtype not in (np.float32, np.float16, np.int8):
        raise ModelError("embeddings", got=f"dtype {embeddings.dtype}", expected="float32, float16 or int8")
    _check_values("embeddings", embeddings)
    # If there is a mapping, it determines V.
    for name, array, dtype in (("mapping", table.mapping, np.int32), ("weights", table.weights, np.float32)):
        if array is None:
            continue
        if array.dtype != dtype or array.ndim != 1 or not 0 < len(array) == table.rows:
            got, kind = f"{array.dtype} of shape {array.shape}", dtype.__name__
            raise ModelError(name, got=got, expected=f"{kind} of shape (V,), one for each of V tokens")
    if table.mapping is not None:
        check_mapping(table.mapping, len(embeddings))
    _check_weights("weights", table.weights, embeddings)


def _check_weights(name: str, weights: np.ndarray | None, embeddings: np.ndarray) -> None:
    if weights is None:
        return
    _check_values(name, weights)
    largest = float(np.abs(embeddings.astype(np.float32)).max())
    if float(np.abs(weights).max()) * largest > LARGEST_VALUE:
        raise ModelError("weighted rows hold values beyond 1e30", expected="smaller weights or rows")


def _check_position_scale(table: StaticTable) -> None:
    scale = table.position_scale
    if scale is None:
        return
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not (is_number and 0 < scale <= sys.float_info.max):
        raise ModelError("position_scale", got=repr(scale), expected="a finite number above 0, or None")
    # 8 and 8.0 are the same scale, and must have the same fingerprint.
    object.__setattr__(table, "position_scale", float(scale))


def _check_values(name: str, array: np.ndarray) -> None:
    # max and min propagate NaN, so they find NaN, infinities and values that are too large.
    if not (float(array.max()) <= LARGEST_VALUE and float(array.min()) >= -LARGEST_VALUE):
        raise ModelError(
            f"{name} hold NaN, infinity or values beyond 1e30",
            expected="finite values",
            remedy="distil the model again",
        )
