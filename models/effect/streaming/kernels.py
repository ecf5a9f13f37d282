"""Parts of the compiled loops: sums of products kept in registers, and activation functions.

Import it only where something is played: numba takes a second to import. The compiled code is not cached on disk,
because an installation may not be writable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import unwrap
from typing import Any, Final

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

TILE: Final = 64
"""Numbers that are summed at once: 8 registers of 8, enough to hide the latency of an addition."""
LANES: Final = 16

WIDTH, OUTPUTS = (TILE, 4) if get_host_cpu_features().get("avx512f") else (TILE // 2, 2)
"""A convolution sums so many numbers of so many outputs at once: 16 of 32 wide registers hold the sums, or 8 of 16."""

ROWS: Final = 4 if get_host_cpu_features().get("avx512f") else 2
"""Rows of each of two arrays whose products are summed at once."""

# tanh x = x P(x^2) / Q(x^2) for |x| <= 9, beyond which tanh is 1 to float32's last bit: least squares on 4000 Chebyshev
# nodes, reweighted until the largest errors were level, at 1.8e-8 in float64; 3.2e-7 as float32 computes it.
_P: Final = tuple(np.float32(c) for c in (0.9999999064, 0.1337319896, 3.486583367e-3, 2.047185353e-5, 1.318425325e-8))
_Q: Final = tuple(np.float32(c) for c in (1.0, 0.4670649583, 0.02584198488, 3.271387744e-4, 7.702676048e-7))
_P0, _P1, _P2, _P3, _P4 = _P
_Q0, _Q1, _Q2, _Q3, _Q4 = _Q
_EDGE: Final = np.float32(9)
_HALF: Final = np.float32(0.5)


def compiled(function: Any) -> Any:
    """A function that numba compiles when it is first called; it cannot make arrays, so it is given those it fills.

    Without numba's counts of references: each slice of an array would raise and lower one atomically, which was a third
    of a WaveNet's time. The caller holds all arrays in any case.
    """
    options: Any = {"fastmath": True, "boundscheck": False, "error_model": "numpy", "nogil": True, "_nrt": False}
    # The compiler cannot read the type checks that tests wrap around each function.
    return njit(**options)(unwrap(function))


def generated(function: Any) -> Any:
    return intrinsic(unwrap(function))


@compiled
def tanh(x: np.float32) -> np.float32:
    x = min(max(x, -_EDGE), _EDGE)
    t = x * x
    p = (((_P4 * t + _P3) * t + _P2) * t + _P1) * t + _P0
    q = (((_Q4 * t + _Q3) * t + _Q2) * t + _Q1) * t + _Q0
    return x * (p / q)


@compiled
def sigmoid(x: np.float32) -> np.float32:
    return _HALF + _HALF * tanh(_HALF * x)


class _Code:
    """LLVM's code of a function: its arguments, vectors of LANES numbers, and a loop that adds to some of them."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self.builder = context, builder
        self._types, self._arguments = signature.args, arguments
        self.vector = ir.VectorType(ir.FloatType(), LANES)
        self._multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fmuladd.v{LANES}f32"
        )

    def number(self, value: int) -> Any:
        return ir.IntType(64)(value)

    def whole(self, place: int) -> Any:
        """The argument of a place, a whole number."""
        return self._context.cast(self.builder, self._arguments[place], self._types[place], types.int64)

    def begin(self, array: int, at: int) -> Any:
        """Where the numbers of an array argument begin, after as many as another argument has."""
        data = self._context.make_array(self._types[array])(self._context, self.builder, self._arguments[array]).data
        return self.builder.gep(data, [self.whole(at)])

    def load(self, base: Any, offset: Any) -> Any:
        loaded = self.builder.load(self._place(base, offset))
        loaded.align = 4
        return loaded

    def multiply_add(self, one: Any, other: Any, total: Any) -> Any:
        return self.builder.call(self._multiply_add, [one, other, total])

    def add(self, base: Any, offsets: Sequence[Any], count: Any, terms: Callable[[Any, list[Any]], list[Any]]) -> Any:
        """Add to the vectors at offsets, which stay in registers.

        Args:
            base, offsets: of the vectors in memory.
            count: of the loop's turns, at least one.
            terms: gives code for the new sums from the number of the turn and the sums before it.
        """
        builder = self.builder
        first = [self.load(base, offset) for offset in offsets]
        before = builder.block
        loop, after = builder.append_basic_block("terms"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        turn = builder.phi(ir.IntType(64))
        sums = [builder.phi(self.vector) for _ in offsets]
        added = terms(turn, sums)
        following = builder.add(turn, self.number(1))
        turn.add_incoming(self.number(0), before)
        turn.add_incoming(following, loop)
        for total, start, new in zip(sums, first, added, strict=True):
            total.add_incoming(start, before)
            total.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        for offset, total in zip(offsets, added, strict=True):
            builder.store(total, self._place(base, offset)).align = 4
        return self._context.get_dummy_value()

    def _place(self, base: Any, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [offset]), self.vector.as_pointer())


def _sums(outputs: int, width: int, convolves: bool = False) -> Any:
    """What generates the code of sums of products: of so many outputs at once, `width` numbers of each.

    Its arguments are arrays, taken as flat float32, and where each begins, in numbers: `rows`, at `rows_at`, each a
    stride after the one before; x, at `x_at`, each a step after the one before; y at `y_at`. The x of one output is
    `x_apart` after that of the output before, its y `y_apart`. Of a convolution two arguments follow: after so many
    rows come the same ones so many numbers later, those of the next tap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        rows, x, y = code.begin(0, 1), code.begin(3, 4), code.begin(7, 8)
        stride, step, count = code.whole(2), code.whole(5), code.whole(6)
        x_apart, y_apart = (code.whole(9), code.whole(10)) if outputs > 1 else (code.number(0), code.number(0))
        parts = [code.number(part) for part in range(0, width, LANES)]
        undefined = ir.Constant(code.vector, ir.Undefined)
        first_lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        if convolves:
            inputs, tap_apart = code.whole(11), code.whole(12)
            back = builder.sub(tap_apart, builder.mul(stride, builder.sub(inputs, code.number(1))))
            place, channel = (cgutils.alloca_once_value(builder, code.number(0)) for _ in range(2))

        def row_of(turn: Any) -> Any:
            if not convolves:
                return builder.mul(turn, stride)
            row, following = builder.load(place), builder.add(builder.load(channel), code.number(1))
            last = builder.icmp_signed("==", following, inputs)
            builder.store(builder.add(row, builder.select(last, back, stride)), place)
            builder.store(builder.select(last, code.number(0), following), channel)
            return row

        def terms(turn: Any, sums: list[Any]) -> list[Any]:
            row, added = row_of(turn), []
            loaded = [code.load(rows, builder.add(row, part)) for part in parts]
            for one in range(outputs):
                at = builder.add(builder.mul(turn, step), builder.mul(x_apart, code.number(one)))
                term = builder.insert_element(undefined, builder.load(builder.gep(x, [at])), ir.IntType(32)(0))
                every = builder.shuffle_vector(term, undefined, first_lane)
                totals = sums[one * len(parts) : (one + 1) * len(parts)]
                added += [code.multiply_add(*three) for three in zip(loaded, [every] * len(parts), totals, strict=True)]
            return added

        offsets = [
            builder.add(builder.mul(y_apart, code.number(one)), part) for one in range(outputs) for part in parts
        ]
        return code.add(y, offsets, count, terms)

    return generate


@generated
def add_product(
    _: Any, rows: Any, rows_at: Any, stride: Any, x: Any, x_at: Any, step: Any, count: Any, y: Any, y_at: Any
) -> Any:
    """y[:TILE] += the sum over j < count of rows[j * stride : j * stride + TILE] * x[j * step].

    The arrays are taken as flat float32 and begin at `rows_at`, `x_at` and `y_at`; y stays in registers all the while.
    LLVM's own vectoriser keeps y in memory between the terms, which takes 1.5 times as long (measured on AVX2).
    """
    return types.void(rows, rows_at, stride, x, x_at, step, count, y, y_at), _sums(1, TILE)


def _convolves(outputs: int, width: int) -> Any:
    @generated
    def convolve(
        _: Any, rows: Any, rows_at: Any, stride: Any, x: Any, x_at: Any, step: Any, count: Any, y: Any, y_at: Any,
        x_apart: Any, y_apart: Any, inputs: Any, tap_apart: Any,
    ) -> Any:  # fmt: skip
        given = rows, rows_at, stride, x, x_at, step, count, y, y_at, x_apart, y_apart, inputs, tap_apart
        return types.void(*given), _sums(outputs, width, convolves=True)

    return convolve


_one, _two, _three, _four = _convolves(1, TILE), _convolves(2, WIDTH), _convolves(3, WIDTH), _convolves(4, WIDTH)


@compiled
def add_convolution(
    rows: Any, at: int, stride: int, inputs: int, tap_apart: int, weights: Any, first: int, terms: int, y: Any,
    y_at: int, y_apart: int, outputs: int,
) -> None:  # fmt: skip
    """y[c, :TILE] += the sum over taps k and inputs i of weights[c, k, i] * rows[i, k * tap_apart :][:TILE].

    The arrays are taken as flat float32. Row i begins at `at` + i * stride, the `terms` weights of output c at `first`
    + c * terms, y of c at `y_at` + c * y_apart. Each number of rows is loaded once for as many outputs as the registers
    hold sums of; each sum is the same whatever their number, bit for bit.
    """
    for c in range(0, outputs, OUTPUTS):
        x_at, to, several = first + c * terms, y_at + c * y_apart, min(OUTPUTS, outputs - c)
        if several == 1:
            _one(rows, at, stride, weights, x_at, 1, terms, y, to, 0, 0, inputs, tap_apart)
            continue
        for part in range(0, TILE, WIDTH):
            begin, into = at + part, to + part
            if several == 2:
                _two(rows, begin, stride, weights, x_at, 1, terms, y, into, terms, y_apart, inputs, tap_apart)
            elif several == 3:
                _three(rows, begin, stride, weights, x_at, 1, terms, y, into, terms, y_apart, inputs, tap_apart)
            else:
                _four(rows, begin, stride, weights, x_at, 1, terms, y, into, terms, y_apart, inputs, tap_apart)


def _row_products(rows: int) -> Any:
    """What generates the code of sums of products of so many rows of x with as many rows of y, lane by lane.

    Its arguments are arrays, taken as flat float32, and where each begins, in numbers: x at `x_at`, each row `x_apart`
    after the one before, y alike; `sums` at `sums_at`, those of the next row of x `apart` after, and of y `apart_y`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        x_apart, y_apart, count, apart, apart_y = (code.whole(place) for place in (2, 5, 6, 9, 10))
        x_rows, y_rows = (
            [builder.gep(base, [builder.mul(step, code.number(row))]) for row in range(rows)]
            for base, step in ((code.begin(0, 1), x_apart), (code.begin(3, 4), y_apart))
        )

        def terms(turn: Any, sums: list[Any]) -> list[Any]:
            at = builder.mul(turn, code.number(LANES))
            some, others = ([code.load(row, at) for row in each] for each in (x_rows, y_rows))
            return [code.multiply_add(some[n // rows], others[n % rows], total) for n, total in enumerate(sums)]

        offsets = [
            builder.add(builder.mul(apart, code.number(one)), builder.mul(apart_y, code.number(other)))
            for one in range(rows)
            for other in range(rows)
        ]
        return code.add(code.begin(7, 8), offsets, count, terms)

    return generate


def _adds_row_products(rows: int) -> Any:
    @generated
    def add_row_products(
        _: Any, x: Any, x_at: Any, x_apart: Any, y: Any, y_at: Any, y_apart: Any, count: Any, sums: Any, sums_at: Any,
        apart: Any, apart_y: Any,
    ) -> Any:  # fmt: skip
        """sums[r, s] += x[r] * y[s], lane by lane, over `count` times LANES numbers of each row."""
        return types.void(x, x_at, x_apart, y, y_at, y_apart, count, sums, sums_at, apart, apart_y), _row_products(rows)

    return add_row_products


add_row_product, add_row_products = _adds_row_products(1), _adds_row_products(ROWS)
