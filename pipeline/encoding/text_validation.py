"""Texts that can't be embedded as they are: bytes that are no text, and texts over a limit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NOT_UTF8 = "not valid UTF-8"


def view_as_strings(texts: pa.Array) -> pa.Array:
    """Look at binary values as text, without a copy and without a check.

    Parameters
    ----------
    texts : pyarrow.Array of length N
        Strings or binary.

    Returns
    -------
    pyarrow string array of length N
    """
    if pa.types.is_binary(texts.type):
        return texts.view(pa.string())
    if pa.types.is_large_binary(texts.type):
        return texts.view(pa.large_string())
    return texts.cast(pa.string()) if pa.types.is_binary_view(texts.type) else texts


def find_invalid_texts(texts: pa.Array, *, max_chars: int | None = None) -> dict[str, np.ndarray]:
    """Find texts that can't be embedded.

    Parameters
    ----------
    texts : pyarrow string array of length N
        Perhaps with bytes that are no UTF-8.
    max_chars : int, optional
        Most Unicode code points of a text; by default any number.

    Returns
    -------
    dict of str to bool ndarray of shape (N,)
        Which texts are bad, by reason; nothing for a reason that nothing is bad for.

    Examples
    --------
    >>> find_invalid_texts(pa.array(["short", "too long"]), max_chars=5)
    {'longer than 5 characters': array([False,  True])}
    """
    found = {}
    invalid = _invalid(texts)
    if invalid.any():
        found[NOT_UTF8] = invalid
        texts = pc.if_else(pa.array(invalid), pa.scalar(None, texts.type), texts)
    # No text has more characters than bytes, and bytes are counted for nothing.
    if max_chars is not None and (pc.max(pc.binary_length(texts)).as_py() or 0) > max_chars:
        length = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
        if (too_long := length > max_chars).any():
            found[f"longer than {max_chars} characters"] = too_long
    return found


def find_invalid(values: pa.Array) -> np.ndarray | None:
    """Find values that hold strings which are not UTF-8, at any depth.

    Parameters
    ----------
    values : pyarrow.Array of length N
        Of any type.

    Returns
    -------
    bool ndarray of shape (N,), or None
        None where every string is valid.
    """
    if not holds_strings(values.type):
        return None
    try:
        values.validate(full=True)
        return None
    except pa.ArrowInvalid:
        pass
    # A slice would be validated with all that lies beside it.
    invalid = np.array(
        [not _is_valid(values.take(pa.array([row]))) for row in range(len(values))], dtype=bool
    )
    return invalid if invalid.any() else None


def holds_strings(kind: pa.DataType) -> bool:
    """Say whether values of a type are strings, or hold some.

    Parameters
    ----------
    kind : pyarrow.DataType

    Returns
    -------
    bool
    """
    if pa.types.is_dictionary(kind):
        return holds_strings(kind.value_type)
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_string) or any(map(holds_strings, parts))


def without(values: pa.Array, rows: np.ndarray) -> pa.Array:
    """Put null in place of some values, whatever their type.

    Parameters
    ----------
    values : pyarrow.Array of length N
    rows : bool ndarray of shape (N,)

    Returns
    -------
    pyarrow.Array of length N
    """
    return values.take(pa.array(np.arange(len(values)), mask=rows))


def as_bytes(values: pa.Array) -> pa.Array:
    """Write strings as the bytes that they are, at any depth.

    Parameters
    ----------
    values : pyarrow.Array of length N

    Returns
    -------
    pyarrow.Array of length N
    """
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


def _invalid(texts: pa.Array) -> np.ndarray:
    """Say which texts are not UTF-8; a sound array is checked as a whole, which is fast."""
    invalid = np.zeros(len(texts), dtype=bool)
    wide = pa.types.is_large_string(texts.type)
    raw = (
        texts.view(pa.large_binary() if wide else pa.binary())
        if not _is_view(texts)
        else texts.cast("binary")
    )
    try:
        raw.cast(pa.large_string() if wide else pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(raw):
            try:
                (value.as_py() or b"").decode()
            except UnicodeDecodeError:
                invalid[row] = True
    return invalid


def _is_view(texts: pa.Array) -> bool:
    return bool(pa.types.is_string_view(texts.type))
