"""A body, or a call inside one, cut down to a part of its examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnjax import _jax
from rnnjax.engine.examples import DERIVATIVES, Call
from rnnjax.engine.graph import Eqn, Graph, Var, is_var, read, run_eqn

Step = Callable[[list], list]


@dataclasses.dataclass(frozen=True)
class Cut:
    """How values are cut. axis_of: which axis counts examples, of those that have such. parts: how many there are.

    name: of the axis of the mesh that says which part this is. calls: those with a derivative rule of their own.
    """

    axis_of: dict[Var, int]
    parts: int
    name: str
    calls: dict[Eqn, Call]

    def graph(self, graph: Graph) -> Step:
        """`(consts, ins) -> outs`, flat, of one part."""
        steps = [(eqn, self.equation(eqn)) for eqn in graph.eqns]

        def run(values: list) -> list:
            env = dict(zip([*graph.consts, *graph.ins], values, strict=True))
            for eqn, step in steps:
                env.update(zip(eqn.outs, step(alike([read(env, a) for a in eqn.ins])), strict=True))
            return [read(env, a) if is_var(a) else jnp.asarray(read(env, a), a.aval.dtype) for a in graph.outs]

        return run

    def equation(self, eqn: Eqn) -> Step:
        """One equation: some say the shape they make, and the bits that one key gives are those of all examples."""
        if eqn in self.calls:
            return self.call(self.calls[eqn])
        axis = self.axis_of.get(eqn.outs[0]) if eqn.outs else None
        params = _jax.placed_nowhere(eqn.params)
        if axis is not None and eqn.name in ("broadcast_in_dim", "reshape", "iota"):
            params = _jax.of_shape(params, fraction(eqn.outs[0].shape, axis, self.parts))
        if axis is not None and eqn.name == "slice":
            params = _jax.of_shape(params, fraction(_jax.slice_bounds(params)[1], axis, self.parts))
        small = dataclasses.replace(eqn, params=params, context=None)
        if axis is not None and eqn.name == "random_bits" and axis >= len(eqn.ins[0].aval.shape):
            return lambda values: [self.own(v, axis) for v in run_eqn(small, values)]
        return lambda values: run_eqn(small, values)

    def own(self, whole: jax.Array, axis: int) -> jax.Array:
        """This part of a value."""
        size = whole.shape[axis] // self.parts
        return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(self.name) * size, size, axis)

    def call(self, call: Call) -> Step:
        """A call with a derivative rule of its own, and the rule."""
        inner = dataclasses.replace(self, calls=call.calls)
        value = closed(inner, call.value)
        rule = closed(inner, call.rule) if call.rule is not None else too_many
        moved = lambda values: [values[k] for k in call.floats]
        if call.forward:
            f = jax.custom_jvp(lambda *values: tuple(value([*values])))
            f.defjvp(lambda values, dots: (f(*values), tuple(rule([*values, *moved(dots)]))))
        else:
            f = jax.custom_vjp(lambda *values: tuple(value([*values])))

            def backward(values: tuple, dots: tuple) -> tuple:
                found = dict(zip(call.floats, rule([*values, *dots]), strict=True))
                return tuple(found.get(k) for k in range(len(values)))

            f.defvjp(lambda *values: (tuple(value([*values])), values), backward)
        return lambda values: list(f(*values))


def too_many(values: list) -> list:
    """In place of a rule that was not opened."""
    raise NotImplementedError(
        f"more than {DERIVATIVES} derivatives of a function with a derivative rule of its own (jax.custom_jvp, "
        "jax.custom_vjp), in a loop over a batch that a mesh splits; use fuse=False"
    )


def closed(cut: Cut, graph: Graph) -> Step:
    """`ins -> outs` of a graph whose constants hold no examples; the outs vary over the devices as the ins do."""
    if any(v in cut.axis_of for v in graph.consts):
        raise _jax.Unsupported("a constant inside a call with as many rows as there are examples")
    run, consts = cut.graph(graph), list(graph.consts.values())

    def of(ins: list) -> list:
        axes = _jax.varying_axes(*ins)
        return [_jax.vary_over(v, axes) if axes else v for v in run([*consts, *ins])]

    return of


def part(graph: Graph, num_carry: int, cut: Cut) -> Callable:
    """`body(consts, carry, x) -> (carry, y)` of one part of the examples."""
    run = cut.graph(graph)

    def body(consts: list, carry: list, x: list) -> tuple[list, list]:
        outs = run([*consts, *carry, *x])
        return outs[:num_carry], outs[num_carry:]

    return body


def alike(values: list) -> list:
    """The same values; where some differ between devices, all are typed as if they did."""
    axes = _jax.varying_axes(*values)
    return [_jax.vary_over(v, axes) for v in values] if axes else values


def fraction(shape: tuple[int, ...], axis: int, parts: int) -> tuple[int, ...]:
    """A shape with one axis divided."""
    return (*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])
