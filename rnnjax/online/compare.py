"""How far approximate gradients point where the true one points."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import Carry, Key, Params, takes_key
from rnnjax.online.flat import layout
from rnnjax.online.learner import Learner, value_and_grad
from rnnjax.sequence import unroll


class Comparison(NamedTuple):
    """cosine: of the angle between a gradient and that of backpropagation through time. sign_agreement: share of the parts of
    that gradient, zeros left out, whose sign is right. seconds: the fastest of three calls, compiled."""

    cosine: float
    sign_agreement: float
    seconds: float


def compare(
    cell: Any,
    loss: Callable[[Any, Any], jax.Array],
    params: Params,
    xs: Any,
    targets: Any,
    methods: Sequence[str] = ("rtrl", "snap1", "eprop"),
    *,
    carry: Carry | None = None,
    key: Key = None,
) -> dict[str, Comparison]:
    """A `Comparison` for each of ``methods``, and for ``"bptt"``, by name; arguments as for `value_and_grad`.

    Errors: those of `Learner`; ValueError for a single method in place of a list; under jit, where nothing can be timed.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jax.random.normal(jax.random.key(0), (8, 3))
    >>> params = cell.init(jax.random.key(1), xs[0])
    >>> report = rj.online.compare(cell, lambda y, t: jnp.sum((y - t) ** 2), params, xs, jnp.ones((8, 4)), ["rtrl"])
    >>> round(report["rtrl"].cosine, 4), report["rtrl"].sign_agreement
    (1.0, 1.0)
    """
    if isinstance(methods, str):
        raise ValueError(f"compare: methods must be a list of names, got {methods!r}; write [{methods!r}]")
    if any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((params, xs, targets, carry, key))):
        raise ValueError(
            "compare: measures time, so it must be called outside jit, grad and vmap; use value_and_grad there"
        )
    for method in methods:
        Learner(cell, loss, method)

    def bptt(params: Params, xs: Any, targets: Any, *, carry: Any, key: Any) -> Any:
        def total(params: Params) -> jax.Array:
            ys = unroll(cell, params, xs, carry=carry, key=key)[1]
            return jnp.sum(jax.vmap(loss)(ys, targets))

        return jax.value_and_grad(total)(params)

    noise = (
        key if "uoro" not in methods or takes_key(cell) else None
    )  # the signs need one, whether the cell does or not
    truth, seconds = _timed(bptt, params, xs, targets, carry=carry, key=noise)
    report = {"bptt": Comparison(1.0, 1.0, seconds)}
    for method in methods:
        own = key if method == "uoro" else noise
        found, seconds = _timed(value_and_grad(cell, loss, method), params, xs, targets, carry=carry, key=own)
        report[method] = Comparison(*_agreement(found, truth), seconds)
    return report


def _timed(f: Callable, *args: Any, **options: Any) -> tuple[np.ndarray, float]:
    """The gradient as a vector, and the seconds of the fastest of three calls."""
    compiled, times = jax.jit(f), []
    _, grads = jax.block_until_ready(compiled(*args, **options))
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*args, **options))
        times.append(time.perf_counter() - began)
    return np.asarray(layout(grads).pack(grads), np.float64), min(times)


def _agreement(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    lengths = np.linalg.norm(found) * np.linalg.norm(truth)
    counted = truth != 0
    signs = np.sign(found[counted]) == np.sign(truth[counted])
    return float(found @ truth / lengths) if lengths else float("nan"), float(signs.mean()) if signs.size else float(
        "nan"
    )
