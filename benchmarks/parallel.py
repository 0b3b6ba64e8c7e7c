"""Question 8: when does going parallel in time pay? Iterations, time and memory over T and H for each method beside the plain scan.

    python benchmarks/parallel.py [--quick | --full] [--cells gru,lru,deltanet] [--modes train,forward]

Sides: `lax.scan`, what `method="scan"` does, and each parallel method that takes the cell. Every side's outputs are compared with those
of the scan before it is timed. "deer demo" is the setting of Lim et al. 2024 (arXiv:2309.12252), section 4.1: an untrained GRU, 16
sequences of random numbers, few features, very many steps. Then the error of each method against the scan in float64 over
T, for a GRU, an observer of Lorenz's system, and Lorenz's system itself, which nothing can follow: a flag says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, cells_of, machine_line, save, save_figure

import rnnjax as rj
from rnnjax.bench import assert_equal, interleave, print_rows

CELLS: dict[str, Callable[[int], Any]] = {
    "gru": rj.GRU,
    "lstm": rj.LSTM,
    "lru": rj.LRU,
    "deltanet": lambda h: rj.DeltaNet(h, heads=max(1, h // 16)),
}
NEWTON = ("deer", "quasi_deer", "elk")
BATCH = 8
OVER_T = {"gru": ((100, 4), (1000, 4), (10000, 4), (1000, 16)), "lstm": ((1000, 4),), "lru": ((1000, 16), (10000, 16)),
          "deltanet": ((1000, 16),)}  # fmt: skip
FULL = {"gru": (*OVER_T["gru"], (1000, 64)), "lstm": ((1000, 4), (1000, 16)),
        "lru": ((100, 16), *OVER_T["lru"], (1000, 64)), "deltanet": ((1000, 16), (1000, 64), (4000, 64))}  # fmt: skip
LARGEST = 2**28  # numbers in the Jacobians of full Newton: rows beyond are left out
ELK = 2**15  # numbers in xs up to which "elk" takes part, forward: it takes hundreds of times as long as a scan
QUICK = {name: ((40, 4),) for name in OVER_T}
DEMO, QUICK_DEMO = (100000, 16, 2), (100, 4, 2)


def problem(name: str, shape: tuple[int, int, int]) -> tuple[Any, Any, jax.Array]:
    """The cell, its params, and inputs ``[T, B, H]``."""
    time, batch, features = shape
    xs = jax.random.normal(jax.random.key(1), (time, batch, features))
    cell = CELLS[name](features)
    return cell, cell.init(jax.random.key(0), xs[0]), xs


def sides_of(cell: Any, params: Any, xs: jax.Array, mode: str) -> dict[str, Callable[..., Any]]:
    """``(params, xs) -> ys`` by name (a report in place of ys where Newton's method runs forward), without those that would need too
    much memory. Backward all of Newton's methods do the same, so that "elk" goes forward only."""
    size = sum(a.size * (1 + jnp.iscomplexobj(a)) for a in jax.tree.leaves(cell.initial_carry(params, xs[0])))
    fits = len(xs) * size * size // xs.shape[1] <= LARGEST
    methods = [m for m in NEWTON if fits and (m != "elk" or (mode == "forward" and xs.size <= ELK))]
    report = mode == "forward" and not rj.parallel.is_linear(cell)
    if rj.parallel.is_linear(cell):
        methods = ["associative"]
    run = {m: partial(by_newton if report else by_method, cell, method=m) for m in methods}
    return {"lax.scan": partial(by_lax, cell), "scan": partial(by_method, cell, method="scan")} | run


def by_method(cell: Any, params: Any, xs: jax.Array, *, method: str) -> jax.Array:
    return rj.unroll(cell, params, xs, method=method)[1]


def by_newton(cell: Any, params: Any, xs: jax.Array, *, method: str) -> rj.parallel.Report:
    return rj.parallel.newton(cell, params, xs, method=method)


def by_lax(cell: Any, params: Any, xs: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda c, x: cell(params, c, x), cell.initial_carry(params, xs[0]), xs)[1]


def compiled(side: Callable[..., Any], mode: str, args: tuple[Any, ...]) -> Any:
    """A forward pass, or the gradient of a sum of squares for params and inputs."""
    work = side if mode == "forward" else jax.grad(lambda p, xs: jnp.sum(side(p, xs) ** 2), (0, 1))
    return jax.jit(work).lower(*args).compile()


def outputs(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program without what it reports beside ys."""

    def call(*args: Any) -> Any:
        out = program(*args)
        return out.ys if isinstance(out, rj.parallel.Report) else out

    return call


def measure(name: str, shape: tuple[int, int, int], mode: str, repeats: int) -> dict[str, Any]:
    """One row: milliseconds and MiB of temporaries of each side; forward, Newton's iterations, -1 where it has not converged."""
    cell, *args = problem(name, shape)
    programs = {side: compiled(f, mode, tuple(args)) for side, f in sides_of(cell, *args, mode).items()}
    answers = {side: outputs(program) for side, program in programs.items()}
    assert_equal(answers, args)
    ms = interleave(answers, args, repeats)
    mib = {f"{side} MiB": p.memory_analysis().temp_size_in_bytes / 2**20 for side, p in programs.items()}
    reports = {m: programs[m](*args) for m in NEWTON if m in programs and mode == "forward"}
    counts = {f"{m} iterations": int(r.iterations) if r.converged else -1 for m, r in reports.items()}
    best = min((m for m in ms if m not in ("lax.scan", "scan")), key=lambda m: ms[m], default=None)
    row = {"cell": name, "shape": list(shape), "mode": mode, **ms, **mib, **counts, "best parallel": best}
    row |= {"ratio": min(ms["scan"], ms["lax.scan"]) / ms[best] if best else None}
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items() if "MiB" not in k}, flush=True)
    return row


# -- error against T ---------------------------------------------------------------------------------------------------


def lorenz(dt: Any, s: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
    """One Euler step of Lorenz's system."""
    flow = jnp.stack([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])
    return s + dt * flow, s


def observer(dt: Any, s: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same with its first coordinate given: it forgets where it started."""
    return lorenz(dt, s.at[0].set(x[0]), x)


def systems(time: int) -> dict[str, tuple[Any, Any, np.ndarray, np.ndarray]]:
    """(cell, params, inputs, start) by name, in float64; call under `jax.enable_x64`."""
    start = np.array([1.0, 1.0, 20.0])
    path = jax.jit(lambda s: rj.unroll(lorenz, 0.01, jnp.zeros((time, 1)), carry=s)[1])(start)
    gru = rj.GRU(8)
    xs = np.random.default_rng(0).normal(size=(time, 4))
    params = gru.init(jax.random.key(0), jnp.asarray(xs[0]))
    return {"gru": (gru, params, xs, np.zeros(8)), "observer": (observer, 0.01, np.asarray(path[:, :1]), np.array([1.0, -3.0, 5.0])),
            "lorenz": (lorenz, 0.01, np.zeros((time, 1)), start)}  # fmt: skip


MOST = 64  # iterations here; what forgets takes a few, and chaos would take them all


def errors(time: int) -> list[dict[str, Any]]:
    """A row for each system: largest distance of float32 answers from the scan in float64, relative to its largest number."""
    rows = []
    with jax.enable_x64(True):
        for name, (cell, params, xs, start) in systems(time).items():
            exact = jax.jit(lambda p, xs, s: rj.unroll(cell, p, xs, carry=s)[1])(params, xs, start)
            low = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (params, xs, start))
            report = jax.jit(lambda p, xs, s: rj.parallel.newton(cell, p, xs, carry=s, max_iterations=MOST))(*low)
            ys = {"scan": jax.jit(lambda p, xs, s: rj.unroll(cell, p, xs, carry=s)[1])(*low), "deer": report.ys}
            far = {
                m: float(jnp.max(jnp.abs(y.astype(exact.dtype) - exact)) / jnp.max(jnp.abs(exact)))
                for m, y in ys.items()
            }
            rows.append(
                {
                    "what": name,
                    "T": time,
                    **far,
                    "iterations": int(report.iterations),
                    "converged": bool(report.converged),
                }
            )
    return rows


# -- all of it ---------------------------------------------------------------------------------------------------------


def main() -> None:
    full = lambda parser: parser.add_argument("--full", action="store_true", help="the large grid too, for an hour")
    options = arguments(__doc__, full)
    print(machine_line())
    shapes = QUICK if options.quick else FULL if options.full else OVER_T
    rows = [measure(name, (t, BATCH, h), mode, options.repeats)
            for mode in options.modes.split(",") for name in cells_of(options, tuple(CELLS)) for t, h in shapes[name]]  # fmt: skip
    demo = measure("gru", QUICK_DEMO if options.quick else DEMO, "forward", min(3, options.repeats)) | {
        "what": "deer demo"
    }
    columns = ("cell", "mode", "shape", "lax.scan", "scan", "associative", *NEWTON, "best parallel", "ratio")
    print_rows(
        [*rows, demo],
        columns,
        "milliseconds; (T, B, H); ratio: the faster scan / the best parallel; last row: deer's own demo",
    )
    print_rows(
        [r for r in (*rows, demo) if r["mode"] == "forward"],
        ("cell", "shape", *(f"{m} iterations" for m in NEWTON)),
        "iterations; -1: not converged",
    )
    memory = [f"{side} MiB" for side in ("lax.scan", "scan", "associative", *NEWTON)]
    print_rows([*rows, demo], ("cell", "mode", "shape", *memory), "MiB of temporaries")
    verdict([*rows, demo])
    far = [row for time in ((100, 300) if options.quick else (100, 1000, 10000, 100000)) for row in errors(time)]
    for row in far:
        off = "{what:9} T = {T:6}: float32 scan off by {scan:.1e}, deer by {deer:.1e}, {iterations} iterations, converged: {converged}"
        print(off.format(**row))
    save("parallel", [*rows, demo, *far], options)
    plot([*rows, demo], far, options)


def verdict(rows: list[dict[str, Any]]) -> None:
    """Which of the two ways wins, row by row counted."""
    won = [r for r in rows if r["ratio"] and r["ratio"] > 1]
    print(f"On {jax.devices()[0].device_kind} a plain scan is fastest in {len(rows) - len(won)} of {len(rows)} rows.")
    for r in won:
        print(
            f"  {r['best parallel']} wins at {r['cell']} {tuple(r['shape'])}, {r['mode']}: {r['ratio']:.2f} times as fast"
        )


def plot(rows: list[dict[str, Any]], far: list[dict[str, Any]], options: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, mode in zip(axes, ("forward", "train"), strict=False):
        some = [r for r in rows if r["mode"] == mode]
        names = [f"{r['cell']} {tuple(r['shape'])}" for r in some]
        for n, side in enumerate(("scan", "associative", *NEWTON)):
            at = [i for i, r in enumerate(some) if side in r]
            ax.plot([some[i][side] / some[i]["lax.scan"] for i in at], at, "o", color=f"C{n}", label=side)
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.set_xscale("log")
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_xlabel(f"time, lax.scan = 1 ({mode})")
    axes[0].legend(fontsize=7)
    for name in dict.fromkeys(r["what"] for r in far):
        some = [r for r in far if r["what"] == name]
        axes[2].loglog([r["T"] for r in some], [r["deer"] for r in some], marker="o", label=f"{name}, deer")
        axes[2].loglog(
            [r["T"] for r in some], [r["scan"] for r in some], linestyle=":", marker=".", label=f"{name}, scan"
        )
    axes[2].set_xlabel("T")
    axes[2].set_ylabel("error of float32")
    axes[2].legend(fontsize=7)
    save_figure(fig, "parallel", options)


if __name__ == "__main__":
    main()
