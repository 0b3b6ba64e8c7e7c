"""The command ``rnnjax``: train, sample, predict, eval, export, tasks, bench."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import rnnjax
from rnnjax import _signals
from rnnjax.cli.errors import BadInput

EXAMPLES = """examples:
  rnnjax train                             a model of Python's manual, a minute
  rnnjax train --data book.txt --cell gru  the same on your text
  rnnjax train --data prices.csv           forecast its columns, one step ahead
  rnnjax train --data sales.csv --date ds --target y --horizon 24
                                           forecast 24 rows of y, with quantiles
  rnnjax train --data reviews.csv --text review --label mood
                                           learn the classes of a column
  rnnjax train --task addition             a recipe; rnnjax tasks lists them
  rnnjax sample rnnjax-runs/python-docs-lstm-1 --prompt "The "
  rnnjax eval rnnjax-runs/python-docs-lstm-1
"""

LOST = ("Gloo ", "coordination service", "NCCL")  # in what JAX says where a process of several dies


class _Parser(argparse.ArgumentParser):
    """Errors as one sentence in place of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from rnnjax import __version__
    from rnnjax.cli import (
        bench,
        distributed,
        evaluate,
        export,
        flags,
        forecast,
        predict,
        sample,
        tasks,
        train,
    )

    top = _Parser(prog="rnnjax", description="Recurrent networks in JAX.", epilog=EXAMPLES)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--version", action="version", version=f"rnnjax {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, module: object, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        added.set_defaults(run=module.run, parser=added)  # type: ignore[attr-defined]
        return added

    into = command("train", train, "train on a text or a table, by default on Python's own documentation")
    flags.add_arguments(into)
    flags.add_run_arguments(into.add_argument_group("this run"))
    distributed.add_arguments(into.add_argument_group("several processes"))
    tasks.add_train_arguments(into.add_argument_group("recipes"))
    sample.add_arguments(command("sample", sample, "let a trained network write, or forecast the rows to come"))
    forecast.add_arguments(command("forecast", forecast, "print the rows to come, with quantiles, as CSV"))
    predict.add_arguments(command("predict", predict, "say the class of each sequence in a file"))
    evaluate.add_arguments(command("eval", evaluate, "measure a trained network on its held-out data again"))
    tasks.add_arguments(command("tasks", tasks, "list the recipes for `train --task`, and what they reach"))
    export.add_arguments(
        command("export", export, "write a trained network for other programs: ONNX, StableHLO, safetensors")
    )
    bench.add_arguments(command("bench", bench, "time rj.scan against jax.lax.scan on this machine"))
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 done, 1 diverged, 2 bad input, 128 + signal interrupted and saved."""
    status = _run(sys.argv[1:] if argv is None else argv)
    _signals.over(status)
    return status


def _run(argv: list[str]) -> int:
    _print_any_text()
    if _signals.watching():  # this process is the command
        warnings.showwarning = _show_warning
    if not argv:
        parser().print_help(sys.stderr)
        return 2
    args, unknown = parser().parse_known_args(argv)
    if unknown:
        args.parser.error(_unrecognized(args, unknown))
    doubt = _doubt(args)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return _say(doubt, status) if doubt and not status else status
    except BrokenPipeError:  # `rnnjax sample DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        safe = "; what the last checkpoint holds is safe" if hasattr(args, "resume") else ""
        return _say(f"interrupted{safe}", 128 + (error.args[0] if error.args else signal.SIGINT))
    except FloatingPointError as error:
        return _say(str(error), 1)
    except Exception as error:
        if _signals.received:  # the terminal is gone, or libraries took what came for an error of theirs
            return 128 + _signals.received[0]
        sentence = explain(error)
        if sentence is None:
            raise
        return _say(sentence, 2)


def _doubt(args: argparse.Namespace) -> str | None:
    """Of the run that is read or gone on with; told once all went well, as what fails has a sentence of its own."""
    from rnnjax.cli import folder

    run = getattr(args, "folder", None) or (getattr(args, "resume", False) and args.out)
    return folder.doubt(Path(run)) if run else None


def _print_any_text() -> None:
    """A terminal or a pipe that knows fewer letters than the text shows ``?`` for the others."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *where: Any) -> None:
    """One line, as everything the command says; what other libraries warn of with its place, as Python does."""
    ours = filename.startswith(os.path.dirname(rnnjax.__file__))
    text = f"rnnjax: {message}\n" if ours else warnings.formatwarning(message, category, filename, where[0])
    print(text, end="", file=sys.stderr)


def _unrecognized(args: argparse.Namespace, unknown: list[str]) -> str:
    """One sentence on flags that do not exist; a file without its flag is the likeliest slip."""
    file = next((name for name in unknown if hasattr(args, "data") and os.path.exists(name)), None)
    return f"unrecognized arguments: {' '.join(unknown)}" + (f"; data are given as --data {file}" if file else "")


def explain(error: Exception) -> str | None:
    """One sentence for an error that is not ours to fix; None for a defect, which deserves its traceback."""
    from rnnjax.cli.roll_call import WHY
    from rnnjax.data import DataError
    from rnnjax.lock import Busy
    from rnnjax.train.checkpoint import Damaged, OtherFormat, OtherShape

    if isinstance(error, (BadInput, DataError, Damaged, OtherFormat, OtherShape, Busy)):
        return str(error)
    text = str(error)
    if any(name in text for name in LOST):
        return WHY
    if isinstance(error, ImportError) and "pip install" in text:
        return text
    if isinstance(error, OSError):
        full = (
            error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in text or "too large" in text
        )
        plain = f"{error.strerror} ({error.filename})" if error.strerror and error.filename else text.splitlines()[0]
        if full:
            return "cannot write the run: the disk is full; what was written before is kept, make room, then go on by --resume"
        return f"cannot read or write the run: {plain}; mend that and go on by --resume, or give another folder"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return "not enough memory for this network; try a smaller --hidden, --layers, --batch or --time"
    return None


def _say(sentence: str, status: int) -> int:
    print(f"rnnjax: {sentence}", file=sys.stderr)
    return status
