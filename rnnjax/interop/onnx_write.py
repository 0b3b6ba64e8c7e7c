"""ONNX out: real RNN, LSTM and GRU operators with what stands round them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnjax.interop.arrays import common_dtype, host
from rnnjax.interop.levels import LAYERS, Level, Unit, only, read
from rnnjax.interop.memoryless import MEMORYLESS, Dense, Table
from rnnjax.interop.onnx_ops import ACTIVATIONS, write_units
from rnnjax.layers import RNN
from rnnjax.wrappers import Dropout, Embed, LearnedCarry, Readout

if TYPE_CHECKING:
    import onnx

TO = "to_onnx"
OPSET, IR = 18, 8  # the pair of onnx 1.13
REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "mul": "ReduceProd"}


class _Graph:
    """Nodes and constants in the making; `add` returns the name of a node's first output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        from onnx import helper

        outputs = outputs or [f"{op.lower()}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0] + ".node", **attributes))
        return outputs[0]

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name


def to_onnx(layer: Any, params: Any, *, lengths: bool = False, carry: bool = False) -> onnx.ModelProto:
    """A layer (or a cell, as ``RNN(cell)``) as an ONNX model of RNN, LSTM and GRU operators, not loops.

    The graph reads ``xs [T, B, I]`` and gives ``ys [T, B, O]``, time and batch symbolic, and the last carry under its names:
    ``carry.h``, ``carry.layer_0.forward.c``. lengths: an input ``lengths`` int32 ``[B]`` more (where the padding of ys is zero but for
    a `Readout`'s bias). carry: inputs ``start.h``, ... more, to start from; else the layer's own start. Save it with `onnx.save`.
    `Elman`, `IRNN`, `LSTM` (peepholes, coupled gates written out), `GRU` both ways; `Bidirectional` with any merge but None;
    round the cells `LearnedCarry`, `Dropout` (an inactive Dropout node), and `Readout` on one direction; `Embed` round the first, which
    then reads tokens, ``xs`` int64 ``[T, B]``; and the layers without memory of `rnnjax.interop`.
    opset 18, so that onnxruntime from 1.14 on runs it. Bidirectional parts run as one operator.
    Errors: TypeError/ValueError naming the cell, wrapper, merge or dtype that ONNX lacks.

    >>> import pytest; onnx = pytest.importorskip("onnx")
    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> layer = rj.Bidirectional(rj.LSTM(4))
    >>> model = to_onnx(layer, layer.init(jax.random.key(0), jnp.ones((2, 3))))
    >>> [node.op_type for node in model.graph.node][0], [o.name for o in model.graph.output][:2]
    ('LSTM', ['ys', 'carry.forward.h'])
    """
    import onnx
    from onnx import helper

    layer = layer if isinstance(layer, LAYERS) else RNN(layer)
    levels = read(TO, layer, params)
    dtype = common_dtype(TO, params)
    if dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(f"{TO}: the operators take float16, float32 or float64 at opset {OPSET}, got {dtype}")
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph, ys = _Graph(), "xs"
    value = lambda name, *shape: helper.make_tensor_value_info(name, kind, shape)
    first, outputs = levels[0].units[0], []
    inputs = [value("xs", "time", "batch", int(first.params["input"].shape[0]) if "input" in first.params else None)]
    if type(first.cell) is Table or any(isinstance(wrapper, Embed) for wrapper, _ in first.wrappers):
        inputs = [helper.make_tensor_value_info("xs", onnx.TensorProto.INT64, ["time", "batch"])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["batch"]))
    for k, level in enumerate(levels):
        names = _carry_names(level, k, len(levels))
        ys = _write_level(graph, level, f"layer_{k}", ys, lengths, names, carry)
        states = [value(f"carry.{n}", "batch", u.cell.features) for u, ns in zip(level.units, names) for n in ns]
        if carry:
            sizes = [unit.cell.features for unit, parts in zip(level.units, names) for _ in parts]
            inputs += [value("start." + n, "batch", h) for n, h in zip(sum(names, []), sizes)]
        outputs += states
    graph.add("Identity", [ys], ["ys"])
    outputs = [value("ys", "time", "batch", None), *outputs]
    proto = helper.make_graph(graph.nodes, "rnnjax", inputs, outputs, graph.constants, doc_string=repr(layer))
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="rnnjax"
    )
    onnx.checker.check_model(model)
    return model


def _carry_names(level: Level, k: int, count: int) -> list[list[str]]:
    """For each direction the names of the carry's parts, as our own carry has them."""
    names = []
    for unit, direction in zip(level.units, ("forward", "backward")):
        scope = ([f"layer_{k}"] if count > 1 else []) + ([direction] if len(level.units) == 2 else [])
        parts = {"LSTM": ["h", "c"], "Dense": [], "Pointwise": [], "Table": []}.get(type(unit.cell).__name__, ["h"])
        names.append([".".join([*scope, part]) for part in parts])
    return names


def _write_level(
    graph: _Graph, level: Level, scope: str, xs: str, lengths: bool, names: list[list[str]], carry: bool
) -> str:
    """The operator of a level with its states and wrappers; returns the name of ys ``[T, B, O]``."""
    units = level.units
    if type(units[0].cell) in MEMORYLESS:
        return _wrappers(graph, level, scope, _memoryless(graph, only(TO, units[0], Dropout), scope, xs))
    for unit in units:
        only(TO, unit, Dropout, LearnedCarry, *([Readout, Embed] if len(units) == 1 else []))
    xs = _embedded(graph, level, scope, xs)
    op = write_units(TO, units, level.reverse)
    tensors = {"input": op.w, "recurrent": op.r, "bias": op.b}
    given = ["" if a is None else graph.constant(f"{scope}.{n}", a) for n, a in tensors.items()]
    states = len(names[0])
    starts = [_start(graph, level, f"{scope}.start_{p}", xs, [n[p] for n in names], p, carry) for p in range(states)]
    inputs = [xs, *given, "lengths" if lengths else "", *starts]
    if op.p is not None:
        inputs += [""] * (7 - len(inputs)) + [graph.constant(f"{scope}.peephole", op.p)]
    last = [f"{scope}.last_{p}" for p in range(states)]
    y = graph.add(op.kind, inputs, [f"{scope}.y", *last], **op.attributes)
    for p, name in enumerate(last):
        parts = [f"carry.{n[p]}" for n in names]
        if len(parts) == 1:
            graph.add("Squeeze", [name, graph.constant(f"{name}.axis", np.asarray([0]))], parts)
        else:
            for d, part in enumerate(parts):
                graph.add("Gather", [name, graph.constant(f"{name}.at_{d}", np.asarray(d))], [part], axis=0)
    return _wrappers(graph, level, scope, _merge(graph, level, scope, y))


def _memoryless(graph: _Graph, unit: Unit, scope: str, xs: str) -> str:
    """A table, or a dense layer and its activation, on every step."""
    cell, params = unit.cell, {name: host(a) for name, a in unit.params.items()}
    if type(cell) is Table:
        return _look_up(graph, params["table"], scope, xs, cell)
    if type(cell) is Dense:
        xs = graph.add("MatMul", [xs, graph.constant(f"{scope}.input", params["input"])])
        xs = graph.add("Add", [xs, graph.constant(f"{scope}.bias", params["bias"])]) if "bias" in params else xs
    if cell.activation in ("linear", "identity"):
        return xs
    if cell.activation == "softmax":
        return graph.add("Softmax", [xs], axis=-1)
    if cell.activation not in ACTIVATIONS:
        raise TypeError(f"{TO}: ONNX has no {cell!r}; it has activations of {', '.join(ACTIVATIONS)}, linear, softmax")
    kind, *numbers = ACTIVATIONS[cell.activation]
    return graph.add(kind, [xs], **dict(zip(("alpha", "beta"), numbers)))


def _look_up(graph: _Graph, table: Any, scope: str, xs: str, where: Any) -> str:
    if xs != "xs":
        raise TypeError(f"{TO}: only the first level reads tokens, got {where!r} above")
    return graph.add("Gather", [graph.constant(f"{scope}.table", host(table)), xs], axis=0)


def _embedded(graph: _Graph, level: Level, scope: str, xs: str) -> str:
    """The vectors of the tokens ``[T, B]`` for a level that looks them up."""
    for wrapper, own in level.units[0].wrappers:
        if isinstance(wrapper, Embed):
            return _look_up(graph, own["table"], scope, xs, wrapper)
    return xs


def _start(graph: _Graph, level: Level, name: str, xs: str, parts: list[str], p: int, carry: bool) -> str:
    """The initial state ``[directions, B, H]``: the inputs, the learned start spread over the batch, or "" for zeros."""
    if carry:
        axis = graph.constant(f"{name}.axis", np.asarray([0]))
        rows = [graph.add("Unsqueeze", [f"start.{part}", axis]) for part in parts]
        return graph.add("Concat", rows, axis=0)
    learned = [
        [own["carry"] for wrapper, own in unit.wrappers if type(wrapper) is LearnedCarry] for unit in level.units
    ]
    if not any(learned):
        return ""
    rows = [_row(unit, start, p) for unit, start in zip(level.units, learned)]
    value = graph.constant(name, np.stack(rows)[:, None])
    batch = graph.add("Gather", [graph.add("Shape", [xs]), graph.constant(f"{name}.batch", np.asarray([1]))])
    one = graph.constant(f"{name}.one", np.asarray([1]))
    return graph.add("Expand", [value, graph.add("Concat", [one, batch, one], axis=0)])


def _row(unit: Any, start: list[Any], p: int) -> Any:
    """One direction's learned start of the p-th state; zeros where it learns none."""
    if not start:
        return np.zeros(unit.cell.features, host(unit.params["input"]).dtype)
    return host(start[0][("h", "c")[p]] if isinstance(start[0], dict) else start[0])


def _merge(graph: _Graph, level: Level, scope: str, y: str) -> str:
    """Y ``[T, directions, B, H]`` as ys ``[T, B, O]``."""
    if len(level.units) == 1 or level.merge in REDUCE:
        axis = graph.constant(f"{scope}.directions", np.asarray([1]))
        if len(level.units) == 1:
            return graph.add("Squeeze", [y, axis])
        return graph.add(REDUCE[str(level.merge)], [y, axis], keepdims=0)
    if level.merge != "concat":
        raise TypeError(f"{TO}: one sequence of outputs comes out of a level, got Bidirectional(merge={level.merge!r})")
    turned = graph.add("Transpose", [y], perm=[0, 2, 1, 3])
    return graph.add("Reshape", [turned, graph.constant(f"{scope}.joined", np.asarray([0, 0, -1]))])


def _wrappers(graph: _Graph, level: Level, scope: str, ys: str) -> str:
    """What is wrapped round the cell, from the inside out."""
    rates = [[w.rate for w, _ in unit.wrappers if isinstance(w, Dropout)] for unit in level.units]
    if any(r != rates[0] for r in rates) or (len(rates) == 2 and rates[0] and level.merge != "concat"):
        raise ValueError(
            f"{TO}: both directions must have the same Dropout and be merged by 'concat', got rates {rates}"
        )
    for k, (wrapper, own) in enumerate(reversed(level.units[0].wrappers)):
        if isinstance(wrapper, Dropout):
            ys = graph.add("Dropout", [ys, graph.constant(f"{scope}.rate_{k}", np.asarray(wrapper.rate, np.float32))])
        elif isinstance(wrapper, Readout):
            ys = graph.add("MatMul", [ys, graph.constant(f"{scope}.output_{k}", host(own["output"]))])
            if "output_bias" in own:
                ys = graph.add("Add", [ys, graph.constant(f"{scope}.output_bias_{k}", host(own["output_bias"]))])
    return ys
