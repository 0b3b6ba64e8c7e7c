"""Running a cell in float64 beside a transcription of its paper's equations: a plain loop in numpy, written from the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np

import rnnjax as rj

T, B = 6, 2


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0)


def blocks(w: np.ndarray, n: int) -> list[np.ndarray]:
    """The ``n`` gates side by side in a weight."""
    return np.split(w, n, axis=-1)


def normalised(z: np.ndarray) -> np.ndarray:
    return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)


def random_params(cell: Any, x: tuple[int, ...], seed: int = 0) -> Any:
    """Params of the cell's shapes in which nothing is zero, one, or equal: an oracle must notice every one of them."""
    shapes = jax.eval_shape(cell.init, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct(x, np.float64))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: 0.6 * rng.normal(size=p.shape), shapes)


def run(cell: Any, params: Any, xs: np.ndarray, carry: Any = None) -> Any:
    """``(last carry, ys)`` by `rnnjax.unroll`, compiled without optimisation."""
    roll = jax.jit(
        lambda p, xs, c: rj.unroll(cell, p, xs, carry=c), compiler_options={"xla_backend_optimization_level": 0}
    )
    return jax.device_get(roll(params, xs, carry))


def check(
    cell: Any, step: Callable[..., Any], start: Any, inputs: tuple[int, ...] = (3,), count: int | None = None
) -> None:
    """``cell`` does what ``step(params, carry, x) -> (carry, y)`` of numpy does, from ``start``, to float64 rounding.

    ``start``: the carry's parts without batch axes, each a shape. ``count``: the number of params.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        params = random_params(cell, inputs)
        if count is not None:
            assert sum(p.size for p in jax.tree.leaves(params)) == count
        xs = rng.normal(size=(T, B, *inputs))
        carry = tuple(0.5 * rng.normal(size=(B, *shape)) for shape in start)
        given = type(cell.initial_carry(params, xs[0]))(*carry) if len(start) > 1 else carry[0]
        got_carry, got_ys = run(cell, params, xs, given)
        ys = []
        for x in xs:
            carry, y = step(params, *carry, x)
            carry = carry if isinstance(carry, tuple) else (carry,)
            ys.append(y)
        chex.assert_trees_all_close(got_ys, np.stack(ys), rtol=1e-9, atol=1e-11)
        chex.assert_trees_all_close(tuple(jax.tree.leaves(got_carry)), carry, rtol=1e-9, atol=1e-11)
