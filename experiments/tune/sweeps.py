"""Which weights fit best, and what the sliding contour is worth: curves on renders with known truth.

    python -m experiments.weights --renders=renders --out=docs/images --results=benchmarks/results

Moves one weight of ``FitConfig`` at a time about its default and fits all renders of the tuning people: from the best
group's mean, and from a neutral shape half-way between the person's own and the group's mean, as good a guess as a
decoder's. The defaults, and the contour's settings, are also judged on the test people. Writes fit-weights.png,
fit-weights-given.png, fit-contour.png, fit-weights.json. Renders that are missing are made, a second each; a run that
was stopped goes on with them where it was.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from digitaltwin.avatar._report import held_out_points
from digitaltwin.fitting import OK, FitConfig, FitResult, Fitter, fit, fit_groups, make_fitter
from digitaltwin.geometry import camera_points, procrustes_alignment, project
from digitaltwin.head import HeadModel, landmark_points, load_head, neutral_shape
from digitaltwin.head.markup import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.synthesis import Scene, SceneConfig, make_scenes
from digitaltwin.synthesis._outline import outline_landmarks
from digitaltwin.synthesis._scene import YAW_BINS_DEG
from experiments import command
from experiments.plotting import plt

_RENDERS = flags.DEFINE_string("renders", "renders", "Folder of the renders; made if it is missing, continued if not.")
_OUT = flags.DEFINE_string("out", "docs/images", "Folder for the pictures; made if it is missing.")
_RESULTS = flags.DEFINE_string("results", "benchmarks/results", "Folder for fit-weights.json; made if it is missing.")
_COUNT = flags.DEFINE_integer("count", SceneConfig.count, "Renders, half of them for tuning.", 8)
_SEED = flags.DEFINE_integer("seed", SceneConfig.seed, "Seed of the renders.", 0)
_REMAINDER = flags.DEFINE_float("remainder_mm", SceneConfig.residual_mm, "What the basis lacks of the people.", 0.0)
_SLIDING = flags.DEFINE_bool(
    "sliding", FitConfig.sliding_contour, "Whether the contour slides while weights are moved."
)
_ONLY = flags.DEFINE_list("only", [], "Weights to move; all by default.")
_QUICK = flags.DEFINE_bool("quick", False, "Eight renders, one weight, given shapes only, for a first look.")

FACTORS = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
FEW_FACTORS = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
SWEEPS: dict[str, tuple[float, ...]] = {
    "correction_weight": FACTORS,
    "correction_length_mm": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
    "omega_r": FEW_FACTORS,
    "expression_deviation": (0.35, 0.6, 0.8, 1.0, 1.4, 2.0),
    "omega_i": FACTORS,
    "lambda_q": FEW_FACTORS,
    "lambda_f": FEW_FACTORS,
    "contour_weight": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "contour_reach_mm": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
    "iterations": (0.4, 0.6, 0.8, 1.0, 1.4, 2.0),
}
"""The weights that are moved, and the factors of their defaults."""
IN_ARRAYS = ("correction_weight", "correction_length_mm", "expression_deviation", "omega_i", "contour_weight")
"""Weights that :func:`make_fitter` puts into the fitter's arrays, and that the fit itself does not read."""
OWN_SHARE = 0.5
"""Of a person's own shape in the given one; the rest is the group's mean."""
STARTS = ("group", "given")
CONTOUR_NOISE_PERCENT = 2.0
"""Of the landmarks that are put on the outline."""


class Errors(NamedTuple):
    """How far fits are off, one row a render."""

    held_out_percent: Float[np.ndarray | Array, " n"]
    """Detected mesh points that no landmark is read off, against the fit's: root mean square, of the eye distance."""
    true_points_percent: Float[np.ndarray | Array, " n"]
    """The true projections of the face's vertices against the fit's."""
    face_mm: Float[np.ndarray | Array, " n"]
    """Face with its expression, after rigid alignment: root mean square over the vertices."""
    neutral_mm: Float[np.ndarray | Array, " n"]
    """The neutral face likewise."""
    neutral_scaled_mm: Float[np.ndarray | Array, " n"]
    """With the size, which one photo does not tell, aligned too."""
    correction_p95_mm: Float[np.ndarray | Array, " n"]
    rotation_deg: Float[np.ndarray | Array, " n"]
    expression: Float[np.ndarray | Array, " n"]
    """Root mean square over the 52 weights."""


UNITS = {
    "held_out_percent": "held-out mesh points, % of the eye distance",
    "true_points_percent": "true projections, % of the eye distance",
    "face_mm": "face with expression, mm",
    "neutral_mm": "neutral face, mm",
    "neutral_scaled_mm": "neutral face, size aligned, mm",
    "correction_p95_mm": "correction, 95th percentile, mm",
    "rotation_deg": "rotation, degrees",
    "expression": "expression weights",
}


@partial(jax.jit, static_argnames="start")
def fit_all(fitter: Fitter, shapes: Array, landmarks: Array, sizes: Array, scores: Array, *, start: str) -> FitResult:
    """All renders in one batch; ``shapes`` are used where ``start`` is "given"."""

    def one(shape: Array, seen: Array, size: Array, score: Array) -> FitResult:
        if start == "group":
            return fit_groups(fitter, seen, size, scores=score).result
        return fit(fitter, shape, seen, size, scores=score)

    return jax.vmap(one)(shapes, landmarks, sizes, scores)


def one_program(head: HeadModel, config: FitConfig) -> Fitter:
    """A fitter whose static part is the same for all values of :data:`IN_ARRAYS`: their fits are compiled once."""
    defaults = {name: getattr(FitConfig(), name) for name in IN_ARRAYS}
    return dataclasses.replace(make_fitter(head, config), config=dataclasses.replace(config, **defaults))


def given_shapes(head: HeadModel, truth: Scene) -> Float[np.ndarray, "n v 3"]:
    """Neutral shapes between the persons' own and their groups' means."""
    means = np.asarray(jax.vmap(partial(neutral_shape, head))(head.group_identity))[truth.group]
    return (OWN_SHARE * truth.neutral + (1 - OWN_SHARE) * means).astype(np.float32)


def judge(
    head: HeadModel,
    config: FitConfig,
    truth: Scene,
    *,
    start: str,
    landmarks: Float[np.ndarray, "n k 2"] | None = None,
    portion: int = 60,
) -> Errors:
    """Fit the renders, and say how far the fits are off.

    Args:
        head: the model.
        config: of the fit.
        truth: the renders.
        start: one of :data:`STARTS`.
        landmarks: other than those detected.
        portion: renders in a batch.

    Returns:
        Errors; NaN where the fit says of itself that it failed.
    """
    fitter, shapes = one_program(head, config), given_shapes(head, truth)
    landmarks = truth.landmarks_px if landmarks is None else landmarks
    rows = []
    for first in range(0, len(shapes), portion):
        # One batch size for all, so that it is compiled once; the last render may be repeated.
        mine = np.minimum(np.arange(first, first + portion), len(shapes) - 1)
        some = truth.take(mine)
        result = fit_all(fitter, shapes[mine], landmarks[mine], some.image_size, some.detected_expression, start=start)
        rows.append(_compare(head, jax.tree.map(jnp.asarray, some), result))
    return Errors(*(np.concatenate(field)[: len(shapes)] for field in zip(*rows)))


@jax.jit
def _compare(head: HeadModel, truth: Scene, result: FitResult) -> Errors:
    held_out = jnp.asarray(held_out_points())

    def one(truth: Scene, result: FitResult) -> tuple[Array, ...]:
        eye_px = true_eye_distance_px(head, truth)
        true_vertices, true_neutral = jnp.asarray(truth.vertices), jnp.asarray(truth.neutral)
        face = head.regions.face

        def over_face(squares: Array, where: Array = face) -> Array:
            return jnp.sqrt(jnp.sum(jnp.where(where, squares, 0.0)) / jnp.sum(where))

        mesh = project(result.camera, head.mesh_points.interpolate(result.vertices, head.faces))
        off_mesh = jnp.sum((mesh - truth.mesh_px[: len(mesh)])[held_out] ** 2, axis=1)
        off_truth = project(result.camera, result.vertices) - project(truth.camera, true_vertices)

        def off(found: Array, true: Array, with_scale: bool) -> Array:
            move = procrustes_alignment(found, true, weights=face.astype(found.dtype), with_scale=with_scale)
            return over_face(jnp.sum((move.apply(found) - true) ** 2, axis=1))

        turned = jnp.sum(result.rotation * truth.camera.rotation)  # the trace of one times the other's inverse
        failed = jnp.where(result.status == OK, 0.0, jnp.nan)
        return tuple(
            value + failed
            for value in (
                100 * jnp.sqrt(jnp.mean(off_mesh)) / eye_px,
                100 * over_face(jnp.sum(off_truth**2, axis=1)) / eye_px,
                off(result.vertices, true_vertices, False),
                off(result.neutral, true_neutral, False),
                off(result.neutral, true_neutral, True),
                jnp.percentile(jnp.linalg.norm(result.correction, axis=1), 95),
                jnp.rad2deg(jnp.arccos(jnp.clip((turned - 1) / 2, -1.0, 1.0))),
                jnp.sqrt(jnp.mean((result.expression - truth.expression) ** 2)),
            )
        )

    return Errors(*jax.vmap(one)(truth, result))


def true_eye_distance_px(head: HeadModel, truth: Scene) -> Float[Array, ""]:
    """Distance of the outer eye corners of one render [px], freed of foreshortening: the true one at its depth."""
    corners = landmark_points(head, jnp.asarray(truth.vertices))[jnp.array([LEFT_EYE_OUTER, RIGHT_EYE_OUTER])]
    depth = jnp.mean(camera_points(truth.camera, corners)[:, 2])
    return truth.camera.focal_px * jnp.linalg.norm(corners[0] - corners[1]) / depth


def summary(errors: Errors, bins: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """Means over all renders and over each yaw bin, for JSON."""
    ok = np.isfinite(errors.face_mm)

    def means(where: np.ndarray) -> dict[str, float]:
        return {name: round(float(values[where].mean()), 4) for name, values in errors._asdict().items()}

    by_bin = {
        f"{YAW_BINS_DEG[k]:.0f}-{YAW_BINS_DEG[k + 1]:.0f}": means(ok & (bins == k))
        for k in range(len(YAW_BINS_DEG) - 1)
        if (ok & (bins == k)).any()
    }
    return {"renders": len(ok), "failed": int((~ok).sum()), "all": means(ok), "by_yaw_deg": by_bin}


# Weights


def sweep(
    head: HeadModel,
    truth: Scene,
    default: FitConfig,
    names: Mapping[str, tuple[float, ...]],
    starts: tuple[str, ...],
) -> dict[str, Any]:
    """Errors on some renders with one weight moved at a time: ``[name][start]`` is a list, by rising value."""
    bins = truth.yaw_bins()
    table: dict[str, Any] = {}
    jobs = [(name, factor, start) for name, factors in names.items() for factor in factors for start in starts]
    for name, factor, start in tqdm(jobs, desc="weights", unit=" fits of all"):
        value = factor * getattr(default, name)
        value = round(value) if name == "iterations" else value
        errors = judge(head, dataclasses.replace(default, **{name: value}), truth, start=start)
        table.setdefault(name, {}).setdefault(start, []).append({"value": value, **summary(errors, bins)})
    return table


def draw_sweep(table: dict[str, Any], defaults: Mapping[str, Any], start: str, path: Path) -> None:
    """A panel a weight: change of the errors against the default's, and the correction's size."""
    shown = {
        "held_out_percent": ("#1f77b4", "held-out mesh points"),
        "true_points_percent": ("#17becf", "true projections"),
        "face_mm": ("#d62728", "face with expression"),
        "neutral_mm": ("#ff7f0e", "neutral face"),
        "neutral_scaled_mm": ("#9467bd", "neutral face, size aligned"),
    }
    rows = -(-len(table) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(14, 3.6 * rows), squeeze=False, layout="constrained")
    for axis, (name, by_start) in zip(axes.flat, table.items()):
        values = np.array([row["value"] for row in by_start[start]], float)
        default = float(defaults[name])
        for error, (colour, label) in shown.items():
            means = np.array([row["all"][error] for row in by_start[start]])
            reference = np.interp(default, values, means)
            axis.plot(values, 100 * (means / reference - 1), "o-", color=colour, ms=3, label=label)
        axis.axvline(default, color="0.8", zorder=0)
        axis.axhline(0, color="0.8", zorder=0)
        axis.set_xscale("symlog", linthresh=values[values > 0].min())
        axis.set_xticks(values, [f"{value:.3g}" for value in values], fontsize=7, rotation=25)
        axis.minorticks_off()
        axis.set_xlabel(f"{name} (default {default:g})")
        axis.set_ylabel("error against the default's, %")
        axis.set_ylim(-13, 16)
        size = axis.twinx()
        size.plot(values, [row["all"]["correction_p95_mm"] for row in by_start[start]], ":", color="0.5")
        size.set_ylabel("correction, mm (dotted)", color="0.5")
        size.set_ylim(0, None)
    axes.flat[0].legend(fontsize=7)
    for axis in axes.flat[len(table) :]:
        axis.remove()
    figure.suptitle(
        "From the best group's mean" if start == "group" else "From a given shape, half-way to the group's mean"
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


# The contour


CONTOURS = {
    "without contour": FitConfig(contour_weight=0.0),
    "fixed": FitConfig(sliding_contour=False),
    "sliding": FitConfig(sliding_contour=True),
    "sliding far": FitConfig(sliding_contour=True, contour_reach_mm=FitConfig.paper().contour_reach_mm),
}
"""What is compared: no contour, fixed anchors, anchors that slide as far as the default lets them, and further."""


def compare_contours(head: HeadModel, truth: Scene, starts: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Errors of each setting, with the network's contour landmarks and with such as lie on the visible outline.

    Also the mean of sliding minus fixed over the renders of each bin, and 1.96 standard errors of it.
    """
    bins = truth.yaw_bins()
    outline = outline_landmarks(head, truth, noise_percent=CONTOUR_NOISE_PERCENT, seed=seed)
    table: dict[str, Any] = {}
    for source, landmarks in (("network", truth.landmarks_px), ("outline", outline)):
        for start in starts:
            errors = {
                name: judge(head, config, truth, start=start, landmarks=landmarks) for name, config in CONTOURS.items()
            }
            entry: dict[str, Any] = {name: summary(values, bins) for name, values in errors.items()}
            for name in ("sliding", "sliding far"):
                entry[f"{name} - fixed"] = _paired(errors[name], errors["fixed"], bins)
            table.setdefault(source, {})[start] = entry
    return table


def _paired(a: Errors, b: Errors, bins: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """Mean of a - b of each error over each bin, and 1.96 standard errors of it."""
    table = {}
    for k in range(len(YAW_BINS_DEG) - 1):
        rows = {}
        for name in Errors._fields:
            difference = (getattr(a, name) - getattr(b, name))[bins == k]
            difference = difference[np.isfinite(difference)]
            if len(difference) > 1:
                error = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
                rows[name] = [round(float(difference.mean()), 4), round(float(error), 4)]
        table[f"{YAW_BINS_DEG[k]:.0f}-{YAW_BINS_DEG[k + 1]:.0f}"] = rows
    return table


def draw_contours(table: dict[str, Any], start: str, path: Path) -> None:
    """Bars by yaw: a row for where the contour landmarks come from, a column for each error."""
    columns = ("neutral_scaled_mm", "face_mm", "true_points_percent", "rotation_deg")
    colours = {"without contour": "0.75", "fixed": "#1f77b4", "sliding": "#d62728", "sliding far": "#e8a0a0"}
    figure, axes = plt.subplots(len(table), len(columns), figsize=(15, 3.6 * len(table)), layout="constrained")
    for row, (source, by_start) in zip(axes, table.items()):
        settings = {name: entry for name, entry in by_start[start].items() if name in colours}
        for axis, column in zip(row, columns):
            for number, (name, entry) in enumerate(settings.items()):
                heights = [means[column] for means in entry["by_yaw_deg"].values()]
                at = np.arange(len(heights)) + 0.21 * (number - (len(settings) - 1) / 2)
                axis.bar(at, heights, 0.19, color=colours[name], label=name)
            names = list(next(iter(settings.values()))["by_yaw_deg"])
            axis.set_xticks(np.arange(len(names)), names)
            axis.set_xlabel("yaw, degrees")
            axis.set_title(UNITS[column], fontsize=9)
        row[0].set_ylabel(f"contour landmarks: {source}'s")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def table_of(results: dict[str, Any]) -> str:
    """The contour's comparison and the defaults' errors as Markdown."""
    shown = ("held_out_percent", "true_points_percent", "face_mm", "neutral_mm", "neutral_scaled_mm", "rotation_deg")
    lines = [
        "| contour landmarks | start | setting | yaw | " + " | ".join(shown) + " |",
        "|---" * (4 + len(shown)) + "|",
    ]
    for source, by_start in results["contour"].items():
        for start, settings in by_start.items():
            for name, entry in settings.items():
                rows = entry.get("by_yaw_deg", entry)
                for yaw, means in rows.items():
                    cells = [
                        f"{means[c][0]:+.2f} ± {means[c][1]:.2f}" if isinstance(means[c], list) else f"{means[c]:.2f}"
                        for c in shown
                        if c in means
                    ]
                    lines.append(f"| {source} | {start} | {name} | {yaw} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the renders that are missing, fit, print the table, write pictures and numbers."""
    command.keep_compiled_programs()
    out, results_folder = make_folder(_OUT.value), make_folder(_RESULTS.value)
    head = load_head()
    settings = SceneConfig(8 if _QUICK.value else _COUNT.value, _SEED.value, _REMAINDER.value)
    truth = make_scenes(head, _RENDERS.value, settings)
    tuning, test = truth.take(~truth.test), truth.take(truth.test)
    names = {name: SWEEPS[name] for name in _ONLY.value} or SWEEPS
    starts, default = STARTS, FitConfig(sliding_contour=_SLIDING.value)
    if _QUICK.value:
        names, starts = {"omega_i": (0.5, 1.0, 2.0)}, ("given",)
    results = {
        "settings": {**dataclasses.asdict(settings), "fit": dataclasses.asdict(default)},
        "units": UNITS,
        "default": {
            start: {
                who: summary(judge(head, default, some, start=start), some.yaw_bins())
                for who, some in (("tuning people", tuning), ("test people", test))
            }
            for start in starts
        },
        "contour": compare_contours(head, test, starts, _SEED.value),
    }
    draw_contours(results["contour"], starts[0], out / "fit-contour.png")
    print(table_of(results), flush=True)
    results["weights"] = sweep(head, tuning, default, names, starts)
    for start, name in zip(STARTS, ("fit-weights.png", "fit-weights-given.png")):
        if start in starts:
            draw_sweep(results["weights"], results["settings"]["fit"], start, out / name)
    write_json(results_folder / "fit-weights.json", results)


if __name__ == "__main__":
    command.run(main)
