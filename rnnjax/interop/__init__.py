"""Weights from and to other libraries, safetensors files, and exported artefacts. Each library is imported when used."""

from rnnjax.interop.equinox import from_equinox, to_equinox
from rnnjax.interop.exporting import Exported, export, load_exported
from rnnjax.interop.haiku import from_haiku, to_haiku
from rnnjax.interop.keras import from_keras
from rnnjax.interop.keras_write import to_keras
from rnnjax.interop.linen import from_flax, to_flax
from rnnjax.interop.nnx import from_nnx, to_nnx
from rnnjax.interop.onnx_read import from_onnx
from rnnjax.interop.onnx_write import to_onnx
from rnnjax.interop.packed import PackedLSTM, from_packed, to_packed
from rnnjax.interop.safetensors import load_safetensors, save_safetensors
from rnnjax.interop.torch import from_torch, to_torch

__all__ = [
    "Exported",
    "PackedLSTM",
    "export",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_nnx",
    "from_onnx",
    "from_packed",
    "from_torch",
    "load_exported",
    "load_safetensors",
    "save_safetensors",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_nnx",
    "to_onnx",
    "to_packed",
    "to_torch",
]
