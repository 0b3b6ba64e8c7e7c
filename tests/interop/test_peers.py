"""What docs/interop.md says about bugs of other libraries: each still seen, each right here. A failure means: mended there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop.compare import B, H, I, T, close, data
from jax.experimental import rnn as packed_rnn

import rnnjax as rj

pytestmark = pytest.mark.peer
XS = jnp.asarray(data(0, B, T, I))


def test_packed_lstm_of_length_zero():
    weights = packed_rnn.init_lstm_weight(jax.random.key(0), I, H, 1, False)
    start, lengths = jnp.zeros((1, B, H)), jnp.array([0, 2, T])
    parts = packed_rnn.unpack_lstm_weights(weights, I, H, 1, False)
    _, theirs, _ = packed_rnn.lstm_ref(XS, start, start, *parts, lengths, I, H, 1, 0.0, False)
    layer, params = rj.interop.from_packed(weights, I, H, 1, False)
    ours = layer(params, XS, time_axis=1, lengths=lengths)[0].h
    close(ours[1:], theirs[0, 1:])
    assert np.all(np.asarray(ours[0]) == 0) and np.abs(theirs[0, 0]).max() > 0.01


def test_nnx_gru_lacks_a_bias():
    import flax.linen as nn

    theirs = nnx.GRUCell(I, H, rngs=nnx.Rngs(0))
    biases = [path for path, _ in nnx.to_flat_state(nnx.state(theirs)) if path[-1] == "bias"]
    linen = nn.GRUCell(H).init(jax.random.key(0), jnp.zeros((B, H)), XS[:, 0])["params"]
    assert biases == [("dense_i", "bias")] and "bias" in linen["hn"]
    assert "recurrent_bias" not in rj.interop.from_nnx(theirs)[1]


def test_no_bfloat16_start():
    import flax.linen as nn

    x = jnp.ones((B, I), jnp.bfloat16)
    with pytest.raises(Exception, match="bfloat16"):
        nn.GRUCell(H, param_dtype=jnp.bfloat16).init(jax.random.key(0), jnp.zeros((B, H), jnp.bfloat16), x)
    params = rj.GRU(H).init(jax.random.key(0), x)
    u = np.asarray(params["recurrent"][:, :H], "float32")
    np.testing.assert_allclose(u @ u.T, np.eye(H), atol=0.03)


def test_nnx_rnn_mutates_its_rngs():
    module = nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))
    with pytest.raises(Exception, match="Cannot mutate RngCount"):
        nnx.grad(lambda xs: module(xs).sum())(XS)
    layer, params = rj.interop.from_nnx(module)
    assert np.abs(jax.grad(lambda xs: layer(params, xs, time_axis=1)[1].sum())(XS)).max() > 0


def test_onnx_reference_ignores_attributes():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from interop.test_onnx import operator, reference, runtime

    xs, lengths = data(0, T, B, I), np.array([1, 2, T], np.int32)
    hard = {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]}
    for kind, attributes in [("LSTM", {"clip": 0.1}), ("LSTM", {"input_forget": 1}), ("GRU", hard)]:
        model = operator(kind, **attributes)
        assert np.abs(reference(model, X=xs)[0] - runtime(model, X=xs)[0]).max() > 0.01
    model = operator("GRU", lengths=True)
    assert np.abs(reference(model, X=xs, lengths=lengths)[0][-1, 0, 0]).max() > 0
    assert np.abs(runtime(model, X=xs, lengths=lengths)[0][-1, 0, 0]).max() == 0
