"""A whole model of another library: what its layers do to steps that are passed over, and to a sequence as one."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import cell, check_choice
from rnnjax.cells.shared.options import check_fields
from rnnjax.layers import MERGE, Bidirectional, Sequential


@cell
class Model:
    """Recurrent layers with what a converted model does round them; called like a layer: ``carry, y = model(params, xs)``.

    body: a layer. mask_value: steps of x with this number in every feature, or of this token, are passed over, as Keras's Masking
    and ``mask_zero`` have it; ``mask=``, ``lengths=`` at the call pass over more. repeat: passed over, the outputs repeat those of the
    step read before (zeros where there is none), as in Keras, so that the last in time is the last that is valid; False: they are
    zeros, as of Keras's Bidirectional.
    each: layers without memory on every step of that, or None. summary: what then stands for the sequence: None, all of it; "last",
    what each direction read last; "mean" of the valid steps; "max". head: layers without memory on the summary, or None.
    params: ``body``, ``each``, ``head`` where there are those. y: ys ``[T, *B, O]``, with a summary ``[*B, O]``.
    carry, other keyword arguments: those of ``body``. Errors: ValueError/TypeError for a bad option; those of the layers.

    >>> import rnnjax as rj
    >>> model, xs = Model(rj.RNN(rj.GRU(4)), mask_value=0.0), jnp.ones((5, 2, 3)).at[3:].set(0)
    >>> carry, ys = model(model.init(jax.random.key(0), xs[0]), xs)
    >>> bool((ys[-1] == ys[2]).all() and (ys[-1] == carry).all())
    True
    """

    body: Any
    _: KW_ONLY
    mask_value: float | None = None
    repeat: bool = True
    each: Any = None
    summary: str | None = None
    head: Any = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("Model", "summary", self.summary, (None, "last", "mean", "max"))

    def _parts(self) -> dict[str, Any]:
        return {name: layer for name in ("each", "head") if (layer := getattr(self, name)) is not None}

    def init(self, key: jax.Array, x: Any) -> dict[str, Any]:
        """Parameters for one step's input ``x``."""
        k_body, *keys = jax.random.split(key, 3)
        params = {"body": self.body.init(k_body, x)}
        step = _output(self.body, params["body"], x)
        for k, (name, layer) in zip(keys, self._parts().items()):
            params[name] = layer.init(k, step)
            step = _output(layer, params[name], step)
        return params

    def initial_carry(self, params: Any, x: Any) -> Any:
        """The body's carry before the first step."""
        return self.body.initial_carry(params["body"], x)

    def __call__(
        self,
        params: Any,
        xs: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        time_axis: int = 0,
        key: Any = None,
        **how: Any,
    ) -> tuple[Any, Any]:
        """``(carry, y)``; see `rnnjax.unroll` for the keyword arguments."""
        valid = self._valid(xs, mask, lengths, time_axis)
        keys = (None, None, None) if key is None else jax.random.split(key, 3)
        body, merge, backward = _apart(self.body)
        carry, ys = body(params["body"], xs, mask=valid, time_axis=time_axis, key=keys[0], **how)
        halves = list(ys) if len(backward) == 2 else [ys]
        if valid is not None and (self.repeat or self.summary == "last"):
            halves = [repeat_valid(y, valid, time_axis, back) for y, back in zip(halves, backward)]
        if self.summary == "last":
            halves = [jnp.take(y, 0 if back else -1, axis=time_axis) for y, back in zip(halves, backward)]
        y = merge(*halves)
        if self.each is not None:
            y = self.each(params["each"], y, time_axis=time_axis, key=keys[1])[1]
        if self.summary in ("mean", "max"):
            y = y.max(time_axis) if self.summary == "max" else _mean(y, valid, time_axis)
        if self.head is not None:
            y = self.head(params["head"], y[None], key=keys[2])[1][0]
        return carry, y

    def _valid(self, xs: Any, mask: Any, lengths: Any, time_axis: int) -> Any:
        """Which steps are read, ``[T, *B]`` with time where ``time_axis`` says; None for all."""
        xs = jnp.asarray(xs)
        found = [] if mask is None else [jnp.asarray(mask, bool)]
        if self.mask_value is not None:
            other = xs != jnp.asarray(self.mask_value, xs.dtype)
            found.append(other if jnp.issubdtype(xs.dtype, jnp.integer) else other.any(-1))
        if lengths is not None:
            lengths = jnp.expand_dims(jnp.asarray(lengths), time_axis)
            shape = tuple(xs.shape[time_axis] if axis == time_axis else 1 for axis in range(lengths.ndim))
            found.append(jnp.arange(xs.shape[time_axis]).reshape(shape) < lengths)
        valid = None
        for one in found:
            valid = one if valid is None else valid & one
        return valid


def repeat_valid(y: jax.Array, valid: jax.Array, time_axis: int, backward: bool = False) -> jax.Array:
    """Where not ``valid``, the y of the valid step that was read before; zeros where there is none. Features on the last axis."""
    count = valid.shape[time_axis]
    shape = tuple(count if axis == time_axis else 1 for axis in range(valid.ndim))
    at = jnp.where(valid, jnp.arange(count).reshape(shape), count if backward else -1)
    at = jax.lax.cummin(at, time_axis, reverse=True) if backward else jax.lax.cummax(at, time_axis)
    inside = ((at >= 0) & (at < count))[..., None]
    return jnp.where(inside, jnp.take_along_axis(y, jnp.clip(at, 0, count - 1)[..., None], time_axis), 0)


def _mean(y: jax.Array, valid: Any, time_axis: int) -> jax.Array:
    """The mean of the valid steps, zeros where there is none."""
    if valid is None:
        return y.mean(time_axis)
    count = jnp.maximum(valid.sum(time_axis), 1).astype(y.dtype)
    return jnp.where(valid[..., None], y, 0).sum(time_axis) / count[..., None]


def _apart(layer: Any) -> tuple[Any, Any, tuple[bool, ...]]:
    """The layer with the halves of its last level unmerged, what merges them, and which of them read backward."""
    if isinstance(layer, Sequential):
        last, merge, backward = _apart(layer.layers[-1])
        return Sequential(*layer.layers[:-1], last), merge, backward
    if isinstance(layer, Bidirectional):
        pair = lambda *halves: halves
        merge = pair if layer.merge is None else MERGE[layer.merge]
        return dataclasses.replace(layer, merge=None), merge, (False, True)
    return layer, lambda y: y, (layer.reverse,)


def _output(layer: Any, params: Any, x: Any) -> Any:
    """The shape of one step's output."""
    xs = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    y = jax.eval_shape(lambda p, xs: layer(p, xs)[1], params, xs)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), y)
