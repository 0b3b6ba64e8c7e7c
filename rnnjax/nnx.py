"""Any cell or layer as a `flax.nnx` module: ``rnnjax.nnx.RNN(rnnjax.LSTM(128), x, rngs=rngs)``."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from rnnjax.layers import as_layer


class RNN(nnx.Module):
    """A recurrent layer in nnx: ``carry, ys = RNN(cell, x, rngs=rngs)(xs)`` with any cell or layer of rnnjax.

    cell: a cell, or a layer (`rnnjax.RNN`, `Bidirectional`, `Sequential`). x: ONE step's input ``[*B, I]`` or its ShapeDtypeStruct.
    rngs: "params" makes the parameters, "dropout" is kept for the noise; an int or a key serves for both.
    Call: ``(xs, *, deterministic=None, **how)``, where ``how`` are the keyword arguments of `rnnjax.unroll`, and time comes first.
    The parameters are nested dicts under the one name ``rnn``, each array an `nnx.Param`: so filters, optimisers, orbax and
    sharding see every array by its path. ``module.params`` is the pytree that ``layer(params, xs)`` takes, and
    ``module.set_params(params)`` puts one in.
    Noise (Dropout, Zoneout, ...) is on unless ``deterministic``: the argument of the call, else the attribute, which
    ``module.eval()`` and ``module.train()`` set. An explicit ``key=`` wins.
    Errors: TypeError for what is no cell; ValueError for params of another structure; else those of `rnnjax.unroll`.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> xs = jnp.ones((5, 2, 3))
    >>> module = RNN(rj.GRU(4), xs[0], rngs=nnx.Rngs(0))
    >>> carry, ys = module(xs, lengths=jnp.array([5, 2]))
    >>> bool(jnp.allclose(ys, rj.RNN(rj.GRU(4))(module.params, xs, lengths=jnp.array([5, 2]))[1]))
    True
    """

    def __init__(self, cell: Any, x: Any, *, rngs: nnx.Rngs | int | jax.Array) -> None:
        streams: Any = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
        self.layer = nnx.static(as_layer("nnx.RNN", cell))
        self.deterministic = False
        self.rngs = streams.dropout.fork() if "dropout" in streams or "default" in streams else None
        self.rnn = nnx.data(jax.tree.map(nnx.Param, self.layer.init(streams.params(), x)))

    @property
    def params(self) -> Any:
        """The parameters as the functional version has them: nested dicts of arrays."""
        return jax.tree.map(lambda variable: variable.get_value(), self.rnn, is_leaf=_is_variable)

    def _variables(self) -> list[nnx.Variable]:
        return jax.tree.leaves(self.rnn, is_leaf=_is_variable)

    def set_params(self, params: Any) -> None:
        """Puts in the parameters of the functional version, e.g. trained or converted ones."""
        want, got = jax.tree.structure(self.params), jax.tree.structure(params)
        if want != got:
            raise ValueError(f"nnx.RNN: params must be those of {self.layer!r}, {want}, got {got}")
        for variable, value in zip(self._variables(), jax.tree.leaves(params), strict=True):
            variable.set_value(value)

    def __call__(self, xs: Any, *, deterministic: bool | None = None, **how: Any) -> tuple[Any, Any]:
        noisy = not (self.deterministic if deterministic is None else deterministic)
        if noisy and how.get("key") is None and self.rngs is not None:
            how["key"] = self.rngs()
        return self.layer(self.params, xs, **how)


def _is_variable(value: Any) -> bool:
    return isinstance(value, nnx.Variable)
