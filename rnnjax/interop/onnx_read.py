"""ONNX in: the recurrent operators of a model, wherever in its graph they stand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnjax.interop.arrays import to_jax
from rnnjax.interop.levels import Level, Unit, build, with_dropout, with_start
from rnnjax.interop.onnx_ops import ORDERS, Operator, read_units

if TYPE_CHECKING:
    import onnx

FROM = "from_onnx"
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
    Errors: ValueError for a file that is not ONNX or is cut short, for no or several unconnected operators, for attributes
    (``clip``) and activations without counterpart, and for weights that are not constant, each by name.
    """
    graphs = _Graphs(_load(model))
    chosen = _choose(graphs, node)
    levels: list[Level] = []
    for k, (graph, proto) in enumerate(chosen):
        operator = _operator(graph, proto)
        units = tuple(_with_start(graph, proto, operator, read_units(FROM, operator)))
        merge = "concat"
        if k + 1 < len(chosen):
            merge, rate = _between(graph, proto, chosen[k + 1][1], operator)
            units = tuple(with_dropout(unit, rate) for unit in units)
        levels.append(Level(units, reverse=operator.attributes.get("direction") == "reverse", merge=merge))
    layer, params = build(levels)
    return layer, to_jax(FROM, params)


def _load(model: Any) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (bytes, str, os.PathLike)):
        raise TypeError(f"{FROM}: takes an onnx.ModelProto, its bytes or a path, got {type(model).__name__}")
    name = "the bytes" if isinstance(model, bytes) else os.fspath(model)
    try:
        loaded = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
    except DecodeError as error:
        raise ValueError(f"{FROM}: {name} is not a whole ONNX model: {error}") from None
    if not loaded.ir_version or not loaded.graph.node or not loaded.opset_import:
        raise ValueError(f"{FROM}: {name} is not a whole ONNX model: it has no graph or no opset")
    return loaded


def _to_array(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{FROM}: the tensor {tensor.name!r} cannot be read: {error}") from None


# -- finding the operators ---------------------------------------------------------------------------------------------


class _Graph:
    """One (sub)graph: where each name comes from, and constants evaluated when asked for."""

    def __init__(self, proto: Any, model: Any, outer: _Graph | None) -> None:
        self.proto, self.model, self.outer = proto, model, outer
        self.constants = {t.name: _to_array(t) for t in proto.initializer}
        self.producers = {name: n for n in proto.node for name in n.output if name}
        self.of_shapes = dict(self.constants)

    def constant(self, name: str, of_shapes: bool = False) -> np.ndarray | None:
        """The value of a name that only constants lead to, else None.

        of_shapes: also what follows from shapes alone (of a batch of 2), as exporters write states of zeros.
        """
        known = self.of_shapes if of_shapes else self.constants
        if name in known:
            return known[name]
        if name not in self.producers:
            outer = None if name in self._inputs() else self.outer
            return None if outer is None else outer.constant(name, of_shapes)
        producer = self.producers[name]
        if of_shapes and producer.op_type == "Shape":
            feeds = {producer.input[0]: self._like(producer.input[0])}
        else:
            feeds = {n: self.constant(n, of_shapes) for n in producer.input if n}
        random = producer.op_type.startswith("Random") or producer.op_type in ("If", "Loop", "Scan", "Dropout")
        if random or any(value is None for value in feeds.values()):
            return None
        known |= dict(zip(producer.output, evaluate([producer], feeds, list(producer.output), self.model)))
        return known.get(name)

    def _like(self, name: str) -> np.ndarray | None:
        """Zeros of the shape that the graph states for a name, 2 where it states a symbol."""
        for value in (*self.proto.input, *self.proto.value_info):
            if value.name == name and value.type.tensor_type.HasField("shape"):
                return np.zeros([d.dim_value or 2 for d in value.type.tensor_type.shape.dim], np.float32)
        return self.constant(name)

    def _inputs(self) -> set[str]:
        return {i.name for i in self.proto.input}


def evaluate(nodes: list[Any], feeds: dict[str, Any], outputs: list[str], model: Any) -> list[np.ndarray]:
    """A few nodes run by ONNX's own reference evaluator."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    empty = helper.make_empty_tensor_value_info
    graph = helper.make_graph(nodes, "part", [empty(n) for n in feeds], [empty(n) for n in outputs if n])
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return ReferenceEvaluator(part).run(None, feeds)


class _Graphs:
    """All recurrent nodes of a model, each with the graph it stands in."""

    def __init__(self, model: Any) -> None:
        self.found = [(graph, n) for graph in self._walk(model.graph, model, None) for n in self._recurrent(graph)]
        self.kinds = sorted({n.op_type for n in model.graph.node})

    def _walk(self, proto: Any, model: Any, outer: _Graph | None) -> Iterator[_Graph]:
        graph = _Graph(proto, model, outer)
        yield graph
        for n in proto.node:
            for a in n.attribute:
                for inner in [*([a.g] if a.HasField("g") else []), *a.graphs]:
                    yield from self._walk(inner, model, graph)

    @staticmethod
    def _recurrent(graph: _Graph) -> list[Any]:
        return [n for n in graph.proto.node if n.op_type in ORDERS and n.domain in ("", "ai.onnx")]


def label(proto: Any) -> str:
    """How messages call a node: its name, or that of its first output."""
    return proto.name or next(name for name in proto.output if name)


def _choose(graphs: _Graphs, name: str | None) -> list[tuple[_Graph, Any]]:
    found = graphs.found
    names = [label(n) for _, n in found]
    if not found:
        raise ValueError(f"{FROM}: the model has no RNN, LSTM or GRU node, only {', '.join(graphs.kinds)}")
    if name is not None:
        chosen = [pair for pair in found if name == pair[1].name or name in pair[1].output]
        if len(chosen) != 1:
            raise ValueError(f"{FROM}: node must be one of {names}, got {name!r}")
        return chosen
    if len({id(graph) for graph, _ in found}) > 1:
        raise ValueError(f"{FROM}: the model has recurrent nodes in several subgraphs; choose one, node= of {names}")
    return found


def _operator(graph: _Graph, proto: Any) -> Operator:
    from onnx import helper

    def weight(at: int, name: str, needed: bool) -> np.ndarray | None:
        given = proto.input[at] if at < len(proto.input) else ""
        value = graph.constant(given) if given else None
        if value is None and (given or needed):
            raise ValueError(
                f"{FROM}: {proto.op_type} node {label(proto)!r}: {name} ({given or 'left out'}) is not a constant of the graph"
            )
        return value

    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    w, r, b = weight(1, "W", True), weight(2, "R", True), weight(3, "B", False)
    p = weight(7, "P", False) if proto.op_type == "LSTM" else None
    _warn_about(graph, proto, 4, "sequence_lens", "lengths=")
    return Operator(label(proto), proto.op_type, attributes, w, r, b, p)


def _warn_about(graph: _Graph, proto: Any, at: int, name: str, how: str) -> None:
    given = proto.input[at] if at < len(proto.input) else ""
    if given:
        text = f"{FROM}: {proto.op_type} node {label(proto)!r} takes its {name} from {given!r}: pass {how} at the call"
        warnings.warn(text, stacklevel=4)


# -- initial states ----------------------------------------------------------------------------------------------------


def _with_start(graph: _Graph, proto: Any, op: Operator, units: list[Unit]) -> list[Unit]:
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
        elif np.any(value):
            values[name] = np.swapaxes(value, 0, 1) if op.attributes.get("layout") else value
    if not values:
        return units
    return [with_start(unit, _start(proto, op, values, k)) for k, unit in enumerate(units)]


def _start(proto: Any, op: Operator, values: dict[str, np.ndarray], k: int) -> Any:
    rows = {}
    for name, value in values.items():
        if value.ndim != 3 or np.any(value[k] != value[k, :1]):
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


def _between(graph: _Graph, lower: Any, upper: Any, op: Operator) -> tuple[str, float]:
    """How the directions of ``lower`` are merged on the way to ``upper``, and the dropout there.

    Found by running what lies between on random numbers, so that it does not matter how an exporter writes it.
    """
    where = f"{FROM}: between nodes {label(lower)!r} and {label(upper)!r}"
    nodes = _path(graph, lower.output[0], upper.input[0], where)
    shape = (3, op.directions, 2, op.r.shape[-1])
    y = np.random.default_rng(0).normal(size=shape).astype(op.r.dtype)
    layout = bool(op.attributes.get("layout"))
    fed = y.transpose(2, 0, 1, 3) if layout else y
    feeds = {lower.output[0]: fed} | {
        n: graph.constant(n) for node in nodes for n in node.input if _is_constant(graph, n)
    }
    out = evaluate(nodes, feeds, [upper.input[0]], graph.model)[0] if nodes else fed
    for name, merge in MERGES.items():
        expected = merge(y).swapaxes(0, 1) if layout else merge(y)
        if out.shape == expected.shape and np.allclose(out, expected, rtol=1e-5, atol=1e-6):
            return name, _dropout(graph, nodes)
    raise ValueError(f"{where} stand {[n.op_type for n in nodes]}, which is no plain stack; choose one with node=")


def _is_constant(graph: _Graph, name: str) -> bool:
    return bool(name) and graph.constant(name) is not None


def _path(graph: _Graph, start: str, end: str, where: str) -> list[Any]:
    """The nodes that lead from one name to another, in order. Raises: ValueError if anything else feeds them."""
    needed: list[Any] = []

    def need(name: str) -> None:
        if not name or name == start or _is_constant(graph, name):
            return
        producer = graph.producers.get(name)
        if producer is None or producer.op_type in ORDERS:
            raise ValueError(f"{where} comes {name!r} from elsewhere: no plain stack; choose one with node=")
        if producer not in needed:
            for n in producer.input:
                need(n)
            needed.append(producer)

    need(end)
    return needed


def _dropout(graph: _Graph, nodes: list[Any]) -> float:
    """The rate of the Dropout nodes on the way (inactive in an inference graph, but part of the network)."""
    rates = []
    for n in nodes:
        if n.op_type == "Dropout":
            given = graph.constant(n.input[1]) if len(n.input) > 1 and n.input[1] else None
            old = [a.f for a in n.attribute if a.name == "ratio"]
            rate = given if given is not None else old[0] if old else 0.5
            rates.append(float(str(np.float32(rate))))  # 0.1, not the float32 nearest to it in float64
    if len(rates) > 1:
        raise ValueError(f"{FROM}: several Dropout nodes between two layers")
    return rates[0] if rates else 0.0
