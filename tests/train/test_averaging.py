"""Gradients added up over batches, and averages of the params, against plain loops of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem
import pytest

import rnnjax as rj
from rnnjax.train import stateless

DATA = jax.random.normal(jax.random.key(0), (24, 3))
START = {"w": jnp.array([1.0, -2.0, 0.5])}


def loss(params, batch):
    return jnp.mean((batch @ params["w"] - 1.0) ** 2)


def batches(size):
    return lambda step: DATA.reshape(-1, size, 3)[step % (24 // size)]


def trained(steps, size, **options):
    options = dict(optimizer=optax.adam(0.1), progress=False) | options
    return rj.train.fit(stateless(loss), START, batches(size), steps=steps, **options)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_four_batches_make_the_update_of_one_four_times_as_large(clip):
    """The mean gradient of the four is clipped, not each of them."""
    found = trained(12, 2, accumulate=4, clip=clip).params["w"]
    params, optimizer = (
        START,
        optax.chain(optax.identity() if clip is None else optax.clip_by_global_norm(clip), optax.adam(0.1)),
    )
    state = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):  # as optax wants it
        for step in range(3):
            updates, state = optimizer.update(jax.grad(loss)(params, batches(8)(step)), state, params)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(found, params["w"], rtol=1e-5)


def test_the_average_is_that_of_optax_and_training_goes_on_from_the_last():
    seen = []
    result = trained(
        9,
        8,
        average=0.7,
        clip=None,
        validate=lambda p: seen.append(np.array(p["w"])) or 1.0 / len(seen),
        validate_every=3,
    )
    params, optimizer, ema, means = START, optax.adam(0.1), optax.ema(0.7), []
    state, kept = optimizer.init(params), ema.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for step in range(9):
            updates, state = optimizer.update(jax.grad(loss)(params, batches(8)(step)), state, params)
            params = optax.apply_updates(params, updates)
            mean, kept = ema.update(params, kept)
            means.append(mean["w"])
    np.testing.assert_allclose(np.array(seen), np.array(means)[2::3], rtol=1e-5)
    np.testing.assert_allclose(result.params["w"], means[-1], rtol=1e-5)
    np.testing.assert_allclose(result.state.params["w"], params["w"], rtol=1e-5)


def test_both_are_resumed_bit_for_bit(tmp_path):
    """Stopped in the middle of four batches."""
    options = dict(accumulate=4, average=0.9, progress=False, validate=None)
    whole = problem.fit(**options, steps=18)
    problem.fit(tmp_path / "run", **options, steps=6)
    again = problem.fit(tmp_path / "run", **options, steps=18, resume=True)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, whole.params))
    assert not jax.tree.all(jax.tree.map(np.array_equal, whole.params, whole.state.params))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(accumulate=0), "accumulate must be a positive int, got 0"),
        (dict(average=1.0), "average must be a decay between 0 and 1, such as 0.999, or None, got 1.0"),
        (dict(average=-0.1), "average must be a decay"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trained(2, 8, **options)
