"""Small systems, many at once: against numpy, and that the programs which solve them call nobody that could wait for ever."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnnjax as rj
from rnnjax.elimination import inverse, unit_lower_solve


def lower_matrices(kind, n):
    rng = np.random.default_rng(n)
    if kind == "alike":  # keys that are all one key: powers of this matrix grow to 1e18
        return np.tril(np.ones((n, n)))
    return np.tril(rng.normal(size=(3, n, n)) / 4, -1) + np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
@pytest.mark.parametrize("kind", ["alike", "random"])
def test_a_lower_system_equals_numpys(kind, n):
    lower = lower_matrices(kind, n)
    right = np.random.default_rng(1).normal(size=(*lower.shape[:-1], 3))
    given = jnp.asarray(lower + np.triu(np.ones((n, n)), 1), jnp.float32)  # what stands above is not read
    want = np.linalg.solve(lower, right)
    got = jax.jit(unit_lower_solve)(given, jnp.asarray(right, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_its_derivative_is_that_of_the_closed_form():
    """``d (L^-1 r) = -L^-1 dL L^-1 r``."""
    lower, dots = lower_matrices("random", 5)[0], np.tril(np.ones((5, 5)), -1)
    right = np.arange(5.0)[:, None]
    with jax.enable_x64(True):
        tangent = jax.jvp(
            lambda a: unit_lower_solve(a, jnp.asarray(right)), (jnp.asarray(lower),), (jnp.asarray(dots),)
        )[1]
    back = np.linalg.inv(lower)
    np.testing.assert_allclose(tangent, -back @ dots @ back @ right, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_inverses_equal_numpys(dtype):
    """Also of matrices that need another row first."""
    a = np.random.default_rng(0).normal(size=(2, 4, 5, 5)).astype(dtype)
    a[..., 0, 0] = 0
    if dtype == np.complex64:
        a += 1j * a[::-1, ::-1]
    np.testing.assert_allclose(
        jax.jit(inverse)(jnp.asarray(a)), np.linalg.inv(a.astype(np.complex128)), rtol=2e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("cell", "method"),
    [(rj.DeltaNet(4, heads=2), "associative"), (rj.GatedDeltaNet(4, heads=2), "associative"), (rj.GRU(3), "elk")],
    ids=["DeltaNet", "GatedDeltaNet", "elk"],
)
def test_no_program_waits_for_lapack(cell, method):
    """Two batches of LAPACK at once, of one program or of two devices, hang jaxlib 0.10.2."""
    xs = jnp.ones((5, 2, 3))
    params = cell.init(jax.random.key(0), xs[0])
    value = lambda p: jnp.sum(rj.unroll(cell, p, xs, method=method)[1])
    assert "lapack" not in jax.jit(value if method == "elk" else jax.grad(value)).lower(params).as_text()


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_steps_that_all_write_to_one_key_do_so_on_every_mesh(kind):
    """The delta rule in chunks on an explicit mesh was off by 1e10 there."""
    cell, xs = rj.DeltaNet(2, heads=1), jnp.ones((64, 2, 3))
    params = jax.tree.map(lambda a: 3 * a, cell.init(jax.random.key(0), xs[0]))
    want = rj.unroll(cell, params, xs)[1]
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        split = jax.device_put(xs, NamedSharding(mesh, PartitionSpec(None, "batch")))
        got = jax.jit(lambda p, xs: rj.unroll(cell, p, xs, method="associative")[1])(params, split)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
