"""flax.nnx: all recurrent cells, `nnx.RNN`, `nnx.Bidirectional`, and `nnx.Sequential` of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells import GRU, LSTM, Elman
from rnnjax.interop import flax_cells as cells
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host, to_jax
from rnnjax.interop.flax_linen import merge_function
from rnnjax.interop.levels import LAYERS, Level, Unit, build, in_input_order, only, read

if TYPE_CHECKING:
    from flax import nnx

FROM, TO = "from_nnx", "to_nnx"


def from_nnx(module: nnx.Module) -> tuple[Any, Any]:
    """An nnx layer as ``(layer, params)``, an nnx cell as ``(cell, params)``, computing the same numbers.

    module: `nnx.LSTMCell`, `OptimizedLSTMCell`, `GRUCell`, `SimpleCell`, or `nnx.RNN`, `nnx.Bidirectional`, `nnx.Sequential`
    of them. `nnx.GRUCell` lacks the bias inside the reset that linen's, torch's and cuDNN's have, and so do its params here.
    Otherwise as `from_flax`. Errors: TypeError for other modules; ValueError naming an option.

    >>> from flax import nnx
    >>> layer, params = from_nnx(nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))))
    >>> layer, params["recurrent"].shape
    (RNN(LSTM(4)), (4, 16))
    """
    from flax import nnx

    if isinstance(module, nnx.nn.recurrent.RNNCellBase):
        cell, params = _read_cell(module)
        return cell, to_jax(FROM, params)
    layer, params = build(in_input_order(FROM, _read_levels(module)))
    return layer, to_jax(FROM, params)


def _read_levels(module: Any) -> list[Level]:
    from flax import nnx

    if type(module) is nnx.Sequential:
        return [level for inner in module.layers for level in _read_levels(inner)]
    if type(module) is nnx.Bidirectional:
        merge = cells.merge_name(FROM, module.merge_fn, nnx.Bidirectional.merge_fn)
        units = [_read_levels(inner)[0].units[0] for inner in (module.forward_rnn, module.backward_rnn)]
        return [Level(tuple(units), merge=merge)]
    if type(module) is nnx.RNN:
        return [
            Level(
                (Unit(*_read_cell(module.cell)),),
                reverse=module.reverse,
                flips=module.reverse and not module.keep_order,
            )
        ]
    raise TypeError(
        f"{FROM}: takes a recurrent cell of flax.nnx, nnx.RNN, nnx.Bidirectional or nnx.Sequential of those, got "
        f"{type(module).__module__}.{type(module).__name__}"
    )


def _dense(linear: Any) -> dict[str, Any]:
    """``{"kernel", "bias"}`` of an `nnx.Linear`."""
    parts = {"kernel": linear.kernel, "bias": linear.bias}
    return {name: p.get_value() for name, p in parts.items() if p is not None}


def _read_cell(cell: Any) -> tuple[Any, Any]:
    from flax import nnx

    features = getattr(cell, "hidden_features", 0)
    cells.check_start(FROM, cell)
    if type(cell) is nnx.LSTMCell:
        names = {f"{side}{g}": f"{side}{g}" for side in "ih" for g in "ifgo"} | {"if": "if_"}
        table = {name: _dense(getattr(cell, attribute)) for name, attribute in names.items()}
        result = cells.read_lstm(features, table.__getitem__, **cells.gated(FROM, cell))
    elif type(cell) in (nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell):
        table = {"i": _dense(cell.dense_i), "h": _dense(cell.dense_h)}
        result = _read_pair(cell, features, table["i"], table["h"])
    else:
        raise TypeError(
            f"{FROM}: takes a recurrent cell of flax.nnx itself, got {type(cell).__module__}.{type(cell).__name__}"
        )
    cells.check_dtype(FROM, cell, table)
    return result


def _read_pair(cell: Any, features: int, i: Mapping[str, Any], h: Mapping[str, Any]) -> tuple[Any, Any]:
    """A cell of one Dense for the input and one for the state."""
    from flax import nnx

    w, u = host(i["kernel"]), host(h["kernel"])
    if type(cell) is nnx.OptimizedLSTMCell:
        return LSTM(features, **cells.gated(FROM, cell)), gates.read_lstm(w, u, [host(h["bias"])], "ifgo")
    if type(cell) is nnx.GRUCell:
        return GRU(features, **cells.gated(FROM, cell)), gates.read_gru(
            w, u, [host(i["bias"])], "rzn", reset_after=True
        )
    return cells.read_simple(cell, features, cells.activation_name(FROM, cell.activation_fn), i, h)


# -- the way back ------------------------------------------------------------------------------------------------------


def to_nnx(layer: Any, params: Any) -> nnx.Module:
    """A layer or cell as an nnx module, the inverse of `from_nnx`. The modules read ``[B, T, I]``, nnx's default.

    Errors: TypeError naming a cell or wrapper that nnx lacks; ValueError for a `GRU` whose ``recurrent_bias`` is not zero,
    which `nnx.GRUCell` has no place for.
    """
    from flax import nnx

    if not isinstance(layer, LAYERS):
        return _write_cell(only(TO, Unit(layer, params)))
    modules = [_write_level(level) for level in read(TO, layer, params)]
    return modules[0] if len(modules) == 1 else nnx.Sequential(*modules)


def _write_level(level: Level) -> Any:
    from flax import nnx

    cell, *backward = [_write_cell(only(TO, unit)) for unit in level.units]
    if not backward:
        return nnx.RNN(cell, reverse=level.reverse, keep_order=level.reverse)
    options = {} if level.merge == "concat" else {"merge_fn": merge_function(TO, level.merge)}
    return nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(backward[0]), **options)


def _write_cell(unit: Unit) -> Any:
    from flax import nnx

    cell, params = unit.cell, unit.params
    name, options, _ = cells.write(TO, cell, params)
    if name not in ("LSTMCell", "GRUCell", "SimpleCell"):
        raise TypeError(f"{TO}: nnx has LSTMCell, GRUCell and SimpleCell, got {cell!r}")
    kind, dtype = getattr(nnx, "OptimizedLSTMCell" if name == "LSTMCell" else name), common_dtype(TO, params)
    sizes = int(params["input"].shape[0]), cell.features
    zeros = jax.nn.initializers.zeros  # overwritten below; Flax's own start has no bfloat16
    options |= {"dtype": dtype, "param_dtype": dtype, "kernel_init": zeros, "recurrent_kernel_init": zeros}
    module = kind(*sizes, rngs=nnx.Rngs(0), **options)
    bias_at = module.dense_h if name == "LSTMCell" else module.dense_i
    _refuse_inner_bias(cell, params)
    variables = (module.dense_i.kernel, "input"), (module.dense_h.kernel, "recurrent"), (bias_at.bias, "bias")
    for variable, key in variables:
        value = params[key] if key in params else jnp.zeros(variable.get_value().shape, dtype)
        variable.set_value(to_jax(TO, host(value)))
    return module


def _refuse_inner_bias(cell: Any, params: Any) -> None:
    inner = params.get("recurrent_bias")
    if type(cell) is Elman or inner is None or isinstance(inner, jax.core.Tracer):
        return
    if np.any(host(inner) != 0):
        raise ValueError(
            f"{TO}: nnx.GRUCell has no bias inside the reset, got a non-zero params['recurrent_bias']; "
            "use to_flax (linen has it), or train with it fixed at zero"
        )
