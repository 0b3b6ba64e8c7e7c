"""`Stack`: cells on top of one another as one cell."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax.base import Carry, Key, Params, call_step, carry_type, cell, check_params, layer_names, prepare
from rnnjax.wrappers.around import check_cell


def stack_init(cells: tuple[Any, ...], key: jax.Array, x: Any) -> Params:
    """Parameters of cells on top of one another, each made for the output of the one below."""
    params = {}
    for name, inner, k in zip(layer_names(len(cells)), cells, jax.random.split(key, len(cells)), strict=True):
        params[name] = inner.init(k, x)
        x = output_shape(inner, params[name], x)
    return params


def output_shape(cell: Any, params: Params, x: Any) -> Any:
    """The shape of one step's output for one step's input ``x``, as a ShapeDtypeStruct."""

    def step(params: Params, x: Any) -> Any:
        return call_step(cell, params, cell.initial_carry(params, x), x)[1]

    return jax.eval_shape(step, params, x)


@cell
class Stack:
    """Cells on top of one another as one cell: the output of each is the input of the next.

    ``carry^l, x^{l+1} = cell^l(params^l, carry^l, x^l)`` for l = 0 .. L-1; ``y = x^L``.

    cells: L cells, from the input up. params: ``{"layer_0": ..., "layer_1": ...}``.
    carry: NamedTuple ``StackCarry(layer_0, layer_1, ...)``. y: that of the last cell.
    `rnnjax.unroll` runs a stack layer by layer over the whole sequence, which gives the same numbers.
    Keys are split among the layers. Errors: TypeError unless there is at least one cell.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Stack(rj.LSTM(4), rj.GRU(5)), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs)
    >>> carry.layer_1.shape, ys.shape
    ((2, 5), (7, 2, 5))
    """

    cells: tuple[Any, ...]

    def __init__(self, *cells: Any) -> None:
        object.__setattr__(self, "cells", cells)
        self.__post_init__()

    def __post_init__(self) -> None:
        if not self.cells:
            raise TypeError("Stack: takes one or more cells, Stack(LSTM(8), LSTM(8)), got none")
        for inner in self.cells:
            check_cell("Stack", inner)

    def __repr__(self) -> str:
        return f"Stack({', '.join(map(repr, self.cells))})"

    @property
    def input_ndim(self) -> int:
        return getattr(self.cells[0], "input_ndim", 1)

    def init(self, key: jax.Array, x: Any) -> Params:
        return stack_init(self.cells, key, x)

    def _carry(self, parts: Any) -> Carry:
        return carry_type("StackCarry", layer_names(len(self.cells)))(*parts)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        parts = []
        for name, inner in zip(layer_names(len(self.cells)), self.cells, strict=True):
            parts.append(inner.initial_carry(params[name], x))
            shape = output_shape(inner, params[name], x)
            x = jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), shape)
        return self._carry(parts)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        keys = [None] * len(self.cells) if key is None else jax.random.split(key, len(self.cells))
        prepared = {}
        for name, inner, k in zip(layer_names(len(self.cells)), self.cells, keys, strict=True):
            prepared[name] = prepare(inner, params[name], k, x)
            x = output_shape(inner, params[name], x)
        return prepared

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        keys = [None] * len(self.cells) if key is None else jax.random.split(key, len(self.cells))
        self._check(params, carry)
        parts = []
        for name, inner, part, k in zip(layer_names(len(self.cells)), self.cells, carry, keys, strict=True):
            part, x = call_step(inner, params[name], part, x, k)
            parts.append(part)
        return self._carry(parts), x

    def _check(self, params: Params, carry: Carry) -> None:
        names = layer_names(len(self.cells))
        check_params(self, params, names)
        if getattr(carry, "_fields", None) != names:
            raise TypeError(
                f"{self!r}: carry must be StackCarry({', '.join(names)}), got {type(carry).__name__}; "
                "start from initial_carry(params, x)"
            )

    def unroll_layers(self, params: Params, carry: Carry | None, steps: Any, roll: Any) -> tuple[Carry, Any]:
        """Each layer over the whole sequence in turn: the same numbers, and every layer's input products in one."""
        count = len(self.cells)
        given = [None] * count if carry is None else list(carry)
        if len(given) != count:
            raise ValueError(f"{self!r}: carry must have {count} parts, one a layer, got {len(given)}")
        keys = [None] * count if steps.key is None else split_each(steps.key, count)
        parts, xs = [], steps.x
        for name, inner, part, k in zip(layer_names(count), self.cells, given, keys, strict=True):
            part, xs = roll(inner, params[name], part, steps._replace(x=xs, key=k))
            parts.append(part)
        return self._carry(parts), xs


def split_each(keys: jax.Array, count: int) -> list[jax.Array]:
    """Per-step keys ``[T]`` split for ``count`` parts, as each step would: ``count`` arrays of ``T`` keys."""
    split = jax.vmap(lambda k: jax.random.split(k, count))(keys)
    return [split[:, i] for i in range(count)]
