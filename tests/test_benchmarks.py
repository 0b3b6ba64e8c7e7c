"""The benchmark scripts: what they count and add up, against numbers made by hand; every side computes the same."""

import doctest
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rnnjax.bench import CELLS, make_problem, stopwatch, take_turns

FOLDER = Path(__file__).parents[1] / "benchmarks"

PROGRAM = """
HloModule jit_f

%small (a: f32[4]) -> f32[4] {
  ROOT %while.9 = f32[4]{0} while(%a), condition=%c, body=%never
}

%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %h = f32[4]{0} get-tuple-element(%p), index=1
  %f.1 = f32[4]{0} fusion(%h), kind=kLoop, calls=%fused
  %d.1 = f32[4]{0} dot(%f.1, %h), lhs_contracting_dims={}
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %d.1)
}

%outer (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %w.1 = (s32[], f32[4]{0}) while(%p), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %s = f32[4]{0} call(%g), to_apply=%small, frontend_attributes={xla_cpu_small_call="true"}
  ROOT %t = (s32[], /*index=1*/f32[4]{0}) copy(%w.1)
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %f.2 = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %w.2 = (s32[], f32[4]{0}) while(%t), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
}
"""

SHARDED = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import cores, sharded
from team import Team

if __name__ == "__main__":
    what = ("lstm", (5, 4, 3, 6), "rnnjax", False)
    sides, answers = cores.sides_of(what)
    with Team(2) as team:
        answers["limit"] = jax.tree.map(lambda *a: sum(a), *team.prepare(sharded.part, *what))
        assert 0 < team.turn() < 1e4
    cores.check(answers)
    print(*answers)
    answers["limit"] = jax.tree.map(lambda a: 1.1 * a, answers["limit"])
    try:
        cores.check(answers)
    except AssertionError as error:
        print(error)
"""


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_kernels_are_counted_as_often_as_they_run_and_what_stands_outside_loops_is_not(load):
    assert load("kernels").kernels(PROGRAM, 7) == {"fusion": 15, "dot": 15, "call": 3, "copy": 3}


def test_the_kernels_of_a_compiled_loop_grow_with_its_steps(load):
    def found(length):
        def f(c, w):
            return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), c), c, None, length=length)

        program = jax.jit(f).lower(jnp.ones((8, 64)), jnp.ones((64, 64))).compile()
        return load("kernels").kernels(program.as_text(), length).total()

    assert found(20) == 2 * found(10) > 20


@pytest.mark.parametrize("cell", CELLS)
def test_the_floor_has_the_products_of_the_cell(load, cell):
    """As they stand in the traced step: those of the carry, and one of x (joined to the state's in the odd cell)."""
    p, xs, carry, _ = make_problem(cell, (2, 5, 3, 4))
    eqns = jax.make_jaxpr(lambda p, c, x: CELLS[cell](p, c, x))(p, carry, xs[0]).eqns
    found = sorted(
        e.invars[0].aval.shape[-1:] + e.outvars[0].aval.shape[-1:] for e in eqns if "dot" in str(e.primitive)
    )
    n = p["w"].shape[1]
    ours = [*load("floor").in_loop(cell, 4), (3, n)]
    if cell == "odd":  # [x, h] @ [w; u] is x @ w and h @ u
        ours = [(7, n), *ours[1:3]]
    assert found == sorted(ours)


def test_the_floor_is_the_sum_of_its_pieces_without_their_starts(load):
    ms = {"floor: start": 1.0, "floor: x @ W": 9.0, "floor: x @ W in the loop": 4.0, "floor: loop 4, 16": 11.0}
    floor_ms = load("floor").floor_ms
    assert floor_ms("lstm", (2, 5, 3, 4), "forward", ms) == 3 + 10
    ms |= {"floor: gradient 4, 16": 21.0, "floor: gradient 3, 16": 0.5}  # less than its start: noise, not negative
    assert floor_ms("lstm", (2, 5, 3, 4), "train", ms) == 3 + 10 + 20


def test_rows_are_judged_by_their_median_run(load):
    runs = [[{"ratio": r, "ms": 10 * r}] for r in (0.5, 0.96, 2.0)]
    (row,) = load("common").medians(runs, ["ms"])
    assert row["ms"] == 9.6 and row["runs"] == {"ms": [5.0, 9.6, 20.0]} and row["not below 1"] is False


def test_the_first_cache_has_the_size_that_the_system_reports(load):
    said = (
        subprocess.run(["getconf", "LEVEL1_DCACHE_SIZE"], capture_output=True, text=True) if which("getconf") else None
    )
    size = said.stdout.strip() if said else ""
    if not size.isdigit() or size == "0":
        pytest.skip("this system does not say how large its caches are")
    assert load("common").caches()["L1"] == int(size)


def test_sides_take_turns_and_are_timed_in_milliseconds():
    seen = []

    def side(name, seconds):
        return lambda: seen.append(name) or time.sleep(seconds)

    turns = {"a": stopwatch(side("a", 0.02)), "b": stopwatch(side("b", 0))}
    times = take_turns(turns, 2)
    assert seen == ["a", "b"] * 3
    assert all(20 <= t < 2000 for t in times["a"]) and len(times["b"]) == 2


@pytest.mark.parametrize("name", ["common", "constants", "floor", "probes"])
def test_examples_in_the_scripts(load, name):
    done = doctest.testmod(load(name))
    assert done.attempted > 0 == done.failed


@pytest.mark.slow
def test_one_batch_over_devices_and_over_pinned_processes_gives_the_gradient_of_one_device(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SHARDED)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=300)
    said = run.stdout.splitlines()
    assert said, run.stderr[-2000:]
    assert {"lax.scan", "rnnjax", "explicit", "automatic", "shard_map", "limit"} <= set(said[0].split())
    assert said[1].startswith("bench: limit differs from lax.scan by")


@pytest.mark.slow
def test_a_row_and_a_constant_are_measured(load):
    row = load("naive").measure("elman", (6, 2, 3, 4), "train", 1, count=True)
    assert row["of floor"] == row["floor"] / row["rnnjax"] and row["ratio"] == row["lax.scan"] / row["rnnjax"]
    constants = load("constants")
    (one,) = [c for c in constants.CONSTANTS if c.name == "STORE"]
    assert constants.measure(one, 3)["code"] == one.where.STORE


@pytest.mark.slow
def test_a_training_step_of_translation_has_the_same_loss_and_gradients_on_every_side(load):
    """Those of torch too, where it is installed; `measure` compares them before it times anything."""
    translation = load("translation")
    for kind in translation.KINDS:
        row = translation.measure(kind, (4, 3, 2, 4), 1, tokens=7)
        count = translation.sentences((4, 3, 2, 4), 7)["target_lengths"].sum()
        assert row["rnnjax, tokens/s"] == round(1e3 * count / row["rnnjax"])


@pytest.mark.slow
def test_a_training_step_of_a_convolutional_cell_is_the_same_on_every_side(load):
    convolution = load("convolution")
    for cell in convolution.CELLS:
        row = convolution.measure(cell, *convolution.QUICK, repeats=1)
        assert row["ratio"] == row["lax.scan"] / row["rnnjax"]


@pytest.mark.slow
def test_ways_through_time_are_compared_and_their_errors_measured(load):
    parallel = load("parallel")
    row = parallel.measure("lru", (6, 2, 4), "forward", 1)
    assert row["best parallel"] == "associative" and row["associative MiB"] >= 0
    assert row["ratio"] == min(row["scan"], row["lax.scan"]) / row["associative"]
    assert 1 <= parallel.measure("gru", (6, 2, 4), "forward", 1)["quasi_deer iterations"] <= 6
    found = {r["what"]: r for r in parallel.errors(300)}
    assert found["observer"]["converged"] and found["observer"]["deer"] < 1e-4 and found["observer"]["iterations"] <= 3


@pytest.mark.slow
def test_forecasts_are_measured_on_the_windows_of_the_recipe(load, monkeypatch):
    """What is asserted of the other libraries before they are compared: yesterday again, by hand, is the recipe's floor."""
    from rnnjax.data.hourly import Hourly
    from rnnjax.tasks import Setting, hourly

    forecasting, rng = load("forecasting"), np.random.default_rng(0)
    t = np.arange(24 * 180)
    values = np.where(
        rng.random(len(t)) < 0.02, np.nan, 20 * np.sin(2 * np.pi * t / 24) + rng.normal(size=len(t)).cumsum()
    )
    data = Hourly(np.datetime64("2020-01-01", "ns") + t.astype("timedelta64[h]"), values)
    for module in (forecasting, hourly):
        monkeypatch.setattr(module, "hourly", lambda name: data)
    floor = hourly.ENERGY.make(Setting(small=True)).floors["yesterday again"]()
    assert forecasting.yesterday("energy", 84) == pytest.approx(floor, rel=1e-5)
    frame = forecasting.frame_of("energy", 84)
    late = frame[frame.ds >= frame.ds.max() - pd.Timedelta(hours=24 * 84 - 1)]
    said = late.assign(again=frame.y.shift(24)[late.index])
    assert forecasting.error(said, "again", "energy") == pytest.approx(floor, rel=1e-5)
