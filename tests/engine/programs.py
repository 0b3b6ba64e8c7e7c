"""Random programs: a scan body, and a nest of transformations round its scan, both drawn from an integer seed.

    python tests/engine/programs.py --start 0 --count 10000     # one JAX: the one of this interpreter
    python tests/engine/programs.py --start 4711 --count 1 --show

Each program runs with `jax.lax.scan`, with `rnnjax.scan`, and one in eight with a plain Python loop, all in one jitted
function (compiling is what they cost). Where `lax.scan` raises, ours must raise the same type; where it works, ours must
give the same numbers, without a RuntimeWarning. Prints every failure by seed and kind, and a count at the end.

A program is float64, so that a difference is a mistake and not rounding; with `matmul_dtype`, which is float32 then, and
with float32 leaves the comparison is as loose as these need.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import contextvars
import dataclasses
import functools
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":  # before JAX starts; under pytest conftest does the same
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", f"{quick} --xla_force_host_platform_device_count=2")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

import rnnjax as rj
from rnnjax import _jax

Args = dict[str, Any]  # every array of a program by name: params p.*, carry c.*, inputs x.*
Function = Callable[[Args], list]


# --- custom rules that bodies use

HONEST = contextvars.ContextVar("whether rules say the slopes that their functions have", default=False)


@jax.custom_jvp
def bent(a: jax.Array) -> jax.Array:
    """sin, said to have another slope. The rule calls it again, so that its own derivatives agree to every order."""
    return jnp.sin(a)


bent.defjvp(lambda primals, tangents: (bent(primals[0]), 0.5 * jnp.cos(primals[0]) * tangents[0]))


@jax.custom_vjp
def spike(a: jax.Array) -> jax.Array:
    """A step with a surrogate gradient."""
    return (a > 0).astype(a.dtype)


spike.defvjp(lambda a: (spike(a), a), lambda a, d: (d / (1 + jnp.abs(a)) ** 2,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gated(a: jax.Array, w: jax.Array, n: int) -> jax.Array:
    """A product whose cotangents are scaled by `n`."""
    return jnp.tanh(a @ w) * n


gated.defvjp(lambda a, w, n: (gated(a, w, n), (a, w)), lambda n, r, d: (n * d @ r[1].T, r[0].T @ d))


@jax.custom_vjp
def shifted(a: jax.Array, n: jax.Array) -> jax.Array:
    """A custom rule with an integer argument."""
    return a * (1 + n % 3).astype(a.dtype)


def _no_cotangent(n: jax.Array) -> np.ndarray:
    return np.zeros(n.shape, jax.dtypes.float0)


shifted.defvjp(lambda a, n: (shifted(a, n), n), lambda n, d: (d * (2 + n % 3).astype(d.dtype), _no_cotangent(n)))


def unless_honest(ruled: Any) -> Callable:
    """A function with its rule, or the function alone."""
    return lambda *args: (ruled.__wrapped__ if HONEST.get() else ruled)(*args)


bent, spike, gated, shifted = map(unless_honest, (bent, spike, gated, shifted))


# --- bodies


@dataclasses.dataclass
class Step:
    """What a node of a body may read besides its operands."""

    p: Args
    n: Any  # an integer scalar that depends on the carry or on x
    key: Any
    scan: Callable
    axes: tuple[str, ...]  # named axes to sum over


Node = Callable[[Step, Any, Any, int], Any]  # (step, a [B, H], b [B, H], a number) -> [B, H]
NODES: dict[str, Node] = {}
RARE = frozenset({"random", "while", "solve", "inner_scan", "inner_own", "inner_own_rule", "associative", "inner_grad"})


def node(make: Node) -> Node:
    NODES[make.__name__.strip("_")] = make
    return make


def simple(**nodes: Node) -> None:
    NODES.update(nodes)


def inner(s: Step, scan: Callable, a: Any, b: Any, rule: Callable = jnp.tanh) -> Any:
    """A scan in the body, over the rows of an array made of the operands."""
    rows = jnp.stack([a, b, a * b])
    h, ys = scan(lambda h, x: (rule(h @ s.p["w"] + x), h * s.p["s"]), b, rows)
    return h + ys[1]


def branches(s: Step, k: int) -> list[Callable]:
    """Branches of every sort for cond and switch."""
    every = [
        lambda a, b: jnp.tanh(a @ s.p["w"]) + b,
        lambda a, b: a * b * s.p["s"],
        lambda a, b: spike(a) + bent(b),
        lambda a, b: lax.stop_gradient(a) + b @ s.p["u"],
        lambda a, b: jnp.zeros_like(a),
        lambda a, b: lax.cond(jnp.sum(b) > 0, jnp.sin, jnp.cos, a),
        lambda a, b: lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ s.p["w"]), a),
    ]
    return [every[(k + n) % len(every)] for n in range(3)]


simple(
    product=lambda s, a, b, k: a @ s.p["w"],
    product_sum=lambda s, a, b, k: a @ s.p["w"] + b @ s.p["u"] + s.p["b"],
    transposed=lambda s, a, b, k: a @ s.p["w"].T,
    square=lambda s, a, b, k: a @ (s.p["w"] @ s.p["u"]),
    left=lambda s, a, b, k: (s.p["rows"] @ a) + b,
    einsum=lambda s, a, b, k: jnp.einsum("bi,ij,bj->bj", a, s.p["w"], b),
    joined=lambda s, a, b, k: jnp.concatenate([a, b], -1) @ jnp.concatenate([s.p["w"], s.p["u"]]),
    own_weight=lambda s, a, b, k: a @ (b.T @ a),
    bias=lambda s, a, b, k: a + s.p["b"],
    scaled=lambda s, a, b, k: a * s.p["b"] - s.p["s"],
    elementwise=lambda s, a, b, k: jnp.tanh(a) * jax.nn.sigmoid(b),
    added=lambda s, a, b, k: a - b,
    maximum=lambda s, a, b, k: jnp.maximum(a, b) + jnp.abs(a),
    where=lambda s, a, b, k: jnp.where(a > b, a, s.p["s"]),
    relu=lambda s, a, b, k: jax.nn.relu(a) + jax.nn.gelu(b),
    softmax=lambda s, a, b, k: jax.nn.softmax(a) + jax.nn.logsumexp(b, axis=-1, keepdims=True),
    norm=lambda s, a, b, k: (a - jnp.mean(a, -1, keepdims=True)) * lax.rsqrt(jnp.var(a, -1, keepdims=True) + 1),
    cumsum=lambda s, a, b, k: jnp.cumsum(a, -1) * 0.5,
    sort=lambda s, a, b, k: jnp.sort(a, -1) + b,
    reversed=lambda s, a, b, k: a[:, ::-1],
    roll=lambda s, a, b, k: jnp.roll(a, 1, -1),
    slices=lambda s, a, b, k: jnp.concatenate([a[:, :1] * 2, b[:, 1:]], -1),
    row=lambda s, a, b, k: s.p["table"][jnp.argmax(a[0])] + a,
    embed=lambda s, a, b, k: s.p["table"][jnp.abs(s.n) % 5] * a,
    piece=lambda s, a, b, k: lax.dynamic_slice_in_dim(jnp.concatenate([a, b]), s.n, a.shape[0]),
    update=lambda s, a, b, k: lax.dynamic_update_slice_in_dim(a, b[:, :1], s.n, 1),
    scatter=lambda s, a, b, k: a.at[:, s.n % a.shape[1]].add(b[:, 0]),
    custom_jvp=lambda s, a, b, k: bent(a) + b,
    custom_vjp=lambda s, a, b, k: spike(a) + b,
    custom_vjp_weight=lambda s, a, b, k: gated(a, s.p["w"], 2) + b,
    custom_vjp_int=lambda s, a, b, k: shifted(a, s.n),
    custom_vjp_weights=lambda s, a, b, k: spike(s.p["w"]).sum() * a,
    checkpoint=lambda s, a, b, k: jax.checkpoint(lambda a, b: jnp.tanh(a @ s.p["w"]) * bent(b))(a, b),
    jit=lambda s, a, b, k: jax.jit(lambda a, b: jnp.sin(a @ s.p["u"]) + spike(b))(a, b),
    cond=lambda s, a, b, k: lax.cond(s.n % 2 == 0, *branches(s, k)[:2], a, b),
    cond_value=lambda s, a, b, k: lax.cond(jnp.sum(a) > 0, *branches(s, k)[:2], a, b),
    switch=lambda s, a, b, k: lax.switch(jnp.abs(s.n) % 3, branches(s, k), a, b),
    fori=lambda s, a, b, k: lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ s.p["w"] + b), a),
    stop=lambda s, a, b, k: lax.stop_gradient(a) * b,
    single=lambda s, a, b, k: jnp.sin(a.astype(jnp.float32)).astype(a.dtype),
    complex=lambda s, a, b, k: jnp.abs(lax.complex(a, b) * lax.complex(s.p["s"], a) + 1),
    rows=lambda s, a, b, k: jax.vmap(lambda r: jnp.tanh(r @ s.p["w"]) + jnp.sum(r))(a),
    mapped=lambda s, a, b, k: lax.map(lambda r: jnp.sin(r) @ s.p["w"], a),
    barrier=lambda s, a, b, k: lax.optimization_barrier(a) + b,
    inner_grad=lambda s, a, b, k: jax.grad(lambda a: jnp.sum(jnp.sin(a @ s.p["w"]) * b))(a),
    inner_jvp=lambda s, a, b, k: jax.jvp(lambda a: bent(a @ s.p["w"]), (a + 0 * b,), (b + 0 * a,))[1],  # of one type
    associative=lambda s, a, b, k: lax.associative_scan(jnp.multiply, a, axis=-1),
    solve=lambda s, a, b, k: jnp.linalg.solve(jnp.eye(a.shape[1]) * 3 + s.p["w"] * 0.1, a.T).T,
    random=lambda s, a, b, k: a * jax.random.uniform(s.key, a.shape, a.dtype),
    inner_scan=lambda s, a, b, k: inner(s, lax.scan, a, b),
    inner_own=lambda s, a, b, k: inner(s, s.scan, a, b),
    inner_own_rule=lambda s, a, b, k: inner(s, s.scan, a, b, spike),
)  # fmt: skip


@node
def gates(s: Step, a: Any, b: Any, k: int) -> Any:
    i, f, g = jnp.split(a @ s.p["gates"] + jnp.tile(s.p["b"], 3), 3, -1)
    return jax.nn.sigmoid(f) * b + jax.nn.sigmoid(i) * jnp.tanh(g)


@node
def sliced_gates(s: Step, a: Any, b: Any, k: int) -> Any:
    z, size = a @ s.p["gates"] + b @ s.p["gates"], a.shape[1]
    return jnp.tanh(z[:, :size]) * z[:, 2 * size :]


@node
def gate_by_gate(s: Step, a: Any, b: Any, k: int) -> Any:
    z = jax.nn.sigmoid(a @ s.p["w"] + b @ s.p["u"])
    return z * a + (1 - z) * jnp.tanh(a @ s.p["u"] + (z * b) @ s.p["w"])


@node
def convolution(s: Step, a: Any, b: Any, k: int) -> Any:
    return lax.conv_general_dilated(a[:, None], s.p["kernel"], (1,), "SAME")[:, 0] + b


@node
def _while(s: Step, a: Any, b: Any, k: int) -> Any:
    return lax.while_loop(lambda c: c[0] < jnp.abs(s.n) % 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ s.p["w"])), (0, a))[1]


@node
def mean_over_axes(s: Step, a: Any, b: Any, k: int) -> Any:
    for axis in s.axes:
        a = lax.pmean(a, axis) if k % 2 else a + lax.psum(b, axis)
    return jnp.tanh(a)


DIVERGING = {"cond", "cond_value", "switch", "while"}

# --- programs


@dataclasses.dataclass
class Program:
    """Everything that a seed says."""

    args: Args
    nodes: list[tuple[str, int, int, int]]
    outs: list[int]
    forms: dict[str, int]  # how each leaf of the carry goes on, which ys there are
    nest: list[str]  # inside out
    batched: list[frozenset]  # for each of the nest: which arguments get lanes
    options: dict
    length: int
    axes: tuple[str, ...]
    loose: bool
    second_oracle: bool

    def describe(self) -> str:
        shapes = {k: f"{v.dtype}{list(v.shape)}" for k, v in self.args.items()}
        return (
            f"nodes {self.nodes}\nouts {self.outs} {self.forms}\nnest {self.nest} {list(map(sorted, self.batched))}\n"
            + (f"options {self.options} length {self.length} axes {self.axes}\nargs {shapes}")
        )


TRANSFORMATIONS = ["vjp", "grad", "jvp", "vmap", "jit", "checkpoint"]


def draw(seed: int) -> Program:
    """The program of a seed."""
    rng = np.random.default_rng(seed)
    chance = lambda p: bool(rng.random() < p)
    B, H, I, T = (int(rng.integers(*r)) for r in ((1, 4), (1, 5), (1, 5), (0, 7)))
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape) * 0.6)
    a: Args = {"p.w": normal(H, H), "p.u": normal(H, H), "p.b": normal(H), "p.s": normal(), "p.v": normal(I, H)}
    a |= {"p.gates": normal(H, 3 * H), "p.table": normal(5, H), "p.rows": normal(B, B), "p.kernel": normal(1, 1, 3)}
    a |= {"c.h": normal(B, H)}
    key = lambda *shape: (
        jax.random.key(seed % 1000) if not shape else jax.random.split(jax.random.key(seed % 1000), shape)
    )
    extra = {
        "c.c": lambda: normal(B, H), "c.n": lambda: jnp.asarray(rng.integers(0, 3), jnp.int32),
        "c.flag": lambda: jnp.asarray(rng.random(B) > 0.5), "c.key": lambda: key(),
        "c.z": lambda: normal(B, H) + 1j * normal(B, H), "c.w": lambda: normal(H, H),
        "c.low": lambda: normal(B, H).astype(jnp.float32), "c.still": lambda: normal(B, H),
        "x.i": lambda: jnp.asarray(rng.integers(0, 5, T), jnp.int32), "x.m": lambda: jnp.asarray(rng.random((T, B)) > 0.4),
        "x.k": lambda: key(T), "x.g": lambda: normal(T, H),
    }  # fmt: skip
    rare = {"c.key": 0.06, "x.k": 0.06, "c.z": 0.12, "c.low": 0.12, "c.w": 0.15}
    for name, make in extra.items():
        if chance(rare.get(name, 0.25)):
            a[name] = make()
    if chance(0.9):
        a["x.x"] = normal(T, B, I)
    nest = [str(rng.choice(TRANSFORMATIONS)) for _ in range(int(rng.integers(1, 4)))]
    axes = []
    if chance(0.2):
        nest.insert(int(rng.integers(0, len(nest) + 1)), "lanes")
        axes += ["lanes"]
    if chance(0.15):
        nest.insert(int(rng.integers(0, len(nest) + 1)), "devices")
        axes += ["devices"]
    axes = tuple(axis for axis in axes if chance(0.8))
    nodes = draw_nodes(rng, "mean_over_axes" if axes else None)
    if "devices" in nest:  # devices that take different branches wait for each other for ever, in lax.scan too
        nodes = [n for n in nodes if n[0] not in DIVERGING] or [("gates", 0, 0, 0)]
    batched = []
    for way in nest:
        share = rng.choice([0.2, 0.5, 1.0])
        some = {k for k in a if chance(share)} or {"c.h"}
        batched.append(frozenset(some | {k for k in a if k[0] == "c"} if way == "devices" or chance(0.5) else some))
    options: dict = {"fuse": [True, "all", "hoist", "defer", False][int(rng.choice(5, p=[0.5, 0.3, 0.08, 0.08, 0.04]))]}
    if chance(0.3):
        options["reverse"] = True
    if chance(0.15):
        options["unroll"] = [2, True][int(rng.integers(2))]
    if chance(0.15):
        options["checkpoint"] = [2, "sqrt", 3][int(rng.integers(3))]
    if chance(0.12):
        options["matmul_dtype"] = jnp.float32
    outs = [int(n) for n in rng.integers(0, 99, 6)]
    forms = {k: int(rng.integers(0, 4)) for k in (*a, "ys")}
    loose = "matmul_dtype" in options or "c.low" in a or any(n[0] == "single" for n in nodes)
    second = T <= 4 and chance(0.125) and "devices" not in nest
    return Program(a, nodes, outs, forms, nest, batched, options, T, axes, loose, second)


def draw_nodes(rng: np.random.Generator, wanted: str | None) -> list[tuple[str, int, int, int]]:
    """Nodes by name, each with its two operands and a number."""
    names = [n for n in NODES if n != "mean_over_axes"]
    odds = np.array([0.25 if n in RARE else 1.0 for n in names])
    chosen = [str(n) for n in rng.choice(names, int(rng.integers(1, 7)), p=odds / odds.sum())]
    if wanted:
        chosen.insert(int(rng.integers(0, len(chosen) + 1)), wanted)
    return [(n, *(int(k) for k in rng.integers(0, 99, 3))) for n in chosen]


def make_body(program: Program, p: Args, scan: Callable) -> Callable:
    """The body: `(carry, x) -> (carry, ys)`, dicts of arrays."""

    def body(carry: Args, x: Args | None) -> tuple[Args, Any]:
        x = x or {}
        h = carry["h"]
        n = carry.get("n", x.get("i", jnp.asarray(1, jnp.int32)))
        s = Step(p, n, carry.get("key", x.get("k")), scan, program.axes)
        values = [h, *(carry[k] for k in ("c", "still") if k in carry)]
        if "x" in x:
            values += [x["x"] @ p["v"], jnp.take(x["x"], jnp.arange(h.shape[1]) % x["x"].shape[1], axis=1)]
        if "g" in x:
            values.append(jnp.broadcast_to(x["g"], h.shape))
        if "w" in carry:
            values.append(h @ carry["w"])
        for name, i, j, k in program.nodes:
            if name == "random" and s.key is None:
                continue
            values.append(NODES[name](s, values[-1 - i % len(values)], values[-1 - j % len(values)], k))
        whole = 3 if program.forms["ys"] else 0
        every = sum(values) * 0.3  # nothing is dead: lax.scan differentiates what is, and complains of it
        pick = lambda n: values[-1 - program.outs[n] % len(values)] + (every if n == whole else 0.0)
        return advance(program, p, carry, x, h, pick), outputs(program, carry, x, pick)

    return body


def advance(program: Program, p: Args, carry: Args, x: Args, h: Any, pick: Callable) -> Args:
    """The next carry, each leaf by its form."""
    new = {"h": jnp.tanh(pick(0))}
    form = lambda k: program.forms[f"c.{k}"]
    if "m" in x:
        new["h"] = jnp.where(x["m"][:, None], new["h"], h)
    if "c" in carry:
        new["c"] = [pick(1) * 0.5, h, carry["c"] * 0.5 + pick(1), new["h"]][form("c")]
    if "n" in carry:
        step = [1, jnp.argmax(h[0]).astype(jnp.int32), x.get("i", 2), jnp.sum(pick(1) > 0).astype(jnp.int32)][form("n")]
        new["n"] = carry["n"] + step
    if "flag" in carry:
        new["flag"] = [jnp.mean(pick(2), -1) > 0, ~carry["flag"], carry["flag"], x.get("m", carry["flag"])][
            form("flag")
        ]
        new["h"] = jnp.where(carry["flag"][:, None], new["h"], new["h"] * 0.5)
    if "key" in carry:
        new["key"] = jax.random.fold_in(carry["key"], 1) if form("key") % 2 else carry["key"]
    if "z" in carry:
        new["z"] = carry["z"] * lax.complex(jnp.cos(h), pick(2)) * 0.5
        new["h"] = jnp.tanh(new["h"] + [new["z"].real, carry["z"].imag][form("z") % 2])
    if "w" in carry:
        new["w"] = [carry["w"] * 0.9, carry["w"], carry["w"] + 0.1 * h.T @ pick(1), p["w"]][form("w")]
    if "low" in carry:
        new["low"] = [carry["low"] * 0.5, jnp.sin(pick(1)).astype(jnp.float32)][form("low") % 2]
        new["h"] = new["h"] + carry["low"].astype(h.dtype)
    if "still" in carry:
        new["still"] = carry["still"]
    return new


def outputs(program: Program, carry: Args, x: Args, pick: Callable) -> Any:
    """One step's outputs."""
    form = program.forms["ys"]
    if form == 0:
        return None
    ys = {"y": pick(3)}
    if form > 1:
        ys |= {"q": pick(4) @ jnp.ones((pick(4).shape[1], 2)), "constant": jnp.ones(2), "before": carry["h"]}
    if form > 2:
        ys |= {k: v for k, v in {**x, **carry}.items() if k in ("n", "flag", "key", "k", "g", "i")}
    return ys


def base(program: Program, scan: Callable, options: dict) -> Function:
    """The scan as a function of all arguments; its results as a flat list."""

    def f(a: Args) -> list:
        p, carry, x = ({k[2:]: v for k, v in a.items() if k[0] == kind} for kind in "pcx")
        call = functools.partial(scan, **options)
        return jax.tree.leaves(call(make_body(program, p, scan), carry, x or None, program.length))

    return f


# --- transformations: each takes a function of all arguments and gives another


def floats(values: list) -> list:
    return [v for v in values if jnp.issubdtype(v.dtype, jnp.inexact)]


def wave(v: Any, at: float) -> Any:
    """Fixed numbers of an array's type."""
    return jnp.cos(jnp.arange(v.size) + at).reshape(v.shape).astype(v.dtype) + v * 0


def moving(f: Function, a: Args) -> tuple[Callable, Args]:
    """`f` as a function of its floating arguments alone, and those."""
    return lambda d: floats(f({**a, **d})), {k: v for k, v in a.items() if jnp.issubdtype(v.dtype, jnp.inexact)}


def vjp(f: Function) -> Function:
    def g(a: Args) -> list:
        of, d = moving(f, a)
        out, pull = jax.vjp(of, d)
        return [*out, *jax.tree.leaves(pull([wave(lax.stop_gradient(v), 1.0) for v in out]))]

    return g


def grad(f: Function) -> Function:
    def g(a: Args) -> list:
        of, d = moving(f, a)
        total = lambda d: sum(jnp.sum(jnp.sin(jnp.real(v) + 2 * jnp.imag(v)).astype(jnp.float64)) for v in of(d))
        return jax.tree.leaves(jax.grad(total)(d))

    return g


def jvp(f: Function) -> Function:
    def g(a: Args) -> list:
        of, d = moving(f, a)
        some = {k: v for n, (k, v) in enumerate(d.items()) if len(d) < 3 or n % 3}
        return jax.tree.leaves(
            jax.jvp(lambda s: of({**d, **s}), (some,), ({k: wave(v, 2.0) for k, v in some.items()},))
        )

    return g


def two(v: Any, axis: int) -> Any:
    """Two values beside each other: the value, and another of its type."""
    if jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
        other = jax.random.fold_in(v, 7) if v.ndim == 0 else v[::-1]
    elif v.dtype == bool:
        other = ~v
    else:
        other = v + 1 if jnp.issubdtype(v.dtype, jnp.integer) else v * 0.7
    return jnp.stack([v, other], axis)


def vmap(f: Function, some: frozenset, name: str | None = None) -> Function:
    def g(a: Args) -> list:
        axes = {k: (len(k) % 2 * v.ndim if k in some else None) for k, v in a.items()}
        return jax.vmap(f, (axes,), axis_name=name)(
            {k: v if axes[k] is None else two(v, axes[k]) for k, v in a.items()}
        )

    return g


@functools.cache
def two_devices() -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])


def devices(f: Function, some: frozenset) -> Function:
    def local(a: Args) -> list:
        mine = {k: v[0] if k in some else v for k, v in a.items()}
        return [_jax.vary_over(v, frozenset({"devices"}))[None] for v in f(mine)]

    def g(a: Args) -> list:
        specs = {k: PartitionSpec("devices") if k in some else PartitionSpec() for k in a}
        mapped = jax.shard_map(local, mesh=two_devices(), in_specs=(specs,), out_specs=PartitionSpec("devices"))
        return mapped({k: two(v, 0) if k in some else v for k, v in a.items()})

    return g


def nested(program: Program, f: Function) -> Function:
    """The whole nest round `f`."""
    for way, some in zip(program.nest, program.batched, strict=True):
        if way in ("vmap", "lanes"):
            f = vmap(f, some, "lanes" if way == "lanes" else None)
        elif way == "devices":
            f = devices(f, some)
        else:
            f = {"vjp": vjp, "grad": grad, "jvp": jvp, "jit": jax.jit, "checkpoint": jax.checkpoint}[way](f)
    return f


# --- oracles


def python_loop(f: Callable, init: Any, xs: Any, length: int, reverse: bool = False) -> Any:
    """`lax.scan` as its documentation says it."""
    steps, ys = range(length), [None] * length
    for t in reversed(steps) if reverse else steps:
        init, ys[t] = f(init, jax.tree.map(lambda x, t=t: x[t], xs))
    if length:
        return init, jax.tree.map(lambda *y: jnp.stack(y), *ys)
    shape = jax.eval_shape(f, init, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs))[1]
    empty = lambda y: (
        jnp.zeros((0, *y.shape), y.dtype) if not is_key(y) else jax.random.split(jax.random.key(0), (0, *y.shape))
    )
    return init, jax.tree.map(empty, shape)


def is_key(v: Any) -> bool:
    return jnp.issubdtype(v.dtype, jax.dtypes.prng_key)


def plain(values: list) -> list:
    """Keys as their numbers."""
    return [jax.random.key_data(v) if is_key(v) else v for v in values]


class Failure(Exception):
    """What is wrong with a program; the first argument is the kind."""


def run(program: Program) -> str:
    """Run one program: "held", or "raises" where both do. Raises `Failure`."""
    shared = {k: v for k, v in program.options.items() if k in ("reverse", "unroll")}
    theirs = nested(program, base(program, lax.scan, shared))
    ours = nested(program, base(program, own_scan, program.options))
    looped = nested(program, base(program, python_scan, {k: v for k, v in shared.items() if k == "reverse"}))
    functions = [theirs, ours, *([looped] if program.second_oracle else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            results = jax.jit(lambda a: [plain(f(a)) for f in functions])(program.args)
        except Exception:
            return apart(program, theirs, ours, looped)
    try:
        compare(program, results[0], results[1], "lax.scan")
    except Failure:
        return unsure(program, looped, results)
    if program.second_oracle:
        compare(program, results[2], results[1], "a Python loop")
    return "held"


def unsure(program: Program, looped: Function, results: list) -> str:
    """A rule that says another slope than the function has makes lax.scan's own higher derivatives unsure: which is held instead.

    JAX 0.12 loses the rule in some bodies (`lax.scan`, at the second derivative) and keeps it in others; a loop keeps it.
    Raises `Failure` where neither holds, nor the same program with rules that say the slope of their functions.
    """
    judge = results[2] if program.second_oracle else jax.jit(lambda a: plain(looped(a)))(program.args)
    if agree(program, judge, results[1]):
        return "held by the Python loop, not by lax.scan"
    if agree(program, judge, results[0]) or HONEST.get():
        compare(program, results[0], results[1], "lax.scan")  # raises
    reset = HONEST.set(True)
    try:
        run(program)
    finally:
        HONEST.reset(reset)
    return "held with rules that say the slope, where lax.scan and the Python loop differ"


def agree(program: Program, a: list, b: list) -> bool:
    with contextlib.suppress(Failure):
        compare(program, a, b, "")
        return True
    return False


def own_scan(f: Callable, init: Any, xs: Any, length: int | None = None, **options: Any) -> Any:
    return rj.scan(f, init, xs, length, **options)


def python_scan(f: Callable, init: Any, xs: Any, length: int | None = None, reverse: bool = False) -> Any:
    return python_loop(f, init, xs, len(jax.tree.leaves(xs)[0]) if length is None else length, reverse)


def apart(program: Program, theirs: Function, ours: Function, looped: Function) -> str:
    """Something raised: what, and whether both do alike. What `lax.scan` cannot do, a loop may: that is held then."""
    expected = None
    try:
        want = jax.jit(lambda a: plain(theirs(a)))(program.args)
    except Exception as error:
        expected = error
    try:
        got = jax.jit(lambda a: plain(ours(a)))(program.args)
    except Exception as error:
        if type(error) is type(expected) or (is_forward_mode(expected) and is_forward_mode(error)):
            return "raises"
        where = [f for f in traceback.extract_tb(error.__traceback__) if "rnnjax" in f.filename]
        at = f"{os.path.basename(where[-1].filename)}:{where[-1].name}" if where else ""
        told = f"{type(error).__name__} at {at}: {str(error)[:160]}".replace("\n", " ")
        if expected is None:
            raise Failure(f"raises where lax.scan works: {told}") from error
        raise Failure(
            f"raises another than lax.scan ({type(expected).__name__} {str(expected)[:80]}): {told}"
        ) from error
    if expected is not None and "Please open an issue at" in str(expected):
        return "held"  # a defect of JAX's own, by its own words
    if expected is not None:
        with contextlib.suppress(Exception):
            compare(program, jax.jit(lambda a: plain(looped(a)))(program.args), got, "a Python loop")
            return "held by the Python loop, where lax.scan raises"
        raise Failure(f"works where lax.scan raises {type(expected).__name__}: {str(expected)[:160]}")
    compare(program, want, got, "lax.scan (compiled apart)")
    return "held"  # the Python loop alone cannot run it


def is_forward_mode(error: Exception | None) -> bool:
    """JAX complains of the forward mode of a custom_vjp function in three ways, by which transformation meets it first."""
    return isinstance(error, (TypeError, NotImplementedError)) and "custom_" in str(error)


def compare(program: Program, want: list, got: list, oracle: str) -> None:
    if [(v.shape, v.dtype) for v in want] != [(v.shape, v.dtype) for v in got]:
        raise Failure(f"types differ from {oracle}")
    tolerance = 2e-3 if program.loose else 1e-7
    for n, (a, b) in enumerate(zip(want, got, strict=True)):
        if a.dtype == jax.dtypes.float0:
            continue
        scale = np.max(np.abs(np.asarray(a)), initial=1.0, where=np.isfinite(np.asarray(a)))
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            worst = np.max(np.abs(np.asarray(a, complex) - np.asarray(b, complex)))
            raise Failure(f"numbers differ from {oracle}: result {n} of {len(want)}, by {worst:.3g} at {scale:.3g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--show", action="store_true", help="print programs and tracebacks")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    count: collections.Counter = collections.Counter()
    kinds: collections.Counter = collections.Counter()
    begin = time.time()
    for seed in range(given.start, given.start + given.count):
        if time.time() - begin > given.seconds:
            break
        program = draw(seed)
        if given.show:
            print(program.describe())
        try:
            count[run(program)] += 1
        except Failure as failure:
            count["failed"] += 1
            kinds[str(failure)[:90]] += 1
            print(f"seed {seed}: {failure}", flush=True)
            if given.show:
                traceback.print_exc()
        if seed % 50 == 49:
            jax.clear_caches()
            print(f"# {seed + 1}: {dict(count)}, {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    print(f"JAX {jax.__version__}: {sum(count.values())} programs from seed {given.start}: {dict(count)}")
    for kind, n in kinds.most_common():
        print(f"{n:5} {kind}")
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
