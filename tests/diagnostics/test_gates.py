"""Gate saturation against numpy's own gates; which functions are gates and which are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.diagnostics import gate_saturation
from rnnjax.diagnostics.gate_search import gates_of


def test_shares_equal_those_counted_in_numpy(key):
    """A GRU with large weights: reset and update gates in a plain loop, of every unit, over time and batch."""
    cell, xs = rj.GRU(3), 4 * jax.random.normal(key, (30, 2, 2))
    params = cell.init(key, xs[0])
    found = gate_saturation(cell, params, xs, low=0.2, high=0.7)
    p = jax.tree.map(np.asarray, params)
    h, seen = np.zeros((2, 3)), []
    for x in np.asarray(xs):
        a, b = x @ p["input"] + p["bias"], h @ p["recurrent"]
        r, z = (1 / (1 + np.exp(-(a[:, i : i + 3] + b[:, i : i + 3]))) for i in (0, 3))
        h = (1 - z) * np.tanh(a[:, 6:] + r * (b[:, 6:] + p["recurrent_bias"])) + z * h
        seen.append((r, z))
    assert list(found) == ["gate_0", "gate_1"] and all("gru.py" in gate.where for gate in found.values())
    for gate, values in zip(found.values(), map(np.array, zip(*seen))):
        np.testing.assert_allclose(gate.units_below, (values < 0.2).mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose(gate.units_above, (values > 0.7).mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose([gate.below, gate.above], [(values < 0.2).mean(), (values > 0.7).mean()], atol=1e-6)


def number_of_gates(cell, x=(3,)):
    lines = []

    def look(x):
        params = cell.init(jax.random.key(0), x)
        carry = cell.initial_carry(params, x)
        lines[:], values, _ = gates_of(lambda c, x: cell(params, c, x), carry, x)
        return values

    jax.eval_shape(look, jax.ShapeDtypeStruct(x, jnp.float32))  # traced, neither compiled nor run
    return len(lines)


def test_the_gates_of_papers_are_found():
    """As many as the papers have; in wrappers and stacks those of the cells inside."""
    papers = {
        rj.LSTM(2): 3, rj.LSTM(2, coupled=True): 2, rj.LSTM(2, peephole=True): 3, rj.GRU(2): 2, rj.GRU(2, reset_after=False): 2,
        rj.MGU(2): 1, rj.UGRNN(2): 1, rj.RAN(2): 2, rj.MinGRU(2): 1, rj.MinLSTM(2): 2, rj.QRNN(2): 2, rj.SRU(3): 2, rj.RHN(2, depth=3): 3,
        rj.JANET(2): 2, rj.Elman(2): 0, rj.Elman(2, activation="sigmoid"): 0, rj.Elman(2, activation="silu"): 0, rj.LRU(3): 0,
        rj.Readout(rj.Stack(rj.LSTM(2), rj.Dropout(rj.GRU(4), 0.5)), 1): 5,
    }  # fmt: skip
    assert {cell: number_of_gates(cell) for cell in papers} == papers
    assert number_of_gates(rj.ConvLSTM(2, dims=1), (4, 3)) == 3


def test_a_function_of_ones_own():
    """One sigmoid split into two gates, in a jit and a checkpoint, one of them used as 1 - z alone; the sigmoid of a constant is
    a rate, that of the readout goes nowhere but out."""

    @jax.jit
    @jax.checkpoint
    def step(params, h, x):
        r, z = jnp.split(jax.nn.sigmoid(x + params["bias"]), 2, axis=-1)
        h = (1 - z) * h * jax.nn.sigmoid(params["rate"]) + jnp.tanh(r * h)
        return h, jax.nn.sigmoid(h)

    params = {"bias": jnp.array([9.0, 0.0, -9.0, 0.0]), "rate": jnp.ones(2)}
    found = gate_saturation(step, params, jnp.zeros((4, 4)), carry=jnp.zeros(2))
    assert [gate.units_above.tolist() for gate in found.values()] == [[1.0, 0.0], [0.0, 0.0]]
    assert [gate.units_below.tolist() for gate in found.values()] == [[0.0, 0.0], [1.0, 0.0]]
    again = jax.jit(lambda p: gate_saturation(step, p, jnp.zeros((4, 4)), carry=jnp.zeros(2)))(params)
    assert float(again["gate_1"].below) == 0.5 == float(found["gate_1"].below)


def test_gate_errors():
    cell, xs = rj.Elman(2, activation="sigmoid"), jnp.zeros((3, 1))
    with pytest.raises(ValueError, match=r"Elman\(2, activation='sigmoid'\) has no sigmoid gates"):
        gate_saturation(cell, cell.init(jax.random.key(0), xs[0]), xs)
    with pytest.raises(ValueError, match="thresholds must be 0 <= low < high <= 1, got low=0.9, high=0.1"):
        gate_saturation(cell, {}, xs, low=0.9, high=0.1)

    def looped(params, h, x):
        return jax.lax.fori_loop(0, 2, lambda i, h: h * jax.nn.sigmoid(x), h), h

    with pytest.raises(ValueError, match="takes a sigmoid inside a (scan|while) of its own"):
        gate_saturation(looped, {}, xs, carry=jnp.zeros(1))
