"""Cells over time: `unroll`, one definition of what lengths, masks, resets, keys and directions mean, and the methods that obey it.

`arguments` reads what the user gives, `start` says where a run begins, `step` is one step under masks, `peel` takes wrappers and
layers apart, once for every method; `methods` run what is left: one cell over all steps.
"""

from rnnjax.sequence.api import unroll
from rnnjax.sequence.last import last_output

__all__ = ["last_output", "unroll"]
