"""Cells without memory: what stands round the recurrent layers of a model, as layers like any other."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import Key, cell, check_choice, check_input, check_params, check_size, check_tokens, param_dtype
from rnnjax.cells.shared.options import check_fields
from rnnjax.wrappers.lookup import lookup

ON_FEATURES = ACTIVATIONS | {"softmax": jax.nn.softmax}  # softmax is no function of a single unit


@cell
class Dense:
    """A dense layer as a cell that remembers nothing: ``y_t = act(x_t W + b)``.

    features: O. activation: a name of ``rnnjax.activations.ACTIVATIONS``, or "softmax" over the features.
    params: ``input`` W ``[I, O]``, ``bias`` b ``[O]``. carry: ``()``. y: ``[*B, O]``.
    Variant: `rnnjax.Readout` is the linear one, wrapped round the cell whose output it reads.
    Start: W lecun, b zero. Errors: ValueError/TypeError for a bad size, an unknown activation or shapes that do not fit.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> layer, xs = rj.Sequential(rj.RNN(rj.GRU(4)), rj.RNN(Dense(2, activation="softmax"))), jnp.ones((5, 3))
    >>> layer(layer.init(jax.random.key(0), xs[0]), xs)[1].sum(-1).round(5).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    features: int
    _: KW_ONLY
    activation: str = "linear"
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("Dense", "activation", self.activation, ON_FEATURES)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        dtype = param_dtype(x)
        params = {"input": initializers.lecun(key, (x.shape[-1], self.features), dtype)}
        return params | ({"bias": jnp.zeros(self.features, dtype)} if self.use_bias else {})

    def initial_carry(self, params: Any, x: Any) -> tuple[()]:
        return ()

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[tuple[()], jax.Array]:
        check_params(self, params, ("input",))
        check_input(self, x, params["input"].shape[0])
        y = x @ params["input"]
        return (), ON_FEATURES[self.activation](y + params["bias"] if "bias" in params else y)


@cell
class Pointwise:
    """An activation as a cell that remembers nothing: ``y_t = act(x_t)``; no params, carry ``()``.

    activation: as of `Dense`. Errors: ValueError/TypeError for an unknown activation.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> rj.unroll(Pointwise(activation="relu"), {}, jnp.array([[-1.0], [2.0]]))[1].tolist()
    [[0.0], [2.0]]
    """

    _: KW_ONLY
    activation: str = "linear"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("Pointwise", "activation", self.activation, ON_FEATURES)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return {}

    def initial_carry(self, params: Any, x: Any) -> tuple[()]:
        return ()

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[tuple[()], jax.Array]:
        check_input(self, x)
        return (), ON_FEATURES[self.activation](x)


@cell
class Table:
    """A table of vectors as a cell that remembers nothing: ``y_t = table[token_t]``.

    tokens: size of the vocabulary. features: of a vector. still: the row that gets no gradient, torch's ``padding_idx``.
    params: ``table`` ``[tokens, features]``. x: integers ``[*B]``. carry: ``()``. y: ``[*B, features]``.
    Variant: `rnnjax.Embed` is wrapped round the one cell that reads the vectors; this is a layer, which both directions of a
    `Bidirectional` above it share. Start: standard normal.
    Errors: ValueError/TypeError for a bad size, tokens that are no integers or, where they are known, outside the vocabulary.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> rj.unroll(Table(2, 3), {"table": jnp.array([[1.0, 2, 3], [4, 5, 6]])}, jnp.array([1, 0]))[1].tolist()
    [[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]]
    """

    tokens: int
    features: int
    _: KW_ONLY
    still: Any = None

    def __post_init__(self) -> None:
        check_size("Table", "tokens", self.tokens)
        check_size("Table", "features", self.features)
        if self.still is not None and not (type(self.still) is int and 0 <= self.still < self.tokens):
            raise ValueError(f"Table: still must be None or a row of 0..{self.tokens - 1}, got {self.still!r}")

    @property
    def input_ndim(self) -> int:
        return 0

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return {"table": jax.random.normal(key, (self.tokens, self.features))}

    def initial_carry(self, params: Any, x: Any) -> tuple[()]:
        return ()

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[tuple[()], jax.Array]:
        check_params(self, params, ("table",))
        table = params["table"]
        if self.still is not None:
            table = table.at[self.still].set(jax.lax.stop_gradient(table[self.still]))
        return (), lookup(table, check_tokens(repr(self), "x", x, self.tokens))


MEMORYLESS = (Dense, Pointwise, Table)
