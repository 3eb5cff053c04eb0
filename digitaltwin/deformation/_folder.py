"""A folder of thousands of new heads, made in chunks; a run that was stopped goes on where it was.

``heads-00000.npz``, ``heads-00001.npz``, ... hold vertices [mm], group, key, closest subject and the mixture, one row a
head; ``augment.json`` says how they were made. The same settings give the same bytes.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key
from tqdm import tqdm

from digitaltwin._version import __version__
from digitaltwin.deformation._augmentation import training_population
from digitaltwin.deformation._config import AugmentConfig, PolarConfig
from digitaltwin.deformation._methods import BATCH, METHODS, make_heads
from digitaltwin.deformation._sampling import assign_groups, group_shares
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io._resumable import ResumableJob
from digitaltwin.io.assets import asset_path


def augment_folder(folder: str | Path, config: AugmentConfig) -> tuple[int, int]:
    """Make new heads from the shipped training subjects, those that the folder does not hold yet.

    A head depends on the seed, its number and its group (the order of the groups on the count), not on its chunk.

    Args:
        folder: Folder of the chunks; it is made if it is missing.
        config: Settings.

    Returns:
        The number of files, and how many of them are new.

    Raises:
        InputError: The folder cannot be used, or holds heads of other settings.
    """
    head = load_head()
    job = ResumableJob(folder, _settings(head, config), settings_name="augment.json", parts="heads-*.npz")
    lengths = {
        f"heads-{number:05d}.npz": min(config.chunk, config.count - start)
        for number, start in enumerate(range(0, config.count, config.chunk))
    }
    with job.begin():
        missing = job.missing(lengths)
        if missing:
            _make_chunks(head, job, lengths, missing, config)
    return len(lengths), len(missing)


def _settings(head: HeadModel, config: AugmentConfig) -> dict[str, Any]:
    """All that decides what the files hold, but for the machine's own rounding."""
    return {
        "digitaltwin": __version__,
        "jax": jax.__version__,
        **{name: hashlib.sha256(asset_path(name).read_bytes()).hexdigest() for name in ("head.npz", "subjects.npz")},
        "count": config.count,
        "chunk": config.chunk,
        "seed": config.seed,
        "method": config.method,
        "origin": "group" if config.about_group else "all",
        "polar": dataclasses.asdict(PolarConfig()),
        "groups": list(head.group_names),
        "shares": group_shares(head.group_names).tolist(),
    }


def _make_chunks(
    head: HeadModel, job: ResumableJob, lengths: dict[str, int], missing: list[str], config: AugmentConfig
) -> None:
    state = METHODS[config.method].prepare(training_population(head, about_group=config.about_group))
    of_groups, of_heads = jax.random.split(jax.random.key(config.seed))
    groups = np.asarray(assign_groups(of_groups, group_shares(head.group_names), count=config.count))

    done = config.count - sum(lengths[name] for name in missing)
    with tqdm(total=config.count, initial=done, unit=" heads", disable=None) as bar:
        for chunk, name in enumerate(lengths):
            if name not in missing:
                continue
            # Every chunk is computed in whole batches, and cut: one of another size would be compiled, and round,
            # differently.
            numbers = chunk * config.chunk + np.arange(-(-config.chunk // BATCH) * BATCH)
            some_groups = groups[np.minimum(numbers, config.count - 1)]
            heads = _make_some(of_heads, state, jnp.asarray(numbers), jnp.asarray(some_groups), method=config.method)
            arrays = {key: np.asarray(value)[: lengths[name]] for key, value in heads.items()}
            job.save(name, arrays, {"unit": "mm", "settings": "augment.json"}, compress=False)
            bar.update(lengths[name])


@functools.partial(jax.jit, static_argnames="method")
def _make_some(
    key: Key[Array, ""], state: Any, numbers: Int[Array, " b"], groups: Int[Array, " b"], *, method: str
) -> dict[str, Array]:
    """Make the heads of some numbers, each from a key of its own."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
    heads = make_heads(METHODS[method], state, keys, groups)
    return {**heads, "key": jax.random.key_data(keys), "group": groups}
