"""The gradient of a loss over a batch in parts: each device its own rows, ONE sum over devices, of everything together.

    S_k   = sum over rows of head_k(params, row)        a partial sum on each device
    loss  = tail(params, S)                             read off the whole batch, its constants and all
    dL    = sum_k dtail/dS_k * dS_k/dparams  +  dtail/dparams

The loss is traced twice, on the shapes of the whole batch and on those of one part. `rows` follows the batch through both:
where it ends in sums is the frontier, before it lies the head, after it the tail. Where the rows cannot be told apart
(`Unprovable`), the caller leaves the loss to XLA's partitioner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import Eqn, Graph, Var, alive, depends, evaluate, is_var, read
from rnnjax.train.rows import Study
from rnnjax.train.states import TAIL, Rows, Unprovable, Whole, fit

BITS = 11  # integers are summed as floats in pieces of so many bits: exact on up to 2**13 devices


@dataclasses.dataclass
class Split:
    """A traced loss taken apart at its sums over the rows. Inputs are flat: params, carry, batch, key; results: the
    carry, then the loss. `by_row`: for each part of the carry, whether it is computed row by row."""

    graph: Graph
    frontier: list[Var]
    head: list[Eqn]
    tail: list[Eqn]
    by_row: list[bool]
    marks: set

    @property
    def loss(self) -> Any:
        return self.graph.outs[-1]

    def carry(self, by_row: bool) -> list:
        """The parts of the carry that are computed row by row, or those that are not."""
        return [a for a, rows in zip(self.graph.outs, self.by_row, strict=False) if rows is by_row]

    def run(self, eqns: list[Eqn], values: list, known: dict[Var, Any]) -> dict[Var, Any]:
        """The environment after these equations."""
        env = {**self.graph.consts, **dict(zip(self.graph.ins, values, strict=True)), **known}
        evaluate(eqns, env)
        return env


def take_apart(loss_fn: Callable, args: tuple, axes: list[int | None], rows: int, rules: bool = True) -> Split:
    """Trace `loss_fn(*args) -> (carry, loss)` and find its head and tail. `axes`: where each flat argument has its `rows`.
    `rules`: look at derivative rules of the user's too.

    Raises: `Unprovable`, saying why.
    """
    plain = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):  # as one device sees it
        closed = jax.make_jaxpr(loss_fn)(*plain)
    if getattr(closed, "effects", None):
        raise Unprovable("the loss has effects (a print, a callback), which would happen once on each device")
    graph = to_graph(closed)
    graph = dataclasses.replace(graph, eqns=alive(graph.eqns, graph.outs))
    study = Study(rows, rules=rules)
    env = study.follow(graph, [Whole() if axis is None else Rows(axis) for axis in axes])
    states = [env[a] if is_var(a) else Whole() for a in graph.outs]
    by_row = [by_rows(a, s) for a, s in zip(graph.outs[:-1], states, strict=False)]
    if isinstance(states[-1], Rows) or graph.outs[-1].aval.shape:
        raise Unprovable("the loss is not one number")
    out = Split(graph, study.frontier, [], [], by_row, set())
    out.head = alive(graph.eqns, [*study.frontier, *out.carry(True)])
    out.tail = alive(graph.eqns, [out.loss, *out.carry(False)], set(study.frontier))
    inside = {id(e) for e in out.head}
    out.marks = {mark for where, mark in study.marks if where in inside}
    return out


def take_part(loss_fn: Callable, args: tuple, axes: list[int | None], rows: int) -> Split:
    """`take_apart` on fewer rows than the loss was called with, which it may refuse."""
    try:
        return take_apart(loss_fn, args, axes, rows, rules=False)
    except (Unprovable, _jax.Unsupported):
        raise
    except Exception as error:  # any code of the user's: it says why, and the whole batch is traced instead
        raise Unprovable(f"on {rows} rows the loss raises {type(error).__name__}: {error}") from error


def by_rows(atom: Any, state: Any) -> bool:
    """Whether a part of the carry is computed row by row: whatever has axes, and then its rows are axis 0."""
    if not atom.aval.shape:
        return False
    if state == TAIL:
        raise Unprovable("the carry depends on a sum over the batch")
    fit(atom, state, Rows(0), " in the carry")
    return True


def check_alike(whole: Split, part: Split) -> None:
    """The head on the whole batch and that on a part are one function: no number in it comes from the number of rows."""
    forms = [[(v.shape, v.dtype) for v in s.frontier] for s in (whole, part)]
    if forms[0] != forms[1]:
        raise Unprovable(f"on the whole batch the loss has the sums {forms[0]}, on a part {forms[1]}")
    if whole.marks != part.marks:
        one = min(whole.marks ^ part.marks, key=str)
        raise Unprovable(f"the loss of a row depends on the number of rows: {str(one)[:80]} differs")


# --- the gradient


@dataclasses.dataclass
class Tail:
    """How the sums become the loss. `learning`: which of them have a gradient for params."""

    whole: Split
    values: list  # the flat arguments of the loss, whole
    num_params: int
    learning: list[int]

    @classmethod
    def of(cls, whole: Split, values: list, num_params: int) -> Tail:
        moving = depends(whole.graph.eqns, whole.graph.ins[:num_params])
        learning = [k for k, v in enumerate(whole.frontier) if v in moving and jnp.issubdtype(v.dtype, jnp.inexact)]
        return cls(whole, values, num_params, learning)

    @property
    def alone(self) -> bool:
        """One sum, and a number: its gradient is taken as it is, what the tail makes of it is a factor for later."""
        return len(self.learning) == 1 and not self.whole.frontier[self.learning[0]].shape

    def __call__(self, params: list, learning: list, sums: list, values: list) -> tuple[jax.Array, list]:
        """(loss, the parts of the carry that are no rows)."""
        known = dict(zip(self.whole.frontier, sums, strict=True))
        known.update({self.whole.frontier[k]: v for k, v in zip(self.learning, learning, strict=True)})
        env = self.whole.run(self.whole.tail, [*params, *values[self.num_params :]], known)
        return read(env, self.whole.loss), [read(env, a) for a in self.whole.carry(False)]

    def slopes(self, sums: list, values: list) -> list:
        """d loss / d sum of those that learn."""
        loss = lambda learning: self(values[: self.num_params], learning, sums, values)[0]
        return jax.grad(loss)([sums[k] for k in self.learning])

    def known_slopes(self) -> list | None:
        """The slopes where they do not depend on the sums (a mean, a weighted sum of means), else None."""
        if self.alone:
            return [jnp.ones((), self.whole.frontier[self.learning[0]].dtype)]
        sums = [jnp.zeros(v.shape, v.dtype) for v in self.whole.frontier]
        graph = to_graph(jax.make_jaxpr(self.slopes)(sums, self.values))
        if depends(graph.eqns, graph.ins[: len(sums)]) & set(graph.outs):
            return None
        return self.slopes(sums, self.values)

    def gradient(self, sums: list, grads: list) -> tuple[jax.Array, list, list]:
        """(loss, parts of the carry, gradient) from the sums and, added up, the gradients of the heads."""
        tail = jax.value_and_grad(self.__call__, argnums=(0, 1), has_aux=True)
        learning = [sums[k] for k in self.learning]
        (loss, carry), (direct, slopes) = tail(self.values[: self.num_params], learning, sums, self.values)
        if self.alone:
            grads = [slopes[0].astype(g.dtype) * g for g in grads]
        return loss, carry, [g + d for g, d in zip(grads, direct, strict=True)]


def gradient_in_parts(loss_fn: Callable, mesh: Mesh, args: tuple, axes: tuple) -> tuple[jax.Array, Any, Any]:
    """`(loss, carry, gradient for params)` of `loss_fn(params, carry, batch, key)`, each device with its own rows.

    args: the four arguments, whole. axes: pytrees like them, where each leaf has its rows; -1 where it has none.
    Raises: `Unprovable`.
    """
    name, flat = mesh.axis_names[0], [None if a < 0 else a for a in jax.tree.leaves(axes)]
    values, trees = jax.tree.leaves(args), [jax.tree.structure(a) for a in args]
    size = number_of_rows(values, flat)
    tail = Tail.of(take_apart(loss_fn, args, flat, size), values, trees[0].num_leaves)
    known = tail.known_slopes()

    def part(params: Any, rest: tuple, slopes: list | None) -> tuple[list, list, list]:
        mine = take_part(loss_fn, (params, *rest), flat, size // mesh.shape[name])
        check_alike(tail.whole, mine)

        def head(params: Any) -> tuple[list, tuple[list, list]]:
            env = mine.run(mine.head, jax.tree.leaves((params, rest)), {})
            sums = [read(env, v) for v in mine.frontier]
            return [sums[k] for k in tail.learning], (sums, [read(env, a) for a in mine.carry(True)])

        _, pull, (sums, carry) = jax.vjp(head, params, has_aux=True)
        if slopes is None:
            slopes = tail.slopes(psum_together(sums, name), jax.tree.leaves((params, rest)))
        grads = jax.tree.leaves(pull(slopes))
        sums, grads = psum_together((sums, grads), name)
        return sums, grads, carry

    whole = PartitionSpec()
    specs = jax.tree.map(lambda a: spec(name, a), axes)
    # What varies over devices is proved above. JAX's own check would ask the user's loops to say so of their zeros.
    run = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(specs[0], specs[1:], whole),
        out_specs=(whole, whole, PartitionSpec(name)),
        check_vma=False,
    )
    sums, grads, by_row = run(args[0], args[1:], known)
    loss, others, grads = tail.gradient(sums, grads)
    rows, rest = iter(by_row), iter(others)
    carry = [next(rows if mine else rest) for mine in tail.whole.by_row]
    return loss, jax.tree.unflatten(trees[1], carry), jax.tree.unflatten(trees[0], grads)


def number_of_rows(values: list, axes: list[int | None]) -> int:
    """How many rows the arrays have, which must agree."""
    sizes = {v.shape[a] for v, a in zip(values, axes, strict=True) if a is not None}
    if not sizes:
        raise Unprovable("no array is split")
    if len(sizes) > 1:
        raise Unprovable(f"the arrays disagree on the number of rows: {sorted(sizes)}")
    return sizes.pop()


def spec(name: str, axis: int) -> PartitionSpec:
    """The partition of an array with its rows on this axis; -1 for none."""
    return PartitionSpec() if axis < 0 else PartitionSpec(*[None] * axis, name)


# --- one sum over devices


def psum_together(tree: Any, name: str) -> Any:
    """The sums over devices of all arrays, by one all-reduce of one vector in their widest float type.

    Integers are cut into pieces that such a float adds up exactly; complex numbers are pairs.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
        return tree
    wide = max([real_type(a.dtype) for a in leaves], key=lambda kind: kind.itemsize)
    pieces = [to_reals(a) for a in leaves]
    flat = [p.astype(wide).reshape(-1) for group in pieces for p in group]
    total = jax.lax.psum(jnp.concatenate(flat), name)
    cuts = iter(jnp.split(total, np.cumsum([p.size for p in flat])[:-1].tolist()))
    sums = [from_reals([next(cuts).reshape(a.shape) for _ in group], a.dtype) for a, group in zip(leaves, pieces)]
    return jax.tree.unflatten(structure, sums)


def real_type(dtype: Any) -> Any:
    """The float type, float32 at least, that carries a type's numbers."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits > 32
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def to_reals(a: jax.Array) -> list[jax.Array]:
    """Arrays that floats can add up."""
    if jnp.issubdtype(a.dtype, jnp.complexfloating):
        return [a.real, a.imag]
    if not jnp.issubdtype(a.dtype, jnp.integer):
        return [a]
    width = jnp.iinfo(a.dtype).bits
    low = [(a >> k) & a.dtype.type(2**BITS - 1) for k in range(0, width - BITS, BITS)]
    return [*low, a >> (BITS * len(low))]


def from_reals(pieces: list[jax.Array], dtype: Any) -> jax.Array:
    """The inverse of `to_reals`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.lax.complex(*pieces).astype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer):
        return pieces[0].astype(dtype)
    parts = [p.astype(dtype) << (BITS * k) for k, p in enumerate(pieces)]
    return reduce(jnp.add, parts)
