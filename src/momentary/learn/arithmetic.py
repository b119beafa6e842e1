"""What the compiled kernels of this room share: how they are compiled, and fast functions.

Numba's own `exp` is a call into the C library for each number. The one here is plain arithmetic,
so that a loop over it becomes vector instructions on any machine.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from momentary.types import FloatArray

# Sums may be taken in any order, which lets a loop keep one partial sum for each vector lane.
# NaN and infinity keep their meaning, so that a training run which diverges still says so.
# A kernel is inlined into those that call it: else which of its compiled copies runs, and so the
# last bit of a sum, depends on whether this process compiled it or found it compiled.
kernel = numba.njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "arcp", "nsz"},
    forceinline=True,
)
"""Decorator of a kernel that works on arrays."""

# No reassociation here: the argument is reduced in two steps whose order carries the accuracy.
_function = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True
)
_comparison = numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz"}, forceinline=True)

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that its product with n is exact
_LN2_LOW = np.float32(-2.12194440054690583e-4)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)  # exp stays a normal float32
_TAYLOR = tuple(np.float32(1.0 / factor) for factor in (5040, 720, 120, 24, 6, 2))
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)


def _bits_to_float(typing_context: Any, bits: Any) -> Any:  # noqa: ANN401, ARG001 - Numba's form
    """The float32 whose 32 bits are those of an int32."""

    def generate(*parts: Any) -> Any:  # noqa: ANN401
        context, builder, signature, arguments = parts
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return numba.float32(numba.int32), generate


_float_from_bits: Any = intrinsic(_bits_to_float)


@_function
def exp(x: np.float32) -> np.float32:
    """e^x to about 2e-7 of its value; -87 and 88 bound what is told apart.

    With n the nearest integer to x / ln 2 and f = x - n ln 2, e^x = 2^n e^f, where |f| <= 0.35
    leaves the Taylor series of degree 7 an error of 5e-9, and 2^n is written as bits.
    """
    bounded = _LOWEST if x < _LOWEST else x
    bounded = _HIGHEST if bounded > _HIGHEST else bounded
    n = np.floor(bounded * _LOG2_E + _HALF)
    f = bounded - n * _LN2_HIGH
    f = f - n * _LN2_LOW
    series = _TAYLOR[0]
    series = series * f + _TAYLOR[1]
    series = series * f + _TAYLOR[2]
    series = series * f + _TAYLOR[3]
    series = series * f + _TAYLOR[4]
    series = series * f + _TAYLOR[5]
    series = series * f + _ONE
    series = series * f + _ONE
    power: np.float32 = _float_from_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    value: np.float32 = series * power
    return value


@_function
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e^-x)."""
    return _ONE / (_ONE + exp(-x))


@_function
def tanh(x: np.float32) -> np.float32:
    """2 sigmoid(2 x) - 1."""
    return _TWO / (_ONE + exp(-_TWO * x)) - _ONE


@_comparison
def largest(a: np.float32, b: np.float32) -> np.float32:
    """The larger of two numbers, as one vector instruction; not for NaN."""
    return a if a > b else b


@kernel
def product(a: FloatArray, b: FloatArray) -> np.float32:
    """The scalar product of two vectors of one width."""
    total = np.float32(0)
    for place in range(len(a)):
        total += a[place] * b[place]
    return total


@kernel
def softmax(scores: FloatArray, size: np.float32) -> None:
    """Turn scores, -inf among them, into shares of `size`, in place. Shape (scores,)."""
    top = scores[0]
    for i in range(1, len(scores)):
        top = largest(top, scores[i])
    total = np.float32(0)
    for i in range(len(scores)):
        scores[i] = exp(scores[i] - top)
        total += scores[i]
    share = size / total
    for i in range(len(scores)):
        scores[i] *= share


ROWS_AHEAD = 6
"""How far ahead of the work rows of a table are best asked for."""
_FLOATS_A_LINE = 16  # of a cache line, 64 bytes on nearly every machine


def _ask_for_line(typing_context: Any, array: Any, place: Any) -> Any:  # noqa: ANN401, ARG001
    """Ask for the cache line of the number at a flat place of an array, without waiting."""

    def generate(*parts: Any) -> Any:  # noqa: ANN401
        context, builder, signature, arguments = parts
        data = _make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        for_writing, keep_near, is_data = (ir.Constant(word, value) for value in (1, 3, 1))
        builder.call(function, [address, for_writing, keep_near, is_data])
        return context.get_dummy_value()

    return numba.void(array, place), generate


_make_array: Any = make_array
_prefetch: Any = intrinsic(_ask_for_line)


@kernel
def prefetch_row(table: FloatArray, row: int) -> None:
    """Bring a row near while other rows are worked on; `table` is stored without gaps."""
    width = table.shape[1]
    for place in range(row * width, (row + 1) * width, _FLOATS_A_LINE):
        _prefetch(table, place)
