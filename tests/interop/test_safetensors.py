"""Parameters in safetensors files: round trips, another reader, and every way a file can be wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, new_params, same

import rnnjax as rj

safetensors = pytest.importorskip("safetensors")
pytestmark = pytest.mark.peer
LAYER = rj.Sequential(rj.Bidirectional(rj.LSTM(H)), rj.RNN(rj.LearnedCarry(rj.GRU(H))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip_and_what_another_reader_sees(tmp_path, dtype):
    from safetensors.flax import load_file

    params = jax.tree.map(lambda a: a.astype(dtype), new_params(LAYER))
    path = tmp_path / "net.safetensors"
    rj.interop.save_safetensors(path, params, {"cell": repr(LAYER)})
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)
    same(rj.interop.load_safetensors(path, like), params)
    same(rj.interop.load_safetensors(path), params)
    seen = load_file(path)
    assert "layer_0.forward.input" in seen and "layer_1.carry" in seen
    np.testing.assert_array_equal(seen["layer_0.backward.bias"], params["layer_0"]["backward"]["bias"])


def test_every_difference_is_named(tmp_path):
    path = tmp_path / "net.safetensors"
    params = new_params(rj.LSTM(H))
    half = params["input"].astype(jnp.bfloat16)
    rj.interop.save_safetensors(path, params | {"bias": params["bias"][1:], "extra": params["bias"], "input": half})
    like = jax.eval_shape(rj.LSTM(H, projection=2).init, jax.random.key(0), jax.ShapeDtypeStruct((B, I), jnp.float32))
    with pytest.raises(ValueError) as error:
        rj.interop.load_safetensors(path, like)
    for part in (
        "net.safetensors does not fit", "projection is missing (expected float32 [4, 2])", "extra is extra (got float32 [16])",
        "bias: expected float32 [16], got float32 [15]", "input: expected float32 [3, 16], got bfloat16 [3, 16]",
        "recurrent: expected float32 [2, 16], got float32 [4, 16]",
    ):  # fmt: skip
        assert part in str(error.value)


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_file_cut_short_or_of_another_kind(tmp_path, keep):
    path = tmp_path / "net.safetensors"
    rj.interop.save_safetensors(path, new_params(rj.GRU(H)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"net.safetensors is not a whole safetensors file"):
        rj.interop.load_safetensors(path)


def test_other_messages(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError):
        rj.interop.load_safetensors(path)
    with pytest.raises(ValueError, match=r"names must be strings without dots, got 'a.b'"):
        rj.interop.save_safetensors(path, {"a.b": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"layer.w must be an array, got float"):
        rj.interop.save_safetensors(path, {"layer": {"w": 1.0}})
    with pytest.raises(TypeError, match=r"params must be a nested dict of arrays, got list"):
        rj.interop.save_safetensors(path, [jnp.ones(2)])
    with pytest.raises(ValueError, match=r"params hold no array"):
        rj.interop.save_safetensors(path, {})
    with jax.enable_x64(True):
        rj.interop.save_safetensors(path, {"w": jnp.ones(2, jnp.float64)})
        assert rj.interop.load_safetensors(path)["w"].dtype == jnp.float64
    with pytest.raises(ValueError, match=r"w is float64, which JAX would round to float32"):
        rj.interop.load_safetensors(path)
