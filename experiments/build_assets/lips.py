"""Lips that touch: the inner lips of every neutral head are moved together, by a linear map of the head's vertices.

MakeHuman's lips rest on each other only roughly, and its targets part and cross them: somebody drawn at random shows
teeth at rest. Each vertex of the upper lip's rim lies over a place of the lower lip's; half of the gap between them is
taken from each lip, and less and less of it from the rings of vertices around.

Letters: n vertices, i heads or displacements.
"""

from dataclasses import dataclass

import numpy as np

from digitaltwin.geometry._topology import boundary_edges

RINGS = 6  # from the mouth's opening, which lies inside, over the lips
WIDTH_MM = 2.5  # of the columns in which a lip's rim is sought
FORWARD_UPPER, FORWARD_LOWER = 0.45, 0.3  # lips roll inwards; what is seen of the line between them lies in front
OVERLAP_MM = 0.15  # of the reference's lips: a slit less than nothing is seen from no side
PASSES = 3  # a vertex between two columns is moved by both, and so not by all of the gap at once
FADE = (1.0, 1.0, 1.0, 0.9, 0.6, 0.3)  # share of the move by ring, the opening's first


@dataclass(frozen=True)
class LipSeal:
    """The map that closes the lips."""

    upper: np.ndarray  # [c] the upper lip's rim, from the right corner of the mouth to the left
    lower: np.ndarray  # [d] the lower lip's
    partner: np.ndarray  # [c d] weights of the lower ones at each of the upper
    move: np.ndarray  # [n c] share of each gap that a vertex is moved by, upwards
    side: np.ndarray  # [n] 1 for a vertex of the upper lip, -1 of the lower, 0 elsewhere

    def closed(self, points: np.ndarray, *, overlap_mm: float = 0.0) -> np.ndarray:
        """Move the lips of heads, or displacements, [*i n 3] together."""
        closed = points.copy()
        for _ in range(PASSES):
            heights = closed[..., 1]
            gap = heights[..., self.upper] - heights[..., self.lower] @ self.partner.T + overlap_mm
            closed[..., 1] += gap @ self.move.T
        return closed


def lip_seal(points: np.ndarray, faces: np.ndarray, opening: np.ndarray, mirror: np.ndarray) -> LipSeal:
    """Find where lips meet.

    Args:
        points: The skin [n 3] of a head whose lips nearly touch.
        faces: Its triangles.
        opening: Vertices of the mouth's opening, the inner border of the lips.
        mirror: Mirror image of each vertex.
    """
    of_upper = _upper_arc(points, faces, opening)
    ring, side = np.full(len(points), RINGS), np.zeros(len(points))
    ring[opening] = 0
    side[opening] = np.where(np.isin(opening, of_upper), 1.0, -1.0)
    for distance in range(1, RINGS):
        around = faces[(ring[faces] == distance - 1).any(1)]
        votes = np.zeros(len(points))
        np.add.at(votes, around, np.where(ring[around] == distance - 1, side[around], 0.0).sum(1, keepdims=True))
        new = np.setdiff1d(around, np.flatnonzero(ring < RINGS))
        ring[new], side[new] = distance, np.sign(votes[new])
    lips = np.flatnonzero((ring < RINGS) & (side != 0))
    corner, is_upper = np.abs(points[opening, 0]).max(), side > 0
    near = lips[(points[lips, 0] > -0.1) & (points[lips, 0] < corner - 1.0) & (ring[lips] <= 3)]
    upper = _rim(points, near[is_upper[near]], np.array([-1.0, FORWARD_UPPER]))
    lower = _rim(points, near[~is_upper[near]], np.array([1.0, FORWARD_LOWER]))
    upper, lower = (np.unique(np.concatenate([rim, mirror[rim]])) for rim in (upper, lower))
    upper, lower = (rim[np.argsort(points[rim, 0])] for rim in (upper, lower))

    partner = _interpolation(points[upper, 0], points[lower, 0])
    move = np.zeros((len(points), len(upper)))
    towards = _interpolation(points[lips, 0], points[upper, 0])
    fade = np.array(FADE)[ring[lips]] * np.clip((corner + 3.0 - np.abs(points[lips, 0])) / 6.0, 0.0, 1.0)
    move[lips] = np.where(is_upper[lips], -0.5, 0.5)[:, None] * fade[:, None] * towards
    return LipSeal(upper, lower, partner, move, np.where(np.isin(np.arange(len(points)), lips), side, 0.0))


def _upper_arc(points: np.ndarray, faces: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """The part of the opening between the corners of the mouth that lies higher, corners excluded."""
    border = boundary_edges(faces)
    border = border[np.isin(border, opening).all(1)]
    left, right = (int(opening[k]) for k in (points[opening, 0].argmax(), points[opening, 0].argmin()))
    arcs = []
    for first in border[(border == left).any(1)].sum(1) - left:
        arc = [left, int(first)]
        while arc[-1] != right:
            (following,) = set(border[(border == arc[-1]).any(1)].ravel()) - set(arc[-2:])
            arc.append(int(following))
        arcs.append(np.array(arc[1:-1]))
    return max(arcs, key=lambda arc: points[arc, 1].mean())


def _rim(points: np.ndarray, vertices: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The vertex of each column that lies farthest in a direction of height and depth."""
    column, reach = np.round(points[vertices, 0] / WIDTH_MM), points[vertices, 1:] @ direction
    return np.array([vertices[column == c][np.argmax(reach[column == c])] for c in np.unique(column)])


def _interpolation(at: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Weights [k m] of sorted places for linear interpolation at others, constant beyond the ends."""
    right = np.clip(np.searchsorted(of, at), 1, len(of) - 1)
    share = np.clip((at - of[right - 1]) / np.maximum(of[right] - of[right - 1], 1e-9), 0.0, 1.0)
    weights = np.zeros((len(at), len(of)))
    weights[np.arange(len(at)), right - 1] = 1 - share
    weights[np.arange(len(at)), right] += share
    return weights
