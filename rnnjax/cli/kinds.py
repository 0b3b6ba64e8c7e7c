"""What a flag of the command may be: each reads a text, or says what it must be."""

from __future__ import annotations

import argparse
from typing import Any


def count(text: str) -> int:
    """A positive whole number."""
    return _at_least(1, text)


def segments(text: str) -> str | None:
    """A positive whole number or ``sqrt``; None for ``none``."""
    return None if text == "none" else text if text == "sqrt" else str(count(text))


def natural(text: str) -> int:
    """A whole number, zero included."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if not least <= value < 2**31:
        raise argparse.ArgumentTypeError(f"must be at least {least} and below 2^31, got {value}")
    return value


def positive(text: str) -> float:
    """A finite positive number."""
    return _number(text, lambda value: 0 < value < float("inf"), "a positive number")


def decay(text: str) -> float:
    """A number in (0, 1)."""
    return _number(text, lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.999")


def share(text: str) -> float:
    """A number in [0, 1)."""
    return _number(text, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")


def shares(text: str) -> list[float]:
    """Increasing numbers between 0 and 1, with commas between."""
    found = [
        _number(part, lambda value: 0 < value < 1, "numbers between 0 and 1, as 0.1,0.5,0.9")
        for part in text.split(",")
    ]
    if any(a >= b for a, b in zip(found, found[1:])):
        raise argparse.ArgumentTypeError(f"must be increasing, got {text!r}")
    return found


def held_share(text: str) -> float:
    """A number above 0, of at most a half."""
    return _number(text, lambda value: 0 < value <= 0.5, "a number above 0, of at most 0.5")


def _number(text: str, good: Any, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not good(value):
        raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}")
    return value
