"""General sparse least-squares solvers on the fit's energy: SciPy, CHOLMOD and Ceres, each driven as well as it can be.

The unknowns are the whole field (3v), 52 expressions, a rotation vector, translation and log focal scale. All peers
start where the library's fit does and minimise its energy with the contour's anchors held, over the same residuals.
Each function prepares what does not depend on the photo and returns a function that fits one of the task's photos, and
one that reads the state out of what that returned. A setting that differs from a solver's default is named there.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.spatial.transform import Rotation

from benchmarks.fitting.problem import FLIP, Photo, State
from benchmarks.fitting.reference import Model, Reference, factorised

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


def padded(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and values of each row [r n], n those of the fullest; zeros fill up the others."""
    counts = np.diff(matrix.indptr)
    place = np.minimum(np.arange(counts.max())[None], counts[:, None] - 1) + matrix.indptr[:-1, None]
    filled = np.arange(counts.max())[None] < counts[:, None]
    return matrix.indices[place], np.where(filled, matrix.data[place], 0.0)


class NormalEquations:
    """J'J and J'r of one model, with values filled into a sparsity pattern that is laid out once."""

    def __init__(self, model: Model):
        columns, self.share = padded(sp.csr_array(model.layout.rows))
        index = (3 * columns[:, :, None] + np.arange(3)).reshape(len(columns), -1)  # k x n
        self.field, fields, unknowns = model.field, model.mean.size, len(model.modes) + 7
        corner, touched = fields + np.arange(unknowns), np.unique(index)
        constant, size = sp.coo_array(model.field3), fields + unknowns
        entries = {
            "constant": (constant.row, constant.col),
            "blocks": (np.repeat(index, index.shape[1], axis=1).ravel(), np.tile(index, (1, index.shape[1])).ravel()),
            "above": (np.repeat(touched, unknowns), np.tile(corner, len(touched))),
            "below": (np.tile(corner, len(touched)), np.repeat(touched, unknowns)),
            "corner": (np.repeat(corner, unknowns), np.tile(corner, unknowns)),
        }
        i, j = (np.concatenate(part) for part in zip(*entries.values()))
        pattern = sp.csc_array(sp.coo_array((np.ones(len(i)), (i, j)), shape=(size, size)))
        pattern.sort_indices()
        keys = np.repeat(np.arange(size), np.diff(pattern.indptr)) * size + pattern.indices
        self.places = {name: np.searchsorted(keys, j * size + i) for name, (i, j) in entries.items()}
        self.constant = np.bincount(self.places["constant"], constant.data, minlength=len(keys))
        self.pattern, self.touched = sp.csc_matrix(pattern), touched
        # The pattern of the image residual's derivative by the touched unknowns [2k touched].
        self.columns = np.repeat(np.searchsorted(touched, index)[:, None], 2, axis=1).ravel()
        self.starts = np.arange(2 * len(index) + 1) * index.shape[1]

    def __call__(self, reference: Reference, scale: np.ndarray, state: State) -> tuple[sp.csc_matrix, np.ndarray]:
        """Return the matrix and the right-hand side at a state."""
        by_point, by_other = reference.image_jacobians(scale, state)
        k, residual = len(by_point), reference.image_residual(scale, state).ravel()
        by_field = (by_point[:, :, None] * self.share[:, None, :, None]).reshape(k, 2, -1)
        blocks = np.swapaxes(by_field, 1, 2) @ by_field
        shape = (2 * k, len(self.touched))
        transposed = sp.csr_array((by_field.ravel(), self.columns, self.starts), shape=shape).T
        flat, prior = by_other.reshape(2 * k, -1), reference.prior_jacobian(state)
        crossed = (transposed @ flat).ravel()
        data = self.constant + np.bincount(self.places["blocks"], blocks.ravel(), minlength=len(self.constant))
        data[self.places["above"]] = data[self.places["below"]] = crossed
        data[self.places["corner"]] = (flat.T @ flat + prior.T @ prior).ravel()
        self.pattern.data = data
        field = (self.field @ state.field).ravel()
        field[self.touched] += transposed @ residual
        return self.pattern, np.r_[field, flat.T @ residual + prior.T @ reference.prior_residuals(state)]


def gauss_newton(task: Task, step: Callable[[Reference, np.ndarray, State], np.ndarray]) -> tuple[Solve, Read]:
    """Run plain Gauss-Newton with a function for its increment."""
    references = task.references()

    def solve(index: int) -> State:
        (reference, scale), state = references[index], task.starts[index]
        for _ in range(ITERATIONS):
            state = reference.moved(state, step(reference, scale, state))
        return state

    return solve, lambda _, state: state


def sparse_lu(task: Task) -> tuple[Solve, Read]:
    """SciPy's SuperLU, ordered for symmetric matrices, without pivoting."""
    equations = NormalEquations(task.model)

    def step(reference: Reference, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = equations(reference, scale, state)
        return -factorised(matrix).solve(right)

    return gauss_newton(task, step)


def sparse_cholesky(task: Task) -> tuple[Solve, Read]:
    """SuiteSparse's CHOLMOD, supernodal; analysed once, with the ordering that proves fastest here."""
    analyze = importlib.import_module("sksparse.cholmod").analyze  # not in the bench extra: needs a system library
    equations = NormalEquations(task.model)
    reference, scale = task.references()[0]
    matrix, _ = equations(reference, scale, task.starts[0])
    factors = [
        analyze(matrix, mode="supernodal", ordering_method=name) for name in ("nesdis", "metis", "amd", "colamd")
    ]

    def seconds(factor: Any) -> float:
        factor.cholesky_inplace(matrix)
        start = time.perf_counter()
        factor.cholesky_inplace(matrix)
        return time.perf_counter() - start

    factor = min(factors, key=seconds)

    def step(reference: Reference, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = equations(reference, scale, state)
        factor.cholesky_inplace(matrix)
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

    The problem is built once. Its derivatives are analytic, but Python's; what the linear solver alone takes is
    reported beside.
    """
    import pyceres

    model = task.model
    columns, share = padded(sp.csr_array(model.layout.rows))
    field = np.zeros((len(model.mean), 3))
    blocks, coefficients, pose = list(field), np.zeros(len(model.modes)), np.zeros(7)
    holder = _CeresPhoto(task)
    problem, kept = pyceres.Problem(), []

    def add(cost: Any, parameters: list[np.ndarray]) -> None:
        kept.append(cost)
        problem.add_residual_block(cost, None, parameters)

    image, row, prior = _ceres_costs(pyceres)
    for k in range(len(columns)):
        corners = np.unique(columns[k])
        weights = np.array([share[k][columns[k] == corner].sum() for corner in corners])
        add(image(holder, k, weights), [*(blocks[corner] for corner in corners), coefficients, pose])
    root = np.sqrt(model.omega_c * model.mass)
    laplacian = sp.csr_array(model.laplacian)
    for i in range(len(blocks)):
        part = slice(laplacian.indptr[i], laplacian.indptr[i + 1])
        add(row(root[i] * laplacian.data[part]), [blocks[j] for j in laplacian.indices[part]])
        add(pyceres.factors.NormalPrior(np.zeros(3), np.eye(3) / (model.ridge * root[i] ** 2)), [blocks[i]])
    add(prior(holder), [coefficients, pose])

    options = pyceres.SolverOptions()
    options.linear_solver_type = pyceres.LinearSolverType.SPARSE_NORMAL_CHOLESKY
    options.sparse_linear_algebra_library_type = pyceres.SparseLinearAlgebraLibraryType.SUITE_SPARSE
    options.max_num_iterations, options.num_threads = ITERATIONS, 1
    options.function_tolerance = options.gradient_tolerance = options.parameter_tolerance = 1e-14
    options.initial_trust_region_radius = 1e12
    options.minimizer_progress_to_stdout = False

    def solve(index: int) -> tuple[State, dict[str, float]]:
        holder.select(index)
        field[:], coefficients[:], pose[:] = 0.0, task.starts[index].coefficients, 0.0
        summary = pyceres.SolverSummary()
        pyceres.solve(options, problem, summary)
        seconds = {"linear solver": summary.linear_solver_time_in_seconds}
        return holder.state(field, coefficients, pose), seconds

    return solve, lambda _, found: found[0]


class _CeresPhoto:
    """The photo that the cost functions now speak of; ``pose`` is the increment from its start."""

    def __init__(self, task: Task):
        self.task, self.references = task, task.references()
        self.select(0)

    def select(self, index: int) -> None:
        (self.reference, self.scale), self.start = self.references[index], self.task.starts[index]

    def state(self, field: np.ndarray, coefficients: np.ndarray, pose: np.ndarray) -> State:
        start = self.start
        rotation = Rotation.from_rotvec(pose[:3]).as_matrix() @ start.rotation
        translation = start.translation + 100.0 * pose[3:6]
        return State(coefficients.copy(), rotation, translation, start.log_focal_scale + pose[6], field.copy())


def _left_jacobian(turn: np.ndarray) -> np.ndarray:
    """Derivative of the rotation vector on the left by the one it is added to."""
    angle = np.linalg.norm(turn)
    cross = np.array([[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]])
    if angle < 1e-6:
        return np.eye(3) + 0.5 * cross
    one, two = (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) + one * cross + two * (cross @ cross)


def _ceres_costs(pyceres: Any) -> tuple[type, type, type]:
    """Cost functions of a landmark, of a row of L, and of the priors of coefficients and pose."""
    metres = np.r_[np.ones(3), np.full(3, 100.0), 1.0]

    class Image(pyceres.CostFunction):
        def __init__(self, holder: _CeresPhoto, k: int, weights: np.ndarray):
            super().__init__()
            self.holder, self.k, self.weights = holder, k, weights
            self.set_num_residuals(2)
            self.set_parameter_block_sizes([3] * len(weights) + [len(holder.task.model.modes), 7])

        def Evaluate(self, parameters: Any, residuals: Any, jacobians: Any) -> bool:  # noqa: N802
            *corners, coefficients, pose = parameters
            reference, k, start = self.holder.reference, self.k, self.holder.start
            turn = Rotation.from_rotvec(pose[:3]).as_matrix()
            rotation = turn @ start.rotation
            modes = reference.point_modes[k]
            point = reference.shape_points[k] + modes @ coefficients
            for weight, corner in zip(self.weights, corners):
                point = point + weight * corner
            turned = rotation @ point
            x, y, z = FLIP * turned + start.translation + 100.0 * pose[3:6]
            scale = self.holder.scale[k]
            gain = scale * reference.focal * np.exp(start.log_focal_scale + pose[6]) / z
            residuals[:] = gain * np.array([x, y]) + scale * (reference.centre - reference.landmarks[k])
            if jacobians is not None:
                by_seen = gain * np.array([[1.0, 0.0, -x / z], [0.0, 1.0, -y / z]])
                by_point = (by_seen * FLIP) @ rotation
                for weight, jacobian in zip(self.weights, jacobians):
                    jacobian[:] = (weight * by_point).ravel()
                jacobians[-2][:] = (by_point @ modes).ravel()
                a, b, c = turned
                crossed = np.array([[0.0, c, -b], [-c, 0.0, a], [b, -a, 0.0]])
                by_turn = (by_seen * FLIP) @ crossed @ _left_jacobian(pose[:3])
                jacobians[-1][:] = np.c_[by_turn, 100.0 * by_seen, gain * np.array([x, y])].ravel()
            return True

    class Row(pyceres.CostFunction):
        def __init__(self, weights: np.ndarray):
            super().__init__()
            self.weights, self.jacobians = weights.tolist(), [(weight * np.eye(3)).ravel() for weight in weights]
            self.set_num_residuals(3)
            self.set_parameter_block_sizes([3] * len(weights))

        def Evaluate(self, parameters: Any, residuals: Any, jacobians: Any) -> bool:  # noqa: N802
            residuals[:] = sum(weight * block for weight, block in zip(self.weights, parameters))
            if jacobians is not None:
                for given, own in zip(jacobians, self.jacobians):
                    given[:] = own
            return True

    class Prior(pyceres.CostFunction):
        def __init__(self, holder: _CeresPhoto):
            super().__init__()
            self.holder, self.count = holder, len(holder.task.model.modes)
            self.set_num_residuals(2 * self.count + 4)
            self.set_parameter_block_sizes([self.count, 7])

        def Evaluate(self, parameters: Any, residuals: Any, jacobians: Any) -> bool:  # noqa: N802
            state = self.holder.state(np.zeros((1, 3)), *parameters)
            reference = self.holder.reference
            residuals[:] = reference.prior_residuals(state)
            if jacobians is not None:
                jacobian = reference.prior_jacobian(state)
                left = jacobian[:, self.count :] * metres
                left[:, :3] = left[:, :3] @ _left_jacobian(parameters[1][:3])
                jacobians[0][:], jacobians[1][:] = jacobian[:, : self.count].ravel(), left.ravel()
            return True

    return Image, Row, Prior
