"""`rj.unroll`: roll a cell over time with exact sequence semantics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, sequence_key
from rnnjax.engine import Tuned
from rnnjax.protocols import prepare
from rnnjax.sequence.arguments import one_step, read_steps
from rnnjax.sequence.options import Options, checked
from rnnjax.sequence.peel import roll
from rnnjax.sequence.run import Run
from rnnjax.sequence.start import start_carry
from rnnjax.sequence.step import zero_invalid


def unroll(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    time_axis: int = 0,
    key: Key = None,
    unroll: int = 1,
    checkpoint: int | str | None = None,
    truncate: int | None = None,
    matmul_dtype: Any = None,
    method: str = "scan",
    fuse: bool | str | Tuned = True,
) -> tuple[Carry, Any]:
    """Rolls ``cell`` over the time axis of ``xs`` and returns ``(last carry, ys)``, as `jax.lax.scan` does.

    ``carry_t, y_t = cell(params, carry_{t-1}, x_t)`` for t = 0 .. T-1.

    cell: anything with the step signature ``(params, carry, x) -> (carry, y)``; a bare function needs ``carry``.
    xs: ``[T, *B, I]`` (any pytree of such). ys: ``[T, *B, O]``.
    carry: where to start; default the cell's initial carry. Hand the returned carry on to go on with a stream.
    lengths: int ``[*B]``; steps ``t >= length`` leave the carry as it is and output zeros. Length 0 returns the start.
    mask: bool ``[T, *B]``; the same for any pattern of steps. With lengths, both must hold.
    reset: bool ``[T, *B]``; step t is the first of an episode, nothing crosses from t-1 to t: the carry before step t, read backward
        the one before step t-1, becomes the cell's initial carry (for a bare function: ``carry``). So it is where that step
        is masked out too; at or beyond ``length`` a flag means nothing.
    reverse: run from the end of each sequence; with lengths the last valid step is read first. ys keep the input order.
    time_axis: 0 reads and writes ``[T, *B, I]``, 1 ``[B, T, I]``; mask and reset have their time axis at the same place.
    key: for cells with noise, split per step before the loop (and once for noise that stays the same over the sequence);
        none means deterministic.
    unroll: steps per loop iteration, as in `jax.lax.scan`.
    checkpoint: None, a segment length or "sqrt": same values and gradients, less memory, one more forward pass.
    truncate: gradients stop at every k-th step counted from where the run starts; values unchanged.
    matmul_dtype: operands of products with weights in this dtype, sums in float32; everything else unchanged.
    method: "scan", "loop" (a plain Python loop, the definition), "associative" (cells linear in time), "deer",
        "quasi_deer", "elk" (Newton's method in parallel over time, any cell: `rnnjax.parallel.newton`), "auto" (decided when traced, from
        each layer's structure, T and the backend: "associative" for cells linear in time on an accelerator, else "scan").
    fuse: for method="scan", as in `rnnjax.scan`: how the loop is taken apart, or a plan of `rnnjax.tune` for the bare step,
        ``rj.tune(lambda h, x: cell(params, h, x), carry, xs)``; layers of a stack that differ in size act as fuse=True, with
        a warning each.

    What lies in masked steps, NaN included, changes nothing: neither values nor gradients.
    Errors: ValueError/TypeError naming the cell, the argument, what was expected and what came, at trace time.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> def decay(params, carry, x):
    ...     carry = params["keep"] * carry + x
    ...     return carry, carry
    >>> carry, ys = rj.unroll(decay, {"keep": 0.5}, jnp.ones((3, 1)), carry=jnp.zeros(1))
    >>> ys[:, 0].tolist()
    [1.0, 1.5, 1.75]
    """
    options = checked(cell, Options(method, reverse, unroll, checkpoint, matmul_dtype, fuse))
    steps, _ = read_steps(
        cell, xs, lengths=lengths, mask=mask, reset=reset, reverse=reverse, time_axis=time_axis, key=key, truncate=truncate
    )  # fmt: skip
    params = prepare(cell, params, sequence_key(key), one_step(steps).x)
    start, fresh = start_carry(cell, params, carry, steps)
    rolled = roll(Run(cell, cell, params, start, fresh, steps), options)
    ys = zero_invalid(cell, rolled.ys, steps.valid)
    return rolled.last, jax.tree.map(lambda y: jnp.moveaxis(y, 0, time_axis), ys) if time_axis else ys
