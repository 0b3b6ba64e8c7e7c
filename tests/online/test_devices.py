"""A batch split over two devices: the numbers of one, whole and step by step, on explicit and automatic meshes."""

import pytest
from several import on_devices

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

T, B = 3, 4
xs, targets = (jax.random.normal(jax.random.key(i), (T, B, 3)) for i in (0, 1))
loss = lambda y, target: jnp.sum((y - target) ** 2)

def meets(params, h, x):
    h = jnp.tanh(h @ params["u"] + x - jnp.mean(h, axis=0, keepdims=True))
    return h, h

apart, whole = rj.Readout(rj.LearnedCarry(rj.GRU(2)), 3), {"u": jnp.eye(3) / 2}
params = apart.init(jax.random.key(2), xs[0])
cases = [(apart, "rtrl", params, {}), (apart, "uoro", params, {"key": jax.random.key(3)})]
cases += [(meets, "rtrl", whole, {"carry": jnp.ones((B, 3))})]

def same(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), jax.device_get(got), jax.device_get(want))

for cell, method, params, options in cases:
    f = rj.online.value_and_grad(cell, loss, method)
    want = jax.jit(f)(params, xs, targets, **options)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            place = lambda tree, *axes: jax.device_put(tree, NamedSharding(mesh, P(*axes)))
            here, x, t = place(params), place(xs, None, "batch"), place(targets, None, "batch")
            given = {k: place(v, "batch") if k == "carry" else v for k, v in options.items()}
            same(jax.jit(f)(here, x, t, **given), want)
            if (method, cell, kind) == ("rtrl", apart, AxisType.Explicit):
                learner = rj.online.Learner(cell, loss)
                step, state, total = jax.jit(learner.step), learner.init(here, x[0]), None
                for n in range(T):
                    state, *now = step(here, state, x[n], t[n])
                    total = now if total is None else jax.tree.map(jnp.add, total, now)
                same(total, list(want))
                assert all(m.sharding.spec[0] == "batch" for m in jax.tree.leaves(state.influence))
            collectives = jax.jit(f).lower(here, x, t, **given).compile().as_text().count(" all-reduce(")
            assert cell is not apart or collectives == 1, (method, kind, collectives)
print("equal")
"""


@pytest.mark.slow
def test_a_batch_over_two_devices_equals_one():
    """Sequences apart, whose influence each device holds for its own; signs that are drawn; and sequences that meet. Of sequences
    apart, a step's value and gradients, which are of the whole batch, are summed over devices together: one all-reduce a step."""
    run = on_devices(2, "-c", PROGRAM)
    assert run.stdout.strip() == "equal", run.stderr[-2000:]
