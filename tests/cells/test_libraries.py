"""Cells against the libraries that have them: values, last carries and gradients, weights copied across by hand."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from cells.oracle import blocks, random_params

import rnnjax as rj

T, B, I, H = 5, 2, 3, 4
XS = np.random.default_rng(0).normal(size=(T, B, I))
pytestmark = pytest.mark.peer


def ours(cell, params, xs=XS):
    """ys, last carry, and the gradients of ``sum(sin(ys)) + sum(carry)`` for params and xs, in float64."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params, xs):
        def loss(params, xs):
            carry, ys = rj.unroll(cell, params, xs)
            return jax.numpy.sin(ys).sum() + sum(a.sum() for a in jax.tree.leaves(carry)), (carry, ys)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    grads, (carry, ys) = jax.device_get(run(params, xs))
    return ys, carry, *grads


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "cell, name, options",
    [
        (rj.Elman(H), "RNN", {}),
        (rj.Elman(H, activation="relu"), "RNN", {"nonlinearity": "relu"}),
        (rj.LSTM(H), "LSTM", {}),
        (rj.LSTM(H, projection=2), "LSTM", {"proj_size": 2}),
        (rj.GRU(H), "GRU", {}),
    ],
    ids=repr,
)
def test_torch_has_the_same_values_and_gradients(cell, name, options, float64):
    torch = pytest.importorskip("torch")
    params = random_params(cell, (I,))
    module = getattr(torch.nn, name)(I, H, **options).double()
    gates = params["bias"].size // H
    hidden_bias = np.zeros(gates * H)
    if "recurrent_bias" in params:
        hidden_bias[2 * H :] = params["recurrent_bias"]
    state = {"weight_ih_l0": params["input"].T, "weight_hh_l0": params["recurrent"].T, "bias_ih_l0": params["bias"]}
    state |= {"bias_hh_l0": hidden_bias} | ({"weight_hr_l0": params["projection"].T} if "projection" in params else {})
    module.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    xs = torch.tensor(XS, requires_grad=True)
    ys, last = module(xs)
    last = last if isinstance(last, tuple) else (last,)
    (ys.sin().sum() + sum(a.sum() for a in last)).backward()

    got_ys, got_carry, got, got_xs = ours(cell, params)
    close(got_ys, ys.detach())
    for a, b in zip(jax.tree.leaves(got_carry), last, strict=True):
        close(a, b.detach()[0])
    grads = {k: p.grad.numpy() for k, p in module.named_parameters()}
    close(got_xs, xs.grad)
    close(got["input"], grads["weight_ih_l0"].T)
    close(got["recurrent"], grads["weight_hh_l0"].T)
    close(got["bias"], grads["bias_ih_l0"])
    if "projection" in params:
        close(got["projection"], grads["weight_hr_l0"].T)
    if "recurrent_bias" in params:
        close(got["recurrent_bias"], grads["bias_hh_l0"][2 * H :])


@pytest.mark.parametrize("cell", [rj.Elman(H), rj.LSTM(H), rj.GRU(H), rj.GRU(H, reset_after=False)], ids=repr)
def test_gradients_are_finite_differences_in_both_modes(cell, float64):
    from jax.test_util import check_grads

    loss = jax.jit(lambda params, xs: jax.numpy.sin(rj.unroll(cell, params, xs, lengths=[5, 3])[1]).sum())
    check_grads(loss, (random_params(cell, (I,)), XS), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6, eps=1e-5)


def flax_run(module, params, start, xs=XS):
    carry, ys = start, []
    for x in xs:
        carry, y = module.apply({"params": params}, carry, x)
        ys.append(y)
    return carry, np.stack(ys)


def test_flax_has_the_same_lstm(float64):
    linen = pytest.importorskip("flax.linen")
    p = random_params(rj.LSTM(H), (I,))
    names = zip("ifgo", blocks(p["input"], 4), blocks(p["recurrent"], 4), blocks(p["bias"], 4))
    params = {}
    for g, w, u, b in names:
        params |= {f"i{g}": {"kernel": w}, f"h{g}": {"kernel": u, "bias": b}}
    zeros = np.zeros((B, H))
    (c, h), ys = flax_run(linen.LSTMCell(H, param_dtype=np.float64), params, (zeros, zeros))
    got_ys, carry, *_ = ours(rj.LSTM(H), p)
    close(got_ys, ys)
    close(carry.c, c)
    close(carry.h, h)


def test_flax_has_the_same_gru_with_the_reset_after(float64):
    linen = pytest.importorskip("flax.linen")
    p = random_params(rj.GRU(H), (I,))
    params = {}
    for g, w, u, b in zip("rzn", blocks(p["input"], 3), blocks(p["recurrent"], 3), blocks(p["bias"], 3)):
        params |= {f"i{g}": {"kernel": w, "bias": b}, f"h{g}": {"kernel": u}}
    params["hn"]["bias"] = p["recurrent_bias"]
    h, ys = flax_run(linen.GRUCell(H, param_dtype=np.float64), params, np.zeros((B, H)))
    got_ys, carry, *_ = ours(rj.GRU(H), p)
    close(got_ys, ys)
    close(carry, h)


def test_flax_has_the_same_mgu(float64):
    linen = pytest.importorskip("flax.linen")
    p = random_params(rj.MGU(H), (I,))
    (w_f, w_n), (u_f, u_n), (b_f, b_n) = blocks(p["input"], 2), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
    params = {
        "if": {"kernel": w_f, "bias": b_f},
        "in": {"kernel": w_n, "bias": b_n},
        "hf": {"kernel": u_f},
        "hn": {"kernel": u_n},
    }
    # flax turns the gate's sign, and resets after the product unless told otherwise: only the first step, from zero, is shared
    cell = linen.MGUCell(H, param_dtype=np.float64, forget_bias_init=linen.initializers.zeros, reset_gate=False)
    _, y = cell.apply({"params": params}, np.zeros((B, H)), XS[0])
    got_ys, *_ = ours(rj.MGU(H), p, XS[:1])
    f = 1 / (1 + np.exp(-(XS[0] @ w_f + b_f)))
    close(got_ys[0], np.asarray(y) * f / (1 - f))


@pytest.mark.parametrize("reset_after", [True, False])
def test_onnx_has_the_same_gru(reset_after, float64):
    pytest.importorskip("onnx")
    p = random_params(rj.GRU(H, reset_after=reset_after), (I,))
    turn = lambda w: np.concatenate([w[..., H : 2 * H], w[..., :H], w[..., 2 * H :]], -1)  # r z n -> z r h
    bias = np.concatenate([turn(p["bias"]), np.zeros(2 * H), p.get("recurrent_bias", np.zeros(H))])
    inputs = {"X": XS, "W": turn(p["input"]).T[None], "R": turn(p["recurrent"]).T[None], "B": bias[None]}
    ys = onnx_run("GRU", inputs, linear_before_reset=int(reset_after))
    got_ys, *_ = ours(rj.GRU(H, reset_after=reset_after), p)
    np.testing.assert_allclose(got_ys, ys, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("peephole", [True, False])
def test_onnx_has_the_same_lstm_with_peepholes(peephole, float64):
    pytest.importorskip("onnx")
    cell = rj.LSTM(H, peephole=peephole)
    p = random_params(cell, (I,))
    turn = lambda w: np.concatenate([w[..., k * H : (k + 1) * H] for k in (0, 3, 1, 2)], -1)  # i f g o -> i o f c
    bias = np.concatenate([turn(p["bias"]), np.zeros(4 * H)])
    inputs = {"X": XS, "W": turn(p["input"]).T[None], "R": turn(p["recurrent"]).T[None], "B": bias[None]}
    if peephole:
        i, f, o = p["peephole"]
        inputs["P"] = np.concatenate([i, o, f])[None]
    got_ys, *_ = ours(cell, p)
    np.testing.assert_allclose(got_ys, onnx_run("LSTM", inputs), rtol=1e-5, atol=1e-6)


def onnx_run(op, inputs, **attributes):
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    slots = ["X", "W", "R", "B", "", "", "", "P"][: 8 if "P" in inputs else 4]
    node = helper.make_node(op, slots, ["Y"], hidden_size=H, **attributes)
    graph = helper.make_graph([node], "cell", [value(n) for n in inputs], [value("Y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    return ReferenceEvaluator(model).run(None, {k: v.astype(np.float32) for k, v in inputs.items()})[0][:, 0]


def test_haiku_has_the_same_gru_with_the_reset_before(float64):
    hk = pytest.importorskip("haiku")
    p = random_params(rj.GRU(H, reset_after=False), (I,))
    turn = lambda w: np.concatenate([-w[..., H : 2 * H], w[..., :H], w[..., 2 * H :]], -1)  # haiku's z is 1 - z
    params = {"gru": {"w_i": turn(p["input"]), "w_h": turn(p["recurrent"]), "b": turn(p["bias"])}}
    step = hk.without_apply_rng(hk.transform(lambda x, h: hk.GRU(H)(x, h)))
    h, ys = np.zeros((B, H)), []
    for x in XS:
        y, h = step.apply(params, x, h)
        ys.append(y)
    got_ys, carry, *_ = ours(rj.GRU(H, reset_after=False), p)
    close(got_ys, np.stack(ys))
    close(carry, h)


# -- convolutional -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims, kernel", [(1, 3), (2, (3, 2)), (3, 2)])
def test_flax_has_the_same_convolutional_lstm_without_peepholes(dims, kernel, float64):
    linen = pytest.importorskip("flax.linen")
    cell = rj.ConvLSTM(2, dims=dims, kernel=kernel, peephole=False)
    image = (4, 3, 2)[:dims]
    p = random_params(cell, (*image, I))
    xs = np.random.default_rng(1).normal(size=(2, B, *image, I))
    size = kernel if isinstance(kernel, tuple) else (kernel,) * dims
    turn = lambda w: np.concatenate([w[..., 2 * k : 2 * k + 2] for k in (0, 2, 1, 3)], -1)  # i f g o -> i g f o
    bias = turn(p["bias"]) - np.repeat([0, 0, 1, 0], 2)  # flax adds one to the forget gate
    params = {
        "ih": {"kernel": turn(p["input"]), "bias": bias},
        "hh": {"kernel": turn(p["recurrent"]), "bias": np.zeros(8)},
    }
    zeros = np.zeros((B, *image, 2))
    module = linen.ConvLSTMCell(2, size, param_dtype=np.float64)
    (c, h), ys = flax_run(module, params, (zeros, zeros), xs)
    got_ys, carry, *_ = ours(cell, p, xs)
    close(got_ys, ys)
    close(carry.c, c)


def torch_convolve(x, w):
    """``x [*S, I] * w [*K, I, O]`` with zeros around, by torch; kernels of odd size."""
    import torch

    n = w.ndim - 2
    conv = getattr(torch.nn.functional, f"conv{n}d")
    x, w = torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)))
    return np.moveaxis(conv(x, w, padding="same").numpy(), 1, -1)


@pytest.mark.parametrize(
    "cell", [rj.ConvLSTM(2, dims=2), rj.ConvGRU(2, dims=1, kernel=5), rj.ConvGRU(2, dims=3)], ids=repr
)
def test_convolutional_cells_are_their_papers_equations_on_torch_convolutions(cell, float64):
    pytest.importorskip("torch")
    image = (4, 3, 2)[: cell.dims]
    p = random_params(cell, (*image, I))
    xs = np.random.default_rng(1).normal(size=(2, B, *image, I))
    h = c = np.zeros((B, *image, 2))
    sigmoid, ys = lambda z: 1 / (1 + np.exp(-z)), []
    for x in xs:
        conv = lambda name, k, a: torch_convolve(a, p[name][..., 2 * k : 2 * k + 2])
        gate = lambda k, a=None: (
            conv("input", k, x) + conv("recurrent", k, h if a is None else a) + p["bias"][2 * k : 2 * k + 2]
        )
        if isinstance(cell, rj.ConvLSTM):
            p_i, p_f, p_o = p["peephole"]
            i, f = sigmoid(gate(0) + p_i * c), sigmoid(gate(1) + p_f * c)
            c = f * c + i * np.tanh(gate(2))
            h = sigmoid(gate(3) + p_o * c) * np.tanh(c)
        else:
            r, z = sigmoid(gate(0)), sigmoid(gate(1))
            h = (1 - z) * np.tanh(gate(2, r * h)) + z * h
        ys.append(h)
    close(ours(cell, p, xs)[0], np.stack(ys))
