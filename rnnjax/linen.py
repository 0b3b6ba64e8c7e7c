"""Any cell or layer as a `flax.linen` module: ``rnnjax.linen.RNN(rnnjax.LSTM(128))``."""

from __future__ import annotations

from typing import Any

from flax import linen as nn

from rnnjax.layers import as_layer, step_of


class RNN(nn.Module):
    """A recurrent layer in linen: ``carry, ys = RNN(cell)(xs)`` with any cell or layer of rnnjax.

    cell: a cell, or a layer (`rnnjax.RNN`, `Bidirectional`, `Sequential`). Call: ``(xs, *, deterministic=None, **how)``, where
    ``how`` are the keyword arguments of `rnnjax.unroll` (``carry``, ``lengths``, ``time_axis``, ``checkpoint``, ...), and time comes first.
    The parameters are ``variables["params"]["rnn"]``, the very pytree that ``layer.init`` gives and ``layer(params, xs)`` takes, so
    the functional and the module version exchange weights as they are.
    Noise (Dropout, Zoneout, ...) draws its key from the stream "dropout": ``deterministic=None`` has noise if that stream was given,
    True never, False always (and then Flax demands the stream). An explicit ``key=`` wins.
    Errors: TypeError for what is no cell; else those of `rnnjax.unroll`.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> module, xs = RNN(rj.GRU(4)), jnp.ones((5, 2, 3))
    >>> variables = module.init(jax.random.key(0), xs)
    >>> carry, ys = module.apply(variables, xs, lengths=jnp.array([5, 2]))
    >>> same = rj.RNN(rj.GRU(4))(variables["params"]["rnn"], xs, lengths=jnp.array([5, 2]))[1]
    >>> bool((ys == same).all())
    True
    """

    cell: Any

    @nn.compact
    def __call__(self, xs: Any, *, deterministic: bool | None = None, **how: Any) -> tuple[Any, Any]:
        layer = as_layer("linen.RNN", self.cell)
        params = self.param("rnn", layer.init, step_of(xs, how.get("time_axis", 0)))
        noisy = self.has_rng("dropout") if deterministic is None else not deterministic
        if noisy and how.get("key") is None and not self.is_initializing():
            how["key"] = self.make_rng("dropout")
        return layer(params, xs, **how)
