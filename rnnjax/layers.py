"""Layers: whole sequences in, whole sequences out. `RNN`, `Bidirectional`, `Sequential` are called alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, carry_type, cell, check_choice, layer_names, name_of
from rnnjax.cells.shared.options import check_fields
from rnnjax.sequence import unroll as _unroll
from rnnjax.wrappers.around import check_cell

MERGE: dict[Any, Callable[[Any, Any], Any]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": jnp.add,
    "mean": lambda a, b: (a + b) / 2,
    "mul": jnp.multiply,
}


@cell
class RNN:
    """A cell as a layer over whole sequences: ``carry, ys = layer(params, xs)`` is ``rj.unroll(cell, params, xs)``.

    cell: any cell. params, carry: the cell's own. Keyword arguments at the call: those of `rnnjax.unroll`.
    reverse: True reads every sequence from its end, at every call; ys stay in input order.
    Errors: TypeError for ``reverse=`` at the call of a layer that is reversed already.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> layer, xs = rj.RNN(rj.GRU(4)), jnp.ones((2, 5, 3))
    >>> params = layer.init(jax.random.key(0), xs[:, 0])
    >>> carry, ys = layer(params, xs, time_axis=1, lengths=jnp.array([5, 2]))
    >>> ys.shape
    (2, 5, 4)
    """

    cell: Any
    _: KW_ONLY
    reverse: bool = False

    def __post_init__(self) -> None:
        check_cell("RNN", self.cell)
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> Params:
        """Parameters for one step's input ``x [*B, I]``."""
        return self.cell.init(key, x)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        """The carry before the first step."""
        return self.cell.initial_carry(params, x)

    def __call__(self, params: Params, xs: Any, **how: Any) -> tuple[Carry, Any]:
        """``(last carry, ys)``; see `rnnjax.unroll` for the keyword arguments."""
        if self.reverse:
            if "reverse" in how:
                raise TypeError(f"{self!r}: reads from the end already; drop reverse= at the call or in the layer")
            how["reverse"] = True
        return _unroll(self.cell, params, xs, **how)


class BidirectionalCarry(NamedTuple):
    """forward: the carry after the last valid step. backward: the carry after the first."""

    forward: Any
    backward: Any


@cell
class Bidirectional:
    """Two cells, one reading forward and one from the end of each sequence; their outputs merged step by step.

    ``y_t = merge(forward_t, backward_t)``. Both see only valid steps.
    cell: reads forward. backward: reads from the end, default a second ``cell`` with parameters of its own.
    merge: "concat" on the last axis, "sum", "mean", "mul", or None for the pair ``(forward, backward)``.
    params: ``{"forward": ..., "backward": ...}``. carry: ``BidirectionalCarry(forward, backward)``.
    A ``reset`` at t parts step t from step t-1 in both directions: the backward half starts anew before it reads step t-1.
    Keyword arguments: those of `rnnjax.unroll` but ``reverse``.
    Errors: ValueError for an unknown merge.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> layer, xs = rj.Bidirectional(rj.LSTM(4)), jnp.ones((5, 2, 3))
    >>> params = layer.init(jax.random.key(0), xs[0])
    >>> layer(params, xs)[1].shape
    (5, 2, 8)
    """

    cell: Any
    backward: Any = None
    merge: str | None = "concat"

    def __post_init__(self) -> None:
        for inner in self._cells():
            check_cell("Bidirectional", inner)
        check_fields(self)
        check_choice("Bidirectional", "merge", self.merge, (*MERGE, None))

    def _cells(self) -> tuple[Any, Any]:
        return self.cell, self.cell if self.backward is None else self.backward

    def init(self, key: jax.Array, x: Any) -> Params:
        """Parameters for one step's input ``x [*B, I]``."""
        forward, backward = self._cells()
        k_forward, k_backward = jax.random.split(key)
        return {"forward": forward.init(k_forward, x), "backward": backward.init(k_backward, x)}

    def initial_carry(self, params: Params, x: Any) -> BidirectionalCarry:
        """The carries before each direction's first step."""
        forward, backward = self._cells()
        return BidirectionalCarry(
            forward.initial_carry(params["forward"], x), backward.initial_carry(params["backward"], x)
        )

    def __call__(
        self, params: Params, xs: Any, *, carry: Carry | None = None, key: Key = None, **how: Any
    ) -> tuple[BidirectionalCarry, Any]:
        """``(carry, ys)``; see `rnnjax.unroll` for the keyword arguments."""
        if "reverse" in how:
            raise TypeError(f"{self!r}: reads both ways already; drop reverse=")
        forward, backward = self._cells()
        start_f, start_b = (None, None) if carry is None else carry
        key_f, key_b = (None, None) if key is None else jax.random.split(key)
        last_f, ys_f = _unroll(forward, params["forward"], xs, carry=start_f, key=key_f, **how)
        last_b, ys_b = _unroll(backward, params["backward"], xs, carry=start_b, key=key_b, reverse=True, **how)
        ys = (ys_f, ys_b) if self.merge is None else jax.tree.map(MERGE[self.merge], ys_f, ys_b)
        return BidirectionalCarry(last_f, last_b), ys


@cell
class Sequential:
    """Layers one after the other, each over the whole sequence.

    layers: `RNN`, `Bidirectional`, `Sequential`. params: ``{"layer_0": ..., "layer_1": ...}``.
    carry: NamedTuple ``SequentialCarry(layer_0, ...)``. Keyword arguments: those of `rnnjax.unroll` but ``reverse``.
    Keys are split among the layers. Errors: TypeError for a cell in place of a layer.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> layer, xs = rj.Sequential(rj.Bidirectional(rj.GRU(4)), rj.RNN(rj.GRU(2))), jnp.ones((5, 3))
    >>> params = layer.init(jax.random.key(0), xs[0])
    >>> layer(params, xs)[1].shape
    (5, 2)
    """

    layers: tuple[Any, ...]

    def __init__(self, *inside: Any, layers: tuple[Any, ...] = ()) -> None:
        object.__setattr__(self, "layers", inside + tuple(layers))  # by name as `dataclasses.replace` gives them
        self.__post_init__()

    def __post_init__(self) -> None:
        if not self.layers:
            raise TypeError("Sequential: takes one or more layers, Sequential(RNN(LSTM(8)), RNN(LSTM(8))), got none")
        for layer in self.layers:
            if not isinstance(layer, (RNN, Bidirectional, Sequential)):
                raise TypeError(f"Sequential: takes layers, got {name_of(layer)}; wrap a cell as RNN({name_of(layer)})")

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def _named(self) -> Any:
        return zip(layer_names(len(self.layers)), self.layers, strict=True)

    def _carry(self, parts: Any) -> Carry:
        return carry_type("SequentialCarry", layer_names(len(self.layers)))(*parts)

    def init(self, key: jax.Array, x: Any) -> Params:
        """Parameters for one step's input ``x [*B, I]``."""
        params = {}
        for (name, layer), k in zip(self._named(), jax.random.split(key, len(self.layers)), strict=True):
            params[name] = layer.init(k, x)
            x = _output_of(layer, params[name], x)
        return params

    def initial_carry(self, params: Params, x: Any) -> Carry:
        """The carries before the first step."""
        parts = []
        for name, layer in self._named():
            parts.append(layer.initial_carry(params[name], x))
            x = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), _output_of(layer, params[name], x))
        return self._carry(parts)

    def __call__(
        self, params: Params, xs: Any, *, carry: Carry | None = None, key: Key = None, **how: Any
    ) -> tuple[Carry, Any]:
        """``(carry, ys)``; see `rnnjax.unroll` for the keyword arguments."""
        if "reverse" in how:
            raise TypeError(f"{self!r}: takes no reverse=; use Bidirectional, or reverse at a single RNN")
        count = len(self.layers)
        starts = [None] * count if carry is None else list(carry)
        if len(starts) != count:
            raise ValueError(f"{self!r}: carry must have {count} parts, one a layer, got {len(starts)}")
        keys = [None] * count if key is None else jax.random.split(key, count)
        parts = []
        for (name, layer), start, k in zip(self._named(), starts, keys, strict=True):
            part, xs = layer(params[name], xs, carry=start, key=k, **how)
            parts.append(part)
        return self._carry(parts), xs


def _output_of(layer: Any, params: Params, x: Any) -> Any:
    """Shape of one step's output of a layer."""
    xs = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), x)
    ys = jax.eval_shape(lambda p, xs: layer(p, xs)[1], params, xs)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), ys)


def as_layer(owner: str, cell: Any) -> Any:
    """A layer as it is, a cell as ``RNN(cell)``. Raises: TypeError naming ``owner`` for anything else."""
    if isinstance(cell, (RNN, Bidirectional, Sequential)):
        return cell
    if hasattr(cell, "init") and hasattr(cell, "initial_carry"):
        return RNN(cell)
    raise TypeError(f"{owner}: takes a cell or a layer of rnnjax, got {name_of(cell)}")


def step_of(xs: Any, time_axis: int) -> Any:
    """The shape of one step of ``xs``, as ``init`` takes it."""

    def one(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape[:time_axis] + x.shape[time_axis + 1 :], x.dtype)

    return jax.tree.map(one, xs)
