"""Params, carry and input of a step, checked when it is traced."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax.base import check_carry, check_input, check_params, name_of


def check_step(
    cell: Any, params: Any, carry: Any, x: Any, names: tuple[str, ...], kind: Any = None, parts: Any = None
) -> None:
    """Params have these names, ``x [*B, I]`` fits the first, the carry is ``[*B, H]`` or a ``kind`` of such.

    parts: where the carry is of other shapes, those of its parts without batch axes.
    """
    check_params(cell, params, names)
    check_input(cell, x, params[names[0]].shape[0])
    check_recurrent(cell, params, cell.features)
    if parts is None:
        check_carry(cell, carry, x, cell.features, kind)
    else:
        check_parts(cell, carry, x, *parts, kind=kind)


def check_recurrent(cell: Any, params: Any, features: int) -> None:
    """The recurrent weights, if any, were made for this many features, so that the message is not one of a product's."""
    shape = params["recurrent"].shape if "recurrent" in params else (features,)
    if len(shape) <= 2 and features not in shape:
        raise ValueError(
            f"{cell!r}: params were made for another size, recurrent has shape {tuple(shape)}, which features="
            f"{features} does not fit; make them with init(key, x) of this cell"
        )


def check_parts(cell: Any, carry: Any, x: Any, *shapes: tuple[int, ...], kind: Any = None) -> None:
    """The parts of ``carry`` are ``[*B, *shape]`` for the given shapes, in order; ``kind``: its NamedTuple, if any."""
    expected = kind.__name__ if kind else "one array"
    if not (isinstance(carry, kind) if kind else hasattr(carry, "shape")):
        raise TypeError(
            f"{name_of(cell)}: carry must be {expected}, got {type(carry).__name__}; start from initial_carry(params, x)"
        )
    want = [(*x.shape[:-1], *shape) for shape in shapes]
    got = [tuple(leaf.shape) for leaf in jax.tree.leaves(carry)]
    if got != want:
        raise ValueError(
            f"{name_of(cell)}: carry must have parts of shape {', '.join(map(str, want))} for x of shape "
            f"{tuple(x.shape)}, got {', '.join(map(str, got))}; start from initial_carry(params, x)"
        )


def check_linear_step(
    cell: Any, params: Any, carry: Any, x: Any, inputs: int, *shapes: tuple[int, ...], kind: Any = None
) -> None:
    """``x`` has ``inputs`` features and the carry the given parts."""
    check_input(cell, x, inputs)
    check_parts(cell, carry, x, *shapes, kind=kind)
