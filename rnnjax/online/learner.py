"""`Learner`: gradients of every step as it happens, in memory that does not grow with time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import _jax
from rnnjax.base import Carry, Key, Params, check_choice, name_of, sequence_key, takes_key
from rnnjax.online import influence
from rnnjax.online.system import METHODS, System, flat_start, system
from rnnjax.protocols import OwnStart
from rnnjax.sequence.arguments import Steps
from rnnjax.sequence.start import start_carry

SIGNS = 2**32 - 2  # the key of UORO's signs: fold_in(key, SIGNS), apart from those of the steps and of the sequence


class State(NamedTuple):
    """Between two steps. carry: the cell's. influence: ``d carry / d params`` as the method keeps it. key, time: for what is random."""

    carry: Any
    influence: Any
    key: Any
    time: jax.Array


@dataclasses.dataclass(frozen=True)
class Learner:
    """Learns from a stream, one step at a time, without going back: forward gradients for any cell.

    ``M_t = J_t M_{t-1} + D_t``,  ``J_t = d carry_t / d carry_{t-1}``,  ``D_t = d carry_t / d params`` (directly);
    ``grads_t = d loss_t / d params (directly) + d loss_t / d carry_{t-1} M_{t-1}``,  ``loss_t = loss(y_t, target_t)``.

    cell: any cell, wrapper or stack, or a bare function ``(params, carry, x) -> (carry, y)``. loss: ``(y, target) ->`` scalar, of
    one step (of the whole batch where there is one). method, by what is kept of M (d numbers in the carry, P in the params):

    - "rtrl": what can be nonzero; exact: with params that stay, the gradients of the steps sum to that of backpropagation
      through time. For a dense cell d P numbers a sequence, d^2 P operations a step. (Williams and Zipser 1989)
    - "snap1", "snap2": what can be nonzero within one step, two steps; biased, exact for the first two, three steps.
      For a dense cell about P numbers. (Menick et al. 2021, arXiv:2006.07232)
    - "uoro": a product of two random vectors whose mean is M: unbiased, noisy, d + P numbers. The start and the signs
      need ``key``. (Tallec and Ollivier 2018, arXiv:1702.05043)
    - "eprop": what a unit keeps to itself: J without what goes through products of the old carry with weights (matrix
      products and convolutions of the step); weights that act part by part, as IndRNN's, stay. The learning signal is the
      true derivative of the step's loss. (Bellec et al. 2020, Nature Communications 11:3625)

    What can be nonzero is found from the jaxpr of the step, by shapes alone, so that it holds for all values: a cell whose
    parts do not talk to each other (diagonal, linear in time, a layer below another) gets its cheap exact form by itself.
    Operations that the analysis does not know count as depending on everything: costly, never wrong.

    A batch counts as sequences apart from each other (checked), M is kept for each. Split over devices, a step's value and gradients are
    summed together: one all-reduce a step, as each step is one of learning. Noise in the step of a batch makes it one
    system, exact and costlier. Complex params as `jax.grad` takes them. While params change between steps, M belongs to
    those it was made with, as always in online learning.
    Errors: ValueError for an unknown method, a missing key or start; TypeError for a carry or params with parts that are not
    floating point, or a loss that is no scalar.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.Readout(rj.GRU(4), 1)
    >>> learner = rj.online.Learner(cell, lambda y, target: jnp.sum((y - target) ** 2))
    >>> x = jnp.ones(3)
    >>> params = cell.init(jax.random.key(0), x)
    >>> state = learner.init(params, x)
    >>> step = jax.jit(learner.step)
    >>> for t in range(100):
    ...     state, value, grads = step(params, state, x, jnp.ones(1))
    ...     params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    >>> bool(value < 1e-3)
    True
    """

    cell: Any
    loss: Callable[[Any, Any], jax.Array]
    method: str = "rtrl"

    def __post_init__(self) -> None:
        check_choice("online", "method", self.method, METHODS)
        for name in ("cell", "loss"):
            if not callable(getattr(self, name)):
                raise TypeError(f"online: {name} must be callable, got {type(getattr(self, name)).__name__}")

    def init(self, params: Params, x: Any, *, carry: Carry | None = None, key: Key = None) -> State:
        """The state before the first step. x: one step's input ``[*B, I]``; carry: default the cell's own, on which its params may
        have influence; key: step t has ``fold_in(key, t)``, which by JAX's default is ``split(key, T)[t]``."""
        if self.method == "uoro" and key is None:
            raise ValueError("online: method='uoro' draws random signs; pass key=")
        noise = self._noise(key)
        one = Steps(jax.tree.map(lambda a: jnp.asarray(a)[None], x), None if noise is None else noise[None])
        start = start_carry(self.cell, params, carry, one)[0]
        s = system(self.cell, self.method, params, start, x, noise)
        return State(start, self._begin(s, params, x, key, given=carry is not None), key, jnp.uint32(0))

    def step(self, params: Params, state: State, x: Any, target: Any) -> tuple[State, jax.Array, Params]:
        """``(state, value, grads)`` of one step: the loss of this step and its gradient."""
        noise = self._noise(state.key)
        s = system(self.cell, self.method, params, state.carry, x, noise)
        key = None if noise is None else jax.random.fold_in(noise, state.time)
        given, (x, state) = state.carry, _placed(s, x, state)
        w, h, keys = s.params.pack(params), s.carry.pack(state.carry), sequence_key(noise)
        carry, value, by_params, by_carry = self._gradients(s, params, state.carry, (w, h, x, key, keys), target)
        carry = jax.tree.map(_jax.place_as, carry, given)
        grads = by_params + self._through_time(s, state.influence, by_carry)
        moved = self._advance(s, params, state, (w, h, x, key, keys))
        return State(carry, moved, state.key, state.time + 1), value, s.params.gradient(grads, params)

    def _noise(self, key: Key) -> Key:
        """The key for the cell: UORO needs one for itself, with cells that take none too."""
        return None if self.method == "uoro" and not takes_key(self.cell) else key

    def _gradients(self, s: System, params: Params, carry: Carry, at: tuple, target: Any) -> Any:
        """The new carry, the loss, and its derivatives by the params ``[P]`` and by the old carry ``[*B, d]``."""
        w, h, *rest = at

        def run(step: Callable, w: jax.Array, h: jax.Array) -> Any:
            new, y = step(s.params.unpack(w, params), s.carry.unpack(h, carry), *rest)
            return self._scalar(self.loss(y, target)), new

        (value, new), by_params = jax.value_and_grad(lambda w: run(s.outer, w, h), has_aux=True)(w)
        by_carry = jax.grad(lambda h: run(s.inner, w, h)[0])(h)
        return new, value, by_params, by_carry

    def _scalar(self, value: Any) -> jax.Array:
        if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise TypeError(
                f"online: loss {name_of(self.loss)} must give a real scalar for one step, got {jnp.result_type(value)}"
                f"{list(jnp.shape(value))}; sum or average over its axes (value is the sum over steps)"
            )
        return jnp.asarray(value)

    def _begin(self, s: System, params: Params, x: Any, key: Key, *, given: bool) -> Any:
        w, noise = s.params.pack(params), sequence_key(self._noise(key))
        own = not given and isinstance(self.cell, OwnStart)

        def one(x: Any, signs: jax.Array) -> Any:
            pull = jax.vjp(lambda w: flat_start(s, params)(w, x, noise), w)[1] if own else None
            pulled = None if pull is None else lambda v: pull(v)[0]
            if s.plan is None:
                return influence.rank_one_begin(pulled, signs, s.params.size)
            return influence.begin(s.plan, pulled, s.carry.size, s.params.size, s.carry.dtype)

        return s.over_batch(one, True, True)(x, self._signs(s, key, 0, jax.tree.leaves(x)[0]))

    def _advance(self, s: System, params: Params, state: State, at: tuple) -> Any:
        w, h, x, key, keys = at
        outer, inner = (s.flat_step(step, params, state.carry) for step in (s.outer, s.inner))

        def one(m: Any, h: jax.Array, x: Any, signs: jax.Array) -> Any:
            push = jax.linearize(lambda h: inner(w, h, x, key, keys), h)[1]
            pull = jax.vjp(lambda w: outer(w, h, x, key, keys), w)[1]
            if s.plan is None:
                return influence.rank_one_advance(m, push, lambda v: pull(v)[0], signs)
            return influence.advance(s.plan, m, push, lambda v: pull(v)[0], s.carry.dtype)

        signs = self._signs(s, state.key, state.time + 1, h)
        return s.over_batch(one, True, True, True, True)(state.influence, h, x, signs)

    def _signs(self, s: System, key: Key, time: Any, like: jax.Array) -> jax.Array:
        """``[*B, d]``, the batch over devices as that of ``like``; zeros where they take no part."""
        shape = (*s.batch, s.carry.size)
        if s.plan is not None:
            return _jax.place_batch_as(jnp.zeros(shape, s.carry.dtype), like, len(s.batch))
        key = jax.random.fold_in(jax.random.fold_in(key, SIGNS), time)
        return _jax.place_batch_as(jax.random.rademacher(key, shape, s.carry.dtype), like, len(s.batch))

    def _through_time(self, s: System, m: Any, weights: jax.Array) -> jax.Array:
        """``weights [*B, d] M``, summed over the batch."""

        def one(m: Any, weights: jax.Array) -> jax.Array:
            if s.plan is None:
                return jnp.vdot(weights, m[0]) * m[1]
            return influence.weigh(s.plan, m, weights, s.params.size)

        parts = s.over_batch(one, True, True)(m, weights)
        return jnp.sum(parts, axis=tuple(range(len(s.batch)))).astype(s.params.dtype)


def _placed(s: System, x: Any, state: State) -> tuple[Any, State]:
    """x on the devices of an explicit mesh that hold the carry's examples; both whole on each where the batch is one system."""
    if s.batch:
        like = jax.tree.leaves((state.carry, x))[0]
        return jax.tree.map(lambda a: _jax.place_batch_as(a, like, len(s.batch)), x), state
    x, carry = jax.tree.map(_jax.whole, (x, state.carry))
    return x, state._replace(carry=carry)


def value_and_grad(cell: Any, loss: Callable[[Any, Any], jax.Array], method: str = "rtrl") -> Callable:
    """``f(params, xs, targets, *, carry=None, key=None) -> (value, grads)`` by going forward only: the scan of `Learner`.

    ``value = sum over t of loss(y_t, target_t)``; grads: of it, as the method has them ("rtrl": as `jax.grad` of `rnnjax.unroll`).
    xs ``[T, *B, I]``, targets ``[T, ...]`` (any pytrees). Memory does not grow with T but for xs and targets themselves.
    Errors: those of `Learner`; an unknown method when this is built.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> def decay(params, carry, x):                        # carry' = keep carry + x
    ...     carry = params["keep"] * carry + x
    ...     return carry, carry
    >>> f = rj.online.value_and_grad(decay, lambda y, target: jnp.sum(y * target))
    >>> value, grads = f({"keep": 0.5}, jnp.ones((3, 1)), jnp.array([0.0, 0.0, 1.0]), carry=jnp.zeros(1))
    >>> float(value), float(grads["keep"])                  # 1 + k + k^2 and 1 + 2 k at k = 0.5
    (1.75, 2.0)
    """
    learner = Learner(cell, loss, method)

    def run(params: Params, xs: Any, targets: Any, *, carry: Carry | None = None, key: Key = None) -> Any:
        xs, targets = (jax.tree.map(jnp.asarray, tree) for tree in (xs, targets))
        _check_times(cell, xs, targets)
        state = learner.init(params, jax.tree.map(lambda a: a[0], xs), carry=carry, key=key)

        def step(so_far: Any, at: Any) -> Any:
            state, total = so_far
            state, *result = learner.step(params, state, *at)
            return (state, jax.tree.map(jnp.add, total, tuple(result))), None

        shapes = jax.eval_shape(
            lambda at: learner.step(params, state, *at)[1:], jax.tree.map(lambda a: a[0], (xs, targets))
        )
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        return jax.lax.scan(step, (state, nothing), (xs, targets))[0][1]

    return run


def _check_times(cell: Any, xs: Any, targets: Any) -> None:
    sizes = [{jnp.shape(a)[:1] for a in jax.tree.leaves(tree)} for tree in (xs, targets)]
    if len(sizes[0]) != 1 or len(sizes[0] | sizes[1]) != 1 or () in sizes[0] or (0,) in sizes[0]:
        raise ValueError(
            f"{name_of(cell)}: xs [T, *B, I] and targets [T, ...] must agree on a number of steps of at least 1, got leading "
            f"axes {sorted(sizes[0])} and {sorted(sizes[1])}"
        )
