"""``rnnjax export``: the network of a run as a file that other programs run or read."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import rnnjax as rj
from rnnjax.cli.errors import BadInput
from rnnjax.cli.load import Loaded, load

FORMATS = {"onnx": "model.onnx", "safetensors": "model.safetensors", "stablehlo": "stablehlo"}  # as in cli/folder.py


def run(args: argparse.Namespace) -> int:
    """Writes the file (of StableHLO a folder) and says what is in it."""
    loaded = load(Path(args.folder))
    if "classes" in loaded.memory and args.to != "safetensors":
        raise BadInput(
            f"{args.folder} tells classes apart, which is written as safetensors only; use it by rnnjax predict {args.folder} FILE"
        )
    if "plan" in loaded.memory and args.to != "safetensors":
        raise BadInput(
            f"{args.folder} forecasts from a linear start, which is written as safetensors only; use it by rnnjax forecast {args.folder}"
        )
    path = Path(args.out or Path(args.folder) / FORMATS[args.to])
    if args.carry and args.to != "onnx":
        raise BadInput(f"--carry is for --to onnx; --to {args.to} has what it needs to go on from a carry")
    writers = {"onnx": _onnx, "safetensors": _safetensors, "stablehlo": _stablehlo}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        print(writers[args.to](loaded, path, args.carry))
    except ModuleNotFoundError as error:
        raise BadInput(f"--to {args.to} needs {error.name}: pip install 'rnnjax[interop]'") from None
    except OSError as error:
        raise BadInput(f"cannot write to {path}: {error.strerror or error}; give another --out") from None
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax export``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")
    parser.add_argument(
        "--to",
        required=True,
        choices=tuple(FORMATS),
        help="onnx: a model for onnxruntime and its like; stablehlo: whole sequences, one step, and the start, run by JAX without "
        "this library; safetensors: the parameters by name",
    )
    parser.add_argument("--out", metavar="PATH", help=f"where to write (default: {', '.join(FORMATS.values())} in DIR)")
    parser.add_argument(
        "--carry",
        action="store_true",
        help="of --to onnx: the states to start from are inputs, for one piece after another",
    )


def network(loaded: Loaded) -> tuple[Any, Any, jax.ShapeDtypeStruct]:
    """The network as other programs see it, with one step's input: symbols by number, or the numbers of a row."""
    memory = loaded.memory
    if "symbols" not in memory and "inputs" not in memory:
        raise BadInput(
            f"{loaded.cell!r} gives one answer for a whole sequence, which --to onnx and stablehlo do not write; --to safetensors does"
        )
    if "symbols" in memory:
        symbols = len(memory["symbols"])
        table = math.sqrt(symbols) * jnp.eye(symbols)  # what `encode_inputs` makes of each
        cell, params = rj.Embed(loaded.cell, symbols, symbols), {"table": table, "cell": loaded.params}
        return rj.RNN(cell), params, jax.ShapeDtypeStruct((1,), jnp.int32)
    return rj.RNN(loaded.cell), loaded.params, jax.ShapeDtypeStruct((1, memory["inputs"]), jnp.float32)


def described(loaded: Loaded) -> dict[str, str]:
    """What a reader of the file should know: the network, the run's data and how far it was trained."""
    facts = {"cell": repr(loaded.cell), "memory": json.dumps(loaded.memory), "step": str(loaded.step)}
    return {f"rnnjax.{name}": value for name, value in facts.items()} | {"rnnjax.version": rj.__version__}


def _onnx(loaded: Loaded, path: Path, carry: bool) -> str:
    import onnx

    layer, params, _ = network(loaded)
    try:
        model = rj.interop.to_onnx(layer, params, carry=carry)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{str(error).removeprefix('to_onnx: ')}; --to stablehlo takes every cell") from None
    onnx.helper.set_model_props(model, described(loaded))
    _replace(path, model.SerializeToString())
    shape = lambda value: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    ends = [f"{value.name} {shape(value)}" for value in (*model.graph.input, model.graph.output[0])]
    return f"Written to {path}: {', '.join(ends[:-1])} in, {ends[-1]} out, beside the last states; the data's symbols or scales as metadata"


def _safetensors(loaded: Loaded, path: Path, carry: bool) -> str:
    beside = path.with_name(path.name + ".new")
    rj.interop.save_safetensors(beside, loaded.params, described(loaded))
    os.replace(beside, path)
    count = sum(leaf.size for leaf in jax.tree.leaves(loaded.params))
    return f"Written to {path}: {count} parameters of {loaded.cell!r}; the data's symbols or scales as metadata"


def _stablehlo(loaded: Loaded, path: Path, carry: bool) -> str:
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file; --to stablehlo writes a folder, give another --out")
    layer, params, x = network(loaded)
    exported = rj.interop.export(layer, params, x)
    exported.save(path)
    for name, part in exported._asdict().items():
        _replace(path / f"{name}.stablehlo", part.mlir_module_serialized)
    _replace(path / "about.json", json.dumps(described(loaded), indent=2).encode())
    return (
        f"Written to {path}: sequence, step and start, each as .jaxexport (jax.export.deserialize) and as portable .stablehlo, for "
        f"{', '.join(exported.sequence.platforms)}; the data's symbols or scales in about.json"
    )


def _replace(path: Path, content: bytes) -> None:
    """The file, there whole or as it was."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
