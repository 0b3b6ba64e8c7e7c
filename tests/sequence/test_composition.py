"""What holds for a cell holds for whatever is made of it: every wrapper round every composite, every method, against a plain loop.

The loop is written here, keys included; it knows of cells only that they take a step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax

T, B, I = 5, 2, 4
XS = np.random.default_rng(0).normal(size=(T, B, I)).astype(np.float32)
KEY = jax.random.key(3)
LENGTHS = np.array([5, 3])
MASK = np.ones((T, B), bool)
MASK[1, 0] = False
RESET = np.zeros((T, B), bool)
RESET[1, 0] = RESET[3, 0] = RESET[2, 1] = RESET[4, 1] = (
    True  # masked out; before the last but one; last; beyond the length
)


def plain_loop(cell: Any, params: Any, key: Any, reverse: bool) -> Any:
    """The definition, sequence options and keys by hand."""
    if key is not None and hasattr(cell, "prepare"):
        params = cell.prepare(params, jax.random.fold_in(key, 2**32 - 1), jnp.asarray(XS[0]))
    keys = [None] * T if key is None else jax.random.split(key, T)
    inside = np.arange(T)[:, None] < LENGTHS
    valid, fresh = inside & MASK, cell.initial_carry(params, jnp.asarray(XS[0]))
    carry, ys = fresh, [None] * T
    step = jax.jit(cell)
    for t in reversed(range(T)) if reverse else range(T):
        first = t + 1 if reverse else t  # nothing crosses from first - 1 to first
        restart = RESET[first] & inside[first] if first < T else np.zeros(B, bool)
        carry = pick(restart, fresh, carry)
        x = jnp.asarray(np.where(valid[t][:, None], XS[t], 0))
        new, y = step(params, carry, x) if keys[t] is None else step(params, carry, x, key=keys[t])
        carry = pick(valid[t], new, carry)
        ys[t] = pick(valid[t], y, jax.tree.map(np.zeros_like, y))
    return carry, jax.tree.map(lambda *leaves: np.stack(leaves), *ys)


def pick(flag: np.ndarray, yes: Any, no: Any) -> Any:
    """``yes`` for the examples with ``flag [B]``, else ``no``."""
    return jax.tree.map(lambda a, b: np.where(flag.reshape(B, *[1] * (np.ndim(a) - 1)), a, b), yes, no)


INSIDE = [rj.MinGRU(4), rj.Stack(rj.Dropout(rj.MinGRU(4), 0.5), rj.LRU(4, state=3))]
ROUND = {
    "Readout": lambda c: rj.Readout(c, 3),
    "Residual": rj.Residual,
    "Skip": rj.Skip,
    "Scale": lambda c: rj.Scale(c, input=0.5, output=2.0),
    "Record": rj.Record,
    "Dropout": lambda c: rj.Dropout(c, 0.5),
    "LayerNorm": rj.LayerNorm,
    "LearnedCarry": rj.LearnedCarry,
    "WeightDrop": lambda c: rj.WeightDrop(c, 0.5, names=("input",)),
    "VariationalDropout": lambda c: rj.VariationalDropout(c, 0.5),
    "Zoneout": lambda c: rj.Zoneout(c, 0.4),
    "Noise": lambda c: rj.Noise(c, 0.3),
    "Noise at input": lambda c: rj.Noise(c, 0.3, at="input"),
    "three deep": lambda c: rj.Zoneout(rj.Readout(rj.VariationalDropout(rj.Noise(c, 0.2), 0.5), 2), 0.3),
    "a stack": lambda c: rj.Stack(rj.Zoneout(c, 0.3), rj.Record(rj.Stack(rj.MinGRU(2), rj.Noise(rj.MinGRU(3), 0.2)))),
}  # fmt: skip


def compare(cell: Any, method: str, key: Any, reverse: bool = False, **more: Any) -> None:
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    params = jax.tree.map(lambda a: a + 0.1, params)
    run = jax.jit(
        lambda p, xs: rj.unroll(
            cell, p, xs, lengths=LENGTHS, mask=MASK, reset=RESET, key=key, reverse=reverse, method=method, **more
        )
    )
    junk = np.where(((np.arange(T)[:, None] < LENGTHS) & MASK)[..., None], XS, np.nan)
    wanted = plain_loop(cell, params, key, reverse)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), run(params, junk), wanted)


EACH_RUN = ("Readout", "Record", "LearnedCarry", "VariationalDropout", "Zoneout", "three deep", "a stack")
some = [n if n in EACH_RUN else pytest.param(n, marks=pytest.mark.slow) for n in ROUND]


@pytest.mark.parametrize("inside", [pytest.param(INSIDE[0], marks=pytest.mark.slow), INSIDE[1]], ids=["cell", "stack"])
@pytest.mark.parametrize("name", some)
def test_associative_is_the_loop_with_its_keys_and_masks(name: str, inside: Any) -> None:
    compare(ROUND[name](inside), "associative", KEY)


@pytest.mark.parametrize("name", ["Record", "Zoneout", "Dropout", "three deep"])
def test_scan_is_the_loop_round_several_layers_read_backward(name: str) -> None:
    compare(ROUND[name](INSIDE[1]), "scan", KEY, reverse=True)


OTHER_WAYS = {
    "reversed": dict(method="associative", key=KEY, reverse=True),
    "no key": dict(method="associative", key=None, checkpoint=2),
    "Newton": dict(method="deer", key=KEY),
    "loop": dict(method="loop", key=KEY, reverse=True),
}


@pytest.mark.parametrize("way", OTHER_WAYS)
@pytest.mark.parametrize(
    "name", ["LearnedCarry", *(pytest.param(n, marks=pytest.mark.slow) for n in ("three deep", "a stack"))]
)
def test_the_other_way_round_and_without_keys(name: str, way: str) -> None:
    compare(ROUND[name](INSIDE[1]), **OTHER_WAYS[way])


def test_record_round_a_matrix_memory_and_a_convolution() -> None:
    for cell in (rj.Record(rj.DeltaNet(4)), rj.Record(rj.QRNN(4, window=3))):
        compare(cell, "associative", None)


# -- layer by layer ----------------------------------------------------------------------------------------------------


def loops_and_products(cell: Any, **how: Any) -> tuple[int, int]:
    """Loops in the program, and products within them."""
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    jaxpr = jax.make_jaxpr(lambda p, xs: rj.unroll(cell, p, xs, **how))(params, XS).jaxpr
    scans = [e for e in _jax.equations(jaxpr) if e.primitive.name == "scan"]
    inside = [e for s in scans for e in _jax.equations(_jax.open_jaxpr(_jax.loop_of_scan(s).body)[0])]
    return len(scans), sum(e.primitive.name in ("dot_general", "low_product") for e in inside)


@pytest.mark.parametrize("how", [{}, dict(matmul_dtype=jnp.bfloat16)], ids=str)
def test_a_readout_round_a_stack_runs_layer_by_layer_as_the_stack_does(how: Any) -> None:
    stack = rj.Stack(rj.LSTM(8), rj.LSTM(8))
    assert loops_and_products(stack, **how) == (2, 2)
    assert loops_and_products(rj.Readout(stack, 3), **how) == (2, 2)
    assert loops_and_products(rj.Readout(rj.Dropout(rj.Skip(rj.LearnedCarry(stack)), 0.5), 3), key=KEY, **how) == (2, 2)


def test_matmul_dtype_reaches_what_is_taken_off_and_the_loop() -> None:
    """y = h V with both rounded to bfloat16: by hand; and the definition takes it too."""
    cell = rj.Readout(rj.Stack(rj.Elman(4), rj.Elman(4)), 3)
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    how = dict(matmul_dtype=jnp.bfloat16)
    ys = rj.unroll(cell, params, XS, **how)[1]
    h = rj.unroll(cell.cell, params["cell"], XS, **how)[1]
    low = lambda a: np.asarray(a.astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_allclose(ys, low(h) @ low(params["output"]) + np.asarray(params["output_bias"]), atol=1e-6)
    np.testing.assert_allclose(rj.unroll(cell, params, XS, method="loop", **how)[1], ys, atol=2e-3)
    exact = rj.unroll(cell, params, XS, method="loop")[1]
    assert np.abs(exact - rj.unroll(cell, params, XS, method="loop", **how)[1]).max() > 1e-4


# -- outputs that follow the carry -------------------------------------------------------------------------------------


@rj.cell
class Inside:
    """A step under a nested call, whose output is its carry."""

    how: str = "checkpoint"

    def init(self, key, x):
        return {"input": jnp.eye(4)}

    def initial_carry(self, params, x):
        return jnp.zeros_like(x)

    def __call__(self, params, carry, x, key=None):
        def step(params, carry, x):
            h = carry + x @ params["input"]
            return h, h

        return {"checkpoint": jax.checkpoint, "jit": jax.jit, "both": lambda f: jax.jit(jax.checkpoint(f))}[self.how](
            step
        )(params, carry, x)


@pytest.mark.parametrize("how", ["checkpoint", "jit", "both"])
def test_an_output_that_is_the_carry_follows_it_through_nested_calls(how: str) -> None:
    carry, ys = rj.unroll(rj.Clip(Inside(how), 0.1), {"input": jnp.eye(4)}, XS)
    assert np.abs(ys).max() <= 0.1 and (ys[-1] == carry).all()
    carry, ys = rj.unroll(rj.Zoneout(Inside(how), 0.5), {"input": jnp.eye(4)}, XS, key=KEY)
    assert (ys[-1] == carry).all() and (ys[0] == 0).any()


# -- axes, empty batches, small things ---------------------------------------------------------------------------------


def test_batch_axes_are_those_of_every_layer() -> None:
    """3 is a batch to the GRU and space to the ConvLSTM: derivatives by Newton's method equal those of the loop."""
    cell = rj.Skip(rj.Stack(rj.GRU(4), rj.ConvLSTM(1, dims=1)))
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 4)), jnp.float32)
    params = cell.init(jax.random.key(0), xs[0])
    assert cell.input_ndim == 2
    slope = lambda how: jax.jit(jax.grad(lambda xs: jnp.sum(rj.unroll(cell, params, xs, method=how)[1] ** 2)))(xs)
    np.testing.assert_allclose(slope("deer"), slope("loop"), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["loop", "scan", "associative", "deer", "quasi_deer", "elk"])
def test_no_examples_and_no_steps(method: str) -> None:
    cell = rj.Readout(rj.Stack(rj.MinGRU(4), rj.MinGRU(4)), 3)
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    assert rj.unroll(cell, params, jnp.zeros((T, 0, I)), method=method)[1].shape == (T, 0, 3)
    assert rj.unroll(cell, params, jnp.zeros((0, B, I)), method=method)[1].shape == (0, B, 3)


@pytest.mark.parametrize("round_", [lambda c: rj.Zoneout(c, 0.1), lambda c: rj.Noise(c, 0.1)], ids=["Zoneout", "Noise"])
def test_no_steps_in_a_wrapper_that_changes_the_carry(round_: Any) -> None:
    """In parallel the carries are shifted by one, of which there is none to shift: found by a random composition."""
    cell = round_(rj.Stack(rj.MinGRU(4), rj.MinGRU(4)))
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    start = jax.tree.map(jnp.ones_like, cell.initial_carry(params, jnp.asarray(XS[0])))
    for reverse in (False, True):
        how = dict(carry=start, reverse=reverse, key=jax.random.key(1), method="associative")
        last, ys = rj.unroll(cell, params, jnp.zeros((0, B, I)), **how)
        assert ys.shape == (0, B, 4) and all((a == 1).all() for a in jax.tree.leaves(last))


def test_lengths_of_a_batch_promote_no_ranks_and_layers_can_be_replaced() -> None:
    import dataclasses

    step = lambda p, c, x: (c + x, c)
    with jax.numpy_rank_promotion("raise"):
        for reverse in (False, True):
            rj.unroll(step, {}, jnp.asarray(XS), carry=jnp.zeros((B, I)), lengths=LENGTHS, reverse=reverse, truncate=2)
    stack, layers = rj.Stack(rj.GRU(4), rj.GRU(4)), rj.Sequential(rj.RNN(rj.GRU(4)))
    assert dataclasses.replace(stack) == stack and dataclasses.replace(stack, cells=(rj.GRU(3),)) == rj.Stack(rj.GRU(3))
    assert dataclasses.replace(layers) == layers


def test_a_cell_that_cannot_be_hashed_takes_a_key() -> None:
    class Walk:
        __hash__ = None  # pyright: ignore[reportAssignmentType]

        def __call__(self, params, carry, x, key=None):
            return carry + x + (0 if key is None else jax.random.normal(key)), carry

    _, ys = rj.unroll(Walk(), {}, jnp.asarray(XS), carry=jnp.zeros((B, I)), key=KEY)
    assert not np.allclose(ys, rj.unroll(Walk(), {}, jnp.asarray(XS), carry=jnp.zeros((B, I)))[1])
