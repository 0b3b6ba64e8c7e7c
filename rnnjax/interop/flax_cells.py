"""What Flax's linen and nnx cells share: one description of each cell's parameters, and checks of its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.activations import ACTIVATIONS
from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, UGRNN, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import host, namespace
from rnnjax.interop.levels import plain

MERGES: dict[Any, Callable[..., Any]] = {"sum": jnp.add, "mul": jnp.multiply}
CONV = ("kernel", "dims", "peephole")  # what a ConvLSTM may differ in
CONV_ORDER = "igfo"  # flax's and haiku's ConvLSTM; their LSTMs have ifgo and igfo


# -- options -----------------------------------------------------------------------------------------------------------


def activation_name(owner: str, function: Any) -> str:
    """Our name of an activation function, found by identity. Raises: ValueError for any other function."""
    name = next((ours for ours, known in ACTIVATIONS.items() if known is function), getattr(function, "__name__", ""))
    known = {ACTIVATIONS.get(name), getattr(jax.nn, name, None), getattr(jnp, name, None)} - {None}
    if name in ACTIVATIONS and function in known:
        return name
    raise ValueError(f"{owner}: activation must be one of {', '.join(ACTIVATIONS)}, got {function!r}")


def gated(owner: str, cell: Any) -> dict[str, Any]:
    """The activations of a gated cell as options of ours."""
    pairs = (("activation", "activation_fn"), ("gate_activation", "gate_fn"))
    return {ours: activation_name(owner, getattr(cell, theirs)) for ours, theirs in pairs}


def _functions(cell: Any) -> dict[str, Any]:
    """The activations that differ from the default, as Flax's options."""
    pairs = (("activation", "activation_fn", "tanh"), ("gate_activation", "gate_fn", "sigmoid"))
    return {theirs: ACTIVATIONS[name] for ours, theirs, usual in pairs if (name := getattr(cell, ours)) != usual}


def check_dtype(owner: str, cell: Any, params: Any) -> None:
    """A Flax cell that computes in another dtype than its parameters' gives other numbers than ours would."""
    dtype = getattr(cell, "dtype", None)
    have = {np.dtype(a.dtype) for a in jax.tree.leaves(params)}
    if dtype is not None and have != {np.dtype(dtype)}:
        raise ValueError(
            f"{owner}: {type(cell).__name__} has dtype={np.dtype(dtype)} with parameters of {', '.join(map(str, have))}; here "
            "parameters and inputs decide: cast the parameters, or set dtype=None and pass matmul_dtype= at the call"
        )


def check_start(owner: str, cell: Any) -> None:
    """Only a start at zeros is a property of the cells here."""
    start = getattr(cell, "carry_init", None)
    if start is not None and start is not jax.nn.initializers.zeros:
        raise ValueError(
            f"{owner}: {type(cell).__name__} has carry_init={start!r}; here cells start at zeros: convert without it and "
            "pass carry= at the call, or wrap the result in LearnedCarry"
        )


def check_conv(owner: str, cell: Any) -> None:
    """Unit strides and padding "SAME"."""
    for field, usual in (
        ("strides", lambda s: s is None or set(np.ravel(s)) == {1}),
        ("padding", lambda p: p == "SAME"),
    ):
        value = getattr(cell, field, None)
        if not usual(value):
            raise ValueError(f"{owner}: ConvLSTM has strides 1 and padding 'SAME', got {field}={value!r}")


def merge_name(owner: str, function: Any, default: Any) -> str:
    """Our name of Flax's ``merge_fn``."""
    if function is default:
        return "concat"
    for name, known in MERGES.items():
        if function is known:
            return name
    raise ValueError(
        f"{owner}: merge_fn must be Flax's default (concatenate), jnp.add or jnp.multiply, got {function!r}"
    )


# -- Dense tables -> our cells: `get` gives {"kernel", "bias"} of one of the Dense layers inside a cell -----------------


def read_lstm(features: int, get: Callable[[str], Mapping[str, Any]], **options: Any) -> tuple[Any, Any]:
    """LSTMCell and OptimizedLSTMCell with a Dense for each gate."""
    w, u, b = _columns(get, [f"i{g}" for g in "ifgo"], [f"h{g}" for g in "ifgo"], bias="h")
    return LSTM(features, use_bias=b is not None, **options), gates.read_lstm(w, u, [] if b is None else [b], "ifgo")


def read_gru(features: int, get: Callable[[str], Mapping[str, Any]], **options: Any) -> tuple[Any, Any]:
    """GRUCell with a Dense for each gate."""
    w, u, b = _columns(get, ["ir", "iz", "in"], ["hr", "hz", "hn"], bias="i")
    return GRU(features, **options), {"input": w, "recurrent": u, "bias": b, "recurrent_bias": host(get("hn")["bias"])}


def read_simple(cell: Any, features: int, name: str, i: Mapping[str, Any], h: Mapping[str, Any]) -> tuple[Any, Any]:
    """SimpleCell; ``residual`` adds h inside the activation, which is the identity added to U."""
    u = host(h["kernel"])
    if cell.residual:
        u = u + namespace(u).eye(features, dtype=u.dtype)
    return Elman(features, activation=name), gates.read_elman(host(i["kernel"]), u, [host(i["bias"])])


def read_mgu(owner: str, cell: Any, get: Callable[[str], Mapping[str, Any]]) -> tuple[Any, Any]:
    """Flax's MGUCell is not the paper's: f keeps the state *and* resets, after the product: a GRU with r = z."""
    f_in, n_in, f_rec, n_rec = (get(name) for name in ("if", "in", "hf", "hn"))
    options = gated(owner, cell)
    if not cell.reset_gate:  # no reset at all: the update gate network
        if options["gate_activation"] != "sigmoid":
            raise ValueError(f"{owner}: MGUCell without reset_gate must have gate_fn=sigmoid, got {cell.gate_fn!r}")
        w, u = (gates.join([host(n["kernel"]), host(f["kernel"])]) for n, f in ((n_in, f_in), (n_rec, f_rec)))
        params = {"input": w, "recurrent": u, "bias": gates.join([n_in["bias"], f_in["bias"]])}
        return UGRNN(cell.features, activation=options["activation"]), params
    twice = lambda f, n, part: gates.join([host(f[part]), host(f[part]), host(n[part])])
    params = {"input": twice(f_in, n_in, "kernel"), "recurrent": twice(f_rec, n_rec, "kernel")}
    return GRU(cell.features, **options), params | {
        "bias": twice(f_in, n_in, "bias"),
        "recurrent_bias": host(n_rec["bias"]),
    }


def read_conv(features: int, kernel: tuple[int, ...], w: Any, u: Any, biases: list[Any]) -> tuple[Any, Any]:
    """ConvLSTM of flax and haiku: gates in the order i g f o, and 1 added to the forget gate at every step."""
    w, u = host(w), host(u)
    one = np.repeat(np.asarray([0, 0, 1, 0], w.dtype), features)
    bias = gates.total(one, *map(host, biases))
    params = {"input": w, "recurrent": u, "bias": bias}
    params = {name: gates.reorder(a, CONV_ORDER, gates.LSTM) for name, a in params.items()}
    return ConvLSTM(features, kernel=kernel, dims=len(kernel), peephole=False), params


def _columns(get: Callable[[str], Any], inputs: list[str], recurrents: list[str], bias: str) -> tuple[Any, Any, Any]:
    """Kernels and biases of several Dense layers side by side."""
    w = gates.join([host(get(name)["kernel"]) for name in inputs])
    u = gates.join([host(get(name)["kernel"]) for name in recurrents])
    biased = [get(name) for name in (inputs if bias == "i" else recurrents)]
    return w, u, gates.join([host(d["bias"]) for d in biased]) if all("bias" in d for d in biased) else None


# -- our cells -> Dense tables -----------------------------------------------------------------------------------------


def write(owner: str, cell: Any, params: Any) -> tuple[str, dict[str, Any], dict[str, dict[str, Any]]]:
    """Flax's class, its options and ``{dense: {"kernel", "bias"}}``. Raises: TypeError for a cell that Flax lacks."""
    if type(cell) is LSTM and plain(cell, "activation", "gate_activation"):
        return "LSTMCell", _functions(cell), _write_lstm(params)
    if type(cell) is GRU and plain(cell, "activation", "gate_activation"):
        return "GRUCell", _functions(cell), _write_gru(params)
    if type(cell) is IRNN or (type(cell) is Elman and plain(cell, "activation")):
        name = getattr(cell, "activation", "relu")
        w, u, b = gates.write_elman(params)
        dense = {"i": {"kernel": w, "bias": _or_zeros(b, u)}, "h": {"kernel": u}}
        return "SimpleCell", {"activation_fn": ACTIVATIONS[name]}, dense
    if type(cell) is UGRNN and cell.activation == "tanh":
        return "MGUCell", {"reset_gate": False}, _write_ugrnn(params)
    if type(cell) is ConvLSTM and not cell.peephole and plain(cell, *CONV):
        return "ConvLSTMCell", {"kernel_size": tuple(params["input"].shape[:-2])}, write_conv(params)
    raise TypeError(
        f"{owner}: Flax has no {name_of(cell)}; it has Elman, LSTM without variants, GRU(reset_after=True), "
        "UGRNN (as MGUCell(reset_gate=False)) and ConvLSTM(peephole=False)"
    )


def _write_lstm(params: Any) -> dict[str, dict[str, Any]]:
    w, u, b = gates.write_lstm(params, "ifgo")
    w, u, b = (gates.blocks(a, "ifgo") for a in (w, u, _or_zeros(b, u)))
    dense = {f"i{g}": {"kernel": w[g]} for g in "ifgo"}
    return dense | {f"h{g}": {"kernel": u[g], "bias": b[g]} for g in "ifgo"}


def _write_gru(params: Any) -> dict[str, dict[str, Any]]:
    w, u, b, c = gates.write_gru(params, "rzn")
    zero = _or_zeros(None, u)
    w, u, b, c = (gates.blocks(a, "rzn") for a in (w, u, zero if b is None else b, zero if c is None else c))
    dense = {f"i{g}": {"kernel": w[g], "bias": b[g]} for g in "rzn"} | {f"h{g}": {"kernel": u[g]} for g in "rz"}
    return dense | {"hn": {"kernel": u["n"], "bias": c["n"]}}


def _write_ugrnn(params: Any) -> dict[str, dict[str, Any]]:
    (w_n, w_f), (u_n, u_f), (b_n, b_f) = (
        gates.blocks(host(params[name]), "nf").values() for name in ("input", "recurrent", "bias")
    )
    dense = {"in": {"kernel": w_n, "bias": b_n}, "if": {"kernel": w_f, "bias": b_f}}
    return dense | {"hn": {"kernel": u_n}, "hf": {"kernel": u_f}}


def write_conv(params: Any) -> dict[str, dict[str, Any]]:
    """The two convolutions of flax's and haiku's ConvLSTM, whose step adds 1 to the forget gate."""
    w, u, b = (gates.reorder(host(params[k]), gates.LSTM, CONV_ORDER) for k in ("input", "recurrent", "bias"))
    one = np.repeat(np.asarray([0, 0, -1, 0], b.dtype), b.shape[0] // 4)
    return {"ih": {"kernel": w, "bias": gates.total(b, one)}, "hh": {"kernel": u, "bias": 0 * b}}


def _or_zeros(bias: Any, recurrent: Any) -> Any:
    return namespace(recurrent).zeros(recurrent.shape[-1:], recurrent.dtype) if bias is None else bias
