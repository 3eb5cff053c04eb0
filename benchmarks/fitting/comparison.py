"""The library's step beside the reference implementation's, at every iteration of random problems."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fitting.problem import IMAGE_SIZE, Photo, State, make_photo, points_of
from benchmarks.fitting.reference import Model, Reference, frozen_contour, quaternion_of
from digitaltwin.fitting import FitConfig, FitResult, Unknowns, fit, make_fitter
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.head import HeadModel

TOLERANCE_MM = {"float64": 1e-6, "float32": 1e-3}
# What of that each kind of difference may have.
SHARES = {"vertices_mm": 1.0, "correction_mm": 1.0, "translation_mm": 50.0, "rotation": 0.05, "energy": 1.0}
ITERATIONS = 5
CLOSE_CALL = 1e-6  # silhouettes decided by less may come out otherwise in float32, which then takes another step


@dataclass(frozen=True)
class Case:
    """One form of the energy, and what its problems have in common.

    Where starts are far off, the plain step overshoots: each problem then is that step, rejected, and two damped ones.
    """

    name: str
    config: FitConfig
    paper: bool = False
    mesh: bool = False
    far_off: bool = False
    known_focal: bool = False


def cases() -> list[Case]:
    """Return all forms of the energy that the library offers, and both ways to a step."""
    sliding, paper = FitConfig(), FitConfig.paper()
    fitted = replace(sliding, sliding_contour=False)
    held = replace(fitted, fit_identity=False)
    unlagged = replace(paper, lagged_laplacian=False, sliding_contour=False)
    return [
        Case("identity fitted", fitted),
        Case("identity held", held),
        Case("focal length known", fitted, known_focal=True),
        Case("far-off starts, damped", fitted, far_off=True),
        Case("far-off starts, identity held", held, far_off=True),
        Case("contour sliding", sliding),
        Case("468 points", held, mesh=True),
        Case("468 points, contour sliding", replace(held, sliding_contour=True), mesh=True),
        Case("468 points, identity fitted", fitted, mesh=True),
        Case("lagged", replace(held, lagged_laplacian=True)),
        Case("lagged, identity fitted", replace(fitted, lagged_laplacian=True)),
        Case("paper", paper, paper=True),
        Case("paper, anchors held, not lagged", unlagged, paper=True),
    ]


def varied_photo(head: HeadModel, case: Case, seed: int) -> Photo:
    """Draw a random problem; its number says what it lacks."""
    lacks = {"missing": 0.2 * (seed % 2), "weighted": seed % 3 == 1, "known_shape": seed % 4 >= 2}
    return make_photo(head, points_of(head, mesh=case.mesh), seed, known_focal=case.known_focal, **lacks)


def one_fit(fitter: Fitter, photo: Photo, unknowns: Unknowns | None = None) -> Callable[[], FitResult]:
    """Return a call that fits one photo in the fitter's type, from the given unknowns or from the library's start."""
    cast = partial(jnp.asarray, dtype=fitter.mean.dtype)
    given = {"scores": photo.scores, "weights": photo.weights, "focal_px": photo.focal_px}
    options = {name: cast(part) for name, part in given.items() if part is not None}
    init = None if unknowns is None else jax.tree.map(cast, unknowns)
    return partial(fit, fitter, cast(photo.shape), cast(photo.landmarks), IMAGE_SIZE, init=init, **options)


def first_unknowns(fitter: Fitter, start: State) -> Unknowns:
    """Return a start in the library's form, without a field."""
    lagged = 0 if fitter.lagged is None else len(fitter.expressions)
    cast = partial(jnp.asarray, dtype=fitter.mean.dtype)
    return Unknowns(
        coefficients=cast(start.coefficients),
        quaternion=cast(quaternion_of(start.rotation)),
        translation=cast(start.translation),
        log_focal_scale=cast(start.log_focal_scale),
        multipliers=cast(np.zeros((fitter.multiplier_count, 3))),
        change=cast(np.zeros(lagged)),
    )


def state_of(result: FitResult) -> State:
    """Return the state of the library's solver, before its size is set."""
    unknowns = result.unknowns
    gauge = np.linalg.norm(result.translation) / np.linalg.norm(unknowns.translation)
    parts = (unknowns.coefficients, result.rotation, unknowns.translation)
    coefficients, rotation, translation = (np.asarray(part, np.float64) for part in parts)
    field = np.asarray(result.correction, np.float64) / gauge
    return State(coefficients, rotation, translation, float(unknowns.log_focal_scale), field)


def differences(reference: Reference, result: FitResult, expected: State, energies: list[float]) -> dict[str, float]:
    """Return the largest differences of what the library returned from the reference implementation's last state.

    That of the energies is relative; beside, the number of steps that the reference rejected.
    """
    gauge = reference.gauge(expected)
    pairs = {
        "vertices_mm": (result.vertices, gauge * reference.vertices(expected)),
        "correction_mm": (result.correction, gauge * expected.field),
        "translation_mm": (result.translation, gauge * expected.translation),
        "rotation": (result.rotation, expected.rotation),
        "energy": (np.asarray(result.energies, np.float64) / np.array(energies), np.ones(())),
    }
    found = {name: float(np.abs(np.asarray(own) - wanted).max()) for name, (own, wanted) in pairs.items()}
    return {**found, "rejected": int(np.sum(np.diff(energies) == 0.0))}


def beyond(found: dict[str, float], dtype: str) -> list[str]:
    """Return what differs by more than it may in a type: a vertex's tolerance, or what moves an image as little."""
    limits = {name: share * TOLERANCE_MM[dtype] for name, share in SHARES.items()}
    return [f"{name} {found[name]:.3g}" for name, limit in limits.items() if not found[name] < limit]


def compare(
    head: HeadModel, case: Case, seeds: Iterable[int], *, types: tuple[str, ...] = ("float64", "float32")
) -> Iterator[dict[str, dict[str, float]]]:
    """Yield the differences by type for every step of every problem; needs ``jax.enable_x64``.

    Each type's program is compiled once. One type is float64, whose result is where the next step starts.
    """
    config = replace(case.config, iterations=3 if case.far_off else 1)
    points, lagged = points_of(head, mesh=case.mesh), len(head.expressions) if config.lagged_laplacian else 0
    model = Model(head, config, points, paper=case.paper, lagged=lagged)
    fitters = {name: make_fitter(head, config, points=points, dtype=getattr(np, name)) for name in types}
    contour = fitters["float64"].contour
    for seed in seeds:
        photo = varied_photo(head, case, seed)
        reference = Reference(model, photo)
        state, scale, change = reference.start, None, None
        if case.far_off:  # from 1.4 to 2 times the distance the plain step leads behind the camera or near to it
            away = [1.0, 1.0, np.random.default_rng(seed).uniform(1.4, 2.0)]
            state = state._replace(translation=state.translation * away)
        unknowns = first_unknowns(fitters["float64"], state)
        for _ in range(1 if case.far_off else ITERATIONS):
            decided = np.inf
            if contour is not None:
                rows, decided = frozen_contour(reference, *map(np.asarray, contour[:2]), state)
                reference = Reference(model, photo, scale=scale, rows=rows)
            results = {name: one_fit(fitter, photo, unknowns)() for name, fitter in fitters.items()}
            if scale is None:  # W_eye belongs to the library's own start pose, whatever start it is given
                scale = reference.scale = reference.scale_of(float(results["float64"].energies[0]), state)
            expected, energies = reference.run(state, config.iterations)
            energies[0] = reference.energy(state, change=change)
            yield {
                name: differences(reference, result, expected, energies)
                for name, result in results.items()
                if name == "float64" or decided > CLOSE_CALL
            }
            before, unknowns, state = state, results["float64"].unknowns, state_of(results["float64"])
            change = state.coefficients - before.coefficients
