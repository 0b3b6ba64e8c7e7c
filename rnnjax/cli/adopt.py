"""``--init-from``: the network of one run as the beginning of another, on other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cli.errors import BadInput
from rnnjax.cli.load import Loaded, load
from rnnjax.cli.settings import Settings, build
from rnnjax.cli.work import Task

SHAPE = ("cell", "hidden", "layers", "members")  # settings that decide what arrays there are


def taken_over(given: dict[str, Any], folder: str) -> dict[str, Any]:
    """The settings that were given, with those of the run in ``folder`` that shape its network. Raises: BadInput at others."""
    theirs = load(Path(folder)).settings
    for name in SHAPE:
        if given.get(name, getattr(theirs, name)) != getattr(theirs, name):
            raise BadInput(
                f"--{name} is {given[name]} here and {getattr(theirs, name)} in {folder}, whose network would not fit; drop the "
                "flag, or --init-from"
            )
    return {name: getattr(theirs, name) for name in SHAPE} | given


def adopted(params: Any, task: Task, settings: Settings) -> tuple[Any, str]:
    """Fresh ``params`` with what the run knows that is begun from, and a sentence on the rest. Raises: BadInput if it is another task."""
    loaded = load(Path(str(settings.init_from)))
    kind = lambda memory: next(name for name in ("classes", "symbols", "columns") if name in memory)
    mine, theirs = kind(task.memory), kind(loaded.memory)
    if mine != theirs:
        does = {"classes": "tells classes apart", "symbols": "writes text", "columns": "forecasts a table"}
        raise BadInput(
            f"{settings.init_from} {does[theirs]}, and on these data a network {does[mine]}; begin without it"
        )
    return {"symbols": of_text, "columns": of_table, "classes": of_classes}[mine](params, task, loaded, settings)


def of_table(params: Any, task: Task, loaded: Loaded, settings: Settings) -> tuple[Any, str]:
    """The same columns, in units of the new data."""
    check_same("columns", task, loaded, settings)
    if task.memory["inputs"] != loaded.memory["inputs"]:
        raise BadInput(
            f"values are missing in the data here or in those of {settings.init_from}, not in both; begin without it"
        )
    return loaded.params, begins(loaded, settings, f"on the columns {', '.join(task.memory['columns'])}")


def of_classes(params: Any, task: Task, loaded: Loaded, settings: Settings) -> tuple[Any, str]:
    """The same classes; words that are new start fresh."""
    check_same("classes", task, loaded, settings)
    if "words" not in task.memory or "words" not in loaded.memory:
        check_same("columns", task, loaded, settings)
        check_same("gaps", task, loaded, settings)
        return loaded.params, begins(loaded, settings, f"on the columns {', '.join(task.memory['columns'])}")
    check_same("unit", task, loaded, settings)
    new, old = (["", *memory["words"]] for memory in (task.memory, loaded.memory))
    table = moved(params["table"], loaded.params["table"], -2, *places(new, old))
    return loaded.params | {"table": table}, begins(loaded, settings, known_of(new[1:], old[1:], task.memory["unit"]))


def of_text(params: Any, task: Task, loaded: Loaded, settings: Settings) -> tuple[Any, str]:
    """Each symbol keeps its weights of input and output, where it is known; one-hot inputs are larger with more symbols."""
    new, old = task.memory["symbols"], loaded.memory["symbols"]
    at, to = places(list(new), list(old))
    louder = float(np.sqrt(len(old) / len(new)))
    inputs, outputs = symbol_axes(settings, len(new))

    def one(fresh: Any, known: Any, read: int | None, said: int | None) -> Any:
        if read is not None:
            return moved(fresh, known * louder, read, at, to)
        return known if said is None else moved(fresh, known, said, at, to)

    params = jax.tree.map(one, params, loaded.params, inputs, outputs, is_leaf=lambda a: a is None)
    return params, begins(loaded, settings, known_of(list(new), list(old), "symbols"))


def symbol_axes(settings: Settings, symbols: int) -> tuple[Any, Any]:
    """Of each array of a network of texts the axis that goes by symbols read, and by symbols said; None where none does.

    Raises: BadInput if an array grows otherwise with them.
    """

    def shapes(read: int, said: int) -> Any:
        return jax.eval_shape(lambda: build(settings, said).init(jax.random.key(0), jnp.zeros((1, read))))

    def axis(before: Any, after: Any) -> int | None:
        if before.ndim != after.ndim or sum(after.shape) - sum(before.shape) not in (0, 1):
            raise BadInput(
                f"--cell {settings.cell} has params that do not go by symbol, so --init-from cannot map them"
            )
        return next((i for i in range(before.ndim) if before.shape[i] != after.shape[i]), None)

    here = shapes(symbols, symbols)
    return tuple(jax.tree.map(axis, here, shapes(*more)) for more in ((symbols + 1, symbols), (symbols, symbols + 1)))


def places(new: list[str], old: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where what both know stands: in the old, and in the new.

    >>> at, to = places(list("abx"), list("bca"))
    >>> at.tolist(), to.tolist()
    ([2, 0], [0, 1])
    """
    known = {name: i for i, name in enumerate(old)}
    both = [(known[name], i) for i, name in enumerate(new) if name in known]
    return np.array([a for a, _ in both], int), np.array([b for _, b in both], int)


def moved(fresh: Any, known: Any, axis: int, at: np.ndarray, to: np.ndarray) -> Any:
    """``fresh`` with the rows ``to`` along ``axis`` taken from the rows ``at`` of ``known``."""
    rows = jnp.moveaxis(jnp.asarray(fresh), axis, 0)
    return jnp.moveaxis(rows.at[to].set(jnp.moveaxis(jnp.asarray(known), axis, 0)[at].astype(rows.dtype)), 0, axis)


def check_same(name: str, task: Task, loaded: Loaded, settings: Settings) -> None:
    """Raises: BadInput if a part of what is known of the data differs."""
    mine, theirs = task.memory.get(name), loaded.memory.get(name)
    if mine != theirs:
        shown = lambda known: ", ".join(map(str, known)) if isinstance(known, list) else str(known)
        raise BadInput(
            f"the {name} are {shown(mine)} here and {shown(theirs)} in {settings.init_from}; begin without it, or make them the same"
        )


def begins(loaded: Loaded, settings: Settings, known: str) -> str:
    """The sentence on where a run begins."""
    return f"begins with the network of {settings.init_from} (step {loaded.step}), {known}"


def known_of(new: list[str], old: list[str], what: str, most: int = 10) -> str:
    """What of the new is known, what starts fresh, and what of the old is no longer there.

    >>> known_of(list("abx"), list("bca"), "symbols")
    "which knows 2 of 3 symbols; new, starting fresh: 'x'; no longer there: 'c'"
    """
    fresh, gone = [name for name in new if name not in set(old)], [name for name in old if name not in set(new)]
    shown = lambda names: ", ".join(map(repr, names[:most])) + f" and {len(names) - most:,} more" * (len(names) > most)
    parts = [f"which knows {len(new) - len(fresh):,} of {len(new):,} {what}"]
    parts += [f"new, starting fresh: {shown(fresh)}"] if fresh else []
    return "; ".join(parts + ([f"no longer there: {shown(gone)}"] if gone else []))
