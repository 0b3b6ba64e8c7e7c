"""`fit`: stopping, lines, the best parameters, and going on after any stop as if there had been none."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem
import pytest

import rnnjax as rj
from rnnjax.train import Checkpoints, fit, stateless


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """A run nobody stopped, and its folder."""
    out = tmp_path_factory.mktemp("left_alone")
    return problem.fit(out), out


def lines_of(out):
    return problem.without_clock(json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())


def assert_same_run(result, out, left_alone):
    """Bit for bit: parameters, optimiser, carry and every line but the clock."""
    whole, whole_out = left_alone
    chex.assert_trees_all_equal(jax.device_get(result.state), jax.device_get(whole.state))
    chex.assert_trees_all_equal(jax.device_get(result.params), jax.device_get(whole.params))
    assert lines_of(out) == lines_of(whole_out)
    assert result[3:] == whole[3:]


def test_lines(left_alone):
    result, out = left_alone
    assert lines_of(out) == problem.without_clock(result.history)
    train = [line for line in result.history if "split" not in line]
    valid = [line for line in result.history if line.get("split") == "valid" and not line.get("kept")]
    assert [line["step"] for line in train] == [10, 20, 30, 40, 45]
    assert [line["step"] for line in valid] == [7, 14, 21, 28, 35, 42, 45]
    assert set(train[0]) == {"step", "loss", "grad_norm", "clipped", "skipped", "seconds"}
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(result.history, result.history[1:]))
    assert result.best_loss == min(line["loss"] for line in valid) < valid[0]["loss"]
    np.testing.assert_allclose(float(problem.validate(result.params)), result.best_loss, rtol=1e-6)


def test_losses_are_means_of_the_steps_between(left_alone):
    """Against a loop of `make_step` written out."""
    params = problem.CELL.init(jax.random.key(0), problem.X)
    optimizer, window = optax.adam(2e-3), rj.data.windows(problem.VALUES, 3, 5)
    step = rj.train.make_step(problem.loss_fn, optimizer)
    state = rj.train.start(params, optimizer, problem.CELL.initial_carry(params, problem.X))
    losses = []
    for i in range(20):
        state, report = step(state, window(i), jax.random.key(1))
        losses.append(float(report.loss))
    got = [line["loss"] for line in left_alone[0].history if "split" not in line][:2]
    np.testing.assert_allclose(got, [np.mean(losses[:10]), np.mean(losses[10:])], rtol=1e-6)


def test_interrupt_saves_and_resume_goes_on(tmp_path, left_alone, capsys):
    """SIGINT between two lines, two validations and two checkpoints; five times at once is once."""
    window, handler = rj.data.windows(problem.VALUES, 3, 5), signal.getsignal(signal.SIGINT)

    def pressed(step):
        if step == 15:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGINT)
        return window(step)

    stopped = problem.fit(tmp_path, batches=pressed)
    assert stopped.stopped == "interrupted" and int(stopped.state.step) == 16 and stopped.signal == signal.SIGINT
    with pytest.raises(FileExistsError, match="holds a run already"):
        problem.fit(tmp_path)
    assert_same_run(problem.fit(tmp_path, resume=True), tmp_path, left_alone)
    assert signal.getsignal(signal.SIGINT) is handler


def test_kill_and_resume(tmp_path, left_alone):
    """SIGKILL with lines written after the last checkpoint: they are cut off and written anew."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import problem, rnnjax as rj
window = rj.data.windows(problem.VALUES, 3, 5)
def killed(step):
    if step == 23:
        os.kill(os.getpid(), signal.SIGKILL)
    return window(step)
problem.fit({str(tmp_path)!r}, batches=killed)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert lines_of(tmp_path)[-1]["step"] == 21  # the checkpoint is of step 18
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() == 18
    checkpoints.close()
    assert_same_run(problem.fit(tmp_path, resume=True), tmp_path, left_alone)


def test_resume_of_a_finished_run_changes_nothing_and_more_steps_go_on(tmp_path):
    first = problem.fit(tmp_path, steps=14)
    before = lines_of(tmp_path)
    again = problem.fit(tmp_path, steps=14, resume=True)
    assert lines_of(tmp_path) == before and again.stopped == "steps"
    chex.assert_trees_all_equal(jax.device_get(again.state), jax.device_get(first.state))
    assert int(problem.fit(tmp_path, steps=20, resume=True).state.step) == 20


def test_converged_after_patience_and_the_best_is_kept():
    """Validations 3, 1, 2, 2: stops after the fourth, and returns the parameters of the second."""
    values = iter([3.0, 1.0, 2.0, 2.0])
    loss = stateless(lambda w, x: jnp.sum((w - x) ** 2))
    validate = lambda w: {"loss": (value := next(values)), "error": 2 * value}
    options = dict(validate=validate, validate_every=5, patience=2, optimizer=optax.sgd(0.1), clip=None)
    result = rj.train.fit(loss, jnp.ones(()), lambda step: 0.0, steps=100, **options)
    assert result.stopped == "converged" and int(result.state.step) == 20
    assert (result.best_step, result.best_loss) == (10, 1.0)
    np.testing.assert_allclose(result.params, 0.8**10, rtol=1e-5)
    kept = result.history[-1]
    assert (kept["step"], kept["split"], kept["loss"], kept["error"], kept["kept"]) == (10, "valid", 1.0, 2.0, True)


def test_skips_are_counted_and_too_many_stop_the_run(tmp_path):
    loss = stateless(lambda w, x: jnp.sum((w - x) ** 2))
    one_bad = lambda step: np.nan if step == 3 else 1.0
    result = rj.train.fit(loss, jnp.zeros(()), one_bad, steps=10, log_every=5, optimizer=optax.sgd(0.1))
    assert [line["skipped"] for line in result.history] == [1, 1] and result.history[0]["loss"] is not None
    diverging = lambda step: 1.0 if step < 6 else np.nan
    with pytest.raises(FloatingPointError, match="last 4 updates up to step 10 .* try a lower learning rate"):
        options = dict(steps=99, log_every=5, max_skipped=4, optimizer=optax.sgd(0.1), out=tmp_path)
        rj.train.fit(loss, jnp.zeros(()), diverging, **options)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["skipped"] == 4 and line["loss"] is not None


def test_a_step_is_compiled_once():
    traces = []

    def loss(w, x):
        traces.append(1)
        return jnp.sum((w - x) ** 2)

    rj.train.fit(stateless(loss), jnp.zeros(2), lambda step: np.float32(step), steps=25)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive int, got 0"),
        ({"patience": -1}, "patience must be a positive int, got -1"),
        ({"log_every": 1.5}, "log_every must be a positive int, got 1.5"),
        ({"resume": True}, "resume=True needs out"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        rj.train.fit(stateless(lambda w, x: w), jnp.zeros(()), lambda step: 0.0, **options)


def test_a_checkpoint_of_another_shape_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"params": {"input": jnp.ones((2, 3))}}, {"a": 1})
    with pytest.raises(ValueError, match=r"step 3 .* another shape: params/input is \(2, 3\) there and \(2, 4\) here"):
        checkpoints.restore({"params": {"input": jnp.ones((2, 4))}})
    with pytest.raises(ValueError, match=r"params/other is missing there and \(1,\) here"):
        checkpoints.restore({"params": {"input": jnp.ones((2, 3)), "other": jnp.ones(1)}})
    tree, record = checkpoints.restore({"params": {"input": jnp.zeros((2, 3))}})
    assert record == {"a": 1} and np.array_equal(tree["params"]["input"], np.ones((2, 3)))
    checkpoints.close()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """File sizes limited to 4 KiB stand for a full disk: the save fails as OSError, the one before is whole."""
    script = f"""
import resource, sys
import jax.numpy as jnp, numpy as np
from rnnjax.train import Checkpoints
checkpoints = Checkpoints({str(tmp_path)!r})
checkpoints.save(1, {{"w": jnp.arange(4.0)}}, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    checkpoints.save(2, {{"w": jnp.asarray(np.random.default_rng(0).normal(size=100_000))}}, {{}})
except OSError as error:
    print("OSError", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert done.stdout.startswith("OSError"), done.stderr
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 1
    tree, _ = checkpoints.restore({"w": jnp.zeros(4)})
    assert np.array_equal(tree["w"], np.arange(4.0))
    checkpoints.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_validation_that_is_not_finite_is_never_the_best(bad):
    found = iter([bad, 3.0, bad, 2.0, bad])
    loss = stateless(lambda w, x: (w - x) ** 2)
    result = fit(
        loss, jnp.array(1.0), lambda step: jnp.array(0.5), steps=5, validate=lambda w: next(found), validate_every=1
    )
    assert (result.best_step, result.best_loss) == (4, 2.0)
    none = fit(loss, jnp.array(1.0), lambda step: jnp.array(0.5), steps=3, validate=lambda w: bad, validate_every=1)
    assert (none.best_step, none.best_loss) == (None, None)
    np.testing.assert_array_equal(none.params, none.state.params)


def test_validate_may_return_several_numbers():
    loss = stateless(lambda w, x: (w - x) ** 2)
    numbers = lambda w: {"loss": 1.0, "accuracy": jnp.array(0.25)}
    result = fit(loss, jnp.array(1.0), lambda step: jnp.array(0.5), steps=1, validate=numbers)
    assert result.history[-1]["accuracy"] == 0.25 and result.best_loss == 1.0
    with pytest.raises(ValueError, match='a dict with "loss", got the keys'):
        fit(loss, jnp.array(1.0), lambda step: jnp.array(0.5), steps=1, validate=lambda w: {"mse": 1.0})


def test_a_clip_that_is_none_leaves_no_files_behind(tmp_path):
    with pytest.raises(ValueError, match="clip must be a positive norm or None, got -1"):
        fit(stateless(lambda w, x: w * x), jnp.array(1.0), lambda step: jnp.array(0.5), clip=-1.0, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
