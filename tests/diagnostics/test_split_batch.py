"""What is measured of a batch that two devices share: the numbers of one, on explicit and automatic meshes."""

import pytest
from several import on_devices

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

T, B = 24, 4
look, cell, gru = rj.diagnostics, rj.LSTM(3), rj.GRU(3)
xs = jax.random.normal(jax.random.key(0), (T, B, 2))
params, gates = cell.init(jax.random.key(1), xs[0]), gru.init(jax.random.key(1), xs[0])
looks = {
    "flow": lambda xs: look.gradient_flow(cell, params, xs),
    "slope": lambda xs: look.gradient_slope(cell, params, xs),
    "exponents": lambda xs: look.lyapunov(cell, params, xs, report=True),
    "of a stretch": lambda xs: jax.grad(lambda p: jnp.sum(look.lyapunov(gru, p, xs, k=2)))(gates),
    "gates": lambda xs: look.gate_saturation(cell, params, xs),
    "points": lambda xs: look.fixed_points(gru, gates, jnp.zeros(2), jnp.tile(xs[0], 2)[:, :3]),
}
plain = {name: jax.device_get(f(xs)) for name, f in looks.items()}
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        split = jax.device_put(xs, NamedSharding(mesh, P(None, "batch")))
        for name, f in looks.items():
            same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=f"{kind} {name}")
            jax.tree.map(same, jax.device_get(f(split)), plain[name])
print("equal")
"""


@pytest.mark.slow
def test_a_batch_over_two_devices_is_measured_as_on_one():
    """On explicit meshes five of these raised; on either, `lyapunov` of 512 sequences hung jaxlib 0.10.2."""
    run = on_devices(2, "-c", PROGRAM)
    assert run.stdout.strip() == "equal", run.stderr[-2000:]
