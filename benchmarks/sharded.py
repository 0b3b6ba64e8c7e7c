"""The sides of `cores.py`: one training step with the whole batch on one device, or with the batch over all devices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnnjax as rj
from rnnjax.bench import CELLS, Shape, make_problem

BUILTIN = {"lstm": rj.LSTM, "gru": rj.GRU}
SPLIT = (PartitionSpec(), PartitionSpec(None, "data"), PartitionSpec("data"), PartitionSpec(None, "data"))  # of `Args`
SCANS = {"lax.scan": jax.lax.scan, "rnnjax": rj.scan}

Run = Callable[[], Any]  # one training step; returns (loss, gradient)


class Args(NamedTuple):
    """What a loss takes: parameters, inputs `[T, B, I]`, the first carry `[B, H]`, weights of the outputs `[T, B, H]`."""

    params: Any
    xs: jax.Array
    carry: Any
    up: jax.Array


def problem(cell: str, shape: Shape, scan: str, builtin: bool = False) -> tuple[Callable, Args]:
    """(loss(params, xs, carry, up), its arguments): a cell as a user writes it under `scan`, or the built-in one."""
    args = Args(*make_problem(cell, shape))
    if not builtin:
        step = CELLS[cell]
        run = lambda p, xs, carry: SCANS[scan](lambda c, x: step(p, c, x), carry, xs)[1]
    else:
        kind = BUILTIN[cell](shape[3])
        args = args._replace(params=kind.init(jax.random.key(0), args.xs[0]), carry=())
        run = lambda p, xs, carry: rj.unroll(kind, p, xs)[1]
    return lambda p, xs, carry, up: jnp.sum(run(p, xs, carry) * up), args


def compiled(loss: Callable, args: Sequence[Any]) -> Run:
    """What a user writes: `jit(value_and_grad(loss))` on the arrays as they lie."""
    f = jax.jit(jax.value_and_grad(loss))
    return lambda: f(*args)


def part(rank: int, n: int, *what: Any) -> Run:
    """One of n equal parts of the batch, on its own: for `team.Team.prepare`. what: as for `problem`."""
    loss, args = problem(*what)
    k = args.xs.shape[1] // n
    mine = slice(rank * k, (rank + 1) * k)
    carry = jax.tree.map(lambda c: c[mine], args.carry)
    return compiled(loss, (args.params, args.xs[:, mine], carry, args.up[:, mine]))


def plain(loss: Callable, args: Args, kind: AxisType) -> Run:
    """The user's plain code, its batch over all devices of a mesh of this kind, which is set as JAX wants it."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), (kind,))
    run = compiled(loss, spread(args, mesh))

    def under() -> Any:
        with jax.set_mesh(mesh):
            return run()

    return under


def spread(args: Args, mesh: jax.sharding.Mesh) -> list:
    """The arguments over a mesh: parameters whole on each device, everything else by the batch."""
    return [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(args, SPLIT)]


def by_hand(loss: Callable, args: Args) -> Run:
    """The same in `jax.shard_map`, loss and gradient summed over the devices as one vector."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))

    def shard(params, *rest):
        own = jax.tree.map(lambda p: jax.lax.pcast(p, "data", to="varying"), params)  # or each leaf is summed by itself
        flat, back = ravel_pytree(jax.value_and_grad(loss)(own, *rest))
        return back(jax.lax.psum(flat, "data"))

    f = jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=SPLIT, out_specs=PartitionSpec()))
    given = spread(args, mesh)
    return lambda: f(*given)


def trains_on_a_mesh() -> bool:
    return "mesh" in inspect.signature(rj.train.make_step).parameters


def trained(loss: Callable, args: Args, rate: float = 0.0) -> Run:
    """A whole step of `rj.train.make_step(mesh=)`: gradient, no clipping, update. Returns (loss, the parameters after)."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    optimizer = optax.sgd(rate)
    full = lambda params, carry, batch, key: (carry, loss(params, batch[0], carry, batch[1]))
    step = rj.train.make_step(full, optimizer, clip=None, mesh=mesh, batch_axis=1)
    _, xs, carry, up = spread(args, mesh)
    state = [rj.train.start(args.params, optimizer, carry)]

    def run():
        state[0], report = step(state[0], (xs, up))
        return report.loss, state[0].params

    return run


def trained_gradient(loss: Callable, args: Args) -> tuple[Any, Any]:
    """(loss, gradient) of `trained`: what one step of rate 1 takes off the parameters."""
    value, after = jax.device_get(trained(loss, args, 1.0)())
    return value, jax.tree.map(lambda a, b: a - b, jax.device_get(args.params), after)
