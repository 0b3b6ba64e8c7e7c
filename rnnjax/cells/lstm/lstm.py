"""Long short-term memory."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import (
    Key,
    cell,
    check_carry,
    check_choice,
    check_input,
    check_params,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.lstm import variants
from rnnjax.cells.shared.checks import check_recurrent
from rnnjax.cells.shared.options import check_chrono, check_fields

GATES = ("input", "forget", "cell", "output")  # order of the blocks in every weight; torch, flax and keras agree


class LSTMCarry(NamedTuple):
    """h ``[*B, H]``: what the cell shows. c ``[*B, H]``: what it remembers."""

    h: jax.Array
    c: jax.Array


@published(family="LSTM", paper="Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000", year=1997)
@cell
class LSTM:
    """Long short-term memory with forget gate.

    ``i, f, g, o = split(x_t W + h_{t-1} U + b)``; ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``;
    ``h_t = sigmoid(o) tanh(c_t)``; ``y_t = h_t``.

    features: H. forget_bias: added to the forget gate's bias *at the start* (haiku adds 1 at every step instead; torch 0).
    chrono: longest memory in steps; gates' biases start by `rnnjax.initializers.chrono` in place of ``forget_bias``.
    Variants (they combine; equations in `rnnjax.cells.lstm.variants`): peephole: the gates see the cell. coupled: the input
    gate is ``1 - f``. projection: P, h is ``[*B, P]``, a product with a matrix. layer_norm: the gates' sums are normalised.
    activation: in place of both tanh, gate_activation: of the three sigmoids, any name in ``rnnjax.activations.ACTIVATIONS``; Keras 1
    and 2 had "hard_sigmoid_0.2" in the gates, Keras 3 calls them activation and recurrent_activation, Flax activation_fn and gate_fn.
    params: ``input`` W ``[I, 4H]``, ``recurrent`` U ``[H, 4H]``, ``bias`` b ``[4H]``, gates in the order of ``GATES``
    (coupled: 3H, without "input"); ``peephole`` ``[3, H]`` for input, forget, output (coupled: ``[2, H]``, forget, output);
    ``projection`` ``[H, P]`` (then U is ``[P, 4H]``); ``norm_input``, ``norm_recurrent`` ``[4H]``, ``norm_cell``,
    ``norm_cell_bias`` ``[H]``.
    carry: ``LSTMCarry(h, c)``, each ``[*B, H]``. y: ``[*B, H]``.

    Variant: one bias (torch has two whose sum this is). Start: W lecun, U orthogonal for each gate, peepholes zero.
    Errors: ValueError/TypeError for a bad size, an unknown activation, a projection above H, or an x or carry of the wrong shape.
    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000 (the forget gate).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LSTM(4), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs)
    >>> carry.c.shape, ys.shape
    ((2, 4), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    forget_bias: float = 1.0
    chrono: float | None = None
    peephole: bool = False
    coupled: bool = False
    projection: int | None = None
    layer_norm: bool = False
    use_bias: bool = True
    activation: str = "tanh"
    gate_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        check_fields(self)
        check_chrono(self)
        for name in ("activation", "gate_activation"):
            check_choice("LSTM", name, getattr(self, name), ACTIVATIONS)
        variants.check_options(self)

    @property
    def blocks_by_unit(self) -> bool:
        return self.projection is None

    def with_layer_norm(self) -> LSTM:
        return dataclasses.replace(self, layer_norm=True)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_bias, k_extra = jax.random.split(key, 4)
        gates = GATES[1:] if self.coupled else GATES
        n, h, dtype = x.shape[-1], self.features, param_dtype(x)
        m, g = self.projection or h, len(gates)
        params = {
            "input": initializers.per_gate(initializers.lecun, g)(k_in, (n, g * h), dtype),
            "recurrent": initializers.per_gate(initializers.orthogonal, g)(k_rec, (m, g * h), dtype),
        }
        if self.use_bias:
            params["bias"] = self._bias(k_bias, gates, dtype)
        return params | variants.extra_params(self, k_extra, g, dtype)

    def _bias(self, key: jax.Array, gates: tuple[str, ...], dtype: Any) -> jax.Array:
        zero = jnp.zeros(self.features, dtype)
        b = {gate: zero for gate in gates}
        if self.chrono is None:
            b["forget"] = zero + self.forget_bias
        else:
            b["forget"] = initializers.chrono(self.chrono)(key, (self.features,), dtype)
            b |= {} if self.coupled else {"input": -b["forget"]}
        return jnp.concatenate(list(b.values()))

    def initial_carry(self, params: Any, x: Any) -> LSTMCarry:
        c = zeros_like_step(params, x, self.features)
        return LSTMCarry(h=zeros_like_step(params, x, self.projection) if self.projection else c, c=c)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[LSTMCarry, jax.Array]:
        check_params(self, params, ("input", "recurrent", *variants.extra_names(self)))
        check_input(self, x, params["input"].shape[0])
        check_recurrent(self, params, self.projection or self.features)
        if self.peephole or self.coupled or self.projection or self.layer_norm:
            return self._variant(params, carry, x)
        check_carry(self, carry, x, self.features, LSTMCarry)
        h, c = carry
        z = x @ params["input"] + h @ params["recurrent"]
        i, f, g, o = jnp.split(z + params["bias"] if "bias" in params else z, 4, axis=-1)
        act, gate = ACTIVATIONS[self.activation], ACTIVATIONS[self.gate_activation]
        c = gate(f) * c + gate(i) * act(g)
        h = gate(o) * act(c)
        return LSTMCarry(h, c), h

    def _variant(self, params: Any, carry: Any, x: Any) -> tuple[LSTMCarry, jax.Array]:
        if self.projection and isinstance(carry, LSTMCarry):
            check_carry(self, carry.h, x, self.projection)
            check_carry(self, carry.c, x, self.features)
        else:
            check_carry(self, carry, x, self.features, LSTMCarry)
        h, c = variants.step(self, params, carry.h, carry.c, x)
        return LSTMCarry(h, c), h
