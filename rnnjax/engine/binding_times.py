"""Step 3, binding times: what is known before the loop, what is known for all steps at once, and what needs the carry.

once   CONSTANT, from constants alone: run once
ahead  INPUT, from constants and x: run for all steps at once, by `vmap` over time
loop   CARRY, needs the carry: the loop
after  CARRY too, but feeds no next carry: run after the loop for all steps at once (a readout, say)
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from rnnjax import _jax
from rnnjax.engine.graph import PRODUCTS, Atom, Eqn, Graph, Var, alive, is_var, nbytes, producers, users, variables

# A batch of these goes to LAPACK by shares, and two such batches at once can wait for each other (`rnnjax.linear_algebra`).
DECOMPOSITIONS = frozenset(
    "lu qr geqrf geqp3 householder_product cholesky cholesky_update triangular_solve eig eigh svd schur hessenberg "
    "tridiagonal tridiagonal_solve".split()
)
# Run for all steps at once these would change their meaning (both branches, all steps until the last has finished,
# another stream of random bits) or may not be allowed to: they stay in the loop.
STAYS = DECOMPOSITIONS | frozenset(
    "while cond pure_callback io_callback debug_callback custom_vmap_call custom_partitioning pallas_call ffi_call "
    "shard_map rng_bit_generator rng_uniform custom_lin optimization_barrier".split()
)
CHEAP = frozenset(
    "add add_any sub mul neg sign abs max min select_n broadcast_in_dim reshape squeeze expand_dims transpose copy "
    "convert_element_type slice split eq ne gt lt ge le and or not xor integer_pow square pad copy_p stop_gradient iota "
    "is_finite clamp floor ceil round concatenate rev real imag conj complex reduce_precision".split()
)
ELEMENTWISE_COSTLY = frozenset(
    "tanh logistic exp exp2 log log1p expm1 sin cos tan sqrt rsqrt cbrt erf erfc div pow rem sinh cosh asinh atan2 "
    "acos asin atan".split()
)


class BindingTime(enum.IntEnum):
    """When a value is known."""

    CONSTANT = 0  # before the loop
    INPUT = 1  # from x: for all steps at once
    CARRY = 2  # in the loop


CONSTANT, INPUT, CARRY = BindingTime


@dataclasses.dataclass(frozen=True)
class Sorted:
    """The body, sorted. `when` of a value says when it is known."""

    graph: Graph
    num_carry: int
    when: dict[Var, BindingTime]
    once: list[Eqn]
    ahead: list[Eqn]
    loop: list[Eqn]
    after: list[Eqn]

    @property
    def carry(self) -> list[Var]:
        return self.graph.ins[: self.num_carry]

    @property
    def xs(self) -> list[Var]:
        return self.graph.ins[self.num_carry :]

    @property
    def carry_out(self) -> list[Atom]:
        return self.graph.outs[: self.num_carry]

    @property
    def ys(self) -> list[Atom]:
        return self.graph.outs[self.num_carry :]

    def of(self, atom: Atom) -> BindingTime:
        return self.when[atom] if is_var(atom) else CONSTANT


def may_run_at_once(eqn: Eqn) -> bool:
    """Whether `vmap` over time keeps an equation's meaning and is no worse than a loop."""
    if eqn.name in STAYS or any("rbg" in str(a.aval.dtype) for a in variables(eqn.ins)):
        return False
    if folds_time(eqn):
        return False
    inner = (e.primitive.name for sub in _jax.sub_jaxprs(eqn.params) for e in _jax.equations(sub))
    return not any(name in STAYS for name in inner)


def folds_time(eqn: Eqn) -> bool:
    """Whether time would be folded into a batch that an explicit mesh splits: `vmap` of a convolution does."""
    return eqn.name == "conv_general_dilated" and any(_jax.placement(v.aval) is not None for v in variables(eqn.ins))


def binding_times(graph: Graph, num_carry: int) -> dict[Var, BindingTime]:
    """When each value is known: CONSTANT, INPUT or CARRY."""
    when = {v: CONSTANT for v in graph.consts}
    when.update({v: CARRY if n < num_carry else INPUT for n, v in enumerate(graph.ins)})
    for eqn in graph.eqns:
        high = max((when[v] for v in variables(eqn.ins)), default=CONSTANT)
        if high == INPUT and not may_run_at_once(eqn):
            high = CARRY
        when.update({v: high for v in eqn.outs})
    return when


def sort(graph: Graph, num_carry: int, *, everything: bool = False, hoisting: bool = True) -> Sorted:
    """Sort a body. `everything`: run ahead and after whatever can be, not only what pays. `hoisting`: False for never."""
    eqns = alive(graph.eqns, graph.outs)
    when = binding_times(dataclasses.replace(graph, eqns=eqns), num_carry)
    if not hoisting:
        when.update({v: CARRY for e in eqns for v in e.outs if when[v] == INPUT})
    elif not everything:
        keep_cheap_in_loop(eqns, when, graph.outs)
    groups: list[list[Eqn]] = [[], [], []]
    for eqn in eqns:
        groups[when[eqn.outs[0]] if eqn.outs else CARRY].append(eqn)
    loop, after = split_readout(groups[CARRY], graph, num_carry, when, everything) if hoisting else (groups[CARRY], [])
    return Sorted(graph, num_carry, when, groups[CONSTANT], groups[INPUT], loop, after)


def keep_cheap_in_loop(eqns: list[Eqn], when: dict[Var, BindingTime], outs: list[Atom]) -> None:
    """A cheap step on x whose result is no smaller than what it reads stays in the loop: hoisted, it only moves memory."""
    read_by = users(eqns)
    given = set(variables(outs))
    in_loop = {v for e in eqns if when[e.outs[0]] == CARRY for v in variables(e.ins)} if eqns else set()
    for eqn in reversed(eqns):
        if when[eqn.outs[0]] != INPUT or eqn.name not in CHEAP - {"split"} or any(v in given for v in eqn.outs):
            continue
        if not all(when[u.outs[0]] == CARRY for v in eqn.outs for u in read_by.get(v, [])):
            continue
        reads = {v for v in variables(eqn.ins) if when[v] == INPUT}
        new = sum(nbytes(v) for v in reads if v not in in_loop)
        if new <= sum(nbytes(v) for v in eqn.outs):
            when.update({v: CARRY for v in eqn.outs})
            in_loop |= reads


def split_readout(
    loop: list[Eqn], graph: Graph, num_carry: int, when: dict[Var, BindingTime], everything: bool
) -> tuple[list[Eqn], list[Eqn]]:
    """(the loop, what can wait until after it). Waits when a product is among it and little more must be stored."""
    stays = alive(loop, graph.outs[:num_carry])
    kept = set(stays)
    rest = [e for e in loop if e not in kept]
    while True:  # what must stay drags along what it reads; JAX loses a custom rule batched over time, then over lanes
        held = [e for e in rest if not may_run_at_once(e) or _jax.delicate(e.primitive, e.params)]
        if not held:
            break
        kept.update(alive(loop, [v for e in held for v in e.outs]))
        rest = [e for e in loop if e not in kept]
    products = [e for e in rest if e.name in PRODUCTS]
    if not rest or not (products or everything):
        return loop, []
    if not everything and not readout_pays(rest, graph, num_carry, when):
        return loop, []
    return [e for e in loop if e in kept], rest


def readout_pays(rest: list[Eqn], graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> bool:
    """Whether what the readout reads is not much larger than what it gives."""
    made = producers(rest)
    reads = {v for e in rest for v in variables(e.ins) if v not in made and when[v] == CARRY}
    given = {v for v in variables(graph.outs[num_carry:])}
    stored = sum(nbytes(v) for v in reads if v not in given)
    products = sum(int(np.prod(v.shape)) * v.dtype.itemsize for e in rest if e.name in PRODUCTS for v in e.outs)
    return stored <= 4 * (products + sum(nbytes(v) for v in given if v in made))
