"""rnnjax.nnx.RNN: the same numbers and the same pytree as the functional version, under nnx's transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from interop.compare import B, H, I, T, close, data, same

import rnnjax as rj
from rnnjax.nnx import RNN

XS = jnp.asarray(data(0, T, B, I))
LAYER = rj.Sequential(rj.Bidirectional(rj.LSTM(H)), rj.RNN(rj.GRU(2)))


def make(cell=None, seed=0):
    return RNN(rj.GRU(H) if cell is None else cell, XS[0], rngs=nnx.Rngs(seed))


def test_the_same_pytree_and_numbers_as_the_functional_version():
    module, params = make(LAYER), LAYER.init(jax.random.key(7), XS[0])
    assert jax.tree.structure(module.params) == jax.tree.structure(params)
    module.set_params(params)
    same(module.params, params)
    how = {"lengths": jnp.array([T, 0, 2])}
    close(module(XS, **how), LAYER(params, XS, **how), 1e-6)
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    assert "rnn.layer_0.forward.recurrent" in paths and len(paths) == len(jax.tree.leaves(params))
    same(nnx.to_pure_dict(nnx.state(module, nnx.Param))["rnn"], params)


def test_dropout_keys_come_from_the_modules_stream_and_eval_turns_them_off():
    module = make(rj.Dropout(rj.Elman(H), 0.5))
    plain = rj.unroll(rj.Elman(H), module.params, XS)[1]
    one, other = np.asarray(module(XS)[1]), np.asarray(module(XS)[1])
    assert not np.array_equal(one, other)
    kept = one != 0
    close(one[kept], 2 * np.asarray(plain)[kept])
    close(module(XS, deterministic=True)[1], plain, 1e-6)
    module.eval()
    close(module(XS)[1], plain, 1e-6)
    key = jax.random.key(5)
    close(module(XS, key=key)[1], rj.unroll(rj.Dropout(rj.Elman(H), 0.5), module.params, XS, key=key)[1], 1e-6)


def test_jit_grad_split_merge_and_remat():
    module = make()
    loss = lambda m, xs: (m(xs)[1] ** 2).sum()
    grads = nnx.jit(nnx.grad(loss))(module, XS)
    expected = jax.grad(lambda p: (rj.unroll(rj.GRU(H), p, XS)[1] ** 2).sum())(module.params)
    close(nnx.to_pure_dict(grads)["rnn"], expected)
    close(nnx.to_pure_dict(nnx.grad(nnx.remat(loss))(module, XS))["rnn"], expected)
    graph, state = nnx.split(module)
    close(nnx.merge(graph, state)(XS), module(XS), 1e-6)


def test_vmap_over_ensembles_and_scan_over_layers():
    keys = jax.random.split(jax.random.key(0), 3)
    many = nnx.vmap(lambda key: RNN(rj.Elman(I), XS[0], rngs=nnx.Rngs(key)))(keys)
    assert many.params["recurrent"].shape == (3, I, I)
    each = [jax.tree.map(lambda a: a[k], many.params) for k in range(3)]
    ys = nnx.vmap(lambda m: m(XS, deterministic=True)[1])(many)
    close(ys, jnp.stack([rj.unroll(rj.Elman(I), p, XS)[1] for p in each]))

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def deep(layer, xs):
        return layer(xs)[1]

    expected = XS
    for p in each:
        expected = rj.unroll(rj.Elman(I), p, expected)[1]
    close(deep(many, XS), expected)


def test_optimizer_trains_as_the_functional_version_does():
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with floats
        check_training()


def check_training():
    cell, target = rj.LSTM(H), jnp.asarray(data(1, T, B, H))
    module = make(cell)
    params, adam = module.params, optax.adam(0.05)
    optimizer = nnx.Optimizer(module, adam, wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        value, grads = nnx.value_and_grad(lambda m: ((m(XS)[1] - target) ** 2).mean())(module)
        optimizer.update(module, grads)
        return value

    values, state, expected = [], adam.init(params), []
    functional = jax.jit(jax.value_and_grad(lambda p: ((rj.unroll(cell, p, XS)[1] - target) ** 2).mean()))
    for _ in range(5):
        values.append(step(module, optimizer))
        value, grads = functional(params)
        updates, state = adam.update(grads, state)
        params, expected = optax.apply_updates(params, updates), [*expected, value]
    close(values, expected, 1e-5)
    close(module.params, params, 1e-5)
    assert type(module.params) is dict and values[-1] < values[0]


def test_orbax_checkpoint(tmp_path):
    import orbax.checkpoint as ocp

    module, other = make(LAYER), make(LAYER, seed=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "net", nnx.state(module, nnx.Param))
        checkpointer.wait_until_finished()
        nnx.update(other, checkpointer.restore(tmp_path / "net", nnx.state(other, nnx.Param)))
    same(other.params, module.params)


def test_messages():
    with pytest.raises(TypeError, match=r"nnx.RNN: takes a cell or a layer of rnnjax, got len"):
        RNN(len, XS[0], rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"nnx.RNN: params must be those of RNN\(GRU\(4\)\)"):
        make().set_params({"input": XS})
