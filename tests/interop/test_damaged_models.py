"""Model files and modules that are damaged or made to harm: refused in a sentence, without a crash, a large allocation or a path outside.

RNNJAX_FUZZ=100000 pytest -m slow tests/interop/test_damaged_models.py  mutates each format so many times, RNNJAX_SEED=2 otherwise.
"""

import json
import os
import resource
import struct
import time
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import H, I, data, new_params

import rnnjax as rj

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
FEW, MANY = 150, int(os.environ.get("RNNJAX_FUZZ", "500"))
ROOM = 2**30  # bytes that one conversion of a file of kilobytes may need at most
SEED = int(os.environ.get("RNNJAX_SEED", "1"))
COUNTS = [pytest.param(0, FEW, id="few"), pytest.param(SEED, MANY, marks=pytest.mark.slow, id="many")]


@contextmanager
def bounded():
    """No more than so much memory, and some seconds of the processor (which a stopped process does not use)."""
    limits, held = resource.getrlimit(resource.RLIMIT_AS), int(open("/proc/self/statm").read().split()[0]) * 4096
    began = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - began < 20


def outcome(convert, *args, kinds=(ValueError,)):
    """ "read", or "refused" by one of these errors, exactly of that class and in one line."""
    try:
        with bounded():
            convert(*args)
    except Exception as error:
        assert type(error) in kinds, (type(error), error)
        assert str(error) and "\n" not in str(error), error
        return "refused"
    return "read"


def mutated(rng, content):
    """A file with some bytes flipped, set, cut, doubled, inserted or swapped."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at, n = int(rng.integers(0, len(content) + 1)), int(rng.integers(1, 9))
        piece = bytes(content[at : at + n])
        new = [
            bytes(b ^ (1 << int(rng.integers(8))) for b in piece), bytes(rng.choice([0, 1, 127, 128, 255], len(piece)).tolist()), b"",
            2 * piece, piece + rng.bytes(n), piece[::-1], b"\xff" * 9 + b"\x01",
            struct.pack("<q", int(rng.choice([-1, 2**31, 2**40, 2**62]))),
        ][rng.integers(8)]  # fmt: skip
        content[at : at + n] = new
    return bytes(content[: int(rng.integers(0, len(content)))] if rng.random() < 0.05 else content)


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


def changed(rng, content):
    """The same model with one to three fields anywhere in it changed: it still parses, so that what lies behind is reached."""
    import onnx

    model = onnx.load_model_from_string(content)
    for _ in range(rng.integers(1, 4)):
        message = model
        while True:
            fields = [pair for pair in message.ListFields() if pair[0].name != "raw_data"]
            if not fields:
                break
            field, value = fields[rng.integers(len(fields))]
            inside = field.message_type is not None
            many = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
            if inside and (rng.random() < 0.85 or not many):
                message = value[rng.integers(len(value))] if many else value
                continue
            _change(rng, message, field, value, many, inside)
            break
    return model.SerializeToString()


def _change(rng, message, field, value, many, inside):
    names = [
        "",
        "X",
        "W",
        "Y",
        "h0",
        "first",
        "Expand",
        "Tile",
        "Range",
        "Identity",
        "GRU",
        "LSTM",
        "reverse",
        "direction",
    ]
    pool = {
        int: [-1, 0, 1, 2, 7, 2**31 - 1, 2**40, 2**62],
        float: [float("nan"), float("inf"), -1.0, 1e38],
        str: names,
        bytes: [b"\xff\xfe", b""],
    }
    if many:
        at = int(rng.integers(len(value)))
        if inside or rng.random() < 0.4:
            del value[at]
        else:
            value[at] = _other(rng, pool, value[at])
        return
    try:
        setattr(message, field.name, _other(rng, pool, value))
    except (ValueError, TypeError):  # out of the range of its type
        message.ClearField(field.name)


def _other(rng, pool, value):
    choices = pool.get(type(value), [value])
    chosen = choices[rng.integers(len(choices))]
    return chosen if not isinstance(value, int) or abs(chosen) < 2**31 or rng.random() < 0.5 else 3


@pytest.mark.parametrize("how", [mutated, changed])
@pytest.mark.parametrize(("seed", "count"), COUNTS)
def test_onnx(how, seed, count):
    models, rng = onnx_models(), np.random.default_rng(seed)
    assert [outcome(rj.interop.from_onnx, model) for model in models] == ["read"] * len(models)
    seen = [outcome(rj.interop.from_onnx, how(rng, models[rng.integers(len(models))])) for _ in range(count)]
    assert 0.02 < seen.count("refused") / count < 0.99


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


NAMES = [
    "constant of shape", "expand", "tile", "range", "outer product", "broadcast", "one hot", "growing", "twice", "circle", "chain",
    "said shape", "loop",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_kilobytes_makes_nothing_large_and_ends(name):
    pytest.importorskip("onnx")
    content = hostile(name)
    assert len(content) < 4e5
    with bounded():
        try:
            layer, _ = rj.interop.from_onnx(content)  # a start that is not constant is told, and passed at the call
            assert layer == rj.RNN(rj.GRU(H, reset_after=False, use_bias=False))
        except ValueError as error:
            assert type(error) is ValueError and str(error).startswith("from_onnx: ")


def test_a_tensor_that_says_more_than_it_holds():
    onnx = pytest.importorskip("onnx")
    from interop.test_onnx import operator

    for dims in ([2**20, 2**16], [-1], [2**62, 4]):
        model = operator("GRU")
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        assert outcome(rj.interop.from_onnx, model.SerializeToString()) == "refused"
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
        with bounded(), pytest.raises(ValueError, match=r"from_onnx: .*'W' must lie in"):
            rj.interop.from_onnx(tmp_path / "in" / "moved.onnx")


# -- safetensors -------------------------------------------------------------------------------------------------------


def header_changed(rng, content):
    """A safetensors file with its header changed and written anew, so that it still parses."""
    size = struct.unpack("<Q", content[:8])[0]
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    name = list(header)[rng.integers(len(header))]
    entry = header[name]
    choice = int(rng.integers(6))
    if choice == 0:
        header[str(rng.choice(["a", "a.b", "a.b.c", "..", "", "/etc/x", "two\nlines", ".".join("a" * 3000)]))] = (
            header.pop(name)
        )
    elif choice == 1:
        entry["dtype"] = str(rng.choice(["F32", "F8_E4M3", "I64", "BOOL", "U8", "BF16", "F4", "C64", "F64", "none"]))
    elif choice == 2:
        entry["shape"] = [int(n) for n in rng.choice([0, 1, 3, 16, 2**31, 2**40, -1], int(rng.integers(0, 4)))]
    elif choice == 3:
        entry["data_offsets"] = [int(n) for n in rng.choice([0, 4, 64, 2**40, 2**63 - 1], 2)]
    elif choice == 4:
        header[name] = [None, 3, "x", [], {}][rng.integers(5)]
    else:
        header["__metadata__"] = [{"a": 1}, None, {"a": "b"}, []][rng.integers(4)]
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + rest


@pytest.mark.parametrize("how", [mutated, header_changed])
@pytest.mark.parametrize(("seed", "count"), COUNTS)
def test_safetensors(tmp_path, how, seed, count):
    pytest.importorskip("safetensors")
    layer, path, rng = rj.RNN(rj.Readout(rj.LSTM(H), 2)), tmp_path / "net.safetensors", np.random.default_rng(seed)
    params = new_params(layer)
    rj.interop.save_safetensors(path, params)
    content, seen = path.read_bytes(), []
    for _ in range(count):
        path.write_bytes(how(rng, content))
        seen.append(outcome(rj.interop.load_safetensors, path))
        if seen[-1] == "read":
            jax.tree.leaves(rj.interop.load_safetensors(path))  # no tree that is too deep to walk
        outcome(rj.interop.load_safetensors, path, params)
    assert 0.1 < seen.count("refused") / count


# -- torch and Keras: live modules; files are never opened ----------------------------------------------------------------

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


def torch_changed(rng, module):
    import torch

    parts = [m for m in module.modules() if not isinstance(m, torch.nn.Sequential)]
    part = parts[rng.integers(len(parts))]
    weights = [name for name, _ in part.named_parameters(recurse=False)]
    if weights and rng.random() < 0.5:
        name = weights[rng.integers(len(weights))]
        shape = [int(n) for n in rng.integers(0, 6, int(rng.integers(0, 4)))]
        kind = [torch.float32, torch.float64, torch.float16, torch.complex64][rng.integers(4)]
        new = torch.nn.Parameter(torch.zeros(shape, dtype=kind)) if rng.random() < 0.8 else None
        delattr(part, name) if rng.random() < 0.2 else setattr(part, name, new)
    else:
        names = [name for name in TORCH if hasattr(part, name)] or ["p"]
        part.__dict__[names[rng.integers(len(names))]] = WILD[rng.integers(len(WILD))]
    return module


@pytest.mark.parametrize(("seed", "count"), COUNTS)
def test_torch_modules(seed, count):
    makers, rng = torch_modules(), np.random.default_rng(seed)
    seen = [
        outcome(rj.interop.from_torch, torch_changed(rng, makers[rng.integers(len(makers))]()), kinds=EITHER)
        for _ in range(count)
    ]
    assert 0.1 < seen.count("refused") / count < 1


KERAS = (
    "units", "activation", "recurrent_activation", "use_bias", "go_backwards", "merge_mode", "reset_after", "stateful", "mask_value",
    "rate",
    "mask_zero", "dropout", "kernel", "bias", "recurrent_kernel", "return_sequences", "cell", "forward_layer",
)  # fmt: skip


def keras_changed(rng, layers):
    found = list(layers)
    for layer in layers:
        found += [getattr(layer, name) for name in ("cell", "forward_layer", "backward_layer") if hasattr(layer, name)]
    part = found[rng.integers(len(found))]
    names = [name for name in KERAS if name in vars(part)] or ["units"]
    value = WILD[rng.integers(len(WILD))]
    part.__dict__[names[rng.integers(len(names))]] = value


@pytest.mark.parametrize(("seed", "count"), COUNTS)
def test_keras_layers(seed, count):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    L, rng, seen = keras.layers, np.random.default_rng(seed), []
    with jax.numpy_dtype_promotion("standard"):
        model = keras.Sequential(
            [
                L.Input((None,)),
                L.Embedding(7, I, mask_zero=True),
                L.Bidirectional(L.LSTM(H, return_sequences=True)),
                L.GRU(2),
                L.Dense(1),
            ]
        )
        saved = [(part, dict(vars(part))) for part in _parts(model.layers)]
        for _ in range(count):
            keras_changed(rng, model.layers)
            seen.append(outcome(rj.interop.from_keras, model, kinds=EITHER))
            for part, before in saved:
                part.__dict__.clear()
                part.__dict__.update(before)
    assert 0.1 < seen.count("refused") / len(seen) < 1


def _parts(layers):
    inner = [
        getattr(x, name) for x in layers for name in ("cell", "forward_layer", "backward_layer") if hasattr(x, name)
    ]
    return [*layers, *(inner + _parts(inner) if inner else [])]


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
            assert outcome(convert, given, kinds=(TypeError,)) == "refused"
    for convert, kind in ((rj.interop.from_onnx, "onnx"), (rj.interop.load_safetensors, "safetensors")):
        pytest.importorskip(kind)
        assert outcome(convert, path) == "refused"
    assert not (tmp_path / "harmed").exists()
