"""Pictures show the numbers they are given."""

import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import diagnostics as look

pytest.importorskip("matplotlib")


def drawn(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_gradient_flow_is_logarithmic_with_gaps_and_the_predicted_slope_beside_it():
    flows = {"vanishing": np.array([0.0, 1e-3, 1.0]), "steady": np.ones(3)}
    axes = look.plot_gradient_flow(flows, exponents={"steady": 0.5})
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(drawn(axes)["vanishing"], [np.nan, 1e-3, 1.0])
    dashed = next(line for line in axes.get_lines() if line.get_linestyle() == "--")
    np.testing.assert_allclose(dashed.get_ydata(), np.exp([0.5, 0.0, -0.5]))


def report():
    exponents, error = jnp.array([0.4, -1.6]), jnp.array([0.01, 0.02])
    history = jnp.array([[0.5, -2.0], [0.3, -1.8], [0.4, -1.6]])
    return look.Lyapunov(exponents, error, history, jnp.array([10, 20, 30]), jnp.array(1.25))


def test_lyapunov_spectrum_and_history():
    axes = look.plot_lyapunov({"a": report()})
    np.testing.assert_allclose(drawn(axes)["a"], [0.4, -1.6])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.max(), band.min()], [0.4 + 0.0196, -1.6 - 0.0392], rtol=1e-5)
    axes = look.plot_lyapunov_history(report(), first=1)
    lines = [line for line in axes.get_lines() if "lambda" in line.get_label()]
    assert len(lines) == 1
    np.testing.assert_allclose(lines[0].get_xdata(), [10, 20, 30])
    np.testing.assert_allclose(lines[0].get_ydata(), [0.5, 0.3, 0.4], rtol=1e-6)
    with pytest.raises(ValueError, match="one sequence at a time"):
        look.plot_lyapunov_history(report()._replace(history=jnp.zeros((3, 4, 2))))


def test_fixed_points_lie_in_their_plane_by_kind():
    """Three points on a line in five dimensions, at distances 1 and 2: so they lie on paper."""
    direction = np.array([3.0, 0.0, 0.0, 4.0, 0.0]) / 5
    points = jnp.asarray(np.array([0.0, 1.0, 3.0])[:, None] * direction)
    found = look.FixedPoints(
        points, jnp.array([0.0, 0.0, 0.5]), np.zeros((3, 5), complex), np.array([True, False, False])
    )
    axes = look.plot_fixed_points(found)
    kinds = {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections}
    assert set(kinds) == {"1 stable", "1 unstable", "1 slow"}
    np.testing.assert_allclose(np.linalg.norm(kinds["1 stable"] - kinds["1 unstable"]), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(kinds["1 slow"] - kinds["1 unstable"]), 2.0, rtol=1e-5)


def test_eigenvalues_capacity_and_gates():
    axes = look.plot_jacobian(np.array([[0.0, -2.0], [2.0, 0.0]]))
    np.testing.assert_allclose(np.sort(np.asarray(axes.collections[0].get_offsets())[:, 1]), [-2.0, 2.0], atol=1e-12)
    axes = look.plot_memory_capacity({"two": look.MemoryCapacity(jnp.array(2.0), jnp.array([[1.0, 0.5], [0.5, 0.0]]))})
    np.testing.assert_allclose(drawn(axes)["two: 2.0"], [1.5, 0.5])
    gate = look.Saturation(jnp.array(0.2), jnp.array(0.3), jnp.array([0.1, 0.3]), jnp.array([0.6, 0.0]), "here")
    axes = look.plot_gate_saturation({"gate_0": gate}, names={"gate_0": "update"})
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.6, 0.1], [0.0, 0.3]], rtol=1e-6)
    assert axes.collections[0].get_label() == "update: 30% open, 20% shut"
