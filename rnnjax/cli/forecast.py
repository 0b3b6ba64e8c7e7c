"""``rnnjax forecast``: the rows to come, with quantiles, as CSV."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from rnnjax.cli.ahead import forecaster, plainly, plan_of, rows_of, sheet_of, with_newer
from rnnjax.cli.errors import BadInput
from rnnjax.cli.folder import CONFIG
from rnnjax.cli.load import load
from rnnjax.cli.series import Sheet, written_dates
from rnnjax.cli.settings import count, natural
from rnnjax.data.table import number
from rnnjax.forecast import Fitted, Forecast


def run(args: argparse.Namespace) -> int:
    """Prints a line for each row to come: its date, and for each column its quantiles."""
    loaded = load(Path(args.folder))
    if "plan" not in loaded.memory:
        raise BadInput(f"{args.folder} was trained without --horizon; use it by rnnjax sample {args.folder}")
    model = forecaster(loaded.settings)
    try:
        sheet, plan = sheet_of(loaded.memory), plan_of(loaded.memory)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{args.folder} does not say what its forecasts start from ({error}); was its {CONFIG} edited?"
        ) from None
    if args.data is not None:
        sheet = with_newer(sheet, loaded.settings, args.data).last(plan.reach + plan.context)
    rows = rows_of(sheet, model.horizon)
    try:
        found = Fitted(model, plan, loaded.params, rows).after(rows, args.paths, args.seed)
    except ValueError as error:
        raise BadInput(plainly(error, sheet.targets)) from None
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    for line in lines(found, sheet):
        write(line)
    return 0


def lines(found: Forecast, sheet: Sheet) -> list[list[Any]]:
    """The header and the rows."""
    head = [f"{name}_{level:g}" for name in sheet.targets for level in found.levels]
    dates = written_dates(sheet.ahead(len(found.mean)))
    rows = [
        [number(found.quantiles[q, h, s], form) for s, form in enumerate(sheet.forms) for q in range(len(found.levels))]
        for h in range(len(dates))
    ]
    return [[sheet.date or "row", *head], *([date, *row] for date, row in zip(dates, rows))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax forecast``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run with --horizon")
    parser.add_argument(
        "--data", metavar="FILE", help="newer rows, of the same columns, that follow on from those of the run"
    )
    parser.add_argument("--paths", type=count, default=500, metavar="N", help="paths of --mode recursive (default 500)")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="seed of the paths (default 0)")
