"""A network with a tape and heads beside the state: a neural Turing machine."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_input, check_params, param_dtype, wide, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_parts
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


class TapeRNNCarry(NamedTuple):
    """h ``[*B, H]``: controller. tape ``[*B, N, M]``: N places of M numbers. read, write ``[*B, N]``: where the heads are.

    seen ``[*B, M]``: what was read last.
    """

    h: jax.Array
    tape: jax.Array
    read: jax.Array
    write: jax.Array
    seen: jax.Array


HEAD = (
    "key",
    "strength",
    "gate",
    "shift",
    "sharpen",
)  # parts of a head's control, in this order: M, 1, 1, 3, 1 numbers


@published(family="memory", paper="Graves, Wayne, Danihelka 2014, arXiv:1410.5401", year=2014)
@cell
class TapeRNN:
    """A network with a tape, in the manner of the neural Turing machine: one head writes, then one reads.

    ``h' = tanh(x W + h U + seen R + b)``; each head: ``key, beta, g, s, gamma`` from ``h' C + c``;
    ``w_c = softmax(beta cos(key, tape))``; ``w_g = g w_c + (1 - g) w``; ``w_s = s * w_g`` (circular, shifts -1, 0, 1);
    ``w' = w_s^gamma / sum``;
    ``tape' = tape (1 - w' erase) + w' add``; ``seen' = w'_read tape'``; ``y = [h', seen'] V + d``, ``[*B, H]``.

    features: H. slots: N. width: M. params: ``input`` ``[I, H]``, ``recurrent`` ``[H, H]``, ``seen`` ``[M, H]``, ``bias`` ``[H]``,
    ``read``, ``write`` C ``[H, M + 6]`` with ``read_bias``, ``write_bias``, ``change`` ``[H, 2M]`` (erase, add) with ``change_bias``,
    ``output`` V ``[H + M, H]``, ``output_bias``. carry: ``TapeRNNCarry(h, tape, read, write, seen)``.

    Variant: a simple controller (the paper has a feed-forward one or an LSTM) and one head of each kind.
    ``beta = softplus``, ``gamma = 1 + softplus``, g a sigmoid, s a softmax. The tape starts at 1e-6, the heads at place 0.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Source: Graves, Wayne, Danihelka 2014, arXiv:1410.5401.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.TapeRNN(4, slots=6, width=3), jnp.ones((5, 2))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.tape.shape, ys.shape
    ((6, 3), (5, 4))
    """

    features: int
    _: KW_ONLY
    slots: int = 16
    width: int = 8

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_gates, k_seen, k_read, k_write, k_change, k_out = jax.random.split(key, 6)
        h, m, dtype = self.features, self.width, param_dtype(x)
        params = gate_params(self, k_gates, x, 1) | {"seen": initializers.lecun(k_seen, (m, h), dtype)}
        for name, k, size in (("read", k_read, m + 6), ("write", k_write, m + 6), ("change", k_change, 2 * m)):
            params |= {name: initializers.lecun(k, (h, size), dtype), f"{name}_bias": jnp.zeros(size, dtype)}
        return params | {"output": initializers.lecun(k_out, (h + m, h), dtype), "output_bias": jnp.zeros(h, dtype)}

    def initial_carry(self, params: Any, x: Any) -> TapeRNNCarry:
        zeros = lambda *shape: zeros_like_step(params, x, *shape)
        place = zeros(self.slots).at[..., 0].set(1)
        tape = zeros(self.slots, self.width) + 1e-6
        return TapeRNNCarry(zeros(self.features), tape, place, place, zeros(self.width))

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[TapeRNNCarry, jax.Array]:
        check_params(self, params, ("input", "recurrent", "seen", "bias", "read", "write", "change", "output"))
        check_input(self, x, params["input"].shape[0])
        n, m = self.slots, self.width
        check_parts(self, carry, x, (self.features,), (n, m), (n,), (n,), (m,), kind=TapeRNNCarry)
        h, tape, read, write, seen = carry
        z = x @ params["input"] + h @ params["recurrent"] + seen @ params["seen"]
        h = jnp.tanh(z + params["bias"])
        write = self._head(h @ params["write"] + params["write_bias"], tape, write)
        erase, add = jnp.split(h @ params["change"] + params["change_bias"], 2, axis=-1)
        w = write[..., None]
        tape = tape * (1 - w * jax.nn.sigmoid(erase)[..., None, :]) + w * jnp.tanh(add)[..., None, :]
        read = self._head(h @ params["read"] + params["read_bias"], tape, read)
        seen = jnp.sum(read[..., None] * tape, axis=-2)
        y = jnp.concatenate([h, seen], axis=-1) @ params["output"] + params["output_bias"]
        return TapeRNNCarry(h, tape, read, write, seen), y

    def _head(self, control: jax.Array, tape: jax.Array, place: jax.Array) -> jax.Array:
        """Where a head goes: by content, gated with where it was, shifted, sharpened."""
        m, dtype = self.width, control.dtype
        control, tape, place = wide(control), wide(tape), wide(place)
        key, beta, g, s, gamma = jnp.split(control, [m, m + 1, m + 2, m + 5], axis=-1)
        by_content = jax.nn.softmax(jax.nn.softplus(beta) * _cosine(jnp.tanh(key), tape), axis=-1)
        g, s = jax.nn.sigmoid(g), jax.nn.softmax(s, axis=-1)
        mixed = g * by_content + (1 - g) * place
        shifted = sum(s[..., i : i + 1] * jnp.roll(mixed, i - 1, axis=-1) for i in range(3))
        return jax.nn.softmax((1 + jax.nn.softplus(gamma)) * jnp.log(jnp.maximum(shifted, 1e-12)), axis=-1).astype(
            dtype
        )


def _cosine(key: jax.Array, tape: jax.Array) -> jax.Array:
    """``[*B, M]`` against ``[*B, N, M]``."""
    dot = jnp.einsum("...m,...nm->...n", key, tape)
    sizes = jnp.sum(key * key, axis=-1, keepdims=True) * jnp.sum(tape * tape, axis=-1)
    return dot * jax.lax.rsqrt(sizes + 1e-12)
