"""Haiku: `hk.VanillaRNN`, `hk.LSTM`, `hk.GRU`, `hk.Conv1DLSTM` to `Conv3DLSTM`, and `hk.DeepRNN` of those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rnnjax.base import layer_names, name_of
from rnnjax.cells import GRU, IRNN, LSTM, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host, namespace, to_jax
from rnnjax.interop.flax_cells import CONV, read_conv, write_conv
from rnnjax.interop.levels import LAYERS, Unit, one_direction, only, plain, read, stacked
from rnnjax.layers import RNN, Sequential
from rnnjax.wrappers import Stack

FROM, TO = "from_haiku", "to_haiku"
LSTM_ORDER, GRU_ORDER = "igfo", "zrn"  # haiku's z is the complement of ours


def from_haiku(core: Any, params: Mapping[str, Mapping[str, Any]]) -> tuple[Any, Any]:
    """A Haiku core with its params as ``(cell, params)``, computing the same numbers.

    core: a function without arguments that makes the core, ``lambda: hk.LSTM(128)`` (Haiku's modules exist only inside a
    transform), or the core itself if you hold it. params: what ``hk.transform(...).init`` gave; the core's own are found by its
    name, under whatever scope. A `hk.DeepRNN` becomes a `Stack`. Roll it with `rj.unroll(cell, params, xs)` as
    `hk.dynamic_unroll` would.
    Haiku's LSTMs add 1 to the forget gate at every step: it goes into the bias. Its GRU is the first paper's
    (``reset_after=False``) and its z is 1 - z here. `hk.VanillaRNN` is ``Elman(activation="relu")``; its two biases add up.
    Errors: TypeError for other cores and for layers of a DeepRNN that are not cores; ValueError for missing params.

    >>> import pytest; hk = pytest.importorskip("haiku")
    >>> import jax.numpy as jnp
    >>> def step(x):
    ...     core = hk.GRU(4)
    ...     return core(x, core.initial_state(2))
    >>> params = hk.transform(step).init(jax.random.key(0), jnp.ones((2, 3)))
    >>> from_haiku(lambda: hk.GRU(4), params)[0]
    GRU(4, reset_after=False)
    """
    import haiku as hk

    if isinstance(core, Mapping):
        raise TypeError(
            f"{FROM}: takes the core first, from_haiku(lambda: hk.LSTM(128), params), got {type(core).__name__}"
        )
    if not isinstance(core, hk.Module):
        core = _made(core)
    cell, own = _read(core, params)
    return cell, to_jax(FROM, own)


def _made(make: Callable[[], Any]) -> Any:
    """The core that a function makes, with the names it gets inside a transform."""
    import haiku as hk

    made = []
    hk.transform(lambda: made.append(make())).init(jax.random.key(0))
    if not isinstance(made[0], hk.Module):
        raise TypeError(f"{FROM}: the function must return a Haiku core, got {type(made[0]).__name__}")
    return made[0]


def _read(core: Any, params: Any) -> tuple[Any, Any]:
    import haiku as hk

    if type(core).__name__ in ("DeepRNN", "_DeepRNN"):
        if core.skip_connections:
            raise TypeError(
                f"{FROM}: deep_rnn_with_skip_connections has no counterpart here; convert its layers one by one"
            )
        read_all = [_read(layer, params) for layer in core.layers]
        cells, own = zip(*read_all, strict=True)
        return Stack(*cells), dict(zip(layer_names(len(cells)), own, strict=True))
    if type(core) is hk.LSTM:
        return _read_lstm(core, _find(core, params, "/linear"))
    if type(core) is hk.GRU:
        return _read_gru(core, _find(core, params, ""))
    if type(core) is hk.VanillaRNN:
        i, h = _find(core, params, "/linear"), _find(core, params, "/linear_1")
        biases = [host(p["b"]) for p in (i, h) if "b" in p]
        return Elman(core.hidden_size, activation="relu"), gates.read_elman(host(i["w"]), host(h["w"]), biases)
    if isinstance(core, hk.Module) and hasattr(core, "num_spatial_dims"):
        i, h = _find(core, params, "/input_to_hidden"), _find(core, params, "/hidden_to_hidden")
        return read_conv(core.output_channels, i["w"].shape[:-2], i["w"], h["w"], [i["b"], h["b"]])
    name = getattr(core, "__name__", type(core).__name__)
    raise TypeError(f"{FROM}: takes hk.VanillaRNN, hk.LSTM, hk.GRU, hk.ConvNDLSTM or hk.DeepRNN of those, got {name}")


def _find(core: Any, params: Any, suffix: str) -> Mapping[str, Any]:
    """The params of a module by the end of its name, whatever scope it was made in."""
    wanted = core.module_name + suffix
    found = [name for name in params if name == wanted or name.endswith("/" + wanted)]
    if len(found) != 1:
        raise ValueError(f"{FROM}: params must have one module {wanted!r}, got {found or sorted(params)}")
    return params[found[0]]


def _read_lstm(core: Any, linear: Mapping[str, Any]) -> tuple[Any, Any]:
    w = host(linear["w"])
    x, h = namespace(w).split(w, [w.shape[0] - core.hidden_size])
    one = np.repeat(np.asarray([0, 0, 1, 0], w.dtype), core.hidden_size)
    return LSTM(core.hidden_size), gates.read_lstm(x, h, [host(linear["b"]), one], LSTM_ORDER)


def _read_gru(core: Any, own: Mapping[str, Any]) -> tuple[Any, Any]:
    w, u, b = (gates.negate(host(own[name]), GRU_ORDER, "z") for name in ("w_i", "w_h", "b"))
    return GRU(core.hidden_size, reset_after=False), gates.read_gru(w, u, [b], GRU_ORDER, reset_after=False)


# -- the way back ------------------------------------------------------------------------------------------------------


def to_haiku(
    layer: Any, params: Any, *, input_shape: tuple[int, ...] | None = None
) -> tuple[Callable[[], Any], dict[str, dict[str, jax.Array]]]:
    """A cell, `Stack` or forward layers as ``(make_core, params)`` for use inside `hk.transform`, the inverse of `from_haiku`.

    ``make_core()`` makes the core, a `hk.DeepRNN` for several cells, under the names that ``params`` has at the top level.
    input_shape: the size of the image, which Haiku's ConvLSTM wants to know and ours does not.
    Errors: TypeError naming a cell, wrapper or layer that Haiku lacks.
    """
    units = _units(layer, params)
    kinds = [_write(unit, input_shape) for unit in units]
    names = _unique([kind for kind, _, _ in kinds])
    own = {name + suffix: p for name, (_, _, parts) in zip(names, kinds) for suffix, p in parts.items()}

    def make() -> Any:
        import haiku as hk

        cores = [getattr(hk, kind)(**options, name=name) for name, (kind, options, _) in zip(names, kinds)]
        return cores[0] if len(cores) == 1 else hk.DeepRNN(cores)

    return make, to_jax(TO, own)


def _units(layer: Any, params: Any) -> list[Unit]:
    if isinstance(layer, LAYERS):
        if not isinstance(layer, (RNN, Sequential)):
            raise TypeError(f"{TO}: Haiku has cores that read forward only, got {layer!r}")
        return [only(TO, one_direction(TO, level)) for level in read(TO, layer, params)]
    return [only(TO, unit) for unit in stacked(TO, layer, params)]


def _unique(kinds: list[str]) -> list[str]:
    """lstm, lstm_1, gru: as Haiku would name them."""
    names = {"VanillaRNN": "vanilla_rnn", "LSTM": "lstm", "GRU": "gru"}
    plain = [names.get(kind, kind.lower().replace("d", "_d")) for kind in kinds]  # conv2_dlstm
    return [name + (f"_{plain[:k].count(name)}" if name in plain[:k] else "") for k, name in enumerate(plain)]


def _write(unit: Unit, input_shape: tuple[int, ...] | None) -> tuple[str, dict[str, Any], dict[str, dict[str, Any]]]:
    """Haiku's class, its options, and ``{suffix: params}``."""
    cell, params = unit.cell, unit.params
    common_dtype(TO, params)
    if type(cell) is LSTM and plain(cell):
        w, u, b = gates.write_lstm(params, LSTM_ORDER)
        one = np.repeat(np.asarray([0, 0, -1, 0], w.dtype), cell.features)
        linear = {"w": gates.join([w, u], axis=0), "b": one if b is None else gates.total(b, one)}
        return "LSTM", {"hidden_size": cell.features}, {"/linear": linear}
    if type(cell) is GRU and not cell.reset_after and plain(cell, "reset_after"):
        w, u, b, _ = (a if a is None else gates.negate(a, GRU_ORDER, "z") for a in gates.write_gru(params, GRU_ORDER))
        return "GRU", {"hidden_size": cell.features}, {"": {"w_i": w, "w_h": u, "b": _or_zeros(b, w)}}
    if type(cell) is IRNN or (type(cell) is Elman and cell.activation == "relu" and plain(cell, "activation")):
        w, u, b = gates.write_elman(params)
        parts = {"/linear": {"w": w, "b": _or_zeros(b, w)}, "/linear_1": {"w": u}}
        return "VanillaRNN", {"hidden_size": cell.features, "double_bias": False}, parts
    if type(cell) is ConvLSTM and not cell.peephole and plain(cell, *CONV):
        return _write_conv(unit, input_shape)
    raise TypeError(
        f"{TO}: Haiku has no {name_of(cell)}; it has Elman with relu, LSTM without variants, GRU(reset_after=False) and "
        "ConvLSTM(peephole=False)"
    )


def _or_zeros(bias: Any, w: Any) -> Any:
    return namespace(w).zeros(w.shape[-1:], w.dtype) if bias is None else bias


def _write_conv(
    unit: Unit, input_shape: tuple[int, ...] | None
) -> tuple[str, dict[str, Any], dict[str, dict[str, Any]]]:
    if input_shape is None or len(input_shape) != len(unit.params["input"].shape) - 2:
        raise TypeError(f"{TO}: {unit.cell!r} needs input_shape=, the size of the image, for Haiku; got {input_shape}")
    dense = write_conv(unit.params)
    kernel = tuple(dense["ih"]["kernel"].shape[:-2])
    parts = {
        f"/{name}": {"w": dense[d]["kernel"], "b": dense[d]["bias"]}
        for name, d in (("input_to_hidden", "ih"), ("hidden_to_hidden", "hh"))
    }
    options = {"input_shape": input_shape, "output_channels": unit.cell.features, "kernel_shape": kernel}
    return f"Conv{len(kernel)}DLSTM", options, parts
