"""Generic, vmap-safe least squares: Gauss-Newton with damping per lane, and its linear algebra; no heads here."""

from digitaltwin.solvers.conjugate_gradient import conjugate_gradient, solve_symmetric
from digitaltwin.solvers.gauss_newton import (
    ADAPTIVE,
    CONVERGED,
    NON_FINITE,
    STALLED,
    STEPS_DONE,
    Damping,
    Result,
    State,
    Tolerance,
    init,
    run,
    step,
)
from digitaltwin.solvers.implicit import at_minimum, dense_solve, run_implicit
from digitaltwin.solvers.least_squares import (
    dense_proposal,
    least_squares,
    matrix_free_proposal,
    normal_diagonal,
    normal_step,
    orthogonal_step,
)
from digitaltwin.solvers.linear import ScaledFactor, factor_positive_definite, solve_positive_definite
from digitaltwin.solvers.robust import Loss, energy_of, geman_mcclure, huber, reweighted

__all__ = [
    "ADAPTIVE",
    "CONVERGED",
    "NON_FINITE",
    "STALLED",
    "STEPS_DONE",
    "Damping",
    "Loss",
    "Result",
    "ScaledFactor",
    "State",
    "Tolerance",
    "at_minimum",
    "conjugate_gradient",
    "dense_proposal",
    "dense_solve",
    "energy_of",
    "factor_positive_definite",
    "geman_mcclure",
    "huber",
    "init",
    "least_squares",
    "matrix_free_proposal",
    "normal_diagonal",
    "normal_step",
    "orthogonal_step",
    "reweighted",
    "run",
    "run_implicit",
    "solve_positive_definite",
    "solve_symmetric",
    "step",
]
