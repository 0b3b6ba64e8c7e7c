"""The one-screen algorithm against torch's autograd and plain gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax as rj


def test_steps_of_gradient_descent_equal_torch(key):
    """Two SGD steps on the summed squared error of the article's network, weights copied across."""
    torch = pytest.importorskip("torch")
    xs = np.asarray(jax.random.normal(key, (6, 3, 2)))
    targets = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (6, 3, 1)))
    cell = rj.Readout(rj.Elman(4), 1)
    start = cell.init(key, xs[0])

    rnn, head = torch.nn.RNN(2, 4, bias=True), torch.nn.Linear(4, 1)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.tensor(np.asarray(start["cell"]["input"]).T.copy()))
        rnn.weight_hh_l0.copy_(torch.tensor(np.asarray(start["cell"]["recurrent"]).T.copy()))
        rnn.bias_ih_l0.zero_(), rnn.bias_hh_l0.zero_(), head.bias.zero_()
        head.weight.copy_(torch.tensor(np.asarray(start["output"]).T.copy()))
    weights = [rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, head.weight, head.bias]
    losses = []
    for _ in range(2):
        ys = head(rnn(torch.tensor(xs))[0])
        loss = ((ys - torch.tensor(targets)) ** 2).mean(-1).mean(1).sum()
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, g in zip(weights, grads):
                w -= 0.1 * g

    params, got = rj.train.train(key, cell, xs, targets, rj.losses.mse, optimizer=optax.sgd(0.1), steps=2)
    np.testing.assert_allclose(got, losses, rtol=1e-5)
    np.testing.assert_allclose(params["cell"]["recurrent"], rnn.weight_hh_l0.detach().numpy().T, atol=1e-6)
    np.testing.assert_allclose(params["cell"]["input"], rnn.weight_ih_l0.detach().numpy().T, atol=1e-6)
    np.testing.assert_allclose(params["output"], head.weight.detach().numpy().T, atol=1e-6)
    np.testing.assert_allclose(params["output_bias"], head.bias.detach().numpy(), atol=1e-6)


def test_stops_when_converged(key):
    """A loss that cannot fall stops after the second step."""
    cell, xs = rj.Elman(2), jnp.ones((3, 1))
    _, losses = rj.train.train(
        key, cell, xs, jnp.zeros((3, 2)), rj.losses.mse, optimizer=optax.sgd(0.0), tolerance=1e-9
    )
    assert len(losses) == 2
