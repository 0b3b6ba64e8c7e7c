"""One ONNX operator RNN, LSTM or GRU, in and out: weights ``[directions, gates * H, I]`` and attributes."""

from __future__ import annotations

from typing import Any, NamedTuple

from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import expect_shape, host, namespace
from rnnjax.interop.levels import Unit

ORDERS = {"RNN": "h", "LSTM": "iofg", "GRU": "zrn"}
PEEPHOLE = "iof"
DEFAULTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
ACTIVATIONS = {
    "tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "softsign": "Softsign", "softplus": "Softplus", "elu": "Elu",
    "leaky_relu": "LeakyRelu", "identity": "Affine",
}  # fmt: skip
ALPHA = {"Elu": 1.0, "LeakyRelu": 0.01, "Affine": 1.0}  # what ours have


class Operator(NamedTuple):
    """One node: its kind, attributes, and the arrays of its constant inputs (None where left out)."""

    name: str
    kind: str
    attributes: dict[str, Any]
    w: Any
    r: Any
    b: Any = None
    p: Any = None

    @property
    def directions(self) -> int:
        return 2 if self.attributes.get("direction", "forward") == "bidirectional" else 1


# -- in ----------------------------------------------------------------------------------------------------------------


def read_units(owner: str, op: Operator) -> list[Unit]:
    """One unit for each direction. Raises: ValueError naming the node and the attribute or tensor that does not fit."""
    where = f"{owner}: {op.kind} node {op.name!r}"
    known = {"activations", "activation_alpha", "activation_beta", "direction", "hidden_size", "input_forget", "layout"}
    for name, value in op.attributes.items():
        if name not in known | {"linear_before_reset"}:
            raise ValueError(f"{where}: the attribute {name}={value} has no counterpart here")
    d, h = op.directions, int(op.attributes.get("hidden_size", op.r.shape[-1]))
    g = len(ORDERS[op.kind])
    expect_shape(where, "W", op.w, (d, g * h, op.w.shape[-1]))
    expect_shape(where, "R", op.r, (d, g * h, h))
    for name, array, width in (("B", op.b, 2 * g * h), ("P", op.p, 3 * h)):
        if array is not None:
            expect_shape(where, name, array, (d, width))
    names = _activations(where, op)
    return [_read_direction(op, k, h, names[k]) for k in range(d)]


def _activations(where: str, op: Operator) -> list[str]:
    """Our name of each direction's activation (of the gated operators: "tanh", checked)."""
    size = len(DEFAULTS[op.kind])
    given = [str(_text(a)) for a in op.attributes.get("activations", DEFAULTS[op.kind] * op.directions)]
    if len(given) != size * op.directions:
        raise ValueError(f"{where}: {size * op.directions} activations expected, got {given}")
    alphas, betas = (list(op.attributes.get(f"activation_{x}", ())) for x in ("alpha", "beta"))
    if op.kind != "RNN":
        if tuple(a.lower() for a in given) != tuple(a.lower() for a in DEFAULTS[op.kind] * op.directions):
            raise ValueError(f"{where}: activations {given} are not here, only {list(DEFAULTS[op.kind])}")
        return ["tanh"] * op.directions
    ours = {theirs.lower(): name for name, theirs in ACTIVATIONS.items()}
    for a in given:
        wanted = {k.lower(): v for k, v in ALPHA.items()}.get(a.lower())
        differs = wanted is not None and any(abs(alpha - wanted) > 1e-7 for alpha in alphas)
        if a.lower() not in ours or differs or any(betas) or (a.lower() == "affine" and not alphas):
            raise ValueError(
                f"{where}: activation {a} with alpha {alphas} and beta {betas} is not here, only {sorted(ACTIVATIONS.values())} "
                f"with alpha {ALPHA}"
            )
    return [ours[a.lower()] for a in given]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _read_direction(op: Operator, k: int, h: int, activation: str) -> Unit:
    w, u = op.w[k].T, op.r[k].T
    biases = [] if op.b is None else list(namespace(op.b).split(op.b[k], 2))
    if op.kind == "RNN":
        return Unit(Elman(h, activation=activation, use_bias=bool(biases)), gates.read_elman(w, u, biases))
    if op.kind == "GRU":
        after = bool(op.attributes.get("linear_before_reset", 0))
        cell = GRU(h, reset_after=after, use_bias=bool(biases))
        return Unit(cell, gates.read_gru(w, u, biases, ORDERS["GRU"], after))
    params = gates.read_lstm(w, u, biases, ORDERS["LSTM"])
    if op.p is not None:
        params["peephole"] = gates.reorder(op.p[k], PEEPHOLE, gates.PEEPHOLE).reshape(3, h)
    coupled = bool(op.attributes.get("input_forget", 0))
    cell = LSTM(h, peephole=op.p is not None, coupled=coupled, use_bias=bool(biases))
    return Unit(cell, _couple(params) if coupled else params)


def _couple(params: dict[str, Any]) -> dict[str, Any]:
    """ONNX computes i and lets f = 1 - i; ours computes f: sigmoid(-z) = 1 - sigmoid(z)."""
    out = {}
    for name, array in params.items():
        if name == "peephole":
            out[name] = namespace(array).stack([-array[0], array[2]])
        else:
            part = gates.blocks(array, gates.LSTM)
            out[name] = gates.join([-part["i"], part["g"], part["o"]])
    return out


# -- out ---------------------------------------------------------------------------------------------------------------


def write_units(owner: str, units: tuple[Unit, ...], reverse: bool) -> Operator:
    """The operator for the directions of one level. Raises: TypeError naming a cell that ONNX lacks."""
    ops = [_write_direction(owner, unit) for unit in units]
    kind, attributes = ops[0].kind, ops[0].attributes
    same = ("hidden_size", "linear_before_reset")
    for op, unit in zip(ops[1:], units[1:]):
        if op.kind != kind or any(op.attributes.get(n) != attributes.get(n) for n in same):
            raise TypeError(f"{owner}: both directions must be cells of one kind and size, got {unit.cell!r} too")
    if kind == "RNN":
        theirs = [ACTIVATIONS[getattr(unit.cell, "activation", "relu")] for unit in units]
        attributes |= {"activations": theirs}
        if any(t in ALPHA for t in theirs):
            attributes["activation_alpha"] = [ALPHA.get(t, 0.0) for t in theirs]
    attributes["direction"] = "bidirectional" if len(ops) == 2 else "reverse" if reverse else "forward"
    stacked = [_stack([getattr(op, part) for op in ops]) for part in ("w", "r", "b", "p")]
    return Operator("", kind, attributes, *stacked)


def _stack(arrays: list[Any]) -> Any:
    """One array a direction; a bias or peephole that only one direction has is zeros in the other."""
    known = next((a for a in arrays if a is not None), None)
    if known is None:
        return None
    return namespace(known).stack([0 * known if a is None else a for a in arrays])


def _write_direction(owner: str, unit: Unit) -> Operator:
    cell, params = unit.cell, unit.params
    attributes: dict[str, Any] = {"hidden_size": getattr(cell, "features", 0)}
    if type(cell) is IRNN or (type(cell) is Elman and cell.activation in ACTIVATIONS):
        w, u, b = gates.write_elman(params)
        return Operator("", "RNN", attributes, w.T, u.T, None if b is None else gates.join([b, 0 * b]))
    if type(cell) is GRU and not cell.layer_norm:
        w, u, b, c = gates.write_gru(params, ORDERS["GRU"])
        attributes["linear_before_reset"] = int(cell.reset_after)
        return Operator("", "GRU", attributes, w.T, u.T, None if b is None else gates.join([b, c]))
    if type(cell) is LSTM and not (cell.projection or cell.layer_norm):
        params = _uncouple(params) if cell.coupled else params
        w, u, b = gates.write_lstm(params, ORDERS["LSTM"])
        p = host(params["peephole"]).reshape(-1) if cell.peephole else None
        p = None if p is None else gates.reorder(p, gates.PEEPHOLE, PEEPHOLE)
        return Operator("", "LSTM", attributes, w.T, u.T, None if b is None else gates.join([b, 0 * b]), p)
    raise TypeError(
        f"{owner}: ONNX has no {name_of(cell)}; it has Elman ({', '.join(ACTIVATIONS)}), IRNN, GRU, and LSTM with peepholes or "
        "coupled gates (no projection, no layer_norm)"
    )


def _uncouple(params: Any) -> dict[str, Any]:
    """The input gate written out: i = 1 - sigmoid(z_f) = sigmoid(-z_f)."""
    out = {}
    for name, array in params.items():
        array = host(array)
        if name == "peephole":
            out[name] = namespace(array).stack([-array[0], array[0], array[1]])
        else:
            part = gates.blocks(array, gates.LSTM[1:])
            out[name] = gates.join([-part["f"], part["f"], part["g"], part["o"]])
    return out
