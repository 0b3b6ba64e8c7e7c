"""`choose`: which method runs a cell fastest here, by measuring, and why."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import Carry, Key, Params, check_choice
from rnnjax.protocols import is_linear
from rnnjax.sequence import unroll
from rnnjax.sequence.methods import METHODS
from rnnjax.sequence.methods.newton import exponents, read_run
from rnnjax.sequence.run import Run

ROUNDS, SECONDS = (3, 15), 2.0  # how often each method is timed, and for how long all of them in all
GAIN = 1.05  # times as fast as the scan that another method must be
ROOM = 2**30  # bytes that Newton's Jacobians may take


class Choice(NamedTuple):
    """method: for ``method=`` of `rnnjax.unroll`. exponent: the largest, a step, natural logarithm. reason: a sentence.

    seconds: of each method that was measured.
    """

    method: str
    exponent: float
    reason: str
    seconds: dict[str, float]


def choose(
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
    gradient: bool = True,
    methods: Sequence[str] | None = None,
) -> Choice:
    """Measures the largest exponent along ``xs`` and the time of each method, and says which one to take.

    cell, params, xs, carry, lengths, mask, reset, reverse, key: as in `rnnjax.unroll`, time first; real arrays, whose values matter:
    Newton's method takes few iterations where the recurrence forgets (exponent below zero) and cannot help where neighbours part.
    gradient: time outputs and gradient (for params and inputs), or outputs alone.
    methods: what to try beside "scan"; by default "associative" where the cell is linear in time, else "deer" and "quasi_deer", unless the
    exponent or their memory (T d^2 numbers for a carry of d) speaks against them. What gives other numbers than the scan
    is left out; another method is taken where it is at least 1.05 times as fast.
    exponent: the mean over time of the logarithm by which a step lengthens a small difference, of the example with the largest.
    Errors: as `rnnjax.unroll`; ValueError inside jit, grad or vmap, where nothing can be measured, and for an unknown method; TypeError
    for a carry with integers.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jnp.ones((20, 3))
    >>> choice = rj.parallel.choose(cell, cell.init(jax.random.key(0), xs[0]), xs, methods=())
    >>> choice.method, choice.exponent < 0
    ('scan', True)
    """
    _refuse_tracers(params, xs, carry, lengths, mask, reset, key)
    for method in methods or ():
        check_choice("choose", "method", method, tuple(METHODS))
    how: dict[str, Any] = dict(carry=carry, lengths=lengths, mask=mask, reset=reset, reverse=reverse, key=key)
    its = read_run(cell, params, xs, **how)
    exponent = _largest_exponent(its, reverse)
    steps, size = _sizes(its)
    tried, why = (tuple(methods), "") if methods is not None else _candidates(its, exponent, steps, size)
    programs, left_out = _compiled(cell, params, xs, how, ("scan", *tried), gradient)
    seconds = _timed(programs)
    best = min(seconds, key=lambda name: seconds[name])
    best = best if seconds[best] * GAIN <= seconds["scan"] else "scan"
    return Choice(best, exponent, _sentence(best, seconds, exponent, steps, gradient, [*left_out, why]), seconds)


def _refuse_tracers(*trees: Any) -> None:
    if any(isinstance(a, jax.core.Tracer) for a in (*jax.tree.leaves(trees), jnp.zeros(()))):
        raise ValueError(
            "choose: measures on real arrays, got some that are being traced, by jit, grad, vmap or the like; call "
            "rj.parallel.choose outside and pass its method in, rj.unroll(..., method=choice.method)"
        )


def _largest_exponent(its: Run, reverse: bool) -> float:
    found = np.asarray(jax.jit(lambda: exponents(its, reverse))())
    return float(found.max()) if found.size else -math.inf


def _sizes(its: Run) -> tuple[int, int]:
    """Steps, and numbers in the carries of all examples."""
    return len(jax.tree.leaves(its.steps.x)[0]), sum(
        a.size * (1 + jnp.iscomplexobj(a)) for a in jax.tree.leaves(its.start)
    )


def _candidates(its: Run, exponent: float, steps: int, size: int) -> tuple[tuple[str, ...], str]:
    """What is worth trying, and why the rest is not."""
    if is_linear(its.cell):
        return ("associative",), ""
    dtype = max((a.dtype for a in jax.tree.leaves(its.start)), key=lambda d: d.itemsize)
    digits = -math.log(float(jnp.finfo(dtype).eps)) / 2
    if exponent * steps > digits:
        return (), (
            f"neighbours part, over {steps} steps by e^{exponent * steps:.0f}, so that Newton's method has nothing to converge to"
        )
    examples = max(1, math.prod(jax.tree.leaves(its.steps.x)[0].shape[1:-1]))
    room = steps * size * max(1, size // examples) * dtype.itemsize
    if room > ROOM:
        return (), f"the Jacobians of Newton's method would take {room / 2**30:.1f} GiB"
    return ("deer", "quasi_deer"), ""


def _compiled(
    cell: Any, params: Params, xs: Any, how: dict[str, Any], methods: Sequence[str], gradient: bool
) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """What runs each method, and what is left out and why: it does not run here, or its numbers are not those of the scan."""
    programs, left_out, wanted = {}, [], None
    for method in dict.fromkeys(methods):
        try:
            program = jax.jit(_work(cell, how, method, gradient)).lower(params, xs).compile()
            found = jax.block_until_ready(program(params, xs))
        except jax.errors.JaxRuntimeError as error:
            left_out.append(f"{method} does not run here: {str(error).splitlines()[0]}")
            continue
        wanted = found if wanted is None else wanted
        if not all(map(_close, jax.tree.leaves(found[0]), jax.tree.leaves(wanted[0]))):
            left_out.append(f"{method} gives other numbers")
            continue
        programs[method] = lambda program=program: program(params, xs)
    return programs, left_out


def _work(cell: Any, how: dict[str, Any], method: str, gradient: bool) -> Callable[..., Any]:
    def outputs(params: Params, xs: Any) -> Any:
        return unroll(cell, params, xs, method=method, **how)

    def total(params: Params, xs: Any) -> Any:
        out = outputs(params, xs)
        parts = [
            jnp.sum(a.real.astype(jnp.float32)) for a in jax.tree.leaves(out) if jnp.issubdtype(a.dtype, jnp.inexact)
        ]
        return sum(parts, start=jnp.zeros(())), out

    def both(params: Params, xs: Any) -> Any:
        gradients, out = jax.grad(total, (0, 1) if _floats(xs) else 0, has_aux=True, allow_int=True)(params, xs)
        return out, gradients

    return both if gradient else lambda params, xs: (outputs(params, xs),)


def _floats(tree: Any) -> bool:
    return all(jnp.issubdtype(jnp.asarray(a).dtype, jnp.inexact) for a in jax.tree.leaves(tree))


def _close(got: jax.Array, want: jax.Array) -> bool:
    if not jnp.issubdtype(want.dtype, jnp.inexact):
        return bool(np.array_equal(got, want))
    slack = float(jnp.finfo(want.dtype).eps) ** 0.5
    wide = np.complex128 if jnp.iscomplexobj(want) else np.float64
    return np.allclose(
        np.asarray(got).astype(wide), np.asarray(want).astype(wide), rtol=slack, atol=slack, equal_nan=True
    )


def _timed(programs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, run in turn so that what disturbs one disturbs all."""
    took: dict[str, list[float]] = {name: [] for name in programs}
    rounds = ROUNDS[0]
    for n in range(ROUNDS[1]):
        if n >= rounds:
            break
        for name, call in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            took[name].append(time.perf_counter() - began)
        rounds = max(ROUNDS[0], int(SECONDS / max(1e-9, sum(map(min, took.values())))))
    return {name: statistics.median(some) for name, some in took.items()}


def _sentence(
    best: str, seconds: dict[str, float], exponent: float, steps: int, gradient: bool, notes: list[str]
) -> str:
    what = "outputs and gradient" if gradient else "outputs"
    others = ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in sorted(seconds.items(), key=lambda pair: pair[1]))
    nature = "forgets its start" if exponent < 0 else "keeps or amplifies small differences"
    where = f"{what} of {steps} steps on {jax.devices()[0].device_kind}"
    extra = "".join(f"; {note}" for note in notes if note)
    fastest = min(seconds, key=lambda name: seconds[name])
    taken = "is fastest" if best == fastest else "is as fast as any"
    taken = taken if len(seconds) > 1 else "is taken"
    return f"{best} {taken} for {where} ({others}); with a largest exponent of {exponent:+.3g} a step the cell {nature}{extra}."
