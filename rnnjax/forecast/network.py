"""The network of a forecaster: a cell and a linear layer that starts by saying nothing; and which cells are told the time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, Params, cell, param_dtype
from rnnjax.protocols import OneInside, SeveralLayers, StepLength
from rnnjax.wording import counted
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.stack import output_shape


@cell
@around("output", "skip", "output_bias")
class Correction:
    """A linear layer on the output and the input of a cell: ``y = h V + x W + c``.

    cell: any cell with one output array ``[*B, H]``. start: the D outputs before any training.
    params: ``cell``, ``output`` V ``[H, D]``, ``skip`` W ``[I, D]``, ``output_bias`` c ``[D]``. carry: the inner cell's. y: ``[*B, D]``.
    Start: V and W zero, c ``start``. The way round the cell is that of LSTNet (Lai et al. 2018, arXiv:1703.07015).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = Correction(rj.GRU(4), (0.0, 0.5)), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1][-1].tolist()
    [0.0, 0.5]
    """

    cell: Any
    start: tuple[float, ...]

    def __post_init__(self) -> None:
        check_wrapper(self)

    def __repr__(self) -> str:
        return f"Correction({self.cell!r}, {counted(len(self.start), 'output')})"

    def init(self, key: jax.Array, x: Any) -> Params:
        params = {"cell": self.cell.init(key, x)}
        hidden, dtype = output_shape(self.cell, params["cell"], x).shape[-1], param_dtype(x)
        outputs = len(self.start)
        return params | {
            "output": jnp.zeros((hidden, outputs), dtype),
            "skip": jnp.zeros((x.shape[-1], outputs), dtype),
            "output_bias": jnp.asarray(self.start, dtype),
        }

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> jax.Array:
        return y @ params["output"] + x.astype(y.dtype) @ params["skip"] + params["output_bias"]


def told_time(cell: Any) -> bool:
    """Whether a cell, or what it wraps, or the first of its layers, is told how long each step is: `rnnjax.protocols.StepLength`.

    Raises: ValueError where a layer further up is, which would take an output of the one below for the time.

    >>> import rnnjax as rj
    >>> told_time(rj.Dropout(rj.CfC(4, elapsed=True), 0.1)), told_time(rj.CfC(4)), told_time(rj.GRU(4))
    (True, False, False)
    """
    if isinstance(cell, SeveralLayers):
        first, *others = cell.layers_inside()
        if any(map(told_time, others)):
            raise ValueError(f"Forecaster: the first layer alone can be told how long a step is, got {cell!r}")
        return told_time(first)
    if isinstance(cell, OneInside):
        return told_time(cell.cell_inside())
    return isinstance(cell, StepLength) and bool(cell.elapsed)
