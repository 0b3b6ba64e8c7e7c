"""A small stream to train on, with noise, a carry handed on and a validation: everything that must survive a stop."""

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj

VALUES = np.sin(0.3 * np.arange(400, dtype=np.float32))[:, None]
CELL = rj.Readout(rj.Dropout(rj.GRU(4), 0.1), 1)
X = jnp.zeros((3, 1))


def loss_fn(params, carry, window, key):
    carry, ys = rj.unroll(CELL, params, window[:-1], carry=carry, key=key)
    return carry, rj.losses.over_time(rj.losses.mse(ys, window[1:]))


@jax.jit
def validate(params):
    _, ys = rj.unroll(CELL, params, VALUES[:60])
    return rj.losses.over_time(rj.losses.mse(ys, VALUES[1:61]))


def fit(out=None, steps=45, batches=None, **options):
    """45 steps, a line every 10, a validation every 7, a checkpoint every 6: nothing falls together."""
    params = CELL.init(jax.random.key(0), X)
    defaults = dict(log_every=10, validate=validate, validate_every=7, checkpoint_every=6, key=jax.random.key(1))
    return rj.train.fit(
        loss_fn,
        params,
        batches or rj.data.windows(VALUES, 3, 5),
        carry=CELL.initial_carry(params, X),
        steps=steps,
        out=out,
        **(defaults | options),
    )


def without_clock(lines):
    """Metrics lines but for the wall clock."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
