"""What stands round an optimiser: gradients of several batches added up, and an average of the parameters it went through."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Averaged(NamedTuple):
    """inner: the optimiser's own state. updates: how many there were. averaged_params: see `averaged`."""

    inner: Any
    updates: jax.Array
    averaged_params: Any


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformationExtraArgs:
    """``optimizer``, which keeps beside it the moving average of the params after each update (Polyak and Juditsky 1992).

    ``a_n = a_{n-1} + w_n (p_n - a_{n-1})``, ``w_n = (1 - decay) / (1 - decay^n)``: as `optax.ema` with its bias taken off.
    The updates are those of ``optimizer``. Raises: ValueError unless decay is in (0, 1).

    >>> import jax.numpy as jnp, optax
    >>> optimizer = averaged(optax.sgd(1.0), 0.5)
    >>> state = optimizer.init(jnp.array(0.0))
    >>> for p in (0.0, 1.0):
    ...     _, state = optimizer.update(jnp.array(-1.0), state, jnp.array(p))
    >>> round(float(state.averaged_params), 4)  # of 1 and 2
    1.6667
    """
    if not 0 < decay < 1:
        raise ValueError(f"fit: average must be a decay between 0 and 1, such as 0.999, or None, got {decay!r}")
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Averaged:
        return Averaged(optimizer.init(params), jnp.zeros((), jnp.int32), params)

    def update(grads: Any, state: Averaged, params: Any = None, **extra: Any) -> tuple[Any, Averaged]:
        updates, inner = optimizer.update(grads, state.inner, params, **extra)
        n = state.updates + 1
        weight = (1 - decay) / (1 - jnp.power(decay, n.astype(jnp.float32)))
        toward = lambda a, p: a + weight.astype(jnp.real(a).dtype) * (p - a)
        mean = jax.tree.map(toward, state.averaged_params, optax.apply_updates(params, updates))
        return updates, Averaged(inner, n, mean)

    return optax.GradientTransformationExtraArgs(init, update)


def around(
    optimizer: optax.GradientTransformation, clip: float | None, accumulate: int, average: float | None
) -> tuple[optax.GradientTransformation, float | None]:
    """The optimiser of `fit`, and the clip that is left to the step: with ``accumulate`` it is the mean gradient that is clipped."""
    optimizer = optimizer if average is None else averaged(optimizer, average)
    if accumulate == 1:
        return optimizer, clip
    inner = optimizer if clip is None else optax.chain(optax.clip_by_global_norm(clip), optimizer)
    return optax.MultiSteps(inner, accumulate).gradient_transformation(), None


def params_of(state: Any) -> Any:
    """The params of a `TrainState` to validate and to keep: the average where there is one."""
    found = optax.tree.get(state.opt_state, "averaged_params")
    return state.params if found is None else found
