"""The folder of a run: what lies in it, and how it is made without harm to anything of the user's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from rnnjax import __version__
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import NAMES, Settings
from rnnjax.data.files import STANDARD_INPUT, standard_input
from rnnjax.lock import LOCK, Lock
from rnnjax.train.digest import sha256

CONFIG, METRICS, CHECKPOINTS, PLOT, SAMPLE = "config.json", "metrics.jsonl", "checkpoints", "loss.png", "sample.txt"
CONFUSION, PIPED, FAN = "confusion.png", "standard-input", "forecast.png"
TASK, RESULT, SOUNDS = "task.json", "result.json", {"said.wav", "recorded.wav"}  # of `rnnjax train --task`
EXPORTS = {"model.onnx", "model.safetensors", "stablehlo"}  # of `rnnjax export`
OURS = {CONFIG, METRICS, CHECKPOINTS, PLOT, SAMPLE, CONFUSION, PIPED, TASK, RESULT, FAN} | SOUNDS | EXPORTS
SEAL = "sha256"  # of all else in config.json; runs of earlier versions have none

LEAST = {"hidden": 1, "layers": 1, "steps": 1, "batch": 1, "time": 1, "patience": 1, "validate_every": 1, "seed": 0}
LEAST |= {"rate": 1e-30, "clip": 1e-30, "dropout": 0, "held_out": 1e-30}
LEAST |= {"accumulate": 1, "members": 1}
BELOW = {"layers": 2**13, "members": 2**13, "dropout": 1, "held_out": 0.5 + 1e-9}  # the others: 2^31
KINDS = {"data": (str, tuple, type(None)), "header": (bool, type(None)), "cell": (str,)}
KINDS |= dict.fromkeys(("horizon", "season"), (int, type(None))) | dict.fromkeys(("mode", "output", "gaps"), (str,))
STRINGS = ("sep", "encoding", "thousands", "text", "series", "label", "init_from", "checkpoint", "date")
KINDS |= dict.fromkeys(STRINGS, (str, type(None)))
KINDS |= dict.fromkeys(("percent", "currency", "bf16"), (bool,))
KINDS |= dict.fromkeys(("rate", "dropout", "clip", "held_out"), (int, float))
KINDS |= dict.fromkeys(("hidden", "layers", "steps", "batch", "time", "patience", "validate_every", "seed"), (int,))
KINDS |= {"accumulate": (int,), "members": (int,), "average": (int, float, type(None))}


def fresh_folder(settings: Settings, root: str = "rnnjax-runs") -> Path:
    """The first free ``rnnjax-runs/<data>-<cell>-<n>``."""
    stems = ["stdin" if file == STANDARD_INPUT else Path(file).stem for file in settings.files] or ["python-docs"]
    name = f"{stems[0]}{f'-and-{len(stems) - 1}-more' * (len(stems) > 1)}-{settings.cell.lower()}"
    n = 1
    while (Path(root) / f"{name}-{n}").exists():
        n += 1
    return Path(root) / f"{name}-{n}"


def check_new(folder: Path, overwrite: bool) -> None:
    """Raises: BadInput if ``folder`` is a file, holds a run and may not be overwritten, or holds what is not ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file; give --out a folder")
    found = {entry.name for entry in folder.iterdir()} - {LOCK}
    if found & {CONFIG, TASK} and not overwrite:
        raise BadInput(
            f"{folder} exists already; go on with it by --resume, replace it by --overwrite, or give another --out"
        )
    if found - OURS:
        only = "--overwrite replaces runs only, " if overwrite else ""
        raise BadInput(f"{folder} holds {sorted(found - OURS)[0]!r}, which no run wrote; {only}give another --out")


def held(folder: Path) -> Lock:
    """The folder, made where it is not there, for this process alone. Raises: BadInput if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write to {folder}: {error.strerror}; give another folder by --out") from None
    return Lock(folder)


def make_folder(folder: Path, config: dict[str, Any]) -> None:
    """An empty run: the folder, rid of an older run, and its ``config.json``. Raises: BadInput if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear(folder)
        if STANDARD_INPUT in as_files(config["settings"]["data"]):
            (folder / PIPED).write_bytes(standard_input())
        write_config(folder, config)
    except OSError as error:
        raise BadInput(f"cannot write to {folder}: {error.strerror}; give another folder by --out") from None


def clear(folder: Path) -> None:
    """Rids it of an older run. Where a link lies, the link goes; what it points to is the user's."""
    for name in OURS:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def as_files(data: Any) -> list[str]:
    """The data of settings as a list of paths."""
    return [] if data is None else [data] if isinstance(data, str) else list(data)


def as_data(files: list[str]) -> Any:
    """A list of paths as settings have it: None, one, or several."""
    return tuple(files) if len(files) > 1 else files[0] if files else None


def steps_done(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    names = [entry.name for entry in (folder / CHECKPOINTS).glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """``config.json``, there whole or not at all; on its first line the digest of all else."""
    beside, settings = folder / (CONFIG + ".new"), config["settings"]
    back = [STANDARD_INPUT if file == str(folder / PIPED) else file for file in as_files(settings["data"])]
    config = json.loads(json.dumps(config | {"settings": settings | {"data": as_data(back)}}))
    config = {SEAL: sealed(config)} | {name: value for name, value in config.items() if name != SEAL}
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())  # or it may be there and empty after the power has gone
        os.replace(beside, folder / CONFIG)
    finally:
        beside.unlink(missing_ok=True)


def sealed(config: dict[str, Any]) -> str:
    """The digest of a config's values, however the file is laid out."""
    values = {name: value for name, value in config.items() if name != SEAL}
    return sha256(json.dumps(values, sort_keys=True).encode())


def doubt(folder: Path) -> str | None:
    """What to tell of a ``config.json`` that reads well and is not what was written; None without a digest, or where that is right."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if SEAL not in config or config[SEAL] == sealed(config):
            return None
    except (OSError, ValueError, TypeError, RecursionError):  # who reads it will say so
        return None
    return (
        f"{folder / CONFIG} is not what was written (its SHA-256 differs), and so this may be of another run; put it back, or if "
        f'you edited it and mean it, delete its line "{SEAL}"'
    )


def read_config(folder: Path) -> tuple[Settings, dict[str, Any]]:
    """The settings of the run in ``folder`` and all of its config. Raises: BadInput if there is none, or a broken one."""
    path = folder / CONFIG
    if (folder / TASK).is_file():
        raise BadInput(f"{folder} holds a task, whose numbers are in {RESULT}; give the folder of a run without --task")
    if not path.is_file():
        raise BadInput(f"{folder} holds no run (no {CONFIG}); give the folder that `rnnjax train` wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        have = part(part(config, "the file"), "settings")
        if unknown := sorted(have.keys() - set(NAMES)):  # the network would be another without it
            raise ValueError(f"rnnjax {__version__} knows no setting {unknown[0]!r}; {_writer(config)} wrote it")
        files = [str(folder / PIPED) if file == STANDARD_INPUT else file for file in as_files(have.get("data"))]
        settings = Settings(**have | {"data": as_data(files)})
        fault = settings_fault(settings) or memory_fault(part(config, "memory") if "memory" in config else {})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fault = str(error) or type(error).__name__
    if fault:
        raise BadInput(f"{path} cannot be read as the settings of a run ({fault}); was it edited?")
    return settings, config


def _writer(config: dict[str, Any]) -> str:
    versions = config.get("versions")
    return f"rnnjax {_shown(versions.get('rnnjax'))}" if isinstance(versions, dict) else "another version"


def part(config: Any, name: str) -> dict[str, Any]:
    """An object, or one inside of it. Raises: TypeError, KeyError."""
    found = config if name == "the file" else config[name]
    if not isinstance(found, dict):
        raise TypeError(f"{name} must be an object, got {_shown(found)}")
    return found


def settings_fault(settings: Settings) -> str | None:
    """What no command line could have given, or None."""
    given: dict[str, Any] = settings.asdict()
    for name, value in given.items():
        least, kinds = LEAST.get(name), KINDS.get(name, (object,))
        right = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds or object in kinds)
        if not right or (least is not None and not least <= value < BELOW.get(name, 2**31)):  # type: ignore
            return f"{name} is {_shown(value)}"
    if settings.average is not None and not 0 < settings.average < 1:
        return f"average is {_shown(settings.average)}"
    if not all(isinstance(file, str) for file in settings.files):
        return f"data is {_shown(settings.data)}"
    known = settings.stored in (None, "sqrt") or isinstance(settings.stored, int)
    return None if known else f"checkpoint is {_shown(settings.checkpoint)}"


def memory_fault(memory: dict[str, Any]) -> str | None:
    """What sampling could not use of what a run knows of its data, or None."""
    if "classes" in memory or "plan" in memory:  # their readers look themselves
        return None
    symbols = memory.get("symbols", "x")
    if not isinstance(symbols, str) or not symbols or len(set(symbols)) < len(symbols):
        return f"symbols is {_shown(symbols)}"
    if "inputs" not in memory or "plan" in memory:  # a forecast's is looked at where it is read
        return None
    columns, inputs = memory["columns"], memory["inputs"]
    if (
        not isinstance(inputs, int)
        or not _all(str, columns)
        or not _all(str, memory["forms"])
        or not 0 < inputs < 2**31
    ):
        return f"columns are {_shown(columns)}, inputs {_shown(inputs)}"
    rows = memory["recent"]
    for name in ("mean", "deviation", "step", "last"):
        if not _all((int, float), memory[name]) or len(memory[name]) != len(columns):
            return f"{name} is {_shown(memory[name])}"
    if (
        not isinstance(rows, list)
        or not rows
        or not all(_all((int, float), row) and len(row) == inputs for row in rows)
    ):
        return f"recent is {_shown(rows)}"
    return f"forms are {_shown(memory['forms'])}" if len(memory["forms"]) != len(columns) else None


def _all(kinds: Any, values: Any) -> bool:
    """A list with something in it, all of these kinds."""
    good = lambda value: isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(values, list) and bool(values) and all(map(good, values))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
