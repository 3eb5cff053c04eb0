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
from jax.custom_derivatives import linear_call

from benchmarks.fitting import sparse_peers
from benchmarks.fitting.problem import State
from benchmarks.fitting.reference import Reference, factorised, prior_residuals, project, quaternion_of
from benchmarks.fitting.sparse_peers import ITERATIONS, Read, Solve, Task
from digitaltwin.geometry._rotations import compose, matrix_from_quaternion


def padded(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and values of each row [r n], n those of the fullest; zeros fill up the others."""
    counts = np.diff(matrix.indptr)
    place = np.minimum(np.arange(counts.max())[None], counts[:, None] - 1) + matrix.indptr[:-1, None]
    filled = np.arange(counts.max())[None] < counts[:, None]
    return matrix.indices[place], np.where(filled, matrix.data[place], 0.0)


class JaxProblem:
    """Residuals for solvers that differentiate them, as a function of increments in the task's units.

    Args:
        task: The photos.
        dtype: Floating-point type.
        reduced: Whether the field is given in the exact reduced basis; otherwise as 3v unknowns.
        gathering: Whether L's transpose gathers; JAX's own scatters, several times slower, but can be vmapped.
    """

    def __init__(self, task: Task, dtype: str, *, reduced: bool, gathering: bool = True):
        model, self.task, self.dtype, self.gathering = task.model, task, dtype, gathering
        rows, self.unit, self.basis = sp.csr_array(model.layout.rows), task.units(), None
        self.others = len(model.modes) + 7
        constants: dict[str, Any] = {}
        if reduced:
            # Singular where landmarks lie between others: their span has a smaller basis.
            response = factorised(model.field).solve(rows.T.toarray())
            values, basis = np.linalg.eigh(rows @ response)
            kept = values > 1e-9 * values[-1]
            self.basis = response @ (basis[:, kept] / np.sqrt(values[kept]))
            self.unit = np.r_[np.ones(3 * self.basis.shape[1]), self.unit[-self.others :]]
            constants["points"] = rows @ self.basis
        else:
            tables = {"rows": rows, "rough": model.rough, "back": sp.csr_array(model.rough.T)}
            constants = {name: padded(table) for name, table in tables.items()}
            constants["plain"] = model.plain[:, None]
        self.size = len(self.unit) - self.others
        self.constants = self.cast({"unit": self.unit, **constants})
        self.photos = [self.photo(*both, start) for both, start in zip(task.references(), task.starts)]
        self.first = jnp.zeros(len(self.unit), dtype)

    def cast(self, tree: Any) -> Any:
        """Convert arrays to the problem's type; indices stay what they are."""
        arrays = jax.tree.map(np.asarray, tree)
        return jax.tree.map(lambda part: jnp.asarray(part, self.dtype if part.dtype.kind == "f" else None), arrays)

    def photo(self, reference: Reference, scale: np.ndarray, start: State) -> dict[str, Any]:
        """Return what differs between photos."""
        values = {
            "scale": scale[:, None],
            "landmarks": reference.landmarks - reference.centre,
            "points": reference.points(start),
            "modes": reference.point_modes,
            "mu": reference.mu,
            "roots": reference.roots,
            "focal": reference.focal,
            "coefficients": start.coefficients,
            "quaternion": quaternion_of(start.rotation),
            "translation": start.translation,
            "zoom": start.log_focal_scale,
        }
        return self.cast(values)

    def residuals(self, x: jax.Array, photo: dict[str, Any]) -> jax.Array:
        """Return all residuals of one photo."""
        x, constants = x * self.constants["unit"], self.constants
        field, other = x[: self.size].reshape(-1, 3), x[self.size :]
        if self.basis is None:
            moved, penalties = _gather(constants["rows"], field), [self.rough(field), constants["plain"] * field]
        else:
            moved, penalties = constants["points"] @ field, [field]
        change, turn, shift, zoom = jnp.split(other, self.others - np.array([7, 4, 1]))
        quaternion, zoom = compose(turn, photo["quaternion"]), photo["zoom"] + zoom[0]
        points = photo["points"] + photo["modes"] @ change + moved
        pose = (
            matrix_from_quaternion(quaternion),
            (photo["translation"] + shift)[None],
            photo["focal"] * jnp.exp(zoom),
        )
        image = photo["scale"] * (project(points, *pose) - photo["landmarks"])
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
        return self.task.starts[index].moved(np.r_[field, other])


def _gather(table: tuple[jax.Array, jax.Array], values: jax.Array) -> jax.Array:
    """Multiply a padded sparse matrix with [v 3]."""
    columns, weights = table
    return jnp.einsum("rn,rnx->rx", weights, values[columns])


class Peer(NamedTuple):
    """One solver of the table."""

    prepare: Callable[[Task], tuple[Solve, Read]]
    full: bool = True
    """Whether it works on all 3v + e + 7 unknowns; otherwise on the reduced basis."""


def _jax_peer(run: Callable[..., jax.Array], *, full: bool = True, gathering: bool = True) -> Peer:
    """Make a peer of a function of residuals, start and photo."""

    def prepare(task: Task) -> tuple[Solve, Read]:
        problem = JaxProblem(task, "float32", reduced=not full, gathering=gathering)
        compiled = jax.jit(partial(run, problem.residuals))
        return lambda index: compiled(problem.first, problem.photos[index]), problem.state

    return Peer(prepare, full)


def _jaxopt(name: str, **options: Any) -> Callable[..., jax.Array]:
    """Return jaxopt's solver; conjugate gradients of its Gauss-Newton end at 1e-5, which cannot be set."""

    def run(residuals: Callable, x: jax.Array, photo: Any) -> jax.Array:
        import jaxopt

        solver = getattr(jaxopt, name)(residuals, maxiter=ITERATIONS, tol=0.0, implicit_diff=False, **options)
        return solver.run(x, photo).params

    return run


def _optimistix(linear: Callable[[Any], Any]) -> Callable[..., jax.Array]:
    """Return optimistix's Gauss-Newton, with one step more than the others: its first only evaluates the start."""

    def run(residuals: Callable, x: jax.Array, photo: Any) -> jax.Array:
        import lineax
        import optimistix

        solver = optimistix.GaussNewton(rtol=1e-30, atol=1e-30, linear_solver=linear(lineax))
        steps = {"max_steps": ITERATIONS + 1, "throw": False}
        return optimistix.least_squares(residuals, solver, x, args=photo, **steps).value

    return run


# Levenberg-Marquardt is hardly damped: jaxopt's default costs iterations, less rejects good steps.
_LEVENBERG = partial(_jaxopt, "LevenbergMarquardt", damping_parameter=1e-7, xtol=0.0, gtol=0.0)
PEERS: dict[str, Peer] = {
    "CHOLMOD, Gauss-Newton": Peer(sparse_peers.sparse_cholesky),
    "SciPy LSMR, Gauss-Newton": Peer(sparse_peers.lsmr),
    "SciPy sparse LU, Gauss-Newton": Peer(sparse_peers.sparse_lu),
    "pyceres, SPARSE_NORMAL_CHOLESKY": Peer(sparse_peers.ceres),
    "jaxopt GaussNewton": _jax_peer(_jaxopt("GaussNewton")),
    "jaxopt LevenbergMarquardt": _jax_peer(_LEVENBERG(), gathering=False),
    "optimistix GaussNewton, CG": _jax_peer(
        _optimistix(lambda x: x.Normal(x.CG(rtol=1e-3, atol=1e-3, max_steps=5000)))
    ),
    "optimistix GN, Cholesky": _jax_peer(_optimistix(lambda x: x.Normal(x.Cholesky())), full=False),
    "optimistix GN, QR": _jax_peer(_optimistix(lambda x: x.QR()), full=False),
    "jaxopt GN": _jax_peer(_jaxopt("GaussNewton"), full=False),
    "jaxopt LM, Cholesky": _jax_peer(_LEVENBERG(solver="cholesky", materialize_jac=True), full=False),
}
"""All peers, by the name in the tables."""
