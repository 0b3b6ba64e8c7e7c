"""Fixed and slow points against direct solutions, bisection, and Newton's method from every point of a grid in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax as rj
from rnnjax.diagnostics import fixed_points


def test_fixed_point_of_a_linear_network(key):
    """h = h U + x W + b solved directly; the eigenvalues are those of U."""
    cell, x = rj.Elman(3, activation="identity"), jnp.array([1.0, -2.0])
    params = cell.init(key, x)
    params["recurrent"] = 0.7 * params["recurrent"]
    found = fixed_points(cell, params, x, jax.random.normal(key, (5, 3)))
    u = np.asarray(params["recurrent"], np.float64)
    want = np.linalg.solve((np.eye(3) - u).T, np.asarray(x @ params["input"] + params["bias"], np.float64))
    np.testing.assert_allclose(found.points, want[None], atol=1e-5)  # five starts, one point
    assert bool((found.residual < 1e-5).all()) and found.stable.tolist() == [True]
    np.testing.assert_allclose(np.abs(found.eigenvalues), 0.7, atol=1e-5)


def test_fixed_points_of_a_bistable_neuron(float64):
    """h' = tanh(2 h): 0 is unstable (slope 2); the two others by bisection."""
    low, high = 0.5, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.tanh(2 * middle) > middle else (low, middle)
    neuron = lambda params, h, x: (jnp.tanh(2 * h), h)
    found = fixed_points(neuron, {}, jnp.zeros(1), jnp.array([[-0.8], [0.01], [0.9]]))
    np.testing.assert_allclose(found.points[:, 0], [-low, 0.0, low], atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues[:, 0].real, 2 * (1 - np.array([low, 0.0, low]) ** 2), rtol=1e-8)
    assert found.stable.tolist() == [True, False, True]


def test_slow_points_are_told_apart_by_their_residual(float64):
    """h' = h + h^2 + 0.01 has no fixed point; it is slowest at h = 0, by 0.01."""
    ghost = lambda params, h, x: (h + h**2 + 0.01, h)
    found = fixed_points(ghost, {}, jnp.zeros(1), jnp.array([[0.3], [-0.3]]))
    np.testing.assert_allclose(found.points, 0.0, atol=1e-3)
    np.testing.assert_allclose(found.residual, 0.01, rtol=1e-3)
    assert not found.stable.any()  # one side of it is attracted, but it does not stay


def test_points_come_in_the_form_of_the_carry(key):
    cell, xs = rj.LSTM(3), jnp.zeros((10, 4, 2))
    params = cell.init(key, xs[0])
    carry, _ = rj.unroll(cell, params, xs, carry=rj.LSTMCarry(h=jnp.ones((4, 3)) * 0.1, c=jnp.ones((4, 3)) * 0.1))
    found = fixed_points(cell, params, xs[0, 0], carry)
    n = len(found.residual)
    assert found.points.c.shape == (n, 3) and found.eigenvalues.shape == (n, 6) and 1 <= n <= 4
    again, _ = cell(params, found.points, jnp.zeros((n, 2)))
    np.testing.assert_allclose(again.c, found.points.c, atol=1e-5)


def newton_from_a_grid(weights, per_axis):
    """All fixed points of ``h = tanh(W h)`` that Newton's method finds from a grid, and which are stable."""
    n = len(weights)
    h = np.stack(np.meshgrid(*[np.linspace(-1, 1, per_axis)] * n, indexing="ij"), -1).reshape(-1, n)
    for _ in range(100):
        t = np.tanh(h @ weights.T)
        step = np.linalg.solve((1 - t**2)[:, :, None] * weights - np.eye(n), (h - t)[..., None])[..., 0]
        h = h + step * np.minimum(1, 0.3 / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-300))
    h = h[np.linalg.norm(np.tanh(h @ weights.T) - h, axis=1) < 1e-13]
    points = h[np.unique(np.round(h, 6) + 0.0, axis=0, return_index=True)[1]]
    slopes = (1 - np.tanh(points @ weights.T) ** 2)[:, :, None] * weights
    return points, np.abs(np.linalg.eigvals(slopes)).max(1) < 1


def test_all_points_of_small_networks_are_found_and_classified(float64):
    """W[i, :] = -roll(linspace(-1, 1, n), -i): 3 points, 2 of them stable, for n = 2; 3 and none for n = 3; 9 and 2 for n = 4."""
    network = lambda params, h, x: (jnp.tanh(params @ h), h)
    for n, per_axis, count, stable in ((2, 15, 3, 2), (3, 11, 3, 0), (4, 9, 9, 2)):
        weights = np.stack([-np.roll(np.linspace(-1, 1, n), -i) for i in range(n)])
        points, comes_back = newton_from_a_grid(weights, per_axis)
        assert (len(points), comes_back.sum()) == (count, stable)
        starts = np.random.default_rng(0).uniform(-1, 1, (200, n))
        found = fixed_points(network, jnp.asarray(weights), jnp.zeros(1), jnp.asarray(starts), steps=60)
        fixed = np.asarray(found.residual) < 1e-12
        assert fixed.sum() == count and found.stable.sum() == stable
        for point, good in zip(points, comes_back):
            distance = np.linalg.norm(np.asarray(found.points) - point, axis=1)
            assert distance.min() < 1e-9 and found.stable[distance.argmin()] == good


def test_no_two_points_are_nearer_than_the_tolerance(key):
    """On a line of fixed points every start stays where it is."""
    line = lambda params, h, x: (jnp.stack([h[0], 0.5 * h[1]]), h)
    starts = jnp.stack([jnp.linspace(0.0, 1.0, 41), jnp.ones(41)], axis=1)
    found = fixed_points(line, {}, jnp.zeros(1), starts, tolerance=0.06)
    apart = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1) + np.eye(len(found.points))
    assert apart.min() > 0.06 and len(found.points) >= 14
    assert not found.stable.any()  # along the line nothing comes back
    np.testing.assert_allclose(np.abs(found.eigenvalues), np.tile([1.0, 0.5], (len(found.points), 1)), rtol=1e-5)


def test_a_start_that_is_not_finite_is_left_out_and_a_second_call_traces_nothing():
    traced = []

    @rj.cell
    class Halve:
        def init(self, key, x):
            return {}

        def initial_carry(self, params, x):
            return jnp.zeros(1)

        def __call__(self, params, carry, x, key=None):
            traced.append(1)
            return 0.5 * (carry + x), carry

    starts = jnp.array([[jnp.nan], [0.0], [jnp.inf], [5.0]])
    found = fixed_points(Halve(), {}, jnp.array([3.0]), starts)
    assert found.points.tolist() == [[3.0]]
    before = len(traced)
    assert fixed_points(Halve(), {}, jnp.array([2.0]), starts).points.tolist() == [[2.0]] and len(traced) == before
    assert fixed_points(Halve(), {}, jnp.array([2.0]), starts[:1], steps=200).points.shape == (0, 1)


def test_fixed_points_errors():
    stay = lambda p, c, x: (c, c)
    x = jnp.zeros(1)
    with pytest.raises(ValueError, match=r"carries stacked to \[n, \*carry\], n at least 1"):
        fixed_points(stay, {}, x, jnp.zeros((0, 2)))
    with pytest.raises(TypeError, match="must be floating point"):
        fixed_points(stay, {}, x, (jnp.zeros((3, 2)), jnp.zeros((3, 1), int)))
    with pytest.raises(ValueError, match="tolerance must be a positive distance or None, got -1"):
        fixed_points(stay, {}, x, jnp.zeros((3, 2)), tolerance=-1)
    with pytest.raises(ValueError, match="not known inside jit"):
        jax.jit(lambda c: fixed_points(stay, {}, x, c).residual)(jnp.zeros((3, 2)))


def flip_flop(key, time=40, batch=64):
    """Pulses of +1 and -1 on three lines, one on each at the start; to say: the last one of each."""
    k_pulse, k_sign = jax.random.split(key)
    pulse = jax.random.bernoulli(k_pulse, 0.15, (time, batch, 3)).at[0].set(True)
    xs = jnp.where(pulse, jax.random.rademacher(k_sign, (time, batch, 3), jnp.float32), 0.0)
    return xs, jax.lax.associative_scan(lambda old, new: jnp.where(new == 0, old, new), xs)


@pytest.mark.slow
def test_a_gru_that_keeps_three_bits_has_eight_stable_points(key):
    """Trained on the flip-flop of Sussillo and Barak (2013), 5 s of it: without a pulse it rests in one point for each state of
    three bits, and says that state there; every point that is fixed beside them has a direction in which it is left."""
    model = rj.Readout(rj.GRU(24), 3)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, 800))

    def step(state, key):
        xs, bits = flip_flop(key)
        loss = lambda p: jnp.mean((rj.unroll(model, p, xs)[1] - bits) ** 2)
        value, grads = jax.value_and_grad(loss)(state[0])
        updates, memory = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), value

    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        params = model.init(key, jnp.zeros(3))
        train = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))
        (params, _), losses = train((params, optimizer.init(params)), jax.random.split(key, 800))
    assert losses[-1] < 5e-3
    _, (_, states) = rj.unroll(rj.Record(model.cell), params["cell"], flip_flop(jax.random.key(9), batch=100)[0])
    starts = states[10:].reshape(-1, 24)[::8]
    between = (starts + jax.random.permutation(key, starts)) / 2
    starts = jnp.concatenate([starts + 0.1 * jax.random.normal(key, starts.shape), between])
    found = fixed_points(model.cell, params["cell"], jnp.zeros(3), starts)
    said = found.points[found.stable] @ params["output"] + params["output_bias"]
    assert found.stable.sum() == 8 and len(np.unique(np.sign(said), axis=0)) == 8
    np.testing.assert_allclose(np.abs(said), 1.0, atol=0.15)
    others = (np.asarray(found.residual) < 1e-5) & ~found.stable
    assert others.sum() >= 6 and (np.abs(found.eigenvalues[others, 0]) > 1).all()
