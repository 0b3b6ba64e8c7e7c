"""What cells linear in time share: steps that compose, so that `method="associative"` can run them in parallel.

A linear cell is written in two pieces, both of which take one step or any number of leading time axes alike:

``linear_maps(params, x)``: the step as an affine map of the carry, free of the carry: `rnnjax.carry_maps.Affine` (or `Shift`).
``output_of_carry(params, carry, x)``: the output from the carry after the step.

Its ordinary step is `linear_step`, made of the same two, so that the loop and the parallel scan cannot drift apart.
Cells whose state is a matrix offer ``run_chunk`` instead (see `rnnjax.cells.shared.outer_product`).
"""

from __future__ import annotations

from typing import Any

import jax


def linear_step(cell: Any, params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """One step of a linear cell, from the pieces that the parallel scan uses."""
    carry = cell.linear_maps(params, x).apply(carry)
    return carry, cell.output_of_carry(params, carry, x)
