"""Exported artefacts: any batch and time, every platform, and a process that cannot import rnnjax."""

import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harm import counts, in_bytes, tried
from interop.compare import H, I, close, data, new_params

import rnnjax as rj
from rnnjax.wrappers.learned_carry import as_dicts

STACK = rj.Sequential(rj.Bidirectional(rj.LSTM(H)), rj.RNN(rj.Readout(rj.LearnedCarry(rj.GRU(H)), 2)))

RUN = """
    import sys
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("rnnjax", "flax", "torch"):
                raise ImportError(name)
    sys.meta_path.insert(0, Refuse())
    import jax, numpy as np
    try:
        import rnnjax
        raise SystemExit("rnnjax could be imported")
    except ImportError:
        pass
    folder = sys.argv[1]
    load = lambda name: jax.export.deserialize(bytearray(open(f"{folder}/{name}.jaxexport", "rb").read()))
    sequence, step, start = load("sequence"), load("step"), load("start")
    xs, lengths = np.load(f"{folder}/xs.npy"), np.load(f"{folder}/lengths.npy")
    carry, ys = sequence.call(xs, lengths)
    now, outs = start.call(xs[0]), []
    for x in xs:
        now, y = step.call(now, x)
        outs.append(y)
    np.savez(f"{folder}/out.npz", ys=ys, h=carry["h"], c=carry["c"], steps=np.stack(outs), step_c=now["c"])
"""


def test_a_fresh_process_without_rnnjax(tmp_path):
    layer = rj.RNN(rj.LSTM(H, peephole=True))
    params = new_params(layer)
    rj.interop.export(layer, params, jnp.zeros((1, I)), lengths=True).save(tmp_path)
    xs, lengths = data(0, 9, 5, I), np.array([9, 0, 3, 1, 8], np.int32)
    np.save(tmp_path / "xs.npy", xs)
    np.save(tmp_path / "lengths.npy", lengths)
    command = [sys.executable, "-I", "-c", textwrap.dedent(RUN), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={"JAX_PLATFORMS": "cpu", "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    got = np.load(tmp_path / "out.npz")
    carry, ys = layer(params, xs, lengths=lengths)
    close([got["ys"], got["h"], got["c"]], [ys, carry.h, carry.c])
    whole, ys = layer(params, xs)
    close([got["steps"], got["step_c"]], [ys, whole.c])


def test_stacks_with_any_shapes_for_every_platform(tmp_path):
    params = new_params(STACK)
    exported = rj.interop.export(STACK, params, jax.ShapeDtypeStruct((3, 2, I), jnp.float32), time_axis=1)
    assert exported.sequence.platforms == exported.step.platforms == ("cpu", "cuda", "tpu")
    assert "stablehlo" in exported.sequence.mlir_module()
    exported.save(tmp_path)
    loaded = rj.interop.load_exported(tmp_path)
    for shape in [(2, 6, 1, I), (1, 1, 4, I)]:
        xs = jnp.asarray(data(0, *shape))
        carry, ys = loaded.sequence.call(xs)
        expected, expected_ys = STACK(params, xs, time_axis=1)
        close([ys, carry], [expected_ys, as_dicts(expected)])
    assert carry["layer_0"]["backward"]["c"].shape == (1, 4, H)
    assert loaded.start.call(xs[:, 0])["layer_1"].shape == (1, 4, H)
    content = bytearray((tmp_path / "step.jaxexport").read_bytes())
    content[-100] ^= 1
    (tmp_path / "step.jaxexport").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"step.jaxexport is not a whole jax.export artefact: its SHA-256 is not the one"
    ):
        rj.interop.load_exported(tmp_path)


def test_params_of_other_dtypes_and_images():
    layer = rj.RNN(rj.ConvLSTM(2, kernel=(3,), dims=1, peephole=False))
    x = jax.ShapeDtypeStruct((1, 4, 3), jnp.bfloat16)
    params = layer.init(jax.random.key(0), x)
    exported = rj.interop.export(layer, params, x, ["cpu"])
    xs = jnp.asarray(data(0, 3, 2, 4, 3), jnp.bfloat16)
    ys = exported.sequence.call(xs)[1]
    assert ys.dtype == jnp.bfloat16
    close(ys, layer(params, xs)[1], 1e-2)


def test_messages(tmp_path):
    layer = rj.RNN(rj.GRU(H))
    with pytest.raises(ValueError, match=r"export: platforms must be of cpu, cuda, tpu, rocm, got \['gpu'\]"):
        rj.interop.export(layer, new_params(layer), jnp.zeros(I), ["gpu"])
    with pytest.raises(TypeError, match=r"export: takes a cell or a layer of rnnjax, got sum"):
        rj.interop.export(sum, {}, jnp.zeros(I))
    with pytest.raises(ValueError, match=r"has no sequence.jaxexport; write it with export"):
        rj.interop.load_exported(tmp_path)
    (tmp_path / "sequence.jaxexport").write_bytes(b"not an artefact")
    with pytest.raises(ValueError, match=r"sequence.jaxexport is not a whole jax.export artefact"):
        rj.interop.load_exported(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The smallest artefacts there are."""
    folder, cell = tmp_path_factory.mktemp("saved"), rj.Elman(1, use_bias=False)
    rj.interop.export(cell, new_params(cell), jnp.zeros((1, I)), platforms=("cpu",)).save(folder)
    return folder


@pytest.mark.slow
def test_the_digests_are_those_of_sha256sum(saved):
    done = subprocess.run(["sha256sum", "--strict", "-c", "sha256.txt"], cwd=saved, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK\n") == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sequence.jaxexport", "sha256.txt"])
@counts(10, 200)
def test_harmed(saved, name, count, tmp_path):
    """A part that is not what was written is not even parsed, were it only a weight that differs."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    whole, same = (tmp_path / name).read_bytes(), []

    def read(content):
        (tmp_path / name).write_bytes(content)
        rj.interop.load_exported(tmp_path)
        same.append(set(content.splitlines()) >= set(whole.splitlines()))

    read(whole)
    seen = tried(in_bytes(whole), read, count, folder=tmp_path, errors=(ValueError,))
    assert all(same) and seen["refused"] > 0.8 * count


@pytest.mark.slow
@counts(10, 200)
def test_harmed_without_digests(saved, count, tmp_path):
    """As earlier versions wrote them: what can be read, or a sentence."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sha256.txt").unlink()

    def read(content):
        (tmp_path / "step.jaxexport").write_bytes(content)
        rj.interop.load_exported(tmp_path)

    tried(in_bytes((tmp_path / "step.jaxexport").read_bytes()), read, count, folder=tmp_path, errors=(ValueError,))
