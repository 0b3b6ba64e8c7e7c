"""torch: `nn.RNN`, `nn.LSTM`, `nn.GRU`, their cells, and modules that hold them in a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host, to_jax
from rnnjax.interop.levels import LAYERS, Level, Unit, build, dropout_between, only, plain, read, with_dropout
from rnnjax.interop.torch_arrays import from_numpy, to_numpy
from rnnjax.interop.torch_chains import ACCEPTED, Unknown, read_chain
from rnnjax.wrappers import Dropout

if TYPE_CHECKING:
    import torch

FROM, TO = "from_torch", "to_torch"
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def from_torch(module: torch.nn.Module) -> tuple[Any, Any]:
    """A torch recurrent module as ``(layer, params)``, a ``*Cell`` as ``(cell, params)``, computing the same numbers.

    module: exactly `nn.RNN`, `nn.LSTM` (``proj_size`` too), `nn.GRU`, `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`; or a module of
    one's own, or an `nn.Sequential`, that passes one input through `nn.Embedding`, recurrent modules, `nn.Linear`, `nn.Dropout` and
    activations in a row. What its ``forward`` does is read off torch's symbolic trace, not guessed; anything else in it is refused.
    `nn.Embedding` becomes `Embed` round the first cell (with ``padding_idx``, whose row gets no gradient, the layer
    `rnnjax.interop.Table`), `nn.Linear` `Readout` or `rnnjax.interop.Dense`. The whole sequence always comes back, so what comes after
    ``out[:, -1]`` or ``h_n[-1]`` is ``rj.last_output(ys, time_axis=1)``; ``torch.cat((h_n[-2], h_n[-1]), 1)`` and ``out.mean(1)``
    become a `rnnjax.interop.Model` with a summary, whose y is ``[B, O]`` as in torch.
    Layers become `Sequential`, directions `Bidirectional`, ``dropout`` the wrapper `Dropout` round the lower layers' cells
    (active only when a key is given). The two biases become their sum. dtypes are kept, memory is not shared.
    ``batch_first`` is not a property of a layer here: call it with ``time_axis=1``. A packed sequence is ``lengths=``.
    The carry is named, not torch's ``h_n, c_n``: ``carry.layer_0.h``.
    Errors: TypeError for any other module, with what stands in the way and the recurrent modules inside it; ValueError for float64 in
    32-bit mode.

    >>> import pytest; torch = pytest.importorskip("torch")
    >>> import jax.numpy as jnp
    >>> layer, params = from_torch(torch.nn.LSTM(3, 4, num_layers=2, dropout=0.1, batch_first=True))
    >>> layer
    Sequential(RNN(Dropout(LSTM(4), 0.1)), RNN(LSTM(4)))
    >>> carry, ys = layer(params, jnp.ones((2, 7, 3)), time_axis=1)
    >>> ys.shape
    (2, 7, 4)
    >>> from_torch(torch.nn.Sequential(torch.nn.Embedding(10, 3), torch.nn.GRU(3, 4), torch.nn.Linear(4, 2)))[0]
    RNN(Readout(Embed(GRU(4), 10, 3), 2))
    """
    import torch

    nn = torch.nn
    if type(module) in (nn.RNNCell, nn.LSTMCell, nn.GRUCell):
        cell, params = _read_cell(module, "")
        return cell, to_jax(FROM, params)
    if type(module) in (nn.RNN, nn.LSTM, nn.GRU):
        layer, params = build(_read_levels(module))
        return layer, to_jax(FROM, params)
    reason = ""
    if isinstance(module, nn.Module) and not isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and _inside(module, nn):
        try:
            layer, params = read_chain(module, _read_levels)
            return layer, to_jax(FROM, params)
        except Unknown as error:
            reason = f" ({error}; {ACCEPTED})"
    kinds = ", ".join(_kinds(nn))
    raise TypeError(f"from_torch: takes {kinds}, got {type(module).__name__}{_inside(module, nn)}{reason}")


def _kinds(nn: Any) -> list[str]:
    return ["nn.RNN", "nn.LSTM", "nn.GRU", "nn.RNNCell", "nn.LSTMCell", "nn.GRUCell"]


def _inside(module: Any, nn: Any) -> str:
    """Where to look: the recurrent modules inside, or what makes a subclass different."""
    kinds = (nn.RNNBase, nn.RNNCellBase)
    if isinstance(module, kinds):
        return ", a subclass, which may compute something else (remove its parametrizations, or pass the plain module)"
    if not isinstance(module, nn.Module):
        return "; pass the module itself, not its state_dict or a file (files are never unpickled here)"
    names = [name for name, inner in module.named_modules() if name and isinstance(inner, kinds)]
    return f"; it contains {', '.join(names)}: pass one of those" if names else ""


def _read_levels(module: Any) -> list[Level]:
    _check_options(module)
    levels = []
    for k in range(module.num_layers):
        suffixes = (f"_l{k}", f"_l{k}_reverse") if module.bidirectional else (f"_l{k}",)
        rate = float(module.dropout) if k < module.num_layers - 1 else 0.0
        if rate >= 1:
            raise ValueError(f"{FROM}: dropout={rate} between layers drops everything; Dropout takes a rate below 1")
        levels.append(Level(tuple(with_dropout(Unit(*_read_cell(module, s)), rate) for s in suffixes)))
    return levels


def _check_options(module: Any) -> None:
    """The options are of their types: a module can be changed after it was made."""
    kinds = {
        "num_layers": int,
        "hidden_size": int,
        "proj_size": int,
        "bias": bool,
        "bidirectional": bool,
        "dropout": (int, float),
    }
    for name in filter(lambda name: hasattr(module, name), kinds):
        value, least = getattr(module, name), 1 if name in ("num_layers", "hidden_size") else 0
        if not isinstance(value, kinds[name]) or value < least:
            raise ValueError(f"{FROM}: {type(module).__name__} has {name}={value!r}, which no module is made with")


def _tensor(module: Any, name: str, *shape: int | None) -> Any:
    """A weight as numpy. Raises: ValueError where it is missing or of another shape, None standing for any size."""
    where = f"{FROM}: {type(module).__name__}"
    value: Any = getattr(module, name, None)
    if not hasattr(value, "detach"):
        raise ValueError(f"{where} has no tensor {name}, got {value!r}")
    if value.ndim != len(shape) or any(m not in (n, None) for n, m in zip(value.shape, shape)):
        wanted = f"({', '.join('any' if n is None else str(n) for n in shape)})"
        raise ValueError(f"{where}: {name} must have shape {wanted}, got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"{where}: {name} must be of a floating type, got {value.dtype}")
    return to_numpy(value)


def _read_cell(module: Any, suffix: str) -> tuple[Any, dict[str, Any]]:
    """One direction of one layer: the cell and its params as numpy arrays."""
    _check_options(module)
    kind, h, use_bias = type(module).__name__, int(module.hidden_size), bool(module.bias)
    wide, shown = h * {"LSTM": 4, "GRU": 3}.get(kind.removesuffix("Cell"), 1), int(getattr(module, "proj_size", 0)) or h
    get = lambda name, *shape: _tensor(module, name + suffix, *shape)
    w, u = get("weight_ih", wide, None).T, get("weight_hh", wide, shown).T
    biases = [get("bias_ih", wide), get("bias_hh", wide)] if module.bias else []
    if kind.startswith("LSTM"):
        projection = int(getattr(module, "proj_size", 0)) or None
        params = gates.read_lstm(w, u, biases, "ifgo")
        extra = {} if projection is None else {"projection": get("weight_hr", projection, h).T}
        return LSTM(h, projection=projection, use_bias=use_bias), params | extra
    if kind.startswith("GRU"):
        return GRU(h, use_bias=use_bias), gates.read_gru(w, u, biases, "rzn", reset_after=True)
    return Elman(h, activation=module.nonlinearity, use_bias=use_bias), gates.read_elman(w, u, biases)


# -- the way back ------------------------------------------------------------------------------------------------------


def to_torch(layer: Any, params: Any) -> torch.nn.Module:
    """A layer as a torch module, a cell as torch's ``*Cell``, computing the same numbers; the inverse of `from_torch`.

    layer: levels of one kind and size: `Elman` ("tanh", "relu"), `IRNN`, `LSTM` (``projection`` too) or `GRU` (``reset_after``),
    all one way or all `Bidirectional` (merged by "concat"), with one `Dropout` rate on all but the last.
    The one bias becomes torch's ``bias_ih``, ``bias_hh`` is zero (but for GRU's inner one).
    Errors: TypeError/ValueError naming the cell, wrapper or option that torch lacks (a peephole, another activation, ...).
    """
    if isinstance(layer, LAYERS):
        return _write_levels(layer, read(TO, layer, params))
    unit = only(TO, Unit(layer, params))
    name, options, tensors = _write_cell(unit)
    if "proj_size" in options:
        raise TypeError(f"{TO}: nn.LSTMCell has no projection, got {layer!r}; convert RNN({layer!r}) to nn.LSTM")
    options["bias"] = bool(tensors["bias_ih"] is not None)
    return _fill(name + "Cell", options, tensors, common_dtype(TO, params))


def _write_levels(layer: Any, levels: list[Level]) -> Any:
    written = [[_write_cell(only(TO, unit, Dropout)) for unit in level.units] for level in levels]
    name, options, _ = written[0][0]
    sizes = {len(level.units) for level in levels}
    for level in levels:
        if level.reverse or (len(level.units) == 2 and level.merge != "concat") or len(sizes) > 1:
            raise TypeError(
                f"{TO}: a torch module is forward in all layers or bidirectional with merge='concat' in all, got {layer!r}"
            )
    tensors, biased = {}, set()
    for k, units in enumerate(written):
        for suffix, (other, its_options, its_tensors) in zip((f"_l{k}", f"_l{k}_reverse"), units):
            if (other, its_options | {"input_size": 0}) != (name, options | {"input_size": 0}):
                raise TypeError(f"{TO}: all layers of a torch module are of one kind and size, got {layer!r}")
            biased.add(its_tensors["bias_ih"] is not None)
            tensors |= {name + suffix: value for name, value in its_tensors.items()}
    if len(biased) > 1:
        raise TypeError(f"{TO}: all layers of a torch module have biases or none has, got {layer!r}")
    rate = dropout_between(TO, levels)
    options |= {"num_layers": len(levels), "bidirectional": sizes == {2}, "dropout": rate, "bias": biased.pop()}
    return _fill(name, options, tensors, common_dtype(TO, [u.params for level in levels for u in level.units]))


def _write_cell(unit: Unit) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """torch's class, its options and its tensors (numpy, or None) for one cell."""
    cell, params = unit.cell, unit.params
    options: dict[str, Any] = {"input_size": int(params["input"].shape[0]) if "input" in params else 0}
    if type(cell) is GRU and plain(cell):
        name, (w, u, b, c) = "GRU", gates.write_gru(params, "rzn")
    elif type(cell) is LSTM and plain(cell, "projection"):
        name, (w, u, b) = "LSTM", gates.write_lstm(params, "ifgo")
        c = None if b is None else 0 * b
        options |= {"proj_size": cell.projection} if cell.projection else {}
    elif type(cell) is IRNN or (
        type(cell) is Elman and cell.activation in ("tanh", "relu") and plain(cell, "activation")
    ):
        name, (w, u, b) = "RNN", gates.write_elman(params)
        c = None if b is None else 0 * b
        options["nonlinearity"] = getattr(cell, "activation", "relu")
    else:
        raise TypeError(
            f"{TO}: torch has no {name_of(cell)}; it has Elman with tanh or relu, LSTM with or without projection "
            "(no peephole, coupled or layer_norm) and GRU(reset_after=True)"
        )
    hr = host(params["projection"]).T if "projection" in params else None
    tensors: dict[str, Any] = dict(zip(NAMES, (w.T, u.T, b, c, hr), strict=True))
    return name, options | {"hidden_size": cell.features}, tensors


def _fill(name: str, options: dict[str, Any], tensors: dict[str, Any], dtype: Any) -> Any:
    """A module with these parameters, made without drawing from torch's global random state."""
    import torch

    module = getattr(torch.nn, name)(**options, device="meta", dtype=getattr(torch, str(dtype))).to_empty(device="cpu")
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter.copy_(from_numpy(tensors[key]))
    return module
