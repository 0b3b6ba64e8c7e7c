"""The three best cells of an evolutionary search over ten thousand: MUT1, MUT2, MUT3.

Jozefowicz, Zaremba, Sutskever 2015, An empirical exploration of recurrent network architectures, ICML. The paper adds x to
sums of size H (MUT1's ``tanh(x)``, MUT2's reset gate), its inputs being H wide; here x passes through W there, of which
the paper's form is the special case of the identity. Blocks of every weight: (update z, reset r, candidate h).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params, input_gates
from rnnjax.cells.shared.options import check_fields

WEIGHTS = ("input", "recurrent", "bias")


@published(family="GRU", paper="Jozefowicz, Zaremba, Sutskever 2015, ICML", year=2015)
@cell
class MUT1:
    """MUT1: an update gate that sees the input only.

    ``z = sigmoid(x W_z + b_z)``; ``r = sigmoid(x W_r + h U_r + b_r)``;
    ``h' = tanh((r h) U_h + tanh(x W_h) + b_h) z + h (1 - z)``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 3H]`` for (z, r, h), ``recurrent`` U ``[H, 2H]`` for (r, h), ``bias`` b ``[3H]``.
    carry: h ``[*B, H]``. The paper has ``tanh(x)``: W_h the identity.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Jozefowicz, Zaremba, Sutskever 2015, ICML.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MUT1(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 3, 2)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        xz, xr, xh = jnp.split(x @ params["input"], 3, axis=-1)
        bz, br, bh = jnp.split(params["bias"], 3)
        u_r, u_h = jnp.split(params["recurrent"], 2, axis=-1)
        z, r = jax.nn.sigmoid(xz + bz), jax.nn.sigmoid(xr + h @ u_r + br)
        h = jnp.tanh((r * h) @ u_h + jnp.tanh(xh) + bh) * z + h * (1 - z)
        return h, h


@published(family="GRU", paper="Jozefowicz, Zaremba, Sutskever 2015, ICML", year=2015)
@cell
class MUT2:
    """MUT2: a reset gate to which the input is added as it is.

    ``z = sigmoid(x W_z + h U_z + b_z)``; ``r = sigmoid(x W_r + h U_r + b_r)``;
    ``h' = tanh((r h) U_h + x W_h + b_h) z + h (1 - z)``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 3H]``, ``recurrent`` U ``[H, 3H]``, ``bias`` b ``[3H]``, blocks (z, r, h). carry: h ``[*B, H]``.
    The paper has ``r = sigmoid(x + h U_r + b_r)``: W_r the identity, which is where it starts here if I = H and is not learned
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    there. Start: other W lecun, U orthogonal, b zero. Source: Jozefowicz, Zaremba, Sutskever 2015, ICML.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MUT2(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params, h = gate_params(self, key, x, 3), self.features
        if x.shape[-1] != h:
            return params
        return params | {"input": params["input"].at[:, h : 2 * h].set(jnp.eye(h, dtype=param_dtype(x)))}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = _update(params, carry, carry, x)
        return h, h


@published(family="GRU", paper="Jozefowicz, Zaremba, Sutskever 2015, ICML", year=2015)
@cell
class MUT3:
    """MUT3: an update gate that sees the squashed state.

    ``z = sigmoid(x W_z + tanh(h) U_z + b_z)``; ``r = sigmoid(x W_r + h U_r + b_r)``;
    ``h' = tanh((r h) U_h + x W_h + b_h) z + h (1 - z)``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 3H]``, ``recurrent`` U ``[H, 3H]``, ``bias`` b ``[3H]``, blocks (z, r, h). carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Jozefowicz, Zaremba, Sutskever 2015, ICML.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MUT3(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 3)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = _update(params, carry, jnp.tanh(carry), x)
        return h, h


def _update(params: Any, h: jax.Array, seen: jax.Array, x: jax.Array) -> jax.Array:
    """The step of MUT2 and MUT3, which differ in what of h the update gate has ``seen``."""
    xz, xr, xh = input_gates(params, x, 3)
    u_z, u_r, u_h = jnp.split(params["recurrent"], 3, axis=-1)
    z, r = jax.nn.sigmoid(xz + seen @ u_z), jax.nn.sigmoid(xr + h @ u_r)
    return jnp.tanh((r * h) @ u_h + xh) * z + h * (1 - z)
