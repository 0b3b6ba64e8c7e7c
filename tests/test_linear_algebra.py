"""Small systems, many at once: against numpy, and that the programs which solve them call nobody that could wait for ever."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnnjax as rj
from rnnjax.linear_algebra import exponential, inverse, orthonormal, solve_positive, unit_lower_solve


def lower_matrices(kind, n):
    rng = np.random.default_rng(n)
    if kind == "alike":  # keys that are all one key: powers of this matrix grow to 1e18
        return np.tril(np.ones((n, n)))
    return np.tril(rng.normal(size=(3, n, n)) / 4, -1) + np.eye(n)


@pytest.mark.parametrize("n", [1, 7, 64])
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


def antisymmetric(n, scale):
    a = scale * np.random.default_rng(n).normal(size=(2, n, n))
    return a - np.swapaxes(a, 1, 2)


@pytest.mark.parametrize("n", [3, 37])
def test_a_positive_system_equals_numpys(n):
    """Sizes that blocks divide and others, many at once and one; and the derivative, ``-a^-1 da a^-1 b``."""
    a, b, da = np.eye(n) + antisymmetric(n, 1.0), np.ones((2, n, 2)), np.ones((2, n, n))
    with jax.enable_x64(True):
        x, dx = jax.jvp(lambda a: solve_positive(a, jnp.asarray(b)), (jnp.asarray(a),), (jnp.asarray(da),))
        back = jax.grad(lambda a: jnp.sum(solve_positive(a, jnp.asarray(b[0])) ** 2))(jnp.asarray(a[0]))
    want = np.linalg.solve(a, b)
    np.testing.assert_allclose(x, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dx, -np.linalg.solve(a, da @ want), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(back, -np.linalg.solve(a[0].T, 2 * want[0]) @ want[0].T, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_an_exponential_equals_scipys(scale):
    scipy = pytest.importorskip("scipy.linalg")
    a = antisymmetric(5, scale)
    with jax.enable_x64(True):
        got = np.asarray(exponential(jnp.asarray(a)))
    np.testing.assert_allclose(got, scipy.expm(a), atol=1e-10)
    np.testing.assert_allclose(np.swapaxes(got, 1, 2) @ got, np.broadcast_to(np.eye(5), got.shape), atol=1e-11)


def test_orthonormal_columns_equal_numpys():
    """One by one and many at once, of columns that differ by a million in length and nearly point the same way."""
    a = np.random.default_rng(0).normal(size=(3, 6, 4)) * 10.0 ** np.arange(-3, 5, 2)
    a[0, :, 1] = 1e2 * a[0, :, 0] + 1e-3 * a[0, :, 1]
    q, r = jax.jit(orthonormal)(jnp.asarray(a, jnp.float32))
    _, want = np.linalg.qr(a)
    np.testing.assert_allclose(np.swapaxes(q, 1, 2) @ q, np.broadcast_to(np.eye(4), (3, 4, 4)), atol=1e-5)
    np.testing.assert_allclose(
        np.abs(np.diagonal(r, axis1=1, axis2=2)), np.abs(np.diagonal(want, axis1=1, axis2=2)), rtol=2e-2
    )
    np.testing.assert_allclose(q @ r, a, rtol=1e-4, atol=1e-6)


def test_of_a_column_of_zeros_nothing_is_left_and_of_one_that_depends_on_others_rounding():
    q, r = orthonormal(jnp.array([[[1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]]))
    assert not q[0, :, 1].any() and float(r[0, 1, 1]) == 0 and float(r[0, 2, 2]) < 1e-6 and np.isfinite(q).all()


@pytest.mark.parametrize(
    "derivative",
    [jax.grad, lambda f: jax.grad(lambda a: jnp.sum(jax.grad(f)(a) ** 2))],
    ids=["first", "second"],
)
@pytest.mark.slow
def test_the_derivative_of_orthonormal_columns_is_that_of_lapacks(derivative):
    """As JAX has it for one matrix, up to the signs of columns, which a loss of squares does not see."""
    a = np.random.default_rng(1).normal(size=(2, 5, 3))
    weights = np.random.default_rng(2).normal(size=(2, 5, 3)), np.random.default_rng(3).normal(size=(2, 3, 3))
    total = lambda f: lambda a: sum(jnp.sum(w * part**2) for w, part in zip(weights, f(a), strict=True))
    with jax.enable_x64(True):
        ours, theirs = (derivative(total(f))(jnp.asarray(a)) for f in (orthonormal, jax.vmap(jnp.linalg.qr)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("cell", "method"),
    [
        (rj.DeltaNet(4, heads=2), "associative"),
        (rj.GatedDeltaNet(4, heads=2), "associative"),
        (rj.GRU(3), "elk"),
        (rj.OrthogonalRNN(4), "scan"),
        (rj.OrthogonalRNN(4, parametrization="cayley"), "scan"),
    ],
    ids=["DeltaNet", "GatedDeltaNet", "elk", "exp", "cayley"],
)
def test_no_program_waits_for_lapack(cell, method):
    """Two batches of LAPACK at once, of one program or of two devices, hang jaxlib 0.10.2."""
    xs = jnp.ones((5, 2, 3))
    params = cell.init(jax.random.key(0), xs[0])
    value = lambda p: jnp.sum(rj.unroll(cell, p, xs, method=method)[1])
    assert "lapack" not in jax.jit(value if method == "elk" else jax.grad(value)).lower(params).as_text()


def test_steps_that_all_write_to_one_key_do_so_on_an_explicit_mesh():
    """The delta rule in chunks on an explicit mesh was off by 1e10 there."""
    cell, xs = rj.DeltaNet(2, heads=1), jnp.ones((64, 2, 3))
    params = jax.tree.map(lambda a: 3 * a, cell.init(jax.random.key(0), xs[0]))
    want = rj.unroll(cell, params, xs)[1]
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = jax.device_put(xs, NamedSharding(mesh, PartitionSpec(None, "batch")))
        got = jax.jit(lambda p, xs: rj.unroll(cell, p, xs, method="associative")[1])(params, split)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


ONE_MATRIX_AT_A_TIME = {
    "cells/simple/reservoir.py",
    "diagnostics/capacity.py",
    "diagnostics/fixed.py",
    "diagnostics/lyapunov.py",
    "linear_algebra.py",
}


def test_only_files_that_decompose_one_matrix_at_a_time_ask_lapack():
    """Whoever needs a batch takes `rnnjax.linear_algebra`."""
    root = Path(rj.__file__).parent
    asks = re.compile(r"\b(jnp|jax\.\w+)\.linalg\.(?!norm\b)|jax\.scipy\.linalg")
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if asks.search(file.read_text())}
    assert found == ONE_MATRIX_AT_A_TIME
