"""Batches as a function, a list, an iterable or an iterator; optimisers that want the loss; losses that return something else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem
import pytest

import rnnjax as rj
from rnnjax.train import fit, make_step, start, stateless

WINDOW = rj.data.windows(problem.VALUES, 3, 5)
EIGHT = [WINDOW(step) for step in range(8)]
TARGET = jnp.array([1.0, -2.0])
LOSS = stateless(lambda w, x: jnp.sum((w - TARGET) ** 2 * x))


class Epochs:
    """Begins anew at every `iter`, as a loader does."""

    def __iter__(self):
        return iter(EIGHT)


def same(result, wanted):
    chex.assert_trees_all_equal(jax.device_get(result.state), jax.device_get(wanted.state))
    assert problem.without_clock(result.history) == problem.without_clock(wanted.history)


@pytest.mark.slow
def test_a_list_an_iterable_and_an_iterator_are_the_function_of_the_step_and_resume_bit_for_bit(tmp_path):
    wanted = problem.fit(steps=20, batches=lambda step: EIGHT[step % 8])
    forms = {"list": lambda: EIGHT, "epochs": Epochs, "iterator": lambda: iter(EIGHT * 3)}
    for name, form in forms.items():
        same(problem.fit(steps=20, batches=form()), wanted)
        problem.fit(tmp_path / name, steps=12, batches=form(), validate_every=6, checkpoint_every=6)
        whole = problem.fit(steps=20, batches=form(), validate_every=6)
        again = problem.fit(tmp_path / name, steps=20, batches=form(), validate_every=6, resume=True)
        chex.assert_trees_all_equal(jax.device_get(again.state), jax.device_get(whole.state))


@pytest.mark.parametrize(
    ("batches", "error", "sentence"),
    [
        ([], ValueError, "fit: batches must be a function of the step or hold one or more batches, got an empty list"),
        (
            jnp.ones(3),
            TypeError,
            r"fit: batches must be a function batches\(step\), a list .*; for one batch at every step write",
        ),
        ({"x": 1.0}, TypeError, "an iterable of them, got dict"),
        ((1.0, 2.0), TypeError, "an iterable of them, got tuple"),
        (iter([1.0, 2.0]), ValueError, "fit: batches ended after 2 steps; pass fewer steps, or a list"),
    ],
)
def test_what_is_no_batches_is_said(batches, error, sentence):
    with pytest.raises(error, match=sentence):
        fit(LOSS, jnp.zeros(2), batches, steps=3)


def by_optax(optimizer, steps, value_fn=False):
    """The loop of optax's own documentation."""
    params, update = jnp.zeros(2), optimizer.update
    state, loss = optimizer.init(params), lambda w: jnp.sum((w - TARGET) ** 2)
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss)(params)
        more = dict(grad=grads, value_fn=loss) if value_fn else {}
        with jax.numpy_dtype_promotion("standard"):
            updates, state = update(grads, state, params, value=value, **more)
        params = optax.apply_updates(params, updates)
    return params


PLATEAU = lambda: optax.chain(optax.sgd(1.2), optax.contrib.reduce_on_plateau(factor=0.5, patience=1))


@pytest.mark.parametrize(
    ("make", "value_fn"), [(PLATEAU, False), (lambda: optax.polyak_sgd(0.3), False), (lambda: optax.lbfgs(), True)]
)
def test_optimisers_that_want_the_loss_get_it(make, value_fn, tmp_path):
    wanted = by_optax(make(), 4, value_fn)
    run = lambda **how: fit(LOSS, jnp.zeros(2), [1.0], optimizer=make(), clip=None, log_every=1, **how)
    np.testing.assert_allclose(run(steps=4).params, wanted, rtol=1e-5, atol=1e-6)
    run(steps=2, out=tmp_path)
    again, whole = run(steps=4, out=tmp_path, resume=True), run(steps=4)
    chex.assert_trees_all_equal(jax.device_get(again.state), jax.device_get(whole.state))


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (
            lambda params, carry, batch, key: jnp.sum(params),
            r"loss_fn must return \(carry, loss\) or .*, got .*use stateless",
        ),
        (lambda params, carry, batch, key: (carry, params), r"with a scalar loss, got shape \(2,\); take its mean"),
    ],
)
def test_a_loss_that_returns_something_else_is_said(loss, sentence):
    optimizer = optax.sgd(0.1)
    with pytest.raises(TypeError, match=sentence):
        make_step(loss, optimizer)(start(jnp.zeros(2), optimizer), 1.0)
