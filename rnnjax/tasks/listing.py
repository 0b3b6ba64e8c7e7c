"""The recipes by name, and what was reached with each."""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.data import DataError
from rnnjax.tasks.recipe import Recipe

HERE = Path(__file__).parent
RESULTS = (HERE / "results.json", HERE.parents[1] / "docs" / "results.json")  # as installed; in a checkout


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by its name: whatever in a file of this folder is one."""
    files = (info.name for info in pkgutil.iter_modules([str(HERE)]) if info.name != "__main__")
    modules = [importlib.import_module(f"rnnjax.tasks.{name}") for name in files]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Recipe)]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)}


def named(name: str) -> Recipe:
    """The recipe called ``name``. Raises: DataError (a ValueError) suggesting the nearest.

    >>> named("adition")
    Traceback (most recent call last):
    rnnjax.data.errors.DataError: there is no task 'adition'; did you mean 'addition'? (rnnjax tasks lists them)
    """
    if name in recipes():
        return recipes()[name]
    near = difflib.get_close_matches(name.lower(), recipes(), n=1)
    hint = f"did you mean {near[0]!r}? (rnnjax tasks lists them)" if near else f"the tasks are {', '.join(recipes())}"
    raise DataError(f"there is no task {name!r}; {hint}")


def recorded() -> list[dict[str, Any]]:
    """The runs in ``results.json``, each with its task, seed, whether it was a full one, and what it gave."""
    found = next((path for path in RESULTS if path.is_file()), None)
    return [] if found is None else json.loads(found.read_text(encoding="utf-8"))["runs"]


def listing(runs: Iterable[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """What ``rnnjax tasks`` shows: name, set, metric, floor, reached, seconds; None where no run was recorded.

    Means over the seeds of the short runs. ``runs``: those of `recorded` by default.
    """
    runs = recorded() if runs is None else list(runs)
    return [
        _row(recipe, [r for r in runs if r["task"] == recipe.name and not r["full"]]) for recipe in recipes().values()
    ]


def _row(recipe: Recipe, runs: list[dict[str, Any]]) -> dict[str, Any]:
    mean = lambda name: round(float(np.mean([run[name] for run in runs])), 4) if runs else None
    about = {"name": recipe.name, "set": recipe.set, "metric": f"{recipe.metric} ({recipe.better} is better)"}
    return about | {"floor": mean("floor"), "reached": mean("ours"), "seconds": mean("seconds")}
