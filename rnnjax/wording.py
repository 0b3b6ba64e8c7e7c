"""Words of messages."""

from __future__ import annotations


def counted(count: float, what: str) -> str:
    """How many there are of something, with its plural.

    >>> counted(1, "row"), counted(3, "row"), counted(0.5, "second")
    ('1 row', '3 rows', '0.5 seconds')
    """
    number = str(count) if isinstance(count, int) else f"{count:g}"
    return f"{number} {what if count == 1 else what + 's'}"
