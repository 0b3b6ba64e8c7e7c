"""Scan bodies of every kind, each `(p, carry, x) -> (carry, y)`, for comparison with `lax.scan`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

T, B, I, H = 5, 2, 3, 4


class Body(NamedTuple):
    """A body with its weights, start and inputs; `p`, `carry` and `xs` may hold integers and None."""

    step: Any
    p: Any
    carry: Any
    xs: Any
    length: int | None = None


BODIES: dict[str, Any] = {}


def body(make):
    BODIES[make.__name__] = make
    return make


def rand(seed: int, *shape: int, scale: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * scale


def weights(gates: int = 1) -> dict[str, np.ndarray]:
    return dict(w=rand(1, I, gates * H), u=rand(2, H, gates * H), b=rand(3, gates * H))


def start(seed: int = 4) -> np.ndarray:
    return rand(seed, B, H)


XS = rand(5, T, B, I)


def twice(h):
    return h, h


@body
def elman():
    return Body(lambda p, h, x: twice(jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"])), weights(), start(), XS)


def lstm_step(p, carry, x, gates):
    h, c = carry
    i, f, g, o = gates(p, h, x)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


@body
def lstm_split():
    gates = lambda p, h, x: jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, -1)
    return Body(functools.partial(lstm_step, gates=gates), weights(4), (start(), start(6)), XS)


@body
def lstm_concat():
    gates = lambda p, h, x: jnp.split(jnp.concatenate([x, h], -1) @ p["w"] + p["b"], 4, -1)
    p = dict(w=rand(1, I + H, 4 * H), b=rand(2, 4 * H))
    return Body(functools.partial(lstm_step, gates=gates), p, (start(), start(6)), XS)


@body
def lstm_gate_by_gate():
    gates = lambda p, h, x: [x @ w + h @ u + b for w, u, b in zip(p["w"], p["u"], p["b"], strict=True)]
    p = dict(w=rand(1, 4, I, H), u=rand(2, 4, H, H), b=rand(3, 4, H))
    return Body(functools.partial(lstm_step, gates=gates), p, (start(), start(6)), XS)


@body
def peephole():
    def gates(p, h, x):
        z = x @ p["w"] + h @ p["u"] + p["b"]
        return [z[..., n * H : (n + 1) * H] + h * p["peep"][n] for n in range(4)]

    p = dict(weights(4), peep=rand(9, 4, H))
    return Body(functools.partial(lstm_step, gates=gates), p, (start(), start(6)), XS)


@body
def gru_slices():
    def step(p, h, x):
        gx, gh = x @ p["w"] + p["b"], h @ p["u"]
        r = jax.nn.sigmoid(gx[..., :H] + gh[..., :H])
        z = jax.nn.sigmoid(gx[..., H : 2 * H] + gh[..., H : 2 * H])
        n = jnp.tanh(gx[..., 2 * H :] + r * gh[..., 2 * H :])
        return twice((1 - z) * n + z * h)

    return Body(step, weights(3), start(), XS)


@body
def gru_reset_before():
    def step(p, h, x):
        r, z = jnp.split(jax.nn.sigmoid(x @ p["w"][:, : 2 * H] + h @ p["u"][:, : 2 * H]), 2, -1)
        n = jnp.tanh(x @ p["w"][:, 2 * H :] + (r * h) @ p["u"][:, 2 * H :] + p["b"][2 * H :])
        return twice(h - z * (h - n))

    return Body(step, weights(3), start(), XS)


@body
def tied_and_transposed():
    def step(p, h, x):
        h = jnp.tanh(x @ p["w"] + h @ p["u"] + h @ p["u"].T - (p["u"] @ h.T).T)
        return h, h @ p["w"].T

    return Body(step, weights(), start(), XS)


@body
def weight_of_weights():
    def step(p, h, x):
        u = p["u"] - p["u"].T
        w = p["w"] / jnp.linalg.norm(p["w"], axis=0)
        return twice(jnp.tanh(x @ w + h @ u @ (u + 1.0)))

    return Body(step, weights(), start(), XS)


@body
def weight_on_the_left():
    def step(p, h, x):
        return twice(jnp.tanh(p["w"].T @ x + p["u"] @ h + p["b"]))

    return Body(step, weights(), rand(4, H), rand(5, T, I))


@body
def block_diagonal():
    def step(p, h, x):
        z = jnp.einsum("bni,nij->bnj", h.reshape(B, 2, H // 2), p["u"]).reshape(B, H)
        return twice(jnp.tanh(x @ p["w"] + z))

    return Body(step, dict(w=rand(1, I, H), u=rand(2, 2, H // 2, H // 2)), start(), XS)


@body
def einsum_bilinear():
    def step(p, h, x):
        return twice(jnp.tanh(jnp.einsum("bi,bj,ijk->bk", x, h, p["t"]) + jnp.einsum("bj,kj->bk", h, p["u"])))

    return Body(step, dict(t=rand(1, I, H, H), u=rand(2, H, H)), start(), XS)


@body
def convolution():
    def step(p, h, x):
        same = functools.partial(
            lax.conv_general_dilated, window_strides=(1,), padding="SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return twice(jnp.tanh(same(x, p["w"]) + same(h, p["u"]) + p["b"]))

    return Body(step, dict(w=rand(1, 3, 1, 2), u=rand(2, 3, 2, 2), b=rand(3, 2)), rand(4, B, H, 2), rand(5, T, B, H, 1))


@body
def layer_norm():
    def step(p, h, x):
        z = x @ p["w"] + h @ p["u"]
        z = (z - z.mean(-1, keepdims=True)) * lax.rsqrt(z.var(-1, keepdims=True) + 1e-5)
        return twice(jnp.tanh(z * p["scale"] + p["b"]))

    return Body(step, dict(weights(), scale=rand(8, H)), start(), XS)


@body
def gather_by_carry():
    def step(p, carry, x):
        h, n = carry
        h = jnp.tanh(x @ p["w"] + h @ p["u"] + p["table"][n])
        return (h, (n + 1) % 3), p["table"][n % 2]

    return Body(step, dict(weights(), table=rand(7, 3, H)), (start(), np.int32(1)), XS)


@body
def embedding():
    def step(p, h, token):
        return twice(jnp.tanh(p["table"][token] + h @ p["u"]))

    tokens = np.random.default_rng(0).integers(0, 6, (T, B)).astype(np.int32)
    return Body(step, dict(u=rand(2, H, H), table=rand(7, 6, H)), start(), tokens)


@body
def readout():
    def step(p, h, x):
        h = jnp.tanh(x @ p["w"] + h @ p["u"])
        return h, jax.nn.softmax(h @ p["out"] + p["c"] + x[:, :1])

    return Body(step, dict(weights(), out=rand(6, H, 3), c=rand(7, 3)), start(), XS)


@body
def pytrees_with_none():
    def step(p, carry, x):
        h = jnp.tanh(x["a"] @ p["w"] + carry["h"] @ p["u"] + x["b"])
        return {"h": h, "n": carry["n"] + 1, "none": None}, (h, None, {"n": carry["n"], "x": x["a"], "one": 1.0})

    carry = {"h": start(), "n": np.int32(0), "none": None}
    return Body(step, weights(), carry, {"a": XS, "b": rand(9, T, B, H), "none": None})


@body
def keys_in_the_carry():
    def step(p, carry, x):
        h, key = carry
        key, sub = jax.random.split(key)
        h = jnp.tanh(x @ p["w"] + h @ p["u"]) * jax.random.uniform(sub, (H,), h.dtype)
        return (h, key), h

    return Body(step, weights(), (start(), jax.random.key(0)), XS)


@body
def keys_in_xs():
    def step(p, h, x):
        mask = jax.random.bernoulli(x[1], 0.7, (B, H))
        return twice(jnp.where(mask, jnp.tanh(x[0] @ p["w"] + h @ p["u"]), 0.0))

    return Body(step, weights(), start(), (XS, jax.random.split(jax.random.key(1), T)))


@body
def masked():
    def step(p, h, x):
        new = jnp.tanh(x[0] @ p["w"] + h @ p["u"])
        return twice(jnp.where(x[1][:, None], new, h))

    return Body(step, weights(), start(), (XS, np.random.default_rng(1).random((T, B)) < 0.6))


@body
def inner_scan():
    def step(p, h, x):
        inner = lambda s, _: (jnp.tanh(s @ p["u"] + x @ p["w"]), s.sum())
        h, sums = lax.scan(inner, h, None, length=2)
        return h, sums

    return Body(step, weights(), start(), XS)


@body
def inner_fori_and_cond():
    def step(p, h, x):
        h = lax.fori_loop(0, 2, lambda _, s: jnp.tanh(s @ p["u"]), h)
        return twice(lax.cond(x[0, 0] > 0, lambda: h + x @ p["w"], lambda: h * 0.5))

    return Body(step, weights(), start(), XS)


@body
def inner_while():
    def step(p, h, x):
        n = lax.while_loop(lambda n: n < jnp.abs(x).sum(), lambda n: n + 1.0, 0.0)
        return twice(jnp.tanh(h @ p["u"] + x @ p["w"]) * lax.stop_gradient(n))

    return Body(step, weights(), start(), XS)


@body
def inner_jit_and_remat():
    cell = jax.jit(lambda p, h, x: jnp.tanh(x @ p["w"] + h @ p["u"]))
    again = jax.checkpoint(lambda p, h: jnp.sin(h @ p["u"]))
    return Body(lambda p, h, x: twice(cell(p, h, x) + again(p, h)), weights(), start(), XS)


@jax.custom_jvp
def soft_step(x):
    return jnp.where(x > 0, 1.0, 0.0) + 0.1 * x


soft_step.defjvp(lambda p, t: (soft_step(p[0]), t[0] / (1 + p[0] * p[0])))


@body
def custom_jvp():
    return Body(lambda p, h, x: twice(soft_step(x @ p["w"] + h @ p["u"])), weights(), start(), XS)


@jax.custom_vjp
def scaled_product(h, u):
    return jnp.tanh(h @ u)


scaled_product.defvjp(lambda h, u: (jnp.tanh(h @ u), (h, u)), lambda r, d: (d @ r[1].T, 2.0 * r[0].T @ d))


@body
def custom_vjp():
    return Body(lambda p, h, x: twice(scaled_product(h, p["u"]) + x @ p["w"]), weights(), start(), XS)


@body
def relu_and_max():
    def step(p, h, x):
        return twice(jax.nn.relu(x @ p["w"] + h @ p["u"]) - jnp.maximum(h * p["b"], 0.1) / (1.0 + p["b"] ** 2))

    return Body(step, weights(), start(), XS)


@body
def diagonal():
    return Body(lambda p, h, x: twice(p["b"] * h + x @ p["w"]), dict(w=rand(1, I, H), b=rand(3, H)), start(), XS)


@body
def complex_diagonal():
    def step(p, h, x):
        b, u = (lax.complex(v, 0.5 * v) for v in (p["b"], p["u"]))
        h = h * jnp.exp(b) + (x @ p["w"]).astype(h.dtype) + h @ u
        return h, h.real

    return Body(step, weights(), start() + 0j, XS)


@body
def nothing_to_gain():
    return Body(lambda p, h, x: twice(jnp.tanh(h * x[:, :1] * p["b"])), dict(b=rand(3, H)), start(), XS)


@body
def no_inputs():
    return Body(lambda p, h, x: twice(jnp.tanh(h @ p["u"] + p["b"])), weights(), start(), None, T)


@body
def unbatched():
    return Body(lambda p, h, x: twice(jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"])), weights(), rand(4, H), rand(5, T, I))


@body
def two_batch_axes():
    return Body(
        lambda p, h, x: twice(jnp.tanh(x @ p["w"] + h @ p["u"])), weights(), rand(4, 2, 3, H), rand(5, T, 2, 3, I)
    )


@body
def carry_becomes_x():
    return Body(lambda p, h, x: (x @ p["w"], h @ p["u"]), weights(), start(), XS)


@body
def outer_product_memory():
    def step(p, carry, x):
        h, m = carry
        k = jnp.tanh(x @ p["w"] + h @ p["u"])
        m = 0.9 * m + jnp.einsum("bi,bj->bij", k, h)
        return (k, m), jnp.einsum("bij,bj->bi", m, k @ p["u"])

    return Body(step, weights(), (start(), rand(6, B, H, H)), XS)


@body
def two_layers():
    def step(p, carry, x):
        a = jnp.tanh(x @ p["w"] + carry[0] @ p["u"])
        b = jnp.tanh(a @ p["v"] + carry[1] @ p["u"])
        return (a, b), b

    return Body(step, dict(weights(), v=rand(9, H, H)), (start(), start(6)), XS)


@body
def inner_rj_scan():
    import rnnjax.engine as engine

    def step(p, h, x):
        inner = lambda s, y: (jnp.tanh(s @ p["u"] + y @ p["w"]), s)
        h, _ = engine.scan(inner, h, jnp.stack([x, -x, 0.5 * x]))
        return twice(h)

    return Body(step, weights(), start(), XS)
