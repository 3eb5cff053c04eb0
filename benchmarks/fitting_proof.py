"""The library's step beside the referee's, at every iteration of many random problems.

The referee (:mod:`benchmarks.fitting_problem`) solves for all 3v + m unknowns at once by sparse LU in float64; the
library eliminates the field first. Each problem runs five iterations. At every one both start from the library's
float64 point, the float32 fit from that point rounded, and the fitted heads must agree to 1e-6 mm in float64 and to
1e-3 mm in float32. The problems of every case differ in what needs no other program: missing landmarks (a fifth, eye
corners among them), weights, the person's shape known or not. The cases are what does: identity held or fitted, the
focal length known, the 468 points, starts so far off that the step is rejected and the next damped, and the other forms
of the energy that :class:`digitaltwin.fitting.FitConfig` offers.

Prints a table of the worst differences and writes ``results/fitting_proof.json``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from benchmarks import machine
from benchmarks.fitting_problem import (
    IMAGE_SIZE,
    Layout,
    Model,
    Photo,
    Referee,
    State,
    landmark_layout,
    make_photo,
    mesh_layout,
)
from digitaltwin.fitting import FitConfig, FitResult, Fitter, Unknowns, fit, make_fitter
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io.files import make_folder, write_json
from experiments import command

TOLERANCE_MM = {"float64": 1e-6, "float32": 1e-3}
ITERATIONS = 5

_OUT = flags.DEFINE_string("out", str(Path(__file__).parent / "results"), "Folder for fitting_proof.json.")
_PROBLEMS = flags.DEFINE_integer("problems", 100, "Random problems of each case.", 1)


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
    """Start where the plain step overshoots: each problem then is that step, rejected, and a damped one."""


class Difference(NamedTuple):
    """Library against referee after one step, or after a rejected and a damped one."""

    vertices_mm: float
    correction_mm: float
    translation_mm: float
    rotation: float
    energy: float
    """Relative."""
    rejected: int
    """Steps that the referee did not take."""


def frozen(config: FitConfig) -> FitConfig:
    """The configuration with the contour's anchors held."""
    names = {entry.name for entry in fields(config)}
    return replace(config, sliding_contour=False) if "sliding_contour" in names else config


def cases() -> list[Case]:
    """All that the library offers."""
    default = frozen(FitConfig())
    names = {entry.name for entry in fields(default)}
    held = replace(default, fit_identity=False)
    found = [
        Case("identity fitted", default),
        Case("identity held", held),
        Case("focal length known", default, photo={"known_focal": True}),
        Case("far-off starts, damped", default, far_off=True),
        Case("far-off starts, identity held", held, far_off=True),
    ]
    if "lagged_laplacian" in names:
        found += [Case("lagged", replace(held, lagged_laplacian=True), lagged=True)]
    if hasattr(FitConfig, "paper"):
        config = frozen(FitConfig.paper())
        found += [
            Case("paper", config, paper=True, lagged=config.lagged_laplacian),
            Case("paper, not lagged", replace(config, lagged_laplacian=False), paper=True),
        ]
    return found


def layout_of(case: Case, head: HeadModel) -> Layout:
    """The landmarks of a case."""
    return (mesh_layout if case.mesh else landmark_layout)(head, case.config.contour_weight)


def varied_photo(head: HeadModel, case: Case, seed: int) -> Photo:
    """A random problem; its number says what it lacks."""
    options = {"missing": 0.2 * (seed % 2), "weighted": seed % 3 == 1, "known_shape": seed % 4 >= 2, **case.photo}
    return make_photo(head, layout_of(case, head), seed, **options)


def far_off(referee: Referee, seed: int) -> State:
    """A start from which the plain step would raise the energy: 60 to 130 degrees away, at a wrong focal length."""
    rng = np.random.default_rng(seed)
    start = referee.start()
    while True:
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(rng.uniform(1.0, 2.3) * axis / np.linalg.norm(axis)).as_matrix()
        state = start._replace(rotation=turn @ start.rotation, log_focal_scale=rng.uniform(-0.3, 0.3))
        scale = referee.scale(state)
        if referee.energy(scale, referee.step(scale, state)) > referee.energy(scale, state):
            return state


def first_unknowns(fitter: Fitter, arguments: tuple[Any, ...], options: dict[str, Any], start: State) -> Unknowns:
    """A start in the library's form, without a field."""
    shapes = jax.eval_shape(lambda: fit(fitter, *arguments, **options)).unknowns
    quaternion = Rotation.from_matrix(start.rotation).as_quat(scalar_first=True, canonical=True)
    return jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), shapes)._replace(
        coefficients=jnp.asarray(start.coefficients),
        quaternion=jnp.asarray(quaternion),
        translation=jnp.asarray(start.translation),
        log_focal_scale=jnp.asarray(start.log_focal_scale),
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


def compare(head: HeadModel, case: Case, seeds: Iterable[int]) -> Iterator[dict[str, Difference]]:
    """For every step of every problem, the differences by type.

    Each of a case's two programs, in float64 and in float32, is compiled once. Needs ``jax.enable_x64``.
    """
    config = replace(case.config, iterations=2 if case.far_off else 1)
    layout, points = layout_of(case, head), {"points": "mesh"} if case.mesh else {}
    lagged = len(head.expressions) if case.lagged else 0
    model = Model(head, config, layout=layout, paper=case.paper, lagged=lagged)
    fitters = {name: make_fitter(head, config, dtype=getattr(np, name), **points) for name in TOLERANCE_MM}
    for seed in seeds:
        photo = varied_photo(head, case, seed)
        referee = Referee(model, photo)
        state = far_off(referee, seed) if case.far_off else referee.start()
        arguments = (jnp.asarray(photo.shape), jnp.asarray(photo.landmarks), IMAGE_SIZE)
        options = {"scores": photo.scores, "weights": photo.weights}
        if photo.focal_px is not None:
            options["focal_px"] = jnp.asarray(photo.focal_px)
        options = jax.tree.map(jnp.asarray, options)
        unknowns = first_unknowns(fitters["float64"], arguments, options, state)
        for _ in range(1 if case.far_off else ITERATIONS):
            scale = referee.scale(state)
            expected, energies = referee.run(scale, state, config.iterations)
            results = {
                name: fit(fitter, *_cast(arguments, name), **_cast(options, name), init=_cast(unknowns, name))
                for name, fitter in fitters.items()
            }
            yield {name: difference(referee, result, expected, energies) for name, result in results.items()}
            unknowns, state = results["float64"].unknowns, state_of(results["float64"])


def _cast(tree: Any, name: str) -> Any:
    """Arrays in another floating-point type."""
    return jax.tree.map(lambda part: part.astype(name) if hasattr(part, "astype") else part, tree)


def worst(differences: list[Difference]) -> Difference:
    """The largest of each kind, and how many steps were rejected."""
    columns = list(zip(*differences))
    return Difference(*(max(column) for column in columns[:-1]), rejected=sum(columns[-1]))


def main() -> None:
    """Compare, print, write."""
    folder = make_folder(_OUT.value)
    head, table, failed = load_head(), {}, []
    print(f"worst difference from the full-size sparse step, {_PROBLEMS.value} problems a case")
    print(f"{'case':32}{'type':9}" + "".join(f"{name:>16}" for name in Difference._fields))
    for case in cases():
        with jax.enable_x64(True):
            found = list(compare(head, case, tqdm(range(_PROBLEMS.value), case.name, leave=False)))
        for name, tolerance in TOLERANCE_MM.items():
            total = worst([entry[name] for entry in found])
            table.setdefault(case.name, {})[name] = total._asdict()
            print(f"{case.name:32}{name:9}" + "".join(f"{value:16.3g}" for value in total), flush=True)
            if not total.vertices_mm < tolerance:
                failed.append(f"{case.name} in {name}: {total.vertices_mm:.3g} mm")
    measured = {
        "workload": "one eliminated step against the full-size sparse LU step, at each iteration",
        "better": "lower",
        "machine": machine.describe("jax", "jaxlib", "numpy", "scipy"),
        "problems": _PROBLEMS.value,
        "tolerance_mm": TOLERANCE_MM,
        "worst": table,
    }
    write_json(folder / "fitting_proof.json", measured)
    if failed:
        raise RuntimeError("differs from the referee: " + "; ".join(failed))


if __name__ == "__main__":
    command.run(main)
