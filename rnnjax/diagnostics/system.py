"""One step as a map of a real vector, ``h' = F(h, x)``: what every look at a network's dynamics is taken of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.online.flat import Layout, is_float, layout
from rnnjax.protocols import OwnStart, input_axes, prepare
from rnnjax.sequence.arguments import one_step, read_steps
from rnnjax.sequence.start import start_carry


class Begun(NamedTuple):
    """Where a run starts. carry: in the types that a loop keeps. batch: its leading axes, of which every sequence has one."""

    params: Params
    carry: Carry
    batch: tuple[int, ...]
    time: int


def begin(owner: str, cell: Any, params: Params, xs: Any, carry: Carry | None) -> Begun:
    """The start of a run over ``xs [T, *B, I]``. Raises ValueError for a bare function without ``carry``."""
    if carry is None and not isinstance(cell, OwnStart):
        raise ValueError(f"{owner}: {name_of(cell)} is a bare function; pass carry=, the carry to start from")
    steps, time = read_steps(cell, xs)
    params = prepare(cell, params, None, one_step(steps).x)
    start, _ = start_carry(cell, params, carry, steps)
    return Begun(params, start, _batch(cell, xs, start), time)


def _batch(cell: Any, xs: Any, carry: Carry) -> tuple[int, ...]:
    """The batch axes of x, where the carry leads with them: a bare function may read a matrix at each step."""
    x = jax.tree.leaves(xs)[0].shape[1:]
    batch = x[: len(x) - min(len(x), input_axes(cell))]
    leads = all(leaf.shape[: len(batch)] == batch for leaf in jax.tree.leaves(carry))
    return tuple(batch) if leads else ()


def floating(owner: str, cell: Any, carry: Carry, batch: tuple[int, ...] = ()) -> Layout:
    """Where each part of the carry lies in a vector. Raises TypeError for a part without a derivative."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if not is_float(leaf):
            raise TypeError(
                f"{owner}: the carry of {name_of(cell)} must be floating point, its part "
                f"{jax.tree_util.keystr(path) or 'itself'} is {jax.numpy.result_type(leaf)} and has no derivative; "
                "hand what counts or chooses in with xs, one value a step"
            )
    return layout(carry, batch)


def vector_step(cell: Any, params: Params, like: Carry, where: Layout) -> Callable[[jax.Array, Any], jax.Array]:
    """``h [*B, d], x -> h'``, the carry as a vector laid out as ``where`` says; complex numbers are two parts."""
    return lambda h, x: where.pack(call_step(cell, params, where.unpack(h, like), x)[0])


def compiled(f: Callable, cell: Any, static: Any, *args: Any) -> Any:
    """``f(cell, static, *args)`` under jit. Compiled once for a frozen cell; anew for a function, whose globals may change."""
    frozen = dataclasses.is_dataclass(cell) and type(cell).__dataclass_params__.frozen  # pyright: ignore
    if frozen:
        return _kept(f, cell, static, *args)
    return jax.jit(functools.partial(f, cell, static))(*args)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _kept(f: Callable, cell: Any, static: Any, *args: Any) -> Any:
    return f(cell, static, *args)
