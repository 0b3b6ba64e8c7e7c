"""`Scale`: fixed factors on what goes in and what comes out."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax

from rnnjax.base import Key, Params, cell
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.once import is_float


@cell
@around()
class Scale:
    """``carry', y = cell(params, carry, input x)``; result ``carry', output y``: fixed factors, not learned.

    cell: any cell. input, output: numbers, 1 by default; the input scaling of reservoirs, the output scaling of stacks.
    params, carry: the inner cell's. Errors: TypeError for factors that are not numbers.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, x = rj.Scale(rj.ATR(2), output=2.0), jnp.ones(2)
    >>> params = cell.init(jax.random.key(0), x)
    >>> carry, y = cell(params, cell.initial_carry(params, x), x)
    >>> bool((y == 2 * carry).all())
    True
    """

    cell: Any
    _: KW_ONLY
    input: float = 1.0
    output: float = 1.0

    def __post_init__(self) -> None:
        check_wrapper(self)

    def input_inside(self, params: Params, x: Any, key: Key) -> Any:
        return _times(self.input, x)

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        return _times(self.output, y)


def _times(factor: float, tree: Any) -> Any:
    return jax.tree.map(lambda a: factor * a if factor != 1 and is_float(a) else a, tree)
