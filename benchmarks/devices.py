"""Question 10: what does a training step do over 1 to 8 devices, each with the same rows?

The devices are those of one CPU, which share its cores: with n of them on c cores a step takes n / c times that of one core at best.

    python benchmarks/devices.py [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import arguments, machine, machine_line, save, save_figure

import rnnjax as rj
from rnnjax.bench import print_rows, stopwatch, take_turns

COUNTS = (1, 2, 4, 8)
SHAPE = (64, 16, 128)  # time, rows of each device, features
QUICK = (16, 4, 16)


def step_over(devices: int, rows: int, shape: tuple[int, int, int]) -> tuple[Callable[[], Any], Callable[[], float]]:
    """A training step of so many rows over so many devices, and the loss of its first run."""
    time, _, features = shape
    xs = np.random.default_rng(0).normal(size=(time, rows, features)).astype(np.float32)
    cell = rj.LSTM(features)

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        return rj.losses.over_time(rj.losses.mse(rj.unroll(cell, params, xs)[1], jnp.tanh(xs)))

    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    optimizer = optax.sgd(0.0)  # the parameters stay, so that every step is the same
    step = rj.train.make_step(rj.train.stateless(loss), optimizer, mesh=mesh, batch_axis=1)
    state = [rj.train.start(cell.init(jax.random.key(0), xs[0]), optimizer)]

    def run() -> Any:
        state[0], report = step(state[0], xs)
        return report.loss

    return run, lambda: float(run())


def main() -> None:
    options = arguments(__doc__)
    jax.config.update("jax_num_cpu_devices", COUNTS[-1])
    print(machine_line())
    shape = QUICK if options.quick else SHAPE
    sides = {n: step_over(n, n * shape[1], shape) for n in COUNTS}
    for n in COUNTS:  # the numbers of one device with all the rows
        np.testing.assert_allclose(sides[n][1](), step_over(1, n * shape[1], shape)[1](), rtol=1e-5)
    times = take_turns({str(n): stopwatch(sides[n][0]) for n in COUNTS}, options.repeats)
    cores, rows = machine()["cores"], []
    for n in COUNTS:
        took, one = median(times[str(n)]), median(times["1"])
        rows.append({"devices": n, "rows": n * shape[1], "step": took, "growth": one * n / took, "most": min(n, cores)})
    print_rows(
        rows, ("devices", "rows", "step", "growth", "most"), "LSTM, training step, ms; rows a second against one device"
    )
    save("devices", rows, options)
    plot(rows, cores, options)


def plot(rows: list[dict[str, Any]], cores: int, options: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    counts = [row["devices"] for row in rows]
    ax.plot(counts, counts, color="grey", linewidth=0.8, label="each device a core of its own")
    ax.plot(counts, [row["most"] for row in rows], linestyle="--", label=f"{cores} cores at best")
    ax.plot(counts, [row["growth"] for row in rows], marker="o", label="measured")
    ax.set(xlabel="devices, each with the same rows", ylabel="rows a second, one device = 1", xticks=counts)
    ax.set_ylim(0, max(counts) * 1.05)
    ax.legend()
    save_figure(fig, "devices", options)


if __name__ == "__main__":
    main()
