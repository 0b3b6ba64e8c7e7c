"""Steps split over devices: the numbers of one device, values and gradients, and what is refused."""

import jax
import jax.numpy as jnp
import pytest
from several import on_devices

import rnnjax as rj

PROGRAM = """
import re
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj

mesh = jax.make_mesh((4,), ("time",))
rng = np.random.default_rng(0)
xs = jnp.asarray(rng.normal(size=(12, 2, 3)), jnp.float32)
flags = dict(lengths=jnp.array([11, 5]), mask=jnp.asarray(rng.random((12, 2)) < 0.8), reset=jnp.asarray(rng.random((12, 2)) < 0.2))
cell = rj.Readout(rj.Stack(rj.Dropout(rj.LRU(3), 0.5), rj.Residual(rj.QRNN(3))), 2)
params = cell.init(jax.random.key(0), xs[0])
carry = jax.tree.map(lambda a: a + 1, cell.initial_carry(params, xs[0]))

def loss(params, xs, carry, flags, how):
    run = rj.unroll if how is None else (lambda *a, **k: rj.parallel.over_devices(*a, mesh=mesh, axis="time", **k))
    out = run(cell, params, xs, carry=carry, key=jax.random.key(1), **flags)
    return sum(jnp.sum(jnp.sin(a.real)) for a in jax.tree.leaves(out)), out

step = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), static_argnums=4)
got, want = (step(params, xs, carry, flags, how) for how in ("devices", None))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
flags["reset"], carry = flags["reset"].at[0].set(True), jax.tree.map(lambda a: a * jnp.nan, carry)  # replaced: it is not looked at
got, want = (step(params, xs, carry, flags, how) for how in ("devices", None))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
assert all(np.isfinite(a).all() for a in jax.tree.leaves(got))
forward = jax.jit(lambda p, xs: rj.parallel.over_devices(rj.LRU(3), p, xs, mesh=mesh, axis="time")[1])
text = forward.lower(rj.LRU(3).init(jax.random.key(0), xs[0]), xs).compile().as_text()
print("equal", len(re.findall(r" (?:all-reduce|all-to-all|collective-permute|reduce-scatter)[\\w-]*\\(", text)))
"""


@pytest.mark.slow
def test_steps_over_four_devices_equal_one() -> None:
    """With every option, layers and noise; what is exchanged is gathered, and nothing else."""
    run = on_devices(4, "-c", PROGRAM)
    assert run.stdout.strip() == "equal 0", run.stderr[-2000:]


@pytest.mark.parametrize(
    ("cell", "time", "axis", "message"),
    [
        (rj.Readout(rj.GRU(4), 2), 4, "time", r"Readout.*linear in time.*is not; use rnnjax.unroll"),
        (rj.DeltaNet(4), 4, "time", "a state that is no matrix"),
        (rj.Stack(rj.LRU(4), rj.Zoneout(rj.MinGRU(4), 0.1)), 4, "time", "Zoneout.* is not; use rnnjax.unroll"),
        (rj.LRU(4), 4, "batch", r"axis must be one of \('time',\), the axes of the mesh, got 'batch'"),
    ],
    ids=lambda v: "",
)
def test_what_it_cannot_do_is_refused(cell, time, axis, message) -> None:
    xs, mesh = jnp.ones((time, 3)), jax.make_mesh((1,), ("time",))
    params = jax.eval_shape(cell.init, jax.random.key(0), xs[0])
    with pytest.raises(ValueError, match=message):
        rj.parallel.over_devices(cell, params, xs, mesh=mesh, axis=axis)
