"""Draws docs/gradient_flow.png: how much of the gradient reaches each step, for five networks.

python docs/gradient_flow.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp

import rnnjax as rj

TIME, HIDDEN = 100, 64
key = jax.random.key(0)
xs = jax.random.normal(key, (TIME, 8, 16))


def flow(cell, scale=1.0):
    """Gradient flow of a fresh network with its recurrent weights scaled, and the norm of its whole gradient."""
    params = cell.init(key, xs[0])
    params["recurrent"] = scale * params["recurrent"]
    grads = jax.grad(lambda p: jnp.sum(rj.unroll(cell, p, xs)[1][-1]))(params)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    return rj.diagnostics.gradient_flow(cell, params, xs), norm


vanishing, _ = flow(rj.Elman(HIDDEN), 0.7)
exploding, norm = flow(rj.Elman(HIDDEN, activation="identity"), 1.15)
lstm, _ = flow(rj.LSTM(HIDDEN, forget_bias=4.0))
gru, _ = flow(rj.GRU(HIDDEN))

axes = rj.diagnostics.plot_gradient_flow(
    {
        "Elman, weights x 0.7: vanishes": vanishing,
        "linear, weights x 1.15: explodes": exploding,
        "the same, whole gradient clipped to norm 1": exploding / jnp.maximum(norm, 1.0),
        "GRU": gru,
        "LSTM, forget bias 4": lstm,
    }
)
axes.set_title("How much of the last output's gradient reaches step t")
axes.figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)
