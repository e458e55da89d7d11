"""Vector instructions that add the int8 rows of bigrams to the sums of float rows.

Integers are added exactly, so the order of additions changes no bit. Rows with position weights are added in
float32, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lakevec.pipeline.encoding.kernels.alignment import CACHE_LINE
from lakevec.pipeline.encoding.kernels.simd import STRIP, TILE, prefetch

# Rows are fetched into the processor's cache this many terms before they are added.
_AHEAD = 32
_LANES = 32
_INT = ir.IntType(32)
_BYTES, _SHORTS, _INTS, _FLOATS = (
    ir.VectorType(kind, _LANES) for kind in (ir.IntType(8), ir.IntType(16), _INT, ir.FloatType())
)


def _make_add(columns: int) -> Any:
    """Make an instruction that adds up a number of columns."""

    @intrinsic
    def add_rows(
        _context: Any,
        rows: Any,
        scales: Any,
        ids: Any,
        weights: Any,
        start: Any,
        stop: Any,
        column: Any,
        out: Any,
        text: Any,
    ) -> Any:
        numbers = (types.intp,) * 3
        kind = types.void(rows, scales, ids, weights, *numbers, out, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _Sum(context, builder, signature.args, arguments, columns).generate()
            return context.get_dummy_value()

        return kind, generate

    return add_rows


class _Sum:
    """The code that `add_tile` stands for; arguments are its own."""

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any, columns: int) -> None:
        def data(place: int) -> Any:
            if kinds[place] == types.none:
                return None
            return context.make_array(kinds[place])(context, builder, arguments[place]).data

        rows = context.make_array(kinds[0])(context, builder, arguments[0])
        self._builder, self._columns = builder, columns
        ids = context.make_array(kinds[2])(context, builder, arguments[2])
        self._last_term = builder.sub(ids.nitems, ids.nitems.type(1))
        self._rows, self._scales, self._ids, self._weights, self._out = map(data, (0, 1, 2, 3, 7))
        self._width = cgutils.unpack_tuple(builder, rows.shape)[1]
        self._first, self._last, self._column, self._text = (arguments[place] for place in (4, 5, 6, 8))

    def generate(self) -> None:
        """Add the scaled sum of the rows to the columns of `out`."""
        builder = self._builder
        sums = self._sum_integers() if self._weights is None else self._sum_floats()
        begin = builder.add(builder.mul(self._text, self._width), self._column)
        for part, total in enumerate(sums):
            address = self._vector_at(self._out, begin, part, _FLOATS)
            scales = builder.load(self._vector_at(self._scales, self._column, part, _FLOATS), align=4)
            known = builder.load(address, align=4)
            builder.store(builder.fadd(known, builder.fmul(total, scales)), address, align=4)

    def _sum_integers(self) -> list[Any]:
        """Return the sums of rows, which fit into int16."""
        builder = self._builder
        totals = [self._variable(_SHORTS) for _ in range(self._columns // _LANES)]
        with self._each_term() as index:
            row = self._find(index)
            for part, total in enumerate(totals):
                value = builder.sext(self._load(row, part), _SHORTS)
                builder.store(builder.add(builder.load(total), value), total)
        return [builder.sitofp(builder.load(total), _FLOATS) for total in totals]

    def _sum_floats(self) -> list[Any]:
        """Return the sums of weighted rows, each number rounded to float32."""
        builder = self._builder
        totals = [self._variable(_FLOATS) for _ in range(self._columns // _LANES)]
        with self._each_term() as index:
            row = self._find(index)
            weights = self._repeat(builder.load(builder.gep(self._weights, [index])))
            for part, total in enumerate(totals):
                value = builder.fmul(builder.sitofp(self._load(row, part), _FLOATS), weights)
                builder.store(builder.fadd(builder.load(total), value), total)
        return [builder.load(total) for total in totals]

    @contextmanager
    def _each_term(self) -> Iterator[Any]:
        """Generate a loop over the terms, and fetch the row of a later one."""
        step = self._first.type(1)
        with cgutils.for_range_slice(self._builder, self._first, self._last, step, step.type) as (index, _):
            self._fetch(index)
            yield index

    def _find(self, index: Any) -> Any:
        """Return where the columns of a term's row begin."""
        builder = self._builder
        row = builder.sext(builder.load(builder.gep(self._ids, [index])), self._width.type)
        return builder.add(builder.mul(row, self._width), self._column)

    def _fetch(self, index: Any) -> None:
        """Fetch the row of a later term into the processor's cache."""
        builder = self._builder
        ahead = builder.add(index, index.type(_AHEAD))
        is_inside = builder.icmp_signed("<", ahead, self._last_term)
        begin = self._find(builder.select(is_inside, ahead, self._last_term))
        for offset in range(0, self._columns, CACHE_LINE):
            prefetch(builder, builder.gep(self._rows, [builder.add(begin, begin.type(offset))]))

    def _load(self, begin: Any, part: int) -> Any:
        return self._builder.load(self._vector_at(self._rows, begin, part, _BYTES), align=1)

    def _vector_at(self, base: Any, begin: Any, part: int, kind: Any) -> Any:
        place = self._builder.add(begin, begin.type(part * _LANES))
        return self._builder.bitcast(self._builder.gep(base, [place]), kind.as_pointer())

    def _repeat(self, value: Any) -> Any:
        start = ir.Constant(_FLOATS, ir.Undefined)
        lane = self._builder.insert_element(start, value, _INT(0))
        return self._builder.shuffle_vector(lane, start, ir.Constant(_INTS, [0] * _LANES))

    def _variable(self, kind: Any) -> Any:
        variable = cgutils.alloca_once(self._builder, kind)
        self._builder.store(ir.Constant(kind, [0] * _LANES), variable)
        return variable


# ``add_tile(rows, scales, ids, weights, start, stop, column, out, text)`` sums the int8 rows
# ``ids[start:stop]``, at most 256, for `TILE` columns from `column` on. It adds the sums times `scales`,
# rounded to float32, to the same columns of ``out[text]``. `add_strip` does so for `STRIP` columns. With
# weights, each number times its row's weight is rounded to float32 before the sum.
add_tile, add_strip = _make_add(TILE), _make_add(STRIP)
