"""`over_devices`: one long sequence split over devices by its steps, for cells linear in time."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnnjax.base import Carry, Key, Params, name_of
from rnnjax.protocols import CarryAround, InChunks, OneInside, SeveralLayers, is_linear
from rnnjax.sequence.methods.newton import read_run
from rnnjax.sequence.options import Options
from rnnjax.sequence.peel import roll
from rnnjax.sequence.run import Run
from rnnjax.sequence.step import zero_invalid


def over_devices(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    mesh: Mesh,
    axis: str,
    carry: Carry | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    key: Key = None,
) -> tuple[Carry, Any]:
    """`rnnjax.unroll` of a cell linear in time, the steps split over ``axis`` of ``mesh``: ``(carry, ys)``, ys split likewise.

    Each of n devices runs T / n steps: it composes their maps into one, the n maps are gathered (the one exchange between devices, of the
    size of a carry, for each layer), and each device starts from the carry that those before it make. Params are whole everywhere.
    cell, params, xs ``[T, *B, I]``, carry, lengths, mask, reset, key: as in `rnnjax.unroll`; T a multiple of n. Gradients as always.
    Errors: ValueError for a T that n does not divide, an axis that the mesh lacks, and, by name, for cells that are not linear in time,
    whose state is a matrix (their map of a whole chunk is larger still), or that a wrapper changes the carry of.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs, mesh = rj.LRU(4), jnp.ones((8, 3)), jax.make_mesh((1,), ("time",))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> run = jax.jit(lambda params, xs: rj.parallel.over_devices(cell, params, xs, mesh=mesh, axis="time"))
    >>> carry, ys = run(params, xs)
    >>> bool(jnp.allclose(ys, rj.unroll(cell, params, xs)[1], atol=1e-5))
    True
    """
    _check(cell, xs, mesh, axis, key is not None)
    its = read_run(cell, params, xs, carry, key, lengths=lengths, mask=mask, reset=reset)

    def part(params: Params, start: Carry, fresh: Carry, steps: Any) -> Any:
        rolled = roll(Run(cell, cell, params, start, fresh, steps), Options("associative", over=axis))
        return rolled.last, rolled.ys

    whole, split = PartitionSpec(), PartitionSpec(axis)
    places = (whole, whole, whole, split)
    args = (its.params, its.start, its.fresh, its.steps)
    args = tuple(jax.device_put(a, NamedSharding(mesh, place)) for a, place in zip(args, places, strict=True))
    run = jax.shard_map(part, mesh=mesh, in_specs=places, out_specs=(whole, split), check_vma=False)
    last, ys = run(*args)
    return last, zero_invalid(cell, ys, args[3].valid)


def _check(cell: Any, xs: Any, mesh: Mesh, axis: str, noisy: bool) -> None:
    if axis not in mesh.shape:
        raise ValueError(f"over_devices: axis must be one of {tuple(mesh.shape)}, the axes of the mesh, got {axis!r}")
    time = jax.tree.leaves(xs)[0].shape[0]
    if time % mesh.shape[axis]:
        raise ValueError(
            f"{name_of(cell)}: over_devices needs a number of steps that {mesh.shape[axis]} devices share evenly, got {time}; pad "
            "xs and say so with lengths="
        )
    for inner in _cells(cell):
        if (
            not is_linear(inner)
            or isinstance(inner, InChunks)
            or (isinstance(inner, CarryAround) and inner.changes_carry(noisy))
        ):
            raise ValueError(
                f"{name_of(cell)}: over_devices needs cells that are linear in time with a state that is no matrix, and wrappers that "
                f"leave the carry alone, {name_of(inner)} is not; use rnnjax.unroll"
            )


def _cells(cell: Any) -> list[Any]:
    """It and all that it wraps or stacks."""
    inside: tuple[Any, ...] = ()
    if isinstance(cell, SeveralLayers):
        inside = cell.layers_inside()
    elif isinstance(cell, OneInside):
        inside = (cell.cell_inside(),)
    return [cell, *(part for one in inside for part in _cells(one))]
