"""Every cell inside every wrapper in half precision: at its start, saturated and with nothing in it, values and gradients.

The reference is the same in float32 and, where nothing can be compared, that every number is finite. Nothing is compiled as a
whole: the steps are rolled by a plain Python loop. By default a few pairs run, with -m slow each cell inside one wrapper, and with
HALF=all every pair (ten minutes).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO, Entry

import rnnjax as rj
from rnnjax.base import wide

T, B = 2, 2
ROUND: dict[str, Callable[[Any], Any]] = {
    "Readout": lambda c: rj.Readout(c, 3),
    "Residual": rj.Residual,
    "Skip": rj.Skip,
    "Scale": lambda c: rj.Scale(c, input=0.5, output=2.0),
    "Record": rj.Record,
    "Dropout": lambda c: rj.Dropout(c, 0.5),
    "LayerNorm": rj.LayerNorm,
    "LearnedCarry": rj.LearnedCarry,
    "WeightDrop": lambda c: rj.WeightDrop(c, 0.5),
    "VariationalDropout": lambda c: rj.VariationalDropout(c, 0.5),
    "Zoneout": lambda c: rj.Zoneout(c, 0.4),
    "Noise": lambda c: rj.Noise(c, 0.1),
    "Clip": lambda c: rj.Clip(c, 5.0),
    "Stack": lambda c: rj.Stack(c, rj.Residual(rj.Elman(4))),
}
CELLS = [e for e in ZOO if type(e.cell).__name__ in rj.cells.__all__]
EACH_RUN = (("LSTM(4)", "Zoneout"),)
PAIRS = [(e, name) for e in CELLS for name in ROUND]
some = PAIRS if os.environ.get("HALF") == "all" else PAIRS[:: len(ROUND) - 1]  # a step that meets every wrapper in turn
some += [pair for pair in PAIRS if (pair[0].id, pair[1]) in EACH_RUN and pair not in some]
marks = lambda e, name: () if (e.id, name) in EACH_RUN else pytest.mark.slow
# an empty place of a tape, read at strength 90 and sharpened by 91, has a derivative of 1e8, and float16 ends at 65,504
BEYOND = {("TapeRNN", "biases 90.0", jnp.float16)}
KINKED = ("OrthogonalRNN", "UnitaryRNN")  # modReLU: which side of the kink a number is on is a matter of rounding


def rolled(cell: Any, params: Any, xs: Any, key: Any) -> tuple[Any, list[Any]]:
    """(a fixed random sum of the last carry and the outputs, all of them), step by step."""
    carry, ys = cell.initial_carry(params, xs[0]), []
    for x, k in zip(xs, jax.random.split(key, len(xs)), strict=True):
        carry, y = cell(params, carry, x, key=k)
        ys.append(y)
    out = [a for a in jax.tree.leaves((carry, ys)) if jnp.issubdtype(a.dtype, jnp.inexact)]
    weights = [np.cos(np.arange(a.size) + i).reshape(a.shape) for i, a in enumerate(out)]
    return sum(jnp.sum(wide(a.real) * jnp.asarray(w, wide(a.real).dtype)) for a, w in zip(out, weights)), out


def points(params: Any, xs: np.ndarray) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Params and inputs: as they start, with biases saturated either way, and nothing at all."""
    filled = lambda value: jax.tree_util.tree_map_with_path(
        lambda path, p: np.full_like(p, value) if "bias" in path[-1].key else p, params
    )
    yield "start", params, xs
    yield from ((f"biases {value}", filled(value), xs) for value in (-90.0, 90.0))
    yield "all zero", jax.tree.map(np.zeros_like, params), 0 * xs


def finite(tree: Any) -> bool:
    numbers = [np.asarray(a) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return all(np.isfinite(a.astype(np.complex64)).all() for a in numbers)


@pytest.mark.parametrize(
    ("entry", "name"), [pytest.param(e, name, id=f"{e.id}-{name}", marks=marks(e, name)) for e, name in some]
)
def test_half_precision_inside_a_wrapper(entry: Entry, name: str) -> None:
    key = jax.random.key(0)
    xs = np.random.default_rng(0).normal(size=(T, B, *entry.x))
    try:
        cell = ROUND[name](entry.cell)
        params = jax.device_get(cell.init(key, jnp.asarray(xs[0], jnp.float32)))
    except (ValueError, TypeError) as refused:  # by name, when it is built: shapes that do not fit
        assert any(w in str(refused) for w in (type(entry.cell).__name__, name, "Residual")), refused
        pytest.skip(f"refused: {str(refused)[:90]}")
    for dtype, near in ((jnp.float16, 0.02), (jnp.bfloat16, 0.15)):
        for what, p, x in points(params, xs):
            of = lambda kind: jax.grad(lambda p: rolled(cell, p, jnp.asarray(x, kind), key), has_aux=True)(
                jax.tree.map(lambda a: a if np.iscomplexobj(a) else jnp.asarray(a, kind), p)
            )
            grads, values = of(dtype)
            assert finite(values), (what, dtype)
            assert finite(grads) or (type(entry.cell).__name__, what, dtype) in BEYOND, (what, dtype, "gradient")
            if what != "start" or name == "Noise" or entry.noisy or type(entry.cell).__name__ in KINKED:
                continue  # noise is drawn in the dtype, anew for each
            for a, b in zip(values, of(jnp.float32)[1], strict=True):
                gap = np.abs(np.asarray(a, np.complex64) - np.asarray(b, np.complex64)).max(initial=0.0)
                wide_of = 2 if name == "LayerNorm" else 1  # it makes what differs larger
                assert gap < wide_of * near * (np.abs(b).max(initial=0.0) + 0.3), (what, dtype)
