"""Several slices of one array -> one split.

a[:, :H], a[:, H:]  ->  split(a)
"""

from __future__ import annotations

import dataclasses

from rnnjax import _jax
from rnnjax.engine.binding_times import BindingTime
from rnnjax.engine.graph import (
    Eqn,
    Graph,
    Var,
    is_var,
    part_shape,
    split_eqn,
)


def slice_range(eqn: Eqn) -> tuple[Var, int, int, int] | None:
    """(array, axis, start, stop) of a slice along one axis with stride one."""
    if eqn.name != "slice" or not is_var(eqn.ins[0]):
        return None
    start, stop, strides = _jax.slice_bounds(eqn.params)
    shape = eqn.ins[0].shape
    axes = [d for d, n in enumerate(shape) if (start[d], stop[d]) != (0, n)]
    if len(axes) != 1 or any(s != 1 for s in strides):
        return None
    return eqn.ins[0], axes[0], start[axes[0]], stop[axes[0]]


def slices_to_splits(graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> Graph:
    """`split` transposes to one concatenate, `slice` to a pad and an add."""
    found: dict[tuple[Var, int], list[tuple[int, int, Eqn]]] = {}
    for eqn in graph.eqns:
        if (at := slice_range(eqn)) is not None:
            found.setdefault(at[:2], []).append((at[2], at[3], eqn))
    replaced: dict[Eqn, Eqn | None] = {}
    for (var, axis), slices in found.items():
        slices.sort(key=lambda s: s[:2])
        apart = all(a[1] <= b[0] for a, b in zip(slices, slices[1:], strict=False))
        if len(slices) < 2 or not apart or any(a == b for a, b, _ in slices):
            continue
        cuts = sorted({0, var.shape[axis], *(c for s in slices for c in s[:2])})
        outs = [var.reshaped(part_shape(var, axis, b - a)) for a, b in zip(cuts, cuts[1:], strict=False)]
        for start, _, eqn in slices:
            outs[cuts.index(start)] = eqn.outs[0]
            replaced[eqn] = None
        first = next(e for e in graph.eqns if e in {s[2] for s in slices})
        replaced[first] = split_eqn(var, [v.shape[axis] for v in outs], axis, outs)
    eqns = [new for e in graph.eqns if (new := replaced.get(e, e)) is not None]
    return dataclasses.replace(graph, eqns=eqns)
