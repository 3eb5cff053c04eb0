"""Fit millions of heads from a file of landmarks, in resumable chunks.

    python -m experiments.fit --landmarks=landmarks.npz --out=fits.npz

The input is an ``.npz`` (uncompressed ones are read where they lie) with

    landmarks           [n 104 2] px, or [n 478 2] with --points=mesh; NaN where the weight is 0
    image_size          [n 2], or [2] for all: height, width
    scores              [n e], or [e]: expression scores           optional, as all that follow
    focal_px            [n], or one number
    principal_point_px  [n 2], or [2]
    weights             [n k], or [k], k landmarks
    shape               [n v 3], or [v 3]: neutral shapes; the mean head by default

and the output one with, for each head, expression [e], identity [i] mm, rotation [3 3], translation [3] mm,
focal_scale, energy (after the last step), status, and the solver's unknowns (unknowns_coefficients, ...), of which a
fit without a step makes everything else again (but for the energy, where the contour slides once more):

    start = Unknowns(**{name: fits[f"unknowns_{name}"] for name in Unknowns._fields})
    fit_batch(make_fitter(head, FitConfig(iterations=0)), head.mean, landmarks, image_size, ..., init=start)

With --vertices the fitted skin [v 3] mm takes their place. The fields are explained at ``FitResult``.

A run that was stopped goes on where it was; the same input gives the same bytes. Several machines share the work as

    python -m experiments.fit --landmarks=landmarks.npz --out=fits-$I.npz --part=$I/$N            I = 0 to N - 1

(under Slurm: I = $SLURM_PROCID, N = $SLURM_NTASKS), each on all of its devices. Nothing is exchanged, so no machine
waits for, or falls with, another. Who calls ``fit_batch`` from a program under ``jax.distributed`` finds the same in
:mod:`digitaltwin.fitting._batch`.

Ends with 0 when done, 2 when a flag or a file cannot be used (one line says why and what to do), 1 after a defect of
its own.
"""

import os

# Before anything loads it: on matrices of a few hundred rows OpenBLAS's threads get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dataclasses
from pathlib import Path

import jax
from absl import flags

from digitaltwin.fitting import FitConfig
from experiments import command
from experiments.fit_file import POINTS, QUICK_COUNT, fit_file

_LANDMARKS = flags.DEFINE_string("landmarks", None, "The .npz with the landmarks, as described above.")
_OUT = flags.DEFINE_string("out", "fits.npz", "The .npz to write; its folder has to exist.")
_CHUNK = flags.DEFINE_integer("chunk", 1024, "Heads that are computed, and written, at once.", 1)
_ITERATIONS = flags.DEFINE_integer("iterations", FitConfig().iterations, "Gauss-Newton steps.", 0)
_VERTICES = flags.DEFINE_bool("vertices", False, "Write the skin's vertices, not the unknowns: 12 times as much.")
_POINTS = flags.DEFINE_enum("points", "landmarks", list(POINTS), "The 104 landmarks, or the face mesh's 478 points.")
_PART = flags.DEFINE_string("part", "0/1", "I/N: of the N equal parts of the file only the I-th, from 0.")
_QUICK = flags.DEFINE_bool(
    "quick", False, f"At most {QUICK_COUNT} heads; without --landmarks, the shipped subjects' own."
)


def main() -> None:
    """Read the flags, fit, say where it is."""
    command.keep_compiled_programs()
    done = fit_file(
        None if _LANDMARKS.value is None else Path(_LANDMARKS.value),
        Path(_OUT.value),
        chunk=_CHUNK.value,
        config=dataclasses.replace(FitConfig(), iterations=_ITERATIONS.value),
        points=_POINTS.value,
        part=_PART.value,
        vertices=_VERTICES.value,
        quick=_QUICK.value,
    )
    print(done)


def use_all_cores() -> None:
    """Give JAX a device a core, as :mod:`digitaltwin.fitting._batch` explains; before it does anything else."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return  # JAX takes one or the other
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)


if __name__ == "__main__":
    use_all_cores()
    command.run(main)
