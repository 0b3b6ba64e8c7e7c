"""Cells with other activations, and convolutional cells with strides, dilation and padding, against equations written out in numpy.

Gradients: of the equations by central differences in float64.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, I, H = 3, 2, 3, 4
FUNCTIONS = {
    "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "softsign": lambda z: z / (1 + abs(z)), "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "hard_sigmoid_0.2": lambda z: np.clip(0.2 * z + 0.5, 0, 1), "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
}  # fmt: skip


def params_of(cell, x):
    params, rng = cell.init(jax.random.key(0), jnp.asarray(x)), np.random.default_rng(1)
    return jax.tree.map(lambda a: 0.5 * rng.normal(size=a.shape), params)


def agree(cell, xs, equations):
    """ys of all steps, and the gradient of their weighted sum in a direction through params and inputs."""
    params, rng = params_of(cell, xs[0]), np.random.default_rng(2)
    expected = equations(params, xs)
    weights = rng.normal(size=expected.shape)

    @jax.jit
    def run(params, xs):
        def loss(params, xs):
            ys = rj.unroll(cell, params, xs)[1]
            return (weights * ys).sum(), ys

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    grads, ys = run(params, jnp.asarray(xs))
    np.testing.assert_allclose(ys, expected, rtol=1e-9, atol=1e-10)
    way = jax.tree.map(lambda a: rng.normal(size=a.shape), (params, xs))
    moved = lambda step: jax.tree.map(lambda a, d: a + step * d, (params, xs), way)
    difference = sum(sign * (weights * equations(*moved(sign * 1e-6))).sum() for sign in (1, -1)) / 2e-6
    slope = sum((np.asarray(g) * d).sum() for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(way)))
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


def lstm(cell):
    act, gate = FUNCTIONS[cell.activation], FUNCTIONS[cell.gate_activation]

    def run(p, xs):
        h, c, ys = np.zeros((B, H)), np.zeros((B, H)), []
        for x in xs:
            z = x @ p["input"] + h @ p["recurrent"] + p["bias"]
            *i, f, g, o = np.split(z, 3 if cell.coupled else 4, -1)
            f = gate(f + p["peephole"][-2] * c) if cell.peephole else gate(f)
            i = 1 - f if cell.coupled else gate(i[0] + p["peephole"][0] * c) if cell.peephole else gate(i[0])
            c = f * c + i * act(g)
            o = gate(o + p["peephole"][-1] * c) if cell.peephole else gate(o)
            h = o * act(c)
            ys.append(h)
        return np.stack(ys)

    return run


def gru(cell):
    act, gate = FUNCTIONS[cell.activation], FUNCTIONS[cell.gate_activation]

    def run(p, xs):
        h, ys = np.zeros((B, H)), []
        for x in xs:
            xr, xz, xn = np.split(x @ p["input"] + p["bias"], 3, -1)
            ur, uz, un = np.split(p["recurrent"], 3, -1)
            r, z = gate(xr + h @ ur), gate(xz + h @ uz)
            n = act(xn + (r * (h @ un + p["recurrent_bias"]) if cell.reset_after else (r * h) @ un))
            h = (1 - z) * n + z * h
            ys.append(h)
        return np.stack(ys)

    return run


RECURRENT = [
    (rj.LSTM(H, activation="relu", gate_activation="hard_sigmoid_0.2"), lstm),
    (rj.GRU(H, activation="softsign", gate_activation="hard_sigmoid"), gru),
]
MORE = [
    (rj.LSTM(H, peephole=True, activation="softsign", gate_activation="hard_sigmoid"), lstm),
    (rj.LSTM(H, peephole=True, coupled=True, gate_activation="hard_sigmoid_0.2"), lstm),
    (rj.GRU(H, reset_after=False, activation="relu", gate_activation="hard_sigmoid_0.2"), gru),
]
SLOW = [pytest.param(*pair, marks=pytest.mark.slow, id=repr(pair[0])) for pair in MORE]


@pytest.mark.parametrize(("cell", "equations"), [*[pytest.param(*pair, id=repr(pair[0])) for pair in RECURRENT], *SLOW])
def test_gated_cells(cell, equations, float64):
    agree(cell, np.random.default_rng(0).normal(size=(T, B, I)), equations(cell))


def test_the_default_step_is_what_it_was():
    """Equation for equation that of a step written with tanh and sigmoid."""

    def step(params, carry, x):
        h, c = carry
        z = x @ params["input"] + h @ params["recurrent"]
        i, f, g, o = jnp.split(z + params["bias"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return rj.LSTMCarry(h, c), h

    cell, x = rj.LSTM(H), jnp.ones((B, I))
    params = cell.init(jax.random.key(0), x)
    args = params, cell.initial_carry(params, x), x
    assert str(jax.make_jaxpr(cell)(*args)) == str(jax.make_jaxpr(step)(*args))


@pytest.mark.parametrize("cell", [rj.LSTM, rj.GRU])
@pytest.mark.parametrize("name", ["activation", "gate_activation"])
def test_an_unknown_activation_is_refused_with_the_nearest(cell, name):
    with pytest.raises(
        ValueError, match=rf"{cell.__name__}: {name} must be one of .*got 'hard_sigmoi'; did you mean 'hard_sigmoid'"
    ):
        cell(H, **{name: "hard_sigmoi"})


# -- convolutional -----------------------------------------------------------------------------------------------------


def convolved(x, w, strides, dilation, padding):
    """``x [B, *S, I] * w [*K, I, O]``, entry by entry."""
    sizes, kernel = x.shape[1:-1], w.shape[:-2]
    reach = [(k - 1) * d for k, d in zip(kernel, dilation)]
    if padding == "same":
        out = [-(-n // s) for n, s in zip(sizes, strides)]
        missing = [max((o - 1) * s + r + 1 - n, 0) for o, s, r, n in zip(out, strides, reach, sizes)]
        x = np.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)])
    else:
        out = [(n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, strides)]
    y = np.zeros((x.shape[0], *out, w.shape[-1]))
    for at in product(*map(range, out)):
        for k in product(*map(range, kernel)):
            from_ = tuple(a * s + b * d for a, s, b, d in zip(at, strides, k, dilation))
            y[(slice(None), *at)] += x[(slice(None), *from_)] @ w[k]
    return y


def convolutional(cell):
    each = lambda value: value if isinstance(value, tuple) else (value,) * cell.dims
    one, act, gate = (1,) * cell.dims, FUNCTIONS[cell.activation], FUNCTIONS[cell.gate_activation]
    of_input = lambda x, w: convolved(x, w, each(cell.strides), each(cell.dilation), cell.padding)
    of_state = lambda h, w: convolved(h, w, one, one, "same")

    def run(p, xs):
        h = c = np.zeros(of_input(xs[0], p["input"][..., :2]).shape)
        ys = []
        for x in xs:
            zx = of_input(x, p["input"]) + p["bias"]
            if isinstance(cell, rj.ConvLSTM):
                i, f, g, o = np.split(zx + of_state(h, p["recurrent"]), 4, -1)
                p_i, p_f, p_o = p["peephole"]
                c = gate(f + p_f * c) * c + gate(i + p_i * c) * act(g)
                h = gate(o + p_o * c) * act(c)
            else:
                ur, uz, un = np.split(p["recurrent"], 3, -1)
                xr, xz, xn = np.split(zx, 3, -1)
                r, z = gate(xr + of_state(h, ur)), gate(xz + of_state(h, uz))
                h = (1 - z) * act(xn + of_state(r * h, un)) + z * h
            ys.append(h)
        return np.stack(ys)

    return run


CONV = [
    rj.ConvLSTM(2, dims=1, kernel=2, strides=2, padding="valid"),
    rj.ConvGRU(2, dims=2, kernel=(3, 2), strides=(2, 1)),
    rj.ConvGRU(2, dims=1, dilation=2, padding="valid", activation="relu", gate_activation="hard_sigmoid_0.2"),
    rj.ConvLSTM(2, dims=2, kernel=(2, 3), dilation=(1, 2)),
    rj.ConvLSTM(2, dims=1, kernel=3, strides=3, activation="softsign", gate_activation="hard_sigmoid"),
]


@pytest.mark.parametrize("cell", [*CONV[:1], *[pytest.param(c, marks=pytest.mark.slow) for c in CONV[1:]]], ids=repr)
def test_convolutional_cells(cell, float64):
    image = (7, 6)[: cell.dims]
    agree(cell, np.random.default_rng(0).normal(size=(T, B, *image, I)), convolutional(cell))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [CONV[0], CONV[1]], ids=repr)
def test_the_whole_contract_holds_with_another_size_of_the_state(cell):
    rj.testing.check_cell(cell, jax.random.key(0), jax.ShapeDtypeStruct((B, *(7, 6)[: cell.dims], I), jnp.float32))


def test_convolutional_options_that_cannot_be():
    for options, message in [
        ({"padding": "full"}, r"ConvGRU: padding must be one of 'same', 'valid', got 'full'"),
        ({"strides": (2, 2, 2)}, r"ConvGRU: strides must be an int or 2 ints"),
        ({"dilation": 0}, r"ConvGRU: dilation must be at least 1, got 0"),
        ({"gate_activation": "sigmod"}, r"ConvGRU: gate_activation must be one of .*did you mean 'sigmoid'"),
    ]:
        with pytest.raises(ValueError, match=message):
            rj.ConvGRU(2, **options)
    cell = rj.ConvLSTM(2, dims=1, kernel=4, padding="valid")
    with pytest.raises(
        ValueError, match=r"x of size \(3,\) is smaller than the kernel, which reaches over \(4,\); pad x"
    ):
        cell.init(jax.random.key(0), jnp.ones((3, 1)))
