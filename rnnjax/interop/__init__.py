"""Weights from and to other libraries, safetensors files, and exported artefacts. Each library is imported when used."""

from rnnjax.interop.equinox_cells import from_equinox, to_equinox
from rnnjax.interop.exporting import Exported, export, load_exported
from rnnjax.interop.flax_linen import from_flax, to_flax
from rnnjax.interop.flax_nnx import from_nnx, to_nnx
from rnnjax.interop.haiku_cores import from_haiku, to_haiku
from rnnjax.interop.keras_models import from_keras
from rnnjax.interop.keras_write import to_keras
from rnnjax.interop.memoryless import Dense, Pointwise, Table
from rnnjax.interop.models import Model
from rnnjax.interop.onnx_read import from_onnx
from rnnjax.interop.onnx_write import to_onnx
from rnnjax.interop.packed import PackedLSTM, from_packed, to_packed
from rnnjax.interop.tensor_files import load_safetensors, save_safetensors
from rnnjax.interop.torch_modules import from_torch, to_torch

__all__ = [
    "Dense",
    "Exported",
    "Model",
    "PackedLSTM",
    "Pointwise",
    "Table",
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
