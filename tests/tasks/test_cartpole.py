"""The cart against gymnax and against Lagrange's equations, episodes by a plain loop, and a policy that learns to remember."""

import jax
import jax.numpy as jnp
import lagrange
import numpy as np
import pytest

from rnnjax.tasks import Setting, cartpole
from rnnjax.tasks.physics import cart
from rnnjax.tasks.run import train


def by_lagrange(q, v, force):
    """Accelerations of place and angle: a cart of 1 kg and a rod of 0.1 kg and 1 m."""
    mass, half = 0.1, 0.5

    def kinetic(q, v):
        middle = np.array([v[0] + half * v[1] * np.cos(q[1]), -half * v[1] * np.sin(q[1])])
        turning = mass * (2 * half) ** 2 / 12 * v[1] ** 2 / 2
        return v[0] ** 2 / 2 + mass * middle @ middle / 2 + turning

    return lagrange.accelerations(kinetic, lambda q: mass * 9.8 * half * np.cos(q[1]), q, v, np.array([force, 0]))


def test_a_push_by_lagrange():
    rng = np.random.default_rng(0)
    for _ in range(5):
        place, v, angle, turn = state = rng.normal(size=4)
        action = rng.uniform(-1, 1)
        after = np.array(cart.push(cart.Cart(*jnp.array(state, jnp.float32)), action))
        speeding, turning = by_lagrange(np.array([place, angle]), np.array([v, turn]), 10 * action)
        np.testing.assert_allclose(after, state + 0.02 * np.array([v, speeding, turn, turning]), rtol=1e-5, atol=1e-5)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # what it imports
def test_step_by_step_as_gymnax():
    gymnax = pytest.importorskip("gymnax")
    env, about = gymnax.make("CartPole-v1")
    rng, key = np.random.default_rng(1), jax.random.key(0)
    assert (about.max_steps_in_episode, env.obs_shape) == (cart.LONGEST, (4,))
    step, ours = (
        jax.jit(env.step_env),
        jax.jit(lambda state, action: (after := cart.push(state, action), cart.fallen(after))),
    )
    for episode in range(3):
        _, theirs = env.reset_env(jax.random.fold_in(key, episode), about)
        seen, total, lasted, done = env.get_obs(theirs), 0.0, 0, False
        while not done:  # pushed against its fall more often than not, so that it lasts a little
            right = int(seen[2] > 0 if rng.random() < 0.7 else rng.random() < 0.5)
            state, over = ours(cart.Cart(*seen), 2.0 * right - 1)
            with jax.numpy_dtype_promotion("standard"):  # which it needs
                seen, theirs, reward, done, _ = step(key, theirs, right, about)
            np.testing.assert_allclose(np.array(state), seen, rtol=1e-5, atol=1e-6)
            lasted, total = lasted + 1, total + float(reward)
            assert bool(over) == bool(done)
        assert total == lasted > 5


def test_how_long_a_policy_lasts_by_a_plain_loop():
    lines = np.array([[-0.94, 0.33, 0.0], [0.0, 1.0, 0.02], [1.0, 0.0, 0.0]])
    carts = cart.starts(jax.random.key(3), 4)
    want = np.zeros((3, 4))
    for i, line in enumerate(lines):
        for b in range(4):
            state, fallen = [np.float64(part[b]) for part in carts], False
            while not fallen:
                right = line @ [state[0] / 2.4, state[2] / (12 * 2 * np.pi / 360), 1] > 0
                a, w = by_lagrange(
                    np.array([state[0], state[2]]), np.array([state[1], state[3]]), 10.0 if right else -10.0
                )
                state = [s + 0.02 * r for s, r in zip(state, (state[1], a, state[3], w))]
                fallen = abs(state[0]) > 2.4 or abs(state[2]) > 12 * 2 * np.pi / 360
                want[i, b] += 1
    np.testing.assert_allclose(cartpole.by_lines(jnp.array(lines), carts), want.mean(1))


def test_velocities_are_hidden_and_episodes_apart():
    state = cart.Cart(*jnp.array([0.1, 7.0, -0.2, -9.0]))
    np.testing.assert_allclose(cartpole.seen(state), cartpole.seen(state._replace(v=0.0, turn=0.0)))
    valid, test = (np.array(cartpole.episodes(split)) for split in ("valid", "test"))
    assert valid.shape == test.shape == (4, 100) and not set(valid.ravel()) & set(test.ravel())
    assert jax.grad(lambda drive: cartpole.pushed(drive))(0.3) == pytest.approx(1 - np.tanh(0.3) ** 2)


@pytest.mark.slow
def test_a_memory_balances_the_pole():
    """Steps of training enough for some episodes; the floor from a recomputation of its own is 45 of 500."""
    problem = cartpole.make(Setting(steps=250))
    found = train(cartpole.RECIPE, problem, 0, progress=False)
    score = problem.score(found.params, "test")
    assert 200 < score.value <= 500 and score.parts["shortest"] <= score.value
