"""Several devices: unroll and its gradient inside `jax.shard_map` over the batch equal the run on one device."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import Mesh, PartitionSpec as P

assert len(jax.devices()) == 2
mesh = Mesh(np.array(jax.devices()), ("batch",))
xs = jax.random.normal(jax.random.key(0), (6, 4, 3))
lengths = jnp.array([6, 0, 3, 5])
cell = rj.Stack(rj.LSTM(4), rj.Readout(rj.GRU(3), 2))
params = cell.init(jax.random.key(1), xs[0])

def loss(params, xs, lengths):
    return jnp.sum(rj.unroll(cell, params, xs, lengths=lengths, truncate=4)[1] ** 2)

def shard(params, xs, lengths):
    value, grads = jax.value_and_grad(loss)(params, xs, lengths)
    return jax.lax.psum(value, "batch"), grads  # of parameters that all devices share: already summed

specs = dict(in_specs=(P(), P(None, "batch"), P("batch")), out_specs=(P(), P()))
got = jax.jit(jax.shard_map(shard, mesh=mesh, **specs))(params, xs, lengths)
want = jax.value_and_grad(loss)(params, xs, lengths)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
print("equal")
"""


def test_shard_map_over_the_batch_equals_one_device():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=240)
    assert run.stdout.strip() == "equal", run.stderr[-2000:]
