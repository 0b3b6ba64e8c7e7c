"""Model files and modules that are damaged or made to harm: refused in a sentence, without a crash, a large allocation or a path outside.

`harm` says what is done to them, and how often.
"""

import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harm import counts, in_bytes, in_json, in_zip, outcome, tried, watched
from hypothesis import strategies as st
from interop.compare import H, I, data, new_params

import rnnjax as rj

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
NUMBER = st.integers(0, 2**16)  # a place, modulo how many there are
FEW, MANY = 150, 500


# -- ONNX --------------------------------------------------------------------------------------------------------------


def onnx_models():
    """Models of several kinds, as bytes: what `to_onnx` writes, starts, values made of constants, a graph inside a node."""
    onnx = pytest.importorskip("onnx")
    from interop.test_onnx import LAYERS, model_of, operator

    deep = LAYERS["deep"]
    made = [rj.interop.to_onnx(deep, new_params(deep), lengths=True)]
    made.append(
        operator("LSTM", peephole=True, direction="bidirectional", activations=["HardSigmoid", "Relu", "Relu"] * 2)
    )
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    arrays = {"W": data(0, 1, 3 * H, I), "R": data(1, 1, H, 3 * H), "n": np.array([1, 2, H])}
    nodes = [
        node("ConstantOfShape", ["n"], ["h0"], value=tensor(np.zeros(1, np.float32))), node("Transpose", ["R"], ["Rt"], perm=[0, 2, 1]),
        node("GRU", ["X", "W", "Rt", "", "", "h0"], ["Y"], hidden_size=H, name="first"), node("Squeeze", ["Y", "axis"], ["S"]),
        node("Dropout", ["S", "rate"], ["D"]), node("GRU", ["D", "W2", "Rt"], ["Y2"], hidden_size=H, name="second"),
    ]  # fmt: skip
    arrays |= {"axis": np.array([1]), "rate": np.float32(0.25), "W2": data(2, 1, 3 * H, H)}
    made.append(model_of(nodes, arrays, [("X", ["T", "B", I])], ["Y2"]))
    inner = onnx.helper.make_graph(nodes[1:3], "inner", [], [onnx.helper.make_tensor_value_info("Y", 1, None)])
    other = onnx.helper.make_graph([node("Identity", ["W"], ["Y"])], "other", [], inner.output)
    branch = node("If", ["yes"], ["Y"], then_branch=inner, else_branch=other)
    nodes, arrays = [nodes[0], branch], {name: arrays[name] for name in ("W", "R", "n")} | {"yes": np.array(True)}
    made.append(model_of(nodes, arrays, [("X", ["T", "B", I])], ["Y"]))
    return [model.SerializeToString() for model in made]


def in_fields(*models):
    """The same model with one to three fields anywhere in it changed: it still parses, so that what lies behind is reached."""
    import onnx

    change = st.tuples(NUMBER, st.sampled_from(["value", "value", "gone"]), NUMBER)

    def changed(content, changes):
        model = onnx.load_model_from_string(content)
        for place, how, number in changes:
            inside = [*fields(model)]
            change_field(*inside[place % len(inside)], how, number)
        return model.SerializeToString()

    return st.tuples(st.sampled_from(models), st.lists(change, min_size=1, max_size=3)).map(
        lambda drawn: changed(*drawn)
    )


def fields(message):
    """``(message, field, place in it or None)`` of all that is set, at any depth."""
    for field, value in message.ListFields():
        if field.name == "raw_data":
            continue
        many = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        for at in range(len(value)) if many else [None]:
            yield message, field, at
        if field.message_type is not None:
            for inner in value if many else [value]:
                yield from fields(inner)


NAMES = [
    "", "X", "W", "Y", "h0", "first", "Expand", "Tile", "Range", "Identity", "GRU", "LSTM", "reverse", "direction",
]  # fmt: skip
POOL = {
    int: [-1, 0, 1, 2, 3, 3, 3, 7, 2**31 - 1, 2**40, 2**62],
    float: [float("nan"), float("inf"), -1.0, 1e38],
    str: NAMES,
    bytes: [b"\xff\xfe", b""],
}


def change_field(message, field, at, how, number):
    """One field, or the one at this place of a repeated one, has another value, or is gone."""
    value = getattr(message, field.name)
    choices = POOL.get(type(value if at is None else value[at]))
    try:
        if how == "value" and choices and at is None:
            setattr(message, field.name, choices[number % len(choices)])
        elif how == "value" and choices:
            value[at] = choices[number % len(choices)]
        elif at is None:
            message.ClearField(field.name)
        else:
            del value[at]
    except (ValueError, TypeError):  # out of the range of its type
        message.ClearField(field.name)


@pytest.mark.parametrize("harm", [in_bytes, in_fields])
@counts(FEW, MANY)
def test_harmed_onnx(harm, count, tmp_path):
    read, models = rj.interop.from_onnx, onnx_models()
    assert [outcome(read, model, folder=tmp_path, errors=(ValueError,)) for model in models] == ["read"] * len(models)
    seen = tried(harm(*models), read, count, folder=tmp_path, errors=(ValueError,))
    assert 0.02 < seen["refused"] / count < 0.99


def hostile(name):
    """A few hundred bytes that ask for 64 GiB, or for ever."""
    from interop.test_onnx import model_of
    from onnx import helper, numpy_helper

    node = helper.make_node
    many, w, r = np.array([1, 2**17, 2**17]), data(0, 1, 3 * H, I), data(1, 1, 3 * H, H)
    arrays = {
        "W": w,
        "R": r,
        "many": many,
        "v": np.ones((2**13, 1), np.float32),
        "vt": np.ones((1, 2**13), np.float32),
        "o": np.float32(0),
    }
    start = {
        "constant of shape": [node("ConstantOfShape", ["many"], ["h0"])],
        "expand": [node("Expand", ["o", "many"], ["h0"])],
        "tile": [node("Tile", ["W", "many"], ["h0"])],
        "range": [node("Range", ["o", "end", "one"], ["h0"])],
        "outer product": [node("MatMul", ["v", "vt"], ["h0"])],
        "broadcast": [node("Add", ["v", "vt"], ["h0"])],
        "one hot": [node("OneHot", ["many", "depth", "pair"], ["h0"])],
        "growing": [node("Concat", [f"g{k}", f"g{k}"], [f"g{k + 1}"], axis=0) for k in range(40)] + [node("Identity", ["g40"], ["h0"])],
        "twice": [node("Add", [f"x{k}", f"x{k}"], [f"x{k + 1}"]) for k in range(80)] + [node("Add", ["x80", "X"], ["h0"])],
        "circle": [node("Add", ["h1", "W"], ["h0"]), node("Add", ["h0", "W"], ["h1"])],
        "chain": [node("Identity", [f"g{k}"], [f"g{k + 1}"]) for k in range(5000)] + [node("Identity", ["g5000"], ["h0"])],
        "said shape": [node("Shape", ["huge"], ["s"]), node("ConstantOfShape", ["s"], ["h0"])],
        "loop": [node("Loop", ["end", ""], ["h0"], body=helper.make_graph([], "b", [], []))],
    }[name]  # fmt: skip
    arrays |= {
        "end": np.float32(2**34),
        "one": np.float32(1),
        "depth": np.array(2**34),
        "pair": np.array([0.0, 1.0]),
        "g0": np.ones((2, 4)),
    }
    nodes = [*start, node("GRU", ["X", "W", "R", "", "", "h0"], ["Y"], hidden_size=H)]
    model = model_of(nodes, arrays, [("X", ["T", "B", I]), ("huge", [2**20, 2**20]), ("x0", [1])], ["Y"])
    if name == "said shape":
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "unused"))
    return model.SerializeToString()


MADE = [
    "constant of shape", "expand", "tile", "range", "outer product", "broadcast", "one hot", "growing", "twice", "circle", "chain",
    "said shape", "loop",
]  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_file_of_kilobytes_makes_nothing_large_and_ends(name, tmp_path):
    pytest.importorskip("onnx")
    content = hostile(name)
    assert len(content) < 4e5
    with watched(tmp_path):
        try:
            layer, _ = rj.interop.from_onnx(content)  # a start that is not constant is told, and passed at the call
            assert layer == rj.RNN(rj.GRU(H, reset_after=False, use_bias=False))
        except ValueError as error:
            assert type(error) is ValueError and str(error).startswith("from_onnx: ")


def test_a_tensor_that_says_more_than_it_holds(tmp_path):
    onnx = pytest.importorskip("onnx")
    from interop.test_onnx import operator

    for dims in ([2**20, 2**16], [-1], [2**62, 4]):
        model = operator("GRU")
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        assert (
            outcome(rj.interop.from_onnx, model.SerializeToString(), folder=tmp_path, errors=(ValueError,)) == "refused"
        )
    model = operator("GRU", bias=False)
    model.graph.node[0].input.append("two\nlines")
    with pytest.raises(
        ValueError, match=r"^from_onnx: GRU node 'rec': B \(two lines\) is not a constant of the graph$"
    ):
        rj.interop.from_onnx(model)
    model = operator("GRU")
    model.graph.node[0].attribute.add(name="direction", type=onnx.AttributeProto.STRING, s=b"\xff\xfe")
    with pytest.raises(
        ValueError, match=r"from_onnx: the attributes of GRU node 'rec' cannot be read: UnicodeDecodeError"
    ):
        rj.interop.from_onnx(model)


def test_tensors_in_other_files_are_read_from_the_models_folder_alone(tmp_path):
    onnx = pytest.importorskip("onnx")
    from interop.test_onnx import operator

    model = operator("LSTM")
    expected = rj.interop.from_onnx(model)[1]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    got = rj.interop.from_onnx(path)[1]
    assert all((got[name] == expected[name]).all() for name in expected)
    with pytest.raises(ValueError, match=r"the tensor 'W' cannot be read: .*it lies in another file; give the path"):
        rj.interop.from_onnx(path.read_bytes())
    weights = tmp_path / "in" / "weights.bin"
    (tmp_path / "weights.bin").write_bytes(weights.read_bytes())
    for location, length in [
        ("../weights.bin", None),
        (str(tmp_path / "weights.bin"), None),
        ("link", None),
        ("none", None),
        ("weights.bin", 2**40),
    ]:
        (tmp_path / "in" / "link").unlink(missing_ok=True)
        (tmp_path / "in" / "link").symlink_to(tmp_path / "weights.bin")
        moved = onnx.load(path, load_external_data=False)
        for entry in moved.graph.initializer[0].external_data:
            entry.value = (
                location
                if entry.key == "location"
                else str(length)
                if entry.key == "length" and length
                else entry.value
            )
        (tmp_path / "in" / "moved.onnx").write_bytes(moved.SerializeToString())
        with watched(tmp_path / "in"), pytest.raises(ValueError, match=r"from_onnx: .*'W' must lie in"):
            rj.interop.from_onnx(tmp_path / "in" / "moved.onnx")


# -- safetensors -------------------------------------------------------------------------------------------------------


def in_header(content):
    """A safetensors file with its header changed and written anew, so that it still parses."""
    size = struct.unpack("<Q", content[:8])[0]
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    return in_json(header).map(lambda written: struct.pack("<Q", len(written)) + written + rest)


@pytest.mark.parametrize("harm", [in_bytes, in_header])
@counts(FEW, MANY)
def test_harmed_safetensors(harm, count, tmp_path):
    pytest.importorskip("safetensors")
    layer, path = rj.RNN(rj.Readout(rj.LSTM(H), 2)), tmp_path / "net.safetensors"
    params = new_params(layer)
    rj.interop.save_safetensors(path, params)

    def read(content):
        path.write_bytes(content)
        outcome(rj.interop.load_safetensors, path, params, folder=tmp_path, errors=(ValueError,))
        jax.tree.leaves(rj.interop.load_safetensors(path))  # no tree that is too deep to walk

    seen = tried(harm(path.read_bytes()), read, count, folder=tmp_path, errors=(ValueError,))
    assert 0.1 < seen["refused"] / count


# -- torch and Keras: live modules; files are never opened -------------------------------------------------------------

WILD = [None, 0, 1, -1, 2**31, 2**40, 0.5, float("nan"), "", "tanh", "sum", (), (2, 3), True, False]
EITHER = (ValueError, TypeError)


def torch_modules():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    return [
        lambda: nn.LSTM(I, H, num_layers=2, bidirectional=True, proj_size=2), lambda: nn.GRUCell(I, H),
        lambda: nn.Sequential(nn.Embedding(7, I), nn.GRU(I, H, 2, dropout=0.1), nn.Linear(H, 2), nn.Dropout(0.1)),
    ]  # fmt: skip


TORCH = (
    "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size", "nonlinearity", "padding_idx",
    "max_norm", "p",
)  # fmt: skip


WEIGHTS = st.none() | st.tuples(
    st.lists(st.integers(0, 5), max_size=3), st.sampled_from(["float32", "float64", "float16", "complex64"])
)


def torch_changed(make, place, weights, new, wild):
    """A module of which a part has other weights, or none, or other options."""
    import torch

    module = make()
    parts = [m for m in module.modules() if not isinstance(m, torch.nn.Sequential)]
    part = parts[place % len(parts)]
    found = [name for name, _ in part.named_parameters(recurse=False)]
    if found and weights:
        name, number = found[place % len(found)], (place // 7) % 5
        shape, kind = new or ([], "float32")
        changed = new and torch.nn.Parameter(torch.zeros(shape, dtype=getattr(torch, kind)))
        delattr(part, name) if not number else setattr(part, name, changed)
    else:
        found = [name for name in TORCH if hasattr(part, name)] or ["p"]
        part.__dict__[found[place % len(found)]] = wild
    return module


@counts(FEW, MANY)
def test_harmed_torch_modules(count, tmp_path):
    harm = st.tuples(st.sampled_from(torch_modules()), NUMBER, st.booleans(), WEIGHTS, st.sampled_from(WILD))
    read = lambda drawn: rj.interop.from_torch(torch_changed(*drawn))
    seen = tried(harm, read, count, folder=tmp_path, errors=EITHER)
    assert 0.1 < seen["refused"] / count < 1


KERAS = (
    "units", "activation", "recurrent_activation", "use_bias", "go_backwards", "merge_mode", "reset_after", "stateful", "mask_value",
    "rate",
    "mask_zero", "dropout", "kernel", "bias", "recurrent_kernel", "return_sequences", "cell", "forward_layer",
)  # fmt: skip


def keras_changed(parts, place, attribute, wild):
    """One of the layers or their cells has another option, or something else for a weight."""
    part = parts[place % len(parts)]
    names = [name for name in KERAS if name in vars(part)] or ["units"]
    part.__dict__[names[attribute % len(names)]] = wild


@counts(FEW, MANY)
def test_harmed_keras_layers(count, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    L = pytest.importorskip("keras").layers
    with jax.numpy_dtype_promotion("standard"):
        both = L.Bidirectional(L.LSTM(H, return_sequences=True))
        layers = [L.Input((None,)), L.Embedding(7, I, mask_zero=True), both, L.GRU(2), L.Dense(1)]
        model = pytest.importorskip("keras").Sequential(layers)
        parts = _parts(model.layers)
        saved = [dict(vars(part)) for part in parts]

        def read(drawn):
            keras_changed(parts, *drawn)
            try:
                rj.interop.from_keras(model)
            finally:
                for part, before in zip(parts, saved):
                    part.__dict__.clear()
                    part.__dict__.update(before)

        harm = st.tuples(NUMBER, NUMBER, st.sampled_from(WILD))
        seen = tried(harm, read, count, folder=tmp_path, errors=EITHER)
    assert 0.1 < seen["refused"] / count < 1


def _parts(layers):
    inner = [
        getattr(x, name) for x in layers for name in ("cell", "forward_layer", "backward_layer") if hasattr(x, name)
    ]
    return [*layers, *(inner + _parts(inner) if inner else [])]


def files(kind, tmp_path):
    """What torch and Keras themselves write: zip files with a pickle or JSON inside, and HDF5."""
    if kind == "torch":
        torch = pytest.importorskip("torch")
        torch.save(torch.nn.GRU(I, H).state_dict(), tmp_path / "model.pt")
        return [(tmp_path / "model.pt").read_bytes()]
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    with jax.numpy_dtype_promotion("standard"):
        model = keras.Sequential([keras.layers.Input((None, I)), keras.layers.GRU(2)])
        paths = [tmp_path / "model.keras", tmp_path / "model.h5"]
        for path in paths:
            model.save(path)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("kind", ["torch", "keras"])
@counts(20, 100)
def test_harmed_files_of_torch_and_keras(kind, count, tmp_path):
    """Nor is one of them opened, as a path or as bytes: refused, and what to give instead."""
    read, wholes = getattr(rj.interop, f"from_{kind}"), files(kind, tmp_path)
    harm = st.one_of(in_bytes(*wholes), in_zip(wholes[0]))
    assert tried(harm, read, count, folder=tmp_path / "none", errors=(TypeError,)) == {"refused": count}


def test_files_of_torch_and_keras_are_not_opened(tmp_path):
    """Whatever is in them: a pickle would run code when it is read."""
    from pickle import dumps

    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harmed"),))

    path = tmp_path / "model.pt"
    path.write_bytes(dumps(Harm()))
    for name, convert in (("torch", rj.interop.from_torch), ("keras", rj.interop.from_keras)):
        pytest.importorskip(name)
        for given in (path, str(path), path.read_bytes(), {"weight": jnp.ones(3)}):
            assert outcome(convert, given, folder=tmp_path / "none", errors=(TypeError,)) == "refused"
    for convert, kind in ((rj.interop.from_onnx, "onnx"), (rj.interop.load_safetensors, "safetensors")):
        pytest.importorskip(kind)
        assert outcome(convert, path, folder=tmp_path, errors=(ValueError,)) == "refused"
    assert not (tmp_path / "harmed").exists()
