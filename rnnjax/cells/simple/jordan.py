"""Jordan's network: what comes back is the output, not the hidden layer."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    check_input,
    check_rate,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


@published(family="simple", paper="Jordan 1986, ICS report 8604", year=1986)
@cell
class Jordan:
    """Jordan network: the hidden layer reads the network's own past outputs.

    ``h_t = act(x_t W + s_t U + b)``; ``y_t = out(h_t V + c)``; ``s_{t+1} = decay s_t + y_t``.

    features: H. outputs: O, default H. activation, output_activation: names as in `Elman`. decay: in [0, 1), how long the
    state units remember outputs; 0 is the textbook ``h_t = act(x W + y_{t-1} U + b)``, Jordan's own state units decay.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[O, H]``, ``bias`` b ``[H]``, ``output`` V ``[H, O]``, ``output_bias`` c ``[O]``.
    carry: s ``[*B, O]``. y: ``[*B, O]``.

    Start: W and V lecun, U orthogonal, b and c zero. Errors: ValueError/TypeError for bad sizes, names, decay or shapes.
    Source: Jordan 1986, Serial order: a parallel distributed processing approach, ICS report 8604.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Jordan(4, outputs=2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.shape, ys.shape
    ((2,), (5, 2))
    """

    features: int
    _: KW_ONLY
    outputs: int | None = None
    activation: str = "tanh"
    output_activation: str = "sigmoid"
    decay: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("Jordan", "activation", self.activation, ACTIVATIONS)
        check_choice("Jordan", "output_activation", self.output_activation, ACTIVATIONS)
        check_rate("Jordan", "decay", self.decay)

    @property
    def _outputs(self) -> int:
        return self.features if self.outputs is None else self.outputs

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_out = jax.random.split(key, 3)
        n, h, o, dtype = x.shape[-1], self.features, self._outputs, param_dtype(x)
        return {
            "input": initializers.lecun(k_in, (n, h), dtype),
            "recurrent": initializers.orthogonal(k_rec, (o, h), dtype),
            "bias": jnp.zeros(h, dtype),
            "output": initializers.lecun(k_out, (h, o), dtype),
            "output_bias": jnp.zeros(o, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self._outputs)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        weights = ("input", "recurrent", "bias", "output", "output_bias")
        check_step(self, params, carry, x, weights, parts=((self._outputs,),))
        s = carry
        h = ACTIVATIONS[self.activation](x @ params["input"] + s @ params["recurrent"] + params["bias"])
        y = ACTIVATIONS[self.output_activation](h @ params["output"] + params["output_bias"])
        return self.decay * s + y, y
