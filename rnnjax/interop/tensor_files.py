"""Parameters in safetensors files, under readable names: ``layer_0.forward.input``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnjax.interop.arrays import to_jax

Path = str | os.PathLike[str]
DEEPEST = 64  # a tree of params that JAX walks by recursion


def save_safetensors(path: Path, params: Any, metadata: dict[str, str] | None = None) -> None:
    """Writes a nested dict of arrays to a safetensors file, names joined by dots; dtypes kept, bfloat16 too.

    metadata: strings to store with them. Errors: TypeError for params that are not nested dicts of arrays, ValueError for a
    name with a dot in it or params without any array.

    >>> import pytest, tempfile, jax.numpy as jnp; _ = pytest.importorskip("safetensors")
    >>> path = tempfile.mkdtemp() + "/rnn.safetensors"
    >>> save_safetensors(path, {"layer_0": {"input": jnp.ones((3, 4))}})
    >>> load_safetensors(path)["layer_0"]["input"].shape
    (3, 4)
    """
    from safetensors.numpy import save_file

    flat = {name: np.array(a, order="C") for name, a in flatten(params).items()}
    save_file(flat, path, metadata)


def load_safetensors(path: Path, like: Any = None) -> Any:
    """Reads a safetensors file into a nested dict of arrays; the inverse of `save_safetensors`. Nothing is unpickled.

    like: params of the layer they are for (or their shapes: ``jax.eval_shape(layer.init, key, x)``): names, shapes and dtypes
    must be those. None takes whatever the file holds.
    Errors: ValueError naming the file and every missing, extra or misshapen tensor, with what was expected and what came;
    ValueError for a file that is not safetensors or is cut short; FileNotFoundError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            flat = {name: file.get_tensor(name) for name in file.keys()}
    except OSError:
        raise
    except SafetensorError as error:
        raise ValueError(
            f"load_safetensors: {os.fspath(path)} is not a whole safetensors file: {_line(error)}"
        ) from None
    except (
        Exception
    ) as error:  # of a type that numpy lacks: KeyError, AttributeError or TypeError, as the release has it
        raise ValueError(
            f"load_safetensors: {os.fspath(path)} holds a tensor that cannot be read: {_line(error)}"
        ) from None
    for name in flat:
        if not name.isprintable():
            raise ValueError(f"load_safetensors: {os.fspath(path)} has a tensor of the name {name[:80]!r}")
    if like is not None:
        _check(os.fspath(path), flat, flatten(like))
    return unflatten(os.fspath(path), to_jax("load_safetensors", flat))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:300]


def flatten(params: Any, prefix: str = "") -> dict[str, Any]:
    """``{"layer_0": {"input": a}}`` as ``{"layer_0.input": a}``."""
    if not isinstance(params, Mapping):
        raise TypeError(f"safetensors: params must be a nested dict of arrays, got {type(params).__name__}")
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if not isinstance(name, str) or "." in name or not name:
            raise ValueError(
                f"safetensors: names must be strings without dots, got {name!r} under {prefix or 'params'!r}"
            )
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            flat[prefix + name] = value
        else:
            raise TypeError(f"safetensors: {prefix + name} must be an array, got {type(value).__name__}")
    if not flat and not prefix:
        raise ValueError("safetensors: params hold no array")
    return flat


def unflatten(path: str, flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in sorted(flat.items()):
        *scope, leaf = name.split(".")
        if len(scope) >= DEEPEST:
            raise ValueError(
                f"load_safetensors: {path} has a tensor nested {len(scope)} deep, {DEEPEST} are read: {name[:80]!r}..."
            )
        inside = tree
        for part in scope:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise ValueError(f"load_safetensors: {path} has a tensor {name!r} inside another tensor's name")
        inside[leaf] = value
    return tree


def _check(path: str, flat: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Every difference between the file and what was expected, in one message."""
    describe = lambda a: f"{np.dtype(a.dtype)} {list(a.shape)}"
    wrong = [f"{name} is missing (expected {describe(a)})" for name, a in wanted.items() if name not in flat]
    wrong += [f"{name} is extra (got {describe(a)})" for name, a in flat.items() if name not in wanted]
    for name in sorted(flat.keys() & wanted.keys()):
        if describe(flat[name]) != describe(wanted[name]):
            wrong.append(f"{name}: expected {describe(wanted[name])}, got {describe(flat[name])}")
    if wrong:
        raise ValueError(f"load_safetensors: {path} does not fit: {'; '.join(wrong)}")
