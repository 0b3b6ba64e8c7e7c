"""ONNX operators in and out, against ONNX's own reference evaluator (random weights) and onnxruntime."""

import io
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, T, close, data, draw, new_params, same, trained

import rnnjax as rj

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.peer
from onnx import helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
F32 = onnx.TensorProto.FLOAT


def operator(kind, seed=0, bias=True, peephole=False, starts=(), lengths=False, opset=18, **attributes):
    """A model with one recurrent operator of random weights."""
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    g = GATES[kind]
    arrays = {"W": data(seed, d, g * H, I), "R": data(seed + 1, d, g * H, H)}
    arrays |= {"B": data(seed + 2, d, 2 * g * H)} if bias else {}
    arrays |= {"P": data(seed + 3, d, 3 * H)} if peephole else {}
    inputs = [
        "X",
        "W",
        "R",
        "B" if bias else "",
        "lengths" if lengths else "",
        *[s if s in starts else "" for s in ("h0", "c0")],
    ]
    inputs = inputs[: 6 + (kind == "LSTM")] + (["P"] if peephole else [])
    while inputs and not inputs[-1]:
        inputs.pop()
    outputs = ["Y", "Y_h", *(["Y_c"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, inputs, outputs, name="rec", hidden_size=H, **attributes)
    return model_of([node], arrays, [("X", ["T", "B", I])], outputs, lengths=lengths, opset=opset)


def model_of(nodes, arrays, inputs, outputs, lengths=False, opset=18):
    values = [helper.make_tensor_value_info(name, F32, shape) for name, shape in inputs]
    values += [helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["B"])] if lengths else []
    outs = [helper.make_tensor_value_info(name, F32, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", values, outs, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def runtime(model, **feeds):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(value) for name, value in feeds.items()})


def reference(model, **feeds):
    return ReferenceEvaluator(model).run(None, feeds)


def joined(y):
    """Y [T, D, B, H] as ys [T, B, D * H]."""
    return np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)


def states(carry):
    """Our carry as ONNX's Y_h [D, B, H] (and Y_c)."""
    directions = list(carry) if isinstance(carry, rj.layers.BidirectionalCarry) else [carry]
    return [np.stack(s) for s in zip(*[tuple(c) if isinstance(c, rj.LSTMCarry) else (c,) for c in directions])]


# -- in ----------------------------------------------------------------------------------------------------------------


def random_operator(seed):
    c = draw(
        seed, kind=["RNN", "LSTM", "GRU", "LSTM", "GRU"], direction=["forward", "reverse", "bidirectional"], bias=[True, True, False],
        linear_before_reset=[0, 1], peephole=[True, False],
    )  # fmt: skip
    extra = {"linear_before_reset": c["linear_before_reset"]} if c["kind"] == "GRU" else {}
    return operator(
        c["kind"], seed, c["bias"], c["peephole"] and c["kind"] == "LSTM", direction=c["direction"], **extra
    )


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(s, marks=pytest.mark.slow) for s in range(4, 60)]])
def test_operators_against_reference_and_runtime(seed):
    model, xs = random_operator(seed), data(seed, T, B, I)
    layer, params = rj.interop.from_onnx(model)
    carry, ys = layer(params, xs)
    for run in (reference, runtime):
        y, *last = run(model, X=xs)
        close(ys, joined(y))
        close(states(carry), last)
    back = rj.interop.to_onnx(layer, params)
    assert [n.op_type for n in back.graph.node if n.op_type in GATES] == [model.graph.node[0].op_type]
    again, params_again = rj.interop.from_onnx(back)
    assert again == layer
    same(params_again, params)


def test_lengths_of_the_runtime():
    model, xs, lengths = (
        operator("GRU", lengths=True, direction="bidirectional"),
        data(1, T, B, I),
        np.array([2, T, 3], np.int32),
    )
    with pytest.warns(
        UserWarning, match=r"GRU node 'rec' takes its sequence_lens from 'lengths': pass lengths= at the call"
    ):
        layer, params = rj.interop.from_onnx(model)
    carry, ys = layer(params, xs, lengths=lengths)
    y, last = runtime(model, X=xs, lengths=lengths)
    close(ys, joined(y))
    close(states(carry), [last])


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Softsign", "Softplus", "Elu", "LeakyRelu", "Affine"])
def test_activations_of_the_simple_network(activation):
    model = operator("RNN", activations=[activation], activation_alpha=[{"LeakyRelu": 0.01}.get(activation, 1.0)])
    layer, params = rj.interop.from_onnx(model)
    xs = 0.3 * data(1, T, B, I)
    ys = layer(params, xs)[1]
    close(ys, joined(runtime(model, X=xs)[0]), 1e-4)
    close(ys, runtime(rj.interop.to_onnx(layer, params), xs=xs)[0], 1e-4)


GATED = [
    ("LSTM", ["HardSigmoid", "Relu", "Relu"], {}, rj.LSTM(H, activation="relu", gate_activation="hard_sigmoid_0.2")),
    (
        "LSTM", ["HardSigmoid", "Elu", "Elu"], {"activation_alpha": [1 / 6, 1.0, 1.0]},
        rj.LSTM(H, activation="elu", gate_activation="hard_sigmoid"),
    ),
    ("GRU", ["HardSigmoid", "Softsign"], {}, rj.GRU(H, activation="softsign", gate_activation="hard_sigmoid_0.2", reset_after=False)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "activations", "extra", "cell"), GATED)
@pytest.mark.parametrize("direction", ["forward", pytest.param("bidirectional", marks=pytest.mark.slow)])
def test_activations_of_gated_operators(kind, activations, extra, cell, direction):
    """onnxruntime's numbers; onnx's own evaluator leaves activations out."""
    both = direction == "bidirectional"
    options = {"activations": activations * (1 + both)} | {name: v * (1 + both) for name, v in extra.items()}
    model = operator(kind, direction=direction, **options)
    layer, params = rj.interop.from_onnx(model)
    assert layer == (rj.Bidirectional(cell) if both else rj.RNN(cell))
    xs = data(1, T, B, I)
    ys = layer(params, xs)[1]
    close(ys, joined(runtime(model, X=xs)[0]), 1e-4)
    out = rj.interop.to_onnx(layer, params)
    close(ys, runtime(out, xs=xs)[0], 1e-4)
    assert rj.interop.from_onnx(out)[0] == layer


def test_each_direction_takes_its_own_alpha():
    model = operator("RNN", direction="bidirectional", activations=["Tanh", "LeakyRelu"], activation_alpha=[0.01])
    layer, params = rj.interop.from_onnx(model)
    assert layer == rj.Bidirectional(rj.Elman(H), rj.Elman(H, activation="leaky_relu"))
    xs = data(1, T, B, I)
    close(layer(params, xs)[1], joined(runtime(model, X=xs)[0]))
    close(layer(params, xs)[1], runtime(rj.interop.to_onnx(layer, params), xs=xs)[0])


def test_coupled_gates_and_a_constant_start():
    model = operator("LSTM", peephole=True, starts=("h0", "c0"), input_forget=1)
    row = data(9, 2, 1, 1, H)
    arrays = {"h0": np.repeat(row[0], B, 1), "c0": np.repeat(row[1], B, 1)}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    layer, params = rj.interop.from_onnx(model)
    assert layer == rj.RNN(rj.LearnedCarry(rj.LSTM(H, peephole=True, coupled=True)))
    xs = data(1, T, B, I)
    carry, ys = layer(params, xs)
    y, *last = runtime(model, X=xs)
    close(ys, joined(y))
    close(states(carry), last)
    out = rj.interop.to_onnx(layer, params)
    close(runtime(out, xs=xs)[0], ys)
    close(reference(out, xs=xs)[0], ys)


def test_weights_computed_from_constants_inside_a_larger_graph():
    """Transposed weights in Constant nodes, a stack with directions, dropout and a readout, found amid other nodes."""
    w = [data(0, 2, I, 3 * H), data(1, 2, 3 * H, H), data(2, 1, 3 * H, 2 * H), data(3, 1, 3 * H, H), data(4, 2, 6 * H)]
    arrays = dict(zip(["W0t", "R0", "W1", "R1", "B0"], w))
    arrays |= {"shape": np.array([0, 0, -1]), "axis": np.array([1]), "rate": np.float32(0.25), "two": np.float32(2)}
    nodes = [
        helper.make_node("Mul", ["input", "two"], ["X"]),
        helper.make_node("Transpose", ["W0t"], ["W0"], perm=[0, 2, 1]),
        helper.make_node(
            "GRU", ["X", "W0", "R0", "B0"], ["Y0"], hidden_size=H, direction="bidirectional", name="first"
        ),
        helper.make_node("Transpose", ["Y0"], ["T0"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["T0", "shape"], ["J0"]),
        helper.make_node("Dropout", ["J0", "rate"], ["D0"]),
        helper.make_node("GRU", ["D0", "W1", "R1"], ["Y1"], hidden_size=H, linear_before_reset=1, name="second"),
        helper.make_node("Squeeze", ["Y1", "axis"], ["ys"]),
    ]
    model = model_of(nodes, arrays, [("input", ["T", "B", I])], ["ys"])
    layer, params = rj.interop.from_onnx(model.SerializeToString())
    before = rj.GRU(H, reset_after=False)
    assert layer == rj.Sequential(rj.Bidirectional(rj.Dropout(before, 0.25)), rj.RNN(rj.GRU(H, use_bias=False)))
    xs = data(1, T, B, I)
    close(layer(params, 2 * xs)[1], reference(model, input=xs)[0])
    first, first_params = rj.interop.from_onnx(model, node="first")
    assert first == rj.Bidirectional(before)
    same(first_params, params["layer_0"])

    model.graph.node[5].CopyFrom(helper.make_node("Tanh", ["J0"], ["D0"]))
    with pytest.raises(
        ValueError,
        match=r"between nodes 'first' and 'second' stand \['Transpose', 'Reshape', 'Tanh'\], which is no plain",
    ):
        rj.interop.from_onnx(model)


def test_torch_exports_come_back():
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about its exporters
        try:
            axes = {"X": {0: "T", 1: "B"}}
            torch.onnx.export(
                module.eval(), (torch.zeros(T, B, I),), file, input_names=["X"], dynamic_axes=axes, dynamo=False
            )
        except Exception as error:  # the exporter needs packages of its own in some releases
            pytest.skip(f"torch cannot export here: {error}")
    layer, params = rj.interop.from_onnx(file.getvalue())
    expected, expected_params = rj.interop.from_torch(module)
    assert layer == expected
    close(params, expected_params, 1e-6)


# -- out ---------------------------------------------------------------------------------------------------------------


LAYERS = {
    "deep": rj.Sequential(
        rj.Bidirectional(rj.Dropout(rj.LSTM(H, peephole=True), 0.2)),
        rj.Bidirectional(rj.GRU(H), merge="mean"),
        rj.RNN(rj.Readout(rj.LearnedCarry(rj.GRU(H, reset_after=False)), 2), reverse=True),
    ),
    "stack": rj.RNN(rj.Stack(rj.LSTM(H, coupled=True), rj.Elman(3, activation="softsign"), rj.IRNN(2))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_run_in_onnxruntime_with_lengths_and_carry(name):
    layer = LAYERS[name]
    xs, lengths = data(0, T, B, I), np.array([T, 1, 3], np.int32)
    params = trained(layer, new_params(layer), xs)
    carry, ys = layer(params, xs, lengths=lengths)
    out = runtime(rj.interop.to_onnx(layer, params, lengths=True), xs=xs, lengths=lengths)
    expected = np.where((np.arange(T)[:, None] < lengths)[..., None], ys, out[0]) if name == "deep" else ys
    close(out[0], expected)  # the readout's bias lies on padding in a graph, where ours are zeros
    close(out[1:], carry)

    model = rj.interop.to_onnx(layer, params, carry=True)
    start = jax.tree.map(lambda a: jnp.asarray(data(a.size, *a.shape)), carry)
    names = [i.name for i in model.graph.input][1:]
    out = runtime(model, xs=xs, **dict(zip(names, map(np.asarray, jax.tree.leaves(start)))))
    close(out, [layer(params, xs, carry=start)[1], *jax.tree.leaves(layer(params, xs, carry=start)[0])])
    assert names[0] == ("start.layer_0.forward.h" if name == "deep" else "start.layer_0.h")
    assert not {n.op_type for n in model.graph.node} & {"Loop", "Scan"}


TOKENS = np.random.default_rng(0).integers(0, 7, (T, B))
DENSE = rj.interop.Dense
WITH_HEADS = [
    rj.Sequential(
        rj.RNN(rj.interop.Table(7, I)), rj.Bidirectional(rj.GRU(H)), rj.RNN(rj.Dropout(DENSE(3, activation="hard_sigmoid"), 0.1)),
        rj.RNN(DENSE(2, activation="softmax", use_bias=False)),
    ),
    rj.RNN(rj.Readout(rj.Stack(rj.Embed(rj.LSTM(H), 7, I), rj.Dropout(rj.GRU(3), 0.1)), 2)),
    rj.Sequential(rj.RNN(rj.Embed(rj.LSTM(H, activation="relu"), 7, I)), rj.RNN(rj.interop.Pointwise(activation="elu"))),
]  # fmt: skip


@pytest.mark.parametrize("layer", [WITH_HEADS[0], *[pytest.param(x, marks=pytest.mark.slow) for x in WITH_HEADS[1:]]])
def test_tables_and_dense_layers_in_the_runtime(layer):
    rng = np.random.default_rng(1)
    params = layer.init(jax.random.key(0), jnp.zeros((B,), jnp.int32))
    params = jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), a.dtype), params)
    carry, ys = layer(params, TOKENS)
    got, *last = runtime(rj.interop.to_onnx(layer, params), xs=TOKENS)
    close(got, ys)
    close(last, carry)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_dtypes_are_kept(dtype):
    with jax.enable_x64(dtype == "float64"):
        layer = rj.RNN(rj.GRU(H))
        params = jax.tree.map(lambda a: a.astype(dtype), new_params(layer))
        again, back = rj.interop.from_onnx(rj.interop.to_onnx(layer, params))
        assert again == layer
        same(back, params)


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: operator("GRU", clip=3.0), r"from_onnx: GRU node 'rec': the attribute clip=3.0 has no counterpart"),
        (lambda: operator("LSTM", activations=["Sigmoid", "Tanh", "Relu"]), r"\['Sigmoid'.* give c and h different ones"),
        (lambda: operator("LSTM", input_forget=1, activations=["Relu", "Tanh", "Tanh"]), r"input_forget with relu gates is not here"),
        (lambda: operator("RNN", activations=["Elu"], activation_alpha=[0.5]), r"activation Elu with alpha, beta \[0.5\] is not here"),
        (lambda: operator("GRU", activations=["HardSigmoid", "Tanh"], activation_alpha=[0.3]), r"alpha, beta \[0.3, 0.5\]"),
        (lambda: operator("GRU", direction="sideways"), r"direction must be forward, reverse or bidirectional, got 'sideways'"),
        (lambda: operator("RNN", activations=["ScaledTanh"]), r"activation ScaledTanh"),
        (lambda: operator("RNN", direction="bidirectional", activations=["Tanh"]), r"2 activations expected, got \['Tanh'\]"),
        (lambda: model_of([helper.make_node("Relu", ["X"], ["Y"])], {}, [("X", [1])], ["Y"]), r"no RNN, LSTM or GRU node, only Relu"),
        (lambda: b"", r"the bytes is not a whole ONNX model: it has no graph"),
        (lambda: operator("GRU").SerializeToString()[:-6], r"it has no graph or no opset"),
        (lambda: operator("GRU").SerializeToString()[:200], r"the bytes is not a whole ONNX model"),
        (lambda: b"\x93NUMPY not onnx at all", r"the bytes is not a whole ONNX model"),
        (lambda: 3, r"takes an onnx.ModelProto, its bytes or a path, got int"),
    ],
)  # fmt: skip
def test_models_without_a_counterpart(model, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rj.interop.from_onnx(model())


def test_weights_that_do_not_fit_or_are_not_constant(tmp_path):
    model = operator("LSTM")
    with pytest.raises(ValueError, match=r"node must be one of \['rec'\], got 'other'"):
        rj.interop.from_onnx(model, node="other")
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(data(0, 1, 7), "B"))
    with pytest.raises(ValueError, match=r"LSTM node 'rec': B must have shape \(1, 32\), got \(1, 7\)"):
        rj.interop.from_onnx(model)
    del model.graph.initializer[1]
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"LSTM node 'rec': R \(R\) is not a constant of the graph"):
        rj.interop.from_onnx(path)
    model = operator("RNN", starts=("h0",))
    model.graph.initializer.append(numpy_helper.from_array(data(0, 1, B, H), "h0"))
    with pytest.raises(ValueError, match=r"initial_h of shape \(1, 3, 4\) differs over the batch; .*pass it as carry="):
        rj.interop.from_onnx(model)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (rj.LSTM(H, projection=2), r"to_onnx: ONNX has no LSTM\(4, projection=2\); it has Elman"),
        (rj.RNN(rj.MGU(H)), r"ONNX has no MGU\(4\)"),
        (rj.Elman(H, activation="gelu"), r"ONNX has no Elman\(4, activation='gelu'\)"),
        (rj.Bidirectional(rj.GRU(H), merge=None), r"one sequence of outputs comes out of a level, got Bidirectional\(merge=None\)"),
        (rj.Bidirectional(rj.GRU(H), rj.LSTM(H)), r"both directions must be cells of one kind and size, got LSTM"),
        (rj.Bidirectional(rj.Readout(rj.GRU(H), 2)), r"Readout has no counterpart there"),
        (rj.LSTM(H, coupled=True, gate_activation="relu"), r"ONNX has no LSTM\(4, coupled=True, gate_activation='relu'\)"),
        (rj.Elman(H, residual=True), r"ONNX has no Elman\(4, residual=True\)"),
        (rj.Bidirectional(rj.Dropout(rj.GRU(H), 0.5), rj.GRU(H)), r"both directions must have the same Dropout"),
    ],
)  # fmt: skip
def test_what_onnx_lacks_is_named(layer, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rj.interop.to_onnx(layer, new_params(layer))
    above = rj.Sequential(rj.RNN(rj.interop.Dense(2)), rj.RNN(rj.interop.Dense(3, activation="gelu")))
    with pytest.raises(TypeError, match=r"ONNX has no Dense\(3, activation='gelu'\); it has activations of tanh"):
        rj.interop.to_onnx(above, new_params(above))
    with pytest.raises(ValueError, match=r"float16, float32 or float64 at opset 18, got bfloat16"):
        rj.interop.to_onnx(rj.GRU(H), new_params(rj.GRU(H), dtype=jnp.bfloat16))
