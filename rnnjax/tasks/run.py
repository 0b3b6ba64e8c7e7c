"""One recipe run: floors, training, the test split read once, and the files that say so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting
from rnnjax.train import Fit, fit

METRICS, RESULT, SETTING = "metrics.jsonl", "result.json", "task.json"  # SETTING marks the folder of a task


class Result(NamedTuple):
    """What a run found; `summary` is what ``result.json`` holds.

    floors: every predictor without recurrence, by name. parts: what the score is made of. cpu: seconds of all cores together.
    shown: something to read, or "".
    """

    recipe: Recipe
    setting: Setting
    ours: float
    floors: dict[str, float]
    parts: dict[str, float]
    seconds: float
    cpu: float
    shown: str = ""

    @property
    def floor(self) -> float:
        """The best of the floors."""
        return (max if self.recipe.better == "higher" else min)(self.floors.values())

    @property
    def beaten(self) -> bool:
        """Whether ours is better than the floor."""
        return self.ours > self.floor if self.recipe.better == "higher" else self.ours < self.floor

    def summary(self) -> dict[str, Any]:
        """``{"task", "metric", "better", "floor", "ours", "seconds", "beaten"}``."""
        names = {"task": self.recipe.name, "metric": self.recipe.metric, "better": self.recipe.better}
        return names | {"floor": self.floor, "ours": self.ours, "seconds": self.seconds, "beaten": self.beaten}


def run(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    setting: Setting = Setting(),
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: bool | None = None,
) -> Result:
    """Trains a recipe and measures it. Everything is chosen on the valid split; the test split is read once, at the end.

    out: a folder for ``metrics.jsonl``, checkpoints, ``task.json`` (the setting), what the recipe makes to hear, and ``result.json``,
    written last.
    report, progress: as for `rnnjax.train.fit`.
    Raises: DataError where data cannot be had; ImportError naming what to install; FileExistsError where ``out`` holds a run;
    KeyboardInterrupt where it was stopped on the way: it is not judged then.
    """
    began, worked = time.perf_counter(), time.process_time()
    problem = recipe.make(setting)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        _write(Path(out) / SETTING, {"task": recipe.name, **setting._asdict(), "steps": problem.steps})
    floors = {name: float(measure()) for name, measure in problem.floors.items()}  # first: they may want a package
    fitted = train(recipe, problem, setting.seed, out=out, report=report, progress=progress)
    if fitted.stopped == "interrupted":
        raise KeyboardInterrupt(fitted.signal)
    test = problem.score(fitted.params, "test")
    seconds, cpu = round(time.perf_counter() - began, 1), round(time.process_time() - worked, 1)
    parts = {name: float(value) for name, value in test.parts.items()}
    shown = "" if problem.show is None else problem.show(fitted.params)
    result = Result(recipe, setting, float(test.value), floors, parts, seconds, cpu, shown)
    if out is not None:
        line = {
            "step": fitted.best_step or problem.steps,
            "split": "test",
            recipe.metric: result.ours,
            "seconds": seconds,
        }
        with (Path(out) / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"parts": parts, "floors": floors}) + "\n")
        for name, content in (problem.files(fitted.params) if problem.files else {}).items():
            (Path(out) / name).write_bytes(content)
        _write(Path(out) / RESULT, result.summary())
    return result


def train(recipe: Recipe, problem: Problem, seed: int, **how: Any) -> Fit:
    """The training of a problem; the parameters of the best validation are kept."""
    key = jax.random.fold_in(jax.random.key(seed), 1) if problem.noise else None
    return fit(
        problem.loss,
        problem.params,
        problem.batches,
        optimizer=problem.optimizer,
        steps=problem.steps,
        carry=problem.carry,
        key=key,
        clip=problem.clip,
        average=problem.average,
        validate=lambda params: judged(recipe, problem.score(params, "valid")),
        validate_every=max(1, problem.steps // problem.validations),
        patience=problem.patience,
        log_every=max(1, min(50, problem.steps // 10)),
        **how,
    )


def judged(recipe: Recipe, score: Score) -> dict[str, float]:
    """A validation line: the metric, its parts, and as ``loss`` what is to be low.

    That is what the recipe chooses by; where it does not say, the metric, or what a share misses to 1.
    """
    missing = 1 - score.value if recipe.better == "higher" else score.value
    return {**score.parts, recipe.metric: score.value, "loss": missing if score.loss is None else score.loss}


def _write(path: Path, content: dict[str, Any]) -> None:
    """The file, there whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)
