"""`tune`: every way through time measured, for one body, its shapes and this machine; the fastest is a plan for ``fuse=``.

ways      what `rnnjax.scan` could do, plain `lax.scan` first; those that come to the same program are one
measure   each is compiled, its results are compared with those of `lax.scan`, then all are timed in turn
"""

from __future__ import annotations

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.engine.capture import Traced, trace
from rnnjax.engine.eager import constants, is_traced, with_constants
from rnnjax.engine.execute.run import run
from rnnjax.engine.execute.time import Time
from rnnjax.engine.execute.ways import forward_schedule, gradient_schedule, interface
from rnnjax.engine.explain import through_time
from rnnjax.engine.graph import Var, evaluate, read
from rnnjax.engine.plan import Plan, Tuned, floating_types, in_words, make_plan, types_of
from rnnjax.engine.schedule import WHOLE, Schedule, Ways

PyTree = Any
BLOCKS = (16, 64)  # steps: blocks of about these lengths are tried, and what the estimate asks for
WRITTEN = 32  # steps, at most, of a loop that is tried written out: the program grows with them
SECONDS, ROUNDS = 3.0, (3, 30)  # of timing in all, and how often each way is run
HOPELESS = 1.3  # times slower than the fastest at first sight: not timed again, `lax.scan` excepted
SLACK, ROUGH = 1000, 0.05  # roundings of the largest value, and the share of it, that results may differ by


@dataclasses.dataclass(frozen=True)
class Way:
    """One way of running a loop."""

    label: str
    fuse: bool | str
    ways: Ways = WHOLE


@dataclasses.dataclass
class Program:
    """A way, compiled."""

    way: Way
    call: Callable[[], Any]
    seconds: list[float] = dataclasses.field(default_factory=list)


def tune(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    *,
    gradient: bool = True,
    verbose: bool = True,
) -> Tuned:
    """Measures every way through time on this machine, `jax.lax.scan` among them: the fastest, for ``fuse=``.

    ``plan = rj.tune(f, init, xs)``, then ``rj.scan(f, init, xs, fuse=plan)``, with or without `jax.jit`. So where
    `lax.scan` is the fastest, `lax.scan` is what runs.

    Args:
      f, init, xs, length: as for `rnnjax.scan`; real arrays, for they are computed with. Their values matter little.
      gradient: True times the outputs and the gradient of their sum for `init`, `xs` and every floating array that `f`
        closes over; the forward pass alone then goes as the shapes say. False times the forward pass alone; the gradient
        then goes as the shapes say, unless `lax.scan` is the fastest, which then is what runs.
      verbose: print what was measured, fastest first.

    A way is left out, and named, where its results differ from those of `lax.scan` by more than rounding. To tune
    `rnnjax.unroll` or a layer, tune the step of its cell, ``rj.tune(lambda h, x: cell(params, h, x), carry, xs)``:
    a plan is bound to the length and to the floating arrays of the carry and the inputs, so that it holds with ``lengths``,
    ``mask``, ``reset`` or ``key`` too. Cells of a stack that differ in size need a plan each. `jax.vmap` hides the batch
    that it adds: tune with the batch in the arrays. A plan can be pickled, but belongs to the machine it was made on.

    Returns:
      A plan: frozen, hashable, and static under `jax.jit`. `rnnjax.explain(..., fuse=plan)` says what it does. On other
      shapes it acts as ``fuse=True``, with one RuntimeWarning.

    Raises:
      What `lax.scan` and its gradient raise. ValueError inside `jit` or any other transformation, where nothing can be timed.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> w, u = jnp.full((3, 4), 0.1), jnp.eye(4)
    >>> step = lambda h, x: (jnp.tanh(x @ w + h @ u),) * 2
    >>> h, xs = jnp.zeros((2, 4)), jnp.ones((5, 2, 3))
    >>> plan = rj.tune(step, h, xs, verbose=False)
    >>> rj.scan(step, h, xs, fuse=plan)[1].shape
    (5, 2, 4)
    """
    refuse_tracers((init, xs))
    traced = trace(f, init, xs, length, False, 1)
    refuse_tracers(list(constants(traced).values()))
    plan = make_plan(traced, True)
    if plan.says:
        warnings.warn(plan.says, RuntimeWarning, 2)
    shapes = types_of(traced) if traced.graph is not None else types_of_arrays(traced, init, xs)
    device = jax.devices()[0].device_kind
    if verbose:
        print(f"rj.tune: {'value and gradient' if gradient else 'forward alone'}, {in_words(*shapes)}, on {device}")
    ways = ways_of(traced, plan, gradient)
    notes: list[str] = []
    if len(ways) == 1:
        best, seconds = ways[0], {}
        notes.append(f"lax.scan is the only way: {plan.reason}")
    else:
        consts, again = with_constants(lambda init, xs: trace(f, init, xs, length, False, 1), init, xs)
        programs = compile_all(ways, again, (consts, (init, xs)), gradient, notes)
        seconds = measure(programs)
        best = min(seconds, key=lambda way: seconds[way])
    if verbose:
        print(table(seconds, notes))
    by_label = tuple((way.label, took) for way, took in seconds.items())
    return Tuned(best.fuse, best.ways, gradient, *shapes, best.label, by_label, device)


def refuse_tracers(values: Any) -> None:
    """Nothing can be timed where arrays are being traced."""
    if is_traced(values) or isinstance(jnp.zeros(()), jax.core.Tracer):
        raise ValueError(
            "tune: measures on real arrays, got some that are being traced, by jit, grad, vmap or the like; "
            "call rj.tune outside and pass its plan in, rj.scan(..., fuse=plan)"
        )


def types_of_arrays(traced: Traced, init: Any, xs: Any) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """As `types_of`, of arrays."""
    carry, inputs = ([Var(jax.typeof(v)) for v in jax.tree.leaves(tree)] for tree in (init, xs))
    steps = inputs[0].shape[0] if inputs else traced.length
    return steps, floating_types(carry), floating_types([v.reshaped(v.shape[1:]) for v in inputs])


# --- ways


def ways_of(traced: Traced, plan: Plan, gradient: bool) -> list[Way]:
    """Every way that there may be; some of them may come to the same."""
    found = [Way("lax.scan", False)]
    if traced.graph is None or traced.length < 2:
        return found
    if plan.sorted is not None and plan.taps is not None:
        estimate, schedules = schedules_of(plan, traced.length, gradient)
        for schedule in schedules:
            words = through_time(schedule, traced.length, gradient) + " (fuse=True)" * (schedule == estimate)
            found.append(Way(words, True, Ways(None, schedule) if gradient else Ways(schedule, None)))
    modes = ("all", "hoist", "defer") if gradient else ()
    return found + [Way(f'fuse="{mode}"', mode) for mode in modes if make_plan(traced, mode).fused]


def schedules_of(plan: Plan, length: int, gradient: bool) -> tuple[Schedule, list[Schedule]]:
    """What the estimate asks for, and all that is tried, without repetition."""
    cuts = block_counts(length)
    every = [Schedule(), Schedule(hoist=False), *(Schedule(n) for n in cuts)]
    every += [Schedule(written=True)] if length <= WRITTEN else []
    if gradient:
        estimate = gradient_schedule(plan, length)
        every += [Schedule(1, True), *(Schedule(n, True) for n in cuts)]
    else:
        assert plan.sorted is not None and plan.taps is not None
        estimate = forward_schedule(plan.sorted, interface(plan.sorted, plan.taps), length)
    return estimate, list(dict.fromkeys([estimate, *every]))


def block_counts(length: int) -> list[int]:
    """How many blocks of about the lengths in `BLOCKS` there are, where some length near them fits evenly."""
    fit = [k for k in range(4, length // 2 + 1) if length % k == 0]
    return list(dict.fromkeys(length // min(fit, key=lambda k: abs(k - steps)) for steps in BLOCKS if fit))


# --- programs


def compile_all(
    ways: list[Way], again: Callable[..., Traced], args: Any, gradient: bool, notes: list[str]
) -> list[Program]:
    """Each way compiled, run once and compared with the first; `notes` says what is left out and why."""
    floats, merge = split_floats(args)
    ones = [jnp.ones(o.shape, o.dtype) for o in jax.eval_shape(lambda: run_way(ways[0], again, args)) if has_tangent(o)]
    seen, programs, want, moved = set(), [], None, None
    for way in ways:
        program = jax.jit(timed(way, again, merge, gradient and bool(floats) and bool(ones)))
        try:
            lowered = program.lower(floats, ones)
            if (text := lowered.as_text()) in seen:
                continue
            seen.add(text)
            step = lowered.compile()
            got = jax.block_until_ready(step(floats, ones))
        except jax.errors.JaxRuntimeError as error:
            notes.append(f"left out, it does not run here: {way.label}: {str(error).splitlines()[0]}")
            continue
        if want is None:
            want, moved = got, step(jax.tree.map(moved_by_rounding, floats), ones)
        elif not same(got, want, moved):
            notes.append(f"left out, its results are not those of lax.scan: {way.label}")
            continue
        programs.append(Program(way, lambda step=step: step(floats, ones)))
    return programs


def run_way(way: Way, again: Callable[..., Traced], args: Any) -> list:
    """The flat results of a loop."""
    traced = again(*args)
    assert traced.graph is not None and traced.finish is not None
    if way.fuse is False:
        return jax.tree.leaves(traced.finish(run_plain(traced)))
    plan = make_plan(traced, way.fuse)
    assert plan.sorted is not None and plan.taps is not None
    outs = run(plan.sorted, plan.taps, traced.init, traced.xs, Time(traced.length), way.ways)
    return jax.tree.leaves(traced.finish(outs))


def run_plain(traced: Traced) -> list:
    """The flat outputs of `lax.scan` itself."""
    graph = traced.graph
    assert graph is not None

    def step(carry: list, x: list) -> tuple[list, list]:
        env = {**graph.consts, **dict(zip(graph.ins, [*carry, *x], strict=True))}
        evaluate(graph.eqns, env)
        outs = [jnp.asarray(read(env, a)) for a in graph.outs]
        return outs[: traced.num_carry], outs[traced.num_carry :]

    carry, ys = jax.lax.scan(step, traced.init, traced.xs, traced.length)
    return [*carry, *ys]


def timed(way: Way, again: Callable[..., Traced], merge: Callable[[list], Any], gradient: bool) -> Callable:
    """`(floats, ones) -> results`, and with `gradient` those of a pull-back of ones, which XLA does not know to be ones."""

    def forward(floats: list, ones: list) -> Any:
        return run_way(way, again, merge(floats))

    def both(floats: list, ones: list) -> Any:
        def outputs(floats):
            outs = forward(floats, ones)
            return [o for o in outs if has_tangent(o)], outs

        _, pull, outs = jax.vjp(outputs, floats, has_aux=True)
        return outs, pull(ones)

    return both if gradient else forward


def has_tangent(value: Any) -> bool:
    """Whether an array is floating or complex."""
    return jnp.issubdtype(jax.typeof(value).dtype, jnp.inexact)


def split_floats(args: Any) -> tuple[list, Callable[[list], Any]]:
    """The arrays that have a gradient, and what puts others in their place."""
    leaves, tree = jax.tree.flatten(args)
    where = [n for n, v in enumerate(leaves) if has_tangent(v)]

    def merge(floats: list) -> Any:
        given = dict(zip(where, floats, strict=True))
        return jax.tree.unflatten(tree, [given.get(n, v) for n, v in enumerate(leaves)])

    return [leaves[n] for n in where], merge


# --- comparing and timing


def moved_by_rounding(value: Any) -> jax.Array:
    """The same, each element to the next number above or below, by a fixed draw."""
    value = jnp.asarray(value)
    sign = np.random.default_rng(0).choice([-1.0, 1.0], value.shape)
    return value * jnp.asarray(1 + float(jnp.finfo(value.dtype).eps) * sign, value.dtype)


def same(got: Any, want: Any, moved: Any) -> bool:
    """Whether results differ by no more than rounding does; `moved`: those of inputs that differ by a rounding."""
    return all(map(close, *map(jax.tree.leaves, (got, want, moved))))


def close(got: Any, want: Any, moved: Any) -> bool:
    """Whether two arrays are the same to rounding, NaN and inf at the same places."""
    eps = float(jnp.finfo(want.dtype).eps) if has_tangent(want) else 0.0
    a, b, c = map(on_host, (got, want, moved))
    finite = np.isfinite(b)
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), finite):
        return False
    far = lambda x, y: np.max(np.abs(np.where(finite, x, 0) - np.where(finite, y, 0)), initial=0.0)
    return bool(far(a, b) <= min(SLACK * eps, ROUGH) * far(b, 0) + 16 * np.nan_to_num(far(c, b), nan=0.0))


def on_host(value: Any) -> np.ndarray:
    """In double precision."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value).astype(np.complex128 if jnp.iscomplexobj(value) else np.float64)


def measure(programs: list[Program]) -> dict[Way, float]:
    """Median seconds of each, run in turn so that what disturbs one disturbs all; the hopeless are run twice."""
    in_turn(programs, 2)
    limit = HOPELESS * min(min(p.seconds) for p in programs)
    rest = [p for p in programs if min(p.seconds) <= limit or p.way.fuse is False]
    in_turn(rest, int(np.clip(SECONDS / sum(min(p.seconds) for p in rest), *ROUNDS)))
    took = {p.way: statistics.median(p.seconds) for p in programs}
    return dict(sorted(took.items(), key=lambda item: item[1]))


def in_turn(programs: list[Program], rounds: int) -> None:
    """Seconds of so many runs of each."""
    for _ in range(rounds):
        for program in programs:
            start = time.perf_counter()
            jax.block_until_ready(program.call())
            program.seconds.append(time.perf_counter() - start)


def table(seconds: dict[Way, float], notes: list[str]) -> str:
    """What was measured, fastest first."""
    plain = next((took for way, took in seconds.items() if way.fuse is False), None)
    lines = [f"{'ms':>10}  {'lax.scan = 1':>12}  way"] if seconds else []
    for n, (way, took) in enumerate(seconds.items()):
        share = f"{plain / took:.2f}" if plain else ""
        lines.append(f"{1e3 * took:>10.3f}  {share:>12}  {way.label}{'  <- fastest' if n == 0 else ''}")
    return "\n".join([*lines, *notes])
