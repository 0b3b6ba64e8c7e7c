"""`fit`: steps until converged or out of steps, and everything a long run needs around them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from rnnjax.lock import Lock
from rnnjax.train import hosts
from rnnjax.train.averaging import around, params_of
from rnnjax.train.batches import by_step
from rnnjax.train.checkpoint import Checkpoints
from rnnjax.train.interrupt import Interrupt
from rnnjax.train.metrics import Metrics
from rnnjax.train.placement import Layout, devices_of, place, unplaced
from rnnjax.train.progress import Progress
from rnnjax.train.step import LossFn, Report, TrainState, make_step, start
from rnnjax.wording import counted


class Fit(NamedTuple):
    """What `fit` returns.

    params: those of the best validation, or of the last step where there was none.
    state: the `TrainState` to go on from. history: the metrics lines.
    stopped: ``"converged"``, ``"steps"`` or ``"interrupted"``. best_step, best_loss: of the best validation, or None.
    signal: the number of the signal that came meanwhile, or None.
    """

    params: Any
    state: TrainState
    history: list[dict[str, Any]]
    stopped: str
    best_step: int | None
    best_loss: float | None
    signal: int | None = None


class _Plan(NamedTuple):
    """When to do what."""

    steps: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    patience: int | None
    max_skipped: int
    keep: int
    clip: float | None
    accumulate: int = 1

    def check(self) -> None:
        for name, value in self._asdict().items():
            optional = name in ("clip", "patience") and value is None
            if not optional and name != "clip" and (not isinstance(value, int) or value < 1):
                raise ValueError(f"fit: {name} must be a positive int, got {value!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"fit: clip must be a positive norm or None, got {self.clip!r}")


_REMEMBERED = ("pending", "best_step", "best_loss", "worse")  # what a checkpoint keeps beside the arrays and the clock


@dataclass
class _Run:
    """A run on its way: what changes from step to step, and with it all that a checkpoint must hold."""

    state: TrainState
    metrics: Metrics
    checkpoints: Checkpoints | None = None
    best: Any = None
    best_step: int | None = None
    best_loss: float | None = None
    mesh: Mesh | None = None
    worse: int = 0  # validations since the best
    at: int = 0
    pending: list[Any] = field(default_factory=list)  # reports since the last line
    seconds_before: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    derive: Callable[[float], dict[str, float]] = lambda loss: {}
    report: Callable[[dict[str, Any]], None] = lambda line: None

    def params(self) -> Any:
        """The parameters as ordinary arrays, wherever the steps have them."""
        return unplaced(params_of(self.state))

    def seconds(self) -> float:
        return round(self.seconds_before + time.perf_counter() - self.began, 3)

    def save(self) -> None:
        if self.checkpoints is None:
            return
        self.metrics.sync()
        self.pending = [jax.tree.map(float, list(report)) for report in self.pending]
        record = {name: getattr(self, name) for name in _REMEMBERED}
        record |= {"lines": self.metrics.size, "seconds": self.seconds(), "devices": devices_of(self.mesh)}
        best = self.best if self.best_step is not None or self.best is None else self.params()
        self.checkpoints.save(self.at, self.kept({"state": self.state, "best": best}), record, self.measured())

    def kept(self, tree: Any) -> Any:
        """As a checkpoint takes it: whole; with several processes everything on the mesh, so that each writes its part."""
        if not hosts.several():
            return unplaced(tree)
        assert self.mesh is not None
        whole = place(tree["best"], Layout("fit", self.mesh, None).whole(tree["best"]))
        return {"state": self.state, "best": whole}

    def measured(self) -> float | None:
        """The validation loss of the parameters at hand, if they were measured and it is a number."""
        lines = [line for line in self.metrics.history[-2:] if line.get("split") and line["step"] == self.at]
        return lines[-1]["loss"] if lines else None

    def note(self, line: dict[str, Any]) -> dict[str, Any]:
        self.metrics.write(line)
        if hosts.first():
            self.report(line)
        return line

    def line(self, step: int | None, loss: Any, **more: Any) -> dict[str, Any]:
        numbers = self.derive(loss) if np.isfinite(loss) else {}
        return {"step": step, **more, "loss": loss, **numbers, "seconds": self.seconds()}

    def summary(self, plan: _Plan) -> dict[str, Any]:
        """The training line: means over the steps since the line before, skipped ones left out."""
        reports, self.pending = [Report(*report) for report in jax.device_get(self.pending)], []
        good = [report for report in reports if not report.skipped]
        losses, norms = (np.array([report[i] for report in good], np.float64) for i in range(2))
        mean = lambda a: float(np.mean(a)) if a.size else float("nan")
        clipped = 0.0 if plan.clip is None else mean(norms > plan.clip)
        more = {"grad_norm": mean(norms), "clipped": clipped, "skipped": int(self.state.skipped)}
        beside = {name: mean(np.array([report.metrics[name] for report in good])) for name in reports[-1].metrics}
        return self.line(self.at, mean(losses)) | beside | more

    def validation(self, found: Any) -> dict[str, Any]:
        """The validation line; keeps the parameters if they are the best so far. NaN and infinity are never the best."""
        numbers = {
            name: float(value) for name, value in (found if isinstance(found, dict) else {"loss": found}).items()
        }
        if "loss" not in numbers:
            raise ValueError(
                f'fit: validate must return a number, or a dict with "loss", got the keys {sorted(numbers)}'
            )
        numbers = hosts.of_first(numbers)
        loss = numbers.pop("loss")
        if np.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            self.best, self.best_step, self.best_loss = jax.tree.map(jnp.copy, self.params()), self.at, loss
            self.worse = 0
        else:
            self.worse += 1
        return self.line(self.at, loss, split="valid") | numbers

    def best_line(self) -> dict[str, Any]:
        """The line of the best validation, all its numbers."""
        valid = (line for line in reversed(self.metrics.history) if line.get("split") == "valid")
        return next(line for line in valid if line["step"] == self.best_step)

    def converged(self, plan: _Plan) -> bool:
        return plan.patience is not None and self.worse >= plan.patience

    def check_skipped(self, plan: _Plan) -> None:
        """Raises FloatingPointError, the run saved, after too many skips in a row."""
        in_a_row = int(self.state.skipped_in_a_row)
        if in_a_row < plan.max_skipped:
            return
        self.save()
        lower = "" if plan.clip is None else f", a clip below {plan.clip}"
        raise FloatingPointError(
            f"the last {in_a_row} updates up to step {self.at} were not finite and were skipped, the parameters are those "
            f"before them; try a lower learning rate{lower}, or look for NaN and very large numbers in the data"
        )


def fit(
    loss_fn: LossFn,
    params: Any,
    batches: Callable[[int], Any] | list[Any] | Iterable[Any],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    carry: Any = None,
    key: jax.Array | None = None,
    clip: float | None = 1.0,
    validate: Callable[[Any], Any] | None = None,
    validate_every: int = 100,
    patience: int | None = None,
    log_every: int = 10,
    derive: Callable[[float], dict[str, float]] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    max_skipped: int = 10,
    accumulate: int = 1,
    average: float | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool | str = False,
    keep: int = 2,
    keep_best: int = 0,
    background: bool = False,
    progress: bool | None = None,
    mesh: Mesh | None = None,
    batch_axis: Any = 1,
) -> Fit:
    """Train until converged (no better for ``patience`` validations) or until ``steps`` are done.

    loss_fn, clip: as for `make_step`; of metrics beside the loss a line has the means.
    batches: ``batches(step) -> batch``; a function of the step number, so that a
        resumed run sees the same data; or a list of batches, taken in turn; or an iterable, begun anew at its end (an iterator that
        ends too soon is an error), of which a resumed run reads and leaves out what was seen.
    carry: the start of the stream. optimizer: any of optax; Adam at 2e-3 if None.
    key: noise of each step comes from this folded with the step number; None trains without noise.
    validate: ``validate(params)`` every ``validate_every`` steps and at the end gives a number, or a dict with ``"loss"``
        whose other numbers go into the line; the best parameters are kept. NaN and infinity are never the best.
    derive: further numbers for each metrics line, from its loss. report: called with each metrics line.
    max_skipped: stop when this many updates in a row were not finite (looked at every ``log_every`` steps).
    accumulate: the mean gradient of so many batches makes one update (`optax.MultiSteps`); each batch is a step here, and schedules
        of the optimiser count updates. It is that mean which is clipped; ``grad_norm`` and ``clipped`` are of each batch.
    average: the params that are validated, kept and returned are a moving average over updates with this decay, such as 0.999
        (as `optax.ema`); training goes on from the last ones, in ``state``. None: they are the last ones.
    out: a folder for ``metrics.jsonl`` and ``checkpoints/``, written every ``checkpoint_every`` steps (as
        ``validate_every`` if None), at the end, and when Ctrl-C, SIGTERM or SIGHUP ends the run after the step at hand.
    resume: go on from the newest checkpoint in ``out``. Parameters and metrics then equal those of a run never
        stopped, bit for bit; only ``"seconds"`` is the clock's. Without any checkpoint the run starts anew. ``"anywhere"``: the
        same on another number of devices or processes, where sums round otherwise.
    keep, keep_best: how many checkpoints are kept: the newest, and besides the best of those at whose step was a validation.
    background: a thread writes the checkpoints while the steps go on.
    progress: draw a progress line; None draws it on a terminal only.
    mesh, batch_axis: as for `make_step`: each batch and the carry are split over the devices of the mesh's first axis.
        What `validate` gets and what is returned are ordinary arrays, whole on the default device. A run goes on, bit
        for bit, on as many devices as it began on.

    In a program of several processes (`jax.distributed.initialize`) every process calls `fit` with a mesh over devices of all
    of them, the same start, and batches of its own rows: process i of P has ``rows[i * B / P:][:B / P]``; what ``batch_axis``
    does not split, and the carry, it has whole. Process 0 writes metrics and calls ``report``; its validations count. All write one
    checkpoint together into ``out``, a folder that all see. A signal to one stops all after the same step.

    A metrics line has ``step``, the mean ``loss`` since the line before, ``grad_norm`` (mean, before clipping),
    ``clipped`` (the share of steps), ``skipped`` (so far), ``seconds`` and what ``derive`` adds; a validation has
    ``"split": "valid"``. When the best validation was not the last, its line is repeated at the end as ``"kept": true``.

    Raises: ValueError on settings that make no sense, a mesh that does not divide the batch among them, and on ``resume``
    with another number of devices than the run in ``out`` had; FileExistsError if ``out`` holds a run and ``resume`` is false;
    FloatingPointError after ``max_skipped`` skips in a row; OSError if the folder cannot be written or another run writes
    to it; Damaged if no checkpoint in it is whole, or its metrics are not. Where the newest checkpoint is not, a warning names
    the file and the one before is used.

    >>> import jax, jax.numpy as jnp, optax
    >>> import rnnjax as rj
    >>> xs = jnp.sin(0.3 * jnp.arange(64.0))[:, None]
    >>> cell = rj.Readout(rj.GRU(4), 1)
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> def loss(params, carry, xs, key):
    ...     carry, ys = rj.unroll(cell, params, xs[:-1], carry=carry)
    ...     return carry, rj.losses.over_time(rj.losses.mse(ys, xs[1:]))
    >>> window = lambda step: xs[step % 4 * 15:][:16]
    >>> result = rj.train.fit(loss, params, window, carry=cell.initial_carry(params, xs[0]), steps=40)
    >>> result.stopped, result.history[-1]["loss"] < result.history[0]["loss"]
    ('steps', True)
    """
    plan = _Plan(
        steps,
        log_every,
        validate_every,
        checkpoint_every or validate_every,
        patience,
        max_skipped,
        keep,
        clip,
        accumulate,
    )
    plan.check()
    _check_processes(mesh, background, (*plan, average))
    batches = by_step(batches)
    optimizer = optax.adam(2e-3) if optimizer is None else optimizer
    split = {} if mesh is None else dict(mesh=mesh, batch_axis=batch_axis)
    optimizer, clip = around(optimizer, clip, accumulate, average)
    advance = make_step(loss_fn, optimizer, clip=clip, **split)
    with Interrupt() as interrupt, contextlib.ExitStack() as held:
        options = dict(keep=keep, keep_best=keep_best, background=background)
        checkpoints = None if out is None else _checkpoints(Path(out), held, options)
        run = _begin(start(params, optimizer, carry), validate is not None, out, checkpoints, resume, mesh)
        run.derive, run.report = derive or run.derive, report or run.report
        with Progress(steps, progress if hosts.first() else False) as bar:
            stopped, signal = _loop(
                run, plan, lambda at: advance(run.state, batches(at), key), validate, interrupt, bar
            )
    state = unplaced(run.state)
    best = params_of(state) if run.best_step is None else run.best
    return Fit(best, state, run.metrics.history, stopped, run.best_step, run.best_loss, signal)


def _check_processes(mesh: Mesh | None, background: bool, plan: tuple[Any, ...]) -> None:
    """Raises: ValueError, on every process, where they cannot train together."""
    if not hosts.several():
        return
    if mesh is None or {d.process_index for d in mesh.devices.flat} != set(range(jax.process_count())):
        raise ValueError(
            f"fit: this program runs in {jax.process_count()} processes; pass a mesh with devices of all of them, as "
            "jax.make_mesh((jax.device_count(),), ('data',)) makes it"
        )
    if background:
        raise ValueError("fit: background=True is for one process; several write their checkpoint together")
    hosts.same("fit", JAX=jax.__version__, plan=repr(plan))


def _checkpoints(out: Path, held: contextlib.ExitStack, options: dict[str, Any]) -> Checkpoints:
    """Those of the run in ``out``, which is this program's alone until ``held`` ends."""
    if hosts.first():
        held.enter_context(Lock(out))
    checkpoints = Checkpoints(out / "checkpoints", **options)
    checkpoints.tidy()
    held.callback(checkpoints.close)
    return checkpoints


def _loop(
    run: _Run, plan: _Plan, advance: Callable, validate: Any, interrupt: Interrupt, bar: Progress
) -> tuple[str, int | None]:
    """Steps, lines, validations and checkpoints, each at its time; why it stopped, and the signal if one came."""
    asked = hosts.Asked(interrupt)
    while run.at < plan.steps and not run.converged(plan):
        if (signal := asked.before(run.at)) is not None:
            interrupt.saving()
            run.save()
            return "interrupted", signal
        run.state, seen = advance(run.at)
        run.at += 1
        run.pending.append(seen)
        bar.at(run.at)
        last = run.at == plan.steps
        if last or run.at % plan.log_every == 0:
            bar.at(run.at, run.note(run.summary(plan)))
            run.check_skipped(plan)
        if validate is not None and (last or run.at % plan.validate_every == 0):
            bar.at(run.at, run.note(run.validation(validate(run.params()))))
        if run.at % plan.checkpoint_every == 0:
            run.save()
    run.save()
    if run.best_step not in (None, run.at):
        run.note(run.best_line() | {"kept": True, "seconds": run.seconds()})
    return "converged" if run.converged(plan) else "steps", None if hosts.several() else interrupt.asked


def _begin(
    state: TrainState, validated: bool, out: Any, checkpoints: Checkpoints | None, resume: bool | str, mesh: Mesh | None
) -> _Run:
    """A new run, or the one that the newest checkpoint holds."""
    best = jax.tree.map(jnp.copy, state.params) if validated else None
    if checkpoints is None:
        if resume:
            raise ValueError("fit: resume=True needs out, the folder of the run to go on with")
        return _Run(state, Metrics(), None, best, mesh=mesh)
    path = Path(out) / "metrics.jsonl"
    hosts.together("begin")
    if checkpoints.latest() is not None and not resume:
        raise FileExistsError(f"fit: {out} holds a run already; pass resume=True to go on with it, or another folder")
    try:
        tree, record = checkpoints.restore({"state": state, "best": best})
    except FileNotFoundError:  # none was finished
        checkpoints.forget_after(-1)
        return _Run(state, Metrics(path if hosts.first() else None), checkpoints, best, mesh=mesh)
    if resume != "anywhere":
        _check_devices(out, record.get("devices", 1), devices_of(mesh))
    checkpoints.forget_after(int(tree["state"].step))
    run = _Run(
        tree["state"], Metrics.resume(path, record["lines"], hosts.first()), checkpoints, tree["best"], mesh=mesh
    )
    for name in _REMEMBERED:
        setattr(run, name, record[name])
    run.at, run.seconds_before = int(run.state.step), record["seconds"]
    return run


def _check_devices(out: Any, before: int, now: int) -> None:
    """Sums over another number of devices round otherwise: the run would not be the one it goes on with."""
    if before != now:
        raise ValueError(
            f"fit: the run in {out} was on {counted(before, 'device')} and resume=True asks for {now}; pass a "
            f'mesh whose first axis has {before}{" (or none)" * (before == 1)}, resume="anywhere", or train into another folder'
        )
