"""Forecasters on a batch that lies on several devices: no error, outputs placed as the batch, the numbers of one device."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from several import on_devices

import rnnjax as rj
from rnnjax.forecast import OUTPUTS, Forecaster
from rnnjax.forecast.problem import outputs
from rnnjax.forecast.rows import read_rows

B, H = 8, 3
MESH = AbstractMesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
ROWS = read_rows("test", (np.random.default_rng(0).random((60, 2)) < 0.5).astype(float), H)


def model_of(output, gaps="masked"):
    return Forecaster(rj.Elman(3), H, output=output, gaps=gaps, season=5, context=6)


def problem_of(output, gaps="masked"):
    return model_of(output, gaps).problem(ROWS, batch=B)


@pytest.mark.parametrize("output", ["quantiles", *(pytest.param(o, marks=pytest.mark.slow) for o in OUTPUTS[1:])])
def test_a_loss_on_a_batch_that_is_split(output):
    """The types need no devices; what has them is compared below."""
    problem = problem_of(output, "grud" if output == "gaussian" else "masked")
    x = np.zeros(problem.example.shape, np.float32)
    params = jax.eval_shape(lambda: problem.network.init(jax.random.key(0), x))
    of = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(MESH, P(None, "batch")))
    window = jax.tree.map(of, problem.batches(0))
    with jax.sharding.use_abstract_mesh(MESH), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.eval_shape(lambda p, x: outputs(problem.network, p, x, H), params, window["inputs"])
        value, grads = jax.eval_shape(jax.value_and_grad(problem.loss), params, window)
    assert found.shape[:2] == (H, B) and found.sharding.spec[1] == "batch"
    assert value.shape == () and jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


PROGRAM = """
import warnings
import jax, numpy as np, optax, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from forecast.test_split_batch import problem_of

warnings.simplefilter("error")
problem = problem_of("quantiles", "grud")
params = problem.network.init(jax.random.key(0), np.zeros(problem.example.shape, np.float32))
params = jax.tree.map(lambda a: np.asarray(a) + 0.1, params)
want = jax.jit(jax.value_and_grad(problem.loss))(params, problem.batches(0))
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
    with jax.set_mesh(mesh):
        got = jax.jit(jax.value_and_grad(problem.loss))(place(params, P()), place(problem.batches(0), P(None, "batch")))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), got, want)
    print("equal")
loss = lambda params, carry, window, key: (carry, problem.loss(params, window, key))
one, four = (
    rj.train.fit(loss, params, problem.batches, optimizer=optax.sgd(0.1), steps=3, mesh=mesh, progress=False)
    for mesh in (None, jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,)))
)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), one.params, four.params)
print("equal")
"""


@pytest.mark.slow
def test_the_numbers_are_those_of_one_device():
    """Loss and gradients on an explicit and an automatic mesh; three steps of `fit` with a mesh."""
    run = on_devices(4, "-c", PROGRAM)
    assert run.stdout.split() == ["equal"] * 3, run.stderr[-2000:]
