"""The weights of gated cells between orders of gates and conventions on biases.

Libraries differ in four ways only: the order of the gates' blocks, one bias or two, whether a weight is ``[in, out]`` or
``[out, in]``, and which of z and 1 - z keeps the old state. Here everything is ``[in, gates * H]``, blocks named by letters:
LSTM i (input) f (forget) g (cell) o (output); GRU r (reset) z (update, keeps the old state) n (candidate); MGU f n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnnjax.interop.arrays import host, namespace, total

LSTM = "ifgo"
GRU = "rzn"
PEEPHOLE = "ifo"


def blocks(array: Any, order: str, axis: int = -1) -> dict[str, Any]:
    """The gates' blocks of an axis, by letter."""
    return dict(zip(order, namespace(array).split(array, len(order), axis=axis), strict=True))


def join(parts: Sequence[Any], axis: int = -1) -> Any:
    """Blocks side by side."""
    return namespace(*parts).concatenate(list(parts), axis=axis)


def reorder(array: Any, source: str, target: str, axis: int = -1) -> Any:
    """The same blocks in another order."""
    if source == target:
        return array
    parts = blocks(array, source, axis)
    return join([parts[g] for g in target], axis)


# -- into rnnjax -------------------------------------------------------------------------------------------------------


def read_elman(w: Any, u: Any, biases: Sequence[Any]) -> dict[str, Any]:
    """Elman's params from W ``[I, H]``, U ``[H, H]`` and any number of biases that add up."""
    params = {"input": w, "recurrent": u}
    return params | ({"bias": total(*biases)} if biases else {})


def read_lstm(w: Any, u: Any, biases: Sequence[Any], order: str) -> dict[str, Any]:
    """LSTM's params from W ``[I, 4H]``, U ``[H, 4H]`` and any number of biases ``[4H]`` that add up."""
    params = {"input": reorder(w, order, LSTM), "recurrent": reorder(u, order, LSTM)}
    return params | ({"bias": reorder(total(*biases), order, LSTM)} if biases else {})


def read_gru(w: Any, u: Any, biases: Sequence[Any], order: str, reset_after: bool) -> dict[str, Any]:
    """GRU's params from W ``[I, 3H]``, U ``[H, 3H]`` and no bias, the input's, or the input's and the recurrent one.

    With ``reset_after`` the recurrent bias of n stays apart (it lies inside the reset); all others add up.
    """
    params = {"input": reorder(w, order, GRU), "recurrent": reorder(u, order, GRU)}
    if not biases:
        return params
    if not reset_after or len(biases) == 1:
        return params | {"bias": reorder(total(*biases), order, GRU)}
    b, c = blocks(biases[0], order), blocks(biases[1], order)
    return params | {"bias": join([total(b["r"], c["r"]), total(b["z"], c["z"]), b["n"]]), "recurrent_bias": c["n"]}


def negate(array: Any, order: str, gates: str) -> Any:
    """The blocks of ``gates`` negated: ``sigmoid(-a) = 1 - sigmoid(a)`` turns a gate into its complement."""
    return join([-part if gate in gates else part for gate, part in blocks(array, order).items()])


# -- out of rnnjax -----------------------------------------------------------------------------------------------------


def write_elman(params: Any) -> tuple[Any, Any, Any]:
    """W ``[I, H]``, U ``[H, H]``, bias ``[H]`` or None."""
    return host(params["input"]), host(params["recurrent"]), _bias(params)


def write_lstm(params: Any, order: str) -> tuple[Any, Any, Any]:
    """W ``[I, 4H]``, U ``[H, 4H]``, bias ``[4H]`` or None, in this order of gates."""
    b = _bias(params)
    w, u = (reorder(host(params[name]), LSTM, order) for name in ("input", "recurrent"))
    return w, u, None if b is None else reorder(b, LSTM, order)


def write_gru(params: Any, order: str) -> tuple[Any, Any, Any, Any]:
    """W ``[I, 3H]``, U ``[H, 3H]``, input bias ``[3H]`` or None, recurrent bias ``[3H]`` (zero but for n) or None."""
    w, u = (reorder(host(params[name]), GRU, order) for name in ("input", "recurrent"))
    b = _bias(params)
    if b is None:
        return w, u, None, None
    c = host(params["recurrent_bias"]) if "recurrent_bias" in params else 0 * b[: b.shape[0] // 3]
    return w, u, reorder(b, GRU, order), reorder(join([0 * c, 0 * c, c]), GRU, order)


def _bias(params: Any) -> Any:
    return host(params["bias"]) if "bias" in params else None
