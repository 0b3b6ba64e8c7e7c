"""The way through time: whole, or block after block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from rnnjax.engine.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Time:
    """How to go through time."""

    length: int
    reverse: bool = False
    unroll: int = 1
    blocks: int = 1

    def by(self, way: Schedule) -> Time:
        """The same time, gone through as a schedule says."""
        return dataclasses.replace(self, blocks=way.blocks, unroll=self.length if way.written else self.unroll)

    @property
    def steps(self) -> int:
        """Steps of one block."""
        return self.length // self.blocks

    def scan(self, body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """`lax.scan` over the steps of one block."""
        unroll = min(self.unroll, self.steps)
        return lax.scan(body, carry, xs, length=self.steps, reverse=self.reverse, unroll=unroll)

    def over_blocks(self, body: Callable, carry: Any, xs: Any, per_block: Any = ()) -> tuple[Any, Any, Any]:
        """`body(carry, xs of a block, per_block of it) -> (carry, ys, one value per block)`, block after block."""
        if self.blocks == 1:
            return body(carry, xs, jax.tree.map(lambda p: p[0], per_block)) if per_block else body(carry, xs, ())
        cut = jax.tree.map(lambda x: x.reshape(self.blocks, self.steps, *x.shape[1:]), xs)

        def step(c, x):
            c, ys, one = body(c, *x)
            return c, (ys, one)

        carry, (ys, ones) = lax.scan(step, carry, (cut, per_block), length=self.blocks, reverse=self.reverse)
        return carry, jax.tree.map(lambda y: y.reshape(self.length, *y.shape[2:]), ys), ones
