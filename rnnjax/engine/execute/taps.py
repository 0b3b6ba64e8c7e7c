"""Taps at work: added to the loop's values, and made outside the loop for all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import _jax
from rnnjax.engine.deferral import BILINEAR, Tap, Taps, Terms, Use
from rnnjax.engine.execute.batch import run_stacked
from rnnjax.engine.execute.batchable import push_forward
from rnnjax.engine.execute.convolution import run_linear, run_smooth
from rnnjax.engine.graph import Eqn, Var, is_float, is_var, read, variables


@jax.custom_jvp
def tapped(value: jax.Array, tap: jax.Array) -> jax.Array:
    """`value`, whose tangent is that of `value` plus that of `tap`."""
    del tap
    return value


@tapped.defjvp
def _tapped_jvp(primals, tangents):
    return primals[0], tangents[0] + tangents[1]


def run_tapped(loop: Sequence[Eqn], taps: Taps, env: dict, held: dict, tap: dict[Var, jax.Array]) -> None:
    """Run the loop's equations with taps; uses and sums read constants and hoisted values from `held`."""
    for eqn in loop:
        served = taps.served.get(eqn, ())
        values = [held[a] if is_var(a) and a in served else read(env, a) for a in eqn.ins]
        out = run_smooth(eqn, values)
        env.update({v: tapped(r, tap[v]) if v in tap else r for v, r in zip(eqn.outs, out, strict=True)})


def use_tangents(use: Use, env: dict[Var, Any], dot: dict[Var, Any], stacked: set[Var]) -> dict[Var, Any]:
    """Tangents of the outputs of a use, and of its pieces, for tangents `dot` of its constants, all steps at once."""
    eqn = use.eqn
    over = [is_var(a) and a in stacked for a in eqn.ins]
    if eqn.name in BILINEAR:
        ins = [dot[a] if is_var(a) and a in dot else read(env, a) for a in eqn.ins]
        place = next(n for n, a in enumerate(eqn.ins) if is_var(a) and a in dot)
        out = run_stacked(eqn, ins, over, partial(run_linear, place=place))
    else:
        out = other_tangents(eqn, env, dot, over)
    found = dict(zip(eqn.outs, out, strict=True))
    if use.split is not None:
        found.update(zip(use.pieces, run_stacked(use.split, out, [True]), strict=True))
    return found


def other_tangents(eqn: Eqn, env: dict[Var, Any], dot: dict[Var, Any], over: list[bool]) -> list[Any]:
    """Tangents of any equation for tangents of its constants; None for integers."""
    names = [v for v in dict.fromkeys(variables(eqn.ins)) if v in dot]
    floats = [n for n, v in enumerate(eqn.outs) if is_float(v)]

    def of(values):
        inner = {**env, **dict(zip(names, values, strict=True))}
        out = run_stacked(eqn, [read(inner, a) for a in eqn.ins], over)
        return [out[n] for n in floats]

    out = push_forward(of, ([env[v] for v in names],), ([dot[v] for v in names],), [eqn])
    found = dict(zip(floats, out, strict=True))
    return [found.get(n) for n in range(len(eqn.outs))]


def make_tap(tap: Tap, tangent: Callable[[Var], Any], steps: int) -> jax.Array:
    """The tap for all `steps` at once. `tangent` gives that of a source, time first (of size 1 where it is the same at each
    step) and of the point's rank, or None where there is none."""
    parts = signed(tap.terms, tangent)
    columns = [signed(column, tangent) for column in tap.columns]
    for time in dict.fromkeys(d.shape[0] for column in columns for d in column):
        parts.append(side_by_side([[d for d in column if d.shape[0] == time] for column in columns], tap))
    return jnp.broadcast_to(total(parts), (steps, *tap.point.shape))


def signed(terms: Terms, tangent: Callable[[Var], Any]) -> list[Any]:
    """The tangents of the terms that have one, with their signs."""
    found = [(sign, tangent(v)) for sign, v in terms]
    return [d if sign > 0 else -d for sign, d in found if d is not None]


def total(parts: list[Any]) -> Any:
    """The sum of one or more arrays."""
    whole = parts[0]
    for part in parts[1:]:
        whole = jnp.add(whole, part)
    return whole


def side_by_side(columns: list[list[Any]], tap: Tap) -> jax.Array:
    """The sums of the columns along the tap's axis, zeros where a column is empty."""
    axis = tap.axis + 1  # after time
    parts = [d for column in columns for d in column]
    lead = [(*d.shape[:axis], 1, *d.shape[axis + 1 :]) for d in parts]
    shape = jnp.broadcast_shapes(*lead)
    shapes = [(*shape[:axis], size, *shape[axis + 1 :]) for size in tap.sizes]
    zero = jnp.zeros((), tap.point.dtype)
    filled = [jnp.broadcast_to(total(c) if c else zero, n) for c, n in zip(columns, shapes, strict=True)]
    like = max(parts, key=lambda d: d.size)
    return jnp.concatenate([_jax.place_as(f, like) for f in filled], axis)
