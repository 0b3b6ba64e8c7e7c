"""Ways to look inside a recurrent network: numbers first, and pictures of them where matplotlib is installed."""

from rnnjax.diagnostics.capacity import MemoryCapacity, memory_capacity
from rnnjax.diagnostics.fixed import FixedPoints, fixed_points
from rnnjax.diagnostics.flow import gradient_flow
from rnnjax.diagnostics.gates import Saturation, gate_saturation
from rnnjax.diagnostics.jacobian import jacobian
from rnnjax.diagnostics.lyapunov import Lyapunov, kaplan_yorke, lyapunov
from rnnjax.diagnostics.plots import (
    plot_fixed_points,
    plot_gate_saturation,
    plot_gradient_flow,
    plot_jacobian,
    plot_lyapunov,
    plot_lyapunov_history,
    plot_memory_capacity,
)
from rnnjax.diagnostics.slope import GradientSlope, gradient_slope

__all__ = [
    "FixedPoints",
    "GradientSlope",
    "Lyapunov",
    "MemoryCapacity",
    "Saturation",
    "fixed_points",
    "gate_saturation",
    "gradient_flow",
    "gradient_slope",
    "jacobian",
    "kaplan_yorke",
    "lyapunov",
    "memory_capacity",
    "plot_fixed_points",
    "plot_gate_saturation",
    "plot_gradient_flow",
    "plot_jacobian",
    "plot_lyapunov",
    "plot_lyapunov_history",
    "plot_memory_capacity",
]
