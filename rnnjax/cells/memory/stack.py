"""A network with differentiable stacks beside the state."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import Key, cell, check_choice, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


class StackRNNCarry(NamedTuple):
    """h ``[*B, H]``: the state. stack ``[*B, S, depth]``: S stacks of numbers, the top first."""

    h: jax.Array
    stack: jax.Array


@published(family="memory", paper="Joulin, Mikolov 2015, arXiv:1503.01007", year=2015)
@cell
class StackRNN:
    """A simple network with differentiable stacks that it pushes to and pops from.

    ``h' = act(x W + h U + s_{top k} P + b)``; ``a = softmax(h' A)`` over push, pop and no-op for each stack;
    ``s'_0 = a_push sigmoid(h' D) + a_pop s_1 + a_noop s_0``; ``s'_i = a_push s_{i-1} + a_pop s_{i+1} + a_noop s_i``; ``y = h'``.
    What is pushed out of the bottom is lost; -1 (an empty stack) comes in there.

    features: H. stacks: S. depth: of each. read: k, how many top places are read. noop: False leaves only push and pop.
    activation: "sigmoid" as in the paper, or any of `Elman`'s.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``stack`` P ``[S k, H]``, ``bias`` b ``[H]``, ``action`` A
    ``[H, S actions]``
    (push, pop, noop), ``push`` D ``[H, S]``. carry: ``StackRNNCarry(h, stack)``, empty at the start. y: ``[*B, H]``.

    Errors: ValueError for read > depth or an unknown activation. Source: Joulin and Mikolov 2015, arXiv:1503.01007.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.StackRNN(4, stacks=2, depth=6), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.stack.shape, ys.shape
    ((2, 6), (5, 4))
    """

    features: int
    _: KW_ONLY
    stacks: int = 1
    depth: int = 16
    read: int = 2
    noop: bool = True
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("StackRNN", "activation", self.activation, ACTIVATIONS)
        if self.read > self.depth:
            raise ValueError(f"StackRNN: read must be at most depth={self.depth}, got {self.read}")

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_gates, k_stack, k_action, k_push = jax.random.split(key, 4)
        h, s, dtype = self.features, self.stacks, param_dtype(x)
        return gate_params(self, k_gates, x, 1) | {
            "stack": initializers.lecun(k_stack, (s * self.read, h), dtype),
            "action": initializers.lecun(k_action, (h, s * (2 + self.noop)), dtype),
            "push": initializers.lecun(k_push, (h, s), dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> StackRNNCarry:
        empty = zeros_like_step(params, x, self.stacks, self.depth) - 1
        return StackRNNCarry(h=zeros_like_step(params, x, self.features), stack=empty)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[StackRNNCarry, jax.Array]:
        weights, parts = (
            ("input", "recurrent", "stack", "bias", "action", "push"),
            ((self.features,), (self.stacks, self.depth)),
        )
        check_step(self, params, carry, x, weights, StackRNNCarry, parts)
        h, s = carry
        top = s[..., : self.read].reshape(*s.shape[:-2], self.stacks * self.read)
        z = x @ params["input"] + h @ params["recurrent"] + top @ params["stack"] + params["bias"]
        h = ACTIVATIONS[self.activation](z)
        actions = (h @ params["action"]).reshape(*s.shape[:-1], 2 + self.noop)
        a = jax.nn.softmax(actions, axis=-1)[..., None, :]
        pushed = jnp.concatenate([jax.nn.sigmoid(h @ params["push"])[..., None], s[..., :-1]], axis=-1)
        popped = jnp.concatenate([s[..., 1:], -jnp.ones_like(s[..., :1])], axis=-1)
        new = a[..., 0] * pushed + a[..., 1] * popped
        return StackRNNCarry(h, new + a[..., 2] * s if self.noop else new), h
