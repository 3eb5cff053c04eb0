"""``fit_batch`` against one fit after another: on one device, on eight, and in two processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from digitaltwin.fitting import FitConfig, fit, fit_batch, make_fitter
from digitaltwin.fitting._batch import _CPU_CHUNK, _fit_alone, _padded_share
from digitaltwin.geometry import Camera, project
from digitaltwin.head import landmark_points
from digitaltwin.types import InputError

ROOT = Path(__file__).parents[2]
COUNT, SIZE = 19, (480, 640)
STEPS = 5

# What the other processes run. They get the arrays of `heads` and leave those of a FitResult.
COMMON = """
import sys
import jax, numpy as np
from digitaltwin.fitting import FitConfig, allgather, fit_batch, make_fitter, process_slice
from digitaltwin.fitting._batch import _fit_shares
from digitaltwin.head import load_head

folder, steps, *rendezvous = sys.argv[1:]
if rendezvous:
    number, port = rendezvous
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
head = load_head()
fitter = make_fitter(head, FitConfig(iterations=int(steps)))
given = dict(np.load(f"{folder}/given.npz"))

def run(mine, **options):
    points, scores = given["landmarks"][mine], given["scores"][mine]
    return fit_batch(fitter, head.mean, points, (480, 640), scores=scores, **options)

def save(name, result):
    np.savez(f"{folder}/{name}.npz", **{field: getattr(result, field) for field in ("vertices", "status", "energies")})
"""
EIGHT_DEVICES = """
assert len(jax.devices()) == 8
for count in (1, 7, 8, 19):
    result = run(slice(count))
    save(f"eight-{count}", result)
    assert len(result.vertices.sharding.device_set) == (8 if count == 8 else 1)
assert _fit_shares._cache_size() == 1, "a batch of another length is not compiled anew"
"""
TWO_PROCESSES = """
assert (jax.process_count(), len(jax.devices()), len(jax.local_devices())) == (2, 2, 1)
whole = allgather(run(process_slice(7)))
assert len(whole.vertices) == 7
save(f"process-{number}", whole)
"""


def start(code, folder, *rendezvous, flags=""):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"  # what is compared is compiled alike
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMON + code, str(folder), str(STEPS), *map(str, rendezvous)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def fitter(head):
    return make_fitter(head, FitConfig(iterations=STEPS))


@pytest.fixture(scope="module")
def heads(head):
    """Landmarks and scores of people in all poses, with half a pixel of noise."""
    rng = np.random.default_rng(0)
    identity = 0.5 * rng.normal(size=(COUNT, len(head.identity))) * np.asarray(head.identity_std)
    vertices = np.asarray(head.mean) + np.einsum("bi,ivx->bvx", identity, np.asarray(head.identity))
    rotations = Rotation.from_euler("yxz", rng.uniform(-15.0, 15.0, size=(COUNT, 3)), degrees=True).as_matrix()
    translation = jnp.array([15.0, -10.0, 500.0])

    def seen(vertices, rotation):
        camera = Camera(rotation, translation, jnp.float32(700.0), jnp.array([320.0, 240.0]))
        return project(camera, landmark_points(head, vertices))

    landmarks = np.asarray(jax.vmap(seen)(jnp.float32(vertices), jnp.float32(rotations)))
    landmarks = landmarks + np.float32(0.5 * rng.normal(size=landmarks.shape))
    return landmarks, np.float32(rng.uniform(0.0, 0.2, size=(COUNT, len(head.expressions))))


@pytest.fixture(scope="module")
def singly(head, fitter, heads):
    """One fit after another."""
    fits = [fit(fitter, head.mean, jnp.asarray(y), SIZE, scores=jnp.asarray(s)) for y, s in zip(*heads)]
    return jax.tree.map(lambda *parts: np.stack(parts), *fits)


@pytest.fixture(scope="module")
def folder(heads, tmp_path_factory):
    path = tmp_path_factory.mktemp("batch")
    np.savez(path / "given.npz", landmarks=heads[0], scores=heads[1])
    return path


def assert_same_fits(folder, name, singly, count):
    found = np.load(folder / f"{name}.npz")
    assert found["vertices"].shape == (count, *singly.vertices.shape[1:])
    np.testing.assert_allclose(found["vertices"], singly.vertices[:count], atol=1e-4)
    np.testing.assert_allclose(found["energies"], singly.energies[:count], rtol=1e-3, atol=1e-2)
    assert (found["status"] == 0).all()


def test_eight_devices_fit_what_one_fits(folder, singly):
    finish(start(EIGHT_DEVICES, folder, flags="--xla_force_host_platform_device_count=8"))
    for count in (1, 7, 8, COUNT):
        assert_same_fits(folder, f"eight-{count}", singly, count)


def test_two_processes_fit_what_one_fits(folder, singly):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(TWO_PROCESSES, folder, number, port) for number in range(2)]
    try:
        for process in processes:
            finish(process)
    finally:  # the one waits for the other for minutes
        for process in processes:
            process.kill()
    for number in range(2):  # each has everything
        assert_same_fits(folder, f"process-{number}", singly, 7)


def test_poison_stays_in_its_head(head, fitter, heads, singly):
    landmarks, scores = (part[:6] for part in heads)
    shapes = np.tile(np.asarray(head.mean)[None], (6, 1, 1))
    sizes = np.tile(np.array(SIZE), (6, 1))
    weights = np.ones(landmarks.shape[:2], np.float32)

    def run(shapes, landmarks, scores, weights, init):
        return fit_batch(fitter, shapes, landmarks, sizes, scores=scores, weights=weights, init=init)

    start = jax.tree.map(lambda part: part[:6], singly.unknowns)
    clean = run(shapes, landmarks, scores, weights, start)
    arguments = [np.array(part) for part in (shapes, landmarks, scores, weights)]
    bad_shapes, bad_landmarks, _, bad_weights = arguments
    bad_shapes[0] = np.nan
    bad_landmarks[1, 30] = np.nan
    bad_landmarks[2] = 100.0
    bad_weights[3, 3:] = 0.0
    bad_start = start._replace(translation=np.array(start.translation))
    bad_start.translation[0, 2] = np.inf
    result = run(*arguments, bad_start)
    assert result.status.tolist() == [1, 1, 2, 2, 0, 0]
    for part, expected in zip(jax.tree.leaves(result), jax.tree.leaves(clean)):
        assert np.isfinite(np.asarray(part)).all()
        assert np.array_equal(part[4:], expected[4:])
        assert len(part) == 6


def test_a_head_behind_the_camera_is_reported_alone(head, heads, singly):
    """No photo of this set leads there; a start from there, and no step, does."""
    still = make_fitter(head, FitConfig(iterations=0))
    landmarks, scores = (part[:3] for part in heads)
    start = jax.tree.map(lambda part: part[:3], singly.unknowns)
    clean = fit_batch(still, head.mean, landmarks, SIZE, scores=scores, init=start, chunk_size=4, batch_size=2)
    start = start._replace(translation=start.translation * np.float32([[1.0], [-1.0], [1.0]]))
    result = fit_batch(still, head.mean, landmarks, SIZE, scores=scores, init=start, chunk_size=4, batch_size=2)
    assert result.status.tolist() == [0, 3, 0]
    for part, expected in zip(jax.tree.leaves(result), jax.tree.leaves(clean)):
        assert np.array_equal(part[::2], expected[::2])


def test_few_sizes_are_compiled_and_little_is_padded():
    for devices in (1, 2, 8):
        shares = [_padded_share(count, devices, None) for count in range(1, 4097)]
        padded = np.array(shares) * devices
        counts = np.arange(1, 4097)
        assert (padded >= counts).all()
        assert (padded - counts < devices + np.ceil(counts / 8)).all()
        assert len(set(shares[2048:])) <= 9
    assert {_padded_share(count, 8, 1000) for count in (1, 999, 1000)} == {125}


def test_neither_lengths_nor_ways_to_say_a_size_compile_anew(head, fitter, heads, singly):
    """Batches longer than what a device is handed at a time, and shorter; the size once, for every head, as a tuple."""
    landmarks, scores = heads
    many = np.arange(_CPU_CHUNK + 3) % COUNT
    first = fit_batch(fitter, head.mean, landmarks[many], SIZE, scores=scores[many])
    before = _fit_alone._cache_size()
    np.testing.assert_allclose(first.vertices, singly.vertices[many], atol=1e-4)
    for count, size in ((2, np.array(SIZE)), (COUNT, np.tile(np.array(SIZE), (COUNT, 1))), (5, SIZE)):
        found = fit_batch(fitter, head.mean, landmarks[:count], size, scores=scores[:count])
        assert found.vertices.shape == (count, *head.mean.shape)
        assert np.array_equal(found.vertices, first.vertices[:count])
    fit_batch(fitter, head.mean, landmarks[:3], SIZE, scores=scores[0])
    assert _fit_alone._cache_size() == before


def test_static_mistakes_are_named(head, fitter, heads):
    landmarks, scores = heads
    before = _fit_alone._cache_size()
    cases = {
        r"scores.*18": (landmarks, {"scores": scores[1:]}),
        r"weights has shape \(1, 1, 104\)": (landmarks, {"weights": np.ones((1, 1, 104), np.float32)}),
        r"many heads need \[b k 2\]": (landmarks[0], {}),
        r"at least one": (landmarks[:0], {}),
        r"devices: none": (landmarks, {"devices": []}),
    }
    for message, (points, options) in cases.items():
        with pytest.raises(InputError, match=message):
            fit_batch(fitter, head.mean, points, SIZE, **options)
    assert _fit_alone._cache_size() == before
    with pytest.raises(InputError, match=r"landmarks has shape \(68, 2\)"):
        fit_batch(fitter, head.mean, landmarks[:, :68], SIZE)
