"""ONNX files and tensors read with care: whatever a file says is checked before anything of that size is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FROM = "from_onnx"
TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
PACKED = 4  # at most so many elements in a byte, of ONNX's 2-bit types


@contextmanager
def said(what: str) -> Iterator[None]:
    """Whatever onnx, protobuf or numpy raise in here on a file that is not what it says becomes one sentence.

    OSError passes (no such file, no permission), and so does MemoryError: sizes are checked before.
    """
    try:
        yield
    except (OSError, MemoryError, Warning):
        raise
    except RecursionError:
        raise ValueError(
            f"{FROM}: {what}: it is nested, or leads through other values, deeper than can be followed"
        ) from None
    except Exception as error:  # onnx raises its own, protobuf's, RuntimeError, TypeError, UnicodeDecodeError and more
        reason = " ".join(str(error).split())[:1000]  # names in the file may hold anything
        if type(error) is ValueError and reason.startswith(f"{FROM}:"):
            raise ValueError(reason) from None
        raise ValueError(f"{FROM}: {what}: {type(error).__name__}{': ' + reason if reason else ''}") from None


def load(model: Any) -> Any:
    """A ModelProto with all its data. Raises: ValueError for what is no whole ONNX model, TypeError for another argument."""
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (bytes, str, os.PathLike)):
        raise TypeError(f"{FROM}: takes an onnx.ModelProto, its bytes or a path, got {type(model).__name__}")
    name = "the bytes" if isinstance(model, bytes) else os.fspath(model)
    with said(f"{name} is not a whole ONNX model"):
        if isinstance(model, bytes):
            loaded = onnx.load_model_from_string(model)
        else:
            loaded = onnx.load(os.fspath(model), format="protobuf", load_external_data=False)
            _load_outside(loaded, Path(model).parent)
        whole = bool(loaded.ir_version and loaded.graph.node and loaded.opset_import)
    if not whole:
        raise ValueError(f"{FROM}: {name} is not a whole ONNX model: it has no graph or no opset")
    return loaded


def _load_outside(model: Any, folder: Path) -> None:
    """The tensors that lie in files beside the model; in its folder, and as many bytes as there are."""
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

    for tensor in _tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        info = ExternalDataInfo(tensor)
        path = folder / str(info.location)
        inside = not os.path.isabs(info.location) and path.resolve().is_relative_to(folder.resolve())
        if not inside or path.is_symlink() or not path.is_file():
            raise ValueError(
                f"{FROM}: the tensor {tensor.name!r} must lie in a file in the folder of the model, got {info.location!r}"
            )
        size, begin = path.stat().st_size, int(info.offset or 0)
        length = size - begin if info.length is None else int(info.length)
        if begin < 0 or length < 0 or begin + length > size:
            raise ValueError(
                f"{FROM}: the tensor {tensor.name!r} must lie in the {size} bytes of {info.location!r}, got "
                f"bytes {begin} to {begin + length}"
            )
        load_external_data_for_tensor(tensor, os.fspath(folder))
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors of a graph and of those inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def to_array(tensor: Any) -> np.ndarray:
    """A tensor's numbers. Raises: ValueError naming it where they are not as many as its shape says, or no numbers."""
    from onnx import numpy_helper

    with said("a tensor cannot be read"):
        name, dims = tensor.name, tuple(tensor.dims)
    with said(f"the tensor {name!r} cannot be read"):
        if tensor.data_location == tensor.EXTERNAL:
            raise ValueError("it lies in another file; give the path of the model")
        stored = PACKED * max(len(tensor.raw_data), *(len(getattr(tensor, field)) for field in TYPED))
        if any(d < 0 for d in dims) or math.prod(dims) > stored:
            raise ValueError(f"its shape {dims} says more than what is stored")
        array = numpy_helper.to_array(tensor)
        if array.dtype == object or array.shape != dims:
            raise ValueError(f"numbers of shape {dims} expected, got {array.dtype} of shape {array.shape}")
    return array
