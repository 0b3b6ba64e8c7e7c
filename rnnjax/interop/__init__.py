"""Weights from and to other libraries, safetensors files, and exported artefacts. Each library is imported when used."""

from rnnjax.interop.torch import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
