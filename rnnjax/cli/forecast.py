"""``rnnjax forecast``: the rows to come, with quantiles, as CSV."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from rnnjax.cli.ahead import forecaster, network_of, plainly, plan_of, rows_of, sheet_of, start_of
from rnnjax.cli.blocks import Sheet, joined, written_dates
from rnnjax.cli.errors import BadInput
from rnnjax.cli.folder import CONFIG
from rnnjax.cli.kinds import count, natural
from rnnjax.cli.load import Loaded, load
from rnnjax.cli.series import read_sheet
from rnnjax.data.table import number
from rnnjax.forecast import Fitted, Forecast


def run(args: argparse.Namespace) -> int:
    """Prints a line for each row to come: its date, and for each column its quantiles."""
    loaded = load(Path(args.folder))
    if "plan" not in loaded.memory:
        raise BadInput(f"{args.folder} was trained without --horizon; use it by rnnjax sample {args.folder}")
    try:
        sheet, plan = sheet_of(loaded.memory), plan_of(loaded.memory)
        model = forecaster(loaded.settings, sheet.step)
        params, remark = chosen(loaded)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{args.folder} does not say what its forecasts start from ({error}); was its {CONFIG} edited?"
        ) from None
    if args.data is not None:
        newer = read_sheet(loaded.settings, args.data, sheet)
        sheet = joined(sheet, newer, args.data).last(plan.reach + plan.context)
    rows = rows_of(sheet, model.horizon)
    try:
        found = Fitted(model, plan, params, rows).after(rows, args.paths, args.seed)
    except ValueError as error:
        raise BadInput(plainly(error, sheet)) from None
    print(remark, end="", file=sys.stderr)
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    for line in lines(found, sheet):
        write(line)
    return 0


def chosen(loaded: Loaded) -> tuple[Any, str]:
    """The params of the run, or where these were no better on what it held out, those with which the network says nothing."""
    if loaded.loss is not None and loaded.loss < float(loaded.memory["start"]):
        return loaded.params, ""
    remark = "the network was no better than its linear start on the rows held out, and is left out\n"
    return start_of(*network_of(loaded.settings, loaded.memory)), remark


def lines(found: Forecast, sheet: Sheet) -> list[list[Any]]:
    """The header, and the rows of each series."""
    horizon, columns, levels = len(found.mean), len(sheet.targets), range(len(found.levels))
    head = [f"{name}_{level:g}" for name in sheet.targets for level in found.levels]
    table: list[list[Any]] = [[sheet.date or "row", *([sheet.series] if sheet.series else []), *head]]
    for b, block in enumerate(sheet.blocks):
        for h, date in enumerate(written_dates(sheet.ahead(block, horizon), sheet.zone)):
            said = [found.quantiles[q, h, b * columns + c] for c in range(columns) for q in levels]
            forms = [form for form in sheet.forms for _ in levels]
            name = [block.name] if sheet.series else []
            table.append([date, *name, *(number(value, form) for value, form in zip(said, forms))])
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax forecast``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run with --horizon")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="newer rows, of the same columns, that follow on from those of the run; rows to come, the target left empty, tell what "
        "--known columns will be",
    )
    parser.add_argument("--paths", type=count, default=500, metavar="N", help="paths of --mode recursive (default 500)")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="seed of the paths (default 0)")
