"""Every cell and wrapper on a batch that an explicit mesh splits: values and gradients are typed, so no fall-back and no
error; and for each method the numbers of one device."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from several import on_devices
from zoo import ZOO

import rnnjax as rj

T, B = 5, 8
KEY = jax.random.key(0)
MESH = AbstractMesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
ROLLS = [(entry, method) for entry in ZOO for method in ("scan", "associative")[: 1 + entry.linear]]


@pytest.mark.parametrize("entry, method", ROLLS, ids=lambda value: getattr(value, "id", value))
def test_every_cell_on_a_batch_that_is_split(entry, method):
    """The outputs lie where the batch does. The types need no devices; what has them is compared below."""
    params = jax.eval_shape(lambda: entry.cell.init(jax.random.key(0), jnp.zeros((B, *entry.x))))
    xs = jax.ShapeDtypeStruct((T, B, *entry.x), jnp.float32, sharding=NamedSharding(MESH, P(None, "batch")))

    def loss(params, xs):
        ys = rj.unroll(entry.cell, params, xs, key=KEY if entry.noisy else None, method=method)[1]
        assert all(jax.typeof(y).sharding.spec[1] == "batch" for y in jax.tree.leaves(ys))
        return sum(jnp.sum(jnp.abs(y) ** 2) for y in jax.tree.leaves(ys))

    with jax.sharding.use_abstract_mesh(MESH), warnings.catch_warnings():
        warnings.simplefilter("error")
        _, (d_params, d_xs) = jax.eval_shape(jax.value_and_grad(loss, (0, 1), allow_int=True), params, xs)
    assert jax.tree.map(jnp.shape, d_params) == jax.tree.map(jnp.shape, params)
    assert d_xs.sharding.spec == P(None, "batch", *(None,) * len(entry.x))


PROGRAM = """
import warnings
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

warnings.simplefilter("error")
T, B, I, H = 6, 8, 3, 4
xs = jax.random.normal(jax.random.key(2), (T, B, I))
lengths = jnp.array([6, 0, 3, 5, 6, 1, 2, 4])
flags = [jax.random.bernoulli(jax.random.key(k), p, (T, B)) for k, p in ((3, 0.7), (4, 0.2))]
where = {"lengths": P("batch"), "mask": P(None, "batch"), "reset": P(None, "batch")}
CASES = [
    (rj.Readout(rj.Stack(rj.LSTM(H), rj.Residual(rj.GRU(H))), 2), dict(lengths=lengths)),
    (rj.Dropout(rj.GRU(H), 0.5), dict(mask=flags[0], reset=flags[1], key=jax.random.key(7), reverse=True)),
    (rj.GRU(H), dict(checkpoint=2, truncate=3)),
    (rj.Bidirectional(rj.GRU(H)), dict(lengths=lengths)),
    (rj.LRU(H), dict(method="associative", lengths=lengths)),
    (rj.GatedDeltaNet(H), dict(method="associative")),
    (rj.GRU(H), dict(method="deer", lengths=lengths)),
    (rj.LSTM(H), dict(method="quasi_deer")),
    (rj.GRU(H), dict(method="elk")),
]
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
    for cell, options in CASES:
        params = jax.tree.map(np.asarray, cell.init(jax.random.key(0), xs[0]))
        split = {name: options[name] for name in options if name in where}
        static = {name: value for name, value in options.items() if name not in where}

        def loss(params, xs, split):
            call = cell if isinstance(cell, rj.Bidirectional) else lambda *a, **o: rj.unroll(cell, *a, **o)
            return sum(jnp.mean(jnp.abs(y) ** 2) for y in jax.tree.leaves(call(params, xs, **split, **static)[1]))

        want = jax.value_and_grad(loss)(params, xs, split)
        with jax.set_mesh(mesh):
            args = place(params, P()), place(xs, P(None, "batch")), {n: place(v, where[n]) for n, v in split.items()}
            got = jax.jit(jax.value_and_grad(loss))(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), got, want)
        print("equal")
"""


@pytest.mark.slow
def test_the_numbers_are_those_of_one_device():
    """Layers, masks, keys, every method; explicit and automatic meshes."""
    run = on_devices(4, "-c", PROGRAM)
    assert run.stdout.split() == ["equal"] * 18, run.stderr[-2000:]
