"""GRU-D: what is missing fades from the last value seen to the mean, and what the network remembers fades with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, check_params, param_dtype
from rnnjax.protocols import prepare
from rnnjax.wrappers.around import check_wrapper, hand_on

READ = 4  # features that are read first: last value, whether it is there, time since the one before, mean
FASTEST = 0.2  # decay rates start below this, a step


@cell
@hand_on
class Decayed:
    r"""A cell between the decays of GRU-D, for one value that is missing at times.

        g = exp(-max(0, a d + b))        G = exp(-max(0, A d + B))
        v' = m v + (1 - m) (g v + (1 - g) mean)
        carry', y = cell(G carry, [v', m, d, mean, ...])

    cell: any cell; `rnnjax.GRU` makes it GRU-D. x: ``[v, m, d, mean, ...] [*B, F]``: the last value that was there, 1 where it is this
    step's or 0, the time since the one seen before, its mean; everything after them goes on as it is.
    params: ``cell``; ``input_decay``, ``input_decay_bias`` (a, b) ``[1]``; ``carry_decay``, ``carry_decay_bias`` (A, B), each of the
    structure of the carry, ``[H]`` a part. carry, y: the inner cell's.
    Variant: of the paper's x one feature can be missing, so that its matrix of A is a row; d is time in steps of the series; the mean is
    that of the rows before, where the paper has one of all, so that it follows a trend. a and A start uniform between 0 and 0.2, b and B
    at zero.
    Raises: ValueError/TypeError of the cell. Source: Che et al. 2018, Scientific Reports 8:6085, arXiv:1606.01865, equations 10, 11, 14.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = Decayed(rj.GRU(3)), jnp.ones((5, 2, 6))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 2, 3)
    """

    cell: Any

    def __post_init__(self) -> None:
        check_wrapper(self)

    def init(self, key: jax.Array, x: Any) -> Params:
        inner, of_input, of_carry = jax.random.split(key, 3)
        params, dtype = self.cell.init(inner, x), param_dtype(x)
        carry = jax.eval_shape(lambda: self.cell.initial_carry(params, jnp.zeros(x.shape, x.dtype)))
        leaves, form = jax.tree.flatten(carry)
        rates = [_rates(k, part.shape[-1], dtype) for k, part in zip(jax.random.split(of_carry, len(leaves)), leaves)]
        return {
            "cell": params,
            "input_decay": _rates(of_input, 1, dtype),
            "input_decay_bias": jnp.zeros(1, dtype),
            "carry_decay": jax.tree.unflatten(form, rates),
            "carry_decay_bias": jax.tree.unflatten(form, [jnp.zeros_like(rate) for rate in rates]),
        }

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self.cell.initial_carry(params["cell"], x)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return params | {"cell": prepare(self.cell, params["cell"], key, x)}

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        check_params(self, params, ("cell", "input_decay", "input_decay_bias", "carry_decay", "carry_decay_bias"))
        v, m, d, mean = (x[..., i : i + 1] for i in range(READ))
        g = _decay(params["input_decay"], params["input_decay_bias"], d)
        faded = jnp.concatenate([m * v + (1 - m) * (g * v + (1 - g) * mean), x[..., 1:]], -1)
        less = lambda part, rate, bias: _decay(rate, bias, d).astype(part.dtype) * part
        carry = jax.tree.map(less, carry, params["carry_decay"], params["carry_decay_bias"])
        return call_step(self.cell, params["cell"], carry, faded, key)


def _rates(key: jax.Array, features: int, dtype: Any) -> jax.Array:
    return jax.random.uniform(key, (features,), dtype, 0.0, FASTEST)


def _decay(rate: jax.Array, bias: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.exp(-jax.nn.relu(rate * d + bias))
