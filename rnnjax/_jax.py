"""Everything that is not public JAX, in one place: a new JAX release is one file to mend.

Known changes handled here: `ClosedJaxpr` merges into `Jaxpr` in JAX 0.12; `Primitive.get_bind_params` returns a dict
since 0.10 and a pair `(subfuns, params)` before; the mesh axes of a type are `manual_axis_type` in 0.10, `vma` before.
"""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend import core as jex_core
from jax.interpreters import ad, batching, mlir

Literal = jex_core.Literal
Primitive = jex_core.Primitive

__all__ = [
    "Literal",
    "Primitive",
    "ShapedArray",
    "bind",
    "in_shardings_given",
    "is_jaxpr",
    "low_product_p",
    "open_jaxpr",
    "source_line",
    "struct",
    "sub_jaxprs",
    "tangent_dtype",
    "vary_over",
    "varying_axes",
]


def open_jaxpr(closed: Any) -> tuple[Any, list]:
    """(jaxpr, its constants) of a closed jaxpr, or of the merged class of JAX 0.12."""
    return getattr(closed, "jaxpr", closed), list(getattr(closed, "consts", ()))


def is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def sub_jaxprs(params: dict) -> list:
    """The jaxprs among an equation's parameters."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if is_jaxpr(item):
                found.append(open_jaxpr(item)[0])
    return found


def bind(primitive: Any, params: dict, values: list, context: Any = None, low: Any = None) -> list:
    """Apply a primitive to values; always a list of results. `low`: a product on operands of that dtype."""
    if low is not None:
        return [low_product_p.bind(*values, inner=primitive, form=tuple(sorted(params.items())), low=low)]
    bound = primitive.get_bind_params(params)
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)
    manager = getattr(context, "manager", None)
    with manager if manager is not None else contextlib.nullcontext():
        out = primitive.bind(*subfuns, *values, **params)
    return list(out) if primitive.multiple_results else [out]


def in_shardings_given(params: dict) -> bool:
    """Whether a nested jit asks for shardings, layouts or a mesh: such a jit is left alone."""
    asked = [*params.get("in_shardings", ()), *params.get("out_shardings", ())]
    return any(type(s).__name__ != "UnspecifiedValue" for s in asked)


def source_line(eqn: Any) -> str:
    """`file.py:12 (function)` of the user's line behind an equation, or an empty string."""
    try:
        from jax._src import source_info_util

        return source_info_util.summarize(eqn.source_info).rsplit("/", 1)[-1]
    except Exception:  # a description only: never worth failing for
        return ""


def varying(aval: Any) -> frozenset:
    """The mesh axes over which a value varies inside `shard_map`."""
    kind = getattr(aval, "manual_axis_type", None)
    return getattr(aval, "vma", frozenset()) if kind is None else kind.varying


def struct(aval: Any) -> Any:
    """What to trace with in place of a value: inside `shard_map` a value, as its mesh is part of its type."""
    return zeros(aval) if varying(aval) else jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def zeros(aval: Any) -> jax.Array:
    """Zeros of a value's shape and dtype that vary where it does."""
    made = jax.numpy.zeros(aval.shape, aval.dtype)
    return jax.lax.pcast(made, tuple(varying(aval)), to="varying") if varying(aval) else made


def tangent_dtype(dtype: Any) -> Any:
    """The dtype of a tangent, or `float0` where there is none (integers, booleans, keys)."""
    if jax.dtypes.issubdtype(dtype, np.inexact):
        return dtype
    return jax.dtypes.float0


def varying_axes(*arrays: Any) -> frozenset:
    """The mesh axes over which any of the arrays differs between devices inside `jax.shard_map`; empty outside."""
    axes = frozenset()
    for array in arrays:
        kind = jax.typeof(array)
        manual = getattr(kind, "manual_axis_type", kind)  # JAX < 0.10 keeps them on the type itself, as `vma`
        axes |= getattr(manual, "varying", getattr(manual, "vma", frozenset()))
    return axes


def vary_over(array: Any, axes: frozenset) -> Any:
    """The same values, typed as differing over ``axes``: a loop's carry must keep its type."""
    missing = tuple(axes - varying_axes(array))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


# --- products on operands of another dtype, in every derivative too

low_product_p = Primitive("low_product")  # inner(*(operand as low)), with sums and result in the dtype of inner


def _low_product(a: Any, b: Any, *, inner: Any, form: tuple, low: Any) -> Any:
    return inner.bind(jax.lax.convert_element_type(a, low), jax.lax.convert_element_type(b, low), **dict(form))


def _abstract(a: Any, b: Any, *, inner: Any, form: tuple, low: Any) -> Any:
    return inner.abstract_eval(a.update(dtype=np.dtype(low)), b.update(dtype=np.dtype(low)), **dict(form))[0]


def _with_low_products(f: Any, low: Any, *args: Any) -> list:
    """Run `f` with each of its products on operands of dtype `low`."""
    closed = jax.make_jaxpr(f)(*args)
    jaxpr, consts = open_jaxpr(closed)
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        product = eqn.primitive in (jax.lax.dot_general_p, jax.lax.conv_general_dilated_p)
        out = bind(eqn.primitive, eqn.params, [read(a) for a in eqn.invars], eqn.ctx, low if product else None)
        env.update(zip(eqn.outvars, out, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _transpose(side: int) -> Any:
    def rule(d: Any, a: Any, b: Any, *, inner: Any, form: tuple, low: Any) -> Any:
        unknown, other = ((a, b), (b, a))[side]

        def product(x, other):
            return inner.bind(*((x, other), (other, x))[side], **dict(form))

        def turn(d, other):
            return jax.linear_transpose(lambda x: product(x, other), unknown.aval)(d)

        return _with_low_products(turn, low, d, other)[0]

    return rule


def _batch(values: Any, dims: Any, *, inner: Any, form: tuple, low: Any) -> Any:
    f = jax.vmap(lambda a, b: inner.bind(a, b, **dict(form)), in_axes=tuple(dims))
    return _with_low_products(f, low, *values)[0], 0


low_product_p.def_impl(lambda *values, **params: jax.jit(lambda *v: _low_product(*v, **params))(*values))
low_product_p.def_abstract_eval(_abstract)
mlir.register_lowering(low_product_p, mlir.lower_fun(_low_product, multiple_results=False))
ad.defbilinear(low_product_p, _transpose(0), _transpose(1))
batching.primitive_batchers[low_product_p] = _batch
