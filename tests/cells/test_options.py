"""Impossible options are refused when a cell, wrapper or layer is built: every field of every one, by what it is annotated as."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

ARRAYS = [np.ones(3), np.array(2.0), jnp.ones(3), [1, 2], ()]
WRONG = {
    "int": [0, -1, True, 1.5, math.nan, "4", 1j, *ARRAYS],
    "float": [math.nan, math.inf, -math.inf, True, "0.1", 1j, *ARRAYS],
    "bool": [0, 1, 1.0, "yes", None, *ARRAYS],
    "str": ["no such name", 3, None, *ARRAYS],
    "Any": [3, "GRU", rj.GRU, rj.RNN(rj.GRU(4)), *ARRAYS],
    "tuple[int, ...]": [(0,), (1.5,), 4, "12", *ARRAYS],
    "tuple[str, ...]": [(1,), "recurrent", *ARRAYS],
}
WRONG["int | None"] = WRONG["int | tuple[int, ...]"] = WRONG["int"]
WRONG["float | None"] = WRONG["float | tuple[float, ...]"] = WRONG["float"]
WRONG["str | None"] = [w for w in WRONG["str"] if w is not None]
INSIDE = {  # what each number may not be; None: any finite number
    "rate": [-0.1, 1.0], "input_rate": [-0.1, 1.0], "carry_rate": [-0.1, 1.0], "output_rate": [-0.1, 1.0],
    "alpha": [-0.1], "decay": [-0.1, 1.0], "chrono": [2.0, 0.0, -5.0], "dale": [0.0, 1.0, -0.5, 2.0], "limit": [0.0, -1.0],
    "std": [-0.1], "noise": [-0.1], "density": [0.0, 1.1], "leak": [0.0, 1.1], "gamma": [-0.1], "epsilon": [-1e-6],
    "low": [0.0, 0.9999], "high": [0.5, 1.0], "r_min": [-0.1, 1.0], "r_max": [0.0, 1.1], "input_scale": [-1.0], "bias_scale": [-1.0],
    "tau": [0.0, -1.0], "dt": [0.0, -1.0], "radius": [0.0, -0.5], "power": [0.0, -1.0], "max_phase": [0.0, -1.0],
    "dt_min": [0.0, -1.0, 0.2], "dt_max": [0.0, 1e-4],
    "forget_bias": [], "highway_bias": [], "transform_bias": [], "beta": [], "scale": [], "input": [], "output": [],
}  # fmt: skip
CELLS = [getattr(rj, n) for n in rj.cells.__all__ if hasattr(getattr(rj, n, None), "initial_carry")]
EXAMPLES = [cell(4) for cell in CELLS] + [
    rj.Clip(rj.GRU(4), 0.3), rj.Dropout(rj.GRU(4), 0.3), rj.LayerNorm(rj.Elman(4)), rj.LearnedCarry(rj.GRU(4)),
    rj.Noise(rj.GRU(4), 0.1), rj.Readout(rj.GRU(4), 2), rj.Record(rj.GRU(4)), rj.Residual(rj.GRU(4)), rj.Skip(rj.GRU(4)),
    rj.Scale(rj.GRU(4)), rj.VariationalDropout(rj.GRU(4), 0.3), rj.WeightDrop(rj.GRU(4), 0.3), rj.Zoneout(rj.GRU(4), 0.3),
    rj.RNN(rj.GRU(4)), rj.Bidirectional(rj.GRU(4)),
]  # fmt: skip


def wrong_values(field: Any) -> list[Any]:
    bad = WRONG[field.type]
    if field.name == "backward":  # its None is a second forward cell
        return [w for w in bad if w is not None]
    if field.name == "negative":  # how many signs are turned: none is a number of them
        return [w for w in bad if type(w) is not int or w != 0]
    return bad + (INSIDE[field.name] if field.type.startswith("float") else [])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_every_option_refuses_what_it_cannot_be_and_names_cell_and_option(example: Any) -> None:
    owner, fields = type(example), dataclasses.fields(example)
    for field in fields:
        for value in wrong_values(field):
            with pytest.raises((ValueError, TypeError)) as caught:
                owner(**{f.name: getattr(example, f.name) for f in fields} | {field.name: value})
            message = str(caught.value)
            assert message.startswith(f"{owner.__name__}: "), (field.name, value, message)
            assert field.name in message or "takes a cell" in message, (field.name, value, message)


def test_numpys_numbers_become_pythons_so_that_a_cell_prints_as_it_is_built_and_keeps_its_dtype():
    cell = rj.CoRNN(np.int64(4), dt=np.float32(0.5), implicit=np.bool_(True))
    assert repr(cell) == "CoRNN(4, dt=0.5, implicit=True)" and cell == rj.CoRNN(4, dt=0.5, implicit=True)
    x = jnp.ones(3, jnp.bfloat16)
    params = cell.init(jax.random.key(0), x)
    assert cell(params, cell.initial_carry(params, x), x)[1].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: rj.LSTM(4, chrono=1.5), "LSTM: chrono must be above 2 steps"),
        (lambda: rj.GRU(4, chrono=50.0, use_bias=False), "GRU: chrono sets biases, got use_bias=False"),
        (lambda: rj.OrthogonalRNN(4, parametrization="cayley", negative=1.5), "negative must be an int"),
        (lambda: rj.Stack(rj.GRU(4), rj.GRU), r"Stack: takes a cell, got the class GRU; make one of it, as GRU\(128\)"),
        (
            lambda: rj.Readout(rj.RNN(rj.GRU(4)), 2),
            r"Readout: takes a cell whose step is .* got the layer RNN\(GRU\(4\)\)",
        ),
        (lambda: rj.Zoneout(rj.LSTM(4), (0.1, 1.0)), "Zoneout: rate must be at least 0 and below 1"),
    ],
)
def test_what_the_message_says(build: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build()
