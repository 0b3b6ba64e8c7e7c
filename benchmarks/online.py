"""Question 9: what does a step of learning online cost, by method, beside backpropagation through time and braintrace?

    python benchmarks/online.py [--quick]

A GRU reads a sequence; the loss is a sum of squares at every step. Microseconds a step of one compiled program, gradient included;
KiB that stay between steps (what the method remembers of the past, the carry with it) and KiB of temporaries of that program.
Every method that claims the exact gradient has it before anything is timed; of the others the cosine with it is told.

braintrace (`pip install braintrace`) is exact as SnAp-n with n at least H; its GRU is written gate by gate, as its analysis needs
it, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, installed, machine_line, save, save_figure

import rnnjax as rj
from rnnjax.bench import assert_equal, interleave, print_rows

STEPS, INPUTS = 256, 8
SIZES, QUICK = (8, 16, 32, 64), (4,)
EXACT, APPROXIMATE = ("bptt", "rtrl", "braintrace"), ("snap1", "snap2", "eprop", "uoro")
Program = tuple[Any, int]  # compiled ``(params, xs, targets) -> (value, grads)``, and the bytes that stay between steps


def loss(y: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.sum((y - target) ** 2)


def problem(features: int, steps: int) -> tuple[rj.GRU, tuple[Any, jax.Array, jax.Array]]:
    cell, keys = rj.GRU(features), jax.random.split(jax.random.key(0), 3)
    xs = jax.random.normal(keys[0], (steps, INPUTS))
    return cell, (cell.init(keys[1], xs[0]), xs, jax.random.normal(keys[2], (steps, features)))


def bptt(cell: Any, args: tuple) -> Program:
    """All carries of the past stay, whatever the compiler makes of it."""

    def total(params: Any, xs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(loss)(rj.unroll(cell, params, xs)[1], targets))

    return jax.jit(jax.value_and_grad(total)).lower(*args).compile(), 4 * cell.features * len(args[1])


def online(method: str) -> Callable[[Any, tuple], Program]:
    def make(cell: Any, args: tuple) -> Program:
        key = jax.random.key(3) if method == "uoro" else None
        run = lambda *args: rj.online.value_and_grad(cell, loss, method)(*args, key=key)
        state = rj.online.Learner(cell, loss, method).init(args[0], args[1][0], key=key)
        return jax.jit(run).lower(*args).compile(), bytes_of((state.carry, state.influence))

    return make


def bytes_of(tree: Any) -> int:
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree))


# -- braintrace --------------------------------------------------------------------------------------------------------


def braintrace(cell: rj.GRU, args: tuple) -> Program:
    """SnAp-H, which leaves nothing out; params are in the model, so those of the call are not read."""
    import brainstate
    import braintrace

    learner = braintrace.compile(braintrace_gru(cell, args[0]), braintrace.SnAp, args[1][0], n=cell.features)
    stays = (brainstate.HiddenState, braintrace.EligibilityTrace)
    kept = [state for state in learner.states().values() if isinstance(state, stays)]

    @brainstate.transform.jit
    def run(xs: jax.Array, targets: jax.Array) -> Any:
        for state in kept:  # each call starts from nothing, as ours does
            state.value = jax.tree.map(jnp.zeros_like, state.value)
        step = lambda x, target: loss(learner(x), target)
        return learner.etrace_grad(xs, targets, step_fn=step, reduction="sum", loss_output="scalar", return_value=True)

    return Joined(run, run.compile(*args[1:])), bytes_of([state.value for state in kept])


class Joined:
    """braintrace's program as one of ours: the same arguments, gradients in our layout."""

    def __init__(self, run: Callable, compiled: Any) -> None:
        self.run, self.memory_analysis = run, compiled.memory_analysis

    def __call__(self, params: Any, xs: jax.Array, targets: jax.Array) -> Any:
        grads, value = self.run(xs, targets)
        return value, grads


def joined(grads: Any) -> dict[str, jax.Array]:
    """Its gradients in the layout of `rnnjax.GRU`."""
    part = lambda side, name: jnp.concatenate([grads[f"{side}{n}", "weight"][name] for n in range(3)], axis=-1)
    ours = {"input": part("x", "weight"), "recurrent": part("h", "weight"), "bias": part("x", "bias")}
    return ours | {"recurrent_bias": grads["h2", "weight"]["bias"]}


def braintrace_gru(cell: rj.GRU, params: Any) -> Any:
    """`rnnjax.GRU` as a module of braintrace: six products, as it follows none that is split afterwards."""
    import brainstate
    import braintrace

    def linear(weight: jax.Array, bias: jax.Array | None) -> Any:
        layer = braintrace.nn.Linear(*weight.shape, b_init=None if bias is None else lambda *_, **__: bias)
        layer.weight.value = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return layer

    class GRU(brainstate.nn.RNNCell):
        def __init__(self) -> None:
            super().__init__()
            w, u, b = (jnp.split(params[name], 3, axis=-1) for name in ("input", "recurrent", "bias"))
            self.x0, self.x1, self.x2 = map(linear, w, b)
            self.h0, self.h1, self.h2 = map(linear, u, [None, None, params["recurrent_bias"]])

        def init_state(self, batch_size: int | None = None, **_: Any) -> None:
            self.h = brainstate.HiddenState(jnp.zeros(cell.features))

        def update(self, x: jax.Array) -> jax.Array:
            h = self.h.value
            r, z = jax.nn.sigmoid(self.x0(x) + self.h0(h)), jax.nn.sigmoid(self.x1(x) + self.h1(h))
            self.h.value = (1 - z) * jnp.tanh(self.x2(x) + r * self.h2(h)) + z * h
            return self.h.value

    return GRU()


# -- all of it ---------------------------------------------------------------------------------------------------------


def measure(features: int, repeats: int, steps: int = STEPS) -> dict[str, Any]:
    """One row for H: of every method microseconds a step, KiB that stay, MiB of temporaries; of the others the cosine."""
    cell, args = problem(features, steps)
    makers = {"bptt": bptt, "rtrl": online("rtrl")} | ({"braintrace": braintrace} if installed("braintrace") else {})
    made = {name: make(cell, args) for name, make in (makers | {m: online(m) for m in APPROXIMATE}).items()}
    programs, kept = ({name: pair[i] for name, pair in made.items()} for i in (0, 1))
    assert_equal({name: in_our_layout(programs[name], name) for name in makers}, args, tolerance=1e-4)
    us = {name: 1e3 * ms / steps for name, ms in interleave(programs, args, repeats).items()}
    row: dict[str, Any] = {"cell": "gru", "shape": [steps, 1, INPUTS, features], **us}
    row |= {f"{name} KiB kept": size / 2**10 for name, size in kept.items()}
    row |= {f"{name} KiB": p.memory_analysis().temp_size_in_bytes / 2**10 for name, p in programs.items()}
    exact = flat(programs["bptt"](*args)[1])
    row |= {f"{name} cosine": cosine(flat(programs[name](*args)[1]), exact) for name in APPROXIMATE}
    return row | {"ratio": us["braintrace"] / us["rtrl"] if "braintrace" in us else None}


def in_our_layout(program: Callable, name: str) -> Callable:
    def call(*args: Any) -> Any:
        value, grads = program(*args)
        return value, joined(grads) if name == "braintrace" else grads

    return call


def flat(grads: Any) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(grads)]).astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt(a @ a * (b @ b)))


def main() -> None:
    options = arguments(__doc__)
    print(machine_line())
    rows = [measure(h, options.repeats) for h in (QUICK if options.quick else SIZES)]
    names = [name for name in (*EXACT, *APPROXIMATE) if name in rows[0]]
    print_rows(rows, ("shape", *names, "ratio"), "microseconds a step; (T, B, I, H); ratio: braintrace / rtrl")
    print_rows(rows, ("shape", *(f"{name} KiB kept" for name in names)), "KiB that stay between steps")
    print_rows(rows, ("shape", *(f"{name} KiB" for name in names)), "KiB of temporaries of the whole program")
    print_rows(rows, ("shape", *(f"{name} cosine" for name in APPROXIMATE)), "cosine with the exact gradient")
    save("online", [{k: v for k, v in row.items() if v is not None} for row in rows], options)
    plot(rows, names, options)


def plot(rows: list[dict[str, Any]], names: list[str], options: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    sizes = [row["shape"][-1] for row in rows]
    for ax, unit, label in zip(axes, ("", " KiB kept"), ("microseconds a step", "KiB that stay"), strict=True):
        for name in names:
            ax.loglog(sizes, [row[name + unit] for row in rows], marker="o", label=name)
        ax.set(xlabel="H", ylabel=label)
        ax.set_xticks(sizes, map(str, sizes), minor=False)
        ax.minorticks_off()
    axes[0].legend(fontsize=7)
    save_figure(fig, "online", options)


if __name__ == "__main__":
    main()
