"""``method="auto"``: how each layer runs, decided when it is traced, from its structure, the number of steps and the backend.

Whether Newton's method pays depends on values (does the recurrence forget?), which nobody knows then: `rnnjax.parallel.choose`
measures it. So here only cells linear in time leave the loop, and on a CPU none (`benchmarks/parallel.py` measures it).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from rnnjax.protocols import InChunks, OneInside, SeveralLayers, is_linear
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Run

LONG = 64  # steps from which an accelerator gains by a parallel scan


def decided(its: Run, options: Options) -> Options:
    """The options with a method that runs."""
    time = jax.tree.leaves(its.steps.x)[0].shape[0]
    long = isinstance(time, int) and time >= LONG and jax.default_backend() != "cpu"  # a symbolic time is not known
    return dataclasses.replace(options, method="associative" if long and _can(its, options) else "scan")


def _can(its: Run, options: Options) -> bool:
    """Whether a parallel scan takes this cell and these options."""
    plain = options.matmul_dtype is None and options.fuse is True and options.unroll == 1
    return plain and is_linear(its.cell) and not (its.steps.cut is not None and _in_chunks(its.cell))


def _in_chunks(cell: Any) -> bool:
    """Whether it goes in chunks, or anything that it wraps or stacks does."""
    if isinstance(cell, SeveralLayers):
        return any(map(_in_chunks, cell.layers_inside()))
    return _in_chunks(cell.cell_inside()) if isinstance(cell, OneInside) else isinstance(cell, InChunks)
