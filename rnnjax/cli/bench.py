"""``rnnjax bench``."""

from __future__ import annotations

import argparse

from rnnjax.cli.kinds import count


def run(args: argparse.Namespace) -> int:
    """Prints the table of `rnnjax.bench.run`."""
    from rnnjax import bench

    print("One training step of cells as one writes them, under lax.scan and rj.scan.")
    print(f"Shape: time, batch, inputs, hidden. Takes {'minutes' if args.full else 'a minute'}.", flush=True)
    bench.run(quick=not args.full, repeats=args.repeats)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax bench``."""
    parser.add_argument(
        "--full", action="store_true", help="the whole grid of shapes (minutes); by default three small ones"
    )
    parser.add_argument(
        "--repeats", type=count, default=5, metavar="N", help="timings of each, of which the median counts"
    )
