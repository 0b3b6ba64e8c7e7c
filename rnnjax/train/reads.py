"""The parameters of primitives that `rows` asks for, one reader each: a JAX release that renames one is mended here."""

from __future__ import annotations

from typing import Any

from rnnjax import _jax


@_jax.recognised
def reduced_axes(params: dict) -> tuple[int, ...]:
    """The axes that a reduction, `argmax` or `argmin` takes away."""
    return tuple(params["axes"])


@_jax.recognised
def dropped_axes(params: dict) -> tuple[int, ...]:
    """The axes that `squeeze` takes away, or that `rev` turns round."""
    return tuple(params["dimensions"])


@_jax.recognised
def broadcast_axes(params: dict) -> tuple[int, ...]:
    """Where `broadcast_in_dim` puts each axis of its operand."""
    return tuple(params["broadcast_dimensions"])


@_jax.recognised
def permutation(params: dict) -> tuple[int, ...]:
    """Which axis of its operand each axis of a `transpose` is."""
    return tuple(params["permutation"])


@_jax.recognised
def along_axis(params: dict) -> int:
    """The axis along which `cumsum`, `sort`, `top_k` and the like work, or along which `iota` counts."""
    return int(params["axis"] if "axis" in params else params["dimension"])


@_jax.recognised
def padding(params: dict) -> tuple[tuple[int, int, int], ...]:
    """(low, high, interior) of each axis of `pad`."""
    return tuple(params["padding_config"])


@_jax.recognised
def sizes_sliced(params: dict) -> tuple[int, ...]:
    """The sizes of what `dynamic_slice` and `gather` take."""
    return tuple(params["slice_sizes"])


@_jax.recognised
def gather_axes(params: dict) -> tuple[tuple, tuple, tuple, tuple]:
    """(offset axes of the result, collapsed axes, batch axes of the operand, of the indices) of `gather`."""
    form = params["dimension_numbers"]
    return (
        tuple(form.offset_dims),
        tuple(form.collapsed_slice_dims),
        tuple(form.operand_batching_dims),
        tuple(form.start_indices_batching_dims),
    )


@_jax.recognised
def scatter_axes(params: dict) -> tuple[tuple, tuple, tuple, tuple]:
    """(window axes of the updates, inserted axes, axes that the indices count, batch axes of the operand) of `scatter`."""
    form = params["dimension_numbers"]
    return (
        tuple(form.update_window_dims),
        tuple(form.inserted_window_dims),
        tuple(form.scatter_dims_to_operand_dims),
        tuple(form.operand_batching_dims),
    )


@_jax.recognised
def fft_axes(params: dict) -> int:
    """How many of the last axes `fft` transforms."""
    return len(params["fft_lengths"])


@_jax.recognised
def convolution_rows(params: dict) -> tuple[int, int, bool]:
    """(axis of the batch in the operand, in the result, whether the batch is one group) of a convolution."""
    form = params["dimension_numbers"]
    return form.lhs_spec[0], form.out_spec[0], params["batch_group_count"] == 1


@_jax.recognised
def branches(params: dict) -> tuple:
    """The closed jaxprs of a `cond`; its first operand says which one runs."""
    return tuple(params["branches"])


@_jax.recognised
def while_parts(params: dict) -> tuple[Any, int, Any, int]:
    """(condition, its number of constants, body, its number of constants) of a `while`."""
    return params["cond_jaxpr"], params["cond_nconsts"], params["body_jaxpr"], params["body_nconsts"]


@_jax.recognised
def called(params: dict) -> Any:
    """The closed jaxpr of a checkpoint or of a call with a derivative rule of its own."""
    return params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
