"""Make thousands of new heads from the database's training subjects, in resumable chunks.

    python -m experiments.augment --count=10000 --out=heads

writes heads-00000.npz, heads-00001.npz, ... (vertices [mm], group, key, closest subject and what the head is mixed of,
one row a head) and augment.json, which says how they were made. A run that was stopped goes on where it was; the same
seed gives the same bytes. Ends with 0 when done, 2 when a flag or the folder cannot be used (one line says why and what
to do), 1 after a defect of its own.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array
from tqdm import tqdm

from digitaltwin._version import __version__
from digitaltwin.deformation import PolarConfig, assign_groups, group_shares, training_population
from digitaltwin.deformation._methods import METHODS, TOGETHER, make_heads
from digitaltwin.head import HeadModel, load_head
from digitaltwin.io import load_arrays, save_arrays
from digitaltwin.io._files import make_folder, write_json
from digitaltwin.io.assets import asset_path
from digitaltwin.types import InputError
from experiments import command

ORIGINS = ("all", "group")
_OUT = flags.DEFINE_string("out", "heads", "Folder for the chunks; made if it is missing, continued if it is not.")
_COUNT = flags.DEFINE_integer("count", 10_000, "Heads to make.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", 0)
_CHUNK = flags.DEFINE_integer("chunk", 500, "Heads in a file.", 1)
_METHOD = flags.DEFINE_enum(
    "method", "polar", list(METHODS), "Polar mixing; or, as ablations, categorised PCA or none."
)
_ORIGIN = flags.DEFINE_enum("origin", "all", ORIGINS, "Mix about the mean of all subjects, or of each group.")
_QUICK = flags.DEFINE_bool("quick", False, "At most 200 heads in chunks of 100, for a first look.")


def settings(head: HeadModel, count: int, chunk: int) -> dict[str, Any]:
    """All that decides what the files hold, but for the machine's own rounding."""
    return {
        "digitaltwin": __version__,
        "jax": jax.__version__,
        **{name: hashlib.sha256(asset_path(name).read_bytes()).hexdigest() for name in ("head.npz", "subjects.npz")},
        "count": count,
        "chunk": chunk,
        "seed": _SEED.value,
        "method": _METHOD.value,
        "origin": _ORIGIN.value,
        "polar": dataclasses.asdict(PolarConfig()),
        "groups": list(head.group_names),
        "shares": group_shares(head.group_names).tolist(),
    }


def begin(folder: Path, wanted: dict[str, Any]) -> None:
    """Write augment.json, or check that the folder holds heads of the very same settings.

    Raises:
        InputError: it holds others.
    """
    for left in folder.glob(".heads-*.npz.*"):  # of a run that was killed while it wrote
        left.unlink()
    path = folder / "augment.json"
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: says nothing of how the heads here were made; name another --out.") from error
        # JSON knows no tuples.
        differing = [name for name, value in json.loads(json.dumps(wanted)).items() if found.get(name) != value]
        if differing:
            raise InputError(
                f"{folder}: holds heads of other settings ({', '.join(differing)}); name another --out, or remove it."
            )
    elif any(folder.glob("heads-*.npz")):
        raise InputError(f"{folder}: holds heads, but no augment.json says how they were made; name another --out.")
    else:
        write_json(path, wanted)


def finished(path: Path, length: int) -> bool:
    """Whether a chunk is there and whole; files appear whole or not at all, but disks and copies fail."""
    if not path.is_file():
        return False
    try:
        return len(load_arrays(path)[0]["vertices"]) == length
    except (InputError, KeyError):
        return False


def main() -> None:
    """Read the flags, make what is missing, say where it is."""
    command.keep_compiled_programs()
    if _ORIGIN.value == "group" and _METHOD.value != "polar":
        raise InputError(f"--origin=group: has no meaning for --method={_METHOD.value}; leave it out.")
    count, chunk = (min(_COUNT.value, 200), min(_CHUNK.value, 100)) if _QUICK.value else (_COUNT.value, _CHUNK.value)
    folder = make_folder(_OUT.value)
    head = load_head()
    begin(folder, settings(head, count, chunk))
    paths = [folder / f"heads-{number:05d}.npz" for number in range(-(-count // chunk))]
    lengths = [min(chunk, count - number * chunk) for number in range(len(paths))]
    missing = [number for number, path in enumerate(paths) if not finished(path, lengths[number])]
    if missing:
        make_chunks(head, folder, paths, missing, count=count, chunk=chunk)
    print(f"{folder}: {count} heads in {len(paths)} files, {len(missing)} of them new")


def make_chunks(
    head: HeadModel, folder: Path, paths: list[Path], missing: list[int], *, count: int, chunk: int
) -> None:
    """Make and write the chunks that are missing.

    A head depends on the seed, its number and its group (the order of the groups on ``count``), not on its chunk.
    """
    method = METHODS[_METHOD.value]
    stock = method.prepare(training_population(head, about_group=_ORIGIN.value == "group"))
    of_groups, of_heads = jax.random.split(jax.random.key(_SEED.value))
    groups = np.asarray(assign_groups(of_groups, group_shares(head.group_names), count=count))

    @jax.jit
    def make_some(stock: Any, numbers: Array, some_groups: Array) -> dict[str, Array]:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(of_heads, numbers)
        heads = make_heads(method, stock, keys, some_groups)
        return {**heads, "key": jax.random.key_data(keys), "group": some_groups}

    done = count - sum(min(chunk, count - number * chunk) for number in missing)
    with tqdm(total=count, initial=done, unit=" heads") as bar:
        for number in missing:
            # Every chunk is computed in whole portions, and cut: one of another size would be compiled, and round,
            # differently.
            numbers = number * chunk + np.arange(-(-chunk // TOGETHER) * TOGETHER)
            heads = make_some(stock, jnp.asarray(numbers), jnp.asarray(groups[np.minimum(numbers, count - 1)]))
            length = min(chunk, count - number * chunk)
            arrays = {name: np.asarray(value)[:length] for name, value in heads.items()}
            save_arrays(paths[number], arrays, {"unit": "mm", "settings": "augment.json"}, compress=False)
            bar.update(length)


if __name__ == "__main__":
    command.run(main)
