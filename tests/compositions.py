"""Random compositions of cells, wrappers, layers and options, and what each must give: a plain loop, written here.

The loop is DESIGN 3 by hand, one step after the other. Of the library it calls only ``cell.init``, ``cell.initial_carry``,
``cell.prepare`` and the step. A case is its seed: ``python tests/compositions.py 123`` shows and runs number 123, and
``python tests/compositions.py 0 1000`` runs the first thousand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from zoo import ZOO

import rnnjax as rj

METHODS = ("scan", "scan", "loop", "associative", "associative", "deer", "quasi_deer", "elk")
FLAGS = ("lengths", "mask", "reset")
NEWTON = ("deer", "quasi_deer", "elk")
LAYERS = (rj.RNN, rj.Bidirectional, rj.Sequential)
BASES = [entry for entry in ZOO if not any(hasattr(entry.cell, part) for part in ("cell", "cells"))]
LINEAR = {entry.cell for entry in ZOO if entry.linear}
MATRIX = (rj.LinearAttention, rj.DeltaNet, rj.GatedDeltaNet, rj.MLSTM)  # whose state is a matrix: they go in chunks
TOLERANCE = {"float64": 1e-7, "float32": 2e-3, "float16": 4e-2, "bfloat16": 3e-1}
MERGES = {
    "concat": lambda a, b: jnp.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """layer: a cell or a layer. x: shape of one step's input. method and options: as for `rj.unroll`. flags: what is drawn
    as arrays, by name and how many of the batch axes it has."""

    seed: int
    layer: Any
    x: tuple[int, ...]
    batch: tuple[int, ...]
    time: int
    dtype: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()
    flags: tuple[tuple[str, int], ...] = ()
    keyed: bool = False
    started: bool = False  # a start other than the cell's own
    poisoned: bool = False  # NaN in padding, and in a start that a reset replaces
    gradient: bool = False
    compiled: bool = False

    @property
    def backward(self) -> bool:
        return dict(self.options).get("reverse", False) or (isinstance(self.layer, rj.RNN) and self.layer.reverse)


# -- drawing -----------------------------------------------------------------------------------------------------------


def draw(seed: int) -> Case:
    """Case number ``seed``."""
    rng = np.random.default_rng(seed)
    method = str(rng.choice(METHODS))
    x = (3,) if rng.random() < 0.97 else ((4, 3) if rng.random() < 0.7 else (3, 2, 3))
    layer = _draw_layer(rng, x, method == "associative" and rng.random() < 0.85)
    batch = [(), (2,), (2,), (1, 2)][rng.integers(4)] if rng.random() < 0.97 else (0,)
    time = int(rng.choice([1, 3, 5])) if rng.random() < 0.97 else 0
    dtype = str(rng.choice(["float64", "float32", "float16", "bfloat16"], p=[0.5, 0.35, 0.1, 0.05]))
    if dtype in ("float16", "bfloat16") and any(jnp.iscomplexobj(a) for a in _parameters(layer, x)):
        dtype = "float32"  # complex numbers have no half
    options = _draw_options(rng, layer, batch, method)
    least = dict(options).get("time_axis", 0)  # masks and resets have their time there
    ranks = {name: int(rng.integers(0 if name == "lengths" else least, len(batch) + 1)) for name in FLAGS}
    flags = tuple((name, rank) for name, rank in ranks.items() if rng.random() < 0.45)
    return Case(
        seed, layer, x, batch, time, dtype, method, options, flags,
        keyed=bool(rng.random() < 0.6), started=bool(rng.random() < 0.4), poisoned=bool(rng.random() < 0.5),
        gradient=bool(rng.random() < 0.3) and dtype in ("float32", "float64"), compiled=bool(rng.random() < 0.05) or not time,
    )  # fmt: skip


def _draw_options(rng: np.random.Generator, layer: Any, batch: tuple[int, ...], method: str) -> tuple[Any, ...]:
    options: dict[str, Any] = {}
    if not isinstance(layer, LAYERS) and rng.random() < 0.4:
        options["reverse"] = True
    if batch and rng.random() < 0.4:
        options["time_axis"] = int(rng.integers(1, len(batch) + 1))
    if rng.random() < 0.2:
        options["truncate"] = int(rng.integers(1, 4))
    if rng.random() < (0.04 if method in NEWTON else 0.25):
        options["checkpoint"] = [1, 2, 3, "sqrt"][rng.integers(4)]
    if method == "scan" and rng.random() < 0.3:
        options["fuse"] = [False, "all", "hoist", "defer"][rng.integers(4)]
    if method == "scan" and rng.random() < 0.2:
        options["unroll"] = 2
    return tuple(options.items())


def _draw_layer(rng: np.random.Generator, x: tuple[int, ...], linear: bool) -> Any:
    kind = rng.choice(["cell", "RNN", "Bidirectional", "Sequential"], p=[0.6, 0.1, 0.2, 0.1])
    if kind == "cell":
        return _draw_cell(rng, x, int(rng.integers(4)), linear)
    if kind != "Sequential":
        return _draw_single(rng, x, kind, int(rng.integers(3)), linear)
    layers: list[Any] = []
    for _ in range(2):
        layers.append(_draw_single(rng, x, rng.choice(["RNN", "Bidirectional"]), int(rng.integers(2)), linear))
        out = _output(layers[-1], x)
        if not hasattr(out, "shape"):
            break
        x = out.shape
    return rj.Sequential(*layers)


def _draw_single(rng: np.random.Generator, x: tuple[int, ...], kind: str, depth: int, linear: bool) -> Any:
    cell = _draw_cell(rng, x, depth, linear)
    if kind == "RNN":
        return rj.RNN(cell, reverse=bool(rng.random() < 0.5))
    other = _draw_cell(rng, x, 0, linear) if rng.random() < 0.4 else None
    one, two = _output(cell, x), _output(cell if other is None else other, x)
    same = jax.tree.structure(one) == jax.tree.structure(two) and [a.shape for a in jax.tree.leaves(one)] == [
        b.shape for b in jax.tree.leaves(two)
    ]
    floats = all(jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves((one, two)))
    return rj.Bidirectional(
        cell, other, merge=list(MERGES)[rng.integers(4)] if same and floats and rng.random() < 0.8 else None
    )


def _draw_cell(rng: np.random.Generator, x: tuple[int, ...], depth: int, linear: bool) -> Any:
    """A cell under ``depth`` wrappers that takes one step's input of shape ``x``."""
    while True:
        cell = _draw_base(rng, x, linear) if not depth else _draw_wrapped(rng, x, depth, linear)
        if cell is not None and _output(cell, x) is not None:
            return cell


def _draw_base(rng: np.random.Generator, x: tuple[int, ...], linear: bool) -> Any:
    entries = [e for e in BASES if len(e.x) == len(x) and (e.linear or not linear)]
    return entries[rng.integers(len(entries))].cell if entries else rj.Elman(3)


def _draw_wrapped(rng: np.random.Generator, x: tuple[int, ...], depth: int, linear: bool) -> Any:
    inner = _draw_cell(rng, x, depth - 1, linear)
    rate = float(rng.choice([0.25, 0.5]))
    one_array = hasattr(_output(inner, x), "shape")
    parts = len(jax.tree.leaves(_carry(inner, x)))
    makers = {
        "LearnedCarry": lambda: rj.LearnedCarry(inner),
        "Dropout": lambda: rj.Dropout(inner, rate),
        "VariationalDropout": lambda: rj.VariationalDropout(inner, rate, carry_rate=[None, 0.0][rng.integers(2)]),
        "Zoneout": lambda: rj.Zoneout(inner, rate if rng.random() < 0.5 else tuple([0.1, 0.4, 0.2, 0.3, 0.6][:parts])),
        "WeightDrop": lambda: rj.WeightDrop(inner, rate, names=_weights(inner, x, rng)),
        "Noise": lambda: rj.Noise(inner, 0.1, at=["carry", "input", "output"][rng.integers(3)]),
        "Scale": lambda: rj.Scale(inner, input=0.5, output=2.0),
        "Record": lambda: rj.Record(inner),
        "Clip": lambda: rj.Clip(inner, 0.3),
        "Readout": lambda: rj.Readout(inner, 3),
        "Residual": lambda: rj.Residual(inner),
        "Skip": lambda: rj.Skip(inner),
        "LayerNorm": lambda: rj.LayerNorm(inner),
        "Stack": lambda: rj.Stack(inner, _draw_cell(rng, _output(inner, x).shape, int(rng.integers(2)), linear)),
    }
    names = [n for n in makers if not (n == "Clip" and linear)]
    if not one_array:
        names = [n for n in names if n not in ("Readout", "Residual", "Skip", "LayerNorm", "Stack")]
    with contextlib.suppress(ValueError, TypeError):  # a Residual of another size, a Zoneout of more parts
        return makers[names[rng.integers(len(names))]]()
    return None


def _weights(cell: Any, x: tuple[int, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """The name of some weight matrix of the cell: the recurrent one where it has it."""
    paths = jax.tree_util.tree_leaves_with_path(jax.eval_shape(cell.init, jax.random.key(0), _struct(x)))
    names = sorted({str(path[-1].key) for path, a in paths if jnp.issubdtype(a.dtype, jnp.inexact)})
    return ("recurrent",) if "recurrent" in names else (names[rng.integers(len(names))],)


def _struct(x: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x, dtype)


@functools.cache
def _shapes(layer: Any, x: tuple[int, ...]) -> Any:
    """(params, carry, one step's output) as shapes; None where the layer does not take such an input."""

    def step(key: jax.Array, x: jax.Array) -> Any:
        params = layer.init(key, x)
        if isinstance(layer, LAYERS):
            return params, *layer(params, x[None])
        carry = layer.initial_carry(params, x)
        return params, carry, layer(params, carry, x)[1]

    try:
        params, carry, y = jax.eval_shape(step, jax.random.key(0), _struct(x))
    except (ValueError, TypeError):
        return None, None, None
    strip = lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype)
    return params, carry, jax.tree.map(strip, y) if isinstance(layer, LAYERS) else y


def _output(layer: Any, x: tuple[int, ...]) -> Any:
    return _shapes(layer, x)[2]


def _carry(layer: Any, x: tuple[int, ...]) -> Any:
    return _shapes(layer, x)[1]


def _parameters(layer: Any, x: tuple[int, ...]) -> list[Any]:
    return jax.tree.leaves(_shapes(layer, x)[:2])


# -- the arrays of a case ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Arrays:
    """Time first, whatever the case's ``time_axis``. Flags as numpy arrays; None where the option is not used."""

    params: Any
    xs: Any
    start: Any
    lengths: Any
    mask: Any
    reset: Any
    key: Any

    def valid(self, time: int) -> np.ndarray | None:
        """bool ``[T, *B]`` with as many batch axes as the longer of lengths and mask."""
        if self.lengths is None:
            return self.mask
        inside = np.arange(time).reshape(time, *(1,) * self.lengths.ndim) < self.lengths
        if self.mask is None:
            return inside
        rank = max(inside.ndim, self.mask.ndim)
        return _level(inside, rank) & _level(self.mask, rank)


def _level(flags: Any, rank: int) -> Any:
    return flags.reshape(flags.shape + (1,) * (rank - flags.ndim))


def arrays(case: Case) -> Arrays:
    """What the case is run on."""
    rng = np.random.default_rng([case.seed, 1])
    dtype = jnp.dtype(case.dtype)
    xs = jnp.asarray(rng.normal(size=(case.time, *case.batch, *case.x)), dtype)
    one = _struct((*case.batch, *case.x), dtype)
    params = jax.tree.map(lambda a: _jitter(rng, a, 0.05), case.layer.init(jax.random.key(case.seed), one))
    ranks = dict(case.flags)
    lengths = mask = reset = None
    if "lengths" in ranks:
        lengths = rng.integers(0, case.time + 1, size=case.batch[: ranks["lengths"]])
        lengths = np.asarray(lengths, np.int32)
    if "mask" in ranks:
        mask = rng.random((case.time, *case.batch[: ranks["mask"]])) < 0.7
    if "reset" in ranks:
        reset = rng.random((case.time, *case.batch[: ranks["reset"]])) < 0.4
    start = None
    if case.started:
        own = case.layer.initial_carry(params, jnp.zeros(one.shape, dtype))
        start = jax.tree.map(lambda a: _jitter(rng, a, 0.3), own)
    key = jax.random.key(case.seed + 1) if case.keyed else None
    made = Arrays(params, xs, start, lengths, mask, reset, key)
    return _poison(case, made) if case.poisoned else made


def _jitter(rng: np.random.Generator, a: Any, scale: float) -> Any:
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return a
    noise = scale * rng.normal(size=a.shape)
    noise = noise + 1j * scale * rng.normal(size=a.shape) if jnp.iscomplexobj(a) else noise
    return a + jnp.asarray(noise, a.dtype)


def _poison(case: Case, made: Arrays) -> Arrays:
    """NaN where nothing may look: in steps left out, and in a start that a reset at step 0 replaces."""
    valid = made.valid(case.time)
    if valid is not None and case.time:
        made.xs = _where(valid, made.xs, jnp.full_like(made.xs, jnp.nan))
    simple = not isinstance(case.layer, rj.Bidirectional | rj.Sequential) and not case.backward
    if simple and made.start is not None and made.reset is not None and case.time:
        flags = made.reset[0]
        if made.lengths is not None:
            rank = max(flags.ndim, made.lengths.ndim)
            flags = _level(flags, rank) & (_level(made.lengths, rank) > 0)
        floats = lambda a: jnp.issubdtype(a.dtype, jnp.inexact) and a.ndim >= flags.ndim
        spoil = lambda a: _where(flags, jnp.full_like(a, jnp.nan), a) if floats(a) else a
        made.start = jax.tree.map(spoil, made.start)
    return made


# -- the plain loop ----------------------------------------------------------------------------------------------------


def by_hand(layer: Any, made: Arrays, truncate: int | None, backward: bool) -> tuple[Any, Any]:
    """``(carry, ys)`` of a cell or layer, by DESIGN 2 and 3."""
    if isinstance(layer, rj.RNN):
        return _roll(layer.cell, made, truncate, layer.reverse)
    if isinstance(layer, rj.Bidirectional):
        return _both_ways(layer, made, truncate)
    if isinstance(layer, rj.Sequential):
        return _in_turn(layer, made, truncate)
    return _roll(layer, made, truncate, backward)


def _both_ways(layer: Any, made: Arrays, truncate: int | None) -> tuple[Any, Any]:
    keys = (None, None) if made.key is None else jax.random.split(made.key)
    cells = (layer.cell, layer.cell if layer.backward is None else layer.backward)
    carries, outputs = [], []
    for i, (cell, name, key) in enumerate(zip(cells, ("forward", "backward"), keys, strict=True)):
        start = None if made.start is None else made.start[i]
        own = dataclasses.replace(made, params=made.params[name], start=start, key=key)
        carry, ys = _roll(cell, own, truncate, name == "backward")
        carries.append(carry)
        outputs.append(ys)
    merged = tuple(outputs) if layer.merge is None else jax.tree.map(MERGES[layer.merge], *outputs)
    return tuple(carries), merged


def _in_turn(layer: Any, made: Arrays, truncate: int | None) -> tuple[Any, Any]:
    count = len(layer.layers)
    keys = [None] * count if made.key is None else jax.random.split(made.key, count)
    carries, xs = [], made.xs
    for i, (inner, key) in enumerate(zip(layer.layers, keys, strict=True)):
        start = None if made.start is None else made.start[i]
        own = dataclasses.replace(made, params=made.params[f"layer_{i}"], xs=xs, start=start, key=key)
        carry, xs = by_hand(inner, own, truncate, False)
        carries.append(carry)
    return tuple(carries), xs


def _roll(cell: Any, made: Arrays, truncate: int | None, backward: bool) -> tuple[Any, Any]:
    """One cell over time, one step after the other."""
    time, one = len(made.xs), jax.ShapeDtypeStruct(made.xs.shape[1:], made.xs.dtype)
    blank = jnp.zeros(one.shape, one.dtype)
    keys = [None] * time if made.key is None else jax.random.split(made.key, time)
    params = made.params
    if made.key is not None and hasattr(cell, "prepare"):
        params = cell.prepare(params, jax.random.fold_in(made.key, 2**32 - 1), one)
    step = lambda carry, x, key: cell(params, carry, x) if key is None else cell(params, carry, x, key=key)
    fresh = cell.initial_carry(params, blank)
    carry = fresh if made.start is None else made.start
    kept, y_type = _types(step, carry, blank, jax.random.key(0) if made.key is not None else None)
    carry, fresh = jax.tree.map(_as, carry, kept), jax.tree.map(_as, fresh, kept)
    valid, ys = made.valid(time), [None] * time
    for t in reversed(range(time)) if backward else range(time):
        restart = _restart(made, t + 1 if backward else t)
        if restart is not None:
            carry = _where(restart, fresh, carry)
        old, x = carry, made.xs[t]
        if valid is not None:  # what is left out is not looked at
            old, x = _where(valid[t], old, fresh), _where(valid[t], x, blank)
        if truncate is not None and (cut := _cut(made, truncate, t, backward)) is not None:
            old = _where(cut, jax.lax.stop_gradient(old), old)
        new, y = step(old, x, keys[t])
        new = jax.tree.map(_as, new, kept)
        if valid is not None:
            new, y = _where(valid[t], new, carry), _where(valid[t], y, jax.tree.map(jnp.zeros_like, y))
        carry, ys[t] = new, y
    if not time:
        return carry, jax.tree.map(lambda a: jnp.zeros((0, *a.shape), a.dtype), y_type)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)


def _types(step: Any, carry: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """The one dtype that each part of the carry keeps, and the output's type."""
    while True:
        new, y = jax.eval_shape(step, carry, x, key)
        wide = jax.tree.map(lambda a, b: jax.ShapeDtypeStruct(a.shape, jnp.promote_types(a.dtype, b.dtype)), carry, new)
        if all(a.dtype == b.dtype for a, b in zip(jax.tree.leaves(carry), jax.tree.leaves(wide), strict=True)):
            return wide, y
        carry = wide


def _as(a: Any, like: Any) -> jax.Array:
    return jnp.asarray(a).astype(like.dtype)


def _restart(made: Arrays, t: int) -> Any:
    """Where nothing crosses from t - 1 to t, in either direction; masked steps too, padding not."""
    if made.reset is None or t >= len(made.reset):
        return None
    if made.lengths is None:
        return made.reset[t]
    rank = max(made.reset[t].ndim, made.lengths.ndim)
    return _level(made.reset[t], rank) & (t < _level(made.lengths, rank))


def _cut(made: Arrays, every: int, t: int, backward: bool) -> Any:
    """Where gradients stop before step t: every k-th step, counted from where each sequence's run starts."""
    end = np.asarray(len(made.xs) if made.lengths is None else made.lengths)
    count = end - 1 - t if backward else np.full(end.shape, t)
    return (count % every == 0) & (count > 0)


def _where(flags: Any, yes: Any, no: Any) -> Any:
    pick = lambda a, b: jnp.where(_level(np.asarray(flags), b.ndim), a, b) if b.ndim >= np.ndim(flags) else b
    return jax.tree.map(pick, yes, no)


# -- running and comparing ---------------------------------------------------------------------------------------------


def parts(layer: Any) -> list[Any]:
    """The layer and whatever is inside it."""
    inner = [
        getattr(layer, n) for n in ("cell", "backward") if hasattr(layer, n) and not isinstance(getattr(layer, n), str)
    ]
    inner += [*getattr(layer, "cells", ()), *getattr(layer, "layers", ())]
    return [layer, *itertools.chain.from_iterable(parts(c) for c in inner if dataclasses.is_dataclass(c))]


def refusal(case: Case) -> str | None:
    """Why the library may refuse this case, by name; None where it must give numbers."""
    inside, options = parts(case.layer), dict(case.options)
    cells = [c for c in inside if not any(hasattr(c, n) for n in ("cell", "cells", "layers"))]
    if case.method == "associative":
        if any(c not in LINEAR for c in cells):
            return "not linear in time"
        if any(isinstance(c, rj.Clip) for c in inside):
            return "Clip is not linear"
        if any(isinstance(c, MATRIX) for c in cells) and "truncate" in options:
            return "truncate in chunks"
    if case.method in NEWTON:
        if "checkpoint" in options:
            return "Newton's method takes no checkpoint"
        if any(not jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(_carry(case.layer, case.x))):
            return "Newton's method needs derivatives"
    return None


def run(case: Case, made: Arrays) -> tuple[Any, Any]:
    """``(carry, ys)`` by the library, time first again."""
    axis = dict(case.options).get("time_axis", 0)
    flags = {name: getattr(made, name) for name, _ in case.flags}
    turned = (
        {n: a if n == "lengths" or a is None else np.moveaxis(a, 0, axis) for n, a in flags.items()} if axis else flags
    )
    turned = {n: jnp.asarray(a) for n, a in turned.items()}
    how = dict(case.options) | turned | dict(carry=made.start, key=made.key, method=case.method)
    xs = jnp.moveaxis(made.xs, 0, axis)
    roll = case.layer if isinstance(case.layer, LAYERS) else functools.partial(rj.unroll, case.layer)
    carry, ys = roll(made.params, xs, **how)
    return carry, jax.tree.map(lambda y: jnp.moveaxis(y, axis, 0), ys)


def settings(case: Case) -> contextlib.ExitStack:
    """Strict promotion, 64 bits where asked, and no compilation but where asked."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("strict"))
    stack.enter_context(jax.enable_x64(case.dtype == "float64"))
    if not case.compiled:
        stack.enter_context(jax.disable_jit())
    return stack


def check(case: Case) -> str | None:
    """None where the library and the loop agree; else what differs."""
    with settings(case):
        made = arrays(case)
        got = _attempt(lambda: _values(case, made, lambda m: run(case, m)))
        why = refusal(case)
        if isinstance(got, Exception):
            return None if why and _names(case, got) else f"refused: {type(got).__name__}: {str(got)[:300]}"
        if why in ("not linear in time", "Clip is not linear"):
            return f"not refused: {why}"
        options = dict(case.options)
        wanted = _values(case, made, lambda m: by_hand(case.layer, m, options.get("truncate"), case.backward))
    return _differences(got, wanted, TOLERANCE[case.dtype])


def _attempt(f: Any) -> Any:
    try:
        return f()
    except Exception as error:  # whatever it is, it is told
        return error


def _names(case: Case, error: Exception) -> bool:
    """A ValueError or TypeError that names a cell of the case."""
    names = {type(c).__name__ for c in parts(case.layer)}
    return isinstance(error, ValueError | TypeError) and bool(set(re.findall(r"\w+", str(error))) & names)


def _values(case: Case, made: Arrays, roll: Any) -> Any:
    """Named leaves: values, and gradients of a random projection of them where the case asks for gradients."""
    if not case.gradient:
        out = roll(made)
        return {"carry": out[0], "ys": out[1]}
    sides = (made.params, made.xs, made.start)
    leaves, structure = jax.tree.flatten(sides)
    chosen = [i for i, a in enumerate(leaves) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def loss(floats: list[Any]) -> tuple[Any, Any]:
        full = list(leaves)
        for i, a in zip(chosen, floats, strict=True):
            full[i] = a
        params, xs, start = jax.tree.unflatten(structure, full)
        out = roll(dataclasses.replace(made, params=params, xs=xs, start=start))
        rng = np.random.default_rng([case.seed, 2])
        return sum((_projected(rng, a) for a in jax.tree.leaves(out)), jnp.zeros((), case.dtype)), out

    floats = [leaves[i] for i in chosen]
    grads, out = (
        jax.jit(jax.grad(loss, has_aux=True))(floats) if case.compiled else jax.grad(loss, has_aux=True)(floats)
    )
    return {"carry": out[0], "ys": out[1], "grads": grads}


def _projected(rng: np.random.Generator, a: Any) -> Any:
    weights = rng.normal(size=a.shape)
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return jnp.zeros((), jnp.result_type(float))
    return jnp.sum(jnp.asarray(weights, a.real.dtype) * (a.real + a.imag if jnp.iscomplexobj(a) else a))


def _differences(got: Any, wanted: Any, tolerance: float) -> str | None:
    for name in wanted:
        pairs = [jax.tree.leaves(side[name]) for side in (got, wanted)]
        if len(pairs[0]) != len(pairs[1]):
            return f"{name}: {len(pairs[0])} arrays, wanted {len(pairs[1])}"
        for i, (a, b) in enumerate(zip(*pairs, strict=True)):
            if a.shape != b.shape or a.dtype != b.dtype:
                return f"{name}[{i}]: {a.dtype}{a.shape}, wanted {b.dtype}{b.shape}"
            if (off := _off(a, b)) > tolerance:
                return f"{name}[{i}]: off by {off:.2g}"
    return None


def _off(a: Any, b: Any) -> float:
    """Largest difference beside the scale of what is wanted; infinite for what is not a number."""
    wide = np.complex128 if jnp.iscomplexobj(b) else np.float64
    a, b = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
    if not a.size:
        return 0.0
    off = np.abs(a - b).max() / (1 + np.abs(b).max())
    return float(off) if np.isfinite(off) else float("inf")


def main(numbers: list[int]) -> int:
    """One case, or all from one number up to another: what fails, by number."""
    wrong = 0
    for seed in range(*numbers) if len(numbers) == 2 else numbers:
        case = draw(seed)
        if len(numbers) == 1:
            print(case)
        problem = check(case)
        if problem is not None or len(numbers) == 1:
            wrong += problem is not None
            print(f"{seed}: {problem or 'equal'}" + (f"\n    {case}" if problem else ""), flush=True)
    return wrong


if __name__ == "__main__":
    raise SystemExit(min(main([int(n) for n in sys.argv[1:]]), 1))
