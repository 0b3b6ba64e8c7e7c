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


def network(settings: Settings, memory: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """The network of a run, and the shape of one step's input. Raises: BadInput for runs of versions that saw data otherwise."""
    if "classes" in memory:
        from rnnjax.cli.labels import Seen

        seen = Seen.of(memory)
        return seen.network(settings), seen.example(1)
    if "plan" in memory:
        from rnnjax.cli.ahead import network_of

        return network_of(settings, memory)
    if "symbols" not in memory and "inputs" not in memory:
        raise BadInput(f"{folder} was trained by an older version, which saw a table otherwise; train it anew")
    outputs = len(memory.get("symbols") or memory["columns"])
    return build(settings, outputs), jax.ShapeDtypeStruct((1, memory.get("inputs", outputs)), jnp.float32)


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
    memory = config.get("memory", {})
    try:
        cell, example = network(settings, memory, folder)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{folder / folders.CONFIG} does not say what the network saw ({error}); was it edited?"
        ) from None
    try:
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), jnp.zeros(example.shape, example.dtype)))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{folder} cannot hold such a network ({error}); was its {folders.CONFIG} edited?") from None
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
