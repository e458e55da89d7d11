"""Vector instructions that Numba lacks: classify 64 bytes at once, and sum rows in registers.

LLVM splits its vector types to the width of the processor, so one source serves all processors. The code
fixes the order of all additions, so sums have the same bits on all processors.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lakevec.pipeline.encoding.kernels.alignment import CACHE_LINE

# Bytes that `classify_window` reads.
WINDOW = 64
# Columns that `sum_tile` and `sum_strip` sum. All vector registers of AVX2 together hold 128 floats.
TILE, STRIP = 128, 32
# Columns that are summed at once if rows have weights. With AVX2, more would take a quarter longer.
_WEIGHTED = 64

# Rows are fetched into the processor's cache this many tokens before they are summed.
_TOKENS_AHEAD = 16

_LANES = 16
_MASK, _INT = ir.IntType(64), ir.IntType(32)
_BYTES = ir.VectorType(ir.IntType(8), WINDOW)
_HALVES = ir.VectorType(ir.HalfType(), _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_DOUBLES = ir.VectorType(ir.DoubleType(), _LANES)


@intrinsic
def classify_window(_context: Any, data: Any, position: Any) -> Any:
    """Classify the 64 bytes at a position of a uint8 array; bit i of each mask is byte i.

    Returns
    -------
    tuple of three uint64
        ASCII letters and digits; printable ASCII; space, tab, CR and LF.
    """
    masks = types.UniTuple(types.uint64, 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        window = builder.load(
            builder.bitcast(builder.gep(start, [arguments[1]]), _BYTES.as_pointer()), align=1
        )
        white = reduce(builder.or_, [_is_byte(builder, window, character) for character in " \t\r\n"])
        letters = _is_between(builder, builder.or_(window, _all_bytes(0x20)), "a", "z")
        words = builder.or_(letters, _is_between(builder, window, "0", "9"))
        found = [words, _is_between(builder, window, "!", "~"), white]
        return context.make_tuple(builder, masks, [builder.bitcast(lanes, _MASK) for lanes in found])

    return masks(data, position), generate


def _all_bytes(value: int) -> ir.Constant:
    return ir.Constant(_BYTES, [value] * WINDOW)


def _is_byte(builder: Any, window: Any, character: str) -> Any:
    return builder.icmp_unsigned("==", window, _all_bytes(ord(character)))


def _is_between(builder: Any, window: Any, first: str, last: str) -> Any:
    above = builder.sub(window, _all_bytes(ord(first)))
    return builder.icmp_unsigned("<=", above, _all_bytes(ord(last) - ord(first)))


def _make_sum(columns: int) -> Any:
    """Make an instruction that sums a number of columns."""

    @intrinsic
    def sum_rows(
        _context: Any,
        table: Any,
        ids: Any,
        weights: Any,
        start: Any,
        stop: Any,
        column: Any,
        out: Any,
        text: Any,
    ) -> Any:
        kind = types.void(table, ids, weights, types.intp, types.intp, types.intp, out, types.intp)
        # Products need registers, too, so weighted rows are summed in narrower passes.
        step = columns if weights == types.none else min(columns, _WEIGHTED)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            for shift in range(0, columns, step):
                place = builder.add(arguments[5], arguments[5].type(shift))
                _sum_columns(context, builder, signature, [*arguments[:5], place, *arguments[6:]], step)
            return context.get_dummy_value()

        return kind, generate

    return sum_rows


def _sum_columns(context: Any, builder: Any, signature: Any, arguments: Any, columns: int) -> None:
    """Generate a loop that sums columns in registers; `arguments` are those of `sum_tile`."""
    arrays = [context.make_array(signature.args[place]) for place in (0, 1, 6)]
    rows, tokens, target = (
        make(context, builder, arguments[place]) for make, place in zip(arrays, (0, 1, 6), strict=True)
    )
    first, last, place, line = (arguments[number] for number in (3, 4, 5, 7))
    width = cgutils.unpack_tuple(builder, rows.shape)[1]
    last_token = builder.sub(tokens.nitems, first.type(1))
    size = signature.args[0].dtype.bitwidth // 8

    def find_row(index: Any) -> Any:
        token = builder.sext(builder.load(builder.gep(tokens.data, [index])), width.type)
        return builder.add(builder.mul(token, width), place)

    sums = [_variable(builder, _FLOATS) for _ in range(columns // _LANES)]
    with cgutils.for_range_slice(builder, first, last, first.type(1), first.type) as (index, _):
        ahead = builder.add(index, index.type(_TOKENS_AHEAD))
        is_inside = builder.icmp_signed("<", ahead, last_token)
        row = find_row(builder.select(is_inside, ahead, last_token))
        for offset in range(0, columns, CACHE_LINE // size):
            prefetch(builder, builder.gep(rows.data, [builder.add(row, row.type(offset))]))
        row = find_row(index)
        factor = _load_weight(context, builder, signature.args[2], arguments[2], index)
        factors = factor and _repeat(builder, factor)
        for part, lanes in enumerate(sums):
            value = _load_floats(builder, rows.data, row, part)
            value = builder.fmul(value, factors) if factors else value
            builder.store(builder.fadd(builder.load(lanes), value), lanes)
    begin = builder.add(builder.mul(line, width), place)
    for part, lanes in enumerate(sums):
        builder.store(builder.load(lanes), _vector_at(builder, target.data, begin, part), align=4)


def _load_weight(context: Any, builder: Any, kind: Any, weights: Any, index: Any) -> Any:
    """Load a float32 of an array; return None if there is no array."""
    if kind == types.none:
        return None
    return builder.load(builder.gep(context.make_array(kind)(context, builder, weights).data, [index]))


def _repeat(builder: Any, value: Any) -> Any:
    """Return a vector with the value in all lanes."""
    start, zero = ir.Constant(_FLOATS, ir.Undefined), ir.IntType(32)(0)
    lane = builder.insert_element(start, value, zero)
    return builder.shuffle_vector(lane, start, ir.Constant(ir.VectorType(_INT, _LANES), [0] * _LANES))


def _load_floats(builder: Any, base: Any, index: Any, part: int) -> Any:
    """Load a vector from an array of float32, or of float16 in int16."""
    address = _vector_at(builder, base, index, part)
    if base.type.pointee != ir.IntType(16):
        return builder.load(address, align=4)
    halves = builder.load(builder.bitcast(address, _HALVES.as_pointer()), align=2)
    return builder.fpext(halves, _FLOATS)


@intrinsic
def fetch_element(_context: Any, array: Any, index: Any) -> Any:
    """Fetch an element of an array into the processor's cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        prefetch(builder, builder.gep(data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def line_size(_context: Any, array: Any) -> Any:
    """Return how many elements of an array fill a cache line, as a constant for the compiler."""
    count = 8 * CACHE_LINE // array.dtype.bitwidth

    def generate(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return context.get_constant(types.int64, count)

    return types.int64(array), generate


@intrinsic
def find_key(_context: Any, keys: Any, start: Any, key: Any) -> Any:
    """Compare a cache line's numbers but the last, of a uint32 or uint64 array from `start` on, with a key.

    Returns
    -------
    uint64
        Place of the first equal number after `start`; that of the last number if there is none.
    """
    kind = types.uint64(keys, types.uint64, types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        number = data.type.pointee
        count = 8 * CACHE_LINE // number.width
        lanes = ir.VectorType(number, count)
        bucket = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), lanes.as_pointer()), align=4)
        start = ir.Constant(lanes, ir.Undefined)
        key = arguments[2] if number == _MASK else builder.trunc(arguments[2], number)
        first = builder.insert_element(start, key, _INT(0))
        zeros = ir.Constant(ir.VectorType(_INT, count), [0] * count)
        repeated = builder.shuffle_vector(first, start, zeros)
        equal = builder.bitcast(builder.icmp_unsigned("==", bucket, repeated), ir.IntType(count))
        # The bit of the last number ends the count.
        mask = builder.or_(builder.zext(equal, _MASK), _MASK(1 << (count - 1)))
        return builder.cttz(mask, ir.IntType(1)(1))

    return kind, generate


@intrinsic
def load_float(_context: Any, table: Any, row: Any, column: Any, weights: Any, position: Any) -> Any:
    """Load an element of a table of float32, or of float16 in int16, as float32, times a weight.

    The weight is ``weights[position]``; there is none if `weights` is None.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = cgutils.unpack_tuple(builder, rows.shape)[1]
        index = builder.add(builder.mul(arguments[1], width), arguments[2])
        value = builder.load(builder.gep(rows.data, [index]))
        if value.type == ir.IntType(16):
            value = builder.fpext(builder.bitcast(value, ir.HalfType()), ir.FloatType())
        factor = _load_weight(context, builder, signature.args[3], arguments[3], arguments[4])
        return builder.fmul(value, factor) if factor else value

    return types.float32(table, types.int64, types.int64, weights, types.int64), generate


def prefetch(builder: Any, address: Any) -> None:
    """Fetch an address's cache line for reading, to stay in all levels of the cache."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(address, byte), _INT(0), _INT(3), _INT(1)])


# ``sum_tile(table, ids, weights, start, stop, column, out, text)`` adds up the rows ``ids[start:stop]`` in
# order, for `TILE` columns from `column` on. The sums go into the same columns of ``out[text]``. `sum_strip`
# does so for `STRIP` columns. Each row counts ``weights[start:stop]`` times, and the product is rounded to
# float32 before it is added. If `weights` is None, the compiled loop has no multiplication.
sum_tile, sum_strip = _make_sum(TILE), _make_sum(STRIP)


@intrinsic
def sum_squares(_context: Any, vectors: Any, text: Any, columns: Any) -> Any:
    """Sum the squares of a row's first columns in float64; `columns` is a multiple of `STRIP`.

    There are `STRIP` partial sums, since each addition to a single sum would wait for the one before. They
    are added in a fixed order at the end.
    """
    kind = types.float64(vectors, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = cgutils.unpack_tuple(builder, rows.shape)[1]
        begin = builder.mul(arguments[1], width)
        last, step = arguments[2], arguments[2].type(STRIP)
        sums = [_variable(builder, _DOUBLES) for _ in range(STRIP // _LANES)]
        with cgutils.for_range_slice(builder, step.type(0), last, step, step.type) as (index, _):
            for part, lanes in enumerate(sums):
                address = _vector_at(builder, rows.data, builder.add(begin, index), part)
                value = builder.fpext(builder.load(address, align=4), _DOUBLES)
                builder.store(builder.fadd(builder.load(lanes), builder.fmul(value, value)), lanes)
        total = ir.Constant(ir.DoubleType(), 0.0)
        lanes = builder.fadd(builder.load(sums[0]), builder.load(sums[1]))
        for lane in range(_LANES):
            total = builder.fadd(total, builder.extract_element(lanes, ir.IntType(32)(lane)))
        return total

    return kind, generate


def _variable(builder: Any, kind: Any) -> Any:
    """Make a vector of zeros that the loop may change; LLVM keeps it in registers."""
    variable = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, [0.0] * _LANES), variable)
    return variable


def _vector_at(builder: Any, base: Any, index: Any, part: int) -> Any:
    """Return the address of a vector of floats in an array: `part` vectors after an index."""
    place = builder.add(index, index.type(part * _LANES))
    return builder.bitcast(builder.gep(base, [place]), _FLOATS.as_pointer())
