"""General JAX least-squares solvers on the fit's energy, and the table of all peers.

On the *reduced basis* a solver is given the exact small problem: the best field lies in the span of ``A^-1 Pi'``, so it
is ``K C^-T z`` with z [k 3] and ``K C^-T`` from one sparse factorisation of A, made beforehand. That is half of the
library's idea, handed to a dense solver. What all peers share is said in :mod:`benchmarks.fitting.sparse_peers`.
"""

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

from benchmarks.fitting import sparse_peers
from benchmarks.fitting.problem import FLIP, State
from benchmarks.fitting.reference import Reference
from benchmarks.fitting.sparse_peers import ITERATIONS, Read, Solve, Task, padded
from digitaltwin.geometry._rotations import matrix_from_quaternion, multiply


class JaxProblem:
    """Residuals for solvers that differentiate them, as a function of increments in the task's units.

    Args:
        task: The photos.
        dtype: Floating-point type.
        reduced: Whether the field is given in the exact reduced basis; otherwise as 3v unknowns.
        gathering: Whether L's transpose gathers; JAX's own scatters, several times slower, but can be vmapped.
    """

    def __init__(self, task: Task, dtype: str, *, reduced: bool, gathering: bool = True):
        model, self.task, self.reduced, self.dtype = task.model, task, reduced, dtype
        self.gathering = gathering
        self.coefficients = len(model.modes)
        rows = sp.csr_array(model.layout.rows)
        self.rows = [jnp.asarray(part) for part in padded(rows)]
        unit = task.units()
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
        self.photos = [self.photo(*both, start) for both, start in zip(task.references(), task.starts)]
        self.first = jnp.zeros(self.size + self.coefficients + 7, dtype)

    def cast(self, array: Any) -> jax.Array:
        """Convert to the problem's type; indices stay what they are."""
        array = np.asarray(array)
        return jnp.asarray(array, self.dtype if array.dtype.kind == "f" else None)

    def photo(self, reference: Reference, scale: np.ndarray, start: State) -> dict[str, jax.Array]:
        """Return what differs between photos."""
        values = {
            "scale": scale,
            "landmarks": reference.landmarks - reference.centre,
            "points": reference.shape_points + self.model_modes @ start.coefficients,
            "offset": start.coefficients - reference.mu,
            "start": start.coefficients,
            "quaternion": Rotation.from_matrix(start.rotation).as_quat(scalar_first=True, canonical=True),
            "translation": start.translation,
            "focal": reference.focal * np.exp(start.log_focal_scale),
            "zoom": start.log_focal_scale,
            "focal_precision": np.sqrt(reference.focal_precision),
        }
        return {name: self.cast(np.asarray(value, np.float64)) for name, value in values.items()}

    def residuals(self, x: jax.Array, photo: dict[str, jax.Array]) -> jax.Array:
        """Return all residuals of one photo."""
        constants, c = self.constants, self.coefficients
        if self.reduced:
            x = x.at[self.size :].multiply(constants["unit"])
            field = x[: self.size].reshape(-1, 3)
            moved, penalties = constants["points"] @ field, [field]
        else:
            x = x * constants["unit"]
            field = x[: self.size].reshape(-1, 3)
            columns, share = self.rows[0], self.rows[1].astype(x.dtype)
            moved = jnp.einsum("kn,knx->kx", share, field[columns])
            penalties = [self.rough(field), constants["plain"][:, None] * field]
        change, turn, shift, zoom = jnp.split(x[self.size :], [c, c + 3, c + 6])
        increment = jnp.concatenate([jnp.ones(1, x.dtype), 0.5 * turn])
        quaternion = multiply(increment / jnp.sqrt(jnp.sum(increment**2)), photo["quaternion"])
        points = photo["points"] + constants["modes"] @ change + moved
        seen = (
            points @ matrix_from_quaternion(quaternion).T * self.cast(FLIP)[None] + (photo["translation"] + shift)[None]
        )
        image = photo["focal"] * jnp.exp(zoom[0]) * seen[:, :2] / seen[:, 2:]
        coefficients = photo["start"] + change
        parts = [
            photo["scale"][:, None] * (image - photo["landmarks"]), *penalties,
            constants["precision"] * (photo["offset"] + change),
            constants["bound"] * (coefficients - jnp.clip(coefficients, 0.0, 1.0)),
            constants["rotation"] * quaternion[1:], photo["focal_precision"] * (photo["zoom"] + zoom),
        ]  # fmt: skip
        return jnp.concatenate([part.ravel() for part in parts])

    def rough(self, field: jax.Array) -> jax.Array:
        """Return ``sqrt(omega_c W) L d``."""

        def gather(table: Any, values: jax.Array) -> jax.Array:
            columns, weights = table
            return jnp.einsum("vn,vnx->vx", weights, values[columns])

        tables = (self.constants["rough"], self.constants["back"])
        if not self.gathering:
            return gather(tables[0], field)
        return linear_call(lambda t, d: gather(t[0], d), lambda t, r: gather(t[1], r), tables, field)

    def state(self, index: int, x: jax.Array) -> State:
        """Convert increments to a state."""
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


def jax_peer(
    task: Task, solver: Callable[[JaxProblem], Callable], dtype: str, reduced: bool, gathering: bool = True
) -> tuple[Solve, Read]:
    """Prepare a solver, given as a function from a problem to a function of start and photo."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    problem = JaxProblem(task, dtype, reduced=reduced, gathering=gathering)
    run = jax.jit(solver(problem))
    return lambda index: jax.block_until_ready(run(problem.first, problem.photos[index])), problem.state


def jaxopt_gauss_newton(problem: JaxProblem) -> Callable:
    """Prepare jaxopt's Gauss-Newton; its conjugate gradients end at 1e-5, which cannot be set."""
    import jaxopt

    solver = jaxopt.GaussNewton(problem.residuals, maxiter=ITERATIONS, tol=0.0, implicit_diff=False)
    return lambda x, photo: solver.run(x, photo).params


def jaxopt_levenberg(problem: JaxProblem, **options: Any) -> Callable:
    """Prepare jaxopt's Levenberg-Marquardt, hardly damped: its default costs iterations, less rejects good steps."""
    import jaxopt

    solver = jaxopt.LevenbergMarquardt(
        problem.residuals, maxiter=ITERATIONS, damping_parameter=1e-7, tol=0.0, xtol=0.0, gtol=0.0,
        implicit_diff=False, **options,
    )  # fmt: skip
    return lambda x, photo: solver.run(x, photo).params


def optimistix_gauss_newton(problem: JaxProblem, linear: Callable[[Any], Any]) -> Callable:
    """Prepare optimistix, with one step more than the others: its first only evaluates the start."""
    import lineax
    import optimistix

    solver = optimistix.GaussNewton(rtol=1e-30, atol=1e-30, linear_solver=linear(lineax))

    def run(x: jax.Array, photo: Any) -> jax.Array:
        found = optimistix.least_squares(
            problem.residuals, solver, x, args=photo, max_steps=ITERATIONS + 1, throw=False
        )
        return found.value

    return run


class Peer(NamedTuple):
    """One solver of the table."""

    prepare: Callable[[Task], tuple[Solve, Read]]
    full: bool
    """Whether it works on all 3v + e + 7 unknowns; otherwise on the reduced basis."""


def _jax(prepare: Callable, *, full: bool, gathering: bool = True, **options: Any) -> Peer:
    solver = partial(prepare, **options)
    return Peer(partial(jax_peer, solver=solver, dtype="float32", reduced=not full, gathering=gathering), full)


def _conjugate(lineax: Any) -> Any:
    return lineax.Normal(lineax.CG(rtol=1e-3, atol=1e-3, max_steps=5000))


PEERS: dict[str, Peer] = {
    "CHOLMOD, Gauss-Newton": Peer(sparse_peers.sparse_cholesky, True),
    "SciPy LSMR, Gauss-Newton": Peer(sparse_peers.lsmr, True),
    "SciPy sparse LU, Gauss-Newton": Peer(sparse_peers.sparse_lu, True),
    "pyceres, SPARSE_NORMAL_CHOLESKY": Peer(sparse_peers.ceres, True),
    "jaxopt GaussNewton": _jax(jaxopt_gauss_newton, full=True),
    "jaxopt LevenbergMarquardt": _jax(jaxopt_levenberg, full=True, gathering=False),
    "optimistix GaussNewton, CG": _jax(optimistix_gauss_newton, full=True, linear=_conjugate),
    "optimistix GN, Cholesky": _jax(optimistix_gauss_newton, full=False, linear=lambda x: x.Normal(x.Cholesky())),
    "optimistix GN, QR": _jax(optimistix_gauss_newton, full=False, linear=lambda x: x.QR()),
    "jaxopt GN": _jax(jaxopt_gauss_newton, full=False),
    "jaxopt LM, Cholesky": _jax(jaxopt_levenberg, full=False, solver="cholesky", materialize_jac=True),
}
"""All peers, by the name in the tables."""
