"""The identity basis: principal components of a random population, eyeballs seated behind everybody's lids."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from digitaltwin.geometry import procrustes_alignment
from experiments.build_assets import population
from experiments.build_assets.source import Source, sphere

IDENTITY_COMPONENTS = 100
POPULATION = 900
EYEBALL_RADIUS_MM = 12.4
LID_CLEARANCE_MM = 0.35
SOCKET_DEPTH_MM = 1.0  # how far the socket's lining lies under the eyeball's surface
FACE_RADIUS_MM = 95.0


@jax.jit
def _align(points: jax.Array, onto: jax.Array) -> tuple[jax.Array, jax.Array]:
    motion = procrustes_alignment(points, onto)
    return motion.rotation, motion.translation


def rigid_motion(points: np.ndarray, onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the rotation and translation that carry ``points`` closest to ``onto``."""
    # Centred on the host: the body's origin lies a metre below the head.
    centre = points.mean(0)
    rotation, shift = (
        np.asarray(x, np.float64) for x in _align(jnp.asarray(points - centre), jnp.asarray(onto - centre))
    )
    return rotation, shift + centre - rotation @ centre


def seat_eyeball(lids: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Find the centres [heads 3] of a ball of the adult radius that rests behind the lid margins [heads m 3].

    Gauss-Newton on the distances to the margin; sideways the ball stays near ``guess``, which carries the pupil
    distance. MakeHuman's own eyeballs are a third too large and cut through narrow lids.

    Written out, in float64 on the host, and not by :mod:`digitaltwin.solvers`: three unknowns a head, the normal matrix
    is built in one line, and the bytes of the shipped head depend on its rounding.
    """
    stay = np.diag([10.0, 0.05, 0.05])
    centre = guess.copy()
    for _ in range(20):
        ray = lids - centre[:, None]
        distance = np.linalg.norm(ray, axis=2)
        normal = ray / distance[..., None]
        residual = distance - (EYEBALL_RADIUS_MM + LID_CLEARANCE_MM)
        hessian = np.einsum("hmx,hmy->hxy", normal, normal) + stay
        gradient = np.einsum("hmx,hm->hx", normal, residual) - (centre - guess) @ stay
        centre = centre + np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return centre


@dataclass
class Population:
    """Random adults, rigidly aligned, in mm."""

    skin: np.ndarray  # [heads v 3]
    parts: np.ndarray  # [heads p 3]
    group_skin: np.ndarray  # [6 v 3]
    mean_skin: np.ndarray  # [v 3]
    mean_parts: np.ndarray  # [p 3]


def sample_population(
    source: Source,
    scale: np.ndarray,
    sizes: np.ndarray,
    skin: np.ndarray,
    parts: np.ndarray,
    eyes: list[np.ndarray],
    sockets: list[tuple[np.ndarray, list[np.ndarray]]],
    lid_loops: list[np.ndarray],
    twins: np.ndarray,
    rng: np.random.Generator,
) -> Population:
    """Draws the population; every head is moved rigidly onto the mean's face, eyeballs keep their size.

    ``sizes`` is each group's factor of size. ``eyes`` lists, for each eye, which of ``parts`` belong to it; ``sockets``
    which line its socket behind the rim, and for each of them the ``skin`` vertices of the rim beside it, if any. The
    lining is laid just under the ball's surface: MakeHuman's socket, made for a ball a third larger, would stand before
    ours in the eye's corners. What is left to be seen of it is a narrow slope from the lids to the ball. ``lid_loops``
    says which of ``skin`` form a lid margin, ``twins`` is the mirror image of each vertex, skin first.
    """
    controls = population.sliders(source.names)
    weights = [population.group_weights(source.names, g) for g in population.GROUPS]
    weights += [
        population.sample_weights(rng, source.names, controls, population.GROUPS[i % 6]) for i in range(POPULATION)
    ]
    weights = np.array(weights)
    index = np.concatenate([skin, parts])
    n = len(skin)
    flat = (source.targets[:, index] * scale).reshape(len(source.names), -1)
    heads = (weights @ flat).reshape(len(weights), -1, 3) + scale * source.vertices[index]
    heads[:6] *= sizes[:, None, None]
    heads[6:] *= (sizes[np.arange(POPULATION) % 6] * rng.normal(1, population.SIZE_DEVIATION, POPULATION))[
        :, None, None
    ]
    mean = heads[:6].mean(0)
    centres = [sphere(mean[n:][eye])[0] for eye in eyes]
    mean = mean - (centres[0] + centres[1]) / 2
    face = np.linalg.norm(mean[:n] - mean[np.argmax(mean[:n, 2])], axis=1) < FACE_RADIUS_MM
    for _ in range(2):
        for head in heads:
            rotation, shift = rigid_motion(head[:n][face], mean[:n][face])
            head[:] = head @ rotation.T + shift
        mean = heads[6:].mean(0)
    balls = []
    for eye, (socket, rims) in zip(eyes, sockets):  # a rigid ball of one size: only its centre varies
        guess = np.stack([sphere(head[n:][eye])[0] for head in [*heads, mean]])
        lids = lid_loops[int(np.argmin([np.linalg.norm(mean[lid].mean(0) - guess[-1]) for lid in lid_loops]))]
        lids = lids[np.abs(mean[lids, 0] - mean[lids, 0].mean()) < 9]
        centre = seat_eyeball(np.concatenate([heads[:, lids], mean[None, lids]]), guess)
        for members, radius in ((eye, EYEBALL_RADIUS_MM), (socket, EYEBALL_RADIUS_MM - SOCKET_DEPTH_MM)):
            direction = mean[n:][members] - (guess[-1] if members is eye else centre[-1])
            if members is socket:
                for row, rim in enumerate(rims):
                    if len(rim):
                        direction[row] = mean[rim].mean(0) - centre[-1]
            direction *= radius / np.linalg.norm(direction, axis=1, keepdims=True)
            heads[:, n + members] = centre[:-1, None] + direction
            mean[n + members] = centre[-1] + direction
        balls.append(centre[-1])
    # Every person's mirror image is as likely: it makes the mean symmetric, and each component even or odd.
    flip = np.array([-1.0, 1.0, 1.0])
    heads = np.concatenate([heads, heads[6:, twins] * flip])
    heads[:6] = (heads[:6] + heads[:6, twins] * flip) / 2
    mean = (mean + mean[twins] * flip) / 2
    origin = (balls[0] + balls[1]) / 2 * [0, 1, 1]
    mean, heads = mean - origin, heads - origin
    return Population(heads[6:, :n], heads[6:, n:], heads[:6, :n], mean[:n], mean[n:])


def identity_basis(people: Population) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Principal components of the skin, and what the parts do along with them.

    Returns:
        basis [i v 3] (orthonormal), deviation [i] mm, parts [i p 3], group coefficients [6 i], percent of the variance.
    """
    count = len(people.skin)
    skin = (people.skin - people.mean_skin).reshape(count, -1)
    _, singular, vt = np.linalg.svd(skin, full_matrices=False)
    energy = np.cumsum(singular**2) / np.sum(singular**2)
    basis = vt[:IDENTITY_COMPONENTS]
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])[:, None]
    coefficients = skin @ basis.T
    deviation = np.sqrt(np.mean(coefficients**2, 0))
    parts = (people.parts - people.mean_parts).reshape(count, -1)
    parts = np.linalg.lstsq(coefficients, parts, rcond=None)[0]
    groups = (people.group_skin - people.mean_skin).reshape(6, -1) @ basis.T
    shape = (IDENTITY_COMPONENTS, -1, 3)
    variance = round(float(100 * energy[IDENTITY_COMPONENTS - 1]), 3)
    return basis.reshape(shape), deviation, parts.reshape(shape), groups, variance
