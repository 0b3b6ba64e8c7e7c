"""Every cell where its gates are saturated, its weights or inputs huge, or all is zero: values and gradients against float64.

The same code in float64 is the reference: what under- or overflows in float32 (``exp(-90)``, the root of it, one over it)
does not there. In half precision, with inputs of zero, the reference is float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO, Entry

import rnnjax as rj
from rnnjax.base import wide

T, B = 3, 2
CELLS = [e for e in ZOO if type(e.cell).__name__ in rj.cells.__all__]
# Eleven were wrong at one of these points; all of them take minutes.
EACH_RUN = ("MLSTM", "RGLRU", "DeltaNet", "LTC", "OrthogonalRNN", "TapeRNN")  # one of each kind; all in the slow part
marks = lambda e: () if type(e.cell).__name__ in EACH_RUN else pytest.mark.slow
everything = pytest.mark.parametrize("entry", [pytest.param(e, id=e.id, marks=marks(e)) for e in CELLS])
methods = lambda e: ("scan", "associative") if e.linear else ("scan",)


def inexact(tree: Any) -> list[np.ndarray]:
    return [np.asarray(a) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def rolled(entry: Entry, method: str) -> Any:
    """One compiled function ``(params, xs) -> (values, gradients)`` of a fixed random sum of all carries and outputs."""

    def total(params: Any, xs: Any) -> Any:
        out = [a for a in jax.tree.leaves(rj.unroll(entry.cell, params, xs, method=method)) if a.dtype != jnp.int32]
        parts = [wide(a.real) for a in out]
        weights = [np.cos(np.arange(a.size) + i).reshape(a.shape) for i, a in enumerate(parts)]
        return sum(jnp.sum(a * jnp.asarray(w, a.dtype)) for a, w in zip(parts, weights)), out

    run = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True), compiler_options={"xla_backend_optimization_level": 0})
    return lambda params, xs: tuple(inexact(part) for part in jax.device_get(run(params, xs))[::-1])


@functools.cache
def start(entry: Entry) -> tuple[Any, np.ndarray]:
    """Params, none of them zero, and inputs, in float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        xs = rng.normal(size=(T, B, *entry.x))
        params = jax.device_get(entry.cell.init(jax.random.key(0), jnp.asarray(xs[0])))
        return jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape), params), xs


SCALARS = ("rate", "log_", "decay", "alpha", "beta", "zeta", "nu", "tau", "peephole", "reversal", "skip")


def replaced(params: Any, wanted: Any, first: float, second: float) -> Any:
    """The leaves whose name is ``wanted``, their first half one number, their second half another."""

    def one(path: Any, p: np.ndarray) -> np.ndarray:
        name = path[-1].key
        half = np.arange(p.shape[-1] if p.ndim else 1) < (p.shape[-1] + 1) // 2 if p.ndim else np.array(True)
        return np.broadcast_to(np.where(half, first, second), p.shape).astype(p.dtype) if wanted(name, p) else p

    return jax.tree_util.tree_map_with_path(one, params)


def extremes(params: Any, xs: np.ndarray) -> Iterator[tuple[str, Any, np.ndarray]]:
    bias = lambda name, p: "bias" in name
    scalar = lambda name, p: p.ndim <= 1 and "bias" not in name and any(s in name for s in SCALARS)
    kept = lambda name: "bias" in name or "angle" in name  # of an angle of a thousand turns float32 has no digit left
    by_100 = jax.tree_util.tree_map_with_path(lambda path, p: p if kept(path[-1].key) else 100 * p, params)
    yield from (("as they start", params, xs), ("inputs times 100", params, 100 * xs), ("no input", params, 0 * xs))
    yield from (("weights times 100", by_100, xs), ("both times 100", by_100, 100 * xs))
    yield "all zero", jax.tree.map(np.zeros_like, params), 0 * xs
    for pair in ((90, 90), (-90, -90), (110, 110), (-110, -110), (-110, 0), (0, -110), (110, -110), (-110, 110)):
        yield f"biases {pair}", replaced(params, bias, *pair), xs
    yield "biases 110, no input", replaced(params, bias, 110, 110), 0 * xs
    for value in (-110, -15, 15, 110):
        yield f"scalars {value}", replaced(params, scalar, value, value), xs


@everything
def test_extreme_params_and_inputs_give_what_float64_gives(entry: Entry) -> None:
    params, xs = start(entry)
    reference, single = rolled(entry, "scan"), {method: rolled(entry, method) for method in methods(entry)}
    for name, p, x in extremes(params, xs):
        with jax.enable_x64(True):
            values, grads = reference(p, x)
        size = max(1, *(np.abs(a).max() for a in (x, *jax.tree.leaves(p))))
        assert all(np.isfinite(a).all() for a in (*values, *grads)), f"{name}: float64"
        if max(np.abs(a).max() for a in (*values, *grads)) > 1e30:
            continue  # what it should be is more than float32 holds
        for method, run in single.items():
            got = run(cast(p, jnp.float32), cast(x, jnp.float32))
            for what, mine, theirs in zip(("value", "gradient"), got, (values, grads)):
                for a, b in zip(mine, theirs, strict=True):
                    assert np.isfinite(a).all(), f"{name}, {method}: a {what} is not finite"
                    if what == "gradient" and name == "both times 100":
                        continue  # what is left of sums a million times as large, which cancel
                    scale = np.abs(b).max() + 1e-2 * size
                    assert np.abs(a - b).max() < (1e-3 if what == "value" else 0.1) * scale, f"{name}, {method}: {what}"


@everything
def test_half_precision_at_zero_and_elsewhere_is_finite_and_near_float32(entry: Entry) -> None:
    params, xs = start(entry)
    padded = xs.copy()
    padded[:, 1] = padded[2] = 0
    zero = jax.tree.map(np.zeros_like, params)
    for method in methods(entry):
        run = rolled(entry, method)
        for name, p, x in (("padding", params, padded), ("no input", params, 0 * xs), ("all zero", zero, 0 * xs)):
            values, grads = run(cast(p, jnp.float32), cast(x, jnp.float32))
            for dtype, near in ((jnp.float16, 0.02), (jnp.bfloat16, 0.15)):
                got = run(cast(p, dtype), cast(x, dtype))
                assert all(np.isfinite(a.astype(np.complex64)).all() for part in got for a in part), (name, dtype)
                for a, b in zip(got[0], values, strict=True):
                    assert np.abs(a.astype(b.dtype) - b).max() < near * (np.abs(b).max() + 0.1), (name, dtype)
                if name == "padding" and type(entry.cell).__name__ not in (
                    "OrthogonalRNN",
                    "UnitaryRNN",
                ):  # modReLU at 0
                    for a, b in zip(got[1], grads, strict=True):
                        assert np.abs(a.astype(b.dtype) - b).max() < 4 * near * (np.abs(b).max() + 0.1), (name, dtype)
