"""The published variants of the LSTM, which combine: peepholes, coupled gates, projection, layer normalisation.

Peepholes (Gers and Schmidhuber 2000): ``i += p_i c_{t-1}``, ``f += p_f c_{t-1}``, ``o += p_o c_t``, elementwise.
Coupled gates (Greff et al. 2015, arXiv:1503.04069, "CIFG"): ``c_t = f c_{t-1} + (1 - f) g``, three gates instead of four;
    ONNX's ``input_forget`` keeps the input gate instead, ``f = 1 - i``, the same function with the gate's sign turned.
Projection (Sak, Senior, Beaufays 2014, arXiv:1402.1128): ``h_t = (o tanh(c_t)) P``, as torch's ``proj_size``.
Layer normalisation (Ba, Kiros, Hinton 2016, arXiv:1607.06450, equations 20 to 22): the gates are
    ``LN(x W) + LN(h U) + b``, each normalised over all gates at once as in the paper (TensorFlow's LayerNormBasicLSTMCell
    normalises gate by gate), and ``h_t = o tanh(LN(c_t))``. One bias b stands for the paper's three, whose sum it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS, layer_norm


def check_options(cell: Any) -> None:
    """ValueError/TypeError for options that cannot be."""
    if cell.projection is None:
        return
    if cell.projection > cell.features:
        raise ValueError(
            f"LSTM: projection must be at most features={cell.features}, got {cell.projection}; it makes h smaller than c"
        )


def extra_names(cell: Any) -> tuple[str, ...]:
    """The names of `extra_params`."""
    norms = ("norm_input", "norm_recurrent", "norm_cell", "norm_cell_bias")
    asked = (("peephole",) if cell.peephole else ()) + (("projection",) if cell.projection else ())
    return asked + (norms if cell.layer_norm else ())


def extra_params(cell: Any, key: jax.Array, gates: int, dtype: Any) -> dict[str, jax.Array]:
    """What the variants learn beyond the plain cell."""
    h, params = cell.features, {}
    if cell.peephole:
        params["peephole"] = jnp.zeros((gates - 1, h), dtype)
    if cell.projection:
        params["projection"] = initializers.lecun(key, (h, cell.projection), dtype)
    if cell.layer_norm:
        gains = {"norm_input": gates * h, "norm_recurrent": gates * h, "norm_cell": h}
        params |= {name: jnp.ones(size, dtype) for name, size in gains.items()}
        params["norm_cell_bias"] = jnp.zeros(h, dtype)
    return params


def step(cell: Any, params: Any, h: jax.Array, c: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``(h_t, c_t)`` of one step; a variant acts where its parameters are there."""
    act, gate, coupled = ACTIVATIONS[cell.activation], ACTIVATIONS[cell.gate_activation], cell.coupled
    zx, zh = x @ params["input"], h @ params["recurrent"]
    if "norm_input" in params:
        zx, zh = layer_norm(zx, params["norm_input"]), layer_norm(zh, params["norm_recurrent"])
    z = zx + zh + params["bias"] if "bias" in params else zx + zh
    i, f, g, o = (None, *jnp.split(z, 3, axis=-1)) if coupled else jnp.split(z, 4, axis=-1)
    if "peephole" in params:
        *p_i, p_f, p_o = params["peephole"]
        i, f = i if coupled else i + p_i[0] * c, f + p_f * c
    f = gate(f)
    i = 1 - f if coupled else gate(i)
    c = f * c + i * act(g)
    o = gate(o + p_o * c if "peephole" in params else o)
    seen = layer_norm(c, params["norm_cell"]) + params["norm_cell_bias"] if "norm_cell" in params else c
    h = o * act(seen)
    return (h @ params["projection"] if "projection" in params else h), c
