"""Gradient flow and Jacobian against closed forms and torch's autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.diagnostics import gradient_flow, jacobian, plot_gradient_flow


@pytest.mark.parametrize("scale", [0.01, 0.9, 30.0])
def test_linear_network_gives_powers_of_its_matrix(key, scale):
    """h' = h U + x W: dL/dh_t = U^(T-t) 1. Down to 1e-40 and up to 1e30, where squares leave float32."""
    cell, xs = rj.Elman(4, activation="identity"), jnp.zeros((20, 3))
    params = cell.init(key, xs[0])
    params["recurrent"] = scale * params["recurrent"]
    u = np.asarray(params["recurrent"], np.float64)
    g, want = np.ones(4), []
    for _ in range(20):
        g = u @ g
        want.append(np.linalg.norm(g))
    np.testing.assert_allclose(gradient_flow(cell, params, xs), want[::-1], rtol=1e-4, atol=1e-37)


def test_lstm_with_a_batch_and_a_loss_equals_torch(key):
    """Joint norm over h and c and both sequences; the loss reads every output."""
    torch = pytest.importorskip("torch")
    cell, xs = rj.LSTM(3), jax.random.normal(key, (5, 2, 2))
    params = cell.init(key, xs[0])
    inner = torch.nn.LSTMCell(2, 3)
    with torch.no_grad():
        inner.weight_ih.copy_(torch.tensor(np.asarray(params["input"]).T.copy()))
        inner.weight_hh.copy_(torch.tensor(np.asarray(params["recurrent"]).T.copy()))
        inner.bias_ih.copy_(torch.tensor(np.asarray(params["bias"]).copy()))
        inner.bias_hh.zero_()
    h, c = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    states, loss = [], torch.zeros(())
    for x in np.asarray(xs):
        h, c = h.clone(), c.clone()  # what step t reads, apart from what step t - 1 showed
        states += [h, c]
        h, c = inner(torch.tensor(x), (h, c))
        loss = loss + (h**3).sum()
    grads = torch.autograd.grad(loss, states)
    want = [float(torch.sqrt((a**2).sum() + (b**2).sum())) for a, b in zip(grads[::2], grads[1::2])]
    got = gradient_flow(cell, params, xs, loss=lambda ys: jnp.sum(ys**3))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_start_carry_and_whole_numbers_in_it():
    """A carry with a counter: whole numbers take no part."""

    def step(params, carry, x):
        h, n = carry
        h = h * x
        return (h, n + 1), h

    xs = jnp.array([2.0, 3.0, 5.0])[:, None]
    got = gradient_flow(step, {}, xs, carry=(jnp.ones(1), jnp.zeros((), jnp.int32)))
    np.testing.assert_allclose(got, [30.0, 15.0, 5.0])
    with pytest.raises(ValueError, match="gradient_flow: step is a bare function; pass carry="):
        gradient_flow(step, {}, xs)


def test_float64(float64, key):
    cell, xs = rj.Readout(rj.Stack(rj.GRU(2), rj.GRU(2)), 1), jnp.ones((3, 2))
    got = gradient_flow(cell, cell.init(key, xs[0]), xs)
    assert got.dtype == jnp.float64 and got.shape == (3,) and bool((got > 0).all())


def test_jacobian_equals_torch(key):
    """The LSTM step written out in torch, h before c."""
    torch = pytest.importorskip("torch")
    cell = rj.LSTM(2)
    x, h, c = (np.asarray(jax.random.normal(jax.random.fold_in(key, i), (2,))) for i in range(3))
    params = cell.init(key, jnp.asarray(x))
    weights = {name: torch.tensor(np.asarray(value).copy()) for name, value in params.items()}

    def step(state):
        i, f, g, o = torch.split(
            torch.tensor(x) @ weights["input"] + state[:2] @ weights["recurrent"] + weights["bias"], 2
        )
        c = torch.sigmoid(f) * state[2:] + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    want = torch.autograd.functional.jacobian(step, torch.tensor(np.concatenate([h, c])))
    got = jacobian(cell, params, rj.LSTMCarry(h=jnp.asarray(h), c=jnp.asarray(c)), jnp.asarray(x))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_plot_draws_one_line_a_name_on_a_logarithmic_axis():
    pytest.importorskip("matplotlib")
    axes = plot_gradient_flow({"vanishing": np.array([0.0, 1e-3, 1.0]), "steady": np.ones(3)})
    assert axes.get_yscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert set(drawn) == {"vanishing", "steady"}
    np.testing.assert_array_equal(drawn["vanishing"], [np.nan, 1e-3, 1.0])
