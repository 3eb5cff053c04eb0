"""General sparse least-squares solvers on the fit's energy: SciPy, CHOLMOD and Ceres, each driven as well as it can be.

The unknowns are the whole field (3v), 52 expressions, a rotation vector, translation and log focal scale. All peers
start where the library's fit does and minimise its energy with the contour's anchors held, over the same residuals.
Each function prepares what does not depend on the photo and returns a function that fits one of the task's photos, and
one that reads the state out of what that returned. A setting that differs from a solver's default is named there.
"""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.linalg import block_diag, expm

from benchmarks.fitting.problem import Photo, State
from benchmarks.fitting.reference import Model, Reference, factorised
from benchmarks.harness import time_calls

ITERATIONS = 5
Solve = Callable[[int], Any]
Read = Callable[[int, Any], State]


class Task(NamedTuple):
    """Photos to fit, from given starts, and the energies to reach; can be sent to another process."""

    model: Model
    photos: list[Photo]
    starts: list[State]
    minima: list[float]
    """Energies of the reference implementation at convergence."""

    def references(self) -> list[tuple[Reference, np.ndarray]]:
        """Return each photo's reference implementation and the scale of its residuals."""
        references = [Reference(self.model, photo) for photo in self.photos]
        return [(reference, reference.scale(start)) for reference, start in zip(references, self.starts)]

    def units(self) -> np.ndarray:
        """Return one over the root of the first photo's curvature at its start, for each of all unknowns.

        Without these units conjugate gradients and LSMR need many times the iterations.
        """
        reference, scale = self.references()[0]
        return 1.0 / np.sqrt(reference.normal_equations(scale, self.starts[0])[0].diagonal())


def gauss_newton(task: Task, step: Callable[[Reference, np.ndarray, State], np.ndarray]) -> tuple[Solve, Read]:
    """Run plain Gauss-Newton with a function for its increment."""
    references = task.references()

    def solve(index: int) -> State:
        (reference, scale), state = references[index], task.starts[index]
        for _ in range(ITERATIONS):
            state = state.moved(step(reference, scale, state))
        return state

    return solve, lambda _, state: state


def sparse_lu(task: Task) -> tuple[Solve, Read]:
    """SciPy's SuperLU, ordered for symmetric matrices, without pivoting."""

    def step(reference: Reference, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = reference.normal_equations(scale, state)
        return -factorised(matrix).solve(right)

    return gauss_newton(task, step)


def sparse_cholesky(task: Task) -> tuple[Solve, Read]:
    """SuiteSparse's CHOLMOD, supernodal; analysed once, with the ordering that proves fastest here."""
    analyze = importlib.import_module("sksparse.cholmod").analyze  # not in the bench extra: needs a system library
    reference, scale = task.references()[0]
    matrix = sp.csc_matrix(reference.normal_equations(scale, task.starts[0])[0])
    orderings = ("nesdis", "metis", "amd", "colamd")
    factors = [analyze(matrix, mode="supernodal", ordering_method=ordering) for ordering in orderings]

    def seconds(factor: Any) -> float:
        return time_calls(partial(factor.cholesky_inplace, matrix), np.inf, warm_up=True, most=1).wall_s

    factor = min(factors, key=seconds)

    def step(reference: Reference, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = reference.normal_equations(scale, state)
        factor.cholesky_inplace(sp.csc_matrix(matrix))
        return -factor(right)

    return gauss_newton(task, step)


def lsmr(task: Task, tolerance: float = 4e-6) -> tuple[Solve, Read]:
    """SciPy's LSMR on the sparse Jacobian in the task's units; a looser tolerance ends short of the minimum."""
    unit = task.units()

    def step(reference: Reference, scale: np.ndarray, state: State) -> np.ndarray:
        jacobian = reference.jacobian(scale, state)
        jacobian.data *= unit[jacobian.indices]
        transposed = sp.csr_array(jacobian.T)
        operator = spl.LinearOperator(jacobian.shape, matvec=jacobian.dot, rmatvec=transposed.dot, dtype=jacobian.dtype)  # pyright: ignore[reportCallIssue]
        limits: dict[str, Any] = {"atol": tolerance, "btol": tolerance, "conlim": 0.0, "maxiter": 20_000}
        return unit * spl.lsmr(operator, -reference.residuals(scale, state), **limits)[0]

    return gauss_newton(task, step)


def ceres(task: Task) -> tuple[Solve, Read]:
    """Ceres' Levenberg-Marquardt, hardly damped, with SuiteSparse; three parameters a vertex.

    The problem is built once, of increments from the start. Its derivatives are analytic, but Python's; what the linear
    solver alone takes is reported beside.
    """
    import pyceres

    class Cost(pyceres.CostFunction):
        """A residual, and its derivatives by each block of parameters, as a function returns them."""

        def __init__(self, evaluate: Callable[[list[np.ndarray]], tuple[Any, Callable]], size: int, blocks: list[int]):
            super().__init__()
            self.evaluate = evaluate
            self.set_num_residuals(size)
            self.set_parameter_block_sizes(blocks)

        def Evaluate(self, parameters: Any, residuals: Any, jacobians: Any) -> bool:  # noqa: N802
            residuals[:], derivatives = self.evaluate(parameters)
            if jacobians is not None:
                for given, own in zip(jacobians, derivatives()):
                    given[:] = own.ravel()
            return True

    model, photo = task.model, _CeresPhoto(task)
    field, other = np.zeros_like(model.mean), np.zeros(len(model.modes) + 7)
    blocks, problem, kept = list(field), pyceres.Problem(), []

    def add(evaluate: Callable, size: int, parameters: list[np.ndarray]) -> None:
        kept.append(Cost(evaluate, size, [len(block) for block in parameters]))
        problem.add_residual_block(kept[-1], None, parameters)

    rows = sp.csr_array(model.layout.rows)
    rows.sum_duplicates()
    for k, (corners, weights) in enumerate(_rows_of(rows)):
        add(partial(photo.image, k, weights), 2, [*(blocks[corner] for corner in corners), other])
    for i, (neighbours, weights) in enumerate(_rows_of(model.rough)):
        slopes = weights[:, None, None] * np.eye(3)
        add(partial(_linear, weights.tolist(), slopes), 3, [blocks[j] for j in neighbours])
        kept.append(pyceres.factors.NormalPrior(np.zeros(3), np.eye(3) / model.plain[i] ** 2))
        problem.add_residual_block(kept[-1], None, [blocks[i]])
    add(photo.prior, 2 * len(model.modes) + 4, [other])

    options = pyceres.SolverOptions()
    options.linear_solver_type = pyceres.LinearSolverType.SPARSE_NORMAL_CHOLESKY
    options.sparse_linear_algebra_library_type = pyceres.SparseLinearAlgebraLibraryType.SUITE_SPARSE
    options.max_num_iterations, options.num_threads = ITERATIONS, 1
    options.function_tolerance = options.gradient_tolerance = options.parameter_tolerance = 1e-14
    options.initial_trust_region_radius = 1e12
    options.minimizer_progress_to_stdout = False

    def solve(index: int) -> tuple[State, dict[str, float]]:
        photo.select(index)
        field[:], other[:] = 0.0, 0.0
        summary = pyceres.SolverSummary()
        pyceres.solve(options, problem, summary)
        found = photo.at(other)[0]._replace(field=field.copy())
        return found, {"linear solver": summary.linear_solver_time_in_seconds}

    return solve, lambda _, found: found[0]


class _CeresPhoto:
    """Residuals and derivatives of the photo that is fitted now; translation in units of 100 mm."""

    def __init__(self, task: Task):
        self.task, self.references = task, task.references()

    def select(self, index: int) -> None:
        (self.reference, self.scale), self.start, self.key = self.references[index], self.task.starts[index], b""

    def at(self, other: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """Return the state without field, its landmarks, and the derivative of its increment by ``other`` [m m]."""
        if other.tobytes() != self.key:  # all landmarks ask for the same in turn
            cross = np.cross(np.eye(3), other[-7:-4])
            left = expm(np.block([[cross, np.eye(3)], [np.zeros((3, 6))]]))[:3, 3:]  # that of the exponential map
            metric = np.diag(np.r_[np.full(3, 100.0), 1.0])
            increment = np.r_[np.zeros(self.start.field.size), other[:-4], metric @ other[-4:]]
            state, chain = self.start.moved(increment), block_diag(np.eye(len(other) - 7), left, metric)
            self.key, self.found = other.tobytes(), (state, self.reference.points(state), np.asarray(chain))
        return self.found

    def image(self, k: int, weights: np.ndarray, parameters: list[np.ndarray]) -> tuple[np.ndarray, Callable]:
        """Evaluate one landmark."""
        *moved, other = parameters
        reference, scale = self.reference, self.scale[k]
        state, points, chain = self.at(other)
        point = points[k] + weights @ np.array(moved)

        def derivatives() -> list[np.ndarray]:
            by_point, by_other = reference.image_jacobians(scale, state, point, reference.point_modes[k])
            return [*(weight * by_point for weight in weights), by_other @ chain]

        return scale * (reference.project(point, state) - reference.landmarks[k]), derivatives

    def prior(self, parameters: list[np.ndarray]) -> tuple[np.ndarray, Callable]:
        """Evaluate the priors of coefficients and pose."""
        state, _, chain = self.at(parameters[0])
        return self.reference.prior_residuals(state), lambda: [self.reference.prior_jacobian(state) @ chain]


def _linear(weights: list[float], derivatives: np.ndarray, parameters: list[np.ndarray]) -> tuple[Any, Callable]:
    """Evaluate a weighted sum of parameter blocks."""
    return sum(weight * block for weight, block in zip(weights, parameters)), lambda: derivatives


def _rows_of(matrix: sp.csr_array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield columns and values of each row."""
    for start, end in pairwise(matrix.indptr):
        yield matrix.indices[start:end], matrix.data[start:end]
