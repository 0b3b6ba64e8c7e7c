"""``rnnjax train``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rnnjax as rj
from rnnjax.cli import distributed, memory, tasks
from rnnjax.cli import folder as folders
from rnnjax.cli.adopt import adopted, taken_over
from rnnjax.cli.devices import Devices, choose
from rnnjax.cli.errors import BadInput
from rnnjax.cli.picture import confusion_table, draw_confusion, draw_losses
from rnnjax.cli.sample import write_sample
from rnnjax.cli.settings import NAMES, Settings
from rnnjax.cli.work import Task, make_task
from rnnjax.data.files import STANDARD_INPUT
from rnnjax.lock import LOCK
from rnnjax.train import hosts
from rnnjax.train.digest import sha256
from rnnjax.train.metrics import Metrics
from rnnjax.wording import counted


def run(args: argparse.Namespace) -> int:
    """Trains, then prints a sample, the baselines beside the result, and where everything was written."""
    if args.task is not None:
        return tasks.train(args)
    if args.full:
        raise BadInput("--full goes with --task; without it, --steps and --hidden say how long and how large a run is")
    if args.memory is not None:
        return memory.tell(resumed(args)[0] if args.resume else Settings.of(given(args)), args.memory)
    if distributed.asked(args):
        with distributed.joined(args):
            return run_on(args, several=True)
    return run_on(args)


def run_on(args: argparse.Namespace, several: bool = False) -> int:
    """`run` once it is known in how many processes."""

    def prepare() -> tuple[Settings, Path, Devices, Task, tuple[Any, ...]]:
        settings, out = (resumed if args.resume else begun)(args)
        if several:
            devices = distributed.devices(settings)
        else:
            devices = choose(args.devices, settings, devices_before(args, settings) if args.resume else None)
        task = make_task(settings)
        start, begins = beginning(settings, task, going_on=args.resume and folders.steps_done(out) > 0)
        return settings, out, devices, task._replace(remarks=task.remarks + begins), start

    settings, out, devices, task, start = distributed.agreed(prepare) if several else prepare()
    if several:
        versions = {"rnnjax": rj.__version__, "JAX": jax.__version__, "the data's SHA-256": task.fingerprint}
        distributed.same(**versions, settings=sha256(repr(settings).encode())[:16])
        task = task._replace(batches=distributed.own_rows(task.batches, task.batch_axis))
    with contextlib.ExitStack() as held:

        def folder() -> tuple[str]:
            if hosts.first():
                held.enter_context(folders.held(out))
            return (set_up(out, args, settings, task, devices),)

        (notice,) = distributed.agreed(folder) if several else folder()
        return run_in(out, args, settings, task, start, devices, notice)


def set_up(out: Path, args: argparse.Namespace, settings: Settings, task: Task, devices: Devices) -> str:
    """The folder, which is this program's alone, as the run needs it; what the user should know of a resumed one."""
    if args.resume:
        before, config = folders.read_config(out)
        check_same_data(task, config, out)
        notice = moved_schedule(before, settings, folders.steps_done(out))
        if hosts.first():
            folders.write_config(out, config_of(settings, task, devices.count))  # --steps may be new
        return notice
    if hosts.first():
        folders.check_new(out, args.overwrite)  # another run may have begun there meanwhile
        folders.make_folder(out, config_of(settings, task, devices.count))
    return ""


def run_in(
    out: Path,
    args: argparse.Namespace,
    settings: Settings,
    task: Task,
    start: tuple[Any, ...],
    devices: Devices,
    notice: str,
) -> int:
    """`run` in a folder that is set up."""
    print(task.title)
    for remark in (*task.remarks, *filter(None, [notice])):
        print(remark)
    each = task.each or f"{settings.batch} windows of {task.time}"
    each += f", {settings.accumulate} of them an update" * (settings.accumulate > 1)
    print(f"{task.cell}: {settings.steps} steps, each on {each}, on {devices}")
    if devices.remark:
        print(devices.remark)
    print(f"writing to {out}", flush=True)
    result = train(settings, task, start, out, args.resume, devices)
    if result.signal is not None:
        at = int(result.state.step)
        with contextlib.suppress(OSError):  # at a SIGHUP the terminal is gone
            print(
                f"Interrupted after step {at}, saved. Go on with: rnnjax train --out {shlex.quote(str(out))} --resume"
            )
        return 128 + result.signal
    if not hosts.first():
        return 0
    result = measured_whole(task, result, out)
    tell(task, result, out, settings)
    return 0


def train(
    settings: Settings, task: Task, start: tuple[Any, ...], out: Path, resume: bool, devices: Devices
) -> rj.train.Fit:
    """The run itself. Raises: OtherShape if the checkpoint in ``out`` is of another shape."""
    params, optimizer, carry, noise = start
    options: dict[str, Any] = {"validate_every": settings.validate_every, "patience": settings.patience}
    return rj.train.fit(
        task.loss_fn,
        params,
        task.batches,
        optimizer=optimizer,
        steps=settings.steps,
        carry=carry,
        key=noise,
        clip=settings.clip,
        accumulate=settings.accumulate,
        average=settings.average,
        validate=task.validate,
        derive=task.derive,
        report=None if sys.stderr.isatty() else lambda line: say(task, line),
        out=out,
        resume="anywhere" if resume and hosts.several() else resume,
        mesh=devices.mesh,
        batch_axis=task.batch_axis,
        **options,
    )


def beginning(
    settings: Settings, task: Task, going_on: bool = False
) -> tuple[tuple[Any, optax.GradientTransformation, Any, Any], tuple[str, ...]]:
    """Parameters, optimiser, carry and key of the noise (None without dropout), and a sentence on where they come from.

    From the seed alone, or from the run of ``--init-from``; ``going_on``: a checkpoint will take their place.
    Raises: BadInput if the cell cannot read one vector a step (images, say).
    """
    if settings.accumulate > settings.steps:
        raise BadInput(
            f"--accumulate {settings.accumulate} makes no update in --steps {settings.steps}; give more steps"
        )
    first, noise = jax.random.split(jax.random.key(settings.seed))
    example = jnp.zeros(task.example.shape, task.example.dtype)
    try:
        params = task.cell.init(first, example)
    except (TypeError, ValueError) as error:
        raise BadInput(f"--cell {settings.cell} cannot be used on these data: {error}") from None
    said: tuple[str, ...] = ()
    if settings.init_from is not None and not going_on:
        params, sentence = adopted(params, task, settings)
        said = (sentence,)
    carry = task.cell.initial_carry(params, example)
    optimizer = optax.adamw(rate_of(settings), b2=0.99, weight_decay=1e-4)
    return (params, optimizer, carry, noise if settings.dropout else None), said


def rate_of(settings: Settings) -> optax.Schedule:
    """The learning rate by update: a short warm-up, then a cosine down to a hundredth at the last."""
    updates = settings.steps // settings.accumulate
    warm_up = max(1, updates // 20)
    last = max(updates, warm_up + 1)
    return optax.warmup_cosine_decay_schedule(0.0, settings.rate, warm_up, last, settings.rate / 100)


def moved_schedule(before: Settings, now: Settings, done: int) -> str:
    """What more steps do to the learning rate of a run that goes on; nothing where they are as before."""
    if before.steps == now.steps or not done:
        return ""
    was, will = (float(rate_of(settings)(done // settings.accumulate)) for settings in (before, now))
    return (
        f"The learning rate falls over all steps: with {now.steps} in place of {before.steps} it is {will:.2g} after step {done}, "
        f"where it was {was:.2g}"
    )


def measured_whole(task: Task, result: rj.train.Fit, out: Path) -> rj.train.Fit:
    """The best parameters on all that is held out, where validations took a part of it: one more line of the metrics."""
    if task.whole is None or result.best_step is None:
        return result
    line = {"step": result.best_step, "split": "valid", "whole": True} | task.measure(result.params)
    metrics = Metrics.resume(out / folders.METRICS, len(result.history))
    metrics.write(line | {"seconds": result.history[-1]["seconds"]})
    return result._replace(history=metrics.history)


def say(task: Task, line: dict[str, Any]) -> None:
    """One line for a log where there is no terminal to draw on: each validation."""
    if line.get("split") == "valid" and not line.get("kept"):
        print(
            f"step {line['step']}: {task.unit} {line.get(task.unit, float('nan')):.4f} held out, {line['seconds']:.0f} s",
            flush=True,
        )


# -- settings ----------------------------------------------------------------------------------------------------------


def begun(args: argparse.Namespace) -> tuple[Settings, Path]:
    """Settings and folder of a new run."""
    asked = given(args)
    if args.init_from is not None:
        asked = taken_over(asked, asked["init_from"])
    settings = Settings.of(asked)
    out = folders.fresh_folder(settings) if args.out is None else Path(args.out)
    folders.check_new(out, args.overwrite)
    return settings, out


def resumed(args: argparse.Namespace) -> tuple[Settings, Path]:
    """Settings and folder of the run to go on with. Only what decides when to stop may be given anew."""
    if args.out is None:
        raise BadInput("--resume needs --out, the folder of the run to go on with")
    if args.overwrite:
        raise BadInput("--resume and --overwrite exclude each other: one keeps the run, the other replaces it")
    settings, _ = folders.read_config(Path(args.out))
    for name, value in given(args).items():
        if value != getattr(settings, name) and name not in ("steps", "patience"):
            raise BadInput(
                f"--{name.replace('_', '-')} is {value} here and {getattr(settings, name)} in {args.out}, whose checkpoint "
                "would be of another shape or course; drop the flag, or give another --out without --resume"
            )
    done = folders.steps_done(Path(args.out))
    if args.steps is not None and args.steps < done:
        raise BadInput(f"--steps {args.steps} is less than the {done} steps that {args.out} has done; give more")
    anew = {"steps": args.steps or settings.steps, "patience": args.patience or settings.patience}
    return dataclasses.replace(settings, **anew), Path(args.out)


def devices_before(args: argparse.Namespace, settings: Settings) -> int:
    """On how many devices the run to go on with began: sums over another number would round otherwise."""
    before = folders.read_config(Path(args.out))[1].get("devices", 1)  # of older runs: one
    if not isinstance(before, int) or before < 1 or settings.batch % before:
        raise BadInput(
            f"{args.out} cannot have been on {before!r} devices, as its {folders.CONFIG} says; was it edited?"
        )
    if args.devices not in (None, before):
        raise BadInput(
            f"--devices is {args.devices} here and {before} in {args.out}, whose numbers would be others; drop the flag, "
            "or give another --out without --resume"
        )
    return before


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that stand on the command line; the data by their whole path, so that a run is found from anywhere."""
    found = {name: getattr(args, name) for name in NAMES if getattr(args, name) is not None}
    files = found.pop("data", [])
    address = next((file for file in files if "://" in file), None)
    if address is not None:
        raise BadInput(f"--data reads files, nothing is downloaded; save {address} to a file and give that")
    whole = lambda file: file if file == STANDARD_INPUT or Path(file).is_fifo() else str(Path(file).resolve())
    found |= {"init_from": whole(found["init_from"])} if "init_from" in found else {}
    return found | ({"data": folders.as_data([whole(file) for file in files])} if files else {})


def config_of(settings: Settings, task: Task, devices: int) -> dict[str, Any]:
    """What ``config.json`` holds."""
    versions = {"rnnjax": rj.__version__, "jax": jax.__version__}
    return {
        "settings": settings.asdict(),
        "devices": devices,
        "unit": task.unit,
        "data_sha256": task.fingerprint,
        "memory": task.memory,
        "versions": versions,
    }


def check_same_data(task: Task, config: dict[str, Any], out: Path) -> None:
    """Raises: BadInput if the data are no longer what the run in ``out`` was trained on."""
    if task.fingerprint != config.get("data_sha256"):
        raise BadInput(f"the data are not those that {out} was trained on (their SHA-256 differs); put the file back")


# -- what the user is told ---------------------------------------------------------------------------------------------


def tell(task: Task, result: rj.train.Fit, out: Path, settings: Settings) -> None:
    """Sample, comparison, files."""
    if "symbols" in task.memory:
        print("\nA sample:\n")
        write_sample(task.cell, result.params, task.memory, out / folders.SAMPLE, seed=settings.seed)
    mine = best_of(result, task.unit)
    drawn = draw_losses(result.history, task.unit, task.baselines(), out / folders.PLOT)
    which = "higher" if task.higher else "lower"
    print(f"\n{task.unit.replace('_', ' ')} on {task.held} ({which} is better):\n")
    print(comparison(task.baselines(), mine, f"this network (step {result.best_step})", task.higher))
    if task.confusion is not None:
        show_confusion(task, result.params, out / folders.CONFUSION)
    if task.told is not None:
        print("\n" + task.told(result.params, out))
    why = "no better for a while" if result.stopped == "converged" else "all steps done"
    skipped = int(result.state.skipped)
    print(f"\nStopped at step {int(result.state.step)}: {why}.")
    if skipped:
        print(f"{counted(skipped, 'update')} left out as not finite; a lower --rate may help.")
    print(f"Written to {out}: {', '.join(sorted(entry.name for entry in out.iterdir() if entry.name != LOCK))}")
    if not drawn:
        print(f"No {folders.PLOT}: matplotlib is not installed (pip install matplotlib).")
    where = shlex.quote(str(out))
    more = f"--patience {2 * settings.patience}" if result.stopped == "converged" else f"--steps {2 * settings.steps}"
    use = (
        f"rnnjax predict {where} FILE"
        if task.confusion is not None
        else f"rnnjax {'forecast' if task.told else 'sample'} {where}{task.needs}"
    )
    print(f"Next:\n  {use}\n  rnnjax eval {where}\n  rnnjax train --out {where} --resume {more}")


def best_of(result: rj.train.Fit, unit: str) -> float:
    """The number of the best validation."""
    found = number_at(result.history, result.best_step, unit)
    return float("nan") if found is None else found


def number_at(history: list[dict[str, Any]], step: int | None, unit: str) -> float | None:
    """The number that the last validation of a step's params has; the line that is repeated as kept may have the loss alone."""
    found = [line[unit] for line in history if line.get("split") == "valid" and line["step"] == step and unit in line]
    return found[-1] if found else None


def show_confusion(task: Task, params: Any, path: Path | None = None) -> None:
    """What is told apart and what is mixed up, in letters and, at ``path``, as a picture."""
    assert task.confusion is not None
    counts, classes = task.confusion(params), task.memory["classes"]
    print("\n" + confusion_table(counts, classes))
    if path is not None:
        draw_confusion(counts, classes, path)


def comparison(baselines: dict[str, float], mine: float, name: str, higher: bool = False) -> str:
    """The baselines and the network, best last."""
    rows = sorted([*baselines.items(), (name, mine)], key=lambda row: row[1] if higher else -row[1])
    width = max(len(row[0]) for row in rows)
    shown = lambda value: f"{value:.4f}" if value >= 0.001 or not value > 0 else f"{value:.3g}"
    return "\n".join(f"  {who:<{width}}  {shown(value)}" for who, value in rows)
