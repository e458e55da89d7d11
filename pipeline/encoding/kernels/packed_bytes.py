"""Eight bytes of a text in one unsigned integer: load, lowercase, hash, store.

Notes
-----
The arithmetic on all eight bytes at once ("SWAR") follows H. S. Warren, *Hacker's Delight*, ch. 6.
The first byte is the lowest, so processors with another byte order are refused at import.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lakevec.pipeline.encoding.kernels.compilation import compile_part

if sys.byteorder != "little":
    raise ImportError("lakevec reads texts eight bytes at a time and needs a little-endian processor")

# 2**64 divided by the golden ratio, odd: neighbouring keys land far apart (Knuth, TAOCP vol. 3, 6.4).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TOP_BITS = np.uint64(0x8080808080808080)
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_CASE_BITS = np.uint64(0x2020202020202020)


@intrinsic
def load_word(_context: Any, array: Any, index: Any) -> Any:
    """Load eight bytes of a uint8 array from any position."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]])
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, index), generate


def _make_store(kind: Any) -> Any:
    """Make an instruction that writes an integer into a uint8 array, low bytes first."""

    @intrinsic
    def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            address = builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer())
            number = arguments[2]
            builder.store(builder.trunc(number, kind) if number.type != kind else number, address, align=1)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.uint64), generate

    return store


# Write one byte, or eight, at any position. The array may be read-only: one type means one compilation.
put_byte, store_word = _make_store(ir.IntType(8)), _make_store(ir.IntType(64))


@intrinsic
def trailing_zeros(_context: Any, value: Any) -> Any:
    """Return the index of the lowest bit that is set; 64 if none is."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), generate


@intrinsic
def leading_zeros(_context: Any, value: Any) -> Any:
    """Return the number of bits above the highest one that is set; 64 if none is."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), generate


@compile_part
def lower_letters(word: int) -> int:
    """Lowercase the ASCII letters of a word."""
    lowered = (word & _LOW_BITS) | _CASE_BITS
    from_a = lowered + np.uint64(0x1F1F1F1F1F1F1F1F)
    past_z = lowered + np.uint64(0x0505050505050505)
    # The top bit of each byte that is a letter.
    letters = from_a & ~past_z & ~word & _TOP_BITS
    return word | (letters >> np.uint64(2))


@compile_part
def keep_bytes(word: int, count: int) -> int:
    """Keep the first `count` bytes, and set the others to zero."""
    if count < 8:
        word = word & ((np.uint64(1) << np.uint64(8 * count)) - np.uint64(1))
    return word


@compile_part
def add_word(value: int, word: int) -> int:
    """Add eight bytes to a hash."""
    value = (value ^ word) * _GOLDEN
    return value ^ (value >> np.uint64(29))


@compile_part
def slot_of(signature: int, slots: int) -> int:
    """Return the first slot to probe for a key; `slots`, their number, is a power of two."""
    mixed = np.uint64(signature) * _GOLDEN
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(slots - 1))
