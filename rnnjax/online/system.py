"""A cell as a function of real vectors, one sequence at a time where a batch is one, with its plan."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import call_step, name_of
from rnnjax.online.cut import cut
from rnnjax.online.flat import Layout, is_float, layout
from rnnjax.online.plan import Plan, make_plan
from rnnjax.online.structure import pattern, reads
from rnnjax.protocols import OwnStart, input_axes, prepare

REACH = {
    "rtrl": None,
    "snap1": 1,
    "snap2": 2,
    "eprop": None,
}  # for how many steps entries of the influence come to be kept
METHODS = (*REACH, "uoro")


@dataclasses.dataclass(frozen=True)
class System:
    """params, carry: where their numbers lie. batch: the axes over which sequences are apart; () where they are one system."""

    cell: Any
    method: str
    params: Layout
    carry: Layout
    batch: tuple[int, ...]
    plan: Plan | None

    def over_batch(self, f: Callable, *mapped: bool) -> Callable:
        """``f`` of one sequence for all of them; mapped: which arguments have the batch axes."""
        for _ in self.batch:
            f = jax.vmap(f, in_axes=tuple(0 if m else None for m in mapped))
        return f

    def outer(self, params: Any, carry: Any, x: Any, key: Any, keys: Any) -> tuple[Any, Any]:
        """One step as `rnnjax.unroll` makes it."""
        carry_types = jax.tree.map(jnp.result_type, carry)
        new, y = call_step(self.cell, prepare(self.cell, params, keys, x), carry, x, key)
        return jax.tree.map(lambda a, d: jnp.asarray(a).astype(d), new, carry_types), y

    def inner(self, *args: Any) -> tuple[Any, Any]:
        """The same step, for derivatives by the carry."""
        return cut(self.outer)(*args) if self.method == "eprop" else self.outer(*args)

    def flat_step(self, step: Callable, params: Any, carry: Any) -> Callable:
        """``(params [P], carry [d], x, key, keys) -> carry [d]``; x without batch axes, which the step sees as axes of size one."""
        ones = (1,) * len(self.batch)

        def flat(w: jax.Array, h: jax.Array, x: Any, key: Any, keys: Any) -> jax.Array:
            single = jax.tree.map(lambda a: jnp.reshape(a, (*ones, *a.shape)), x)
            new, _ = step(
                self.params.unpack(w, params), self.carry.unpack(jnp.reshape(h, (*ones, -1)), carry), single, key, keys
            )
            return self.carry.pack(new).reshape(-1)

        return flat


def system(cell: Any, method: str, params: Any, carry: Any, x: Any, key: Any) -> System:
    """The system of these shapes; made once for each."""
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), (params, carry, x, key))
    leaves, structure = jax.tree.flatten(args)
    types = tuple((a.shape, a.dtype) for a in leaves)
    try:
        hash(cell)
    except TypeError:
        return _make(cell, method, structure, types)
    return _made(cell, method, structure, types, jax.config.jax_enable_x64)


@functools.lru_cache(maxsize=128)
def _made(cell: Any, method: str, structure: Any, types: Any, _: bool) -> System:
    return _make(cell, method, structure, types)


def _make(cell: Any, method: str, structure: Any, types: Any) -> System:
    params, carry, x, key = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*t) for t in types])
    _check(cell, params, carry)
    batch = _batch_axes(cell, carry, x)
    whole = System(cell, method, layout(params), layout(carry), (), None)
    batch = batch if batch and _sequences_are_apart(whole, params, carry, x, key, batch) else ()
    apart = System(cell, method, layout(params), layout(carry, batch), batch, None)
    return apart if method == "uoro" else dataclasses.replace(apart, plan=_plan(apart, params, carry, x, key))


def _check(cell: Any, params: Any, carry: Any) -> None:
    for what, tree in (("params", params), ("carry", carry)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not is_float(leaf):
                raise TypeError(
                    f"{name_of(cell)}: online learning needs floating point {what}, got {leaf.dtype} at "
                    f"{what}{jax.tree_util.keystr(path)}, which has no derivative; "
                    + ("close over it" if what == "params" else "use rj.unroll and jax.grad")
                )


def _batch_axes(cell: Any, carry: Any, x: Any) -> tuple[int, ...]:
    leaves = jax.tree.leaves(x)
    shape = leaves[0].shape if leaves else ()
    batch = shape[: max(0, len(shape) - input_axes(cell))]
    return batch if all(a.shape[: len(batch)] == batch for a in jax.tree.leaves((carry, x))) else ()


def _types(s: System, params: Any, carry: Any, x: Any, key: Any) -> tuple:
    """What a flat step of one sequence takes."""
    vector = lambda at: jax.ShapeDtypeStruct((at.size,), at.dtype)
    single = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[len(s.batch) :], a.dtype), x)
    return vector(s.params), vector(s.carry), single, key, key


def _sequences_are_apart(s: System, params: Any, carry: Any, x: Any, key: Any, batch: tuple[int, ...]) -> bool:
    """Whether no sequence of the batch depends on another, and none on noise, which is drawn for all of them together."""
    if math.prod(batch) < 2:
        return False  # nothing to tell it by, and nothing to gain
    types = _types(s, params, carry, x, key)
    first = np.zeros(batch, bool)
    first[(0,) * len(batch)] = True
    one = lambda dtype: 1 + 1j if jnp.issubdtype(dtype, jnp.complexfloating) else 1.0
    mark = lambda a: one(a.dtype) * np.broadcast_to(first.reshape(*batch, *(1,) * (a.ndim - len(batch))), a.shape)
    with jax.ensure_compile_time_eval():
        seed = np.asarray(s.carry.pack(jax.tree.map(mark, carry)), bool)
    _, by_carry, *by_x = reads(s.flat_step(s.outer, params, carry), *types, seed=seed)
    by_keys = by_x[len(jax.tree.leaves(x)) :]
    by_x = [np.any(a.reshape(*batch, -1), axis=-1) for a in by_x[: len(jax.tree.leaves(x))]]
    return not ((by_carry & ~seed).any() or any((a & ~first).any() for a in by_x) or any(a.any() for a in by_keys))


def _plan(s: System, params: Any, carry: Any, x: Any, key: Any) -> Plan:
    types = _types(s, params, carry, x, key)
    direct = pattern(s.flat_step(s.outer, params, carry), *types, of=(0,))[0]
    by_carry = pattern(s.flat_step(s.inner, params, carry), *types, of=(1,))[0]
    start = None
    if isinstance(s.cell, OwnStart):
        w, _, single, *_ = types
        begin = pattern(flat_start(s, params), w, single, key, of=(0,))[0]
        start = begin if begin.nnz else None
    return make_plan(direct, by_carry, start, REACH[s.method])


def flat_start(s: System, params: Any) -> Callable:
    """``(params [P], x, keys) -> carry [d]``: the cell's own start."""
    ones = (1,) * len(s.batch)

    def flat(w: jax.Array, x: Any, keys: Any) -> jax.Array:
        single = jax.tree.map(lambda a: jnp.zeros((*ones, *a.shape), a.dtype), x)
        inner = prepare(s.cell, s.params.unpack(w, params), keys, single)
        return s.carry.pack(s.cell.initial_carry(inner, single)).reshape(-1)

    return flat
