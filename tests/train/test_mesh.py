"""Steps and runs over a mesh: the numbers of one device, one sum over devices, nothing compiled twice, bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.train import fit, make_step, memory, start, stateless

BY_ROW = ("mean", "masked", "counted", "mean on 2", "automatic mesh")
BY_ROW_TOO = (
    "total",
    "decay",
    "two_sums",
    "root",
    "entropy",
    "plain_scan",
    "batch_first",
    "whole_leaf",
    "mean on 4",
    "mean on 8",
)
LEFT = {
    "batch_norm": "each row depends on a sum over the batch",
    "noise": "something of its own for each row",
    "mean on 1": "there is one",
}
LEFT_TOO = {
    "own_size": "depends on the number of rows: ('float32', '2.0') differs",
    "by_size": "depends on the number of rows: abs differs",
    "contrast": "dot_general along the batch",
}


def tell(*names):
    """What `on_devices` tells of eight CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    script = [sys.executable, str(Path(__file__).with_name("on_devices.py")), *names]
    done = subprocess.run(script, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def compared():
    return tell(*BY_ROW, *LEFT, "product")


@pytest.fixture(scope="module")
def compared_too():
    return tell(*BY_ROW_TOO, *LEFT_TOO)


@pytest.fixture(scope="module")
def told():
    return tell()


def assert_by_row(results):
    for name in {*BY_ROW, *BY_ROW_TOO} & results.keys():
        assert results[name]["placement"].endswith("has its own rows; one sum over devices"), name
        assert results[name]["collectives"] == [1, 0, 0], name


def assert_left(results):
    for name, why in (LEFT | LEFT_TOO).items():
        if name in results:
            placement = results[name]["placement"]
            assert placement.startswith("partitioned by XLA") and why in placement


def assert_near(gaps):
    assert {name: gap for name, gap in gaps.items() if not gap < 2e-6} == {}


def test_one_all_reduce_a_step_and_none_in_a_loop(compared):
    assert_by_row(compared)


def test_what_cannot_be_shown_is_left_to_xla_and_says_why(compared):
    assert_left(compared)


@pytest.mark.slow
def test_other_losses(compared_too):
    assert_by_row(compared_too)
    assert_left(compared_too)
    assert_near({name: result["distance"] for name, result in compared_too.items()})


def test_the_numbers_are_those_of_one_device(compared, told):
    assert_near({name: result["distance"] for name, result in compared.items()})
    assert_near({"two axes": told["two axes"]["distance"], "mesh set": told["mesh set"]})
    assert told["double"] < 1e-14
    assert set(told["problems"]) == {n for n in (*BY_ROW, *BY_ROW_TOO, *LEFT, *LEFT_TOO, "product") if " " not in n}


def test_a_product_of_means_needs_both_before_its_gradient(compared):
    assert compared["product"]["collectives"] == [2, 0, 0]
    assert "own rows" in compared["product"]["placement"]


def test_a_second_axis_is_left_alone(told):
    assert told["two axes"]["placement"].startswith("each of 2 devices")


def test_wherever_the_batch_lies_the_second_call_compiles_nothing(told):
    """Two traces, of the whole batch and of a part, all in the first call."""
    assert told["once"] == {"traces": [2] * 5, "given_away": True, "spread": [4]}


def test_fit_on_four_devices(told):
    """Stopped and gone on with it is the same to the bit; on one device it is the same to rounding."""
    seen = told["fit"]
    assert seen["same"] and seen["devices"] == 1 and seen["distance"] < 1e-5
    assert re.search("was on 4 devices and resume=True asks for 2; pass a mesh whose first axis has 4", seen["refused"])


def test_an_ensemble_over_devices_needs_no_word_between_them(told):
    assert told["ensemble"]["distance"] < 1e-5
    assert told["ensemble"]["collectives"] == [0, 0, 0] and told["ensemble"]["axes"] == ["data"]


@pytest.mark.parametrize(
    "what, sentence",
    {
        "rows": r"ValueError: make_step: batch\[0\] of shape \(6, 6, 3\) has 6 rows on axis 1, .*'data' of 4 devices does "
        "not divide; take 8 rows, or 3 of the devices",
        "axis": r"ValueError: make_step: batch\[1\] of shape \(\) has no axis 1 to split over 4 devices",
        "prefix": r"ValueError: make_step: batch_axis \{'x': 1\} must be an int or a tree prefix of the batch",
        "negative": "ValueError: make_step: batch_axis must be ints of at least 0 and None, got -1",
        "carry": r"ValueError: make_step: carry of shape \(3, 4\) has 3 rows on axis 0, .* does not divide",
        "mesh": "TypeError: make_step: mesh must be a jax.sharding.Mesh, got 4",
        "nameless": "ValueError: make_step: mesh has no axis to split the batch over",
    }.items(),
)
def test_bad_input(told, what, sentence):
    assert re.match(sentence, told["bad"][what]), told["bad"][what]


def test_memory_is_that_of_the_compiled_program_on_each_device(told):
    """From shapes as from arrays; each of four devices has less than one that has all."""
    placed, shapes, alone = told["memory"]
    assert placed == shapes < alone


def test_memory_counts_what_a_step_must_hold():
    optimizer = optax.sgd(0.5)
    step = make_step(stateless(lambda w, x: jnp.sum((w @ w - x) ** 2)), optimizer)
    small, large = (memory(step, start(jnp.ones((n, n)), optimizer), jnp.ones(())) for n in (64, 256))
    assert small >= 2 * 4 * 64**2 and large >= 2 * 4 * 256**2


def test_one_device_is_a_mesh_too(tmp_path):
    """And its run goes on without one, to the bit."""
    loss = stateless(lambda w, x: jnp.sum((w - jnp.mean(x)) ** 2))
    rows = lambda step: np.full((1, 2), step, np.float32)
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    fit(loss, jnp.ones(3), rows, steps=3, out=tmp_path, mesh=mesh)
    resumed = fit(loss, jnp.ones(3), rows, steps=6, out=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.params, fit(loss, jnp.ones(3), rows, steps=6).params)
