"""Artefacts that run without this library: `jax.export` of a whole sequence, of one step, and of the start."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rnnjax.layers import as_layer
from rnnjax.protocols import input_axes
from rnnjax.wrappers.learned_carry import as_dicts, shaped_like

PLATFORMS = ("cpu", "cuda", "tpu")
SUFFIX = ".jaxexport"
DIGESTS = "sha256.txt"  # as `sha256sum` writes and checks them; parts of earlier versions have none


class Exported(NamedTuple):
    """Three `jax.export.Exported`, the weights inside; call each with ``.call(...)``. Carries are nested dicts by name.

    sequence: ``(xs) -> (carry, ys)``, ``xs [T, *B, I]``; with ``lengths`` ``(xs, lengths)``. step: ``(carry, x) -> (carry, y)``.
    start: ``(x) -> carry``, the carry before the first step, for one step's input ``x [*B, I]``.
    """

    sequence: jax.export.Exported
    step: jax.export.Exported
    start: jax.export.Exported

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``sequence.jaxexport``, ``step.jaxexport``, ``start.jaxexport``: each a `jax.export.deserialize` away from use.

        ``sha256.txt``, written last, has their digests: JAX notices no changed weight, and damaged StableHLO may end the process.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        parts = {name + SUFFIX: bytes(exported.serialize()) for name, exported in self._asdict().items()}
        for name, content in parts.items():
            (folder / name).write_bytes(content)
        (folder / DIGESTS).write_bytes(b"".join(_digest(name, content) for name, content in parts.items()))


def export(
    layer: Any, params: Any, x: Any, platforms: Sequence[str] = PLATFORMS, *, lengths: bool = False, **how: Any
) -> Exported:
    """A layer (or cell) with its parameters as `jax.export` artefacts, batch and time symbolic, for several platforms.

    x: ONE step's input ``[*B, I]`` or its ShapeDtypeStruct; every batch axis of it becomes symbolic, T too.
    lengths: the sequence takes ``(xs, lengths)``, int32 ``[*B]``. how: other arguments of `rnnjax.unroll` that fit any length
    (``time_axis``, ``truncate``, ``unroll``). Without a key, so noise is off. The artefacts are StableHLO
    (``exported.sequence.mlir_module()``), run wherever JAX runs, and need neither rnnjax nor the parameters; JAX keeps them
    loadable for six months at least.
    A layer that reads backward (`Bidirectional`) has no step that knows the future: its step runs both directions on one input.
    Errors: ValueError for an unknown platform or one without lowering, TypeError for what is no cell or layer.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> layer, x = rj.RNN(rj.GRU(4)), jnp.ones((2, 3))
    >>> exported = export(layer, layer.init(jax.random.key(0), x), x)
    >>> carry, ys = exported.sequence.call(jnp.ones((7, 5, 3)))
    >>> ys.shape, exported.sequence.platforms
    ((7, 5, 4), ('cpu', 'cuda', 'tpu'))
    """
    layer = as_layer("export", layer)
    unknown = [p for p in platforms if p not in (*PLATFORMS, "rocm")]
    if unknown or not platforms:
        raise ValueError(f"export: platforms must be of {', '.join(PLATFORMS)}, rocm, got {list(platforms)}")
    shapes = _symbolic(layer, x, how.get("time_axis", 0))
    like = jax.eval_shape(layer.initial_carry, params, shapes["x"])
    carry = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), as_dicts(like))

    def sequence(xs: Any, *lengths: Any) -> Any:
        last, ys = layer(params, xs, **how, **({"lengths": lengths[0]} if lengths else {}))
        return as_dicts(last), ys

    def step(carry: Any, x: Any) -> Any:
        one = {**how, "time_axis": 0}
        last, ys = layer(params, jax.tree.map(lambda a: a[None], x), carry=shaped_like(like, carry), **one)
        return as_dicts(last), jax.tree.map(lambda y: y[0], ys)

    def start(x: Any) -> Any:
        return as_dicts(layer.initial_carry(params, jax.tree.map(jax.numpy.zeros_like, x)))

    def lower(function: Any, *args: Any) -> Any:
        return jax.export.export(jax.jit(function), platforms=tuple(platforms))(*args)

    extra = (shapes["lengths"],) if lengths else ()
    return Exported(lower(sequence, shapes["xs"], *extra), lower(step, carry, shapes["x"]), lower(start, shapes["x"]))


def load_exported(directory: str | os.PathLike[str]) -> Exported:
    """What `Exported.save` wrote. Errors: ValueError for a file that is missing, cut short, changed or something else."""
    folder = Path(directory)
    known = (folder / DIGESTS).read_bytes().splitlines(keepends=True) if (folder / DIGESTS).exists() else None
    return Exported(**{name: _loaded(folder / (name + SUFFIX), known) for name in Exported._fields})


def _loaded(path: Path, known: list[bytes] | None) -> jax.export.Exported:
    """One part, if its digest is ``known``; nothing is parsed that differs. Raises: ValueError."""
    if not path.exists():
        raise ValueError(f"load_exported: {path.parent} has no {path.name}; write it with export(...).save")
    content, broken = path.read_bytes(), f"load_exported: {path} is not a whole jax.export artefact: "
    if known is not None and _digest(path.name, content) not in known:
        raise ValueError(f"{broken}its SHA-256 is not the one in {DIGESTS}; put both back, or export again")
    try:
        return jax.export.deserialize(bytearray(content))
    except Exception as error:
        raise ValueError(broken + " ".join(repr(error).split())[:300]) from None


def _digest(name: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _symbolic(layer: Any, x: Any, time_axis: int) -> dict[str, Any]:
    """Shapes of one step, of a sequence and of lengths, with time "t" and batch axes "b", "b1", ... symbolic."""
    features = _feature_axes(layer)
    ndim = max(len(leaf.shape) for leaf in jax.tree.leaves(x)) - features
    names = ["t", *(f"b{k}" if k else "b" for k in range(ndim))]
    time, *batch = jax.export.symbolic_shape(", ".join(names)) if ndim else jax.export.symbolic_shape("t")

    def one(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((*batch, *leaf.shape[ndim:]), leaf.dtype)

    def all_steps(leaf: Any) -> Any:
        shape = list(one(leaf).shape)
        return jax.ShapeDtypeStruct((*shape[:time_axis], time, *shape[time_axis:]), leaf.dtype)

    lengths = jax.ShapeDtypeStruct(tuple(batch), jax.numpy.int32)
    return {"x": jax.tree.map(one, x), "xs": jax.tree.map(all_steps, x), "lengths": lengths}


def _feature_axes(layer: Any) -> int:
    """How many axes of one step's input are no batch axes: 1, or more for cells on images."""
    if hasattr(layer, "layers"):
        return _feature_axes(layer.layers[0])
    return input_axes(layer.cell)
