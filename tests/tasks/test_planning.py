"""Ways round discs against plain geometry; the floor by hand; a network that goes round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.tasks import Setting, planning
from rnnjax.tasks.physics import ways
from rnnjax.tasks.run import train

single = lambda tree: jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), tree)
DISC = ways.Discs(np.array([[0.0, 0.05]]), np.array([0.3]))


def test_what_a_way_costs_by_a_plain_loop():
    """A wriggle between two discs, piece by piece; the chord of a straight way through one."""
    t = np.linspace(0, 1, 60)
    way = np.stack([2 * t - 1, 0.3 * np.sin(7 * t)], -1)
    centre, radius = np.array([[-0.3, 0.3], [0.4, -0.2]]), np.array([0.25, 0.2])
    length = inside = 0.0
    for a, b in zip(way, way[1:]):
        piece = np.hypot(*(b - a))
        length += piece
        inside += piece * any(np.hypot(*((a + b) / 2 - c)) < r for c, r in zip(centre, radius))
    cost = jax.jit(ways.cost)
    found = cost(*single((ways.Discs(centre, radius), way)))
    np.testing.assert_allclose(found, (length, inside), rtol=1e-4)
    line = ways.straight(jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0]))
    length, inside = cost(single(DISC), line)
    assert float(length) == pytest.approx(2, rel=1e-5)
    assert float(inside) == pytest.approx(2 * np.sqrt(0.3**2 - 0.05**2), abs=0.011)


def test_the_shortest_way_by_tangents():
    """Round one disc: two tangents and the arc between them. Round nothing: straight. Out of a ring: none."""
    begin, end = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    away, radius = np.hypot(1, 0.05), 0.3
    arc = radius * (np.pi - 2 * np.arctan2(0.05, 1) - 2 * np.arccos(radius / away))
    want = 2 * np.sqrt(away**2 - radius**2) + arc
    found = ways.shortest(DISC, begin, end)
    assert want <= found < 1.01 * want
    assert ways.shortest(DISC._replace(centre=np.array([[0.0, 2.0]])), begin, end) == pytest.approx(2)
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = ways.Discs(end + 0.5 * np.stack([np.cos(around), np.sin(around)], -1), np.full(12, 0.2))
    assert ways.shortest(ring, begin, end) == float("inf")


@pytest.mark.slow
def test_scenes_leave_both_ends_free_and_stand_in_the_way():
    for name, body in planning.BODIES.items():
        scene = jax.jit(lambda key: planning.scenes(body, key, 200))(jax.random.key(5))
        begin, low, high = body.hand(scene.place), *np.array(body.drawn)
        assert ((scene.place >= low) & (scene.place <= high)).all()
        for end in (begin, scene.target):
            assert float(ways.depth(scene.discs, end).max()) < 0
        met = ways.cost(scene.discs, ways.straight(begin, scene.target))[1] > 0
        assert 0.7 < float(met.mean()), name


@pytest.mark.slow
@pytest.mark.long
def test_a_network_goes_round():
    problem = planning.make(Setting(steps=400))._replace(validations=1)
    found = train(planning.RECIPE, problem, 0, progress=False)
    floor = problem.floors["straight way"]()
    score = problem.score(found.params, "valid")
    assert score.value < 0.8 * floor
    assert {"point, in discs", "arm, miss"} < set(score.parts)
