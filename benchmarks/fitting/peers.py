"""General least-squares solvers on the fit's energy, each driven as well as it can be: SciPy, CHOLMOD, Ceres, JAX's.

The unknowns are the whole field (3v), 52 expressions, a rotation vector, translation and log focal scale. All peers
start where the library's fit does and minimise its energy with the contour's anchors held, over the same residuals.
Each prepares what does not depend on the photo and returns a function that fits one of the photos, and one that
reads the state out of what that returned. A setting that differs from a solver's default is named there.

On the *reduced basis* a solver is given the exact small problem: the best field lies in the span of ``A^-1 Pi'``, so it
is ``K C^-T z`` with z [k 3] and ``K C^-T`` from one sparse factorisation of A, made beforehand. That is half of the
library's idea, handed to a dense solver.
"""

import importlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.custom_derivatives import linear_call
from scipy.linalg import block_diag, expm

from benchmarks.fitting.problem import State
from benchmarks.fitting.reference import Reference, prior_residuals, project, quaternion_of
from benchmarks.harness import time_calls
from benchmarks.linear_algebra import factorised
from digitaltwin.geometry._rotations import compose, matrix_from_quaternion

ITERATIONS = 5
REDUCED = "reduced basis: "  # what the names of peers begin with that are given the exact small problem
Solve = Callable[[int], Any]
Read = Callable[[int, Any], State]
References = list[Reference]


def gauss_newton(references: References, step: Callable[[Reference, State], np.ndarray]) -> tuple[Solve, Read]:
    """Run plain Gauss-Newton with a function for its increment."""

    def solve(index: int) -> State:
        state = references[index].start
        for _ in range(ITERATIONS):
            state = state.moved(step(references[index], state))
        return state

    return solve, lambda _, state: state


def sparse_lu(references: References) -> tuple[Solve, Read]:
    """SciPy's SuperLU, ordered for symmetric matrices, without pivoting."""
    return gauss_newton(references, Reference.step)


def sparse_cholesky(references: References) -> tuple[Solve, Read]:
    """SuiteSparse's CHOLMOD, supernodal; analysed once, with the ordering that proves fastest here."""
    analyze = importlib.import_module("sksparse.cholmod").analyze  # not in the bench extra: needs a system library
    matrix = sp.csc_matrix(references[0].normal_equations(references[0].start)[0])
    orderings = ("nesdis", "metis", "amd", "colamd")
    factors = [analyze(matrix, mode="supernodal", ordering_method=ordering) for ordering in orderings]

    def seconds(factor: Any) -> float:
        return time_calls(partial(factor.cholesky_inplace, matrix), np.inf, warm_up=True, most=1).wall_s

    factor = min(factors, key=seconds)

    def step(reference: Reference, state: State) -> np.ndarray:
        matrix, right = reference.normal_equations(state)
        factor.cholesky_inplace(sp.csc_matrix(matrix))
        return -factor(right)

    return gauss_newton(references, step)


def lsmr(references: References) -> tuple[Solve, Read]:
    """SciPy's LSMR on the sparse Jacobian, in units; a looser tolerance ends short of the minimum."""
    unit = references[0].units()
    limits: dict[str, Any] = {"atol": 4e-6, "btol": 4e-6, "conlim": 0.0, "maxiter": 20_000}

    def step(reference: Reference, state: State) -> np.ndarray:
        jacobian = reference.jacobian(state)
        jacobian.data *= unit[jacobian.indices]
        transposed = sp.csr_array(jacobian.T)
        operator = spl.LinearOperator(jacobian.shape, matvec=jacobian.dot, rmatvec=transposed.dot, dtype=jacobian.dtype)  # pyright: ignore[reportCallIssue]
        return unit * spl.lsmr(operator, -reference.residuals(state), **limits)[0]

    return gauss_newton(references, step)


def ceres(references: References) -> tuple[Solve, Read]:
    """Ceres' Levenberg-Marquardt, hardly damped, with SuiteSparse; three parameters a vertex.

    The problem is built once, of increments from the start. Its derivatives are analytic, but Python's; what the linear
    solver alone takes is reported beside.
    """
    import pyceres

    class Cost(pyceres.CostFunction):
        """A residual, and its derivatives by each block of parameters, as a function returns them."""

        def __init__(self, evaluate: Callable[..., tuple[Any, Callable]], size: int, parameters: list[np.ndarray]):
            super().__init__()
            self.evaluate = evaluate
            self.set_num_residuals(size)
            self.set_parameter_block_sizes([len(block) for block in parameters])

        def Evaluate(self, parameters: Any, residuals: Any, jacobians: Any) -> bool:  # noqa: N802
            residuals[:], derivatives = self.evaluate(parameters)
            if jacobians is not None:
                for given, own in zip(jacobians, derivatives()):
                    given[:] = own.ravel()
            return True

    model, photo = references[0].model, _CeresPhoto(references)
    field, other = np.zeros_like(model.mean), np.zeros(len(model.modes) + 7)
    blocks, problem, kept = list(field), pyceres.Problem(), []

    def add(cost: Any, parameters: list[np.ndarray]) -> None:
        kept.append(cost)  # Ceres does not
        problem.add_residual_block(cost, None, parameters)

    for k, (corners, weights) in enumerate(_rows_of(model.rows)):
        parameters = [*(blocks[corner] for corner in corners), other]
        add(Cost(partial(photo.image, k, weights), 2, parameters), parameters)
    for i, (neighbours, weights) in enumerate(_rows_of(model.rough)):
        parameters, slopes = [blocks[j] for j in neighbours], weights[:, None, None] * np.eye(3)
        add(Cost(partial(_linear, weights.tolist(), slopes), 3, parameters), parameters)
        add(pyceres.factors.NormalPrior(np.zeros(3), np.eye(3) / model.plain[i] ** 2), [blocks[i]])
    add(Cost(photo.prior, 2 * len(model.modes) + 4, [other]), [other])

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

    def __init__(self, references: References):
        self.references = references

    def select(self, index: int) -> None:
        self.reference, self.key = self.references[index], b""

    def at(self, other: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """Return the state without field, its landmarks, and the derivative of its increment by ``other`` [m m]."""
        if other.tobytes() != self.key:  # all landmarks ask for the same in turn
            cross, start = np.cross(np.eye(3), other[-7:-4]), self.reference.start
            left = expm(np.block([[cross, np.eye(3)], [np.zeros((3, 6))]]))[:3, 3:]  # that of the exponential map
            metric = np.diag(np.r_[np.full(3, 100.0), 1.0])
            state = start.moved(np.r_[np.zeros(start.field.size), other[:-4], metric @ other[-4:]])
            chain = np.asarray(block_diag(np.eye(len(other) - 7), left, metric))
            self.key, self.found = other.tobytes(), (state, self.reference.points(state), chain)
        return self.found

    def image(self, k: int, weights: np.ndarray, parameters: list[np.ndarray]) -> tuple[np.ndarray, Callable]:
        """Evaluate one landmark."""
        *moved, other = parameters
        state, points, chain = self.at(other)
        point = points[k] + weights @ np.array(moved)

        def derivatives() -> list[np.ndarray]:
            by_point, by_other = self.reference.image_jacobians(state, k, point)
            return [*(weight * by_point for weight in weights), by_other @ chain]

        return self.reference.image_residual(state, k, point), derivatives

    def prior(self, parameters: list[np.ndarray]) -> tuple[np.ndarray, Callable]:
        """Evaluate the priors of coefficients and pose."""
        state, _, chain = self.at(parameters[0])
        return self.reference.prior_residuals(state), lambda: [self.reference.prior_jacobian(state) @ chain]


def _linear(weights: list[float], derivatives: np.ndarray, parameters: list[np.ndarray]) -> tuple[Any, Callable]:
    """Evaluate a weighted sum of parameter blocks."""
    return sum(weight * block for weight, block in zip(weights, parameters)), lambda: derivatives


def _rows_of(matrix: sp.csr_array) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return columns and values of each row."""
    rows = matrix.copy()
    rows.sum_duplicates()
    return [(rows.indices[start:end], rows.data[start:end]) for start, end in pairwise(rows.indptr)]


class JaxProblem:
    """Residuals of some photos, as a function of increments in the units of the first.

    Args:
        references: The photos.
        dtype: Floating-point type.
        reduced: Whether the field is given in the exact reduced basis; otherwise as 3v unknowns.
        gathering: Whether L's transpose gathers; JAX's own scatters, several times slower, but can be vmapped.
    """

    def __init__(self, references: References, dtype: str, *, reduced: bool, gathering: bool = True):
        model, self.dtype, self.gathering, self.basis = references[0].model, dtype, gathering, None
        rows, self.starts = sp.csr_array(model.rows), [reference.start for reference in references]
        self.unit, self.others = references[0].units(), len(model.modes) + 7
        if reduced:
            # Singular where landmarks lie between others: their span has a smaller basis.
            response = factorised(model.field).solve(rows.T.toarray())
            values, basis = np.linalg.eigh(rows @ response)
            kept = values > 1e-9 * values[-1]
            self.basis = response @ (basis[:, kept] / np.sqrt(values[kept]))
            self.unit = np.r_[np.ones(3 * self.basis.shape[1]), self.unit[-self.others :]]
            constants = {"points": rows @ self.basis}
        else:
            tables = {"rows": rows, "rough": model.rough, "back": sp.csr_array(model.rough.T)}
            constants = {"plain": model.plain[:, None], **{name: _padded(table) for name, table in tables.items()}}
        self.size = len(self.unit) - self.others
        self.constants = self.cast({"unit": self.unit, **constants})
        self.photos = [self.photo(reference) for reference in references]
        self.first = jnp.zeros(len(self.unit), dtype)

    def cast(self, tree: Any) -> Any:
        """Convert arrays to the problem's type; indices stay what they are."""
        arrays = jax.tree.map(np.asarray, tree)
        return jax.tree.map(lambda part: jnp.asarray(part, self.dtype if part.dtype.kind == "f" else None), arrays)

    def photo(self, reference: Reference) -> dict[str, Any]:
        """Return what differs between photos."""
        start = reference.start
        values = {name: getattr(reference, name) for name in ("point_modes", "mu", "roots", "focal")}
        values |= {"scale": reference.scale[:, None], "landmarks": reference.landmarks - reference.centre}
        values |= {"points": reference.points(start), "quaternion": quaternion_of(start.rotation)}
        names = ("coefficients", "translation", "log_focal_scale")
        return self.cast({**values, **{name: getattr(start, name) for name in names}})

    def residuals(self, x: jax.Array, photo: dict[str, Any]) -> jax.Array:
        """Return all residuals of one photo."""
        x, constants = x * self.constants["unit"], self.constants
        field, other = x[: self.size].reshape(-1, 3), x[self.size :]
        if self.basis is None:
            moved, penalties = _gather(constants["rows"], field), [self.rough(field), constants["plain"] * field]
        else:
            moved, penalties = constants["points"] @ field, [field]
        change, turn, shift, zoom = jnp.split(other, self.others - np.array([7, 4, 1]))
        quaternion, zoom = compose(turn, photo["quaternion"]), photo["log_focal_scale"] + zoom[0]
        points = photo["points"] + photo["point_modes"] @ change + moved
        rotation, translation = matrix_from_quaternion(quaternion), (photo["translation"] + shift)[None]
        seen = project(points, rotation, translation, photo["focal"] * jnp.exp(zoom))
        image = photo["scale"] * (seen - photo["landmarks"])
        priors = prior_residuals(photo["coefficients"] + change, photo["mu"], quaternion[1:], zoom, photo["roots"])
        return jnp.concatenate([part.ravel() for part in (image, *penalties, *priors)])

    def rough(self, field: jax.Array) -> jax.Array:
        """Return ``sqrt(omega_c W) L d``."""
        tables = (self.constants["rough"], self.constants["back"])
        if not self.gathering:
            return _gather(tables[0], field)
        return linear_call(lambda t, d: _gather(t[0], d), lambda t, r: _gather(t[1], r), tables, field)

    def state(self, index: int, x: jax.Array) -> State:
        """Convert increments to a state."""
        found = self.unit * np.array(x, np.float64)
        field, other = found[: self.size], found[self.size :]
        if self.basis is not None:
            field = (self.basis @ field.reshape(-1, 3)).ravel()
        return self.starts[index].moved(np.r_[field, other])


def _padded(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and values of each row [r n], n those of the fullest; zeros fill up the others."""
    counts = np.diff(matrix.indptr)
    place = np.minimum(np.arange(counts.max())[None], counts[:, None] - 1) + matrix.indptr[:-1, None]
    filled = np.arange(counts.max())[None] < counts[:, None]
    return matrix.indices[place], np.where(filled, matrix.data[place], 0.0)


def _gather(table: tuple[jax.Array, jax.Array], values: jax.Array) -> jax.Array:
    """Multiply a padded sparse matrix with [v 3]."""
    columns, weights = table
    return jnp.einsum("rn,rnx->rx", weights, values[columns])


def by_jax(
    run: Callable[..., jax.Array], references: References, *,
    reduced: bool = False, gathering: bool = True, **options: Any,
) -> tuple[Solve, Read]:  # fmt: skip
    """Prepare a solver of JAX: a function of residuals, start, photo and its own options."""
    problem = JaxProblem(references, "float32", reduced=reduced, gathering=gathering)
    compiled = jax.jit(partial(run, problem.residuals, **options))
    return lambda index: compiled(problem.first, problem.photos[index]), problem.state


def _jaxopt(residuals: Callable, x: jax.Array, photo: Any, *, name: str = "GaussNewton", **options: Any) -> jax.Array:
    """Run a solver of jaxopt; conjugate gradients of its Gauss-Newton end at 1e-5, which cannot be set."""
    import jaxopt

    options |= {"maxiter": ITERATIONS, "tol": 0.0, "implicit_diff": False}
    return getattr(jaxopt, name)(residuals, **options).run(x, photo).params


def _optimistix(residuals: Callable, x: jax.Array, photo: Any, *, linear: Callable[[Any], Any]) -> jax.Array:
    """Run optimistix's Gauss-Newton, with one step more than the others: its first only evaluates the start."""
    import lineax
    import optimistix

    solver = optimistix.GaussNewton(rtol=1e-30, atol=1e-30, linear_solver=linear(lineax))
    steps = {"max_steps": ITERATIONS + 1, "throw": False}
    return optimistix.least_squares(residuals, solver, x, args=photo, **steps).value


# Hardly damped: jaxopt's default costs iterations, less rejects good steps.
_levenberg = partial(by_jax, _jaxopt, name="LevenbergMarquardt", damping_parameter=1e-7, xtol=0.0, gtol=0.0)
_reduced_optimistix = partial(by_jax, _optimistix, reduced=True)
_gradients = {"rtol": 1e-3, "atol": 1e-3, "max_steps": 5000}
PEERS: dict[str, Callable[[References], tuple[Solve, Read]]] = {
    "CHOLMOD, Gauss-Newton": sparse_cholesky,
    "SciPy LSMR, Gauss-Newton": lsmr,
    "SciPy sparse LU, Gauss-Newton": sparse_lu,
    "pyceres, SPARSE_NORMAL_CHOLESKY": ceres,
    "jaxopt GaussNewton": partial(by_jax, _jaxopt),
    "jaxopt LevenbergMarquardt": partial(_levenberg, gathering=False),
    "optimistix GaussNewton, CG": partial(by_jax, _optimistix, linear=lambda x: x.Normal(x.CG(**_gradients))),
    f"{REDUCED}optimistix GN, Cholesky": partial(_reduced_optimistix, linear=lambda x: x.Normal(x.Cholesky())),
    f"{REDUCED}optimistix GN, QR": partial(_reduced_optimistix, linear=lambda x: x.QR()),
    f"{REDUCED}jaxopt GN": partial(by_jax, _jaxopt, reduced=True),
    f"{REDUCED}jaxopt LM, Cholesky": partial(_levenberg, solver="cholesky", materialize_jac=True, reduced=True),
}
"""All peers, by the name in the tables."""
