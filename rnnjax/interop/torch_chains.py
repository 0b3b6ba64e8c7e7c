"""torch modules that are a chain: tokens looked up, recurrent layers, linear layers, activations.

What a module's ``forward`` does is read off torch's own symbolic trace (`torch.fx`), never guessed from the names of what it holds;
whatever stands in that trace and is not known here is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from rnnjax.interop.chains import Act, Affine, Chain, Drop, Lookup, Summary, nearest
from rnnjax.interop.torch_arrays import to_numpy

FROM = "from_torch"
ACCEPTED = (
    "a module is read whose forward passes one input through nn.Embedding, nn.RNN, nn.LSTM, nn.GRU, nn.Linear, nn.Dropout and "
    "activations in a row, with out[:, -1], h_n[-1], torch.cat((h_n[-2], h_n[-1]), 1) or out.mean over time on the way"
)
ACTIVATIONS = {
    "ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu", "Softsign": "softsign", "SELU": "selu", "ReLU6": "relu6",
    "Hardsigmoid": "hard_sigmoid", "Mish": "mish", "LogSigmoid": "log_sigmoid", "Identity": "linear",
}  # fmt: skip
FUNCTIONS = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "softsign": "softsign",
    "selu": "selu",
}
SAME = ("contiguous",)  # methods that change nothing


class Unknown(Exception):
    """Why a module is no such chain, in words that end a sentence."""


def read_chain(module: Any, read_levels: Callable[[Any], list[Any]]) -> tuple[Any, Any]:
    """``(layer, params)`` with arrays as numpy. read_levels: of a recurrent module. Raises: Unknown, ValueError."""
    reader = _Reader(module, read_levels)
    for node in trace(module).nodes:
        reader.read(node)
    if reader.body == 0:
        raise Unknown("its forward runs no recurrent module")
    return reader.chain.finish()


def trace(module: Any) -> Any:
    """The graph of ``module(x)``, other arguments at their defaults. Raises: Unknown."""
    import torch

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = module

        def forward(self, x: Any) -> Any:
            return self.inside(x)

    try:
        return torch.fx.Tracer().trace(One())
    except Exception as error:  # whatever the forward of somebody else's module raises
        raise Unknown(
            f"its forward cannot be followed: {str(error).strip().splitlines()[0] if str(error) else error!r}"
        ) from None


class _Reader:
    """The chain as far as it was read, and what each value of the trace is.

    "flow" is the sequence, or what stands for it; "pair" what a recurrent module gives, "states" its second part, "hidden" h of
    that, "top", "below" two rows of it.
    """

    def __init__(self, module: Any, read_levels: Callable[[Any], list[Any]]) -> None:
        self.modules = {f"inside.{name}" if name else "inside": inner for name, inner in module.named_modules()}
        self.read_levels, self.chain = read_levels, Chain(FROM)
        self.what: dict[Any, str] = {}
        self.flow: Any = None  # the one value that goes on
        self.top: Any = None  # the recurrent module that was read last
        self.direct: list[Any] = []  # values that are that module's outputs as they came
        self.body, self.reduced = 0, False

    def read(self, node: Any) -> None:
        """One more value of the trace."""
        readers = {"call_module": self._module, "call_function": self._function, "call_method": self._method}
        if node.op == "placeholder":
            self._go_on(node)
        elif node.op == "output":
            self._output(node.args[0])
        elif node.op in readers:
            readers[node.op](node)
        else:
            raise Unknown(f"it uses {node.target} beside its layers")

    def _go_on(self, node: Any, *parts: Any, what: str = "flow") -> None:
        for part in parts:
            self.chain.add(part)
        self.flow, self.what[node] = node, what

    def _takes_flow(self, node: Any, name: str) -> None:
        """The node reads what goes on, and nothing else."""
        if len(node.all_input_nodes) != 1 or node.all_input_nodes[0] is not self.flow:
            raise Unknown(f"{name} does not read what stands before it alone")

    def _module(self, node: Any) -> None:
        import torch

        name, inner = node.target.removeprefix("inside."), self.modules[node.target]
        kind = type(inner).__name__
        self._takes_flow(node, name)
        if type(inner) is not getattr(torch.nn, kind, None) or inner._forward_hooks or inner._forward_pre_hooks:
            raise Unknown(f"{name} is a {kind} that is not torch's own or has hooks, which may compute something else")
        if kind in ("RNN", "LSTM", "GRU"):
            self._recurrent(node, name, inner)
        elif kind == "Embedding":
            self._go_on(node, _lookup(name, inner))
        elif kind == "Linear":
            self._go_on(node, _linear(name, inner))
        elif kind == "Dropout":
            self._go_on(node, Drop(_rate(name, inner.p)))
        elif kind in ACTIVATIONS:
            self._go_on(node, Act(ACTIVATIONS[kind]))
        elif kind in ("Softmax", "LogSoftmax") and kind == "Softmax" and inner.dim == -1:
            self._go_on(node, Act("softmax"))
        else:
            known = ("RNN", "LSTM", "GRU", "Embedding", "Linear", "Dropout", "Softmax", *ACTIVATIONS)
            raise Unknown(f"{name} is nn.{kind} ({inner}); the nearest known is nn.{nearest(kind, known)}")

    def _recurrent(self, node: Any, name: str, inner: Any) -> None:
        if self.top is not None and inner.batch_first != self.top.batch_first:
            raise Unknown(f"{name} and the recurrent module before it differ in batch_first")
        if self.reduced:
            raise Unknown(f"{name} stands on one step of a sequence")
        self._go_on(node, *self.read_levels(inner), what="pair")
        self.top, self.body, self.direct = inner, self.body + 1, [node]

    def _function(self, node: Any) -> None:
        import torch

        name = getattr(node.target, "__name__", str(node.target))
        if node.target is operator.getitem:
            self._part(node, *node.args)
        elif node.target in (torch.cat, torch.concat, torch.hstack):
            self._both_ends(node)
        elif name in FUNCTIONS and node.target in _functions(name):
            self._takes_flow(node, name)
            self._go_on(node, Act(FUNCTIONS[name]))
        elif node.target in _functions("softmax"):
            self._softmax(node, name)
        elif node.target is torch.nn.functional.dropout:
            self._takes_flow(node, name)
            self._go_on(node, Drop(_rate(name, _given(node, 1, "p", 0.5))))
        elif node.target in (torch.mean,):
            self._over_time(node)
        else:
            raise Unknown(f"it calls {name}")

    def _method(self, node: Any) -> None:
        if node.target == "mean":
            self._over_time(node)
        elif node.target == "softmax":
            self._softmax(node, "softmax")
        elif node.target in (*FUNCTIONS, *SAME):
            self._takes_flow(node, node.target)
            self._go_on(node, *([Act(FUNCTIONS[node.target])] if node.target in FUNCTIONS else []))
        elif node.target == "squeeze" and self._is_only_hidden(node):
            self._reduce(node)
        else:
            raise Unknown(f"it calls .{node.target}(...)")

    def _softmax(self, node: Any, name: str) -> None:
        self._takes_flow(node, name)
        if _given(node, 1, "dim", None) != -1:
            raise Unknown("its softmax is not over dim=-1, the features")
        self._go_on(node, Act("softmax"))

    def _over_time(self, node: Any) -> None:
        """``out.mean(dim)`` over time."""
        self._takes_flow(node, "mean")
        dim = _given(node, 1, "dim", None)
        dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
        if self.top is None or dims != (self._time(),) or _given(node, 2, "keepdim", False):
            raise Unknown(f"its mean over dim={dim} is not that over time")
        self._reduce(node, Summary("mean"))

    def _reduce(self, node: Any, *parts: Any) -> None:
        """From here on one step stands for the sequence."""
        if self.reduced:
            raise Unknown("it takes a step of a step")
        self._go_on(node, *parts)
        self.reduced = True

    def _is_only_hidden(self, node: Any) -> bool:
        """``h_n.squeeze(0)`` of one layer that reads one way."""
        one = self.top is not None and self.top.num_layers == 1 and not self.top.bidirectional
        return one and self.what.get(node.args[0]) == "hidden" and self._nothing_after() and node.args[1:] == (0,)

    def _nothing_after(self) -> bool:
        """What the recurrent module gave goes on as it came."""
        return self.flow in self.direct

    def _time(self) -> int:
        return 1 if self.top.batch_first else 0

    def _part(self, node: Any, source: Any, at: Any) -> None:
        """A part of what a recurrent module gave, or the last step."""
        what = self.what.get(source)
        if what == "pair" and at == 0 and source is self.flow:
            self._go_on(node)
            self.direct.append(node)
        elif what == "pair" and at == 1:
            self.what[node] = "states" if type(self.top).__name__ == "LSTM" else "hidden"
        elif what == "states":
            self.what[node] = "hidden" if at == 0 else "cell"
        elif (
            what == "hidden"
            and not self.top.bidirectional
            and at in (-1, self.top.num_layers - 1)
            and self._nothing_after()
        ):
            self._reduce(node)
        elif what == "hidden" and self.top.bidirectional:
            rows = 2 * self.top.num_layers
            self.what[node] = (
                {0: "forward", 1: "backward"}.get(at % rows - rows + 2, "other") if isinstance(at, int) else "other"
            )
        elif what == "flow" and source is self.flow and self.body and self._is_last_step(at):
            self._reduce(node)
        else:
            raise Unknown(f"it takes [{at}] of {source}, which is not its last step")

    def _is_last_step(self, at: Any) -> bool:
        whole = slice(None)
        at = at if isinstance(at, tuple) else (at,)
        wanted = (whole, -1) if self.top.batch_first else (-1,)
        return at[: len(wanted)] == wanted and all(rest == whole for rest in at[len(wanted) :])

    def _both_ends(self, node: Any) -> None:
        """``torch.cat((h_n[-2], h_n[-1]), 1)``: what each direction of the top layer read last."""
        parts, dim = node.args[0], _given(node, 1, "dim", 1 if node.target.__name__ == "hstack" else 0)
        if (
            [self.what.get(part) for part in parts] != ["forward", "backward"]
            or dim not in (1, -1)
            or not self._nothing_after()
        ):
            raise Unknown(
                "it joins other things than h_n[-2] and h_n[-1] of a bidirectional module, in this order, over dim=1"
            )
        self._reduce(node, Summary("last"))

    def _output(self, given: Any) -> None:
        """What goes on, alone or with states beside it (which are in the carry here)."""
        first, *rest = given if isinstance(given, (tuple, list)) else (given,)
        if first is not self.flow or any(self.what.get(other) not in ("states", "hidden", "cell") for other in rest):
            raise Unknown("it gives other things than the outputs of its last layer (and states)")


def _given(node: Any, at: int, name: str, default: Any) -> Any:
    return node.args[at] if len(node.args) > at else node.kwargs.get(name, default)


def _functions(name: str) -> list[Any]:
    """torch's functions of a name."""
    import torch

    places = (torch, torch.nn.functional)
    return [getattr(place, name) for place in places if hasattr(place, name)]


def _rate(name: str, rate: Any) -> float:
    if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise Unknown(f"{name} drops a share of {rate!r}, where one of at least 0 and below 1 can be")
    return float(rate)


def _matrix(name: str, inner: Any) -> Any:
    weight: Any = getattr(inner, "weight", None)
    if getattr(weight, "ndim", 0) != 2 or not weight.is_floating_point():
        raise Unknown(f"the weight of {name} is no matrix of floats")
    return to_numpy(weight)


def _linear(name: str, inner: Any) -> Affine:
    weight = _matrix(name, inner)
    bias: Any = getattr(inner, "bias", None)
    if bias is not None and (tuple(getattr(bias, "shape", ())) != weight.shape[:1] or not bias.is_floating_point()):
        raise Unknown(f"the bias of {name} does not fit its weight")
    return Affine(weight.T, None if bias is None else to_numpy(bias))


def _lookup(name: str, inner: Any) -> Lookup:
    for option in ("max_norm", "scale_grad_by_freq"):
        if getattr(inner, option):
            raise Unknown(
                f"{name} has {option}={getattr(inner, option)}, which acts on the table and not on what is looked up"
            )
    if inner.padding_idx is not None and type(inner.padding_idx) is not int:
        raise Unknown(f"{name} has padding_idx={inner.padding_idx!r}, which is no row")
    return Lookup(_matrix(name, inner), inner.padding_idx)
