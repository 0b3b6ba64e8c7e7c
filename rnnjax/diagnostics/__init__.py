"""Ways to look inside a recurrent network: numbers first, and pictures of them where matplotlib is installed."""

from rnnjax.diagnostics.fixed import FixedPoints, fixed_points
from rnnjax.diagnostics.flow import gradient_flow, plot_gradient_flow
from rnnjax.diagnostics.jacobian import jacobian
from rnnjax.diagnostics.lyapunov import lyapunov

__all__ = ["FixedPoints", "fixed_points", "gradient_flow", "jacobian", "lyapunov", "plot_gradient_flow"]
