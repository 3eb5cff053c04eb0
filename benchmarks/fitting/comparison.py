"""The library's step beside the referee's, at every iteration of random problems; :mod:`benchmarks.fitting_proof`.

Each problem runs five iterations. At every one the referee (:mod:`benchmarks.fitting_problem`) and the library's
float64 fit start from the same point, the float32 fit from that point rounded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.spatial.transform import Rotation

from benchmarks.fitting_problem import (
    IMAGE_SIZE,
    Layout,
    Lines,
    Model,
    Photo,
    Referee,
    State,
    frozen_contour,
    landmark_layout,
    make_photo,
    mesh_layout,
)
from digitaltwin.fitting import (
    FacePoints,
    FitConfig,
    FitResult,
    Fitter,
    Unknowns,
    fit,
    landmark_points_of,
    make_fitter,
    mesh_points_of,
)
from digitaltwin.head import HeadModel

TOLERANCE_MM = {"float64": 1e-6, "float32": 1e-3}
ITERATIONS = 5
CLOSE_CALL = 1e-6
"""Silhouettes decided by less may come out otherwise in float32, which then takes another step."""


@dataclass(frozen=True)
class Case:
    """One form of the energy, and what its problems have in common."""

    name: str
    config: FitConfig
    paper: bool = False
    lagged: bool = False
    mesh: bool = False
    photo: dict[str, Any] = field(default_factory=dict)
    far_off: bool = False
    """Start where the plain step overshoots: each problem then is that step, rejected, and two that are damped."""


class Difference(NamedTuple):
    """Library against referee after one step, or after a rejected and two damped ones."""

    vertices_mm: float
    correction_mm: float
    translation_mm: float
    rotation: float
    energy: float
    """Relative."""
    rejected: int
    """Steps that the referee did not take."""

    def beyond(self, dtype: str) -> list[str]:
        """What differs by more than it may in a type: a vertex's tolerance, and what moves an image as little."""
        tolerance = TOLERANCE_MM[dtype]
        limits = {"vertices_mm": 1.0, "correction_mm": 1.0, "translation_mm": 50.0, "rotation": 0.05, "energy": 1.0}
        values = self._asdict()
        return [f"{name} {values[name]:.3g}" for name, share in limits.items() if not values[name] < share * tolerance]


def cases() -> list[Case]:
    """All forms of the energy that the library offers, and both ways to a step."""
    sliding = FitConfig()
    fitted = replace(sliding, sliding_contour=False)
    held = replace(fitted, fit_identity=False)
    paper = FitConfig.paper()
    return [
        Case("identity fitted", fitted),
        Case("identity held", held),
        Case("focal length known", fitted, photo={"known_focal": True}),
        Case("far-off starts, damped", fitted, far_off=True),
        Case("far-off starts, identity held", held, far_off=True),
        Case("contour sliding", sliding),
        Case("468 points", held, mesh=True),
        Case("468 points, contour sliding", replace(held, sliding_contour=True), mesh=True),
        Case("468 points, identity fitted", fitted, mesh=True),
        Case("lagged", replace(held, lagged_laplacian=True), lagged=True),
        Case("lagged, identity fitted", replace(fitted, lagged_laplacian=True), lagged=True),
        Case("paper", paper, paper=True, lagged=True),
        Case(
            "paper, anchors held, not lagged", replace(paper, lagged_laplacian=False, sliding_contour=False), paper=True
        ),
    ]


def layout_of(case: Case, head: HeadModel) -> Layout:
    """The landmarks of a case."""
    return (mesh_layout if case.mesh else landmark_layout)(head, case.config.contour_weight)


def varied_photo(head: HeadModel, case: Case, seed: int) -> Photo:
    """A random problem; its number says what it lacks."""
    options = {"missing": 0.2 * (seed % 2), "weighted": seed % 3 == 1, "known_shape": seed % 4 >= 2, **case.photo}
    return make_photo(head, layout_of(case, head), seed, **options)


def far_off(start: State, seed: int) -> State:
    """A start at 1.4 to 2 times the distance: the plain step would bring the head behind the camera or near to it."""
    return start._replace(translation=start.translation * [1.0, 1.0, np.random.default_rng(seed).uniform(1.4, 2.0)])


def lines_of(fitter: Fitter, points: FacePoints) -> Lines | None:
    """The candidates of a sliding contour, as the library laid them."""
    contour = fitter.contour
    if contour is None:
        return None
    corners = np.asarray(contour.corners).reshape(-1, 3)
    rows = sp.csr_array(
        (np.asarray(contour.barycentric).ravel(), (np.repeat(np.arange(len(corners)), 3), corners.ravel())),
        shape=(len(corners), len(fitter.mean)),
    )
    return Lines(rows, len(contour.corners), points.contour.landmarks, points.contour.closed)


def first_unknowns(fitter: Fitter, start: State) -> Unknowns:
    """A start in the library's form, without a field."""
    dtype, lagged = fitter.mean.dtype, 0 if fitter.lagged is None else len(fitter.expressions)
    quaternion = Rotation.from_matrix(start.rotation).as_quat(scalar_first=True, canonical=True)
    return Unknowns(
        coefficients=jnp.asarray(start.coefficients, dtype),
        quaternion=jnp.asarray(quaternion, dtype),
        translation=jnp.asarray(start.translation, dtype),
        log_focal_scale=jnp.asarray(start.log_focal_scale, dtype),
        multipliers=jnp.zeros((fitter.correction.response.shape[1], 3), dtype),
        change=jnp.zeros(lagged, dtype),
    )


def state_of(result: FitResult) -> State:
    """Where the library's solver stands, before its size is set."""
    unknowns = result.unknowns
    gauge = np.linalg.norm(result.translation) / np.linalg.norm(unknowns.translation)
    return State(
        np.asarray(unknowns.coefficients, np.float64), np.asarray(result.rotation, np.float64),
        np.asarray(unknowns.translation, np.float64), float(unknowns.log_focal_scale),
        np.asarray(result.correction, np.float64) / gauge,
    )  # fmt: skip


def difference(referee: Referee, result: FitResult, expected: State, energies: list[float]) -> Difference:
    """Compare what the library returned with the referee's last state."""
    gauge = referee.gauge(expected)
    given = np.asarray(result.energies, np.float64)
    return Difference(
        vertices_mm=float(np.abs(np.asarray(result.vertices) - _sized(referee, expected, gauge)).max()),
        correction_mm=float(np.abs(np.asarray(result.correction) - gauge * expected.field).max()),
        translation_mm=float(np.abs(np.asarray(result.translation) - gauge * expected.translation).max()),
        rotation=float(np.abs(np.asarray(result.rotation) - expected.rotation).max()),
        energy=float(np.max(np.abs(given / np.array(energies) - 1.0))),
        rejected=int(np.sum(np.diff(energies) == 0.0)),
    )


def _sized(referee: Referee, state: State, gauge: float) -> np.ndarray:
    return gauge * referee.vertices(state)


def compare(
    head: HeadModel, case: Case, seeds: Iterable[int], *, types: tuple[str, ...] = ("float64", "float32")
) -> Iterator[dict[str, Difference]]:
    """For every step of every problem, the differences by type; needs ``jax.enable_x64``.

    Args:
        head: The head.
        case: Form of the energy; its program is compiled once for each type.
        seeds: One for each problem.
        types: Floating-point types; float64, which says where the next step starts, is one.

    Yields:
        The differences.
    """
    config = replace(case.config, iterations=3 if case.far_off else 1)
    layout = layout_of(case, head)
    points = mesh_points_of(head) if case.mesh else landmark_points_of(head)
    lagged = len(head.expressions) if case.lagged else 0
    model = Model(head, config, layout=layout, paper=case.paper, lagged=lagged)
    fitters = {name: make_fitter(head, config, points=points, dtype=getattr(np, name)) for name in types}
    lines = lines_of(fitters["float64"], points)
    for seed in seeds:
        photo = varied_photo(head, case, seed)
        referee = Referee(model, photo)
        state = far_off(referee.start(), seed) if case.far_off else referee.start()
        arguments = (jnp.asarray(photo.shape), jnp.asarray(photo.landmarks), IMAGE_SIZE)
        options = {"scores": jnp.asarray(photo.scores), "weights": jnp.asarray(photo.weights)}
        if photo.focal_px is not None:
            options["focal_px"] = jnp.asarray(photo.focal_px)
        unknowns = first_unknowns(fitters["float64"], state)
        scale, change = None, None
        for _ in range(1 if case.far_off else ITERATIONS):
            decided = np.inf
            if lines is not None:
                rows, decided = frozen_contour(referee, lines, state)
                referee = Referee(model, photo, rows=rows)
            results = {
                name: fit(fitter, *_cast(arguments, name), **_cast(options, name), init=_cast(unknowns, name))
                for name, fitter in fitters.items()
            }
            if scale is None:  # W_eye belongs to the library's own start pose, whatever start it is given
                scale = referee.scale_of(float(results["float64"].energies[0]), state)
            expected, energies = referee.run(scale, state, config.iterations)
            energies[0] = referee.energy(scale, state, change=change)
            yield {
                name: difference(referee, result, expected, energies)
                for name, result in results.items()
                if name == "float64" or decided > CLOSE_CALL
            }
            before, unknowns, state = state, results["float64"].unknowns, state_of(results["float64"])
            change = state.coefficients - before.coefficients


def _cast(tree: Any, name: str) -> Any:
    """Arrays in another floating-point type."""
    return jax.tree.map(lambda part: part.astype(name) if hasattr(part, "astype") else part, tree)


def worst(differences: list[Difference]) -> Difference:
    """The largest of each kind, and how many steps were rejected."""
    columns = list(zip(*differences))
    return Difference(*(max(column) for column in columns[:-1]), rejected=sum(columns[-1]))
