"""Equinox: `eqx.nn.GRUCell` and `eqx.nn.LSTMCell`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from rnnjax.base import name_of
from rnnjax.cells import GRU, LSTM
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host, to_jax
from rnnjax.interop.levels import LAYERS, Unit, only, plain

if TYPE_CHECKING:
    import equinox as eqx

FROM, TO = "from_equinox", "to_equinox"


def from_equinox(module: eqx.Module) -> tuple[Any, Any]:
    """An Equinox cell as ``(cell, params)``, computing the same numbers.

    module: `eqx.nn.GRUCell` or `eqx.nn.LSTMCell`, with or without biases. Equinox writes ``cell(x, state)`` for one example;
    here it is ``cell(params, carry, x)`` for any batch axes. Errors: TypeError for other modules.

    >>> import pytest; eqx = pytest.importorskip("equinox")
    >>> cell, params = from_equinox(eqx.nn.GRUCell(3, 4, key=jax.random.key(0)))
    >>> cell, sorted(params)
    (GRU(4), ['bias', 'input', 'recurrent', 'recurrent_bias'])
    """
    import equinox as eqx

    if type(module) not in (eqx.nn.GRUCell, eqx.nn.LSTMCell):
        raise TypeError(f"{FROM}: takes eqx.nn.GRUCell or eqx.nn.LSTMCell, got {type(module).__name__}")
    w, u = host(module.weight_ih).T, host(module.weight_hh).T
    biases = [host(module.bias)] if module.use_bias else []
    if type(module) is eqx.nn.LSTMCell:
        cell, params = LSTM(module.hidden_size, use_bias=module.use_bias), gates.read_lstm(w, u, biases, "ifgo")
    else:
        cell, params = GRU(module.hidden_size, use_bias=module.use_bias), gates.read_gru(w, u, biases, "rzn", True)
        params |= {"recurrent_bias": host(module.bias_n)} if module.use_bias else {}
    return cell, to_jax(FROM, params)


def to_equinox(cell: Any, params: Any) -> eqx.Module:
    """`GRU` (``reset_after``) or `LSTM` as an Equinox cell, the inverse of `from_equinox`.

    Errors: TypeError naming a cell, wrapper or layer that Equinox lacks (it has no layers over time: convert each cell).
    """
    import equinox as eqx

    if isinstance(cell, LAYERS):
        raise TypeError(f"{TO}: Equinox has cells only, got {cell!r}; convert its cells one by one")
    only(TO, Unit(cell, params))
    if type(cell) is LSTM and plain(cell):
        kind, (w, u, b), c = eqx.nn.LSTMCell, gates.write_lstm(params, "ifgo"), None
    elif type(cell) is GRU and plain(cell):
        kind, (w, u, b, c) = eqx.nn.GRUCell, gates.write_gru(params, "rzn")
    else:
        raise TypeError(f"{TO}: Equinox has no {name_of(cell)}; it has LSTM without variants and GRU(reset_after=True)")
    module = kind(*(w.shape[0], cell.features), b is not None, dtype=common_dtype(TO, params), key=jax.random.key(0))
    values = {"weight_ih": w.T, "weight_hh": u.T} | ({} if b is None else {"bias": b})
    values |= {} if c is None else {"bias_n": c[2 * cell.features :]}
    get = lambda m: [getattr(m, name) for name in values]
    return eqx.tree_at(get, module, [to_jax(TO, value) for value in values.values()])
