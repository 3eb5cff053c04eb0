"""Decoding and non-maximum suppression."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from digitaltwin.perception._detector import (
    MAX_FACES,
    MIN_OVERLAP,
    Detections,
    decode,
    intersection_over_union,
    region_of_detection,
    suppress,
)
from digitaltwin.perception._region import Region

coordinate = st.integers(-20, 20).map(float)


@settings(max_examples=30, deadline=None)
@given(st.lists(coordinate, min_size=8, max_size=8))
def test_overlap_is_symmetric_and_bounded(numbers):
    a, b = (jnp.array([min(n[::2]), min(n[1::2]), max(n[::2]), max(n[1::2])]) for n in (numbers[:4], numbers[4:]))
    overlap = float(intersection_over_union(a, b))
    assert overlap == float(intersection_over_union(b, a))
    assert 0 <= overlap <= 1
    area = (a[2] - a[0]) * (a[3] - a[1])
    assert float(intersection_over_union(a, a)) == (1 if area > 0 else 0)


def greedy(boxes, scores):
    """The referee: the plain loop, in float64."""
    faces, alive = [], set(np.flatnonzero(scores))
    while alive and len(faces) < MAX_FACES:
        best = max(alive, key=lambda i: (scores[i], -i))
        low = np.maximum(boxes[best, :2], boxes[:, :2])
        shared = np.prod(np.maximum(np.minimum(boxes[best, 2:], boxes[:, 2:]) - low, 0), axis=1)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        overlapping = {i for i in alive if shared[i] > MIN_OVERLAP * (areas[best] + areas[i] - shared[i])}
        cluster = sorted(overlapping)
        faces.append((np.average(boxes[cluster], axis=0, weights=scores[cluster]), scores[best]))
        alive -= overlapping
    return faces


def test_suppression_equals_the_plain_loop():
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 300, (6, 2))[rng.integers(0, 6, 120)] + rng.normal(size=(120, 2)) * 6
    half = rng.uniform(20, 40, (120, 2))
    boxes = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
    scores = np.where(rng.uniform(size=120) < 0.3, 0, rng.uniform(0.5, 1, 120)).astype(np.float32)
    keypoints = np.repeat(boxes[:, None, :2], 6, axis=1)
    faces = suppress(Detections(jnp.asarray(boxes), jnp.asarray(keypoints), jnp.asarray(scores)))
    expected = greedy(boxes.astype(float), scores.astype(float))
    assert 2 <= len(expected) < MAX_FACES
    assert np.count_nonzero(faces.scores) == len(expected)
    for i, (box, score) in enumerate(expected):
        np.testing.assert_allclose(faces.boxes[i], box, atol=1e-3)
        np.testing.assert_allclose(faces.keypoints[i], np.tile(box[:2], (6, 1)), atol=1e-3)
        np.testing.assert_allclose(faces.scores[i], score, atol=1e-6)


def test_decoding_in_a_turned_region_turns_the_candidates():
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.uniform(1, 30, (896, 16)), jnp.float32)
    logits = jnp.asarray(rng.normal(size=896), jnp.float32)
    upright, turned = (
        jax.jit(decode)(values, logits, Region(jnp.array([50.0, 70.0]), jnp.array(200.0), jnp.array(angle)))
        for angle in (0.0, np.pi / 2)
    )
    x, y = np.moveaxis(np.asarray(upright.keypoints) - [50, 70], 2, 0)
    np.testing.assert_allclose(turned.keypoints, np.stack([50 - y, 70 + x], axis=2), atol=1e-3)
    assert np.all(turned.boxes[:, 2:] >= turned.boxes[:, :2])
    np.testing.assert_allclose(
        turned.boxes[:, 2] - turned.boxes[:, 0], upright.boxes[:, 3] - upright.boxes[:, 1], atol=1e-3
    )


def test_anchors_and_boxes():
    # All zero: boxes of no size at the anchors, a 16 x 16 grid twice, then an 8 x 8 grid six times, row by row.
    zero = decode(jnp.zeros((896, 16)), jnp.full(896, 9.0), Region(jnp.full(2, 64.0), jnp.array(128.0), jnp.array(0.0)))
    np.testing.assert_allclose(zero.boxes[[0, 1, 2, 511, 512, 517, 518, 895], :2],
        [[4, 4], [4, 4], [12, 4], [124, 124], [8, 8], [8, 8], [24, 8], [120, 120]])  # fmt: skip
    # One candidate 40 px to the right of its anchor and 24 x 32 px large.
    values = jnp.zeros((896, 16)).at[0, :4].set(jnp.array([40.0, 0.0, 24.0, 32.0]))
    one = decode(values, jnp.full(896, 9.0), Region(jnp.full(2, 64.0), jnp.array(128.0), jnp.array(0.0)))
    np.testing.assert_allclose(one.boxes[0], [32, -12, 56, 20], atol=1e-4)


def test_region_follows_the_eyes():
    keypoints = jnp.zeros((6, 2)).at[:2].set(jnp.array([[10.0, 10.0], [20.0, 20.0]]))
    square = region_of_detection(jnp.array([0.0, 0.0, 40.0, 30.0]), keypoints)
    np.testing.assert_allclose(square.centre, [20, 15])
    np.testing.assert_allclose(square.side, 60)
    np.testing.assert_allclose(square.angle, np.pi / 4, rtol=1e-6)
