"""The identity basis: principal components of the population, eyeballs seated behind everybody's lids."""

from dataclasses import dataclass

import numpy as np

from experiments.build_assets.source import sphere
from experiments.build_assets.statistics import Statistics
from experiments.build_assets.targets import Targets

IDENTITY_COMPONENTS = 120
POPULATION = 900
REST_WEIGHT = 0.35  # of a vertex outside the face, when directions are chosen: people are known by their faces
EYEBALL_RADIUS_MM = 12.4
LID_CLEARANCE_MM = 0.35
SOCKET_DEPTH_MM = 1.0  # how far the socket's lining lies under the eyeball's surface
_FLIP = np.array([-1.0, 1.0, 1.0])


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


@dataclass(frozen=True)
class Seats:
    """What lies where an eye does."""

    eyes: list[np.ndarray]  # for each eye, which of the parts belong to it
    sockets: list[tuple[np.ndarray, list[np.ndarray]]]
    """For each eye, which parts line its socket behind the rim, and for each of them the skin of the rim beside it."""
    lid_loops: list[np.ndarray]  # which of the skin form a lid margin


@dataclass(frozen=True)
class Crowd:
    """Random people of the population and its mean, in mm, the origin between the mean's eyeballs."""

    heads: np.ndarray  # [heads v + p, 3], everybody's mirror image among them
    mean: np.ndarray  # [v + p, 3], symmetric


def draw_crowd(
    targets: Targets, statistics: Statistics, seats: Seats, twins: np.ndarray, rng: np.random.Generator
) -> Crowd:
    """Draw people, and seat their eyeballs: rigid balls of one size, of which only the centre varies.

    The sockets' lining is laid just under the ball's surface: MakeHuman's socket, made for a ball a third larger, would
    stand before ours in the eye's corners. What is left to be seen of it is a narrow slope from the lids to the ball.
    ``twins`` is the mirror image of each vertex, skin first.
    """
    everybody, n = statistics.everybody, targets.skin_count
    drawn = everybody.mean + rng.normal(size=(POPULATION, len(everybody.mean))) @ everybody.factor()
    mean = targets.shape(everybody.mean)
    heads = np.concatenate([targets.shape(drawn), mean[None]])
    balls = []
    for eye, (socket, rims) in zip(seats.eyes, seats.sockets):
        guess = np.stack([sphere(head[n:][eye])[0] for head in heads])
        nearest = int(np.argmin([np.linalg.norm(mean[lid].mean(0) - guess[-1]) for lid in seats.lid_loops]))
        lids = seats.lid_loops[nearest]
        lids = lids[np.abs(mean[lids, 0] - mean[lids, 0].mean()) < 9]
        centre = seat_eyeball(heads[:, lids], guess)
        for members, radius in ((eye, EYEBALL_RADIUS_MM), (socket, EYEBALL_RADIUS_MM - SOCKET_DEPTH_MM)):
            direction = mean[n:][members] - (guess[-1] if members is eye else centre[-1])
            if members is socket:
                for row, rim in enumerate(rims):
                    if len(rim):
                        direction[row] = mean[rim].mean(0) - centre[-1]
            direction *= radius / np.linalg.norm(direction, axis=1, keepdims=True)
            heads[:, n + members] = centre[:, None] + direction
        balls.append(centre[-1])
    # Every person's mirror image is as likely: it makes the mean symmetric, and each component even or odd.
    mean = (heads[-1] + heads[-1, twins] * _FLIP) / 2
    origin = (balls[0] + balls[1]) / 2 * [0, 1, 1]
    return Crowd(np.concatenate([heads[:-1], heads[:-1, twins] * _FLIP]) - origin, mean - origin)


@dataclass(frozen=True)
class Basis:
    """Orthonormal directions of the skin that vary independently in the population."""

    skin: np.ndarray  # [i v 3]
    std: np.ndarray  # [i] mm
    parts: np.ndarray  # [i p 3], what the parts do along with them
    groups: np.ndarray  # [g i] mm, the groups' means
    age: np.ndarray  # [i] mm, per unit of the age slider
    variance_percent: dict[str, float]  # of face and of the whole skin


def identity_basis(targets: Targets, statistics: Statistics, crowd: Crowd, twins: np.ndarray) -> Basis:
    """Choose the leading directions of the population, the face's variance counting most.

    They are principal components of weighted vertices; turned among themselves, so that they are orthonormal without
    the weights, and uncorrelated. The skin's distribution is that of the statistics, the parts' is learnt from the
    crowd.
    """
    n, count = targets.skin_count, IDENTITY_COMPONENTS
    mirror = twins[:n]

    def both(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, rows[:, mirror] * _FLIP]) / np.sqrt(2)

    population = both(np.tensordot(statistics.everybody.factor(), targets.displacements[:, :n], 1))
    offsets = np.concatenate([statistics.groups, statistics.age[None]])
    offsets = np.tensordot(offsets, targets.displacements[:, :n], 1)
    offsets = (offsets + offsets[:, mirror] * _FLIP) / 2
    weight = np.repeat(np.where(targets.face, 1.0, REST_WEIGHT), 3)
    flat = population.reshape(len(population), -1)
    leading = np.linalg.svd(flat * weight, full_matrices=False)[2][:count] / weight
    span = np.linalg.qr(leading.T)[0]
    within = flat @ span
    variance, axes = np.linalg.eigh(within.T @ within)
    basis, std = (span @ axes[:, ::-1]).T, np.sqrt(variance[::-1])
    basis = basis * np.sign(basis[np.arange(count), np.abs(basis).argmax(1)])[:, None]

    shares = {}
    for name, seen in (("face", targets.face), ("skin", np.ones(n, bool))):
        total, left = population[:, seen], (flat - flat @ basis.T @ basis).reshape(population.shape)[:, seen]
        shares[name] = round(float(100 * (1 - np.sum(left**2) / np.sum(total**2))), 2)
    coefficients = (crowd.heads[:, :n] - crowd.mean[:n]).reshape(len(crowd.heads), -1) @ basis.T
    moved = (crowd.heads[:, n:] - crowd.mean[n:]).reshape(len(crowd.heads), -1)
    parts = np.linalg.lstsq(coefficients, moved, rcond=None)[0]
    projected = offsets.reshape(len(offsets), -1) @ basis.T
    return Basis(basis.reshape(count, n, 3), std, parts.reshape(count, -1, 3), projected[:-1], projected[-1], shares)
