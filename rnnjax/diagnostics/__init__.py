"""Ways to look inside a recurrent network: numbers first, and pictures of them where matplotlib is installed."""

from rnnjax.diagnostics.flow import gradient_flow, plot_gradient_flow
from rnnjax.diagnostics.jacobian import jacobian

__all__ = ["gradient_flow", "jacobian", "plot_gradient_flow"]
