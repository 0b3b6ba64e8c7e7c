"""``rnnjax sample``: characters as they come, or the next rows of a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli.errors import BadInput
from rnnjax.cli.kinds import natural, positive
from rnnjax.cli.load import load
from rnnjax.cli.texts import encode_inputs
from rnnjax.data import Vocabulary, written


def run(args: argparse.Namespace) -> int:
    """Streams a text to standard output, or prints rows as CSV."""
    loaded = load(Path(args.folder))
    if "classes" in loaded.memory:
        raise BadInput(
            f"{args.folder} tells classes apart and writes nothing; use it by rnnjax predict {args.folder} FILE"
        )
    if "plan" in loaded.memory:
        raise BadInput(
            f"{args.folder} forecasts {loaded.settings.horizon} rows; use it by rnnjax forecast {args.folder}"
        )
    if "symbols" in loaded.memory:
        options = {"temperature": args.temperature, "top_k": args.top_k, "seed": args.seed}
        length = 500 if args.length is None else args.length
        for symbol in characters(loaded.cell, loaded.params, loaded.memory, args.prompt, length=length, **options):
            print(symbol, end="", flush=True)
        print()
        return 0
    if args.prompt is not None:
        raise BadInput(f"--prompt is for language models; {args.folder} forecasts a table")
    rows = forecast(loaded.cell, loaded.params, loaded.memory, 24 if args.length is None else args.length)
    for line in written(loaded.memory["columns"], loaded.memory["forms"], rows):
        print(line, flush=True)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax sample``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")
    parser.add_argument("--length", type=natural, metavar="N", help="characters (default 500), or rows of a table (24)")
    parser.add_argument("--prompt", metavar="TEXT", help="what the text starts with")
    parser.add_argument(
        "--temperature",
        type=lambda text: 0.0 if text.strip() in ("0", "0.0") else positive(text),
        default=0.8,
        metavar="X",
        help="1 samples as predicted, less plays safe, 0 always takes the likeliest (default 0.8)",
    )
    parser.add_argument(
        "--top-k", type=natural, default=0, metavar="N", help="only among the N likeliest (default 0: all)"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="the same seed gives the same text (default 0)"
    )


def characters(
    cell: Any,
    params: Any,
    memory: dict[str, Any],
    prompt: str | None = None,
    *,
    length: int = 500,
    temperature: float = 0.8,
    top_k: int = 0,
    seed: int = 0,
) -> Iterator[str]:
    """The prompt, then one character at a time. The first compiled step serves the prompt too."""
    vocabulary = Vocabulary(memory["symbols"])
    start = vocabulary.encode(prompt or ("\n" if "\n" in memory["symbols"] else memory["symbols"][0]))
    key, symbols = jax.random.key(seed), len(vocabulary)
    draw = jax.jit(lambda *args: next_token(cell, symbols, temperature, min(top_k, symbols), *args))
    carry, token = cell.initial_carry(params, jnp.zeros(symbols)), jnp.asarray(start[0])
    yield from prompt or ""
    for i in range(len(start) - 1 + length):
        carry, drawn = draw(params, carry, token, jax.random.fold_in(key, i))
        inside = i + 1 < len(start)
        token = jnp.asarray(start[i + 1]) if inside else drawn
        if not inside:
            yield vocabulary.decode(drawn)


def next_token(cell: Any, symbols: int, temperature: float, top_k: int, params: Any, carry: Any, token: Any, key: Any):
    """One step, and the next symbol drawn from its prediction."""
    carry, logits = cell(params, carry, encode_inputs(token, symbols))
    if top_k:
        logits = jnp.where(logits >= jax.lax.top_k(logits, top_k)[0][-1], logits, -jnp.inf)
    if temperature == 0:
        return carry, jnp.argmax(logits).astype(jnp.int32)
    return carry, jax.random.categorical(key, logits / temperature).astype(jnp.int32)


def forecast(cell: Any, params: Any, memory: dict[str, Any], length: int) -> Iterator[np.ndarray]:
    """The rows that follow the table, each predicted from the one before, in the units of the columns."""
    mean, deviation, scale = (np.array(memory[name]) for name in ("mean", "deviation", "step"))
    recent = jnp.asarray(memory["recent"], jnp.float32)
    carry, changes = rj.unroll(cell, params, recent)
    level, change, step = (
        np.array(memory["last"]),
        changes[-1],
        jax.jit(lambda params, carry, x: cell(params, carry, x)),
    )
    for _ in range(length):
        level = level + np.asarray(change, np.float64) * scale
        yield level * deviation + mean
        parts = [level, np.asarray(change)]
        seen = np.zeros(recent.shape[-1] - 2 * len(level))  # a forecast is not missing
        carry, change = step(params, carry, jnp.asarray(np.concatenate([*parts, seen]), jnp.float32))


def write_sample(cell: Any, params: Any, memory: dict[str, Any], path: Path, seed: int) -> None:
    """A sample to standard output as it comes, and to a file."""
    text = ""
    for symbol in characters(cell, params, memory, seed=seed):
        text += symbol
        print(symbol, end="", flush=True)
    print()
    sys.stdout.flush()
    path.write_text(text, encoding="utf-8")
