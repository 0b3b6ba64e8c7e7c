"""``rnnjax export``: the files are run or read by the programs they are for, and give the numbers of the run."""

import contextlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli.command import fails

import rnnjax as rj
from rnnjax.cli import main
from rnnjax.cli.load import load

TEXT = "the cat sat on the mat. the dog sat on the log. a bird sang in the tree! " * 30
ROWS = "\n".join(["a,b", *[f"{np.sin(t / 3):.4f},{t % 7}" for t in range(200)]])
SMALL = ["--hidden", "8", "--batch", "4", "--time", "8", "--steps", "4", "--validate-every", "2", "--devices", "1"]


def train(folder, name, content, *more):
    path = folder / name
    path.write_text(content)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", "--data", str(path), "--out", str(folder / "run"), *SMALL, *more]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("text"), "cat.txt", TEXT)


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    return train(
        tmp_path_factory.mktemp("table"), "wave.csv", ROWS, "--cell", "gru", "--layers", "2", "--dropout", "0.1"
    )


def inputs_of(loaded, time, batch):
    """Of a run some inputs as the file takes them, and as its cell does, written out here."""
    rng = np.random.default_rng(0)
    if "symbols" in loaded.memory:
        count = len(loaded.memory["symbols"])
        tokens = rng.integers(0, count, (time, batch))
        return tokens, jnp.asarray(np.eye(count, dtype=np.float32)[tokens] * np.sqrt(count), jnp.float32)
    xs = rng.normal(size=(time, batch, loaded.memory["inputs"])).astype("float32")
    return xs, xs


RUNS = ["text_run", pytest.param("table_run", marks=pytest.mark.slow)]


@pytest.mark.peer
@pytest.mark.parametrize("run", RUNS)
def test_onnxruntime_runs_the_model(run, request, capsys):
    folder, ort = request.getfixturevalue(run), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Written to {folder / 'model.onnx'}: xs ['time', 'batch'") and said.count("\n") == 1
    loaded, session = load(folder), ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    given, seen = inputs_of(loaded, 6, 3)
    ys, *last = session.run(None, {"xs": given})
    carry, expected = rj.unroll(loaded.cell, loaded.params, seen)
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-5)
    for got, wanted in zip(last, jax.tree.leaves(carry), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["rnnjax.memory"]) == json.loads(json.dumps(loaded.memory))

    path = folder.parent / "pieces.onnx"  # one piece after another, by states handed on
    assert main(["export", str(folder), "--to", "onnx", "--carry", "--out", str(path)]) == 0
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()][1:]
    states = [np.zeros((3, 8), np.float32) for _ in names]
    for piece in (given[:4], given[4:]):
        ys, *states = session.run(None, {"xs": piece, **dict(zip(names, states, strict=True))})
    np.testing.assert_allclose(ys, expected[4:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", RUNS)
def test_the_stablehlo_artefact_runs_without_the_network(run, request, capsys):
    folder = request.getfixturevalue(run)
    pytest.importorskip("flatbuffers")
    assert main(["export", str(folder), "--to", "stablehlo"]) == 0
    assert "for cpu, cuda, tpu" in capsys.readouterr().out
    loaded = load(folder)
    given, seen = inputs_of(loaded, 6, 3)
    given = jnp.asarray(given, jnp.int32) if given.ndim == 2 else given
    parts = {
        n: jax.export.deserialize(bytearray((folder / "stablehlo" / f"{n}.jaxexport").read_bytes()))
        for n in ("sequence", "step", "start")
    }
    expected = rj.unroll(loaded.cell, loaded.params, seen)[1]
    np.testing.assert_allclose(parts["sequence"].call(given)[1], expected, rtol=1e-4, atol=1e-5)
    carry = parts["start"].call(given[0])
    np.testing.assert_allclose(parts["step"].call(carry, given[0])[1], expected[0], rtol=1e-4, atol=1e-5)
    assert (folder / "stablehlo" / "sequence.stablehlo").read_bytes()[:4] == b"ML\xefR"  # MLIR's bytecode
    about = json.loads((folder / "stablehlo" / "about.json").read_text())
    assert about["rnnjax.cell"] == repr(loaded.cell)


@pytest.mark.peer
def test_safetensors_hold_the_parameters_by_name(text_run):
    safetensors = pytest.importorskip("safetensors")
    assert main(["export", str(text_run), "--to", "safetensors"]) == 0
    loaded, path = load(text_run), text_run / "model.safetensors"
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["rnnjax.cell"] == repr(loaded.cell)
        np.testing.assert_array_equal(file.get_tensor("cell.recurrent"), loaded.params["cell"]["recurrent"])
    back = rj.interop.load_safetensors(path, loaded.params)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), back, loaded.params)))


def test_a_run_with_exports_in_its_folder_can_be_replaced(text_run):
    from rnnjax.cli.export import FORMATS
    from rnnjax.cli.folder import OURS

    assert set(FORMATS.values()) <= OURS


def test_bad_input(text_run, tmp_path, capsys, monkeypatch):
    before = sorted(p.name for p in text_run.iterdir())
    assert "holds no run" in fails(capsys, "export", tmp_path, "--to", "onnx")
    assert "invalid choice: 'onxn'" in fails(capsys, "export", text_run, "--to", "onxn")
    assert "required: --to" in fails(capsys, "export", text_run)
    assert "--carry is for --to onnx" in fails(capsys, "export", text_run, "--to", "stablehlo", "--carry")
    (tmp_path / "file").write_text("")
    assert "is a file" in fails(capsys, "export", text_run, "--to", "stablehlo", "--out", tmp_path / "file")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert "pip install 'rnnjax[interop]'" in fails(capsys, "export", text_run, "--to", "onnx")
    monkeypatch.undo()
    assert sorted(p.name for p in text_run.iterdir()) == before


def test_a_network_that_answers_once_is_refused(text_run):
    from rnnjax.cli.errors import BadInput
    from rnnjax.cli.export import network

    with pytest.raises(BadInput, match="one answer for a whole sequence, which --to onnx and stablehlo do not write"):
        network(load(text_run)._replace(memory={"classes": ["a", "b"], "columns": ["x"]}))


@pytest.mark.peer
@pytest.mark.slow
def test_a_cell_that_onnx_lacks(tmp_path, capsys):
    pytest.importorskip("onnx")
    folder = train(tmp_path, "cat.txt", TEXT, "--cell", "mgu")
    sentence = fails(capsys, "export", folder, "--to", "onnx")
    assert "ONNX has no MGU(8); it has Elman" in sentence and "--to stablehlo takes every cell" in sentence
    assert not (folder / "model.onnx").exists()
    assert main(["export", str(folder), "--to", "stablehlo"]) == 0
