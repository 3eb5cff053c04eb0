"""Generic, vmap-safe least squares: Gauss-Newton with damping per lane, and its linear algebra; no heads here."""

from digitaltwin.solvers.gauss_newton import State, dense_proposal, initial_state, minimise, step
from digitaltwin.solvers.linear import solve_positive_definite

__all__ = ["State", "dense_proposal", "initial_state", "minimise", "solve_positive_definite", "step"]
