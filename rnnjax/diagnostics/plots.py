"""Pictures of what the diagnostics find, fit for print. Each takes ``axes`` or makes its own, and returns them; needs matplotlib
(``rnnjax[plot]``). Save one with ``axes.figure.savefig("picture.pdf")``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Okabe and Ito's colours, told apart by all readers, and each with a line of its own for print in black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
GREY = "#808080"


def plot_gradient_flow(
    flows: Mapping[str, Any], *, exponents: Mapping[str, float] | None = None, axes: Any = None
) -> Any:
    """Norms ``[T]`` of `gradient_flow` by name on one axis, logarithmic.

    exponents: largest Lyapunov exponents by the same names; each is drawn dashed, the slope that it predicts, through the flow's middle.
    A norm of zero, or one that is not finite, leaves a gap.

    >>> import numpy as np
    >>> axes = plot_gradient_flow({"vanishing": 0.5 ** np.arange(9.0)[::-1]}, exponents={"vanishing": np.log(0.5)})
    >>> axes.get_yscale()
    'log'
    """
    axes = _axes(axes)
    for i, (name, norms) in enumerate(flows.items()):
        norms = np.asarray(norms, float)
        norms = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
        axes.plot(norms, label=name, color=_colour(i), linewidth=1.6)
        if name in (exponents or {}):
            t, line = _predicted(norms, float((exponents or {})[name]))
            axes.plot(t, line, color=_colour(i), linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set(yscale="log", xlabel="step t", ylabel=r"$|\partial L\, /\, \partial\, \mathrm{carry}_t|$")
    return _finish(axes, note="dashed: what the largest Lyapunov exponent predicts" if exponents else "")


def plot_lyapunov(reports: Mapping[str, Any] | Any, *, axes: Any = None) -> Any:
    """The spectra of `Lyapunov` reports by name (or of one): exponents over their rank, with 1.96 standard errors.

    Pass ``axes`` of your own to set it beside `plot_lyapunov_history`.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> halve = lambda params, carry, x: (0.5 * carry, carry)
    >>> found = rj.diagnostics.lyapunov(halve, {}, jnp.zeros((20, 1)), carry=jnp.ones(2), report=True)
    >>> plot_lyapunov(found).get_xlabel()
    'rank i'
    """
    axes = _axes(axes)
    for i, (name, report) in enumerate(_named(reports).items()):
        lams, error = (np.asarray(a, float).reshape(-1, a.shape[-1]) for a in report[:2])
        for row, (lam, err) in enumerate(zip(lams, error)):
            at = np.arange(1, len(lam) + 1)
            axes.fill_between(at, lam - 1.96 * err, lam + 1.96 * err, color=_colour(i), alpha=0.25, linewidth=0)
            few = {"marker": "o", "markersize": 4} if len(lam) <= 32 else {}
            axes.plot(at, lam, color=_colour(i), linewidth=1.2, label=name if row == 0 else None, **few)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="rank i", ylabel=r"exponent $\lambda_i$ per step")
    return _finish(axes)


def plot_lyapunov_history(report: Any, *, first: int = 4, axes: Any = None) -> Any:
    """How the ``first`` exponents of one `Lyapunov` report settle over time; the bands are 1.96 standard errors round the last value.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> halve = lambda params, carry, x: (0.5 * carry, carry)
    >>> found = rj.diagnostics.lyapunov(halve, {}, jnp.zeros((20, 1)), carry=jnp.ones(2), report=True)
    >>> plot_lyapunov_history(found).get_xscale()
    'log'
    """
    axes = _axes(axes)
    history, steps = np.asarray(report.history, float), np.asarray(report.steps)
    if history.ndim != 2:
        raise ValueError(
            f"plot_lyapunov_history: one sequence at a time, got a history of shape {history.shape}; take one of the batch: "
            "report.history[:, b]"
        )
    for i in range(min(first, history.shape[1])):
        lam, err = float(report.exponents[i]), float(report.standard_error[i])
        axes.axhspan(lam - 1.96 * err, lam + 1.96 * err, color=_colour(i), alpha=0.2, linewidth=0)
        axes.plot(steps, history[:, i], color=_colour(i), linewidth=1.2, label=rf"$\lambda_{{{i + 1}}}$ = {lam:.3g}")
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set(xscale="log", xlabel="steps after the warm-up", ylabel=r"estimate of $\lambda_i$ per step")
    return _finish(axes)


def plot_fixed_points(found: Any, *, states: Any = None, axes: Any = None) -> Any:
    """`FixedPoints` in the plane of their two widest directions: stable ones full, others open, slow ones crosses.

    states: carries ``[..., *carry]`` that the network visits, drawn faintly as lines over their first axis; the plane is then theirs.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> twice = lambda params, h, x: (jnp.tanh(2 * h), h)
    >>> found = rj.diagnostics.fixed_points(twice, {}, jnp.zeros(1), jnp.linspace(-1.0, 1.0, 9)[:, None] * jnp.ones(2))
    >>> plot_fixed_points(found).get_xlabel()
    'principal component 1'
    """
    axes = _axes(axes, (4.6, 4.2))
    count = len(np.asarray(found.residual))
    points = _vectors(found.points, 1)
    paths = None if states is None else _vectors(states, None)
    mean, plane = _plane(points if paths is None else paths.reshape(-1, paths.shape[-1]))
    if paths is not None:
        lines = ((paths - mean) @ plane).reshape(len(paths), -1, 2)
        axes.plot(lines[..., 0], lines[..., 1], color=GREY, linewidth=0.5, alpha=0.35, zorder=1)
    at = (points - mean) @ plane
    stable = np.asarray(found.stable)
    slow = np.asarray(found.residual) > 1e-3 * max(1.0, float(np.abs(points).max(initial=0)))
    kinds = (
        ("stable", stable, {"marker": "o", "color": COLOURS[0]}),
        (
            "unstable",
            ~stable & ~slow,
            {"marker": "o", "facecolors": "white", "edgecolors": COLOURS[1], "linewidths": 1.4},
        ),
        ("slow", ~stable & slow, {"marker": "x", "color": COLOURS[3]}),
    )
    for name, which, style in kinds:
        if which.any():
            axes.scatter(at[which, 0], at[which, 1], s=36, zorder=3, label=f"{which.sum()} {name}", **style)
    axes.set(xlabel="principal component 1", ylabel="principal component 2")
    return _finish(axes) if count else axes


def plot_jacobian(jacobian: Any, *, axes: Any = None) -> Any:
    """The eigenvalues of a Jacobian ``[d, d]``, or those of `FixedPoints`, ``[..., d]``, complex, with the unit circle.

    >>> plot_jacobian(0.5 * np.eye(3)).get_xlabel()
    'real part'
    """
    axes = _axes(axes, (4.2, 4.2))
    given = np.asarray(jacobian)
    eigenvalues = given.reshape(-1) if np.iscomplexobj(given) else np.linalg.eigvals(given)
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    axes.plot(np.real(circle), np.imag(circle), color=GREY, linewidth=0.8)
    outside = np.abs(eigenvalues) >= 1
    for name, which, colour in (("grow", outside, COLOURS[1]), ("decay", ~outside, COLOURS[0])):
        if which.any():
            axes.scatter(
                np.real(eigenvalues[which]),
                np.imag(eigenvalues[which]),
                s=14,
                color=colour,
                label=f"{which.sum()} {name}",
            )
    axes.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    return _finish(axes)


def plot_memory_capacity(found: Mapping[str, Any] | Any, *, axes: Any = None) -> Any:
    """Of each `MemoryCapacity` by name (or of one) what is remembered at every delay; the totals stand in the legend.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> last = lambda params, h, x: (x, x)
    >>> found = rj.diagnostics.memory_capacity(last, {}, jax.random.normal(jax.random.key(0), (50, 1)), carry=jnp.zeros(1))
    >>> plot_memory_capacity({"one step": found}).get_xlabel()
    'delay k'
    """
    axes = _axes(axes)
    for i, (name, one) in enumerate(_named(found).items()):
        label = f"{name}: {float(one.total):.1f}" if name else f"{float(one.total):.1f} in all"
        axes.plot(
            np.asarray(one.by_delay).sum(-1), drawstyle="steps-mid", color=_colour(i), linestyle=_line(i), label=label
        )
    axes.set(xlabel="delay k", ylabel=r"capacity MC$_k$", ylim=(-0.05, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(axes)


def plot_gate_saturation(found: Mapping[str, Any], *, names: Mapping[str, str] | None = None, axes: Any = None) -> Any:
    """Every unit of every gate of `gate_saturation`, by how often it is open and how often shut (Karpathy's picture).

    Below the diagonal line all is possible; on it a unit is a switch; at the origin it never saturates. names: of the gates, by
    those of ``found``.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jnp.ones((5, 3))
    >>> found = rj.diagnostics.gate_saturation(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> plot_gate_saturation(found).get_xlabel()
    'share of steps open'
    """
    axes = _axes(axes, (4.4, 4.2))
    axes.plot([0, 1], [1, 0], color=GREY, linewidth=0.8)
    for i, (name, gate) in enumerate(found.items()):
        shown = (names or {}).get(name, name)
        label = f"{shown}: {float(gate.above):.0%} open, {float(gate.below):.0%} shut"
        place = (np.asarray(gate.units_above).ravel(), np.asarray(gate.units_below).ravel())
        axes.scatter(*place, s=18, alpha=0.6, color=_colour(i), linewidths=0, label=label, clip_on=False)
    axes.set(xlabel="share of steps open", ylabel="share of steps shut", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return _finish(axes)


def _axes(axes: Any, size: tuple[float, float] = (6.0, 3.6)) -> Any:
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=150, layout="constrained").subplots()


def _finish(axes: Any, note: str = "") -> Any:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        legend = axes.legend(frameon=False, fontsize="small", title=note or None, title_fontsize="x-small")
        legend.set_alignment("left")
    return axes


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _line(i: int) -> str:
    return LINES[i % len(LINES)]


def _named(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {"": found}


def _predicted(norms: np.ndarray, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """The line of slope ``-exponent`` through the middle of the logarithms that there are."""
    t = np.flatnonzero(np.isfinite(norms))
    logs = np.log(norms[t])
    return t, np.exp(logs.mean() - exponent * (t - t.mean()))


def _vectors(tree: Any, lead: int | None) -> np.ndarray:
    """All leaves side by side, ``[*lead, d]``; complex ones as two parts. lead None: all axes but the last."""
    leaves = [np.asarray(a) for a in jax.tree.leaves(tree)]
    parts = [part for a in leaves for part in ((np.real(a), np.imag(a)) if np.iscomplexobj(a) else (a,))]
    flat = [a.reshape(*a.shape[: a.ndim - 1 if lead is None else lead], -1) for a in parts]
    return np.concatenate(flat, axis=-1).astype(float)


def _plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the two widest directions ``[d, 2]``; of one dimension the second is nothing."""
    mean = points.mean(0)
    _, _, directions = np.linalg.svd(points - mean, full_matrices=False)
    plane = np.zeros((points.shape[1], 2))
    plane[:, : min(2, len(directions))] = directions[:2].T
    return mean, plane
