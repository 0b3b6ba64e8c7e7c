"""``loss.png``: the losses of a run over its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_losses(history: list[dict[str, Any]], unit: str, baselines: dict[str, float], path: Path) -> bool:
    """Training and held-out numbers with the baselines as lines; False, and nothing drawn, without matplotlib."""
    try:
        from matplotlib.figure import Figure  # without pyplot: needs no display and leaves no global state
    except ImportError:
        return False
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    for label, valid in (("training", False), ("held out", True)):
        lines = [line for line in history if (line.get("split") == "valid") == valid and unit in line]
        lines = [line for line in lines if not line.get("kept")]
        axes.plot([a["step"] for a in lines], [a[unit] for a in lines], marker="o" if valid else None, label=label)
    for i, (name, value) in enumerate(baselines.items()):
        axes.axhline(value, linestyle="--", linewidth=1, color=f"C{i + 2}", label=name)
    axes.set(xlabel="step", ylabel=unit.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    return True
