"""Values of an ONNX graph that follow from its constants, computed by onnx's own evaluator within a budget.

A few bytes can ask for any size (`ConstantOfShape`, `Expand`, an outer product), so an operator is run only if the size of what it
gives is known here beforehand and the budget has it left; an operator that is not listed is not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnjax.interop.onnx_file import FROM, said, to_array

LEAST = 2**24  # elements that any model may make
TIMES = 16  # and a large one this many times its own
NO_MORE = {  # what comes out has no more elements than what goes in
    "Identity", "Cast", "CastLike", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat",
    "Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Tanh", "Sigmoid", "Relu", "Not", "Erf", "Clip",
    "Softmax", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin", "Dropout", "Constant", "DequantizeLinear", "CumSum",
    "ScatterND", "ScatterElements", "GatherElements", "Trilu", "EyeLike", "LeakyRelu", "Elu", "HardSigmoid", "Softsign", "Softplus",
    "Compress", "ReverseSequence", "LayerNormalization", "BatchNormalization", "Selu", "HardSwish", "Gelu", "Mish",
}  # fmt: skip
TOGETHER = {  # shapes broadcast against one another
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Where", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor",
    "Max", "Min", "Sum", "Mean", "PRelu", "BitShift",
}  # fmt: skip


def _matmul(a: np.ndarray, b: np.ndarray) -> int:
    rows, columns = (a.shape[-2:-1] or (1,)), (b.shape[-1:] if b.ndim > 1 else (1,))
    return math.prod((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns))


def _gather(node: Any, data: np.ndarray, indices: np.ndarray) -> int:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return indices.size * data.size // max(data.shape[axis], 1)


SIZES: dict[str, Callable[..., Any]] = {  # the number of elements of the output, from the node and its inputs
    "Shape": lambda node, x: x.ndim,
    "Size": lambda node, x: 1,
    "ConstantOfShape": lambda node, shape: math.prod(map(int, shape)),
    "Expand": lambda node, x, shape: math.prod(_broadcast(x.shape, tuple(map(int, shape)))),
    "Tile": lambda node, x, repeats: x.size * math.prod(map(int, repeats)),
    "Range": lambda node, start, limit, delta: math.ceil(max(0, (float(limit) - float(start)) / float(delta))),
    "Gather": _gather,
    "GatherND": lambda node, data, indices: indices.size * data.size,
    "MatMul": lambda node, a, b: _matmul(a, b),
    "Gemm": lambda node, a, b, *c: a.size * b.size,
    "OneHot": lambda node, indices, depth, values: indices.size * int(np.max(depth)),
    "Pad": lambda node, x, pads, *rest: math.prod(n + int(np.abs(pads).sum()) for n in x.shape),
}


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """As `numpy.broadcast_shapes`, of any sizes."""
    width = max(map(len, shapes))
    padded = [(1,) * (width - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded))


class Budget:
    """How many elements may still be made."""

    def __init__(self, graph_elements: int) -> None:
        self.left = max(LEAST, TIMES * graph_elements)

    def take(self, node: Any, inputs: list[np.ndarray]) -> None:
        """Raises: ValueError where the output of the node is larger than what is left."""
        if node.op_type in NO_MORE:
            size = sum(x.size for x in inputs) + 64
        elif node.op_type in TOGETHER:
            size = math.prod(_broadcast(*(x.shape for x in inputs)))
        else:
            size = SIZES[node.op_type](node, *inputs)
        if size > self.left:
            raise ValueError(
                f"{FROM}: {node.op_type} node {label(node)!r} would make {size} numbers, more than such a model needs"
            )
        self.left -= size


def runs(node: Any) -> bool:
    """Whether the size of what a node gives is known here."""
    known = node.op_type in NO_MORE or node.op_type in TOGETHER or node.op_type in SIZES
    inner = any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") for a in node.attribute)
    return known and node.domain in ("", "ai.onnx") and not inner


def label(proto: Any) -> str:
    """How messages call a node: its name, or that of its first output."""
    return proto.name or next((name for name in proto.output if name), "without a name")


def run(node: Any, feeds: dict[str, np.ndarray], model: Any, budget: Budget) -> dict[str, np.ndarray]:
    """One node run by onnx's own reference evaluator. Raises: ValueError in a sentence for whatever goes wrong."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    with said(f"{node.op_type} node {label(node)!r} cannot be computed"), np.errstate(all="ignore"):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                to_array(attribute.t)  # its size is what it says
        budget.take(node, [feeds[name] for name in node.input if name])
        empty, names = helper.make_empty_tensor_value_info, [name for name in node.output if name]
        graph = helper.make_graph([node], "part", [empty(n) for n in feeds], [empty(n) for n in names])
        part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        return dict(zip(names, map(np.asarray, ReferenceEvaluator(part).run(None, feeds)), strict=True))


class Values:
    """One (sub)graph: where each name comes from, and constants evaluated when asked for."""

    def __init__(self, proto: Any, model: Any, outer: Values | None, budget: Budget) -> None:
        self.proto, self.model, self.outer, self.budget = proto, model, outer, budget
        self.initializers = {t.name: t for t in proto.initializer}
        self.producers = {name: n for n in proto.node for name in n.output if name}
        self.inputs = {i.name for i in proto.input}
        self.known: dict[bool, dict[str, np.ndarray | None]] = {False: {}, True: {}}

    def constant(self, name: str, of_shapes: bool = False) -> np.ndarray | None:
        """The value of a name that only constants lead to, else None.

        of_shapes: also what follows from shapes alone (of a batch of 2), as exporters write states of zeros.
        """
        known = self.known[of_shapes]
        if name not in known:
            known[name] = None  # what leads to itself has no value
            known[name] = self._find(name, of_shapes)
        return known[name]

    def _find(self, name: str, of_shapes: bool) -> np.ndarray | None:
        if name in self.initializers:
            return to_array(self.initializers[name])
        if name not in self.producers:
            outer = None if name in self.inputs else self.outer
            return None if outer is None else outer.constant(name, of_shapes)
        producer = self.producers[name]
        if not runs(producer) or producer.op_type == "Dropout":
            return None
        feeds = {n: self._feed(producer, n, of_shapes) for n in producer.input if n}
        given = {n: value for n, value in feeds.items() if value is not None}
        if len(given) < len(feeds):
            return None
        made = run(producer, given, self.model, self.budget)
        self.known[of_shapes].update(made)
        return made.get(name)

    def _feed(self, producer: Any, name: str, of_shapes: bool) -> np.ndarray | None:
        if of_shapes and producer.op_type == "Shape":
            return self._like(name)
        return self.constant(name, of_shapes)

    def _like(self, name: str) -> np.ndarray | None:
        """Zeros, without memory, of the shape that the graph states for a name, 2 where it states a symbol."""
        for value in (*self.proto.input, *self.proto.value_info):
            if value.name == name and value.type.tensor_type.HasField("shape"):
                with said(f"the shape of {name!r} cannot be"):
                    dims = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
                    return np.broadcast_to(np.float32(0), dims)
        return self.constant(name)
