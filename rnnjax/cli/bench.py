"""``rnnjax bench``."""

from __future__ import annotations

import argparse
import importlib


def run(args: argparse.Namespace) -> int:
    """Times the library against its peers."""
    importlib.import_module("rnnjax.bench").run()
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax bench``."""
