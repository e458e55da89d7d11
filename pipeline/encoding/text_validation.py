"""Invalid texts: bytes that are not UTF-8, and texts over a limit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NOT_UTF8 = "not valid UTF-8"


def view_as_strings(texts: pa.Array) -> pa.Array:
    """View binary values as strings, without a copy and without a check."""
    if pa.types.is_binary(texts.type):
        return texts.view(pa.string())
    if pa.types.is_large_binary(texts.type):
        return texts.view(pa.large_string())
    return texts.cast(pa.string()) if pa.types.is_binary_view(texts.type) else texts


def find_invalid_texts(texts: pa.Array, *, max_chars: int | None = None) -> dict[str, np.ndarray]:
    """Find texts that can't be embedded, by reason.

    Parameters
    ----------
    texts : pyarrow string array of length N
        May contain bytes that are not UTF-8.
    max_chars : int, optional
        Maximum number of Unicode code points of a text. Default: no limit.

    Returns
    -------
    dict of str to bool ndarray of shape (N,)
        Invalid texts for each reason that occurs.

    Examples
    --------
    >>> find_invalid_texts(pa.array(["short", "too long"]), max_chars=5)
    {'longer than 5 characters': array([False,  True])}
    """
    found = {}
    invalid = find_invalid(texts)
    if invalid is not None:
        found[NOT_UTF8] = invalid
        texts = without(texts, invalid)
    # Count bytes first, which is free: no text has more characters than bytes.
    if max_chars is not None and (pc.max(pc.binary_length(texts)).as_py() or 0) > max_chars:
        length = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
        if (too_long := length > max_chars).any():
            found[f"longer than {max_chars} characters"] = too_long
    return found


def split_invalid(texts: pa.Array, found: dict[str, np.ndarray]) -> tuple[pa.Array, int]:
    """Replace the texts that `find_invalid_texts` found with null; return all texts, and their number."""
    if not found:
        return texts, 0
    invalid = np.logical_or.reduce(list(found.values()))
    return without(texts, invalid), int(invalid.sum())


def find_invalid(values: pa.Array) -> np.ndarray | None:
    """Return which of N values contain invalid UTF-8, at any depth; None if no value does."""
    if not holds_strings(values.type) or _is_valid(values):
        return None
    # Arrow validates the whole buffer of a slice, so check each value.
    if is_string(values.type):
        is_valid = [_is_utf8(value) for value in as_bytes(values)]
    else:
        is_valid = [_is_valid(values.take(pa.array([row]))) for row in range(len(values))]
    invalid = ~np.array(is_valid, dtype=bool)
    return invalid if invalid.any() else None


def is_string(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's three string types."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def holds_strings(kind: pa.DataType) -> bool:
    """Return whether values of a type are strings, or contain some."""
    if pa.types.is_dictionary(kind):
        return holds_strings(kind.value_type)
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return is_string(kind) or any(map(holds_strings, parts))


def without(values: pa.Array, rows: np.ndarray) -> pa.Array:
    """Replace values of any type with null."""
    return values.take(pa.array(np.arange(len(values)), mask=rows))


def as_bytes(values: pa.Array) -> pa.Array:
    """Turn strings into their bytes, at any depth."""
    return values.cast(_bytes_type(values.type)) if holds_strings(values.type) else values


def _bytes_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if not holds_strings(kind):
        return kind
    if pa.types.is_dictionary(kind):
        return _bytes_type(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(_bytes_type(kind.key_type), _bytes_type(kind.item_type))
    if pa.types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([field.with_type(_bytes_type(field.type)) for field in fields])
    if kind.num_fields:
        return pa.list_(kind.value_field.with_type(_bytes_type(kind.value_type)))
    return pa.binary()


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_utf8(value: pa.Scalar) -> bool:
    try:
        (value.as_py() or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
