"""Structs in Thrift's compact protocol, in which Parquet stores its footers and page headers.

Neither pyarrow nor Thrift's Python package offers footers without generated classes. Values are kept as they
were stored, also those of fields that nobody here knows, so an unchanged struct is encoded to the same bytes.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

# Types of values. A boolean field has no value of its own: its type is the value.
_TRUE, _FALSE, _I8, _I16 = 1, 2, 3, 4
I32, I64, _DOUBLE, BINARY, LIST, _SET, STRUCT = 5, 6, 7, 8, 9, 10, 12

# Fields by number, each with its type. A list is the type of its items and the items.
Struct = dict[int, tuple[int, Any]]


def decode(data: bytes) -> Struct:
    """Decode the struct at the beginning of `data`.

    Raises
    ------
    ValueError
        If `data` ends too early, or has a type that Parquet doesn't use.

    Examples
    --------
    >>> decode(bytes.fromhex("150b191c28016100 00"))
    {1: (5, -6), 2: (9, (12, [{2: (8, b'a')}]))}
    """
    try:
        return _Decoder(data).struct()
    except IndexError:
        raise ValueError("a Thrift struct ends too early") from None


def encode(fields: Struct) -> bytes:
    """Encode a struct.

    Examples
    --------
    >>> encode({1: (I32, -6), 2: (LIST, (STRUCT, [{2: (BINARY, b"a")}]))}).hex()
    '150b191c2801610000'
    """
    out, last = [], 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - last
        is_near = 0 < step < 16
        out.append(bytes([step << 4 | kind]) if is_near else bytes([kind]) + _signed(number))
        out.append(_value(kind, value))
        last = number
    return b"".join(out) + b"\0"


def varint(value: int) -> bytes:
    """Encode a number of at least 0, seven bits a byte, lowest first.

    Examples
    --------
    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Decoder:
    """A position in encoded values."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[number] = kind, kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_I16, I32, I64):
            return self._signed()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            return head & 15, [self._value(head & 15) for _ in range(size)]
        if kind in (_TRUE, _FALSE, _I8):  # in a list, booleans are bytes
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        raise ValueError(f"Thrift type {kind} is unknown")

    def _signed(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]


def _value(kind: int, value: Any) -> bytes:
    """Encode what `_Decoder` decodes."""
    if kind in (_TRUE, _FALSE):
        return b""
    if kind in (_I16, I32, I64):
        return _signed(value)
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return encode(value)
    if kind in (LIST, _SET):
        item_kind, items = value
        size = len(items)
        head = bytes([size << 4 | item_kind]) if size < 15 else bytes([0xF0 | item_kind]) + varint(size)
        stored = _I8 if item_kind in (_TRUE, _FALSE) else item_kind
        return head + b"".join(_value(stored, item) for item in items)
    return bytes([value]) if kind == _I8 else bytes(value)


def _signed(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)
