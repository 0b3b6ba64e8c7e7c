"""Maps of the carry that compose: what the steps of a cell linear in time are (`rnnjax.protocols.LinearInTime`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class CarryChange(NamedTuple):
    """``carry -> keep * carry + scale * f(before * carry) + shift``, element by element, round any step f of the carry.

    Pytrees of the structure of the carry, each leaf of its shape (with leading time axes, of several steps).
    Where scale is zero nothing of f comes through, NaN included.
    """

    before: Any
    keep: Any
    scale: Any
    shift: Any

    def around(self, inner: CarryChange) -> CarryChange:
        """This change round a step that ``inner`` changes already, as one."""
        return CarryChange(
            before=jax.tree.map(jnp.multiply, self.before, inner.before),
            keep=jax.tree.map(lambda k, s, i, b: k + s * i * b, self.keep, self.scale, inner.keep, self.before),
            scale=jax.tree.map(jnp.multiply, self.scale, inner.scale),
            shift=jax.tree.map(lambda s, i, h: s * i + h, self.scale, inner.shift, self.shift),
        )

    def seen(self, carry: Any) -> Any:
        """What the step inside sees of a carry."""
        return jax.tree.map(jnp.multiply, self.before, carry)

    def around_step(self, carry: Any, new: Any) -> Any:
        """The changed carry, of the one before the step and what the step inside made of what it saw."""
        mixed = lambda k, s, h, old, new: k * old + jnp.where(s == 0, jnp.zeros_like(new), s * new) + h
        return jax.tree.map(mixed, self.keep, self.scale, self.shift, carry, new)


class Affine(NamedTuple):
    """``carry -> decay * carry + increment``, part by part; one step, or several in a row composed.

    decay, increment: pytrees of the structure of the carry; a decay may leave out batch axes.
    """

    decay: Any
    increment: Any

    def apply(self, carry: Any) -> Any:
        return jax.tree.map(lambda a, h, b: a * h + b, self.decay, carry, self.increment)

    def then(self, later: Affine) -> Affine:
        """This map first, ``later`` after it."""
        decay = jax.tree.map(lambda first, second: second * first, self.decay, later.decay)
        return Affine(decay, later.apply(self.increment))

    def hold(self, valid: jax.Array) -> Affine:
        """The identity where not ``valid``."""
        decay = jax.tree.map(lambda a: jnp.where(lead(valid, a.ndim), a, jnp.ones_like(a)), self.decay)
        return Affine(decay, _zero_unless(valid, self.increment))

    def changed(self, change: CarryChange) -> Affine:
        """The map with a change of the carry round it, which is one map again. Call it after `fit`."""

        def decayed(a: jax.Array, before: jax.Array, keep: jax.Array, scale: jax.Array) -> jax.Array:
            return jnp.where(scale == 0, keep, keep + scale * a * before)

        def moved(b: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
            return jnp.where(scale == 0, shift, scale * b + shift)

        decay = jax.tree.map(decayed, self.decay, change.before, change.keep, change.scale)
        return Affine(decay, jax.tree.map(moved, self.increment, change.scale, change.shift))

    def fit(self, carry: Any) -> Affine:
        """In the dtypes of ``carry`` and with all axes: ``[T, *B, ...]`` for increments, ones for missing batch axes."""
        increment = jax.tree.map(lambda b, h: b.astype(h.dtype), self.increment, carry)
        return Affine(jax.tree.map(_fit_decay, self.decay, increment), increment)

    def widen(self) -> Affine:
        """Decays with the batch axes written out, as masks and resets need them."""
        return self._replace(decay=jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), self.decay, self.increment))


class Shift(NamedTuple):
    """``carry -> carry moved up by count places, plus increment``: the last inputs, newest first, along axis -2.

    count: how many places, int ``[..., 1, 1]``, at most their number. increment: ``[..., places, I]``.
    """

    count: jax.Array
    increment: jax.Array

    def apply(self, carry: jax.Array) -> jax.Array:
        places = self.increment.shape[-2]
        source = jnp.arange(places, dtype=self.count.dtype)[:, None] - self.count
        moved = jnp.take_along_axis(carry, jnp.maximum(source, 0), axis=-2)
        return jnp.where(source >= 0, moved, jnp.zeros_like(moved)) + self.increment

    def then(self, later: Shift) -> Shift:
        count = jnp.minimum(self.count + later.count, self.increment.shape[-2])
        return Shift(count, later.apply(self.increment))

    def hold(self, valid: jax.Array) -> Shift:
        count = jnp.where(lead(valid, self.count.ndim), self.count, 0)
        return Shift(count, _zero_unless(valid, self.increment))

    def changed(self, change: CarryChange) -> Mixing:
        """The map with a change of the carry round it, which no longer only moves. Call it after `fit`."""
        place = jnp.arange(self.increment.shape[-2], dtype=self.count.dtype)
        comes = (place[:, None] - place == self.count)[..., None]  # [..., to, from, 1]
        before, keep, scale = (
            change.before[..., None, :, :],
            change.keep[..., :, None, :],
            change.scale[..., :, None, :],
        )
        stays = jnp.eye(len(place), dtype=bool)[..., None]
        matrix = jnp.where(stays, keep, jnp.zeros_like(keep)) + jnp.where(comes, scale * before, jnp.zeros_like(before))
        return Mixing(matrix, jnp.where(change.scale == 0, 0, change.scale * self.increment) + change.shift)

    def fit(self, carry: jax.Array) -> Shift:
        return self._replace(increment=self.increment.astype(carry.dtype))

    def widen(self) -> Shift:
        return self


class Mixing(NamedTuple):
    """``carry -> matrix carry + increment`` over the places of axis -2, each feature by itself.

    matrix ``[..., places, places, I]`` (to, from). increment: ``[..., places, I]``. A zero lets nothing through, NaN included.
    """

    matrix: jax.Array
    increment: jax.Array

    def apply(self, carry: jax.Array) -> jax.Array:
        came = jnp.where(self.matrix == 0, 0, self.matrix * carry[..., None, :, :])
        return jnp.sum(came, axis=-2) + self.increment

    def then(self, later: Mixing) -> Mixing:
        matrix = jnp.einsum("...jmi,...mli->...jli", later.matrix, self.matrix)
        return Mixing(matrix, later.apply(self.increment))

    def hold(self, valid: jax.Array) -> Mixing:
        one = jnp.eye(self.matrix.shape[-2], dtype=self.matrix.dtype)[..., None]
        matrix = jnp.where(lead(valid, self.matrix.ndim), self.matrix, jnp.broadcast_to(one, self.matrix.shape))
        return Mixing(matrix, _zero_unless(valid, self.increment))

    def widen(self) -> Mixing:
        return self


def lead(flags: jax.Array, ndim: int) -> jax.Array:
    """``flags`` with trailing axes of size one, up to ``ndim``."""
    return jnp.reshape(flags, flags.shape + (1,) * (ndim - flags.ndim))


def _zero_unless(valid: jax.Array, increment: Any) -> Any:
    return jax.tree.map(lambda b: jnp.where(lead(valid, b.ndim), b, jnp.zeros_like(b)), increment)


def _fit_decay(decay: jax.Array, increment: jax.Array) -> jax.Array:
    full = jnp.reshape(decay, (1,) * (increment.ndim - decay.ndim) + decay.shape)
    return jnp.broadcast_to(full, (increment.shape[0], *full.shape[1:])).astype(increment.dtype)
