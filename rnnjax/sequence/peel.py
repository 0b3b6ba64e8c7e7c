"""Wrappers and layers taken apart, once for every method: each layer runs over the whole sequence by itself.

A wrapper that leaves the carry alone acts on all inputs before and on all outputs after, at once. In a plain loop (the definition)
nothing is taken apart. A wrapper round a single cell stays part of its step, but in ``method="associative"``, where wrappers
that change the carry become part of the maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rnnjax.engine import lowered
from rnnjax.protocols import CarryAround, OneInside, SeveralLayers
from rnnjax.sequence.methods import METHODS, auto
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run, outputs_along
from rnnjax.sequence.step import zero_invalid


def roll(run: Run, options: Options) -> Rolled:
    """Runs it: layer by layer, wrapper by wrapper, and what is left by the method."""
    if options.method != "loop" and isinstance(run.cell, SeveralLayers):
        return _layer_by_layer(run, options)
    noisy = run.steps.key is not None
    if options.method == "auto" and not _round_layers(run.cell, noisy, options):
        options = auto.decided(run, options)
    if options.method == "associative" and _changes_carry(run.cell, noisy):
        return _with_changed_carry(run, options)
    if options.method == "associative" and isinstance(run.cell, OneInside) or _round_layers(run.cell, noisy, options):
        return _around(run, options)
    return METHODS[options.method](run, options)


def _changes_carry(cell: Any, noisy: bool) -> bool:
    return isinstance(cell, CarryAround) and cell.changes_carry(noisy)


def _round_layers(cell: Any, noisy: bool, options: Options) -> bool:
    """Whether there are several layers inside of wrappers that leave the carry alone."""
    while options.method != "loop" and isinstance(cell, OneInside) and not _changes_carry(cell, noisy):
        cell = cell.cell_inside()
        if isinstance(cell, SeveralLayers):
            return True
    return False


def _layer_by_layer(run: Run, options: Options) -> Rolled:
    cell, steps = run.cell, run.steps
    layers = cell.layers_inside()
    keys = (None,) * len(layers) if steps.key is None else jax.vmap(cell.keys_of_layers)(steps.key)
    starts, freshes = cell.carries_of_layers(run.start), cell.carries_of_layers(run.fresh)
    changes = [None] * len(layers)
    if run.change is not None:
        changes = [type(run.change)(*parts) for parts in zip(*map(cell.carries_of_layers, run.change), strict=True)]
    each = zip(layers, cell.params_of_layers(run.params), starts, freshes, keys, changes, strict=True)
    done, xs = [], steps.x
    for layer, params, start, fresh, key, change in each:
        its = Run(run.whole, layer, params, start, fresh, steps._replace(x=xs, key=key), run.carries, change)
        done.append(roll(its, options))
        xs = zero_invalid(run.whole, done[-1].ys, steps.valid) if len(done) < len(layers) else done[-1].ys
    carries = cell.carry_of_layers(tuple(r.carries for r in done)) if run.carries else None
    return Rolled(cell.carry_of_layers(tuple(r.last for r in done)), xs, carries)


def _inside(run: Run, options: Options) -> tuple[Run, Any]:
    """The run of the cell inside, and the keys kept, one a step."""
    cell, steps = run.cell, run.steps
    keys, kept = (None, None) if steps.key is None else jax.vmap(cell.keys_inside)(steps.key)
    xs = _at_every_step(lambda x, key: cell.input_inside(run.params, x, key), options)(steps.x, kept)
    return dataclasses.replace(
        run, cell=cell.cell_inside(), params=cell.params_inside(run.params), steps=steps._replace(x=xs, key=keys)
    ), kept


def _at_every_step(f: Callable[..., Any], options: Options) -> Callable[..., Any]:
    """f at all steps at once, with its products with weights as a loop would have run them."""
    if options.matmul_dtype is None:
        return jax.vmap(f)
    body = lowered(lambda _, args: ((), f(*args)), options.matmul_dtype)
    return jax.vmap(lambda *args: body((), args)[1])


def _around(run: Run, options: Options) -> Rolled:
    """A wrapper that leaves the carry alone."""
    cell = run.cell
    inside, kept = _inside(run, options)
    rolled = roll(dataclasses.replace(inside, carries=run.carries or cell.output_sees_carry), options)
    output = _at_every_step(lambda *of_step: cell.output_around(run.params, *of_step), options)
    seen = rolled.carries if cell.output_sees_carry else None
    return rolled._replace(ys=output(run.steps.x, seen, rolled.ys, kept))


def _with_changed_carry(run: Run, options: Options) -> Rolled:
    """A wrapper that changes the carry becomes part of the maps; its outputs are those of its own step on the carries found."""
    inside, kept = _inside(run, options)
    change = jax.vmap(lambda _, key: run.cell.carry_change(run.params, key, run.start))(run.steps.x, kept)
    if run.change is not None:
        change = run.change.around(change)
    rolled = roll(dataclasses.replace(inside, carries=True, change=change), options)
    return rolled._replace(ys=outputs_along(run, rolled.carries, options.reverse))
