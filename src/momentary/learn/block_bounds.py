"""Upper bounds of 64 scores at once, held in vector registers until they are known.

Compiled loops over arrays keep their sums in memory, so that half of their time goes into fetching
and storing them. These instructions are therefore written down as vectors: a block of sixteen items
is bounded for four queries, or four blocks for one, and all that is looked at afterwards is which
bounds reach what is wanted. LLVM splits the vectors into those that a processor has. Where it
multiplies pairs of 16-bit integers and adds them in one step (AVX2), leading parts may be such
integers: twice as many in a register and in the cache.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped, unused-ignore]
import numba
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16
"""Items of a block; their leading parts lie together, column by column, or by pairs of columns."""
AT_ONCE = 4
"""Queries that share what is read of a block, or blocks that share what is read of a query."""

_READ = ("heads", "leads", "biases", "rests", "missed", "scales", "least", "bounds")
_PLACE, _BIT, _SHORT = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_HALF = LANES // 2
_SUMS, _SHORTS = ir.VectorType(_BIT, _HALF), ir.VectorType(_SHORT, LANES)
_FUSED = ("contract",)  # a product and a sum may be one instruction
_make_array: Any = make_array
_config: Any = numba.config  # without types, as are its helpers for LLVM
_helpers: Any = cgutils


def has_pairs() -> bool:
    """Whether compiled code may multiply and add pairs of 16-bit integers in one step."""
    plain = _config.CPU_NAME is None and _config.CPU_FEATURES is None
    return plain and bool(llvm.get_host_cpu_features().get("avx2"))


class _Writer:
    """Writes instructions that work on sixteen numbers.

    Args:
        builder: LLVM's, where they are written.
    """

    def __init__(self, builder: Any) -> None:  # noqa: ANN401 - LLVM's form, here and below
        self._builder = builder

    def at(self, start: Any, place: Any, kind: Any = _VECTOR) -> Any:  # noqa: ANN401
        """The address of a vector from a place of an array on."""
        address = self._builder.gep(start, [place])
        return self._builder.bitcast(address, kind.as_pointer())

    def read(self, start: Any, place: Any) -> Any:  # noqa: ANN401
        """Sixteen numbers from a place of an array on."""
        return self._builder.load(self.at(start, place), align=4)

    def spread(self, start: Any, place: Any) -> Any:  # noqa: ANN401
        """One number of an array, sixteen times."""
        return self._times(self._builder.load(self._builder.gep(start, [place])), LANES)

    def read_pairs(self, start: Any, place: Any) -> Any:  # noqa: ANN401
        """Eight pairs of integers from a place of an array on."""
        return self._builder.load(self.at(start, place, _SHORTS), align=2)

    def spread_pair(self, start: Any, place: Any) -> Any:  # noqa: ANN401
        """Two integers of an array, eight times."""
        pair = self._builder.load(self.at(start, place, _BIT), align=2)
        return self._builder.bitcast(self._times(pair, _HALF), _SHORTS)

    def _times(self, number: Any, count: int) -> Any:  # noqa: ANN401
        nothing = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
        first = self._builder.insert_element(nothing, number, ir.Constant(_BIT, 0))
        lanes = ir.Constant(ir.VectorType(_BIT, count), [0] * count)
        return self._builder.shuffle_vector(first, nothing, lanes)

    def paired(self, a: Any, b: Any) -> Any:  # noqa: ANN401
        """The sums of the products of eight pairs."""
        kind = ir.FunctionType(_SUMS, [_SHORTS, _SHORTS])
        function = _helpers.get_or_insert_function(
            self._builder.module, kind, "llvm.x86.avx2.pmadd.wd"
        )
        return self._builder.call(function, [a, b])

    def as_floats(self, halves: Any) -> Any:  # noqa: ANN401
        """Two vectors of eight integers as one of sixteen numbers."""
        kind = ir.VectorType(ir.FloatType(), _HALF)
        low, high = (self._builder.sitofp(self._builder.load(each), kind) for each in halves)
        lanes = ir.Constant(ir.VectorType(_BIT, LANES), list(range(LANES)))
        return self._builder.shuffle_vector(low, high, lanes)

    def plus(self, total: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
        """What `total` and a product are together."""
        product = self._builder.fmul(a, b, flags=_FUSED)
        return self._builder.fadd(total, product, flags=_FUSED)

    def kept(self, value: Any) -> Any:  # noqa: ANN401
        """A vector that changes; LLVM finds a register for it."""
        place = _helpers.alloca_once(self._builder, value.type)
        self._builder.store(value, place)
        return place

    def after(self, start: Any, count: int, *, size: Any) -> list[Any]:  # noqa: ANN401
        """Where `count` rows of `size` begin from row `start` on."""
        rows = [self._builder.add(start, ir.Constant(_PLACE, each)) for each in range(count)]
        return [self._builder.mul(each, size) for each in rows]

    def hits(self, totals: list[Any], wanted: list[Any], bounds: Any) -> Any:  # noqa: ANN401
        """Store every total; one bit for each of their numbers, whether it is what is wanted."""
        builder, hits = self._builder, ir.Constant(_PLACE, 0)
        for number, (bound, least) in enumerate(zip(totals, wanted, strict=True)):
            place = ir.Constant(_PLACE, number * LANES)
            builder.store(bound, self.at(bounds, place), align=4)
            reached = builder.fcmp_ordered(">=", bound, least)
            bits = builder.zext(builder.bitcast(reached, ir.IntType(LANES)), _PLACE)
            hits = builder.or_(hits, builder.shl(bits, place))
        return hits


class _Products(_Writer):
    """Writes the products of leading parts.

    Args:
        builder: LLVM's.
        data: Where the arrays begin.
        leading: Columns.
        heads: Where the leading parts of the blocks begin.
        leads: Where those of the queries begin.
    """

    def __init__(
        self,
        builder: Any,  # noqa: ANN401
        data: dict[str, Any],
        leading: Any,  # noqa: ANN401
        *,
        heads: list[Any],
        leads: list[Any],
    ) -> None:
        super().__init__(builder)
        self._data, self._leading = data, leading
        self._heads, self._leads = heads, leads

    def added(self, starts: list[Any]) -> list[Any]:
        """The numbers to begin with and the products of float32, block by block."""
        builder, totals = self._builder, [self.kept(each) for each in starts]
        with _helpers.for_range(builder, self._leading, intp=_PLACE) as loop:
            column = builder.mul(loop.index, ir.Constant(_PLACE, LANES))
            factors = [
                self.spread(self._data["leads"], builder.add(each, loop.index))
                for each in self._leads
            ]
            places = iter(totals)
            for begin in self._heads:
                head = self.read(self._data["heads"], builder.add(begin, column))
                for factor in factors:
                    total = next(places)
                    builder.store(self.plus(builder.load(total), head, factor), total)
        return [builder.load(each) for each in totals]

    def scaled(self, starts: list[Any], scales: list[Any]) -> list[Any]:
        """The same with products of integers, each query's by its own scale."""
        builder, nothing = self._builder, ir.Constant(_SUMS, [0] * _HALF)
        totals = [(self.kept(nothing), self.kept(nothing)) for _ in starts]
        half, two = ir.Constant(_PLACE, LANES), ir.Constant(_PLACE, 2)
        with _helpers.for_range(builder, builder.udiv(self._leading, two), intp=_PLACE) as loop:
            column = builder.mul(loop.index, two)
            first = builder.mul(column, ir.Constant(_PLACE, LANES))
            factors = [
                self.spread_pair(self._data["leads"], builder.add(each, column))
                for each in self._leads
            ]
            places = iter(totals)
            for begin in self._heads:
                start = builder.add(begin, first)
                parts = [
                    self.read_pairs(self._data["heads"], each)
                    for each in (start, builder.add(start, half))
                ]
                for factor in factors:
                    for total, part in zip(next(places), parts, strict=True):
                        more = self.paired(part, factor)
                        builder.store(builder.add(builder.load(total), more), total)
        return [
            self.plus(start, self.as_floats(total), scale)
            for start, total, scale in zip(starts, totals, scales, strict=True)
        ]


def _check(kinds: Any) -> None:  # noqa: ANN401
    read = [kinds.types[kinds.fields.index(name)] for name in _READ]
    parts = {each.dtype for each in read[:2]}
    if any(each.layout != "C" for each in read) or {each.dtype for each in read[2:]} != {
        numba.float32
    }:
        raise TypingError(f"{', '.join(_READ[2:])} must be float32, and all without gaps.")
    if parts not in ({numba.float32}, {numba.int16}):
        raise TypingError("heads and leads must both be float32, or both int16.")


def _arrays(context: Any, *parts: Any) -> dict[str, Any]:  # noqa: ANN401
    """What is read of a named tuple, by name."""
    builder, kinds, search = parts
    found = {}
    for name in _READ:
        place = kinds.fields.index(name)
        value = builder.extract_value(search, place)
        found[name] = _make_array(kinds.types[place])(context, builder, value)
    return found


def _bounded(blocks: int, queries: int) -> Any:  # noqa: ANN401
    """Instructions that bound the scores of `blocks` of items for `queries`."""

    def typed(context: Any, search: Any, block: Any, row: Any) -> Any:  # noqa: ANN401, ARG001, PLR0917
        _check(search)
        return numba.uint64(search, numba.int64, numba.int64), generate

    def generate(*parts: Any) -> Any:  # noqa: ANN401
        context, builder, signature, (search, block, row) = parts
        write, kinds = _Writer(builder), signature.args[0]
        arrays = _arrays(context, builder, kinds, search)
        data = {name: each.data for name, each in arrays.items()}
        leading = builder.extract_value(arrays["leads"].shape, 1)
        lanes = ir.Constant(_PLACE, LANES)
        rows = write.after(row, queries, size=ir.Constant(_PLACE, 1))
        lengths = [write.spread(data["missed"], each) for each in rows]
        starts = []
        for begin in write.after(block, blocks, size=lanes):
            bias, rest = write.read(data["biases"], begin), write.read(data["rests"], begin)
            starts += [write.plus(bias, rest, each) for each in lengths]
        heads = write.after(block, blocks, size=builder.mul(lanes, leading))
        leads = write.after(row, queries, size=leading)
        products = _Products(builder, data, leading, heads=heads, leads=leads)
        if kinds.types[kinds.fields.index("heads")].dtype == numba.float32:
            totals = products.added(starts)
        else:
            scales = [write.spread(data["scales"], each) for each in rows]
            totals = products.scaled(starts, scales * blocks)
        wanted = [write.spread(data["least"], each) for each in rows]
        return write.hits(totals, wanted * blocks, data["bounds"])

    return intrinsic(typed)


bound_four: Any = _bounded(1, AT_ONCE)
"""`bound_four(search, block, row)`: which items of a block reach what four queries want.

One bit for each, the items of the first query first; `search.bounds` takes the bounds in the same
order. `search` is a named tuple with these arrays of float32, among others:

heads: Leading parts of the items. Shape (blocks, leading, 16).
leads: Leading parts of the queries. Shape (queries, leading).
biases, rests: Of the items, and lengths of what the leading parts lack. 16 for each block.
missed: Lengths of what the leading parts of the queries lack. Shape (queries,).
least: What a bound must reach. Shape (queries,).
bounds: Shape (64,).

`heads` and `leads` may be integers of 16 bits where `has_pairs` says so: `heads` has shape (blocks,
leading / 2, 16, 2) then, and `scales`, shape (queries,), says what a product of them stands for.
Sums of products must fit into 32 bits.
"""

bound_one: Any = _bounded(AT_ONCE, 1)
"""The same for one query and the items of four blocks, the items of the first block first."""


def _counted(context: Any, bits: Any) -> Any:  # noqa: ANN401, ARG001 - Numba's form
    """The place of the lowest bit that is set; 64 where none is."""

    def generate(*parts: Any) -> Any:  # noqa: ANN401
        _, builder, _, arguments = parts
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return numba.int64(numba.uint64), generate


lowest_bit: Any = intrinsic(_counted)
