"""What the forward loop stacks for the reverse loop, and how a block reads it back."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from rnnjax.engine.execute.batch import evaluate_stacked
from rnnjax.engine.execute.linear import Linear
from rnnjax.engine.graph import Var, evaluate, is_var, read, variables


@dataclasses.dataclass(frozen=True)
class Store:
    """What the forward loop stacks. A carry is its own output of the step before: it is stored once, and shifted."""

    linear: Linear
    consts: dict[Var, Any]
    stack: list[Var]
    hoisted: list[Var]  # hoisted values that are kept as they are
    shifted: dict[int, Var]  # which carry -> its value after the step

    @classmethod
    def of(cls, step: Linear, consts: dict[Var, Any]) -> Store:
        want = dict.fromkeys(v for v in variables(step.forward.keep) if v not in consts)
        inputs = {*step.ins.carry, *step.ins.hoisted}
        shifted = {
            n: after
            for n, (v, after) in enumerate(zip(step.ins.carry, step.outs.carry, strict=True))
            if v in want and is_var(after) and after not in inputs and (step.replay or after in want)
        }
        skip = {step.ins.carry[n] for n in shifted} | set(step.ins.hoisted)
        stack = dict.fromkeys([*(v for v in want if v not in skip), *shifted.values()])
        return cls(step, consts, list(stack), [v for v in step.ins.hoisted if v in want], shifted)

    def step(self, carry: list, x: list) -> tuple[list, list]:
        """One step of the forward loop."""
        env = {
            **self.consts,
            **dict(zip([*self.linear.ins.carry, *self.linear.ins.hoisted], [*carry, *x], strict=True)),
        }
        evaluate(self.linear.forward.eqns, env)
        return [jnp.asarray(read(env, a)) for a in self.linear.outs.carry], [env[v] for v in self.stack]

    def read(self, stacks: list, starts: list, hoisted: dict[Var, Any], time: Any) -> dict[Var, Any]:
        """The stacks over one block by value, those that are made again included; `hoisted`: the hoisted values, if so."""
        given = {**dict(zip([*self.stack, *self.hoisted], stacks, strict=True)), **hoisted}
        for (n, after), start in zip(self.shifted.items(), starts, strict=True):
            given[self.linear.ins.carry[n]] = shift(start, given[after], time.reverse)
        env, stacked = {**self.consts, **given}, set(given)
        evaluate_stacked(self.linear.replay, env, stacked)
        return {v: env[v] for v in stacked}

    def whole(self, atom: Any, stacks: list, init: list, time: Any) -> Any:
        """The stack of an emitted value over all of time."""
        given = dict(zip([*self.stack, *self.hoisted], stacks, strict=True))
        for n, after in self.shifted.items():
            if self.linear.ins.carry[n] is atom:
                return shift(init[n], given[after], time.reverse)
        return over_time(atom, given, self.consts, time.length)


def over_time(atom: Any, stacked: dict, env: dict, length: int) -> Any:
    """The stack of a value, the same at each step if it has none."""
    if is_var(atom) and atom in stacked:
        return stacked[atom]
    value = jnp.asarray(read(env, atom))
    return jnp.broadcast_to(value, (length, *value.shape))


def shift(start: Any, after: Any, reverse: bool) -> Any:
    """The carry before each step, from the carry before the first and that after each."""
    parts = [after[1:], start[None]] if reverse else [start[None], after[:-1]]
    return jnp.concatenate(parts)
