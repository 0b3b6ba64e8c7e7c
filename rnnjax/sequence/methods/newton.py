"""Newton's method over time: all steps of any cell at once, again and again until the trajectory solves its equation.

The carries ``s_1 .. s_T`` of a roll solve ``s_t - f(s_{t-1}, x_t) = 0``. One Newton step linearises every f at the present guess, which
leaves an affine recurrence ``e_t = J_t e_{t-1} + r_t`` in the correction, and that is an associative scan. After i steps at
least i carries are right, so that T steps always suffice; one does for a recurrence that is linear, a few for one that
forgets. "deer" keeps the whole J (Lim et al. 2024, arXiv:2309.12252), "quasi_deer" its diagonal, "elk" damps the step, which is
then the mean of a Kalman smoother (Gonzalez et al. 2024, arXiv:2407.19115).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as
from rnnjax.base import Carry, Key, Params, check_choice, sequence_key
from rnnjax.protocols import input_axes, prepare
from rnnjax.sequence.arguments import Steps, one_step, read_steps
from rnnjax.sequence.methods import kalman
from rnnjax.sequence.methods.flatten import flatten_carry
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run, backward
from rnnjax.sequence.start import start_carry
from rnnjax.sequence.step import loop_body, zero_invalid

METHODS = ("deer", "quasi_deer", "elk")


class Report(NamedTuple):
    """What Newton's method did: the last carry, ys ``[T, *B, O]``, how many steps it took, whether it converged, and how far off it was.

    residual: largest ``|s_t - f(s_{t-1}, x_t)|``, relative to ``1 + |s_t|``. Where it has not converged, carry and ys are
    the sequential ones.
    """

    carry: Any
    ys: Any
    iterations: jax.Array
    converged: jax.Array
    residual: jax.Array


def newton(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    key: Key = None,
    method: str = "deer",
    max_iterations: int | None = None,
    tolerance: float | None = None,
    damping: float = 0.1,
) -> Report:
    """`rnnjax.unroll` by Newton's method in parallel over time, with a report.

    cell, params, xs, carry, lengths, mask, reset, reverse, key: as in `rnnjax.unroll`, time first.
    method: "deer", full Jacobians, memory T d^2 for d numbers in the carry; "quasi_deer", their diagonals, memory T d, more steps; "elk",
    full Jacobians with a trust region, for recurrences on which the plain step overshoots.
    max_iterations: default T. tolerance: on the residual, default 16 units of rounding. damping: where "elk" starts.
    Where it does not converge the sequential answer is returned: slow, not wrong. Derivatives of any order are those of the
    recurrence itself (by the implicit function theorem, solved in parallel), not of the iteration.
    Errors: as `rnnjax.unroll`; TypeError for a carry with integers, ValueError for an unknown method.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LRU(4), jnp.ones((9, 3))
    >>> report = rj.parallel.newton(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> int(report.iterations), bool(report.converged)
    (1, True)
    """
    check_choice("newton", "method", method, METHODS)
    steps, _ = read_steps(cell, xs, lengths=lengths, mask=mask, reset=reset, reverse=reverse, key=key)
    params = prepare(cell, params, sequence_key(key), one_step(steps).x)
    start, fresh = start_carry(cell, params, carry, steps)
    settings = _Settings(method, max_iterations, tolerance, damping)
    report, _ = _solved(Run(cell, cell, params, start, fresh, steps), reverse, settings)
    return report._replace(ys=zero_invalid(cell, report.ys, steps.valid))


def run(its: Run, options: Options) -> Rolled:
    """What `rnnjax.unroll` does for ``method="deer"`` and its kin."""
    report, carries = _solved(its, options.reverse, _Settings(options.method, None, None, 0.1))
    return Rolled(report.carry, report.ys, carries if its.carries else None)


class _Settings(NamedTuple):
    method: str
    max_iterations: int | None
    tolerance: float | None
    damping: float


class _Problem(NamedTuple):
    """step ``(s [*B, d], step) -> s``: one step on flat carries. start ``[*B, d]``. steps: what they read, in the order of the run."""

    step: Callable[[jax.Array, Steps], jax.Array]
    start: jax.Array
    steps: Steps

    def after(self, s: jax.Array) -> jax.Array:
        """``f(s_{t-1}, x_t)`` for all t at once."""
        return jax.vmap(self.step)(self.before(s), self.steps)

    def before(self, s: jax.Array) -> jax.Array:
        return jnp.concatenate([self.start[None], s[:-1]])


def _solved(its: Run, reverse: bool, settings: _Settings) -> tuple[Report, Carry]:
    """Newton's method on prepared steps, and the carries after each; where it has not converged, the loop's answer."""
    steps, body = backward(its.steps, reverse), loop_body(its.cell, its.params, its.start, its.fresh)
    time = jax.tree.leaves(steps.x)[0].shape[0]
    if time == 0:
        last, (ys, carries) = jax.lax.scan(lambda c, step: (c, (body(c, step)[1], c)), its.start, steps)
        return Report(last, ys, jnp.int32(0), jnp.bool_(True), jnp.zeros(())), carries
    flat = flatten_carry(its.cell, its.start, _batch_axes(its.cell, steps))
    problem = _Problem(lambda s, step: flat.pack(body(flat.unpack(s), step)[0]), flat.pack(its.start), steps)
    s, (iterations, residual, converged) = _solve(problem, time, settings)
    ys = jax.vmap(lambda c, step: body(c, step)[1])(jax.vmap(flat.unpack)(problem.before(s)), steps)
    report = Report(flat.unpack(s[-1]), backward(ys, reverse), iterations.astype(jnp.int32), converged > 0, residual)
    return report, backward(jax.vmap(flat.unpack)(s), reverse)


def _batch_axes(cell: Any, steps: Steps) -> tuple[int, ...]:
    x = jax.tree.leaves(steps.x)[0]
    return x.shape[1 : max(1, x.ndim - input_axes(cell))]


def _solve(problem: _Problem, time: int, settings: _Settings) -> tuple[jax.Array, Any]:
    """The trajectory ``[T, *B, d]``, differentiable by the implicit function theorem."""
    free = problem._replace(steps=problem.steps._replace(cut=None))

    def residual(s: jax.Array) -> jax.Array:
        return s - problem.after(s)

    def solve(_: Any, guess: jax.Array) -> Any:
        s, report = _iterate(free, guess, time, settings)
        sequential = lambda: jax.lax.scan(lambda s, step: (free.step(s, step),) * 2, free.start, free.steps)[1]
        floats = jax.tree.map(lambda a: a.astype(jnp.float32), report)  # custom_root knows no other tangents
        return jax.lax.cond(report[2], lambda: s, sequential), floats

    guess = jnp.zeros_like(jnp.broadcast_to(problem.start, (time, *problem.start.shape)))
    return jax.lax.custom_root(residual, guess, solve, _solve_linear, has_aux=True)


# -- the iteration -----------------------------------------------------------------------------------------------------


def _iterate(problem: _Problem, guess: jax.Array, time: int, settings: _Settings) -> Any:
    """Guesses of all carries until one agrees with what the steps make of it."""
    most = time if settings.max_iterations is None else settings.max_iterations
    eps, largest = float(jnp.finfo(guess.dtype).eps), min(1e6, float(jnp.finfo(guess.dtype).max) / 16)
    tolerance = 16 * eps if settings.tolerance is None else settings.tolerance
    state = (guess, problem.after(guess), jnp.int32(0), jnp.asarray(settings.damping, guess.dtype))

    def going(state: Any) -> jax.Array:
        s, after, count, _ = state
        return (count < most) & ~(_distance(s, after) <= tolerance)

    def step(state: Any) -> Any:
        s, after, count, damping = state
        new = s + _correction(problem, s, after - s, damping, settings.method)
        new = jnp.where(jnp.isfinite(new), new, 0)  # what overflowed starts anew; the carries already right are kept
        new_after = problem.after(new)
        if settings.method == "elk":
            better = jnp.sum((new_after - new) ** 2) <= jnp.sum((after - s) ** 2)
            damping = jnp.where(better, 0.1 * damping, jnp.minimum(10 * damping, largest))
            new, new_after = (jnp.where(better, a, b) for a, b in ((new, s), (new_after, after)))
        return new, new_after, count + 1, damping

    s, after, count, _ = jax.lax.while_loop(going, step, state)
    residual = _distance(s, after)
    return s, (count, residual, residual <= tolerance)


def _distance(s: jax.Array, after: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(after - s) / (1 + jnp.abs(s)), initial=0)


def _correction(problem: _Problem, s: jax.Array, r: jax.Array, damping: Any, method: str) -> jax.Array:
    """e with ``e_t = J_t e_{t-1} + r_t``; with "elk" the e that fits this and zero best, weighted 1 to damping."""
    if method == "quasi_deer":
        return _diagonal_scan(_jacobian_diagonals(problem, s), r)
    j = _jacobians(problem, s)
    return _matrix_scan(j, r) if method == "deer" else kalman.smooth(j, r, damping)


def _pushed(problem: _Problem, s: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """``direction [d] -> J_t direction`` for all t and all batch elements at once, which do not act on one another."""
    before = problem.before(s)
    _, push = jax.linearize(lambda b: jax.vmap(problem.step)(b, problem.steps), before)
    return lambda direction: push(place_as(jnp.broadcast_to(direction, before.shape), before))


def _jacobians(problem: _Problem, s: jax.Array) -> jax.Array:
    """``[T, *B, d, d]``."""
    return jax.vmap(_pushed(problem, s), out_axes=-1)(jnp.eye(s.shape[-1], dtype=s.dtype))


def _jacobian_diagonals(problem: _Problem, s: jax.Array) -> jax.Array:
    """``[T, *B, d]``, one column at a time, so that no matrix is kept."""
    push = _pushed(problem, s)
    one = lambda i: jnp.take(push(jax.nn.one_hot(i, s.shape[-1], dtype=s.dtype)), i, axis=-1)
    return jnp.moveaxis(jax.lax.map(one, jnp.arange(s.shape[-1])), 0, -1)


def _diagonal_scan(a: jax.Array, b: jax.Array) -> jax.Array:
    return jax.lax.associative_scan(lambda p, q: (q[0] * p[0], q[0] * p[1] + q[1]), (a, b))[1]


def _matrix_scan(a: jax.Array, b: jax.Array) -> jax.Array:
    def then(p: Any, q: Any) -> Any:
        return q[0] @ p[0], kalman.times(q[0], p[1]) + q[1]

    return jax.lax.associative_scan(then, (a, b))[1]


# -- derivatives -------------------------------------------------------------------------------------------------------


def _solve_linear(g: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
    """z with ``g(z) = y``, ``g(z)_t = z_t - J_t z_{t-1}``: in parallel, or in order where the products of J overflow."""
    basis = jnp.eye(y.shape[-1], dtype=y.dtype)
    spread = lambda e: place_as(jnp.broadcast_to(e, y.shape), y)
    j = jax.vmap(lambda e: spread(e) - g(spread(e)), out_axes=-1)(basis)
    total = jax.lax.associative_scan(lambda p, q: q @ p, jax.lax.stop_gradient(j).at[0].set(0))
    return jax.lax.cond(jnp.isfinite(total).all(), _matrix_scan, _in_order, j, y)


def _in_order(j: jax.Array, y: jax.Array) -> jax.Array:
    def step(z: jax.Array, at: Any) -> Any:
        z = kalman.times(at[0], z) + at[1]
        return z, z

    return jax.lax.scan(step, jnp.zeros_like(y[0]), (j, y))[1]
