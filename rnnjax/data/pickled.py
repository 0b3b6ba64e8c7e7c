"""Files of pickled arrays, read by a small machine that knows numbers, text, lists, dicts and arrays, and can call nothing.

`pickle.Unpickler` with names forbidden is not enough: what a damaged file has it do to arrays and to its own memory can end the process.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnjax.data.errors import DataError

BEGIN = b"\x93NUMPY\x01\x00"  # of a .npy file in version 1.0; then two bytes with the length of its header
KINDS = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[US][1-9]\d{0,5}|O8?")
ARRAY, DTYPE, ENCODE, EMPTY = "numpy ndarray", "numpy dtype", "_codecs encode", "multiarray _reconstruct"
NAMES = {ARRAY: ARRAY, DTYPE: DTYPE, ENCODE: ENCODE, f"numpy.core.{EMPTY}": EMPTY, f"numpy._core.{EMPTY}": EMPTY}


def objects(raw: bytes) -> Any:
    """What a ``.npy`` file of Python objects holds. Raises: DataError if it asks for anything else, or is damaged."""
    try:
        begin = len(BEGIN) + 2 + int.from_bytes(raw[len(BEGIN) : len(BEGIN) + 2], "little")
        if not raw.startswith(BEGIN) or b"'descr': '|O'" not in raw[:begin]:
            raise ValueError("it is no .npy file of Python objects, version 1.0")
        return _value(raw[begin:]).item()
    except DataError:
        raise
    except Exception as error:  # whatever a step met that does not fit what is there
        raise DataError(f"a file of arrays is damaged ({' '.join(f'{error!r}'.split())[:200]})") from None


class _Mark:
    """Where on the stack a list of values begins."""


class _Name(str):
    """Of something that `_made` makes."""


class _Kind:
    """A dtype, whose order of bytes comes later."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or not KINDS.fullmatch(code):
            raise ValueError(f"an array of type {str(code)[:20]!r}")
        self.code, self.order = code, "="

    def dtype(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


def _value(code: bytes) -> Any:
    """What the machine has on top of its stack when it stops."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for op, arg, _ in pickletools.genops(code):
        if op.name in PUSHED:
            stack.append(PUSHED[op.name](arg))
        elif op.name in STEPS:
            STEPS[op.name](stack)
        elif op.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if arg is None else arg] = stack[-1]
        elif op.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif op.name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"step {op.name} is not known")
    return stack[-1]


def _marked(stack: list[Any]) -> list[Any]:
    """All above the last mark, taken off with it."""
    at = next(i for i in reversed(range(len(stack))) if type(stack[i]) is _Mark)
    found = stack[at + 1 :]
    del stack[at:]
    return found


def _last(stack: list[Any], count: int) -> list[Any]:
    found = stack[-count:]
    del stack[-count:]
    return found


def _append(to: Any, values: list[Any]) -> None:
    if type(to) is not list:
        raise ValueError("values for what is no list")
    to.extend(values)


def _set(to: Any, values: list[Any]) -> None:
    if type(to) is not dict:
        raise ValueError("values by name for what is no dict")
    to.update(zip(values[::2], values[1::2], strict=True))


def _name(text: str) -> _Name:
    if text not in NAMES:
        raise DataError(f"a file of arrays asks for {text.replace(' ', '.')[:80]!r}, which is not made here")
    return _Name(NAMES[text])


def _made(what: Any, given: tuple[Any, ...]) -> Any:
    """The only calls there are: an empty array, a dtype, and text as bytes, which is how old pickles write them."""
    if type(what) is not _Name:
        raise ValueError("a call of what is not to be called")
    if what == EMPTY and given[0] == ARRAY:
        return np.ndarray(0, "u1")
    if what == DTYPE:
        return _Kind(*given)
    if what == ENCODE:
        return str(given[0]).encode("latin-1")
    raise ValueError(f"a call of {what}")


def _build(thing: Any, state: tuple[Any, ...]) -> Any:
    """A dtype gets its order of bytes, an empty array all that it holds."""
    if type(thing) is _Kind:
        thing.order = {"<": "<", ">": ">", "|": "=", "=": "="}[state[1]]
    elif type(thing) is np.ndarray:
        _, shape, kind, columns_first, content = state
        dtype, size = kind.dtype(), math.prod(shape)
        kept, whole = (list, size) if dtype.hasobject else (bytes, size * dtype.itemsize)
        if type(content) is not kept or len(content) != whole or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"an array of shape {str(shape)[:40]} with other content")
        thing.__setstate__((1, tuple(shape), dtype, bool(columns_first), content))  # type: ignore[arg-type]
    else:
        raise ValueError("a state for what has none")
    return thing


def _as_is(arg: Any) -> Any:
    return arg


PUSHED: dict[str, Callable[[Any], Any]] = {
    "NONE": _as_is,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _Mark(),
    "GLOBAL": _name,
}
PUSHED |= dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _as_is)
PUSHED |= dict.fromkeys(
    ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _as_is
)

STEPS: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "APPEND": lambda stack: _append(stack[-2], [stack.pop()]),
    "APPENDS": lambda stack: _append(*_with_marked(stack)),
    "SETITEM": lambda stack: _set(stack[-3], _last(stack, 2)),
    "SETITEMS": lambda stack: _set(*_with_marked(stack)),
    "STACK_GLOBAL": lambda stack: stack.append(_name(" ".join(_last(stack, 2)))),
    "REDUCE": lambda stack: stack.append(_made(*_last(stack, 2))),
    "BUILD": lambda stack: stack.append(_build(*_last(stack, 2))),
}
STEPS |= {f"TUPLE{n}": lambda stack, n=n: stack.append(tuple(_last(stack, n))) for n in (1, 2, 3)}


def _with_marked(stack: list[Any]) -> tuple[Any, list[Any]]:
    values = _marked(stack)
    return stack[-1], values
