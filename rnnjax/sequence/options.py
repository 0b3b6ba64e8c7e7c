"""How a run goes: one frozen record, checked once."""

from __future__ import annotations

import dataclasses
from typing import Any

from rnnjax.base import check_choice, name_of
from rnnjax.engine import Tuned, check_fuse

METHODS = ("scan", "loop", "associative", "deer", "quasi_deer", "elk", "auto")
NOT_TAKEN = {  # what a method cannot do; what only costs time or memory (unroll, checkpoint of a plain loop) it may pass over
    "associative": ("matmul_dtype",),
    "deer": ("checkpoint", "matmul_dtype"),
    "quasi_deer": ("checkpoint", "matmul_dtype"),
    "elk": ("checkpoint", "matmul_dtype"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The keyword arguments of `rnnjax.unroll` that say how its loop runs, not what it computes.

    over: the axis of the mesh over which the steps are split, within `jax.shard_map` (`rnnjax.parallel.over_devices`).
    """

    method: str = "scan"
    reverse: bool = False
    unroll: int = 1
    checkpoint: int | str | None = None
    matmul_dtype: Any = None
    fuse: bool | str | Tuned = True
    over: str | None = None


def checked(cell: Any, options: Options) -> Options:
    """The options, which are possible and fit one another. Raises: ValueError naming the cell and the option."""
    check_choice("unroll", "method", options.method, METHODS)
    check_fuse("unroll", options.fuse)
    if options.method not in ("scan", "auto") and options.fuse is not True:
        raise ValueError(
            f"{name_of(cell)}: fuse= belongs to method='scan', got fuse={options.fuse!r} with method={options.method!r}; "
            "drop one of them"
        )
    whole = isinstance(options.checkpoint, int) and not isinstance(options.checkpoint, bool) and options.checkpoint >= 1
    if not (options.checkpoint is None or options.checkpoint == "sqrt" or whole):
        raise ValueError(f'{name_of(cell)}: checkpoint must be None, an int >= 1 or "sqrt", got {options.checkpoint!r}')
    for name in NOT_TAKEN.get(options.method, ()):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name_of(cell)}: method={options.method!r} takes no {name}, got {getattr(options, name)!r}; drop it or use "
                "method='scan'"
            )
    return options
