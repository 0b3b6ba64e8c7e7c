"""A trained run read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings, build
from rnnjax.train import Checkpoints


class Loaded(NamedTuple):
    """The run of a folder: its best parameters, the step and held-out loss they had, and what it knows of the data."""

    settings: Settings
    config: dict[str, Any]
    cell: Any
    params: Any
    memory: dict[str, Any]
    step: int
    loss: float | None


def load(folder: Path) -> Loaded:
    """Raises: BadInput if there is no run, no checkpoint yet, or a checkpoint of another shape."""
    settings, config = folders.read_config(folder)
    memory = config["memory"]
    if "symbols" not in memory and "inputs" not in memory:
        raise BadInput(f"{folder} was trained by an older version, which saw a table otherwise; train it anew")
    outputs = len(memory.get("symbols") or memory["columns"])
    cell, features = build(settings, outputs), memory.get("inputs", outputs)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), jnp.zeros((1, features))))
    if not (folder / folders.CHECKPOINTS).is_dir():
        raise BadInput(f"{folder} has no checkpoint yet; train it first: rnnjax train --out {folder} --resume")
    checkpoints = Checkpoints(folder / folders.CHECKPOINTS)
    try:
        best, record = checkpoints.restore_part("best", params)
    except FileNotFoundError:
        raise BadInput(
            f"{folder} has no checkpoint yet; train it first: rnnjax train --out {folder} --resume"
        ) from None
    except ValueError as error:
        raise BadInput(str(error)) from None
    finally:
        checkpoints.close()
    step = record["best_step"] or checkpoints.latest() or 0
    return Loaded(settings, config, cell, best, config["memory"], step, record["best_loss"])
