"""Which parts of a step's results depend on which parts of its arguments: found once, from the step's jaxpr.

The step is run with every operation replaced by one that depends on the same parts of its operands and grows with each of
them (a sum for what acts part by part, the products and the moves as they are, for anything else the sum of everything), at
ones. Its Jacobian is then positive exactly where there is a path through the program: nothing cancels, no branch is missed.
What is reported as independent is so for all values; what is reported as dependent may still be zero for some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from rnnjax import _jax

PART_BY_PART = frozenset(
    "add add_any sub mul neg sign abs max min select_n copy copy_p convert_element_type eq ne gt lt ge le and or not xor "
    "integer_pow square is_finite clamp floor ceil round real imag conj complex reduce_precision stop_gradient tanh logistic "
    "exp exp2 log log1p expm1 sin cos tan sqrt rsqrt cbrt erf erfc erf_inv div pow rem sinh cosh asinh acosh atanh atan2 "
    "acos asin atan lgamma digamma nextafter pvary optimization_barrier".split()
)
MOVES = frozenset(
    "reshape squeeze expand_dims broadcast_in_dim transpose slice split concatenate pad rev reduce_sum cumsum".split()
)
PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
CALLS = frozenset("jit pjit closed_call core_closed_call remat remat2 checkpoint custom_jvp_call".split())
ROWS_AT_ONCE = 2**23  # numbers of a Jacobian held at a time


class Shadow:
    """The stand-in for a function of arrays: same shapes, same dependence, increasing in every part of every argument.

    derivatives: what passes none, ``stop_gradient``, is independent; else only its value counts, which depends.
    """

    def __init__(self, f: Callable, *args: Any, derivatives: bool = False) -> None:
        self.derivatives = derivatives
        closed = jax.make_jaxpr(f)(*args)
        self.jaxpr = _jax.open_jaxpr(closed)[0]
        self.ones = [np.ones(v.aval.shape, np.float32) for v in self.jaxpr.invars]

    def __call__(self, values: list[Any]) -> list[Any]:
        return _run(self.jaxpr, values, self.derivatives)


def _run(jaxpr: Any, values: list[Any], derivatives: bool) -> list[Any]:
    env = {v: np.ones(v.aval.shape, np.float32) for v in jaxpr.constvars}
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(atom: Any) -> Any:
        return np.ones(atom.aval.shape, np.float32) if isinstance(atom, _jax.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        outs = _stand_in(eqn, [read(a) for a in eqn.invars], derivatives)
        env.update(zip(eqn.outvars, [_about_one(a) for a in outs], strict=True))
    return [read(a) for a in jaxpr.outvars]


def _stand_in(eqn: Any, values: list[Any], derivatives: bool) -> list[Any]:
    """The results of one equation's replacement."""
    name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
    if name == "stop_gradient" and derivatives:
        return [np.ones(shape, np.float32) for shape in shapes]
    if name in PART_BY_PART and len(shapes) == len(values) > 1:
        return values  # several values side by side, which have nothing to do with each other
    if name in PART_BY_PART and len(shapes) == 1:
        return [_total([jnp.broadcast_to(v, shapes[0]) for v in values])]
    if name in MOVES:
        return _jax.bind(eqn.primitive, eqn.params, [jnp.asarray(v) for v in values])
    if name in PRODUCTS:
        params = _jax.with_result(eqn.params, np.dtype(np.float32))
        return _jax.bind(eqn.primitive, params, [jnp.asarray(v) for v in values])
    if name in CALLS:
        inner = _jax.sub_jaxprs(eqn.params)
        if len(inner) == 1 and len(inner[0].invars) == len(values):
            own_rule = name == "custom_jvp_call"  # whose derivative is not that of what it computes
            return _run(inner[0], values, derivatives and not own_rule)
    everything = _total([jnp.sum(v) for v in values])
    return [jnp.broadcast_to(everything, shape) for shape in shapes]


def _total(values: list[Any]) -> Any:
    return sum(values[1:], start=values[0]) if values else jnp.ones((), jnp.float32)


def _about_one(a: Any) -> Any:
    """Scaled by a number that takes no part in the dependence."""
    return a / jax.lax.stop_gradient(jnp.max(a)) if a.size else a


def pattern(f: Callable, *args: Any, of: tuple[int, ...]) -> list[Any]:
    """Where the Jacobians of a function of arrays to one vector ``[n]`` may be nonzero: sparse bool matrices ``[n, size of the
    argument]``, for arguments ``of``.

    args: arrays or their types.
    """
    shadow = Shadow(f, *args, derivatives=True)

    def rows(chosen: jax.Array) -> list[jax.Array]:
        some = lambda values: shadow([*_put(shadow.ones, of, values)])[0]
        pull = jax.vjp(some, [jnp.asarray(shadow.ones[i]) for i in of])[1]
        return [g.reshape(len(chosen), -1) > 0 for g in jax.vmap(pull)(chosen)[0]]

    n, size = shadow.jaxpr.outvars[0].aval.size, sum(shadow.ones[i].size for i in of)
    many = max(1, min(n, ROWS_AT_ONCE // max(1, size)))
    found = []
    with jax.ensure_compile_time_eval():
        compute = jax.jit(rows)
        for start in range(0, n, many):
            chosen = np.eye(many, n, start, dtype=np.float32)  # rows past the end are zeros
            found.append([sparse.csr_matrix(np.asarray(m)[: n - start]) for m in compute(chosen)])
    return [sparse.vstack([some[i] for some in found], format="csr") for i in range(len(of))]


def _put(values: list[Any], at: tuple[int, ...], new: list[Any]) -> list[Any]:
    out = list(values)
    for i, value in zip(at, new, strict=True):
        out[i] = value
    return out


def reads(f: Callable, *args: Any, seed: Any) -> list[np.ndarray]:
    """For each argument of ``f``, a function of arrays to one array, which of its parts reach the parts where ``seed``."""
    shadow = Shadow(f, *args)
    with jax.ensure_compile_time_eval():
        pull = jax.jit(lambda ones, seed: jax.vjp(lambda v: shadow(v)[0], ones)[1](seed)[0])
        return [np.asarray(g) > 0 for g in pull([jnp.asarray(a) for a in shadow.ones], np.asarray(seed, np.float32))]
