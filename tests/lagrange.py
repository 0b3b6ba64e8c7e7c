"""Motion from energies alone: what the bodies of `rnnjax.tasks.physics` are compared with, in float64 and without JAX."""

import numpy as np


def accelerations(kinetic, potential, q, v, forces, h=1e-5):
    """Solves ``M a = forces + d(T - V)/dq - (dM/dt) v``, M from the kinetic energy ``T(q, v)``, quadratic in v; by differences."""
    units = np.eye(len(q))
    momentum = lambda q, v: np.array([kinetic(q, v + e) - kinetic(q, v - e) for e in units]) / 2
    along = lambda f: np.array([(f(q + h * e) - f(q - h * e)) / (2 * h) for e in units])
    inertia = np.stack([momentum(q, e) for e in units], 1)
    drift = along(lambda q: momentum(q, v)).T @ v
    return np.linalg.solve(inertia, forces + along(lambda q: kinetic(q, v) - potential(q)) - drift)
