"""`VariationalDropout`: the same units dropped at every step of a sequence."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, cell, check_rate, sequence_key
from rnnjax.carry_maps import CarryChange
from rnnjax.protocols import prepare
from rnnjax.wrappers.around import around, check_wrapper, step
from rnnjax.wrappers.once import Drawn, is_float, keep_masks, plain, times
from rnnjax.wrappers.stack import output_shape


@cell
@around()
class VariationalDropout:
    """Dropout with one mask per sequence for the input, the carry and the output.

    ``carry', y = cell(params, m_c carry, m_x x)``; result ``carry', m_y y``; each ``m ~ Bernoulli(1 - rate) / (1 - rate)``, drawn once
    for every sequence of the batch and held over time.

    cell: any cell. rate: in [0, 1); input_rate, carry_rate, output_rate: instead of it at that place.
    Of a carry with a part named ``h`` only that is masked, what the cell shows, not what it remembers: as in the paper for the
    LSTM's c, and in TensorFlow's DropoutWrapper. params, carry, y: the inner cell's. Without a key: the inner cell, unchanged.
    The masks come from the key given to `rnnjax.unroll` alone: pieces of a stream with the same key share them, and so does a
    single step called with that key. A ``reset`` does not draw anew.
    Errors: ValueError/TypeError for a bad rate. Source: Gal and Ghahramani 2016, arXiv:1512.05287.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.VariationalDropout(rj.Elman(100), 0.5), jnp.ones((5, 3))
    >>> _, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, key=jax.random.key(1))
    >>> bool(((ys == 0) == (ys[0] == 0)).all()), 0.3 < float((ys == 0).mean()) < 0.7
    (True, True)
    """

    cell: Any
    rate: float
    _: KW_ONLY
    input_rate: float | None = None
    carry_rate: float | None = None
    output_rate: float | None = None

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_rate("VariationalDropout", "rate", self.rate)
        for name in ("input_rate", "carry_rate", "output_rate"):
            if getattr(self, name) is not None:
                check_rate("VariationalDropout", name, getattr(self, name))

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        if key is None:
            return prepare(self.cell, params, None, x)
        k_cell, k_x, k_c, k_y = jax.random.split(key, 4)
        carry = jax.eval_shape(self.cell.initial_carry, params, x)
        noise = {
            "input": self._masks(k_x, self.input_rate, x),
            "carry": _shown(carry, self._masks(k_c, self.carry_rate, carry)),
            "output": self._masks(k_y, self.output_rate, output_shape(self.cell, params, x)),
        }
        return Drawn(prepare(self.cell, params, k_cell, x), noise)

    def _masks(self, key: jax.Array, rate: float | None, tree: Any) -> Any:
        return keep_masks(key, self.rate if rate is None else rate, tree)

    def params_inside(self, params: Params) -> Params:
        return plain(params)

    def keys_inside(self, key: Key) -> tuple[Key, Key]:
        return key, key  # the kept one says that there is noise, which has been drawn

    def input_inside(self, params: Params, x: Any, key: Key) -> Any:
        return x if key is None else times(x, params.noise["input"])

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        return y if key is None else times(y, params.noise["output"])

    def changes_carry(self, noisy: bool) -> bool:
        return noisy

    def carry_change(self, params: Params, key: Key, carry: Carry) -> CarryChange:
        zeros, ones = (jax.tree.map(like, carry) for like in (jnp.zeros_like, jnp.ones_like))
        return CarryChange(before=times(ones, params.noise["carry"]), keep=zeros, scale=ones, shift=zeros)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        if key is not None and not isinstance(params, Drawn):
            params = self.prepare(params, sequence_key(key), x)
        return step(self, params, carry if key is None else times(carry, params.noise["carry"]), x, key)


def _shown(carry: Carry, masks: Any) -> Any:
    """Masks of ones for whatever is not called ``h``, if anything is."""
    paths, structure = jax.tree_util.tree_flatten_with_path(carry)
    shown = [bool(path) and getattr(path[-1], "name", None) == "h" for path, _ in paths]
    ones = [m if s or not any(shown) or not is_float(m) else m * 0 + 1 for s, m in zip(shown, jax.tree.leaves(masks))]
    return jax.tree.unflatten(structure, ones)
