"""The same LSTM or GRU, with the same weights, in every library: `(p, xs, up) -> (loss, gradient)` or outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import rnnjax as rj


def make(cell: Any, params: Any, mode: str) -> dict[str, Callable]:
    """One function `(xs, up) -> numbers` per library that has this cell and is installed; time first everywhere."""
    sides: dict[str, Callable] = {}
    builders = {"rnnjax": ours, "rnnjax bf16": ours_mixed, "flax.linen": linen, "flax.nnx": nnx, "haiku": haiku,
                "equinox": equinox, "keras": keras, "torch": torch}  # fmt: skip
    for name, build in builders.items():
        try:
            sides[name] = build(cell, params, mode)
        except ImportError as missing:
            print(f"{name}: not installed ({missing.name})")
        except TypeError:  # haiku's GRU resets before the product: another equation, an empty column
            pass
    return sides


def compile_jax(weights: Any, ys: Callable, mode: str) -> Callable:
    """`ys(weights, xs)` as a compiled forward pass or training step; returns outputs, or (loss, gradient)."""
    if mode == "forward":
        f = jax.jit(ys)
        return lambda xs, up: f(weights, xs)
    g = jax.jit(jax.value_and_grad(lambda w, xs, up: jnp.sum(ys(w, xs) * up)))
    return lambda xs, up: g(weights, xs, up)


def ours(cell: Any, params: Any, mode: str) -> Callable:
    return compile_jax(params, lambda p, xs: rj.unroll(cell, p, xs)[1], mode)


def ours_mixed(cell: Any, params: Any, mode: str) -> Callable:
    """Products on bfloat16 operands with float32 sums; everything else float32."""
    run = lambda p, xs: rj.unroll(cell, p, xs, matmul_dtype=jnp.bfloat16)[1]
    return compile_jax(params, run, mode)


def linen(cell: Any, params: Any, mode: str) -> Callable:
    module, variables = rj.interop.to_flax(rj.RNN(cell), params)
    return compile_jax(variables, lambda v, xs: module.apply(v, xs, time_major=True), mode)


def nnx(cell: Any, params: Any, mode: str) -> Callable:
    from flax import nnx

    graph, state, rest = nnx.split(rj.interop.to_nnx(rj.RNN(cell), params), nnx.Param, ...)

    def ys(state, xs):
        zero = jnp.zeros((xs.shape[1], cell.features), xs.dtype)
        carry = (zero, zero) if isinstance(cell, rj.LSTM) else zero
        return nnx.merge(graph, state, rest)(xs, time_major=True, initial_carry=carry)

    return compile_jax(state, ys, mode)


def haiku(cell: Any, params: Any, mode: str) -> Callable:
    import haiku as hk

    core, weights = rj.interop.to_haiku(cell, params)

    def run(xs):
        rnn = core()
        return hk.dynamic_unroll(rnn, xs, rnn.initial_state(xs.shape[1]))[0]

    apply = hk.without_apply_rng(hk.transform(run)).apply
    return compile_jax(weights, apply, mode)


def equinox(cell: Any, params: Any, mode: str) -> Callable:
    import equinox as eqx

    weights, static = eqx.partition(rj.interop.to_equinox(cell, params), eqx.is_array)

    def ys(weights, xs):
        step = jax.vmap(eqx.combine(weights, static))
        zero = jnp.zeros((xs.shape[1], cell.features), xs.dtype)
        carry = (zero, zero) if isinstance(cell, rj.LSTM) else zero

        def body(carry, x):
            carry = step(x, carry)
            return carry, carry[0] if isinstance(carry, tuple) else carry

        return jax.lax.scan(body, carry, xs)[1]

    return compile_jax(weights, ys, mode)


def keras(cell: Any, params: Any, mode: str) -> Callable:
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    module = rj.interop.to_keras(rj.RNN(cell), params)
    fixed = [v.value for v in module.non_trainable_variables]

    def ys(weights, xs):  # Keras reads the batch first
        return module.stateless_call(weights, fixed, xs.swapaxes(0, 1))[0].swapaxes(0, 1)

    return compile_jax([v.value for v in module.trainable_variables], ys, mode)


def torch(cell: Any, params: Any, mode: str) -> Callable:
    import numpy as np
    import torch

    module = rj.interop.to_torch(rj.RNN(cell), params)
    module.batch_first = False
    kept: dict[int, Any] = {}

    def tensor(x):  # converted once: the conversion is not what is measured
        return kept.setdefault(id(x), torch.from_numpy(np.array(x)))

    def forward(xs, up):
        with torch.no_grad():
            return module(tensor(xs))[0].numpy()

    def train(xs, up):
        module.zero_grad(set_to_none=True)
        loss = (module(tensor(xs))[0] * tensor(up)).sum()
        loss.backward()
        return loss.detach().numpy(), [p.grad.numpy() for p in module.parameters()]

    return forward if mode == "forward" else train
