"""`Stack`: cells on top of one another as one cell."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax.base import Carry, Key, Params, call_step, carry_type, cell, check_params, layer_names
from rnnjax.protocols import input_axes, prepare
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

    def __init__(self, *inside: Any, cells: tuple[Any, ...] = ()) -> None:
        object.__setattr__(self, "cells", inside + tuple(cells))  # by name as `dataclasses.replace` gives them
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
        return layers_input_axes(self.cells)

    def init(self, key: jax.Array, x: Any) -> Params:
        return stack_init(self.cells, key, x)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        parts = []
        for name, inner in zip(layer_names(len(self.cells)), self.cells, strict=True):
            parts.append(inner.initial_carry(params[name], x))
            shape = output_shape(inner, params[name], x)
            x = jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), shape)
        return self.carry_of_layers(tuple(parts))

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        prepared = {}
        for name, inner, k in zip(layer_names(len(self.cells)), self.cells, self.keys_of_layers(key), strict=True):
            prepared[name] = prepare(inner, params[name], k, x)
            x = output_shape(inner, params[name], x)
        return prepared

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        params, carries, keys = self.params_of_layers(params), self.carries_of_layers(carry), self.keys_of_layers(key)
        parts = []
        for inner, *its in zip(self.cells, params, carries, keys, strict=True):
            part, x = call_step(inner, its[0], its[1], x, its[2])
            parts.append(part)
        return self.carry_of_layers(tuple(parts)), x

    def layers_inside(self) -> tuple[Any, ...]:
        return self.cells

    def params_of_layers(self, params: Params) -> tuple[Params, ...]:
        names = layer_names(len(self.cells))
        check_params(self, params, names)
        return tuple(params[name] for name in names)

    def keys_of_layers(self, key: Key) -> tuple[Key, ...]:
        return (None,) * len(self.cells) if key is None else tuple(jax.random.split(key, len(self.cells)))

    def carries_of_layers(self, carry: Carry) -> tuple[Carry, ...]:
        names = layer_names(len(self.cells))
        if getattr(carry, "_fields", None) != names:
            raise TypeError(
                f"{self!r}: carry must be StackCarry({', '.join(names)}), got {type(carry).__name__}; "
                "start from initial_carry(params, x)"
            )
        return tuple(carry)

    def carry_of_layers(self, carries: tuple[Carry, ...]) -> Carry:
        return carry_type("StackCarry", layer_names(len(self.cells)))(*carries)


def layers_input_axes(cells: tuple[Any, ...]) -> int:
    """Axes of one step's input that are no batch axes to one of the layers: every layer's batch axes lead all of them."""
    first, *above = map(input_axes, cells)
    return max(
        [first, *(axes - (first == 0) for axes in above)]
    )  # where tokens come in, layers above see one axis more
