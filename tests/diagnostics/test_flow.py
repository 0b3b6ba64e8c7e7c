"""Gradient flow, its slope and the Jacobian against closed forms, JAX's own autodiff on each carry, and torch's autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.diagnostics import gradient_flow, gradient_slope, jacobian


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


def test_every_norm_is_that_of_autodiff_on_its_carry(float64, key):
    """The rest of the sequence as a plain loop from carry_t, differentiated by that carry: a stack, whose carry has two parts."""
    cell, xs = rj.Stack(rj.Elman(2), rj.GRU(2)), jax.random.normal(key, (3, 2, 3))
    params = cell.init(key, xs[0])
    carries, step = [cell.initial_carry(params, xs[0])], jax.jit(cell)
    for x in xs:
        carries.append(step(params, carries[-1], x)[0])

    def rest(carry, t):
        ys = []
        for x in xs[t:]:
            carry, y = cell(params, carry, x)
            ys.append(y)
        return sum(jnp.sum(y**2) for y in ys)

    grads = jax.jit(lambda carries: [jax.grad(rest)(carry, t) for t, carry in enumerate(carries[:-1])])(carries)
    want = [np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(at))) for at in grads]
    got = gradient_flow(cell, params, xs, loss=lambda ys: jnp.sum(ys**2))
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_the_slope_over_a_long_run_is_the_largest_exponent(float64, key):
    """Stable and chaotic: backward and forward agree within their errors, on a run at whose start the gradient itself is 0 or inf.
    A short run of it is what `gradient_flow` shows."""
    cell, xs = rj.Elman(16), 0.3 * jax.random.normal(key, (3000, 2))
    params = cell.init(key, xs[0])
    for scale, sign in ((0.8, -1), (2.5, 1)):
        scaled = params | {"recurrent": scale * params["recurrent"]}
        found = gradient_slope(cell, scaled, xs, warm_up=200)
        error = np.hypot(found.standard_error, found.predicted_error)
        assert abs(found.slope - found.predicted) < 2.5 * error < 0.03 and np.sign(found.slope) == sign
        norms = np.log10(gradient_flow(cell, scaled, xs[:700]))
        np.testing.assert_allclose((norms[100] - norms[600]) / 500, found.slope, atol=0.03)


def test_slope_errors():
    stay = lambda p, c, x: (c, c)
    with pytest.raises(ValueError, match="at least 16 steps between, got 30 steps with warm_up=8 at either end"):
        gradient_slope(stay, {}, jnp.zeros((30, 1)), carry=jnp.ones(2), warm_up=8)
    with pytest.raises(TypeError, match="gradient_slope: the carry .* must be floating point"):
        gradient_slope(stay, {}, jnp.zeros((30, 1)), carry=jnp.ones(2, int))


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


def test_jacobian_of_complex_numbers_is_that_of_their_parts():
    """Multiplication by a + bi is the matrix (a, -b; b, a); whole numbers have no derivative."""
    turn = lambda params, h, x: (params * h, h)
    got = jacobian(turn, 3.0 + 4.0j, jnp.array(1.0 + 1.0j), jnp.zeros(1))
    np.testing.assert_allclose(got, [[3.0, -4.0], [4.0, 3.0]])
    with pytest.raises(TypeError, match="jacobian: the carry .* must be floating point"):
        jacobian(turn, 2, jnp.array(1), jnp.zeros(1))


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
