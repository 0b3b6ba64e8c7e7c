"""`rows`: what is said to go row by row does so, shown by changing one row; what mixes rows is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import alive, is_var
from rnnjax.train.rows import Study
from rnnjax.train.states import TAIL, Rows, Unprovable, Whole

T, B, I = 3, 4, 5
W = np.linspace(-1, 1, I * 2, dtype=np.float32).reshape(I, 2)
TABLE = np.linspace(0, 1, 14, dtype=np.float32).reshape(7, 2)


@jax.custom_vjp
def spike(v):
    return (v > 0).astype(v.dtype)


spike.defvjp(lambda v: (spike(v), v), lambda v, g: (g / (1 + jnp.abs(v)) ** 2,))


@jax.custom_vjp
def normalised(v):
    return v


normalised.defvjp(lambda v: (v, None), lambda _, g: (g / (1 + jnp.linalg.norm(g)),))


@jax.custom_jvp
def crossed(v):
    return v


crossed.defjvp(lambda v, dv: (v[0], dv[0] * jnp.sum(v[0])))


def loop(x):
    return lax.scan(lambda h, x: (jnp.tanh(h @ jnp.eye(2) + x @ W),) * 2, jnp.zeros((x.shape[1], 2)), x)


def token(x):
    return (jnp.abs(x[..., 0]) * 100).astype(int) % 7


# name -> a function of x [T, B, I]
BY_ROW = {
    "elementwise": lambda x: jnp.tanh(x) * 2 + jnp.where(x > 0, x, 0),
    "product": lambda x: x @ W,
    "product from the left": lambda x: jnp.einsum("io,tbi->otb", W, x),
    "attention over time": lambda x: jnp.einsum("tbi,sbi->bts", x, x),
    "softmax": lambda x: jax.nn.log_softmax(x),
    "moved": lambda x: x.transpose(2, 1, 0)[None, ::-1],
    "flattened and back": lambda x: (x.reshape(-1, I) @ W).reshape(T, -1, 2),
    "rows first, flattened": lambda x: x.swapaxes(0, 1).reshape(-1, T * I),
    "time": lambda x: jnp.cumsum(x, 0) + jnp.roll(x, 1, 0) + jnp.sort(x, 0) + jnp.pad(x, ((1, 0), (0, 0), (0, 0)))[1:],
    "sorted with what belongs to it": lambda x: lax.sort((x, x**2), dimension=0),
    "largest two": lambda x: lax.top_k(x, 2)[0],
    "reduced": lambda x: x.max(0) + x.mean((0, 2))[:, None] + jnp.argmax(x, -1)[0][:, None].astype(x.dtype),
    "table": lambda x: jnp.asarray(TABLE)[token(x)],
    "picked": lambda x: jnp.take_along_axis(x, token(x)[..., None] % I, -1),
    "one hot": lambda x: jax.nn.one_hot(token(x), 7),
    "cross-entropy": lambda x: optax.softmax_cross_entropy_with_integer_labels(x, token(x) % I),
    "own zeros": lambda x: jnp.concatenate([jnp.zeros_like(x), x, jnp.ones((T, x.shape[1], 1))], -1),
    "written": lambda x: x.at[0].set(0.0).at[:, :, 1].add(2.0),
    "loop": loop,
    "branch": lambda x: lax.cond(jnp.array(True), lambda x: x * 2, lambda x: jnp.zeros_like(x), x),
    "while": lambda x: lax.fori_loop(0, 3, lambda n, h: h + x[0], jnp.zeros((x.shape[1], I))),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x @ W)),
    "convolution": lambda x: lax.conv_general_dilated(x.transpose(1, 2, 0), jnp.ones((2, I, 2)), (1,), "SAME"),
    "spectrum": lambda x: jnp.abs(jnp.fft.rfft(x)),
    "stacked": lambda x: jnp.stack([x[0], x[1] ** 2], 1),
    "vmap": jax.vmap(lambda x: jnp.outer(x[0], x[1]), 1, 1),
    "custom rules": lambda x: spike(x) + jax.nn.relu(x) + jax.nn.silu(x),
}
MIXED = {
    "batch norm": lambda x: x - x.mean(1, keepdims=True),
    "largest": lambda x: x.max(1),
    "cumulative": lambda x: jnp.cumsum(x, 1),
    "sorted": lambda x: jnp.sort(x, 1),
    "turned": lambda x: x[:, ::-1],
    "rolled": lambda x: jnp.roll(x, 1, 1),
    "shifted": lambda x: lax.pad(x, 0.0, [(0, 0, 0), (1, -1, 0), (0, 0, 0)]),
    "numbered": lambda x: x * jnp.arange(x.shape[1])[:, None].astype(x.dtype),
    "gram": lambda x: x[0] @ x[0].T,
    "gram of one value": lambda x: lax.dot_general(x[0], x[0], (((1,), (1,)), ((), ()))),
    "a value beside itself": lambda x: lax.dot_general(x[0], x[0], (((), ()), ((), ()))),
    "taken across": lambda x: x[0][token(x)[0] % x.shape[1]],
    "scanned": lambda x: lax.scan(lambda h, x: (h + x,) * 2, jnp.zeros((T, I)), x.swapaxes(0, 1))[1],
    "half": lambda x: x[:, : x.shape[1] // 2],
    "decided": lambda x: lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x),
    "backward rule": normalised,
    "forward rule": crossed,
    "inverse": lambda x: jnp.linalg.inv(x[0].T @ x[0] + jnp.eye(I)),
}


def states_of(f, x):
    graph = to_graph(jax.make_jaxpr(f)(x))
    graph = dataclasses.replace(graph, eqns=alive(graph.eqns, graph.outs))
    env = Study(x.shape[1]).follow(graph, [Rows(1)])
    return [env[a] if is_var(a) else Whole() for a in graph.outs]


@pytest.mark.parametrize("name", BY_ROW)
def test_what_goes_row_by_row(name, key):
    """Changing row 2 changes row 2 of each result, along the axis that is said to hold the rows, and no other."""
    f, x = BY_ROW[name], jax.random.normal(key, (T, B, I))
    other = x.at[:, 2].set(jax.random.normal(jax.random.key(1), (T, I)))
    before, after = (jax.tree.leaves(jax.jit(f)(v)) for v in (x, other))
    states = states_of(f, x)
    changed = False
    for state, a, b in zip(states, before, after, strict=True):
        assert isinstance(state, Rows)
        shape = (*a.shape[: state.axis], state.outer, B, state.inner, *a.shape[state.axis + 1 :])
        differs = np.asarray(a != b).reshape(shape).any(tuple(d for d in range(len(shape)) if d != state.axis + 1))
        changed |= bool(differs[2])
        assert not differs[[0, 1, 3]].any()
    assert changed


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_rows_is_not_said_to_go_row_by_row(name, key):
    try:
        states = states_of(MIXED[name], jax.random.normal(key, (T, B, I)))
    except Unprovable as why:
        assert str(why)
    else:
        assert states == [TAIL]


def test_sums_are_the_frontier(key):
    def f(x):
        return jnp.sum(x**2) / 7, jnp.einsum("tbi,tbi->", x, x), x.mean(1)

    x = jax.random.normal(key, (T, B, I))
    graph = to_graph(jax.make_jaxpr(f)(x))
    study = Study(B)
    study.follow(graph, [Rows(1)])
    assert [v.shape for v in study.frontier] == [(), (), (T, I)]
