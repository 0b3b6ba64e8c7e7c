"""`Embed`: tokens in."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, cell, check_params, check_size, check_tokens
from rnnjax.protocols import input_axes, prepare
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.lookup import lookup


@cell
@around("table")
class Embed:
    """A cell that reads integer tokens: ``carry, y = cell(params, carry, table[token])``.

    cell: any cell of vectors. tokens: size of the vocabulary. features: of a token's vector. frozen: the table gets no gradient.
    params: ``table`` ``[tokens, features]``, ``cell`` (the inner cell's). x: integers ``[*B]``. carry, y: the inner cell's.
    Vectors learned elsewhere: ``init(key, x, table=vectors)``, or put them at ``params["table"]``, wherever that lies.
    Start: standard normal, as in torch (flax divides by the root of features, Keras is uniform in -0.05..0.05).
    Errors: ValueError/TypeError for a bad size, a table of another shape, tokens that are not integers, and tokens outside the
    vocabulary where they are known; inside jit such a token gives NaN.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Embed(rj.GRU(4), tokens=10, features=3), jnp.array([[1, 2], [9, 0]])
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> rj.unroll(cell, params, xs)[1].shape
    (2, 2, 4)
    """

    cell: Any
    tokens: int
    features: int
    _: KW_ONLY
    frozen: bool = False

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_size("Embed", "tokens", self.tokens)
        check_size("Embed", "features", self.features)
        if input_axes(self.cell) != 1:
            raise TypeError(f"Embed: takes a cell of vectors [*B, I], got {self.cell!r}")

    @property
    def input_ndim(self) -> int:
        return 0

    def init(self, key: jax.Array, x: Any, *, table: Any = None) -> Params:
        k_table, k_cell = jax.random.split(key)
        shape = (self.tokens, self.features)
        table = jax.random.normal(k_table, shape) if table is None else jnp.asarray(table)
        if table.shape != shape or not jnp.issubdtype(table.dtype, jnp.floating):
            raise ValueError(
                f"{self!r}: table must be floating [tokens, features] {shape}, got {table.dtype}{table.shape}"
            )
        return {
            "table": table,
            "cell": self.cell.init(k_cell, jax.ShapeDtypeStruct((*x.shape, self.features), table.dtype)),
        }

    def _vectors(self, params: Params, x: Any) -> jax.Array:
        check_params(self, params, ("table", "cell"))
        table = params["table"]
        tokens = check_tokens(repr(self), "x", x, self.tokens)
        return lookup(jax.lax.stop_gradient(table) if self.frozen else table, tokens)

    def _shape(self, params: Params, x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*x.shape, self.features), params["table"].dtype)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self.cell.initial_carry(params["cell"], self._shape(params, x))

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return params | {"cell": prepare(self.cell, params["cell"], key, self._shape(params, x))}

    def input_inside(self, params: Params, x: Any, key: Key) -> jax.Array:
        return self._vectors(params, x)
