"""Haiku, Equinox and jax.experimental.rnn in and out, against those libraries themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, T, close, data, new_params, same, trained
from jax.experimental import rnn as packed_rnn

import rnnjax as rj

pytestmark = pytest.mark.peer


def randomised(params, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), a.dtype), params)


def both_value_and_grads(theirs, ours, params, xs, weights):
    """Values and gradients for *their* params and xs: ours go through the conversion."""

    def run(f):
        loss = lambda params, xs: (weights * f(params, xs)).sum()
        return jax.jit(lambda p, x: (f(p, x), jax.grad(loss, argnums=(0, 1))(p, x)))(params, jnp.asarray(xs))

    close(run(ours), run(theirs))


# -- Haiku -------------------------------------------------------------------------------------------------------------


def haiku_unroll(make, x_shape=(I,)):
    hk = pytest.importorskip("haiku")

    def f(xs):
        core = make()
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    model = hk.without_apply_rng(hk.transform(f))
    return model.apply, randomised(model.init(jax.random.key(0), jnp.ones((T, B, *x_shape))))


HAIKU = {
    "lstm": (lambda hk: hk.LSTM(H), rj.LSTM(H)),
    "gru": (lambda hk: hk.GRU(H), rj.GRU(H, reset_after=False)),
    "vanilla": (lambda hk: hk.VanillaRNN(H), rj.Elman(H, activation="relu")),
    "vanilla, one bias": (lambda hk: hk.VanillaRNN(H, double_bias=False), rj.Elman(H, activation="relu")),
    "deep": (
        lambda hk: hk.DeepRNN([hk.LSTM(H), hk.GRU(2), hk.LSTM(3, name="top")]),
        rj.Stack(rj.LSTM(H), rj.GRU(2, reset_after=False), rj.LSTM(3)),
    ),
}


SLOW = ("lstm", "gru", "vanilla", "vanilla, one bias")


@pytest.mark.parametrize("name", ["deep", *[pytest.param(n, marks=pytest.mark.slow) for n in SLOW]])
def test_haiku_forward_gradients_and_back(name):
    hk = pytest.importorskip("haiku")
    make, expected_cell = HAIKU[name]
    theirs, hk_params = haiku_unroll(lambda: make(hk))
    xs = data(0, T, B, I)
    cell, params = rj.interop.from_haiku(lambda: make(hk), hk_params)
    assert cell == expected_cell
    weights = data(1, *theirs(hk_params, xs).shape)
    ours = lambda p, xs: rj.unroll(cell, rj.interop.from_haiku(lambda: make(hk), p)[1], xs)[1]
    both_value_and_grads(theirs, ours, hk_params, xs, weights)

    new = trained(rj.RNN(cell), params, xs)
    back, back_params = rj.interop.to_haiku(cell, new)
    apply, like = haiku_unroll(back)
    assert jax.tree.map(jnp.shape, dict(like)) == jax.tree.map(jnp.shape, back_params)
    close(apply(back_params, xs), rj.unroll(cell, new, xs)[1])
    again, params_again = rj.interop.from_haiku(back, back_params)
    assert again == cell
    close(params_again, new, 1e-6)  # the folded forget bias rounds once each way


def test_haiku_conv_lstm_and_layers():
    hk = pytest.importorskip("haiku")
    make = lambda: hk.Conv2DLSTM((4, 3), H, (3, 2))
    theirs, hk_params = haiku_unroll(make, (4, 3, 2))
    xs = jnp.asarray(data(0, T, B, 4, 3, 2))
    cell, params = rj.interop.from_haiku(make, hk_params)
    assert cell == rj.ConvLSTM(H, kernel=(3, 2), dims=2, peephole=False)
    close(rj.unroll(cell, params, xs)[1], theirs(hk_params, xs))
    back, back_params = rj.interop.to_haiku(cell, params, input_shape=(4, 3))
    close(haiku_unroll(back, (4, 3, 2))[0](back_params, xs), theirs(hk_params, xs))
    with pytest.raises(TypeError, match=r"to_haiku: ConvLSTM.* needs input_shape="):
        rj.interop.to_haiku(cell, params)

    layer = rj.Sequential(rj.RNN(rj.LSTM(H)), rj.RNN(rj.LSTM(2)))
    params = new_params(layer)
    apply, _ = haiku_unroll(rj.interop.to_haiku(layer, params)[0])
    close(apply(rj.interop.to_haiku(layer, params)[1], data(0, T, B, I)), layer(params, data(0, T, B, I))[1])


def test_haiku_under_a_scope_and_messages():
    hk = pytest.importorskip("haiku")
    params = {"net/~/lstm/linear": {"w": jnp.ones((I + H, 4 * H)), "b": jnp.zeros(4 * H)}}
    cell, own = rj.interop.from_haiku(lambda: hk.LSTM(H), params)
    assert cell == rj.LSTM(H) and np.asarray(own["bias"])[H : 2 * H].tolist() == [1.0] * H
    with pytest.raises(ValueError, match=r"params must have one module 'gru', got \['net/~/lstm/linear'\]"):
        rj.interop.from_haiku(lambda: hk.GRU(H), params)
    with pytest.raises(TypeError, match=r"takes the core first, from_haiku\(lambda: hk.LSTM\(128\), params\)"):
        rj.interop.from_haiku(params, params)
    with pytest.raises(TypeError, match=r"from_haiku: takes hk.VanillaRNN.*got relu"):
        rj.interop.from_haiku(lambda: hk.DeepRNN([hk.LSTM(H), jax.nn.relu]), params)
    with pytest.raises(TypeError, match=r"got Linear"):
        rj.interop.from_haiku(lambda: hk.Linear(3), params)
    with pytest.raises(TypeError, match=r"skip_connections has no counterpart"):
        rj.interop.from_haiku(lambda: hk.deep_rnn_with_skip_connections([hk.LSTM(H)]), params)
    with pytest.raises(TypeError, match=r"to_haiku: Haiku has no GRU\(4\); it has Elman with relu.*reset_after=False"):
        rj.interop.to_haiku(rj.GRU(H), new_params(rj.GRU(H)))
    for layer in (rj.Bidirectional(rj.LSTM(H)), rj.RNN(rj.LSTM(H), reverse=True)):
        with pytest.raises(TypeError, match=r"forward only"):
            rj.interop.to_haiku(layer, new_params(layer))


# -- Equinox -----------------------------------------------------------------------------------------------------------


OTHERS = [
    pytest.param("LSTMCell", True, marks=pytest.mark.slow),
    pytest.param("GRUCell", False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "bias"), [("GRUCell", True), *OTHERS])
def test_equinox_forward_gradients_and_back(kind, bias):
    eqx = pytest.importorskip("equinox")
    module = getattr(eqx.nn, kind)(I, H, use_bias=bias, key=jax.random.key(1))
    cell, params = rj.interop.from_equinox(module)
    assert cell == {"GRUCell": rj.GRU, "LSTMCell": rj.LSTM}[kind](H, use_bias=bias)

    def theirs(module, xs):
        def step(state, x):
            state = module(x, state)
            return state, state[0] if kind == "LSTMCell" else state

        start = (jnp.zeros(H), jnp.zeros(H)) if kind == "LSTMCell" else jnp.zeros(H)
        return jax.vmap(lambda xs: jax.lax.scan(step, start, xs)[1], 1, 1)(xs)

    xs, weights = data(0, T, B, I), data(1, T, B, H)
    ours = lambda module, xs: rj.unroll(cell, rj.interop.from_equinox(module)[1], xs)[1]
    both_value_and_grads(theirs, ours, module, xs, weights)
    new = trained(rj.RNN(cell), params, xs)
    back = rj.interop.to_equinox(cell, new)
    assert jax.tree.structure(back) == jax.tree.structure(module)
    close(theirs(back, xs), rj.unroll(cell, new, xs)[1])
    same(rj.interop.from_equinox(back)[1], new)


def test_equinox_messages():
    eqx = pytest.importorskip("equinox")
    with pytest.raises(TypeError, match=r"from_equinox: takes eqx.nn.GRUCell or eqx.nn.LSTMCell, got Linear"):
        rj.interop.from_equinox(eqx.nn.Linear(2, 2, key=jax.random.key(0)))
    with pytest.raises(TypeError, match=r"to_equinox: Equinox has no Elman\(4\)"):
        rj.interop.to_equinox(rj.Elman(H), new_params(rj.Elman(H)))
    with pytest.raises(TypeError, match=r"to_equinox: Equinox has cells only, got RNN\(GRU\(4\)\)"):
        rj.interop.to_equinox(rj.RNN(rj.GRU(H)), new_params(rj.GRU(H)))


# -- jax.experimental.rnn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "bidirectional"), [(2, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_packed_weights_forward_gradients_lengths_and_back(layers, bidirectional):
    sizes = (I, H, layers, bidirectional)
    weights = packed_rnn.init_lstm_weight(jax.random.key(0), *sizes)
    xs, out = data(0, B, T, I), data(1, B, T, H * (1 + bidirectional))
    lengths = jnp.array([T, 2, 3])
    valid = (np.arange(T) < np.asarray(lengths)[:, None])[..., None]
    start = jnp.zeros((layers * (1 + bidirectional), B, H))

    def theirs(weights, xs):
        parts = packed_rnn.unpack_lstm_weights(weights, *sizes)
        ys = packed_rnn.lstm_ref(xs, start, start, *parts, lengths, I, H, layers, 0.0, bidirectional)[0]
        return jnp.where(valid, ys, 0)

    def ours(weights, xs):
        layer, params = rj.interop.from_packed(weights, *sizes)
        return layer(params, xs, time_axis=1, lengths=lengths)[1]

    both_value_and_grads(theirs, ours, weights, xs, out)
    layer, params = rj.interop.from_packed(weights, *sizes)
    back = rj.interop.to_packed(layer, params)
    assert back[1:] == (*sizes, 0.0)
    close(theirs(back.weights, xs), theirs(weights, xs))
    same(rj.interop.from_packed(*back)[1], params)


def test_packed_dropout_and_messages():
    weights = packed_rnn.init_lstm_weight(jax.random.key(0), I, H, 2, False)
    layer, params = rj.interop.from_packed(weights, I, H, 2, False, dropout=0.25)
    assert layer == rj.Sequential(rj.RNN(rj.Dropout(rj.LSTM(H), 0.25)), rj.RNN(rj.LSTM(H)))
    assert rj.interop.to_packed(layer, params).dropout == 0.25
    with pytest.raises(
        ValueError, match=r"from_packed: these sizes need a flat array of \d+ weights, got shape \(\d+,\)"
    ):
        rj.interop.from_packed(weights[1:], I, H, 2, False)
    for cell in (rj.GRU(H), rj.LSTM(H, peephole=True)):
        with pytest.raises(TypeError, match=r"to_packed: takes LSTMs of one size without variants, got"):
            rj.interop.to_packed(rj.RNN(cell), new_params(cell))
