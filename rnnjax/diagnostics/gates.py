"""Gate saturation: how often the gates of a cell stand open or shut, where no gradient passes through them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.diagnostics.gate_search import gates_of
from rnnjax.diagnostics.system import begin, compiled


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["below", "above", "units_below", "units_above"],
    meta_fields=["where"],
)
@dataclasses.dataclass(frozen=True)
class Saturation:
    """Of one gate: the shares of its activations below the low and above the high threshold, over time, batch and units.

    units_below, units_above ``[*units]``: the same of every unit. where: the line of code that makes the gate.
    """

    below: jax.Array
    above: jax.Array
    units_below: jax.Array
    units_above: jax.Array
    where: str


def gate_saturation(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    low: float = 0.1,
    high: float = 0.9,
) -> dict[str, Saturation]:
    """For every gate the shares of its activations below ``low`` and above ``high`` along ``xs [T, *B, I]``.

    A gate that is shut or open at nearly all steps passes nothing or everything on, and learns nothing: the slope of the sigmoid
    there is below ``low (1 - low)``. One that never saturates forgets a share at each step.

    Gates are found in the program of one step, whatever they are called, for any cell, wrapper, stack or bare function: logistic
    functions of the input or the carry whose result, or one minus it, multiplies something else that varies. So a sigmoid that is
    an activation (``Elman(activation="sigmoid")``), a constant (a learned rate) or half of a ``silu`` is none. Several gates made
    by one sigmoid and then split are several.
    Returns ``{"gate_0": Saturation(below, above, units_below, units_above, where), ...}`` in the order in which the step makes them.
    Errors: ValueError for a cell without such gates, with some inside a loop of its own, for thresholds out of order, or a bare
    function without ``carry``. Source: Karpathy, Johnson, Fei-Fei 2015, arXiv:1506.02078 (the thresholds).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> params["bias"] = params["bias"].at[4:8].set(9.0)               # the update gate: open, so the state is kept
    >>> found = gate_saturation(cell, params, xs)
    >>> [round(float(gate.above), 1) for gate in found.values()]
    [0.0, 1.0]
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"gate_saturation: thresholds must be 0 <= low < high <= 1, got low={low}, high={high}")
    begun = begin("gate_saturation", cell, params, xs, carry)
    one = jax.tree.map(lambda a: a[0], xs)
    names = gates_of(lambda carry, x: call_step(cell, begun.params, carry, x), begun.carry, one)[0]
    if not names:
        raise ValueError(
            f"gate_saturation: {name_of(cell)} has no sigmoid gates: no logistic function of its input or carry multiplies "
            "anything that varies"
        )
    shares = compiled(_shares, cell, (len(begun.batch), low, high), begun.params, begun.carry, xs)
    return {
        f"gate_{i}": Saturation(below.mean(), above.mean(), below, above, where)
        for i, (where, (below, above)) in enumerate(zip(names, shares, strict=True))
    }


def _shares(cell: Any, static: Any, params: Params, carry: Carry, xs: Any) -> list[tuple[jax.Array, jax.Array]]:
    """Of each gate the shares below and above, of every unit: means over time and the batch axes."""
    batch, low, high = static

    def step(carry: Carry, x: Any) -> Any:
        _, values, (carry, _) = gates_of(lambda carry, x: call_step(cell, params, carry, x), carry, x)
        return carry, [(_share(a < low, batch), _share(a > high, batch)) for a in values]

    _, shares = jax.lax.scan(step, carry, xs)
    return jax.tree.map(lambda a: a.mean(0), shares)


def _share(hit: jax.Array, batch: int) -> jax.Array:
    return jnp.mean(hit.astype(jnp.float32), axis=tuple(range(min(batch, hit.ndim))))
