"""rnnjax.linen.RNN: the same numbers and the same pytree as the functional version, under every lifted transform."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interop.compare import B, H, I, T, close, data, same

import rnnjax as rj
from rnnjax.linen import RNN

XS = jnp.asarray(data(0, T, B, I))
LAYER = rj.Sequential(rj.Bidirectional(rj.LSTM(H)), rj.RNN(rj.GRU(2)))
NOISY = rj.Dropout(rj.Elman(H), 0.5)


class Model(nn.Module):
    """A layer between two Dense, as one would write it."""

    cell: object

    @nn.compact
    def __call__(self, xs, **how):
        carry, ys = RNN(self.cell, name="body")(nn.Dense(I)(xs), **how)
        return nn.Dense(2)(ys)


def test_the_same_pytree_and_numbers_as_the_functional_version():
    module = RNN(LAYER)
    variables = module.init(jax.random.key(0), XS)
    same(jax.eval_shape(lambda: variables["params"]["rnn"]), jax.eval_shape(LAYER.init, jax.random.key(0), XS[0]))
    params = LAYER.init(jax.random.key(7), XS[0])  # made by the functional version, put into the module
    how = {"lengths": jnp.array([T, 0, 2])}
    same(module.apply({"params": {"rnn": params}}, XS, **how), LAYER(params, XS, **how))
    carry, _ = LAYER(params, XS)
    turned = XS.swapaxes(0, 1)
    same(
        module.apply({"params": {"rnn": params}}, turned, time_axis=1, carry=carry),
        LAYER(params, turned, time_axis=1, carry=carry),
    )


def test_dropout_keys_come_from_the_modules_stream():
    module = RNN(NOISY)
    variables = module.init(jax.random.key(0), XS)
    quiet = NOISY.cell
    _, plain = rj.unroll(quiet, variables["params"]["rnn"], XS)
    one, again, other = (module.apply(variables, XS, rngs={"dropout": jax.random.key(k)})[1] for k in (1, 1, 2))
    same(one, again)
    assert not np.array_equal(one, other)
    kept = np.asarray(one) != 0
    close(np.asarray(one)[kept], 2 * np.asarray(plain)[kept])
    same(module.apply(variables, XS)[1], plain)  # no stream, no noise
    same(module.apply(variables, XS, deterministic=True, rngs={"dropout": jax.random.key(1)})[1], plain)
    with pytest.raises(Exception, match="dropout"):
        module.apply(variables, XS, deterministic=False)
    key = jax.random.key(5)
    same(module.apply(variables, XS, key=key)[1], rj.unroll(NOISY, variables["params"]["rnn"], XS, key=key)[1])


@pytest.mark.slow
def test_remat_gives_the_same_gradients():
    model = Model(rj.GRU(H))
    variables = model.init(jax.random.key(0), XS)
    loss = lambda kind: lambda v: (kind(rj.GRU(H)).apply(v, XS) ** 2).sum()
    close(jax.grad(loss(nn.remat(Model)))(variables), jax.grad(loss(Model))(variables))


def test_vmap_over_ensembles():
    many = nn.vmap(RNN, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=3)(rj.GRU(H))
    variables = many.init(jax.random.key(0), XS)
    assert variables["params"]["rnn"]["input"].shape == (3, I, 3 * H)
    _, ys = many.apply(variables, XS)
    for k in range(3):
        one = jax.tree.map(lambda a: a[k], variables["params"]["rnn"])
        close(ys[k], rj.unroll(rj.GRU(H), one, XS)[1])


class Layer(nn.Module):
    @nn.compact
    def __call__(self, xs, _):
        return xs + RNN(rj.Dropout(rj.Elman(I), 0.5))(xs)[1], None


def test_scan_over_layers():
    deep = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True}, length=3)()
    variables = deep.init(jax.random.key(0), XS, None)
    ys, _ = deep.apply(variables, XS, None)
    params, expected = variables["params"]["RNN_0"]["rnn"], XS
    assert params["recurrent"].shape == (3, I, I)
    for k in range(3):
        expected = expected + rj.unroll(rj.Elman(I), jax.tree.map(lambda a: a[k], params), expected)[1]
    close(ys, expected)
    noisy, _ = deep.apply(variables, XS, None, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(noisy, expected)


def test_trains_with_optax_as_the_functional_version_does():
    """Five steps of Adam on the module's params and on the functional layer's: the same numbers."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with floats
        check_training()


def check_training():
    cell, target = rj.LSTM(H), jnp.asarray(data(1, T, B, H))
    module, adam = RNN(cell), optax.adam(0.05)
    params = cell.init(jax.random.key(0), XS[0])

    def train(loss, params):
        state = adam.init(params)
        step = jax.jit(jax.value_and_grad(loss))
        values = []
        for _ in range(5):
            value, grads = step(params)
            updates, state = adam.update(grads, state)
            params, values = optax.apply_updates(params, updates), [*values, value]
        return values, params

    theirs = train(lambda p: ((module.apply(p, XS)[1] - target) ** 2).mean(), {"params": {"rnn": params}})
    ours = train(lambda p: ((rj.unroll(cell, p, XS)[1] - target) ** 2).mean(), params)
    close(theirs, ours, 1e-6)
    assert ours[0][-1] < ours[0][0]


def test_messages():
    with pytest.raises(TypeError, match=r"linen.RNN: takes a cell or a layer of rnnjax, got len"):
        RNN(len).init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match=r"GRU\(4\): lengths has batch axes"):
        RNN(rj.GRU(H)).init(jax.random.key(0), XS, lengths=jnp.array([1, 2]))
