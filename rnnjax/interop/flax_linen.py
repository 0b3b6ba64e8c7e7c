"""flax.linen: all recurrent cells, `nn.RNN`, `nn.Bidirectional`, and `nn.Sequential` of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from rnnjax.interop import flax_cells as cells
from rnnjax.interop.arrays import common_dtype, to_jax
from rnnjax.interop.levels import LAYERS, Level, Unit, build, in_input_order, only, read

if TYPE_CHECKING:
    from flax import linen as nn

FROM, TO = "from_flax", "to_flax"


def from_flax(module: nn.Module, variables: Any = None) -> tuple[Any, Any]:
    """A linen layer with its variables as ``(layer, params)``, a linen cell as ``(cell, params)``, the same numbers.

    module: `nn.LSTMCell`, `OptimizedLSTMCell`, `GRUCell`, `SimpleCell`, `MGUCell`, `ConvLSTMCell`, or `nn.RNN`,
    `nn.Bidirectional`, `nn.Sequential` of them. variables: ``{"params": ...}`` or what lies inside; a bound module
    (``module.bind(variables)``) has them already.
    ``reverse`` becomes ``RNN(cell, reverse=True)``, whose ys keep input order (Flax flips them unless ``keep_order``).
    `MGUCell` becomes a `GRU` with equal gates, without ``reset_gate`` a `UGRNN` (Flax's definition is not the paper's);
    ``residual`` of `SimpleCell` is the identity added to U; `ConvLSTMCell`'s run-time forget bias goes into the bias.
    ``time_major=False`` is ``time_axis=1`` at the call. ``seq_lengths`` is ``lengths=``; length 0 gives the start.
    Errors: TypeError for other modules; ValueError naming an option (an unknown activation, ``carry_init``, ...) or a missing
    parameter.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> module = nn.RNN(nn.GRUCell(4))
    >>> layer, params = from_flax(module, module.init(jax.random.key(0), jnp.ones((2, 5, 3))))
    >>> layer
    RNN(GRU(4))
    """
    from flax import linen as nn

    if variables is None and getattr(module, "scope", None) is None:
        raise TypeError(f"{FROM}: a linen module has no parameters of its own; pass from_flax(module, variables)")
    params = nn.meta.unbox(module.variables if variables is None else variables)
    params = params["params"] if isinstance(params, Mapping) and "params" in params else params
    if isinstance(module, nn.recurrent.RNNCellBase):
        cell, params = _read_cell(module, params)
        return cell, to_jax(FROM, params)
    layer, params = build(in_input_order(FROM, _read_levels(module, params)))
    return layer, to_jax(FROM, params)


def _read_levels(module: Any, params: Any) -> list[Level]:
    from flax import linen as nn

    if type(module) is nn.Sequential:
        named = [(inner, _part(module, params, f"layers_{k}")) for k, inner in enumerate(module.layers)]
        return [level for inner, p in named for level in _read_levels(inner, p)]
    if type(module) is nn.Bidirectional:
        merge = cells.merge_name(FROM, module.merge_fn, nn.Bidirectional.merge_fn)
        names = ("forward_rnn", "backward_rnn")
        units = [_read_levels(getattr(module, name), _part(module, params, name))[0].units[0] for name in names]
        return [Level(tuple(units), merge=merge)]
    if type(module) is nn.RNN:
        inner = params["cell"] if "cell" in params else params
        return [
            Level(
                (Unit(*_read_cell(module.cell, inner)),),
                reverse=module.reverse,
                flips=module.reverse and not module.keep_order,
            )
        ]
    raise TypeError(
        f"{FROM}: takes a recurrent cell of flax.linen, nn.RNN, nn.Bidirectional or nn.Sequential of those, got "
        f"{type(module).__module__}.{type(module).__name__}"
    )


def _part(module: Any, params: Any, name: str) -> Any:
    if not isinstance(params, Mapping) or name not in params:
        have = sorted(params) if isinstance(params, Mapping) else type(params).__name__
        raise ValueError(f"{FROM}: the params of {type(module).__name__} lack {name!r}, got {have}")
    return params[name]


def _read_cell(cell: Any, params: Any) -> tuple[Any, Any]:
    from flax import linen as nn

    get = lambda name: _part(cell, params, name)
    cells.check_dtype(FROM, cell, params)
    cells.check_start(FROM, cell)
    if type(cell) is nn.SimpleCell:
        name = cells.activation_name(FROM, cell.activation_fn)
        return cells.read_simple(cell, cell.features, name, get("i"), get("h"))
    if type(cell) is nn.ConvLSTMCell:
        cells.check_conv(FROM, cell)
        ih, hh, kernel = get("ih"), get("hh"), tuple(cell.kernel_size)
        biases = [d["bias"] for d in (ih, hh) if "bias" in d]
        return cells.read_conv(cell.features, kernel, ih["kernel"], hh["kernel"], biases)
    if type(cell) in (nn.LSTMCell, nn.OptimizedLSTMCell):
        return cells.read_lstm(cell.features, get, **cells.gated(FROM, cell))
    if type(cell) is nn.GRUCell:
        return cells.read_gru(cell.features, get, **cells.gated(FROM, cell))
    if type(cell) is nn.MGUCell:
        return cells.read_mgu(FROM, cell, get)
    raise TypeError(
        f"{FROM}: takes a recurrent cell of flax.linen itself, got {type(cell).__module__}.{type(cell).__name__}"
    )


# -- the way back ------------------------------------------------------------------------------------------------------


def to_flax(layer: Any, params: Any) -> tuple[nn.Module, Any]:
    """A layer or cell as ``(linen module, variables)``, the inverse of `from_flax`.

    A single level becomes `nn.RNN` or `nn.Bidirectional`, several an `nn.Sequential` of them; `LSTM` becomes `OptimizedLSTMCell`.
    The modules read ``[B, T, I]``, Flax's default.
    Errors: TypeError naming a cell or wrapper that Flax lacks.
    """
    from flax import linen as nn

    if not isinstance(layer, LAYERS):
        cell, inner = _write_cell(only(TO, Unit(layer, params)))
        return cell, {"params": inner}
    written = [_write_level(level) for level in read(TO, layer, params)]
    if len(written) == 1:
        return written[0][0], {"params": written[0][1]}
    variables = {f"layers_{k}": inner for k, (_, inner) in enumerate(written)}
    return nn.Sequential([module for module, _ in written]), {"params": variables}


def _write_level(level: Level) -> tuple[Any, Any]:
    from flax import linen as nn

    (cell, inner), *backward = [_write_cell(only(TO, unit)) for unit in level.units]
    if not backward:
        return nn.RNN(cell, reverse=level.reverse, keep_order=level.reverse), {"cell": inner}
    options = {} if level.merge == "concat" else {"merge_fn": merge_function(TO, level.merge)}
    module = nn.Bidirectional(nn.RNN(cell), nn.RNN(backward[0][0]), **options)
    return module, {"forward_rnn": {"cell": inner}, "backward_rnn": {"cell": backward[0][1]}}


def merge_function(owner: str, merge: str | None) -> Any:
    """Flax's ``merge_fn`` for our ``merge``."""
    if merge not in cells.MERGES:
        raise TypeError(f"{owner}: Flax merges directions by concat, sum or mul here, got merge={merge!r}")
    return cells.MERGES[merge]


def _write_cell(unit: Unit) -> tuple[Any, Any]:
    from flax import linen as nn

    name, options, dense = cells.write(TO, unit.cell, unit.params)
    kind = getattr(nn, "OptimizedLSTMCell" if name == "LSTMCell" else name)
    dtype = common_dtype(TO, unit.params)
    return kind(unit.cell.features, param_dtype=jnp.dtype(dtype), **options), to_jax(TO, dense)
