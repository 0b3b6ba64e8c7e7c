"""Newton's method over time: all steps of any cell at once, again and again until the trajectory solves its equation.

The carries ``s_1 .. s_T`` of a roll solve ``s_t - f(s_{t-1}, x_t) = 0``. One Newton step linearises every f at the present guess, which
leaves an affine recurrence ``e_t = J_t e_{t-1} + r_t`` in the correction, and that is an associative scan. After i steps at
least i carries are right, so that T steps always suffice; one does for a recurrence that is linear, a few for one that
forgets. "deer" keeps the whole J (Lim et al. 2024, arXiv:2309.12252), "quasi_deer" its diagonal or the blocks of each unit, "elk"
damps the step, which is then the mean of a Kalman smoother (Gonzalez et al. 2024, arXiv:2407.19115).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, check_choice, sequence_key
from rnnjax.carry_maps import lead
from rnnjax.protocols import input_axes, prepare
from rnnjax.sequence.arguments import Steps, one_step, read_steps
from rnnjax.sequence.methods import kalman, scan
from rnnjax.sequence.methods.flatten import Flat, flatten_carry
from rnnjax.sequence.methods.linearised import affine_scan, amplification, block_scan, blocks, in_order, jacobians
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run, backward
from rnnjax.sequence.start import start_carry
from rnnjax.sequence.step import loop_body, zero_invalid

METHODS = ("deer", "quasi_deer", "elk")
MOST = 256  # iterations, where the user says nothing: far beyond what pays


class Report(NamedTuple):
    """What Newton's method did: the last carry, ys ``[T, *B, O]``, how many steps it took, whether it converged, and how far off it was.

    residual: largest ``|s_t - f(s_{t-1}, x_t)|``, relative to ``1 + |s_t|``. converged: it is within the tolerance, and steps do not
    carry errors of its size (or of rounding) further apart than half the digits. Where it has not converged, carry and ys
    are the sequential ones.
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
    method: "deer", full Jacobians, memory T d^2 for d numbers in the carry; "quasi_deer", memory T d, more steps: of each
    Jacobian what joins the numbers of one unit, the parts of its complex number, or (h, c) of an LSTM
    (`rnnjax.protocols.UnitBlocks`); "elk", full Jacobians with a trust region, for recurrences on which the plain step overshoots.
    max_iterations: default T, at most 256. tolerance: on the residual, default 16 units of rounding. damping: where "elk" starts.
    Where it does not converge the sequential answer is returned: slow, not wrong. So it is where neighbours part (chaos): there
    a small residual does not say that the trajectory is near, and rounding alone decides which one is found.
    Derivatives of any order are those of the recurrence itself (by the implicit function theorem: one associative scan over
    full Jacobians), not of the iteration.
    Errors: as `rnnjax.unroll`; TypeError for a carry with integers, ValueError for an unknown method.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LRU(4), jnp.ones((9, 3))
    >>> report = rj.parallel.newton(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> int(report.iterations), bool(report.converged)
    (1, True)
    """
    check_choice("newton", "method", method, METHODS)
    its = read_run(cell, params, xs, carry, key, lengths=lengths, mask=mask, reset=reset, reverse=reverse)
    report, _ = _solved(its, reverse, _Settings(method, max_iterations, tolerance, damping))
    return report._replace(ys=zero_invalid(cell, report.ys, its.steps.valid))


def adjoint(
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
) -> tuple[Carry, Any]:
    """`rnnjax.unroll` with its loop forward, ``method="scan"``, and the gradient in parallel over time: ``(carry, ys)``.

    For recurrences on which Newton's method takes many iterations: the way back is linear, ``z_t = J_{t+1}^T z_{t+1} + dL/ds_t``, one
    associative scan over full Jacobians, memory T d^2 for d numbers in the carry, whatever the way forward was.
    cell, params, xs, carry, lengths, mask, reset, reverse, key: as in `rnnjax.unroll`, time first. Errors: as `newton`.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jnp.ones((9, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> slope = jax.grad(lambda p: jnp.sum(rj.parallel.adjoint(cell, p, xs)[1]))(params)
    >>> bool(jnp.allclose(slope["bias"], jax.grad(lambda p: jnp.sum(rj.unroll(cell, p, xs)[1]))(params)["bias"], atol=1e-5))
    True
    """
    its = read_run(cell, params, xs, carry, key, lengths=lengths, mask=mask, reset=reset, reverse=reverse)
    report, _ = _solved(its, reverse, _Settings("sequential"))
    return report.carry, zero_invalid(cell, report.ys, its.steps.valid)


def read_run(cell: Any, params: Params, xs: Any, carry: Carry | None, key: Key, **flags: Any) -> Run:
    """A run of a whole cell, from the arguments of `rnnjax.unroll` with time first."""
    steps, _ = read_steps(cell, xs, key=key, **flags)
    params = prepare(cell, params, sequence_key(key), one_step(steps).x)
    return Run(cell, cell, params, *start_carry(cell, params, carry, steps), steps)


def run(its: Run, options: Options) -> Rolled:
    """What `rnnjax.unroll` does for ``method="deer"`` and its kin."""
    report, carries = _solved(its, options.reverse, _Settings(options.method))
    return Rolled(report.carry, report.ys, carries if its.carries else None)


def exponents(its: Run, reverse: bool) -> jax.Array:
    """The largest exponent along each example, ``[*B]``: how fast a random direction grows a step, resets left out."""
    steps = backward(its.steps._replace(reset=None, cut=None), reverse)
    problem = _problem(dataclasses.replace(its, steps=steps), loop_body(its.cell, its.params, its.start, its.fresh))
    direction = jax.random.normal(jax.random.key(0), problem.start.shape, jnp.float32).astype(problem.start.dtype)

    def follow(state: Any, step: Steps) -> Any:
        s, v = state
        s, v = jax.jvp(lambda s: problem.step(s, step), (s,), (v,))
        size = jnp.linalg.norm(v, axis=-1, keepdims=True)
        return (s, v / jnp.where(size > 0, size, 1)), jnp.log(size[..., 0])

    size = jnp.linalg.norm(direction, axis=-1, keepdims=True)
    _, logs = jax.lax.scan(follow, (problem.start, direction / size), steps)
    taken = jnp.ones_like(logs, bool) if steps.valid is None else _beside(steps.valid, logs)
    return jnp.sum(jnp.where(taken, logs, 0), axis=0) / jnp.maximum(1, jnp.sum(taken, axis=0)).astype(logs.dtype)


def _beside(valid: jax.Array, logs: jax.Array) -> jax.Array:
    """The flags for all batch axes; for examples taken as one, whether any of them takes the step."""
    if logs.ndim < valid.ndim:
        return valid.reshape(*logs.shape, -1).any(-1)
    return jnp.broadcast_to(lead(valid, logs.ndim), logs.shape)


class _Settings(NamedTuple):
    method: str
    max_iterations: int | None = None
    tolerance: float | None = None
    damping: float = 0.1


class _Problem(NamedTuple):
    """step ``(s [*B, d], step) -> s``: one step on flat carries. start ``[*B, d]``. steps: what they read, in the order of the run.

    flat: how carries are written as vectors. sequential: all carries ``[T, *B, d]`` by the loop.
    """

    step: Callable[[jax.Array, Steps], jax.Array]
    start: jax.Array
    steps: Steps
    flat: Flat
    sequential: Callable[[], jax.Array]

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
    problem = _problem(dataclasses.replace(its, steps=steps), body)
    flat = problem.flat
    s, (iterations, residual, converged) = _solve(problem, time, settings)
    ys = jax.vmap(lambda c, step: body(c, step)[1])(jax.vmap(flat.unpack)(problem.before(s)), steps)
    report = Report(flat.unpack(s[-1]), backward(ys, reverse), iterations.astype(jnp.int32), converged > 0, residual)
    return report, backward(jax.vmap(flat.unpack)(s), reverse)


def _problem(its: Run, body: Callable[[Carry, Steps], Any]) -> _Problem:
    """The equation of a run whose steps are in their order."""
    flat = flatten_carry(its.cell, its.start, _batch_axes(its.cell, its.steps))

    def sequential() -> jax.Array:
        rolled = scan.run(dataclasses.replace(its, steps=its.steps._replace(cut=None), carries=True), Options())
        return jax.vmap(flat.pack)(rolled.carries)

    step = lambda s, step: flat.pack(body(flat.unpack(s), step)[0])
    return _Problem(step, flat.pack(its.start), its.steps, flat, sequential)


def _batch_axes(cell: Any, steps: Steps) -> tuple[int, ...]:
    x = jax.tree.leaves(steps.x)[0]
    return x.shape[1 : max(1, x.ndim - input_axes(cell))]


def _solve(problem: _Problem, time: int, settings: _Settings) -> tuple[jax.Array, Any]:
    """The trajectory ``[T, *B, d]``, differentiable by the implicit function theorem."""
    free = problem._replace(steps=problem.steps._replace(cut=None))

    def residual(s: jax.Array) -> jax.Array:
        return s - problem.after(s)

    def solve(_: Any, guess: jax.Array) -> Any:
        s, report = _in_order_only(free) if settings.method == "sequential" else _by_newton(free, guess, time, settings)
        return s, jax.tree.map(lambda a: a.astype(jnp.float32), report)  # custom_root knows no other tangents

    guess = jnp.zeros_like(jnp.broadcast_to(problem.start, (time, *problem.start.shape)))
    return jax.lax.custom_root(residual, guess, solve, _solve_linear, has_aux=True)


def _in_order_only(problem: _Problem) -> Any:
    s = problem.sequential()
    return s, (jnp.int32(0), _distance(s, problem.after(s)), jnp.bool_(True))


def _by_newton(problem: _Problem, guess: jax.Array, time: int, settings: _Settings) -> Any:
    """The trajectory found, or that of the loop where none is, or where it depends on rounding which one."""
    eps = float(jnp.finfo(guess.dtype).eps)
    tolerance = 16 * eps if settings.tolerance is None else settings.tolerance
    s, count, residual = _iterate(problem, guess, time, tolerance, settings)
    grows = amplification(problem.step, problem.before(s), s, problem.steps)
    error = jnp.maximum(residual, eps) * grows
    converged = (residual <= tolerance) & (error <= max(eps**0.5, 100 * tolerance))
    return jax.lax.cond(converged, lambda: s, problem.sequential), (count, residual, converged)


# -- the iteration -----------------------------------------------------------------------------------------------------


def _iterate(problem: _Problem, guess: jax.Array, time: int, tolerance: float, settings: _Settings) -> Any:
    """Guesses of all carries until one agrees with what the steps make of it: the last, how many, and how far it is off."""
    most = min(time, MOST) if settings.max_iterations is None else settings.max_iterations
    largest = min(1e6, float(jnp.finfo(guess.dtype).max) / 16)
    state = (guess, problem.after(guess), jnp.int32(0), jnp.asarray(settings.damping, guess.dtype))

    def going(state: Any) -> jax.Array:
        s, after, count, _ = state
        return (count < most) & ~(_distance(s, after) <= tolerance)

    def step(state: Any) -> Any:
        s, after, count, damping = state
        new = s + _correction(problem, s, after - s, damping, settings.method)
        new = jnp.where(jnp.isfinite(new), new, 0)  # what overflowed starts anew
        new = jnp.where(_follows_right_ones(s, after), after, new)
        new_after = problem.after(new)
        if settings.method == "elk":
            better = jnp.sum((new_after - new) ** 2) <= jnp.sum((after - s) ** 2)
            damping = jnp.where(better, 0.1 * damping, jnp.minimum(10 * damping, largest))
            new, new_after = (jnp.where(better, a, b) for a, b in ((new, s), (new_after, after)))
        return new, new_after, count + 1, damping

    s, after, count, _ = jax.lax.while_loop(going, step, state)
    return s, count, _distance(s, after)


def _follows_right_ones(s: jax.Array, after: jax.Array) -> jax.Array:
    """``[T, *B, 1]``: whether all carries before this one are right to the last digit, and so what the step makes of them: no rounding
    of ``s + e`` with a large s, no overflow further on, keeps T iterations from sufficing."""
    right = jax.lax.cummin((s == after).all(-1).astype(jnp.int32), axis=0)
    return jnp.concatenate([jnp.ones_like(right[:1]), right[:-1]])[..., None] > 0


def _distance(s: jax.Array, after: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(after - s) / (1 + jnp.abs(s)), initial=0)


def _correction(problem: _Problem, s: jax.Array, r: jax.Array, damping: Any, method: str) -> jax.Array:
    """e with ``e_t = J_t e_{t-1} + r_t``; with "elk" the e that fits this and zero best, weighted 1 to damping."""
    push = _pushed(problem, s)
    if method == "quasi_deer":
        units = problem.flat.units
        return block_scan(blocks(push, s, units), r, units)
    j = jacobians(push, s)
    return affine_scan(j, r) if method == "deer" else kalman.smooth(j, r, damping)


def _pushed(problem: _Problem, s: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """``directions [T, *B, d] -> J_t directions_t`` for all t and all batch elements at once, which do not act on one another."""
    return jax.linearize(lambda b: jax.vmap(problem.step)(b, problem.steps), problem.before(s))[1]


# -- derivatives -------------------------------------------------------------------------------------------------------


def _solve_linear(g: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
    """z with ``g(z) = y``, ``g(z)_t = z_t - J_t z_{t-1}``: in parallel, or in order where the products of J overflow."""
    j = jacobians(lambda e: e - g(e), y)
    total = jax.lax.associative_scan(lambda p, q: q @ p, jax.lax.stop_gradient(j).at[0].set(0))
    return jax.lax.cond(jnp.isfinite(total).all(), affine_scan, in_order, j, y)
