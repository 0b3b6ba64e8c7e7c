"""The quasi-recurrent network: a convolution over the last inputs and a pooling that is linear in time."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_choice, check_input, check_params, param_dtype, zeros_like_step
from rnnjax.carry_maps import Affine, Shift
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_parts
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step

POOLING = {"f": 2, "fo": 3, "ifo": 4}  # gates each needs, in the order candidate, forget, output, input


class QRNNCarry(NamedTuple):
    """c ``[*B, H]``: the pooled state. inputs ``[*B, window - 1, I]``: the inputs before this one, newest first."""

    c: jax.Array
    inputs: jax.Array


@cell
class _Window:
    """The last ``size`` inputs, this one first: ``y [*B, size I]``."""

    size: int

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return jnp.zeros((*x.shape[:-1], self.size, x.shape[-1]), x.dtype)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Shift:
        first = jnp.pad(x[..., None, :], ((0, 0),) * (x.ndim - 1) + ((0, self.size - 1), (0, 0)))
        return Shift(jnp.ones_like(x[..., :1, None], dtype=jnp.int32), first)

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry.reshape(*x.shape[:-1], self.size * x.shape[-1])

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        return linear_step(self, params, carry, x)


@cell
class _Pool:
    """QRNN's recurrence on windows ``x [*B, window I]``."""

    features: int
    pooling: str

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def _gates(self, params: Any, x: jax.Array, *which: int) -> list[jax.Array]:
        h, w, b = self.features, params["input"], params["bias"]
        w = w.reshape(-1, w.shape[-1])
        return [x @ w[:, i * h : (i + 1) * h] + b[i * h : (i + 1) * h] for i in which]

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        z, f = self._gates(params, x, 0, 1)
        f = jax.nn.sigmoid(f)
        i = jax.nn.sigmoid(self._gates(params, x, 3)[0]) if self.pooling == "ifo" else 1 - f
        return Affine(decay=f, increment=i * jnp.tanh(z))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry if self.pooling == "f" else jax.nn.sigmoid(self._gates(params, x, 2)[0]) * carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        return linear_step(self, params, carry, x)


@published(family="linear in time", paper="Bradbury et al. 2016, arXiv:1611.01576", year=2016)
@cell
class QRNN:
    """Quasi-recurrent network: gates from the last few inputs, then an average per feature.

    ``z = tanh(sum_j x_{t-j} W^j_z + b_z)``; ``f, o, i = sigmoid(sum_j x_{t-j} W^j + b)``, j = 0 .. window - 1;
    pooling "f": ``c' = f c + (1 - f) z``, ``y = c'``; "fo": the same, ``y = o c'``; "ifo": ``c' = f c + i z``, ``y = o c'``.

    features: H. window: how many inputs a gate sees. pooling: "f", "fo", "ifo".
    params: ``input`` W ``[window, I, gates H]`` (j = 0 is the present input), ``bias`` ``[gates H]``, gates in the order (candidate,
    forget, output, input), those that the pooling needs. carry: ``QRNNCarry(c, inputs)``; y: ``[*B, H]``.

    Variant: the paper's f-pooling calls its one gate f and adds no output gate; its zoneout is `rnnjax.Zoneout`.
    Inputs before the first step (or a reset) are zeros, the paper's left padding; hand the carry on to stream.
    Linear in time. Errors: ValueError for an unknown pooling or a window below 1. Source: Bradbury et al. 2016, arXiv:1611.01576.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.QRNN(4, window=3), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.inputs.shape, ys.shape
    ((2, 2, 3), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    window: int = 2
    pooling: str = "fo"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("QRNN", "pooling", self.pooling, POOLING)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        n, width, dtype = x.shape[-1], POOLING[self.pooling] * self.features, param_dtype(x)
        w = initializers.lecun(key, (self.window * n, width), dtype)
        return {"input": w.reshape(self.window, n, width), "bias": jnp.zeros(width, dtype)}

    def initial_carry(self, params: Any, x: Any) -> QRNNCarry:
        inputs = zeros_like_step(params, x, self.window - 1, x.shape[-1])
        return QRNNCarry(c=zeros_like_step(params, x, self.features), inputs=inputs)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[QRNNCarry, jax.Array]:
        check_params(self, params, ("input", "bias"))
        check_input(self, x, params["input"].shape[1])
        check_parts(self, carry, x, (self.features,), (self.window - 1, x.shape[-1]), kind=QRNNCarry)
        (window, pool), (register, c) = self.layers_inside(), self.carries_of_layers(carry)
        register, windows = window({}, register, x)
        c, y = pool(params, c, windows)
        return self.carry_of_layers((register, c)), y

    def layers_inside(self) -> tuple[Any, ...]:
        """All windows first, then the pooling: every product before the loop, and both parts linear in time."""
        return _Window(self.window), _Pool(self.features, self.pooling)

    def params_of_layers(self, params: Any) -> tuple[Any, ...]:
        return {}, params

    def keys_of_layers(self, key: Key) -> tuple[Key, ...]:
        return None, None

    def carries_of_layers(self, carry: QRNNCarry) -> tuple[jax.Array, jax.Array]:
        """The window's has one more place at the end, for the step to push the oldest input into."""
        widths = [(0, 0)] * (carry.inputs.ndim - 2) + [(0, 1), (0, 0)]
        return jnp.pad(carry.inputs, widths), carry.c

    def carry_of_layers(self, carries: tuple[Any, ...]) -> QRNNCarry:
        return QRNNCarry(carries[1], carries[0][..., :-1, :])
