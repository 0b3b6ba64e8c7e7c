"""One optimisation step, compiled once: gradient, clipping, update, and a guard against non-finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rnnjax.train.placement import Gradient, Layout, Placed, plain_gradient

TAKEN = (
    "step",
    "split",
    "loss",
    "grad_norm",
    "clipped",
    "skipped",
    "seconds",
    "kept",
)  # what a metrics line has anyway
# (params, carry, batch, key) -> (carry, loss) or (carry, loss, metrics)
LossFn = Callable[[Any, Any, Any, Any], tuple[Any, jax.Array] | tuple[Any, jax.Array, dict[str, Any]]]


class TrainState(NamedTuple):
    """Everything a run continues from. ``step`` counts batches seen, ``skipped`` the updates left out as non-finite."""

    params: Any
    opt_state: Any
    carry: Any
    step: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array


class Report(NamedTuple):
    """What one step saw: its loss, the norm of the whole gradient before clipping, whether it was skipped, and the loss's metrics."""

    loss: jax.Array
    grad_norm: jax.Array
    skipped: jax.Array
    metrics: dict[str, jax.Array] = {}


def start(params: Any, optimizer: optax.GradientTransformation, carry: Any = None) -> TrainState:
    """The state before the first step. Copies ``params`` and ``carry``: the step gives its buffers away."""
    copy = partial(jax.tree.map, lambda a: jnp.array(a, copy=True))
    zero = lambda: jnp.zeros((), jnp.int32)  # one buffer each: a donated buffer may be given away only once
    return TrainState(copy(params), copy(optimizer.init(params)), copy(carry), zero(), zero(), zero())


def stateless(loss: Callable[..., jax.Array]) -> LossFn:
    """Makes a loss for `make_step` and `fit` of ``loss(params, batch) -> scalar``, for data without a carry.

    >>> stateless(lambda params, batch: params * batch)(2.0, None, 3.0, None)
    (None, 6.0)
    """
    return lambda params, carry, batch, key: (carry, loss(params, batch))


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    clip: float | None = 1.0,
    mesh: Mesh | None = None,
    batch_axis: Any = 1,
) -> Callable[..., tuple[TrainState, Report]]:
    """A compiled ``step(state, batch, key=None) -> (state, report)``; ``state`` comes from `start` and is given away.

    loss_fn: ``(params, carry, batch, key) -> (carry, loss)``, or ``(carry, loss, metrics)`` with a dict of scalars that are told
        beside the loss and not learned from. The carry it returns is handed to the next step without
        its gradient: truncated back-propagation through time over a stream. Without one, see `stateless`. ``key`` is
        the given one folded with the step number, so that it depends on nothing else, or None.
    optimizer: any of optax; those that want more than the gradient (``reduce_on_plateau``, ``polyak_sgd``, ``lbfgs``) are told the
        loss, the clipped gradient and the loss as a function of the params.
    clip: the whole gradient is scaled down to this norm (Pascanu et al. 2013, arXiv:1211.5063); None for no clipping.
    mesh: a `jax.sharding.Mesh`: the batch is split over the devices of its first axis, and with it the carry, on axis 0
        (numbers in a carry stay whole). Parameters and optimiser state are whole on every device. Arrays may lie
        anywhere: the step puts them where they belong, and the state it returns stays there.
    batch_axis: where the batch has its rows: an int, or a pytree prefix of the batch with ints and None (read whole by
        every device). Only with ``mesh``.

    If the loss or the gradient is not finite, parameters, optimiser state and carry stay as they were, inside the
    compiled step, and ``state.skipped`` and ``state.skipped_in_a_row`` say so.

    With a mesh the numbers are those of one device up to the order of sums, for any loss. Where each row is computed
    by itself up to sums over the batch, as in a mean, a sum, a masked mean, with or without a penalty on the weights, each
    device computes its own rows, and one all-reduce adds up losses and gradients together; a loss that is a nonlinear
    function of several such sums takes two. What cannot be shown to be so (a normalisation over the batch, noise drawn for
    the whole batch) is left to XLA's partitioner. ``step.placement`` says which, and why, after the first call.

    Raises: ValueError if ``clip`` is not positive, if the carry that comes back differs in shape or dtype, if ``mesh``
        does not divide the batch or the carry, or if ``batch_axis`` does not fit; TypeError if ``mesh`` is no mesh, or if the loss
        does not return ``(carry, loss)`` with a scalar loss.

    >>> import jax.numpy as jnp, optax
    >>> optimizer = optax.sgd(0.5)
    >>> step = make_step(stateless(lambda w, x: (w - x) ** 2), optimizer)
    >>> state, report = step(start(jnp.array(1.0), optimizer), 0.0)
    >>> float(state.params), float(report.grad_norm)  # the gradient 2 was clipped to 1
    (0.5, 2.0)
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"make_step: clip must be a positive norm or None, got {clip}")
    loss_fn, updater = _checked(loss_fn), optax.with_extra_args_support(optimizer)
    clipper = optax.identity() if clip is None else optax.clip_by_global_norm(clip)

    def stepper(gradient: Gradient) -> Callable[..., tuple[TrainState, Report]]:
        def step(state: TrainState, batch: Any, key: jax.Array | None = None) -> tuple[TrainState, Report]:
            noise = None if key is None else jax.random.fold_in(key, state.step)
            loss, carry, grads, metrics = gradient(state.params, state.carry, batch, noise)
            carry = jax.lax.stop_gradient(carry)
            _check_carry(state.carry, carry)
            norm = optax.tree.norm(grads)
            grads, _ = clipper.update(grads, clipper.init(state.params))
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers; strict users train too
                again = lambda params: loss_fn(params, state.carry, batch, noise)[
                    1
                ]  # for those that search along a line
                told = dict(value=loss, grad=grads, value_fn=again)
                updates, opt_state = updater.update(grads, state.opt_state, state.params, **told)
            new = (optax.apply_updates(state.params, updates), opt_state, carry)
            bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
            params, opt_state, carry = jax.tree.map(partial(jnp.where, bad), tuple(state[:3]), new)
            skipped, in_a_row = state.skipped + bad.astype(jnp.int32), jnp.where(bad, state.skipped_in_a_row + 1, 0)
            return TrainState(params, opt_state, carry, state.step + 1, skipped, in_a_row), Report(
                loss, norm, bad, metrics
            )

        return step

    if mesh is None:
        return jax.jit(stepper(plain_gradient(loss_fn)), donate_argnums=0)
    return Placed(loss_fn, stepper, Layout("make_step", mesh, batch_axis))


def _checked(loss_fn: LossFn) -> LossFn:
    """``loss_fn``, which must return a carry and a scalar."""

    @wraps(loss_fn)
    def loss(params: Any, carry: Any, batch: Any, key: Any) -> Any:
        out = loss_fn(params, carry, batch, key)
        if not (isinstance(out, tuple) and len(out) in (2, 3)):
            raise TypeError(
                f"make_step: loss_fn must return (carry, loss) or (carry, loss, metrics), got {type(out).__name__}; "
                "return the carry to go on with, or None, "
                "before the loss, or use stateless(loss) for a loss(params, batch) without a carry"
            )
        if jnp.shape(out[1]) != ():
            raise TypeError(
                f"make_step: loss_fn must return (carry, loss) with a scalar loss, got shape {jnp.shape(out[1])}; take its mean"
            )
        _check_metrics(out[2] if len(out) == 3 else {})
        return out

    return loss


def _check_metrics(metrics: Any) -> None:
    if not isinstance(metrics, dict):
        raise TypeError(f"make_step: metrics must be a dict of scalars by name, got {type(metrics).__name__}")
    for name, value in metrics.items():
        if jnp.shape(value) != () or not isinstance(name, str) or name in TAKEN:
            raise TypeError(
                f"make_step: metrics must be scalars under names of their own (not {', '.join(TAKEN)}), got {name!r} of shape "
                f"{jnp.shape(value)}"
            )


def memory(step: Callable, state: TrainState, batch: Any, key: jax.Array | None = None) -> int:
    """Peak bytes of one step on each device, from the compiled program; arrays, or their shapes (`jax.eval_shape`).

    step, state, batch, key: as for the call, which is compiled, not run.
    Raises: NotImplementedError where the backend does not say.

    >>> import jax.numpy as jnp, optax
    >>> optimizer = optax.sgd(0.5)
    >>> step = make_step(stateless(lambda w, x: jnp.sum((w - x) ** 2)), optimizer)
    >>> memory(step, start(jnp.ones(1000), optimizer), jnp.ones(1000)) >= 8000
    True
    """
    report = step.lower(state, batch, key).compile().memory_analysis()  # type: ignore[attr-defined]
    if report is None:
        raise NotImplementedError(f"memory: the backend {jax.default_backend()!r} does not say what a program takes")
    alive = report.argument_size_in_bytes + report.output_size_in_bytes - report.alias_size_in_bytes
    return max(int(getattr(report, "peak_memory_in_bytes", 0)), int(alive + report.temp_size_in_bytes))


def _check_carry(before: Any, after: Any) -> None:
    shapes = lambda tree: jax.tree.map(lambda a: (jnp.shape(a), str(jnp.result_type(a))), tree)
    if shapes(before) != shapes(after):
        raise ValueError(
            f"make_step: the carry that loss_fn returns must be like the one it was given, {shapes(before)}, got "
            f"{shapes(after)}; return the carry of the last step, or None where there is none"
        )
