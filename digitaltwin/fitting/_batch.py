"""Many heads at once: over the devices of one machine with ``jax.sharding``, and over machines.

Letters: b heads, v vertices, k landmarks, e expressions.

Fits are independent, so nothing is communicated while they run. The batch is cut along a one-dimensional mesh of
devices, and each device works through its own share.

*How many side by side.* A GPU or TPU computes up to 2,048 heads of 104 landmarks at a time (an H200 nine tenths as many
heads a second as with 8,192), and fewer of more landmarks: what a head's step holds grows with the square of its
system's rows (170 kB for 104 landmarks), so more only takes memory. The batch is padded with copies of its last head to
one of a few sizes; a padded head costs time, is dropped, and changes no other.

A CPU device computes one head after the other, which keeps everything in its cache and gives LAPACK single matrices.
That is not a matter of taste: jaxlib 0.10 (the newest for Python 3.11) cuts a batch of matrices into tasks for the
thread pool that it is itself running in and waits for them, so as many such calls at once as the pool has threads wait
for ever. It is handed its heads 32 at a time and told how many of them are real, so that one compiled program serves
batches of every length. BLAS has one thread meanwhile (:func:`digitaltwin.solvers.single_blas_thread`); cores are used
by giving each a device, before JAX starts:

    jax.config.update("jax_num_cpu_devices", 2)

*Over hosts.* Each process calls :func:`fit_batch` with its own heads (:func:`process_slice` cuts a list of them), on
its own devices; processes need not have equally many of either. Where one of them wants everything, :func:`allgather`
gathers the parts, or the fields that matter:

    jax.distributed.initialize()                                   # finds its peers under Slurm or on a TPU pod
    mine = process_slice(len(landmarks))
    result = fit_batch(fitter, head.mean, landmarks[mine], image_sizes[mine])
    expressions = allgather(result.expression)

Nothing is donated: every input but ``shapes`` is a hundredth of the result, and the vertices cannot take a given
shape's place, because they are written while other heads' shapes are still to be read.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Num, PyTree

from digitaltwin.fitting._fit import fit_photo
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._observation import (
    OBSERVATION_AXES,
    Observation,
    as_floats,
    check_shapes,
    make_observation,
)
from digitaltwin.fitting._result import FitResult
from digitaltwin.fitting._steps import is_direct
from digitaltwin.fitting._unknowns import Unknowns
from digitaltwin.io._programs import stored_program
from digitaltwin.solvers import single_blas_thread
from digitaltwin.types import InputError

_AXIS = "heads"
_BATCH_SIZE, _BATCH_ROWS, _CPU_BATCH_SIZE = 2048, 208, 1
_CPU_CHUNK = 32  # heads a CPU device is handed at a time
_SIZES_AN_OCTAVE = 8  # of padded shares: at most 1 head in 8 is padding, at most 8 compilations between n and 2 n
_ALIGN = 64  # bytes: XLA takes a NumPy array that is so aligned without copying it

Values = Float[Array, "..."] | Float[np.ndarray, "..."]
Numbers = Num[Array, "..."] | Num[np.ndarray, "..."]
ImageSizes = Numbers | tuple[Any, Any]
Lengths = Numbers | float | int


def fit_batch(
    fitter: Fitter,
    shapes: Values,
    landmarks: Values,
    image_sizes: ImageSizes,
    *,
    scores: Values | None = None,
    focal_px: Lengths | None = None,
    principal_point_px: Values | None = None,
    weights: Values | None = None,
    init: Unknowns | None = None,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
    chunk_size: int | None = None,
    batch_size: int | None = None,
) -> FitResult:
    """Fit many heads, each as :func:`digitaltwin.fitting.fit` does, on all devices of this process.

    Trouble in the data of one head is reported in its ``status``, and the others' results are the same bits as without
    it. Not for use under ``jit``: it places its arguments itself (NumPy arrays go straight to their devices). On CPUs
    it returns when all heads are fitted, and BLAS has one thread until then.

    Args:
        fitter: From :func:`digitaltwin.fitting.make_fitter`.
        shapes: Neutral shapes [b v 3], or one for all [v 3] [mm].
        landmarks: [b k 2] [px].
        image_sizes: Heights and widths [b 2], or one pair for all [px].
        scores: Expression scores [b e], or [e] for all.
        focal_px: Focal lengths [b], or one for all [px].
        principal_point_px: Optical axes [b 2], or [2] for all [px].
        weights: Landmark weights [b k], or [k] for all.
        init: Starts, all of its arrays with an axis b, or none.
        devices: Devices of this process; all by default. The heads are shared out over them in order.
        chunk_size: On accelerators a batch is padded to a multiple of this many heads. A stream that comes in chunks
            gives their size, so that the odd one at its end is not compiled anew; otherwise batches are padded to one
            of a few sizes. CPUs need no such size.
        batch_size: Heads that a device computes side by side; by default 1 on a CPU and elsewhere 2,048 of 104
            landmarks, 387 of 478.

    Returns:
        The fits, every array with a leading axis b.

    Raises:
        InputError: The numbers of heads differ, there is none, an array's shape does not fit the fitter, or a device
            belongs to another process.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import fit_batch, make_fitter
        >>> from digitaltwin.head import landmark_points, load_head
        >>> head = load_head()
        >>> points = landmark_points(head, head.mean)
        >>> seen = jnp.array([320.0, 240.0]) + 700.0 * points[:, :2] * jnp.array([1.0, -1.0]) / (500.0 - points[:, 2:])
        >>> result = fit_batch(make_fitter(head), head.mean, jnp.stack([seen, seen]), (480, 640))
        >>> result.status.tolist(), result.rotation.shape
        ([0, 0], (2, 3, 3))
    """
    devices = jax.local_devices() if devices is None else list(devices)
    foreign = [device for device in devices if device.process_index != jax.process_index()]
    if foreign or not devices:
        raise InputError(f"devices: {foreign or 'none'}; each process fits its own heads, on devices of its own.")
    observations = make_observation(
        fitter,
        landmarks,
        np.stack(image_sizes, axis=-1) if isinstance(image_sizes, tuple) else image_sizes,
        scores=scores,
        focal_px=focal_px,
        principal_point_px=principal_point_px,
        weights=weights,
    )
    heads = _heads(fitter, as_floats(shapes, fitter.mean.dtype), observations, init)
    if batch_size is None:
        rows = fitter.landmark_count * (2 if is_direct(1, fitter.landmark_count) else 1)
        many = max(1, int(_BATCH_SIZE * (_BATCH_ROWS / rows) ** 2))
        batch_size = _CPU_BATCH_SIZE if devices[0].platform == "cpu" else many
    mesh = Mesh(np.array(devices), (_AXIS,))
    if devices[0].platform == "cpu" and batch_size == 1:
        return _fit_on_cpus(fitter, heads, mesh)
    share = _padded_share(heads.count, len(devices), chunk_size)
    batch_size = min(batch_size, share)
    share = _round_up(share, batch_size)
    own = _pad(heads.own, len(devices) * share)
    result = _dispatch(fitter, own, heads.shared, np.full(len(devices), share), mesh, batch_size)
    return jax.tree.map(lambda part: part if len(part) == heads.count else part[: heads.count], result)


class _Heads(NamedTuple):
    """A batch: ``(shape, observation, init)``, each None in one of the two."""

    own: tuple[Any, Observation, Any]
    """The heads' own arrays, with an axis b."""
    shared: tuple[Any, Any]
    """Shape and start for all of them."""
    count: int


def _heads(fitter: Fitter, shapes: Values, observations: Observation, init: Unknowns | None) -> _Heads:
    """Tell the heads' own arrays from those for all of them, and repeat the latter where they are small.

    So one compiled program serves an image size given once or for every head.
    """
    if observations.landmarks.ndim != 3:
        raise InputError(f"landmarks has shape {observations.landmarks.shape}; many heads need [b k 2].")
    counts = {"landmarks": len(observations.landmarks)}
    for name, value, axes in zip(Observation._fields, observations, OBSERVATION_AXES):
        if value is not None and value.ndim not in (axes, axes + 1):
            raise InputError(
                f"{name} has shape {value.shape}; it needs {axes} axes for one head, or one more for many."
            )
        if value is not None and value.ndim > axes:
            counts[name] = len(value)
    if shapes.ndim == 3:
        counts["shape"] = len(shapes)
    if init is not None and init.translation.ndim == 2:
        counts["init"] = len(init.translation)
    if len(set(counts.values())) > 1 or counts["landmarks"] == 0:
        raise InputError(f"heads: {counts}; every array needs as many, and at least one.")
    count = counts["landmarks"]

    def of_each(value: Any, axes: int) -> Any:
        if value is None or value.ndim > axes:
            return value
        return (jnp if isinstance(value, jax.Array) else np).broadcast_to(value[None], (count, *value.shape))

    observations = Observation._make(of_each(value, axes) for value, axes in zip(observations, OBSERVATION_AXES))
    first = init if "init" not in counts else jax.tree.map(lambda part: np.empty(part.shape[1:], part.dtype), init)
    check_shapes(
        fitter,
        shapes if shapes.ndim == 2 else np.empty(shapes.shape[1:], shapes.dtype),
        Observation._make(None if value is None else np.empty(value.shape[1:]) for value in observations),
        first,
    )
    own = (shapes if "shape" in counts else None, observations, init if "init" in counts else None)
    return _Heads(own, (None if "shape" in counts else shapes, None if "init" in counts else init), count)


def _fit_on_cpus(fitter: Fitter, heads: _Heads, mesh: Mesh) -> FitResult:
    """Fit a batch, 32 heads a device at a time; the next ones are computed while the last are copied to their place."""
    devices, whole = list(mesh.devices.flat), None
    own = jax.tree.map(np.asarray, heads.own)
    everywhere = NamedSharding(mesh, PartitionSpec())
    fitter, shared = jax.device_put((fitter, heads.shared), everywhere)

    def parts() -> Iterator[tuple[FitResult, int, np.ndarray]]:
        for first in range(0, heads.count, len(devices) * _CPU_CHUNK):
            edges = np.minimum(heads.count - first, len(devices) * _CPU_CHUNK) * np.arange(len(devices) + 1)
            edges //= len(devices)
            counts = np.diff(edges)
            # A device's rows beyond its heads repeat the last of them and are not computed.
            last = np.maximum(counts - 1, 0)
            rows = first + edges[:-1, None] + np.minimum(np.arange(_CPU_CHUNK), last[:, None])
            rows = np.minimum(rows, heads.count - 1).ravel()
            part = jax.tree.map(partial(np.take, indices=rows, axis=0), own)
            yield _dispatch(fitter, part, shared, counts, mesh, 1), first, counts

    def collect(result: FitResult, first: int, counts: np.ndarray) -> None:
        nonlocal whole
        leaves, structure = jax.tree.flatten(result)
        if whole is None:
            whole = structure.unflatten([_aligned((heads.count, *leaf.shape[1:]), leaf.dtype) for leaf in leaves])
        for leaf, target in zip(leaves, jax.tree.leaves(whole)):
            values = np.asarray(leaf).reshape(len(devices), _CPU_CHUNK, *leaf.shape[1:])
            place = first
            for mine, count in zip(values, counts):
                target[place : place + count] = mine[:count]
                place += count

    with single_blas_thread():
        waiting: list[tuple[FitResult, int, np.ndarray]] = []
        for part in parts():
            waiting.append(part)
            if len(waiting) > 1:
                collect(*waiting.pop(0))
        collect(*waiting.pop())
    evenly = heads.count % len(devices) == 0
    return jax.device_put(whole, NamedSharding(mesh, PartitionSpec(_AXIS)) if evenly else devices[0])


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that JAX can use in place."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(size + _ALIGN, np.uint8)
    start = -room.ctypes.data % _ALIGN
    return room[start : start + size].view(dtype).reshape(shape)


def _dispatch(
    fitter: Fitter, own: PyTree, shared: PyTree, counts: np.ndarray, mesh: Mesh, batch_size: int
) -> FitResult:
    """Place the arguments and start the computation."""
    if mesh.size == 1 and mesh.devices.flat[0] == jax.local_devices()[0]:
        return _fit_alone(fitter, own, shared, counts.astype(np.int32), batch_size=batch_size)
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(_AXIS))
    own, counts_ = jax.device_put((own, counts.astype(np.int32)), split)
    fitter, shared = jax.device_put((fitter, shared), everywhere)
    return _fit_shares(fitter, own, shared, counts_, mesh=mesh, batch_size=batch_size)


def process_slice(count: int) -> slice:
    """This process's part of ``count`` heads: contiguous, in the order of the processes, even but for one head.

    Args:
        count: Heads of all processes.

    Returns:
        A slice of them.

    Example:
        >>> process_slice(7)  # of a process that is alone
        slice(0, 7, None)
    """
    process, processes = jax.process_index(), jax.process_count()
    return slice(count * process // processes, count * (process + 1) // processes)


def allgather(parts: PyTree) -> PyTree:
    """Gather what all processes have fitted, in their order; all of them have to call it.

    Args:
        parts: This process's arrays with an axis b in front: a :class:`FitResult`, or a field of it. Each process may
            have another number of heads.

    Returns:
        NumPy arrays, the same in every process, with all heads.

    Example:
        >>> import jax.numpy as jnp
        >>> allgather({"status": jnp.zeros(3, int)})["status"].shape  # of a process that is alone
        (3,)
    """
    parts = jax.tree.map(np.asarray, parts)
    if jax.process_count() == 1:
        return parts
    counts = multihost_utils.process_allgather(np.array(len(jax.tree.leaves(parts)[0])))
    gathered = multihost_utils.process_allgather(_pad(parts, int(counts.max())))
    return jax.tree.map(
        lambda part: np.concatenate([mine[:count] for mine, count in zip(np.asarray(part), counts)]), gathered
    )


def _fit_rows(
    fitter: Fitter,
    own: tuple[Any, Observation, Any],
    shared: tuple[Any, Any],
    counts: Int[Array, " 1"] | Int[np.ndarray, " 1"],
    *,
    batch_size: int,
) -> FitResult:
    """Fit one device's share; with a batch size of 1 only the first ``counts`` heads of it."""

    def each(own: tuple[Any, Observation, Any]) -> FitResult:
        shape, observation, init = own
        return fit_photo(
            fitter, shared[0] if shape is None else shape, observation, shared[1] if init is None else init
        )

    rows = len(own[1].landmarks)
    if batch_size == 1:

        def one(row: Int[Array, ""], results: FitResult) -> FitResult:
            result = each(jax.tree.map(lambda part: part[row], own))
            return jax.tree.map(lambda all_, part: all_.at[row].set(part), results, result)

        outline = jax.eval_shape(each, jax.tree.map(lambda part: part[0], own))
        empty = jax.tree.map(lambda part: jnp.zeros((rows, *part.shape), part.dtype), outline)
        return lax.fori_loop(0, counts[0], one, empty)
    # As lax.map does with a batch_size, which fails where an array is empty.
    blocks = jax.tree.map(lambda part: part.reshape(rows // batch_size, batch_size, *part.shape[1:]), own)
    result = lax.map(jax.vmap(each), blocks)
    return jax.tree.map(lambda part: part.reshape(rows, *part.shape[2:]), result)


_fit_alone = stored_program(_fit_rows, static_argnames=("batch_size",))


@partial(jax.jit, static_argnames=("mesh", "batch_size"))
def _fit_shares(
    fitter: Fitter,
    own: tuple[Any, Observation, Any],
    shared: tuple[Any, Any],
    counts: Int[Array, " devices"],
    *,
    mesh: Mesh,
    batch_size: int,
) -> FitResult:
    """Fit a padded batch, each device its share."""
    # Not left to the partitioner, which cannot cut the loop; and unchecked, because the fit starts its loops from
    # constants, which are the same on every device as long as they are.
    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    in_specs = (everywhere, split, everywhere, split)
    some = partial(_fit_rows, batch_size=batch_size)
    return jax.shard_map(some, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False)(
        fitter, own, shared, counts
    )


def _padded_share(count: int, devices: int, chunk_size: int | None) -> int:
    """Heads a device gets."""
    if chunk_size is not None:
        return _round_up(_round_up(count, chunk_size), devices) // devices
    share = _round_up(count, devices) // devices
    return _round_up(share, max(1, 2 ** share.bit_length() // (2 * _SIZES_AN_OCTAVE)))


def _round_up(number: int, step: int) -> int:
    """The next multiple."""
    return -(-number // step) * step


def _pad(parts: PyTree, length: int) -> PyTree:
    """Lengthen arrays with copies of their last row (or zeros where there is none)."""

    def pad(part: Any) -> Any:
        missing = length - len(part)
        if missing == 0:
            return part
        library = np if isinstance(part, np.ndarray) else jnp
        row = part[-1:] if len(part) else library.zeros((1, *part.shape[1:]), part.dtype)
        return library.concatenate([part, library.repeat(row, missing, axis=0)])

    return jax.tree.map(pad, parts)
