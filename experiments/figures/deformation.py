"""Numbers and pictures of docs/deformation.md: what the representation keeps, and what new heads look like.

Round-trip errors (plain and exact, float32 and float64, turned by any angle) and the measurements of new heads beside
published ones are printed; deformation-errors.png, deformation-bend.png and deformation-heads.png are written.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from digitaltwin.deformation import decode, encode, make_reference, training_population
from digitaltwin.deformation._methods import METHODS, make_heads
from digitaltwin.deformation._reference import Reference
from digitaltwin.deformation._sampling import assign_groups, group_shares
from digitaltwin.deformation._tube import make_tube
from digitaltwin.geometry._camera import camera_from_head
from digitaltwin.head import HeadModel, load_head, load_subjects
from digitaltwin.head._population import Subjects
from digitaltwin.io._images import write_image
from digitaltwin.render import portrait_lighting, render_mesh
from digitaltwin.render._portrait import BACKDROP_SRGB, PORTRAIT_DISTANCE_MM, picture_grid
from digitaltwin.types import Mesh
from experiments._shared.anthropometry import Comparison, compare, draw_portrait

ANGLES_DEG = (0.0, 90.0, 150.0, 180.0)
AXIS = np.array([0.6, 0.8, 0.0])
MOST_MM = 2.0
"""Error at the end of the colour scale."""
SHOWN = ("jawOpen", "mouthPucker", "cheekPuff", "eyeBlinkLeft")
GREY = (0.72, 0.7, 0.68)
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


# Round trips


@partial(jax.jit, static_argnames="exact")
def round_trips(reference: Reference, shapes: jax.Array, *, exact: bool) -> jax.Array:
    """Measure distances [shapes v], mm, of decoded meshes from what was encoded.

    Decoding holds one vertex in place. Plain meshes are moved by their mean difference: a feature says nothing of
    place, and the error of that one vertex's surroundings would be counted everywhere.
    """

    def one(vertices: jax.Array) -> jax.Array:
        feature = encode(reference, vertices, exact=exact)
        difference = decode(reference, feature, anchor=vertices[reference.anchors]) - vertices
        offset = 0.0 if exact else jnp.mean(difference, axis=0, keepdims=True)
        return jnp.linalg.norm(difference - offset, axis=1)

    return jax.lax.map(one, shapes)


def shapes_of_head(head: HeadModel, identities: int) -> dict[str, np.ndarray]:
    """Return all expressions of the mean head, and random identities."""
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(identities, len(head.identity_std))) * np.asarray(head.identity_std)
    mean = np.asarray(head.mean, np.float64)
    return {
        f"{len(head.expressions)} expressions": mean + np.asarray(head.expressions, np.float64),
        f"{identities} identities": mean + np.tensordot(coefficients, np.asarray(head.identity, np.float64), 1),
    }


def round_trip_table(cases: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> str:
    """Format plain and exact errors of each case (reference, faces, shapes), over all angles, as a Markdown table."""
    lines = [
        "| shapes, turned by 0 to 180 degrees | plain: mean | plain: max | exact, float32: max | exact, float64: max |",
        "|---|---|---|---|---|",
    ]
    for name, (vertices, faces, shapes) in cases.items():
        turned = np.concatenate([shapes @ Rotation.from_rotvec(np.deg2rad(a) * AXIS).as_matrix().T for a in ANGLES_DEG])
        reference = make_reference(vertices, faces)
        plain = np.asarray(round_trips(reference, jnp.asarray(turned, jnp.float32), exact=False))
        single = np.asarray(round_trips(reference, jnp.asarray(turned, jnp.float32), exact=True))
        with jax.enable_x64(True):
            reference = make_reference(vertices, faces, dtype=jnp.float64)
            double = np.asarray(round_trips(reference, jnp.asarray(turned), exact=True))
        lines.append(
            f"| {name} | {plain.mean():.3f} mm | {plain.max():.2f} mm | {single.max():.4f} mm | {double.max():.1e} mm |"
        )
    return "\n".join(lines)


# Pictures


def draw_mesh(
    vertices: np.ndarray, faces: np.ndarray, values: np.ndarray, *, width_mm: float, size: tuple[int, int]
) -> np.ndarray:
    """Render a mesh, centred, from the front; ``values`` in [0, 1] colour its vertices from grey over yellow to red."""
    ramp = jnp.asarray([[GREY, (0.95, 0.8, 0.25), (0.85, 0.3, 0.1), (0.55, 0.0, 0.1)]], jnp.float32)
    texels = ramp.shape[1]
    across = (0.5 + np.clip(values, 0, 1) * (texels - 1)) / texels  # the middle of the first texel to that of the last
    height, width = size
    middle = (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    camera = (vertices - middle) @ camera_from_head(np.eye(3)) + [0, 0, PORTRAIT_DISTANCE_MM]
    surface = Mesh(
        jnp.asarray(camera, jnp.float32),
        jnp.asarray(faces, jnp.int32),
        jnp.asarray(np.stack([across, np.full_like(across, 0.5)], axis=1), jnp.float32),
        jnp.asarray(faces, jnp.int32),
        ramp,
    )
    picture = render_mesh(
        (surface,),
        width * PORTRAIT_DISTANCE_MM / width_mm,
        jnp.array([width / 2, height / 2]),
        image_hw=size,
        lighting=portrait_lighting(),
        background=jnp.array(BACKDROP_SRGB),
    )
    return np.asarray(picture.colour)


def label(picture: np.ndarray, text: str) -> np.ndarray:
    """Return the picture with a line of text in its upper left corner."""
    image = Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    ImageDraw.Draw(image).text((8, 6), text, fill=(30, 30, 30), font_size=15)
    return np.asarray(image, np.float32) / 255


def draw_errors(head: HeadModel, identities: np.ndarray) -> np.ndarray:
    """Draw where the plain round trip is off, three-quarter; the exact one is grey all over."""
    reference = make_reference(head.mean, head.faces)
    names = [*SHOWN, "a random identity", "another"]
    at = [head.expression_names.index(name) for name in SHOWN]
    shapes = np.concatenate([np.asarray(head.mean)[None] + np.asarray(head.expressions)[at], identities[:2]])
    turn = Rotation.from_rotvec([0, 0.5, 0]).as_matrix()
    shots = []
    for exact in (False, True):
        errors = np.asarray(round_trips(reference, jnp.asarray(shapes, jnp.float32), exact=exact))
        for name, shape, error in zip(names, shapes, errors):
            shot = draw_mesh(shape @ turn.T, np.asarray(head.faces), error / MOST_MM, width_mm=240.0, size=(330, 270))
            shots.append(label(shot, f"{name}: {error.max():.1g} mm" if exact else f"{name}: max {error.max():.1f} mm"))
    return picture_grid(shots, len(names))


def draw_bend(head: HeadModel) -> np.ndarray:
    """Draw half-ways between a shape and a strongly turned one, by the representation and by blending positions."""
    tube = make_tube(30.0, 200.0, around=48, along=61)
    bent = tube.bent(150)
    turned = np.asarray(head.mean) @ Rotation.from_rotvec([0, np.deg2rad(150), 0]).as_matrix().T
    rows = []
    for name, vertices, faces, goal, width_mm in (
        ("bent by 150 degrees", tube.vertices, tube.faces, bent, 260.0),
        ("turned by 150 degrees", np.asarray(head.mean), np.asarray(head.faces), turned, 300.0),
    ):
        for kind, blend in (("deformation", blend_features), ("positions", blend_positions)):
            frames = blend(vertices, faces, goal)
            shots = [
                draw_mesh(frame, faces, np.zeros(len(frame)), width_mm=width_mm, size=(280, 260)) for frame in frames
            ]
            rows.append(label(picture_grid(shots, len(shots)), f"{name}: {kind} blended"))
    return np.concatenate(rows)


def blend_features(vertices: np.ndarray, faces: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
    """Compute the steps from a mesh to another in the representation."""
    reference = make_reference(vertices, faces)
    feature = jax.jit(partial(encode, exact=True))(reference, jnp.asarray(goal, jnp.float32))
    return [np.asarray(jax.jit(decode)(reference, step * feature)) for step in STEPS]


def blend_positions(vertices: np.ndarray, faces: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
    """Compute the steps from a mesh to another along straight lines."""
    return [(1 - step) * vertices + step * goal for step in STEPS]


# New heads


VARIANTS: dict[str, tuple[str, bool]] = {
    "polar, about the mean of all": ("polar", False),
    "polar, about the group's mean": ("polar", True),
    "categorised PCA": ("pca", False),
    "none: subjects as they are": ("none", False),
}
"""Method and whether about the group, by the name in tables and pictures."""


def people_table(rows: dict[str, list[Comparison]]) -> str:
    """Format published measurements and those of each variant's heads as a Markdown table; in brackets what fails."""
    lines = [f"| measure | gender | published | {' | '.join(rows)} |", "|---" * (3 + len(rows)) + "|"]
    for same in zip(*rows.values()):
        first = same[0]
        cells = [f"{row.mean_mm:.1f} ± {row.std_mm:.1f}" for row in same]
        cells = [cell if row.passes else f"({cell})" for cell, row in zip(cells, same)]
        published = f"{first.published_mean_mm:.1f} ± {first.published_std_mm:.1f}"
        lines.append(f"| {first.measure.replace('_', ' ')} | {first.gender} | {published} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_heads(
    head: HeadModel, subjects: Subjects, make: Callable[[str, jax.Array], dict[str, np.ndarray]]
) -> np.ndarray:
    """Draw six heads, one a group, of each method, in the skin of their closest subject."""
    shots = []
    for name in VARIANTS:
        heads = make(name, jnp.arange(len(head.group_names)))
        for column, (vertices, closest) in enumerate(zip(heads["vertices"], heads["closest"])):
            shot = draw_portrait(head, subjects, int(closest), jnp.asarray(vertices), yaws=(0.0, 0.6), size=190)
            shots.append(shot if column else label(shot, name))
    return picture_grid(shots, len(head.group_names))


def draw(folder: Path, *, quick: bool) -> None:
    """Print the tables and draw the pictures; only the tube's for a first look."""
    head = load_head()
    tube = make_tube(30.0, 200.0, around=48, along=41)
    cases = {"a tube bent by 150 degrees": (tube.vertices, tube.faces, tube.bent(150)[None])}
    if not quick:
        shapes = shapes_of_head(head, 200)
        cases |= {name: (np.asarray(head.mean), np.asarray(head.faces), each) for name, each in shapes.items()}
        write_image(folder / "deformation-errors.png", draw_errors(head, list(shapes.values())[1]))
    print(round_trip_table(cases), flush=True)
    write_image(folder / "deformation-bend.png", draw_bend(head))
    if not quick:
        compare_new_heads(head, folder, 3000)


def compare_new_heads(head: HeadModel, folder: Path, count: int) -> None:
    """Measure new heads of every method, print them beside published adults, draw one of each group."""
    populations = {about: training_population(head, about_group=about) for about in (False, True)}

    def make(name: str, groups: jax.Array) -> dict[str, np.ndarray]:
        method, about_group = VARIANTS[name]
        chosen = METHODS[method]
        keys = jax.random.split(jax.random.key(1), len(groups))
        heads = jax.jit(partial(make_heads, chosen))(chosen.prepare(populations[about_group]), keys, groups)
        return {what: np.asarray(value) for what, value in heads.items()}

    groups = assign_groups(jax.random.key(0), group_shares(head.group_names), count=count)
    rows = {name: compare(head, jnp.asarray(make(name, groups)["vertices"]), groups) for name in VARIANTS}
    print(f"\n{count} new heads of each method: mean +- standard deviation, in mm\n\n{people_table(rows)}")
    write_image(folder / "deformation-heads.png", draw_heads(head, load_subjects(), make))
