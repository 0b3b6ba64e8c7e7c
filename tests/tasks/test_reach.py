"""The arm against Lagrange's equations, its own energy, finite differences and MotorNet; a network that learns to reach."""

import jax
import jax.numpy as jnp
import lagrange
import numpy as np
import pytest

from rnnjax.tasks import Setting, reach
from rnnjax.tasks.physics import arm, muscle, muscled
from rnnjax.tasks.run import train

BODIES = {"arm": muscled.Arm(), "point": muscled.Point()}


def kinetic(q, v):
    """J of two rods whose masses, centres and inertias are given; the forearm turns with both angles."""
    links, turn = arm.HUMAN, np.array([v[0], v[0] + v[1]])
    across = lambda angle: np.array([-np.sin(angle), np.cos(angle)])
    upper = links.centre[0] * turn[0] * across(q[0])
    fore = links.length[0] * turn[0] * across(q[0]) + links.centre[1] * turn[1] * across(q[0] + q[1])
    moving = links.mass[0] * upper @ upper + links.mass[1] * fore @ fore
    return (moving + links.inertia[0] * turn[0] ** 2 + links.inertia[1] * turn[1] ** 2) / 2


def test_two_links_by_lagrange():
    rng = np.random.default_rng(0)
    angle, turn, torque = rng.uniform(0, 2, (6, 2)), 3 * rng.normal(size=(6, 2)), 5 * rng.normal(size=(6, 2))
    found = arm.accelerations(arm.HUMAN, *(jnp.array(a, jnp.float32) for a in (angle, turn, torque)))
    want = [lagrange.accelerations(kinetic, lambda q: 0.0, *row) for row in zip(angle, turn, torque)]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_energy_is_kept_to_the_order_of_integration():
    """Without torque half the step leaves half the error (Euler's first order), and little of it."""
    wide, begin = ((-9.0, -9.0), (9.0, 9.0)), (np.array([0.4, 1.2]), np.array([1.5, -2.0]))

    @jax.jit
    def after(steps):
        def move(_, state):
            angle, turn = state
            return arm.euler(angle, turn, arm.accelerations(arm.HUMAN, angle, turn, 0 * turn), 0.5 / steps, wide)

        return jax.lax.fori_loop(0, steps, move, tuple(jnp.asarray(part, jnp.float64) for part in begin))

    with jax.enable_x64(True):
        error = [kinetic(*map(np.asarray, after(steps))) / kinetic(*begin) - 1 for steps in (250, 500, 1000)]
    assert 1.9 < error[0] / error[1] < 2.1 and 1.9 < error[1] / error[2] < 2.1 and abs(error[2]) < 0.01


def test_forces_of_a_muscle():
    """Isometric force by length; steepness twice as great beyond v = 0; Hill's hyperbola solved for; nothing pulls backward."""
    with jax.enable_x64(True):
        compiled = jax.jit(muscle.hill_force)
        force = lambda q, l, v: float(compiled(q, l, v))
        for q, l in ((0.05, 0.8), (0.5, 1.0), (1.0, 1.2)):
            isometric = q * (1 - ((l - 1) / 0.66) ** 2)
            assert force(q, l, 0.0) == pytest.approx(isometric)
            slope = [(force(q, l, v) - force(q, l, 0.0)) / v for v in (-1e-6, 1e-6)]
            assert slope[1] / slope[0] == pytest.approx(2, rel=1e-3)
            a = 0.41 * (isometric / q if l > 1 else 1)
            b = 5.2 if q >= 0.3 else 5.2 * (1 - 0.9 * (q - 0.3) / (0.005 - 0.3)) ** 2
            shortening = force(q, l, -0.2)
            assert (shortening + q * a) * (b + 0.2) == pytest.approx((isometric + q * a) * b)
            assert force(q, l, 50.0) == pytest.approx(1.5 * isometric + 0.05, rel=0.02)
        assert force(0.5, 1.0, -30.0) == 0.0 and force(0.5, 1.66, -30.0) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_gradients_through_a_hundred_steps_by_differences(name):
    body, rng = BODIES[name], np.random.default_rng(2)
    with jax.enable_x64(True):
        low, high = np.array(body.limits)
        place = jnp.array(low + (high - low) * rng.uniform(0.3, 0.7, (2, 2)))
        drives = jnp.array(rng.uniform(0.02, 0.2, (100, 2, body.muscles)))
        weights = jnp.array(rng.normal(size=(2, 2)))

        @jax.jit
        def score(place, drives):
            end = jax.lax.scan(lambda s, u: (muscled.step(body, s, u), None), muscled.start(body, place), drives)[0]
            return (weights * body.hand(end.place)).sum()

        found = jax.grad(score, (0, 1))(place, drives)
        for part in range(2):
            for _ in range(3):
                given = [place, drives]
                towards, h = jnp.array(rng.normal(size=given[part].shape)), 1e-7
                given[part] = given[part] + h * towards
                above = score(*given)
                given[part] = given[part] - 2 * h * towards
                slope = (above - score(*given)) / (2 * h)
                assert float((found[part] * towards).sum()) == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("name", BODIES)
def test_a_second_as_in_motornet(name):
    """Places, speeds, activations, forces, and all that is seen, at each of the hundred steps; each step from MotorNet's own state too,
    from which forces are equal to 1e-5. Where a hundred of ours stand in a row rounding adds up in them: 1e-4."""
    motornet, torch = pytest.importorskip("motornet"), pytest.importorskip("torch")
    hill = motornet.muscle.RigidTendonHillMuscle
    theirs = {"arm": lambda: motornet.effector.RigidTendonArm26(hill()), "point": motornet.effector.ReluPointMass24}
    world = motornet.environment.RandomTargetReach(effector=theirs[name](), max_ep_duration=1.0)
    seen, about = world.reset(seed=3, options={"batch_size": 8})
    body, rng, over, steps = BODIES[name], np.random.default_rng(4), False, 0
    of = lambda kind: about["states"][kind].detach().numpy().copy()
    state = muscled.start(body, jnp.array(of("joint")[:, :2]))
    drives = rng.random((10, 8, body.muscles)) ** 2
    move, target = jax.jit(lambda state, drive: muscled.step(body, state, drive)), about["goal"].numpy()

    def alike(state, of_forces):
        forces = body.force(state.activation, state.length, state.velocity)
        np.testing.assert_allclose(jnp.concatenate([state.place, state.speed], -1), of("joint"), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(state.activation, of("muscle")[:, 0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(forces, of("muscle")[:, -1], rtol=of_forces, atol=1e-3)  # N, of up to 1,549

    alike(state, 1e-5)
    felt = of("geometry")
    while not over:
        episode = reach.Episode(state.place, jnp.array(target))
        np.testing.assert_allclose(reach.shown(body, episode, state), seen.numpy(), rtol=1e-4, atol=1e-5)
        drive, place = drives[steps // 10], of("joint")
        own = muscled.Moved(*map(jnp.array, (place[:, :2], place[:, 2:], of("muscle")[:, 0], felt[:, 0], felt[:, 1])))
        now = of("geometry")
        seen, _, over, _, about = world.step(torch.tensor(drive, dtype=torch.float32))
        felt = now  # lengths and velocities of the muscles are felt a step later
        own, state = (move(each, jnp.array(drive, jnp.float32)) for each in (own, state))
        alike(own, 1e-5)
        alike(state, 1e-4)
        steps += 1
    assert steps == reach.STEPS


@pytest.mark.slow
@pytest.mark.long
def test_an_arm_learns_to_reach():
    problem = reach.make(BODIES["arm"], Setting(steps=200))
    found = train(reach.RECIPE, problem._replace(validations=1), 0, progress=False)
    still = problem.floors["a hand that stays"]()
    assert problem.score(found.params, "test").value < 0.75 * still
