"""Learning from a stream that never ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from rnnjax.base import Carry, Key, Params
from rnnjax.online.learner import Learner, State


class Progress(NamedTuple):
    """After a step of `fit`: the params, the loss of the step before they changed, and what the next step needs."""

    params: Any
    value: jax.Array
    state: State
    optimizer_state: Any


def fit(
    cell: Any,
    loss: Callable[[Any, Any], jax.Array],
    params: Params,
    stream: Iterable[tuple[Any, Any]],
    *,
    method: str = "rtrl",
    optimizer: Any = None,
    carry: Carry | None = None,
    key: Key = None,
) -> Iterator[Progress]:
    """Takes ``(x, target)`` after ``(x, target)`` from ``stream`` and yields a `Progress` for each: stop when you like.

    Every step moves the params by the gradient of its own loss; one compiled step, memory that does not grow. optimizer: of
    optax, on the conjugate of complex gradients as optax has them; default ``optax.adam(1e-3)``. The rest as for `Learner`,
    whose errors these are; the method is checked when this is called.

    >>> import itertools, jax, jax.numpy as jnp, optax, rnnjax as rj
    >>> cell = rj.Readout(rj.GRU(8), 1)                     # says what it heard two steps ago
    >>> bits = jax.random.bernoulli(jax.random.key(0), 0.5, (1500, 1)).astype(float)
    >>> stream = zip(bits[2:], bits)
    >>> params = cell.init(jax.random.key(1), bits[0])
    >>> loss = lambda y, target: jnp.sum((y - target) ** 2)
    >>> losses = [float(p.value) for p in rj.online.fit(cell, loss, params, stream, optimizer=optax.adam(3e-2))]
    >>> sum(losses[-100:]) / 100 < 0.02                     # a guess is wrong by 0.25
    True
    """
    return _run(Learner(cell, loss, method), params, stream, optimizer, carry, key)


def _run(learner: Learner, params: Params, stream: Any, optimizer: Any, carry: Any, key: Key) -> Iterator[Progress]:
    import optax

    optimizer = optax.adam(1e-3) if optimizer is None else optimizer

    @jax.jit
    def step(params: Params, state: State, opt: Any, x: Any, target: Any) -> Progress:
        state, value, grads = learner.step(params, state, x, target)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers; strict users learn too
            updates, opt = optimizer.update(jax.tree.map(jax.numpy.conj, grads), opt, params)
        return Progress(optax.apply_updates(params, updates), value, state, opt)

    state, opt = None, optimizer.init(params)
    for x, target in stream:
        if state is None:
            state = learner.init(params, x, carry=carry, key=key)
        progress = step(params, state, opt, x, target)
        params, state, opt = progress.params, progress.state, progress.optimizer_state
        yield progress
