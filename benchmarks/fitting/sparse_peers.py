"""General least-squares solvers on the fit's energy, each driven as well as it can be.

The unknowns are the whole field (3v), 52 expressions, a rotation vector, translation and log focal scale. All peers
start where the library's fit does and minimise its energy with the contour's anchors held, over the same residuals:
landmarks read from blendshapes gathered at the landmarks, L as a sparse matrix. All unknowns are divided by the
curvature at one photo's start, without which conjugate gradients and LSMR need many times the iterations.

On the *reduced basis* a solver is given the exact small problem: the best field lies in the span of ``A^-1 Pi'``, so it
is ``K C^-T z`` with z [k 3] and ``K C^-T`` from one sparse factorisation of A, made beforehand. That is half of the
library's idea, handed to a dense solver.

Each entry of :data:`PEERS` prepares what does not depend on the photo and returns a function that fits one of the
task's photos, and one that reads the state out of what that returned. What is set differently from a solver's defaults
is said at its entry.
"""

import importlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.custom_derivatives import linear_call
from scipy.spatial.transform import Rotation

from benchmarks.fitting_problem import FLIP, Model, Photo, Referee, State, factorised

ITERATIONS = 5
Solve = Callable[[int], Any]
Read = Callable[[int, Any], State]


class Task(NamedTuple):
    """Photos to fit, from given starts, and the energies to reach; can be sent to another process."""

    model: Model
    photos: list[Photo]
    starts: list[State]
    minima: list[float]
    """Of the referee, converged."""

    def referees(self) -> list[tuple[Referee, np.ndarray]]:
        """Each photo's energy, and its residuals' scale."""
        referees = [Referee(self.model, photo) for photo in self.photos]
        return [(referee, referee.scale(start)) for referee, start in zip(referees, self.starts)]


def units(task: Task) -> np.ndarray:
    """One over the root of the first photo's curvature at its start, for each of all unknowns."""
    referee, scale = task.referees()[0]
    return 1.0 / np.sqrt(referee.normal_matrix(scale, task.starts[0])[0].diagonal())


def padded(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of each row [r n], n those of the fullest; zeros at the row's own first column beside."""
    counts = np.diff(matrix.indptr)
    place = np.minimum(np.arange(counts.max())[None], counts[:, None] - 1) + matrix.indptr[:-1, None]
    filled = np.arange(counts.max())[None] < counts[:, None]
    return matrix.indices[place], np.where(filled, matrix.data[place], 0.0)


# SciPy.


class NormalEquations:
    """J'J and J'r of one model, the values filled into a pattern that is laid out once."""

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
        # The image residual's derivative by the touched unknowns, [2k touched], likewise.
        self.columns = np.repeat(np.searchsorted(touched, index)[:, None], 2, axis=1).ravel()
        self.starts = np.arange(2 * len(index) + 1) * index.shape[1]

    def __call__(self, referee: Referee, scale: np.ndarray, state: State) -> tuple[sp.csc_matrix, np.ndarray]:
        """The matrix and the right-hand side at a state."""
        by_point, by_other = referee.image_jacobians(scale, state)
        k, residual = len(by_point), referee.image_residual(scale, state).ravel()
        by_field = (by_point[:, :, None] * self.share[:, None, :, None]).reshape(k, 2, -1)
        blocks = np.swapaxes(by_field, 1, 2) @ by_field
        shape = (2 * k, len(self.touched))
        turned = sp.csr_array((by_field.ravel(), self.columns, self.starts), shape=shape).T
        flat, prior = by_other.reshape(2 * k, -1), referee.prior_jacobian(state)
        crossed = (turned @ flat).ravel()
        data = self.constant + np.bincount(self.places["blocks"], blocks.ravel(), minlength=len(self.constant))
        data[self.places["above"]] = data[self.places["below"]] = crossed
        data[self.places["corner"]] = (flat.T @ flat + prior.T @ prior).ravel()
        self.pattern.data = data
        field = (self.field @ state.field).ravel()
        field[self.touched] += turned @ residual
        return self.pattern, np.r_[field, flat.T @ residual + prior.T @ referee.prior_residuals(state)]


def gauss_newton(task: Task, step: Callable[[Referee, np.ndarray, State], np.ndarray]) -> tuple[Solve, Read]:
    """Plain Gauss-Newton with a function for its increment."""
    referees = task.referees()

    def solve(index: int) -> State:
        (referee, scale), state = referees[index], task.starts[index]
        for _ in range(ITERATIONS):
            state = referee.moved(state, step(referee, scale, state))
        return state

    return solve, lambda _, state: state


def sparse_lu(task: Task) -> tuple[Solve, Read]:
    """SciPy's SuperLU, ordered for symmetric matrices, without pivoting."""
    equations = NormalEquations(task.model)

    def step(referee: Referee, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = equations(referee, scale, state)
        return -factorised(matrix).solve(right)

    return gauss_newton(task, step)


def sparse_cholesky(task: Task) -> tuple[Solve, Read]:
    """SuiteSparse's CHOLMOD, supernodal; analysed once, with the ordering that proves fastest here."""
    analyze = importlib.import_module("sksparse.cholmod").analyze  # needs a system library: apart from the bench extra
    equations = NormalEquations(task.model)
    referee, scale = task.referees()[0]
    matrix, _ = equations(referee, scale, task.starts[0])
    factors = [
        analyze(matrix, mode="supernodal", ordering_method=name) for name in ("nesdis", "metis", "amd", "colamd")
    ]

    def seconds(factor: Any) -> float:
        factor.cholesky_inplace(matrix)
        start = time.perf_counter()
        factor.cholesky_inplace(matrix)
        return time.perf_counter() - start

    factor = min(factors, key=seconds)

    def step(referee: Referee, scale: np.ndarray, state: State) -> np.ndarray:
        matrix, right = equations(referee, scale, state)
        factor.cholesky_inplace(matrix)
        return -factor(right)

    return gauss_newton(task, step)


def lsmr(task: Task, tolerance: float = 4e-6) -> tuple[Solve, Read]:
    """SciPy's LSMR on the sparse Jacobian in the units above; a looser tolerance ends short of the minimum."""
    unit, model = units(task), task.model
    constant = 6 * len(model.mean)
    referee, scale = task.referees()[0]
    first = referee.jacobian(scale, task.starts[0])
    k2 = 2 * len(scale)
    field_rows = sp.csr_array(first[k2 : k2 + constant] * unit[None])

    def step(referee: Referee, scale: np.ndarray, state: State) -> np.ndarray:
        by_point, by_other = referee.image_jacobians(scale, state)
        top = sp.hstack([referee.field_jacobian(by_point), sp.csr_array(by_other.reshape(k2, -1))]) * unit[None]
        prior = referee.prior_jacobian(state) * unit[-by_other.shape[2] :]
        bottom = sp.hstack([sp.csr_array((len(prior), len(unit) - prior.shape[1])), sp.csr_array(prior)])
        jacobian = sp.csr_array(sp.vstack([top, field_rows, bottom]))
        transposed = sp.csr_array(jacobian.T)
        operator = spl.LinearOperator(jacobian.shape, matvec=jacobian.dot, rmatvec=transposed.dot, dtype=jacobian.dtype)  # pyright: ignore[reportCallIssue]
        found = spl.lsmr(
            operator, -referee.residuals(scale, state), atol=tolerance, btol=tolerance, conlim=0.0, maxiter=20_000
        )
        return unit * found[0]

    return gauss_newton(task, step)


# Ceres.


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
        self.task, self.referees = task, task.referees()
        self.select(0)

    def select(self, index: int) -> None:
        (self.referee, self.scale), self.start = self.referees[index], self.task.starts[index]

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
            referee, k, start = self.holder.referee, self.k, self.holder.start
            turn = Rotation.from_rotvec(pose[:3]).as_matrix()
            rotation = turn @ start.rotation
            modes = referee.point_modes[k]
            point = referee.shape_points[k] + modes @ coefficients
            for weight, corner in zip(self.weights, corners):
                point = point + weight * corner
            turned = rotation @ point
            x, y, z = FLIP * turned + start.translation + 100.0 * pose[3:6]
            scale = self.holder.scale[k]
            gain = scale * referee.focal * np.exp(start.log_focal_scale + pose[6]) / z
            residuals[:] = gain * np.array([x, y]) + scale * (referee.centre - referee.landmarks[k])
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
            referee = self.holder.referee
            residuals[:] = referee.prior_residuals(state)
            if jacobians is not None:
                jacobian = referee.prior_jacobian(state)
                left = jacobian[:, self.count :] * metres
                left[:, :3] = left[:, :3] @ _left_jacobian(parameters[1][:3])
                jacobians[0][:], jacobians[1][:] = jacobian[:, : self.count].ravel(), left.ravel()
            return True

    return Image, Row, Prior


# JAX.


class JaxProblem:
    """The residuals for solvers that differentiate them, of a vector of increments in the units above.

    Args:
        task: Photos.
        dtype: Floating-point type.
        reduced: Whether the field is given in the exact reduced basis, else as 3v unknowns.
        gathering: Whether L's transpose gathers; JAX's own scatters, several times slower, but can be vmapped.
    """

    def __init__(self, task: Task, dtype: str, *, reduced: bool, gathering: bool = True):
        model, self.task, self.reduced, self.dtype = task.model, task, reduced, dtype
        self.gathering = gathering
        self.coefficients = len(model.modes)
        rows = sp.csr_array(model.layout.rows)
        self.rows = [jnp.asarray(part) for part in padded(rows)]
        unit = units(task)
        root = np.sqrt(model.omega_c * model.mass)
        self.model_modes = np.stack([rows @ mode for mode in model.modes], axis=2)
        if reduced:
            # Singular where landmarks lie between others: their span has a smaller basis.
            response = spl.splu(sp.csc_matrix(model.field)).solve(rows.T.toarray())
            values, basis = np.linalg.eigh(rows @ response)
            kept = values > 1e-9 * values[-1]
            self.basis = response @ (basis[:, kept] / np.sqrt(values[kept]))
            self.size, unit = 3 * self.basis.shape[1], unit[-self.coefficients - 7 :]
        else:
            self.size = len(unit) - self.coefficients - 7
        constants = {
            "unit": unit,
            "modes": self.model_modes,
            "precision": np.sqrt(model.precision),
            "bound": np.sqrt(model.bound),
            "rotation": np.sqrt(model.rotation_precision),
        }
        if reduced:
            constants["points"] = rows @ self.basis
        else:
            rough = sp.csr_array(sp.diags_array(root) @ model.laplacian)
            constants["rough"], constants["back"] = padded(rough), padded(sp.csr_array(rough.T))
            constants["plain"] = np.sqrt(model.ridge) * root
        self.constants = jax.tree.map(self.cast, constants)
        self.photos = [self.photo(*both, start) for both, start in zip(task.referees(), task.starts)]
        self.first = jnp.zeros(self.size + self.coefficients + 7, dtype)

    def cast(self, array: Any) -> jax.Array:
        """In the problem's type, indices as they are."""
        array = np.asarray(array)
        return jnp.asarray(array, self.dtype if array.dtype.kind == "f" else None)

    def photo(self, referee: Referee, scale: np.ndarray, start: State) -> dict[str, jax.Array]:
        """What one photo adds."""
        values = {
            "scale": scale,
            "landmarks": referee.landmarks - referee.centre,
            "points": referee.shape_points + self.model_modes @ start.coefficients,
            "offset": start.coefficients - referee.mu,
            "start": start.coefficients,
            "quaternion": Rotation.from_matrix(start.rotation).as_quat(scalar_first=True, canonical=True),
            "translation": start.translation,
            "focal": referee.focal * np.exp(start.log_focal_scale),
            "zoom": start.log_focal_scale,
            "focal_precision": np.sqrt(referee.focal_precision),
        }
        return {name: self.cast(np.asarray(value, np.float64)) for name, value in values.items()}

    def residuals(self, x: jax.Array, photo: dict[str, jax.Array]) -> jax.Array:
        """All of them."""
        constants, c = self.constants, self.coefficients
        if self.reduced:
            field, x = (
                x[: self.size].reshape(-1, 3),
                jnp.concatenate([x[: self.size], x[self.size :] * constants["unit"]]),
            )
            moved, prices = constants["points"] @ field, [field]
        else:
            x = x * constants["unit"]
            field = x[: self.size].reshape(-1, 3)
            columns, share = self.rows[0], self.rows[1].astype(x.dtype)
            moved = jnp.einsum("kn,knx->kx", share, field[columns])
            prices = [self.rough(field), constants["plain"][:, None] * field]
        change, turn, shift, zoom = jnp.split(x[self.size :], [c, c + 3, c + 6])
        quaternion = _turned(turn, photo["quaternion"])
        points = photo["points"] + constants["modes"] @ change + moved
        seen = points @ _matrix(quaternion).T * self.cast(FLIP)[None] + (photo["translation"] + shift)[None]
        image = photo["focal"] * jnp.exp(zoom[0]) * seen[:, :2] / seen[:, 2:]
        coefficients = photo["start"] + change
        parts = [
            photo["scale"][:, None] * (image - photo["landmarks"]), *prices,
            constants["precision"] * (photo["offset"] + change),
            constants["bound"] * (coefficients - jnp.clip(coefficients, 0.0, 1.0)),
            constants["rotation"] * quaternion[1:], photo["focal_precision"] * (photo["zoom"] + zoom),
        ]  # fmt: skip
        return jnp.concatenate([part.ravel() for part in parts])

    def rough(self, field: jax.Array) -> jax.Array:
        """``sqrt(omega_c W) L d``."""

        def gather(table: Any, values: jax.Array) -> jax.Array:
            columns, weights = table
            return jnp.einsum("vn,vnx->vx", weights, values[columns])

        tables = (self.constants["rough"], self.constants["back"])
        if not self.gathering:
            return gather(tables[0], field)
        return linear_call(lambda t, d: gather(t[0], d), lambda t, r: gather(t[1], r), tables, field)

    def state(self, index: int, x: jax.Array) -> State:
        """The state that a vector of increments means."""
        start, c = self.task.starts[index], self.coefficients
        unit, found = np.asarray(self.constants["unit"], np.float64), np.array(x, np.float64)
        found[-len(unit) :] *= unit
        field, other = found[: self.size].reshape(-1, 3), found[self.size :]
        turn = np.r_[1.0, 0.5 * other[c : c + 3]]
        return State(
            start.coefficients + other[:c],
            Rotation.from_quat(turn, scalar_first=True).as_matrix() @ start.rotation,
            start.translation + other[c + 3 : c + 6],
            float(start.log_focal_scale + other[-1]),
            start.field + (self.basis @ field if self.reduced else field),
        )


def _turned(turn: jax.Array, quaternion: jax.Array) -> jax.Array:
    """A rotation on the left of a unit quaternion, ``(1, turn / 2)`` normalised."""
    (w, v), a = (quaternion[0], quaternion[1:]), 0.5 * turn
    product = jnp.concatenate([(w - jnp.dot(a, v))[None], v + w * a + jnp.cross(a, v)])
    return product / jnp.sqrt(1.0 + jnp.dot(a, a))


def _matrix(quaternion: jax.Array) -> jax.Array:
    w, x, y, z = quaternion
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def jax_peer(
    task: Task, solver: Callable[[JaxProblem], Callable], dtype: str, reduced: bool, gathering: bool = True
) -> tuple[Solve, Read]:
    """A solver, given as what makes of a problem a function of start and photo."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    problem = JaxProblem(task, dtype, reduced=reduced, gathering=gathering)
    run = jax.jit(solver(problem))
    return lambda index: jax.block_until_ready(run(problem.first, problem.photos[index])), problem.state


def jaxopt_gauss_newton(problem: JaxProblem) -> Callable:
    """Its linear solver is ``jax.scipy``'s conjugate gradients to 1e-5, which cannot be set."""
    import jaxopt

    solver = jaxopt.GaussNewton(problem.residuals, maxiter=ITERATIONS, tol=0.0, implicit_diff=False)
    return lambda x, photo: solver.run(x, photo).params


def jaxopt_levenberg(problem: JaxProblem, **options: Any) -> Callable:
    """Hardly damped, for its own damping would cost it iterations, and with less it rejects good steps."""
    import jaxopt

    solver = jaxopt.LevenbergMarquardt(
        problem.residuals, maxiter=ITERATIONS, damping_parameter=1e-7, tol=0.0, xtol=0.0, gtol=0.0,
        implicit_diff=False, **options,
    )  # fmt: skip
    return lambda x, photo: solver.run(x, photo).params


def optimistix_gauss_newton(problem: JaxProblem, linear: Callable[[Any], Any]) -> Callable:
    """One step more than the others, for its first goes to evaluating the start."""
    import lineax
    import optimistix

    solver = optimistix.GaussNewton(rtol=1e-30, atol=1e-30, linear_solver=linear(lineax))

    def run(x: jax.Array, photo: Any) -> jax.Array:
        found = optimistix.least_squares(
            problem.residuals, solver, x, args=photo, max_steps=ITERATIONS + 1, throw=False
        )
        return found.value

    return run


def _conjugate(lineax: Any) -> Any:
    return lineax.Normal(lineax.CG(rtol=1e-3, atol=1e-3, max_steps=5000))


def _qr(lineax: Any) -> Any:
    return lineax.QR()


def _cholesky(lineax: Any) -> Any:
    return lineax.Normal(lineax.Cholesky())


class Peer(NamedTuple):
    """One solver of the table."""

    prepare: Callable[[Task], tuple[Solve, Read]]
    full: bool
    """Whether it works on all 3v + e + 7 unknowns."""


_full = partial(partial, jax_peer, dtype="float32", reduced=False)
_reduced = partial(partial, jax_peer, dtype="float32", reduced=True)

PEERS: dict[str, Peer] = {
    "CHOLMOD, Gauss-Newton": Peer(sparse_cholesky, True),
    "SciPy LSMR, Gauss-Newton": Peer(lsmr, True),
    "SciPy sparse LU, Gauss-Newton": Peer(sparse_lu, True),
    "pyceres, SPARSE_NORMAL_CHOLESKY": Peer(ceres, True),
    "jaxopt GaussNewton": Peer(_full(solver=jaxopt_gauss_newton), True),
    "jaxopt LevenbergMarquardt": Peer(_full(solver=jaxopt_levenberg, gathering=False), True),
    "optimistix GaussNewton, CG": Peer(_full(solver=partial(optimistix_gauss_newton, linear=_conjugate)), True),
    "optimistix GN, Cholesky": Peer(_reduced(solver=partial(optimistix_gauss_newton, linear=_cholesky)), False),
    "optimistix GN, QR": Peer(_reduced(solver=partial(optimistix_gauss_newton, linear=_qr)), False),
    "jaxopt GN": Peer(_reduced(solver=jaxopt_gauss_newton), False),
    "jaxopt LM, Cholesky": Peer(
        _reduced(solver=partial(jaxopt_levenberg, solver="cholesky", materialize_jac=True)), False
    ),
}
"""By the name in the tables."""
