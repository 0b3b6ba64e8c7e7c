"""One ONNX operator RNN, LSTM or GRU, in and out: weights ``[directions, gates * H, I]`` and attributes."""

from __future__ import annotations

from typing import Any, NamedTuple

from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import expect_shape, host, namespace
from rnnjax.interop.levels import Unit, plain

ORDERS = {"RNN": "h", "LSTM": "iofg", "GRU": "zrn"}
PEEPHOLE = "iof"
DEFAULTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
ACTIVATIONS: dict[str, tuple[Any, ...]] = {  # ONNX's name, alpha and beta
    "tanh": ("Tanh",), "relu": ("Relu",), "sigmoid": ("Sigmoid",), "softsign": ("Softsign",), "softplus": ("Softplus",),
    "elu": ("Elu", 1.0), "leaky_relu": ("LeakyRelu", 0.01), "identity": ("Affine", 1.0, 0.0),
    "hard_sigmoid_0.2": ("HardSigmoid", 0.2, 0.5), "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
}  # fmt: skip
TAKES = {  # what an activation takes of alpha and beta, and what it has without
    "affine": (1.0, 0.0), "leakyrelu": (0.01,), "thresholdedrelu": (1.0,), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0,),
}  # fmt: skip
ODD = (
    "sigmoid",
    "hard_sigmoid",
    "hard_sigmoid_0.2",
)  # act(-z) = 1 - act(z): either of two coupled gates gives the other


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
    _check_attributes(where, op)
    d, h = op.directions, int(op.attributes.get("hidden_size", op.r.shape[-1]))
    g = len(ORDERS[op.kind])
    expect_shape(where, "W", op.w, (d, g * h, op.w.shape[-1]))
    expect_shape(where, "R", op.r, (d, g * h, h))
    for name, array, width in (("B", op.b, 2 * g * h), ("P", op.p, 3 * h)):
        if array is not None:
            expect_shape(where, name, array, (d, width))
    names = _activations(where, op)
    return [_read_direction(where, op, k, h, names[k]) for k in range(d)]


def _check_attributes(where: str, op: Operator) -> None:
    """Weights are matrices of floats for each direction, attributes of the type that they should be."""
    for name, array in (("W", op.w), ("R", op.r)):
        if array.ndim != 3:
            raise ValueError(f"{where}: {name} must be [directions, gates * H, I or H], got shape {tuple(array.shape)}")
    kinds = {str(array.dtype) for array in (op.w, op.r, op.b, op.p) if array is not None}
    if len(kinds) > 1 or not kinds <= {"float16", "float32", "float64", "bfloat16"}:
        raise ValueError(f"{where}: the weights must be of one floating type, got {', '.join(sorted(kinds))}")
    for name in ("hidden_size", "input_forget", "layout", "linear_before_reset"):
        if not isinstance(op.attributes.get(name, 0), int):
            raise ValueError(f"{where}: {name} must be an int, got {op.attributes[name]!r}")
    for name in ("activations", "activation_alpha", "activation_beta"):
        wanted = (str, bytes) if name == "activations" else (int, float)
        value = op.attributes.get(name, ())
        if isinstance(value, (str, int, float)) or not all(isinstance(one, wanted) for one in value):
            raise ValueError(f"{where}: {name} must be a list, got {value!r}")
    if op.attributes.get("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        raise ValueError(
            f"{where}: direction must be forward, reverse or bidirectional, got {op.attributes['direction']!r}"
        )


def _activations(where: str, op: Operator) -> list[dict[str, Any]]:
    """The activations of each direction as options of our cells. alpha and beta are taken in order by those that have them."""
    size = len(DEFAULTS[op.kind])
    given = [str(_text(a)) for a in op.attributes.get("activations", DEFAULTS[op.kind] * op.directions)]
    if len(given) != size * op.directions:
        raise ValueError(f"{where}: {size * op.directions} activations expected, got {given}")
    alphas, betas = (list(op.attributes.get(f"activation_{x}", ())) for x in ("alpha", "beta"))
    names = [_activation(where, name, alphas, betas) for name in given]
    each = [names[k : k + size] for k in range(0, len(names), size)]
    for *_, inner, outer in (direction for direction in each if len(direction) == 3):
        if inner != outer:
            raise ValueError(f"{where}: activations {given} give c and h different ones, where an LSTM here has one")
    if size == 1:
        return [{"activation": name} for (name,) in each]
    return [{"gate_activation": gate, "activation": act} for gate, act, *_ in each]


def _activation(where: str, theirs: str, alphas: list[float], betas: list[float]) -> str:
    """Our name of one activation; takes its alpha and beta off the lists."""
    kind = theirs.lower()
    if kind == "affine" and not alphas:
        raise ValueError(f"{where}: activation Affine without alpha is not here")
    values = [(left.pop(0) if left else usual) for left, usual in zip((alphas, betas), TAKES.get(kind, ()))]
    for name, (known, *numbers) in ACTIVATIONS.items():
        if (
            known.lower() == kind
            and len(numbers) == len(values)
            and all(abs(a - b) < 1e-6 for a, b in zip(numbers, values))
        ):
            return name
    shown = [f"{known}{[round(n, 4) for n in numbers] if numbers else ''}" for known, *numbers in ACTIVATIONS.values()]
    alpha_beta = f" with alpha, beta {[round(value, 4) for value in values]}" if values else ""
    raise ValueError(f"{where}: activation {theirs}{alpha_beta} is not here, only {', '.join(shown)}")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _read_direction(where: str, op: Operator, k: int, h: int, acts: dict[str, Any]) -> Unit:
    w, u = op.w[k].T, op.r[k].T
    biases = [] if op.b is None else list(namespace(op.b).split(op.b[k], 2))
    if op.kind == "RNN":
        return Unit(Elman(h, **acts, use_bias=bool(biases)), gates.read_elman(w, u, biases))
    if op.kind == "GRU":
        after = bool(op.attributes.get("linear_before_reset", 0))
        cell = GRU(h, reset_after=after, use_bias=bool(biases), **acts)
        return Unit(cell, gates.read_gru(w, u, biases, ORDERS["GRU"], after))
    params = gates.read_lstm(w, u, biases, ORDERS["LSTM"])
    if op.p is not None:
        params["peephole"] = gates.reorder(op.p[k], PEEPHOLE, gates.PEEPHOLE).reshape(3, h)
    coupled = bool(op.attributes.get("input_forget", 0))
    if coupled and acts["gate_activation"] not in ODD:
        raise ValueError(
            f"{where}: input_forget with {acts['gate_activation']} gates is not here, only with {', '.join(ODD)}"
        )
    cell = LSTM(h, peephole=op.p is not None, coupled=coupled, use_bias=bool(biases), **acts)
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
    attributes |= _write_activations(kind, [unit.cell for unit in units])
    attributes["direction"] = "bidirectional" if len(ops) == 2 else "reverse" if reverse else "forward"
    stacked = [_stack([getattr(op, part) for op in ops]) for part in ("w", "r", "b", "p")]
    return Operator("", kind, attributes, *stacked)


def _write_activations(kind: str, cells: list[Any]) -> dict[str, Any]:
    """The attributes that name the activations, left out where they are the operator's default."""
    names = []
    for cell in cells:
        act, gate = getattr(cell, "activation", "relu"), getattr(cell, "gate_activation", None)
        names += {"RNN": [act], "GRU": [gate, act], "LSTM": [gate, act, act]}[kind]
    written = [ACTIVATIONS[name] for name in names]
    theirs, alphas, betas = ([one[k] for one in written if len(one) > k] for k in range(3))
    if kind != "RNN" and tuple(theirs) == DEFAULTS[kind] * len(cells):
        return {}
    return (
        {"activations": theirs}
        | ({"activation_alpha": alphas} if alphas else {})
        | ({"activation_beta": betas} if betas else {})
    )


def _stack(arrays: list[Any]) -> Any:
    """One array a direction; a bias or peephole that only one direction has is zeros in the other."""
    known = next((a for a in arrays if a is not None), None)
    if known is None:
        return None
    return namespace(known).stack([0 * known if a is None else a for a in arrays])


def _write_direction(owner: str, unit: Unit) -> Operator:
    cell, params = unit.cell, unit.params
    attributes: dict[str, Any] = {"hidden_size": getattr(cell, "features", 0)}
    acts = ("activation", "gate_activation")
    shared = all(getattr(cell, name, "tanh") in ACTIVATIONS for name in acts)
    if type(cell) is IRNN or (type(cell) is Elman and shared and plain(cell, *acts)):
        w, u, b = gates.write_elman(params)
        return Operator("", "RNN", attributes, w.T, u.T, None if b is None else gates.join([b, 0 * b]))
    if type(cell) is GRU and shared and plain(cell, *acts, "reset_after"):
        w, u, b, c = gates.write_gru(params, ORDERS["GRU"])
        attributes["linear_before_reset"] = int(cell.reset_after)
        return Operator("", "GRU", attributes, w.T, u.T, None if b is None else gates.join([b, c]))
    if (
        type(cell) is LSTM
        and shared
        and (not cell.coupled or cell.gate_activation in ODD)
        and plain(cell, *acts, "peephole", "coupled")
    ):
        params = _uncouple(params) if cell.coupled else params
        w, u, b = gates.write_lstm(params, ORDERS["LSTM"])
        p = host(params["peephole"]).reshape(-1) if cell.peephole else None
        p = None if p is None else gates.reorder(p, gates.PEEPHOLE, PEEPHOLE)
        return Operator("", "LSTM", attributes, w.T, u.T, None if b is None else gates.join([b, 0 * b]), p)
    raise TypeError(
        f"{owner}: ONNX has no {name_of(cell)}; it has Elman, IRNN, GRU, and LSTM with peepholes or coupled gates (no projection, no "
        f"layer_norm), with activations of {', '.join(ACTIVATIONS)}"
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
