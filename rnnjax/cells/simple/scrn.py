"""SCRN: a simple network beside units that forget slowly."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax

from rnnjax import initializers
from rnnjax.base import (
    Key,
    cell,
    check_input,
    check_rate,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


class SCRNCarry(NamedTuple):
    """h ``[*B, H]``: the hidden layer. s ``[*B, C]``: the context, a running average of inputs."""

    h: jax.Array
    s: jax.Array


@published(family="simple", paper="Mikolov et al. 2014, arXiv:1412.7753", year=2014)
@cell
class SCRN:
    """Structurally constrained recurrent network: part of the recurrence is fixed near the identity.

    ``s_t = (1 - alpha) x_t B + alpha s_{t-1}``; ``h_t = sigmoid(s_t P + x_t A + h_{t-1} R)``; ``y_t = h_t U + s_t V``.

    features: H, and the width of y unless ``outputs`` says otherwise. context: C, 40 in the paper. alpha: in [0, 1).
    params: ``input`` A ``[I, H]``, ``recurrent`` R ``[H, H]``, ``context_input`` B ``[I, C]``, ``context`` P ``[C, H]``,
    ``output`` U ``[H, O]``, ``context_output`` V ``[C, O]``; no biases, as in the paper. carry: ``SCRNCarry(h, s)``. y: ``[*B, O]``,
    before the paper's softmax.
    Start: R orthogonal, the rest lecun. Errors: ValueError/TypeError for bad sizes, alpha or shapes.
    Source: Mikolov, Joulin, Chopra, Mathieu, Ranzato 2014, Learning longer memory in recurrent networks, arXiv:1412.7753.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.SCRN(4, context=2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.s.shape, ys.shape
    ((2,), (5, 4))
    """

    features: int
    _: KW_ONLY
    context: int = 40
    alpha: float = 0.95
    outputs: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_rate("SCRN", "alpha", self.alpha)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        i, h, c, o = x.shape[-1], self.features, self.context, self.outputs or self.features
        shapes = {"input": (i, h), "recurrent": (h, h), "context_input": (i, c), "context": (c, h)}
        shapes |= {"output": (h, o), "context_output": (c, o)}
        start = {"recurrent": initializers.orthogonal}
        keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
        return {name: start.get(name, initializers.lecun)(k, shape, param_dtype(x)) for (name, shape), k in keys}

    def initial_carry(self, params: Any, x: Any) -> SCRNCarry:
        return SCRNCarry(zeros_like_step(params, x, self.features), zeros_like_step(params, x, self.context))

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[SCRNCarry, jax.Array]:
        weights = ("input", "recurrent", "context_input", "context", "output", "context_output")
        check_step(self, params, carry, x, weights, SCRNCarry, parts=((self.features,), (self.context,)))
        h, s = carry
        s = (1 - self.alpha) * (x @ params["context_input"]) + self.alpha * s
        h = jax.nn.sigmoid(s @ params["context"] + x @ params["input"] + h @ params["recurrent"])
        return SCRNCarry(h, s), h @ params["output"] + s @ params["context_output"]
