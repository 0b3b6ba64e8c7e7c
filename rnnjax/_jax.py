"""Everything that is not public JAX, in one place: a new JAX release is one file to mend.

The parameters of primitives belong here too: the rest of the library asks `dot_axes(params)` and never spells a key. What
is not recognised raises `Unsupported`, and the engine then runs `jax.lax.scan` as it is: speed is lost, not the answer.

Known changes handled here: `scan` says `num_consts` and `num_carry` up to JAX 0.10, `ft_in` and `ft_out` since 0.11;
`ClosedJaxpr` merged into `Jaxpr` in JAX 0.11.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend import core as jex_core
from jax.interpreters import ad, batching, mlir

Literal = jex_core.Literal
Primitive = jex_core.Primitive


class Unsupported(Exception):
    """Something that the engine does not know how to rewrite; found while deciding, never while running."""


def recognised(read: Callable) -> Callable:
    """A reader of what JAX made: what it stumbles over is `Unsupported`."""

    @functools.wraps(read)
    def reader(*args: Any) -> Any:
        try:
            return read(*args)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            name = read.__name__.replace("_", " ")
            raise Unsupported(f"JAX {jax.__version__} says {name} in a way unknown here: {error!r}") from error

    return reader


# --- jaxprs and their equations


def open_jaxpr(closed: Any) -> tuple[Any, list]:
    """(jaxpr, its constants) of a closed jaxpr, or of the merged class of JAX 0.12."""
    return getattr(closed, "jaxpr", closed), list(getattr(closed, "consts", ()))


def is_jaxpr(value: Any) -> bool:
    """Whether it is a jaxpr, open or closed."""
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def evaluate(closed: Any, *args: Any) -> list:
    """The flat results of a closed jaxpr."""
    return jex_core.jaxpr_as_fun(closed)(*args)


def sub_jaxprs(params: dict) -> list:
    """The jaxprs among an equation's parameters."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if is_jaxpr(item):
                found.append(open_jaxpr(item)[0])
    return found


def equations(jaxpr: Any) -> Iterator:
    """All equations of a jaxpr, those of nested jaxprs right after the one that holds them."""
    for eqn in jaxpr.eqns:
        yield eqn
        for sub in sub_jaxprs(eqn.params):
            yield from equations(sub)


CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "core_closed_call", "checkpoint", "remat", "remat2"}
    | {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
)


def same_results(closed: Any) -> list:
    """A name for every result of a jaxpr: two results have one name if they are one variable, nested calls inlined."""
    jaxpr = open_jaxpr(closed)[0]
    return _named(jaxpr, {v: v for v in jaxpr.invars}, ())


def handed_on(closed: Any) -> list[bool]:
    """For every input, whether the result at its place is that input, nested calls inlined."""
    return [name is v for name, v in zip(same_results(closed), open_jaxpr(closed)[0].invars)]


def _named(jaxpr: Any, names: dict, path: tuple) -> list:
    """`names`: of the inputs. `path`: through which calls this jaxpr is reached."""
    names, known = dict(names), lambda atom: object() if isinstance(atom, Literal) else names.get(atom, (path, atom))
    for n, eqn in enumerate(jaxpr.eqns):
        inner = _called(eqn) if eqn.primitive.name in CALLS else None
        if inner is not None:
            given = dict(zip(inner.invars, map(known, eqn.invars), strict=True))
            names.update(zip(eqn.outvars, _named(inner, given, (*path, n)), strict=True))
    return [known(atom) for atom in jaxpr.outvars]


def _called(eqn: Any) -> Any:
    """The jaxpr that a call runs on its operands as they are; None where there is none such."""
    fits = lambda j: len(j.invars) == len(eqn.invars) and len(j.outvars) == len(eqn.outvars)
    return next(filter(fits, sub_jaxprs(eqn.params)), None)


def opened_call(eqn: Any) -> tuple[Any, list] | None:
    """(jaxpr, constants) that a call runs on its operands as they are, without its rule of derivation; None where there is none."""
    if eqn.primitive.name not in CALLS:
        return None
    opened = [open_jaxpr(value) for value in eqn.params.values() if is_jaxpr(value)]
    fits = lambda j: len(j.invars) == len(eqn.invars) and len(j.outvars) == len(eqn.outvars)
    return next((pair for pair in opened if fits(pair[0])), None)


@dataclasses.dataclass(frozen=True)
class Loop:
    """What an equation of `scan` says."""

    body: Any  # the jaxpr of one step: constants, carry, xs -> carry, ys
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    unroll: int


@recognised
def loop_of_scan(eqn: Any) -> Loop:
    """A `scan` equation read; checked against the types of the body, as nothing else would tell a wrong reading."""
    params = eqn.params
    if "ft_in" in params:
        consts, carry, _ = params["ft_in"].update(list(eqn.invars)).unpack()
        n, m = len(list(consts)), len(list(carry))
    else:
        n, m = params["num_consts"], params["num_carry"]
    body = open_jaxpr(params["jaxpr"])[0]
    before, after = body.invars[n : n + m], body.outvars[:m]
    shapes = [v.aval.shape for v in eqn.invars]
    per_step = [v.aval.shape for v in body.invars]
    given = [s if k < n + m else s[1:] for k, s in enumerate(shapes)]
    if given != per_step or [v.aval.shape for v in before] != [v.aval.shape for v in after]:
        raise ValueError(f"{n} constants and {m} carries do not fit the types {shapes}, {per_step}")
    return Loop(params["jaxpr"], n, m, params["length"], bool(params["reverse"]), params["unroll"])


@recognised
def called(params: dict) -> Any:
    """The closed jaxpr of a nested `jit`, a checkpoint, or a call with a derivative rule of its own."""
    return params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]


def body_of_call(params: dict) -> tuple[Any, list]:
    """(jaxpr, constants) of a nested `jit`."""
    return open_jaxpr(called(params))


def ordered_effects(jaxpr: Any) -> bool:
    """Whether a jaxpr has effects that must be kept in order; to be inside a named axis is none."""
    return any(type(effect).__name__ != "NamedAxisEffect" for effect in jaxpr.effects)


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


def literal_value(literal: Any) -> Any:
    """The number of a literal, of a plain Python type where it came as one."""
    value = literal.val
    if isinstance(value, (bool, np.generic)):
        return value
    plain: Any = next((kind for kind in (int, float, complex) if isinstance(value, kind)), None)
    return value if plain is None else plain(value)


def in_shardings_given(params: dict) -> bool:
    """Whether a nested jit asks for shardings, layouts or a mesh: such a jit is left alone."""
    asked = [*params.get("in_shardings", ()), *params.get("out_shardings", ())]
    return any(type(s).__name__ != "UnspecifiedValue" for s in asked)


def named_axes() -> list[tuple[Any, int]]:
    """The axes that `vmap(axis_name=)` and `shard_map` have given names here, with their sizes; none where JAX hides them."""
    try:
        from jax._src import core

        return list(core.get_axis_env().axis_sizes.items())
    except (ImportError, AttributeError):  # then a rule that sums over an axis says that it is unbound
        return []


def inside_axes(axes: list[tuple[Any, int]]) -> Any:
    """A context in which these axes have their names: JAX runs a rule of differentiation when `vmap` is past."""
    missing = [axis for axis in axes if axis[0] not in dict(named_axes())]
    if not missing:
        return contextlib.nullcontext()
    from jax._src import core

    return core.extend_axis_env_nd(missing)


# --- the parameters of primitives


@recognised
def dot_axes(params: dict) -> tuple[tuple, tuple]:
    """((contracted lhs, rhs), (batch lhs, rhs)) of `dot_general`."""
    (lhs, rhs), (batch_lhs, batch_rhs) = params["dimension_numbers"]
    return (tuple(lhs), tuple(rhs)), (tuple(batch_lhs), tuple(batch_rhs))


def with_dot_axes(params: dict, contract: tuple, batch: tuple = ((), ())) -> dict:
    """The parameters of a `dot_general` over other axes."""
    return {**params, "dimension_numbers": (contract, batch)}


def with_result(params: dict, dtype: Any) -> dict:
    """The parameters of a product with sums and result in `dtype`."""
    return {**params, "preferred_element_type": dtype}


def placed(params: dict) -> bool:
    """Whether an equation says where its result lies."""
    return params.get("out_sharding") is not None


def form_of(params: dict) -> str:
    """What two products have in common when they differ in operands alone."""
    return str(sorted(params.items(), key=str))


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The form of a convolution. Axes: of the operand and the result (images, features, *space), of the kernel (outputs,
    inputs, *space). `spread`: the step between the operand's elements; `dilation`: that between the kernel's."""

    operand: tuple[int, ...]
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    spread: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: tuple[int, int]  # of features, of images
    precision: Any


@recognised
def convolution(params: dict) -> Convolution:
    """The form of a convolution."""
    operand, kernel, out = map(tuple, params["dimension_numbers"])
    strides, spread, dilation = (tuple(params[n]) for n in ("window_strides", "lhs_dilation", "rhs_dilation"))
    groups = params["feature_group_count"], params["batch_group_count"]
    padding = tuple(params["padding"])
    return Convolution(operand, kernel, out, strides, padding, spread, dilation, groups, params["precision"])


@recognised
def slice_bounds(params: dict) -> tuple[tuple, tuple, tuple]:
    """(starts, stops, strides) of `slice`."""
    starts, stops, strides = params["start_indices"], params["limit_indices"], params["strides"]
    return tuple(starts), tuple(stops), tuple(strides or (1,) * len(starts))


@recognised
def split_form(params: dict) -> tuple[tuple[int, ...], int]:
    """(sizes, axis) of `split`."""
    return tuple(params["sizes"]), params["axis"]


def split_params(sizes: tuple[int, ...], axis: int) -> dict:
    """The parameters of a `split`."""
    return {"sizes": sizes, "axis": axis}


@recognised
def concatenated(params: dict) -> int:
    """The axis of `concatenate`."""
    return params["dimension"]


def concatenate_params(axis: int) -> dict:
    """The parameters of a `concatenate`."""
    return {"dimension": axis}


def transpose_params(permutation: tuple[int, ...]) -> dict:
    """The parameters of a `transpose`."""
    return {"permutation": permutation}


@recognised
def broadcast_axes(params: dict) -> tuple[int, ...]:
    """Where `broadcast_in_dim` puts each axis of its operand."""
    return tuple(params["broadcast_dimensions"])


@recognised
def keeps_order(params: dict) -> bool:
    """Whether `reshape` reads its operand as it lies."""
    return params["dimensions"] is None


@recognised
def squeezed(params: dict) -> tuple[int, ...]:
    """The axes that `squeeze` drops."""
    return tuple(params["dimensions"])


@recognised
def permutation(params: dict) -> tuple[int, ...]:
    """The order of axes that `transpose` gives."""
    return tuple(params["permutation"])


@recognised
def reduced(params: dict) -> tuple[int, ...]:
    """The axes that a reduction takes together."""
    return tuple(params["axes"])


@recognised
def touched_axes(params: dict) -> tuple[int, ...]:
    """The axes along which a cumulative sum, a sort, a `rev` or an `iota` goes."""
    axes = next(params[name] for name in ("axis", "dimensions", "dimension") if name in params)
    return tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)


@recognised
def padded(params: dict) -> tuple[int, ...]:
    """The axes that `pad` changes."""
    return tuple(d for d, widths in enumerate(params["padding_config"]) if any(widths))


@recognised
def sizes_sliced(params: dict) -> tuple[int, ...]:
    """The sizes of what `dynamic_slice` and `gather` take."""
    return tuple(params["slice_sizes"])


@recognised
def gather_axes(params: dict) -> tuple[tuple, tuple, tuple, tuple]:
    """(offset axes of the result, collapsed axes, batch axes of the operand, of the indices) of `gather`."""
    form = params["dimension_numbers"]
    return (
        tuple(form.offset_dims),
        tuple(form.collapsed_slice_dims),
        tuple(form.operand_batching_dims),
        tuple(form.start_indices_batching_dims),
    )


@recognised
def scatter_axes(params: dict) -> tuple[tuple, tuple, tuple, tuple]:
    """(window axes of the updates, inserted axes, axes that the indices count, batch axes of the operand) of `scatter`."""
    form = params["dimension_numbers"]
    return (
        tuple(form.update_window_dims),
        tuple(form.inserted_window_dims),
        tuple(form.scatter_dims_to_operand_dims),
        tuple(form.operand_batching_dims),
    )


@recognised
def fft_axes(params: dict) -> int:
    """How many of the last axes `fft` transforms."""
    return len(params["fft_lengths"])


@recognised
def branches(params: dict) -> tuple:
    """The closed jaxprs of a `cond`; its first operand says which one runs."""
    return tuple(params["branches"])


@recognised
def while_parts(params: dict) -> tuple[Any, int, Any, int]:
    """(condition, its number of constants, body, its number of constants) of a `while`."""
    return params["cond_jaxpr"], params["cond_nconsts"], params["body_jaxpr"], params["body_nconsts"]


def of_shape(params: dict, shape: tuple[int, ...]) -> dict:
    """The parameters of a `broadcast_in_dim`, `reshape` or `iota` that makes another shape, or of a `slice` up to it."""
    name = next(name for name in ("shape", "new_sizes", "limit_indices") if name in params)
    return {**params, name: shape}


def placed_nowhere(params: dict) -> dict:
    """The parameters of an equation that does not say where its result lies."""
    return {name: None if name in ("sharding", "out_sharding") else value for name, value in params.items()}


def is_plain(context: Any) -> bool:
    """Whether an equation was traced under no `compute_on` and no metadata: it may move to another mesh."""
    return all(getattr(context, name, None) is None for name in ("compute_type", "xla_metadata"))


# --- types


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


def zeros(aval: Any) -> jax.Array:
    """Zeros of a value's type: its shape and dtype, placed and varying as it is."""
    return ad.zeros_like_aval(aval)


def no_tangent(value: Any) -> Any:
    """The tangent of what has none (integers, keys, what nothing that moves reaches), of the right type in `shard_map` too."""
    return SymbolicZero(jax.typeof(value).to_tangent_aval())


def partitioned(value: Any) -> bool:
    """Whether JAX or XLA may hold parts of a value on several devices: a mesh of explicit or automatic axes is about."""
    mesh = jax.typeof(value).sharding.mesh
    axes = zip(mesh.axis_types, mesh.axis_sizes, strict=True) if mesh.axis_names else ()
    return any(size > 1 and kind != jax.sharding.AxisType.Manual for kind, size in axes)


def splitting_axis(values: Any) -> tuple[Any, str, bool] | None:
    """(mesh, axis, whether types say what it splits) where one axis alone of the mesh that is about has several devices."""
    meshes = [
        jax.sharding.get_abstract_mesh(),
        *(jax.typeof(v).sharding.mesh for v in values if isinstance(v, jax.Array)),
    ]
    mesh = next((m for m in meshes if any(size > 1 for size in m.axis_sizes)), None)
    axes = [] if mesh is None else [n for n, size in enumerate(mesh.axis_sizes) if size > 1]
    if mesh is None or len(axes) != 1 or mesh.axis_types[axes[0]] == jax.sharding.AxisType.Manual:
        return None
    return mesh, mesh.axis_names[axes[0]], mesh.axis_types[axes[0]] == jax.sharding.AxisType.Explicit


def placement(value: Any) -> Any:
    """Where an array, or what its type stands for, is split by an explicit mesh; None where it is not."""
    sharding = (value if isinstance(value, (jax.ShapeDtypeStruct, ShapedArray)) else jax.typeof(value)).sharding
    spec = getattr(sharding, "spec", ())
    return sharding if any(axis is not None for axis in spec) else None


def meshes(avals: Iterable[Any]) -> set:
    """The meshes that types name; more than one where a part was traced for other kinds of axes, under `jax.sharding.auto_axes`."""
    found = (getattr(getattr(aval, "sharding", None), "mesh", None) for aval in avals)
    return {mesh for mesh in found if mesh is not None and not mesh.empty}


def step_type(stack: Any) -> jax.ShapeDtypeStruct:
    """The type of one step of a stack: without the leading axis, placed as the stack is."""
    at = placement(stack)
    where = None if at is None else jax.sharding.NamedSharding(at.mesh, jax.sharding.PartitionSpec(*at.spec[1:]))
    return jax.ShapeDtypeStruct(stack.shape[1:], stack.dtype, sharding=where)


def place_batch_as(array: Any, like: Any, batch: int) -> Any:
    """The same values, the first `batch` axes split by an explicit mesh as those of `like` are."""
    at = placement(like)
    if at is None or placement(array) is not None:
        return array
    return jax.reshard(array, jax.sharding.NamedSharding(at.mesh, jax.sharding.PartitionSpec(*at.spec[:batch])))


def place_as(array: Any, like: Any) -> Any:
    """The same values, split by an explicit mesh as `like` is."""
    at = placement(like)
    return array if at is None or placement(array) == at else jax.reshard(array, at)


def whole(array: Any) -> Any:
    """The same values, all of them on every device of an explicit mesh."""
    return array if placement(array) is None else jax.reshard(array, jax.sharding.PartitionSpec())


def perhaps_split(aval: Any, axis: int) -> bool:
    """Whether an axis of a value lies on several devices. An automatic mesh does not say: with two axes it may."""
    sharding = aval.sharding
    mesh = sharding.mesh
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True)) if mesh.axis_names else {}
    automatic = [n for n in mesh.axis_names if kinds[n] == jax.sharding.AxisType.Auto and mesh.shape[n] > 1]
    return len(automatic) > 1 or sharding.spec[axis] is not None


def tangent_dtype(dtype: Any) -> Any:
    """The dtype of a tangent, or `float0` where there is none (integers, booleans, keys)."""
    if jax.dtypes.issubdtype(dtype, np.inexact):
        return dtype
    return jax.dtypes.float0


def like(aval: Any) -> jax.ShapeDtypeStruct:
    """A stand-in for a value of this type, with its placement where types have one."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=placement(aval))


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


def _low_product_on_cpu(a: Any, b: Any, *, inner: Any, form: tuple, low: Any) -> Any:
    """XLA's CPU backend has no product of bfloat16 over the first axis of one matrix and the last of the other, and makes
    such of a weight's gradient: that one is taken in float32, of operands that are rounded alike."""
    last = a.ndim - 1
    of_rows = inner is jax.lax.dot_general_p and last not in dot_axes(dict(form))[0][0] and last > 0
    if not (of_rows and low == jnp.bfloat16 and a.dtype == b.dtype == jnp.float32):
        return _low_product(a, b, inner=inner, form=form, low=low)
    return inner.bind(*(jax.lax.reduce_precision(v, 8, 7) for v in (a, b)), **dict(form))


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


def inner_product(params: dict) -> tuple[Any, dict, Any]:
    """(the product's primitive, its parameters, the dtype of its operands)."""
    return params["inner"], dict(params["form"]), params["low"]


low_product_p.def_impl(lambda *values, **params: jax.jit(lambda *v: low_product_p.bind(*v, **params))(*values))
low_product_p.def_abstract_eval(_abstract)
mlir.register_lowering(low_product_p, mlir.lower_fun(_low_product, multiple_results=False))
mlir.register_lowering(low_product_p, mlir.lower_fun(_low_product_on_cpu, multiple_results=False), platform="cpu")
ad.defbilinear(low_product_p, _transpose(0), _transpose(1))
batching.primitive_batchers[low_product_p] = _batch


# --- equations of a linear map that can be batched first and transposed after

linear_p = Primitive("linear")  # call(*args), transposed by turn
linear_p.multiple_results = True
DELICATE = frozenset({"cond", "custom_lin", "custom_vjp_call", "custom_vjp_call_jaxpr"})


def delicate(primitive: Any, params: dict) -> bool:
    """Whether an equation of a linear map, once batched, is one that JAX cannot transpose: a custom rule, or a `cond`
    on an index of each lane. `lax.scan` is batched before it is made linear; the engine's loop is made linear first."""
    inner = (e.primitive.name for sub in sub_jaxprs(params) for e in equations(sub))
    return primitive.name in DELICATE or any(name in DELICATE for name in inner)


def as_linear(primitive: Any, params: dict, avals: list, outs: list, context: Any) -> tuple[Any, dict]:
    """The same equation, which `vmap` batches by batching its transpose too, instead of transposing what was batched."""

    def call(*args: Any) -> list:
        return bind(primitive, params, list(args), context)

    def turn(which: tuple[int, ...], given: list, cts: list) -> list:
        return list(jax.linear_transpose(with_given(call, which, given), *[avals[n] for n in which])(cts))

    return linear_p, dict(call=call, turn=turn, outs=tuple(outs))


def with_given(f: Callable, which: tuple[int, ...], given: list) -> Callable:
    """`f` as a function of the arguments at the places `which`; the others are given, in order."""

    def of(*some: Any) -> Any:
        args = list(given)
        for n, value in zip(which, some, strict=True):
            args.insert(n, value)
        return f(*args)

    return of


def _linear_jvp(primals: Any, tangents: Any, *, call: Callable, **_: Any) -> Any:
    which = tuple(n for n, t in enumerate(tangents) if not isinstance(t, ad.Zero))
    given = [p for n, p in enumerate(primals) if n not in which]
    return jax.jvp(with_given(call, which, given), [primals[n] for n in which], [tangents[n] for n in which])


def _linear_transpose(cts: Any, *args: Any, turn: Callable, **_: Any) -> list:
    which = tuple(n for n, a in enumerate(args) if ad.is_undefined_primal(a))
    given = [a for n, a in enumerate(args) if n not in which]
    found = iter(turn(which, given, [ad.instantiate_zeros(c) for c in cts]))
    return [next(found) if n in which else None for n in range(len(args))]


def _linear_batch(axis: Any, args: Any, dims: Any, *, call: Callable, turn: Callable, outs: tuple) -> Any:
    anonymous = type(axis.name) is object or type(axis.name).__name__ == "_TempAxisName"
    if anonymous and all(d is None for d in dims):
        return linear_p.bind(*args, call=call, turn=turn, outs=outs), [None] * len(outs)
    mesh_axis, size = axis.explicit_mesh_axis, axis.size
    args = [batching.bdim_at_front(a, d, size, mesh_axis) for a, d in zip(args, dims, strict=True)]
    name = None if anonymous else axis.name
    lanes = functools.partial(jax.vmap, axis_name=name, axis_size=size, spmd_axis_name=axis.spmd_name)

    def turn_all(which: tuple[int, ...], given: list, cts: list) -> list:
        return lanes(lambda g, c: turn(which, g, c))(given, cts)

    wide = tuple(with_lanes(a, size, mesh_axis) for a in outs)
    return linear_p.bind(*args, call=lanes(call), turn=turn_all, outs=wide), [0] * len(outs)


def with_lanes(aval: Any, size: int, mesh_axis: Any) -> Any:
    """The type of `size` values of a type, side by side along a new first axis."""
    spec = jax.sharding.PartitionSpec(mesh_axis, *aval.sharding.spec)
    return aval.update(shape=(size, *aval.shape), sharding=aval.sharding.update(spec=spec))


linear_p.def_impl(lambda *args, call, **_: call(*args))
linear_p.def_abstract_eval(lambda *_, outs, **__: list(outs))
mlir.register_lowering(linear_p, mlir.lower_fun(lambda *args, call, **_: call(*args), multiple_results=True))
ad.primitive_jvps[linear_p] = _linear_jvp
ad.primitive_transposes[linear_p] = _linear_transpose
batching.fancy_primitive_batchers[linear_p] = _linear_batch
