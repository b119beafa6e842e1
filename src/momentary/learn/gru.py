"""The gated recurrent unit (Cho et al., EMNLP 2014), with gradients that go back one step.

With input x, memory h and the gates in the order r, z, n (W = [W_r; W_z; W_n] and so on):

    r = sigmoid(W_r x + U_r h + b_r + c_r)
    z = sigmoid(W_z x + U_z h + b_z + c_z)
    m = U_n h + c_n
    n = tanh(W_n x + b_n + r m)
    h' = (1 - z) n + z h

h is taken as given, so no gradient flows into it. With d the gradient by h', the gradients by the
arguments of the three functions, which are also those by b, are

    by n's: a_n = d (1 - z) (1 - n^2)
    by z's: a_z = d (h - n) z (1 - z)
    by r's: a_r = a_n m r (1 - r)

and c has the same, except r a_n for n. Then W' = [a]^T x, U' = [a with r a_n]^T h, x' = [a] W.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from momentary.learn.arithmetic import kernel, product, sigmoid, tanh
from momentary.types import FloatArray

_ONE = np.float32(1)


class Cell:
    """The weights of one layer.

    Attributes:
        w: Shape (3 units, width), or (0, units) when the input is the gates' own.
        u: Shape (3 units, units).
        b: Shape (3 units,).
        c: Shape (3 units,).
    """

    def __init__(self, *, w: FloatArray, u: FloatArray, b: FloatArray, c: FloatArray) -> None:
        self.w, self.u, self.b, self.c = w, u, b, c

    @classmethod
    def random(cls, *, width: int, units: int, rng: np.random.Generator) -> Cell:
        """A new layer; a width of 0 makes one whose input is the gates' own."""
        gates = [glorot(units, width, rng) for _ in range(3)] if width else []
        return cls(
            w=np.concatenate(gates) if gates else np.zeros((0, units), dtype=np.float32),
            u=np.concatenate([glorot(units, units, rng) for _ in range(3)]),
            b=np.zeros(3 * units, dtype=np.float32),
            c=np.zeros(3 * units, dtype=np.float32),
        )

    def copy(self) -> Cell:
        """The same weights in arrays of their own."""
        return Cell(w=self.w.copy(), u=self.u.copy(), b=self.b.copy(), c=self.c.copy())

    def parameters(self) -> dict[str, FloatArray]:
        """Name to array; a layer that is fed gate inputs has no w."""
        named = {"w": self.w, "u": self.u, "b": self.b, "c": self.c}
        return {name: array for name, array in named.items() if len(array)}

    def step(self, inputs: FloatArray, hidden: FloatArray) -> FloatArray:
        """One click, outside training: (batch, width) and (batch, units) to (batch, units)."""
        units = hidden.shape[1]
        if len(hidden) == 1:
            # BLAS and NumPy take longer to be called than one visit takes.
            after = np.empty_like(hidden)
            sources = (np.ascontiguousarray(inputs[0]), np.ascontiguousarray(hidden[0]))
            _step_one((self.w, self.u, self.b, self.c), sources, after[0])
            return after
        from_input = (inputs @ self.w.T if len(self.w) else inputs) + self.b
        from_hidden = hidden @ self.u.T + self.c
        both = slice(0, 2 * units)  # sigmoid(x) = (1 + tanh(x / 2)) / 2 never overflows
        gates = np.tanh((from_input[:, both] + from_hidden[:, both]) * 0.5) * 0.5 + 0.5
        r, z = gates[:, :units], gates[:, units:]
        n = np.tanh(from_input[:, 2 * units :] + r * from_hidden[:, 2 * units :])
        stepped: FloatArray = n + z * (hidden - n)
        return stepped


@kernel
def _step_one(
    weights: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    sources: tuple[FloatArray, FloatArray],
    after: FloatArray,
) -> None:
    w, u, b, c = weights
    x, hidden = sources
    units = len(hidden)
    for j in range(units):
        gates = b[j], b[units + j], b[2 * units + j]
        if len(w) > 0:
            gates = (
                gates[0] + product(w[j], x),
                gates[1] + product(w[units + j], x),
                gates[2] + product(w[2 * units + j], x),
            )
        else:
            gates = gates[0] + x[j], gates[1] + x[units + j], gates[2] + x[2 * units + j]
        r = sigmoid(gates[0] + product(u[j], hidden) + c[j])
        z = sigmoid(gates[1] + product(u[units + j], hidden) + c[units + j])
        n = tanh(gates[2] + r * (product(u[2 * units + j], hidden) + c[2 * units + j]))
        after[j] = n + z * (hidden[j] - n)


def glorot(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Glorot's uniform initial weights (Glorot & Bengio, AISTATS 2010)."""
    bound = np.float32((6.0 / (rows + columns)) ** 0.5)
    return rng.random((rows, columns), dtype=np.float32) * (2 * bound) - bound


class PassArrays(NamedTuple):
    """A `CellPass` as compiled code sees it: the weights, their gradients, and what a pass holds.

    Attributes:
        gates: First the gates' arguments, then r, z, n, then the gradients. (batch, 3 units).
        memory: U h + c in the same way. Shape (batch, 3 units).
        by_inputs: Shape (batch, width).
    """

    w: FloatArray
    u: FloatArray
    b: FloatArray
    c: FloatArray
    by_w: FloatArray
    by_u: FloatArray
    by_b: FloatArray
    by_c: FloatArray
    hidden: FloatArray
    after: FloatArray
    gates: FloatArray
    memory: FloatArray
    by_inputs: FloatArray


class CellPass:
    """Room for one layer's way there and back with a batch of a given size; reused every step.

    Attributes:
        hidden: h; filled by the caller. Shape (batch, units).
        after: h' after `forward`. Shape (batch, units).
        gradients: By parameter name, after `backward`.
    """

    def __init__(self, cell: Cell, batch: int) -> None:
        units = len(cell.c) // 3
        self.cell = cell
        self.hidden = np.empty((batch, units), dtype=np.float32)
        self.after = np.empty((batch, units), dtype=np.float32)
        self.gradients = {name: np.empty_like(a) for name, a in cell.parameters().items()}
        self.arrays = PassArrays(
            w=cell.w,
            u=cell.u,
            b=cell.b,
            c=cell.c,
            by_w=self.gradients.get("w", np.empty_like(cell.w)),
            by_u=self.gradients["u"],
            by_b=self.gradients["b"],
            by_c=self.gradients["c"],
            hidden=self.hidden,
            after=self.after,
            gates=np.empty((batch, 3 * units), dtype=np.float32),
            memory=np.empty((batch, 3 * units), dtype=np.float32),
            by_inputs=np.empty((batch, cell.w.shape[1]), dtype=np.float32),
        )
        self._inputs = np.empty((batch, 0), dtype=np.float32)

    def forward(self, inputs: FloatArray) -> FloatArray:
        """Step from `hidden`; the result is `after`."""
        self._inputs = inputs
        go_there(self.arrays, inputs)
        return self.after

    def backward(self, by_after: FloatArray) -> FloatArray:
        """From the gradient by `after` to `gradients` and, returned, that by the inputs."""
        go_back(self.arrays, self._inputs, by_after)
        return self.arrays.by_inputs if len(self.cell.w) else self.arrays.gates


@kernel
def go_there(layer: PassArrays, inputs: FloatArray) -> None:
    """Step from `hidden` to `after`."""
    if len(layer.w) > 0:
        np.dot(inputs, layer.w.T, layer.gates)
    else:
        layer.gates[:] = inputs
    np.dot(layer.hidden, layer.u.T, layer.memory)
    _forward(layer.gates, layer.memory, layer.hidden, b=layer.b, c=layer.c, after=layer.after)


@kernel
def go_back(layer: PassArrays, inputs: FloatArray, by_after: FloatArray) -> None:
    """From the gradient by `after` to those by the weights and by the inputs.

    A layer that is fed gate inputs leaves the gradient by them in `gates`.
    """
    _backward(
        layer.gates, layer.memory, layer.hidden, by_after=by_after, b=layer.by_b, c=layer.by_c
    )
    np.dot(layer.memory.T, layer.hidden, layer.by_u)
    if len(layer.w) > 0:
        np.dot(layer.gates.T, inputs, layer.by_w)
        np.dot(layer.gates, layer.w, layer.by_inputs)


@kernel
def _forward(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    gates: FloatArray,
    memory: FloatArray,
    hidden: FloatArray,
    b: FloatArray,
    c: FloatArray,
    after: FloatArray,
) -> None:
    """Replace the products W x and U h by r, z, n and by (.., .., m); write h'."""
    units = hidden.shape[1]
    b_n, c_n = b[2 * units :], c[2 * units :]
    for i in range(len(gates)):
        both, from_both = gates[i, : 2 * units], memory[i, : 2 * units]
        for j in range(len(both)):
            both[j] += b[j] + (from_both[j] + c[j])
        for j in range(len(both)):
            both[j] = sigmoid(both[j])
        r, z, n = gates[i, :units], gates[i, units : 2 * units], gates[i, 2 * units :]
        m, h, h_after = memory[i, 2 * units :], hidden[i], after[i]
        for j in range(units):
            m[j] += c_n[j]
        for j in range(units):
            n[j] += b_n[j] + r[j] * m[j]
        for j in range(units):
            n[j] = tanh(n[j])
        for j in range(units):
            h_after[j] = n[j] + z[j] * (h[j] - n[j])


@kernel
def _backward(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    gates: FloatArray,
    memory: FloatArray,
    hidden: FloatArray,
    by_after: FloatArray,
    b: FloatArray,
    c: FloatArray,
) -> None:
    """Replace r, z, n by a_r, a_z, a_n and the memory's part by a_r, a_z, r a_n; sum into b, c."""
    units = hidden.shape[1]
    b[:] = np.float32(0)
    c[:] = np.float32(0)
    for i in range(len(gates)):
        r, z, n = gates[i, :units], gates[i, units : 2 * units], gates[i, 2 * units :]
        by_r, by_z, m = memory[i, :units], memory[i, units : 2 * units], memory[i, 2 * units :]
        d, h = by_after[i], hidden[i]
        # A loop writes one array: so the compiler sees that it may take many numbers at once.
        for j in range(units):
            by_z[j] = d[j] * (_ONE - z[j])
        for j in range(units):
            z[j] *= by_z[j] * (h[j] - n[j])
        for j in range(units):
            n[j] = by_z[j] * (_ONE - n[j] * n[j])
        for j in range(units):
            by_r[j] = n[j] * m[j] * r[j] * (_ONE - r[j])
        for j in range(units):
            m[j] = r[j] * n[j]
        r[:] = by_r
        by_z[:] = z
        _add_to(b, gates[i])
        _add_to(c, memory[i])


@kernel
def _add_to(sums: FloatArray, row: FloatArray) -> None:
    for j in range(len(sums)):
        sums[j] += row[j]
