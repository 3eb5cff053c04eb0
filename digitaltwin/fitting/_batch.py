"""Many heads at once: over the devices of one machine with ``jax.sharding``, and over machines.

Letters: b heads, v vertices, k landmarks, e expressions.

Fits are independent, so nothing is communicated while they run. The batch is padded with copies of its last head to a
size that the devices share evenly, cut along a one-dimensional mesh, and each device works through its own share. A
padded head costs time and is dropped; it changes no other.

*How many side by side.* A GPU or TPU computes up to 2,048 heads of 104 landmarks at a time (an H200 nine tenths as many
heads a second as with 8,192), and fewer of more: what a head's step holds grows with the square of its system's rows
(170 kB for 104 landmarks), so more only takes memory. A CPU device
computes one after the other, which keeps everything in its cache and gives LAPACK single matrices. That is not a matter
of taste: jaxlib 0.10 (the newest for Python 3.11) cuts a batch of matrices into tasks for the thread pool that it is
itself running in and waits for them, so as many such calls at once as the pool has threads wait for ever. Cores are
used by giving each a device, before JAX starts,

    jax.config.update("jax_num_cpu_devices", 2)        and OPENBLAS_NUM_THREADS=1 in the environment

since OpenBLAS's own threads get in each other's way on matrices as small as these.

*Over hosts.* Each process calls :func:`fit_batch` with its own heads (:func:`own_heads` cuts a list of them), on its
own devices; processes need not have equally many of either. Where one of them wants everything, :func:`gather_batch`
brings the parts, or the fields that matter, together:

    jax.distributed.initialize()                                   # finds its peers under Slurm or on a TPU pod
    mine = own_heads(len(landmarks))
    result = fit_batch(fitter, head.mean, landmarks[mine], image_sizes[mine])
    expressions = gather_batch(result.expression)

Nothing is donated: every input but ``shapes`` is a hundredth of the result, and the vertices cannot take a given
shape's place, because they are written while other heads' shapes are still to be read.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Num, PyTree

from digitaltwin.fitting._energy import Unknowns
from digitaltwin.fitting._fit import FitResult, fit
from digitaltwin.fitting._fitter import Fitter
from digitaltwin.fitting._steps import is_direct
from digitaltwin.types import InputError

_AXIS = "heads"
_TOGETHER, _TOGETHER_ROWS, _TOGETHER_ON_CPU = 2048, 208, 1
_SIZES_AN_OCTAVE = 8  # of padded shares: at most 1 head in 8 is padding, at most 8 compilations between n and 2 n

# With as many axes as one head has they are shared by all, with one more they are the heads' own.
_OWN_AXES = {"shape": 2, "landmarks": 2, "image_size": 1, "scores": 1, "focal_px": 0, "principal_point_px": 1}
_OWN_AXES |= {"weights": 1}

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
    together: int | None = None,
) -> FitResult:
    """Fit many heads, each as :func:`digitaltwin.fitting.fit` does, on all devices of this process.

    Trouble in the data of one head is reported in its ``status``, and the others' results are the same bits as without
    it. Not for use under ``jit``: it places its arguments itself (NumPy arrays go straight to their devices).

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
        chunk_size: A batch is padded to a multiple of this many heads. A stream that comes in chunks gives their size,
            so that the odd one at its end is not compiled anew; otherwise batches are padded to one of a few sizes.
        together: Heads that a device computes side by side; by default 1 on a CPU and elsewhere 2,048 of 104
            landmarks, 387 of 478.

    Returns:
        The fits, every array with a leading axis b.

    Raises:
        InputError: The numbers of heads differ, there is none, an array's shape does not fit the fitter, or a device
            belongs to another process.

    Example:
        >>> import jax.numpy as jnp
        >>> from digitaltwin.fitting import FitConfig, fit_batch, make_fitter
        >>> from digitaltwin.head import landmark_points, load_head
        >>> head = load_head()
        >>> points = landmark_points(head, head.mean)
        >>> seen = jnp.array([320.0, 240.0]) + 700.0 * points[:, :2] * jnp.array([1.0, -1.0]) / (500.0 - points[:, 2:])
        >>> result = fit_batch(make_fitter(head, FitConfig()), head.mean, jnp.stack([seen, seen]), (480, 640))
        >>> result.status.tolist(), result.rotation.shape
        ([0, 0], (2, 3, 3))
    """
    devices = jax.local_devices() if devices is None else list(devices)
    foreign = [device for device in devices if device.process_index != jax.process_index()]
    if foreign or not devices:
        raise InputError(f"devices: {foreign or 'none'}; each process fits its own heads, on devices of its own.")
    given = {
        "shape": shapes,
        "landmarks": landmarks,
        "image_size": np.stack(image_sizes, axis=-1) if isinstance(image_sizes, tuple) else image_sizes,
        "scores": scores,
        "focal_px": np.asarray(focal_px, np.float32) if isinstance(focal_px, (int, float)) else focal_px,
        "principal_point_px": principal_point_px,
        "weights": weights,
    }
    own, shared = _separate({name: value for name, value in given.items() if value is not None}, init)
    count = _count(own)
    if together is None:
        rows = fitter.landmark_count * (2 if is_direct(1, fitter.landmark_count) else 1)
        many = max(1, int(_TOGETHER * (_TOGETHER_ROWS / rows) ** 2))
        together = _TOGETHER_ON_CPU if devices[0].platform == "cpu" else many
    share = _padded_share(count, len(devices), chunk_size)
    together = min(together, share)
    share = _round_up(share, together)

    mesh = Mesh(np.array(devices), (_AXIS,))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(_AXIS))
    own = jax.device_put(_pad(own, len(devices) * share), split)
    fitter, shared = jax.device_put((fitter, shared), everywhere)
    result = _fit_shares(fitter, own, shared, mesh=mesh, together=together)
    return jax.tree.map(lambda part: part if len(part) == count else part[:count], result)


def own_heads(count: int) -> slice:
    """This process's part of ``count`` heads: contiguous, in the order of the processes, even but for one head.

    Args:
        count: Heads of all processes together.

    Returns:
        A slice of them.

    Example:
        >>> own_heads(7)  # of a process that is alone
        slice(0, 7, None)
    """
    process, processes = jax.process_index(), jax.process_count()
    return slice(count * process // processes, count * (process + 1) // processes)


def gather_batch(parts: PyTree) -> PyTree:
    """Bring what the processes have fitted together, in their order; all of them have to call it.

    Args:
        parts: Of each process, arrays with an axis b in front: a :class:`FitResult`, or a field of it. Each process may
            have another number of heads.

    Returns:
        NumPy arrays, the same in every process, with all heads.

    Example:
        >>> import jax.numpy as jnp
        >>> gather_batch({"status": jnp.zeros(3, int)})["status"].shape  # of a process that is alone
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


@partial(jax.jit, static_argnames=("mesh", "together"))
def _fit_shares(
    fitter: Fitter, own: dict[str, PyTree], shared: dict[str, PyTree], *, mesh: Mesh, together: int
) -> FitResult:
    """Fit a padded batch, each device its share."""

    def one(fitter: Fitter, shared: dict[str, PyTree], own: dict[str, PyTree]) -> FitResult:
        options = {**shared, **own}
        required = [options.pop(name) for name in ("shape", "landmarks", "image_size")]
        return fit(fitter, *required, **options)

    def some(fitter: Fitter, own: dict[str, PyTree], shared: dict[str, PyTree]) -> FitResult:
        each = partial(one, fitter, shared)
        if together == 1:
            return lax.map(each, own)
        # As lax.map does with a batch_size, which fails where an array is empty.
        blocks = jax.tree.map(lambda part: part.reshape(len(part) // together, together, *part.shape[1:]), own)
        result = lax.map(jax.vmap(each), blocks)
        return jax.tree.map(lambda part: part.reshape(len(part) * together, *part.shape[2:]), result)

    # Not left to the partitioner, which cannot cut the loop; and unchecked, because the fit starts its loops from
    # constants, which are the same on every device as long as they are.
    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    shares = jax.shard_map(some, mesh=mesh, in_specs=(everywhere, split, everywhere), out_specs=split, check_vma=False)
    return shares(fitter, own, shared)


def _separate(given: dict[str, Any], init: Unknowns | None) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """The heads' own arrays, and those for all of them."""
    own, shared = {}, {}
    for name, value in given.items():
        axes = value.ndim - _OWN_AXES[name]
        if axes not in (0, 1):
            raise InputError(
                f"{name} has shape {value.shape}; it needs {_OWN_AXES[name]} axes for one head, or one more for many"
            )
        (own if axes else shared)[name] = value
    if init is not None:
        (own if init.translation.ndim == 2 else shared)["init"] = init
    if "landmarks" not in own:
        raise InputError(f"landmarks has shape {given['landmarks'].shape}; many heads need [b k 2]")
    return own, shared


def _count(own: dict[str, PyTree]) -> int:
    """The number b that all arrays of the heads agree on."""
    counts = {name: len(jax.tree.leaves(value)[0]) for name, value in own.items()}
    if len(set(counts.values())) > 1 or counts["landmarks"] == 0:
        raise InputError(f"heads: {counts}; every array needs as many, and at least one")
    return counts["landmarks"]


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
