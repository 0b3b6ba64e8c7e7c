"""ONNX in: the recurrent operators of a model, wherever in its graph they stand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnjax.interop.arrays import to_jax
from rnnjax.interop.levels import Level, Unit, build, with_dropout, with_start
from rnnjax.interop.onnx_file import FROM, load, said
from rnnjax.interop.onnx_ops import ORDERS, Operator, read_units
from rnnjax.interop.onnx_values import Budget, Values, label, run, runs

if TYPE_CHECKING:
    import onnx

MERGES = {  # what may stand between two layers, as a function of Y [T, D, B, H]
    "concat": lambda y: np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1),
    "sum": lambda y: y.sum(1),
    "mean": lambda y: y.mean(1),
    "mul": lambda y: y.prod(1),
}


def from_onnx(model: onnx.ModelProto | bytes | str | os.PathLike[str], node: str | None = None) -> tuple[Any, Any]:
    """The recurrent part of an ONNX model as ``(layer, params)``, computing the same numbers.

    model: a ModelProto, its bytes or a path. node: the name of one RNN, LSTM or GRU node (or of its output); None takes
    the only one, or all of them if each reads what the one before gave (a stack: `Sequential`).
    Operators are found anywhere in the graph, subgraphs included; weights may be initializers or computed from constants.
    ``direction`` becomes ``RNN``, ``RNN(reverse=True)`` or `Bidirectional` (ys joined on the last axis, where ONNX has an axis of
    directions); ``linear_before_reset`` becomes ``reset_after``; ``input_forget`` ``coupled``; peepholes ``peephole``; a constant
    initial state `LearnedCarry`. ``layout=1`` is ``time_axis=1`` at the call, ``sequence_lens`` is ``lengths=``. A
    ``sequence_lens`` or initial state that the graph computes is not part of a layer: a UserWarning says which to pass.
    A file need not be trusted: nothing in it is run but listed operators on its own constants, of no larger size than such a model
    needs; tensors in other files are read from the model's folder alone.
    Errors: ValueError for a file that is not ONNX, is cut short or says more than it holds, for no or several unconnected operators,
    for attributes (``clip``) and activations without counterpart, and for weights that are not constant, each by name.
    """
    loaded = load(model)
    with said("the model cannot be read"):
        chosen = _choose(_Graphs(loaded), node)
        operators = [_operator(graph, proto) for graph, proto in chosen]
        levels = [_level(chosen, operators, k) for k in range(len(chosen))]
        layer, params = build(levels)
        return layer, to_jax(FROM, params)


def _level(chosen: list[tuple[Values, Any]], operators: list[Operator], k: int) -> Level:
    """The k-th operator, with what stands between it and the next."""
    (graph, proto), operator = chosen[k], operators[k]
    units = tuple(_with_start(graph, proto, operator, read_units(FROM, operator)))
    merge = "concat"
    if k + 1 < len(chosen):
        merge, rate = _between(graph, proto, chosen[k + 1][1], operator, operators[k + 1])
        units = tuple(with_dropout(unit, rate) for unit in units)
    return Level(units, reverse=operator.attributes.get("direction") == "reverse", merge=merge)


# -- finding the operators ---------------------------------------------------------------------------------------------


class _Graphs:
    """All recurrent nodes of a model, each with the graph it stands in."""

    def __init__(self, model: Any) -> None:
        budget = Budget(sum(len(t.raw_data) // 4 + len(t.float_data) for t in model.graph.initializer))
        walk = self._walk(model.graph, model, None, budget)
        self.found = [(graph, n) for graph in walk for n in self._recurrent(graph)]
        self.kinds = sorted({n.op_type for n in model.graph.node})

    def _walk(self, proto: Any, model: Any, outer: Values | None, budget: Budget) -> Iterator[Values]:
        graph = Values(proto, model, outer, budget)
        yield graph
        for n in proto.node:
            for a in n.attribute:
                for inner in [*([a.g] if a.HasField("g") else []), *a.graphs]:
                    yield from self._walk(inner, model, graph, budget)

    @staticmethod
    def _recurrent(graph: Values) -> list[Any]:
        return [n for n in graph.proto.node if n.op_type in ORDERS and n.domain in ("", "ai.onnx")]


def _choose(graphs: _Graphs, name: str | None) -> list[tuple[Values, Any]]:
    found = graphs.found
    names = [label(n) for _, n in found]
    if not found:
        raise ValueError(f"{FROM}: the model has no RNN, LSTM or GRU node, only {', '.join(graphs.kinds)}")
    if name is not None:
        chosen = [pair for pair in found if name == pair[1].name or name in pair[1].output]
        if len(chosen) != 1:
            raise ValueError(f"{FROM}: node must be one of {names}, got {name!r}")
        return chosen
    if any(not pair[1].output for pair in found):
        raise ValueError(f"{FROM}: the {found[0][1].op_type} nodes of the model give nothing")
    if len({id(graph) for graph, _ in found}) > 1:
        raise ValueError(f"{FROM}: the model has recurrent nodes in several subgraphs; choose one, node= of {names}")
    return found


def _operator(graph: Values, proto: Any) -> Operator:
    from onnx import helper

    def weight(at: int, name: str, needed: bool) -> np.ndarray | None:
        given = proto.input[at] if at < len(proto.input) else ""
        value = graph.constant(given) if given else None
        if value is None and (given or needed):
            raise ValueError(
                f"{FROM}: {proto.op_type} node {label(proto)!r}: {name} ({given or 'left out'}) is not a constant of the graph"
            )
        return value

    with said(f"the attributes of {proto.op_type} node {label(proto)!r} cannot be read"):
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    w, r, b = weight(1, "W", True), weight(2, "R", True), weight(3, "B", False)
    p = weight(7, "P", False) if proto.op_type == "LSTM" else None
    _warn_about(graph, proto, 4, "sequence_lens", "lengths=")
    return Operator(label(proto), proto.op_type, attributes, w, r, b, p)


def _warn_about(graph: Values, proto: Any, at: int, name: str, how: str) -> None:
    given = proto.input[at] if at < len(proto.input) else ""
    if given:
        text = f"{FROM}: {proto.op_type} node {label(proto)!r} takes its {name} from {given!r}: pass {how} at the call"
        warnings.warn(text, stacklevel=4)


# -- initial states ----------------------------------------------------------------------------------------------------


def _with_start(graph: Values, proto: Any, op: Operator, units: list[Unit]) -> list[Unit]:
    """Each unit with its constant initial state, if that is not zero."""
    names = ("initial_h", "initial_c") if proto.op_type == "LSTM" else ("initial_h",)
    values: dict[str, np.ndarray] = {}
    for at, name in enumerate(names, start=5):
        given = proto.input[at] if at < len(proto.input) else ""
        if not given:
            continue
        value = graph.constant(given, of_shapes=True)
        if value is None:
            _warn_about(graph, proto, at, name, "carry=")
            continue
        if value.ndim != 3 or not np.issubdtype(value.dtype, np.number):
            raise ValueError(
                f"{FROM}: {proto.op_type} node {label(proto)!r}: {name} must be [directions, B, H], got {value.shape}"
            )
        if np.any(value):
            values[name] = np.swapaxes(value, 0, 1) if op.attributes.get("layout") else value
    if not values:
        return units
    return [with_start(unit, _start(proto, op, values, k)) for k, unit in enumerate(units)]


def _start(proto: Any, op: Operator, values: dict[str, np.ndarray], k: int) -> Any:
    rows = {}
    for name, value in values.items():
        if value.shape[0] != op.directions or value.shape[2] != op.r.shape[-1]:
            raise ValueError(
                f"{FROM}: {proto.op_type} node {label(proto)!r}: {name} must be [{op.directions}, B, {op.r.shape[-1]}], got {value.shape}"
            )
        if np.any(value[k] != value[k, :1]):
            raise ValueError(
                f"{FROM}: {proto.op_type} node {label(proto)!r}: {name} of shape {value.shape} differs over the batch; a layer "
                "here learns one start for all: pass it as carry= and remove it from the graph"
            )
        rows[name] = value[k, 0]
    if proto.op_type != "LSTM":
        return rows["initial_h"]
    zeros = np.zeros(op.r.shape[-1], op.r.dtype)
    return {"h": rows.get("initial_h", zeros), "c": rows.get("initial_c", zeros)}


# -- what stands between two layers ------------------------------------------------------------------------------------


def _between(graph: Values, lower: Any, upper: Any, op: Operator, above: Operator) -> tuple[str, float]:
    """How the directions of ``lower`` are merged on the way to ``upper``, and the dropout there.

    Found by running what lies between on random numbers, so that it does not matter how an exporter writes it.
    """
    where = f"{FROM}: between nodes {label(lower)!r} and {label(upper)!r}"
    nodes = _path(graph, lower.output[0], upper.input[0], where)
    shape = (3, op.directions, 2, op.r.shape[-1])
    y = np.random.default_rng(0).normal(size=shape).astype(op.r.dtype)
    layout = bool(op.attributes.get("layout"))
    fed = y.transpose(2, 0, 1, 3) if layout else y
    values: dict[str, Any] = {lower.output[0]: fed}
    for node in nodes:
        known: dict[str, Any] = {n: values[n] if n in values else graph.constant(n) for n in node.input if n}
        values |= run(node, known, graph.model, graph.budget)
    out = values[upper.input[0]]
    if not out.ndim or out.shape[-1] != above.w.shape[-1]:
        raise ValueError(
            f"{where} come values of shape {out.shape}, where the upper reads {above.w.shape[-1]} features"
        )
    for name, merge in MERGES.items():
        expected = merge(y).swapaxes(0, 1) if layout else merge(y)
        if out.shape == expected.shape and np.allclose(out, expected, rtol=1e-5, atol=1e-6):
            return name, _dropout(graph, nodes)
    raise ValueError(f"{where} stand {[n.op_type for n in nodes]}, which is no plain stack; choose one with node=")


def _is_constant(graph: Values, name: str) -> bool:
    return bool(name) and graph.constant(name) is not None


def _path(graph: Values, start: str, end: str, where: str) -> list[Any]:
    """The nodes that lead from one name to another, in order. Raises: ValueError if anything else feeds them."""
    needed: dict[str, Any] = {}
    seen: set[str] = set()

    def need(name: str) -> None:
        if not name or name == start or name in seen or _is_constant(graph, name):
            return
        seen.add(name)
        producer = graph.producers.get(name)
        if producer is None or producer.op_type in ORDERS:
            raise ValueError(f"{where} comes {name!r} from elsewhere: no plain stack; choose one with node=")
        if not runs(producer):
            raise ValueError(f"{where} stands {producer.op_type}, which is no plain stack; choose one with node=")
        for n in producer.input:
            need(n)
        needed[label(producer) + name] = producer

    need(end)
    return list(needed.values())


def _dropout(graph: Values, nodes: list[Any]) -> float:
    """The rate of the Dropout nodes on the way (inactive in an inference graph, but part of the network)."""
    rates = []
    for n in nodes:
        if n.op_type == "Dropout":
            given = graph.constant(n.input[1]) if len(n.input) > 1 and n.input[1] else None
            old = [a.f for a in n.attribute if a.name == "ratio"]
            rate = np.asarray(given if given is not None else old[0] if old else 0.5, np.float32)
            if rate.size != 1:
                raise ValueError(f"{FROM}: Dropout node {label(n)!r} must have one ratio, got shape {rate.shape}")
            rates.append(float(str(rate.reshape(-1)[0])))  # 0.1, not the float32 nearest to it in float64
    if len(rates) > 1:
        raise ValueError(f"{FROM}: several Dropout nodes between two layers")
    return rates[0] if rates else 0.0
