"""``digitaltwin fit``: the head fitted to a file of landmarks, millions of them, in resumable chunks."""

import dataclasses
import os
from pathlib import Path

from absl import flags

from digitaltwin._stages import stage
from digitaltwin.cli._command import Command, Speaker, define_common, keep_compiled_programs
from digitaltwin.fitting import FitConfig
from digitaltwin.types import InputError

QUICK_COUNT = 256


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_string("landmarks", None, "The .npz with the landmarks, as described above.", flag_values=values)
    flags.DEFINE_string("out", "fits.npz", "The .npz to write; its folder has to exist.", flag_values=values)
    flags.DEFINE_integer("chunk", 1024, "Heads that are computed, and written, at once.", 1, flag_values=values)
    flags.DEFINE_integer("iterations", FitConfig().iterations, "Gauss-Newton steps.", 0, flag_values=values)
    flags.DEFINE_bool(
        "vertices", False, "Write the skin's vertices, not the unknowns: 12 times as much.", flag_values=values
    )
    flags.DEFINE_enum(
        "points", "landmarks", ["landmarks", "mesh"], "The 104 landmarks, or the face mesh's 478 points.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "part", "0/1", "I/N: of the N equal parts of the file only the I-th, from 0.", flag_values=values
    )
    flags.DEFINE_bool(
        "quick", False, f"At most {QUICK_COUNT} heads; without --landmarks, the shipped subjects' own.",
        flag_values=values,
    )  # fmt: skip
    define_common(values)


def work(values: flags.FlagValues, _: list[str]) -> None:
    """Fit what is missing, say where it is."""
    landmarks = None if values.landmarks is None else Path(values.landmarks)
    if landmarks is None and not values.quick:
        raise InputError("--landmarks: has to name the file with the landmarks; --quick shows the command without one.")
    if landmarks is not None and not landmarks.is_file():
        raise InputError(f"--landmarks={landmarks}: cannot be read (no such file); check the path.")
    if not Path(values.out).parent.is_dir():
        raise InputError(f"--out={values.out}: there is no folder {Path(values.out).parent}; make it, or name another.")
    speaker = Speaker(quiet=values.quiet)
    speaker.say(f"{landmarks or 'shipped subjects'} -> {values.out}: fits in chunks of {values.chunk}")
    seconds: dict[str, float] = {}
    with speaker.stages():
        with stage(seconds, "start"):
            _use_all_cores()
            keep_compiled_programs()
            from digitaltwin.fitting._file import fit_file
        with stage(seconds, "fit"):
            done = fit_file(
                landmarks,
                Path(values.out),
                chunk=values.chunk,
                config=dataclasses.replace(FitConfig(), iterations=values.iterations),
                points=values.points,
                part=values.part,
                vertices=values.vertices,
                quick=values.quick,
                quiet=True if values.quiet else None,
            )
    print(done)


def _use_all_cores() -> None:
    """Give JAX a device for each core, as :mod:`digitaltwin.fitting._batch` explains; before it does anything else."""
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return  # JAX takes one or the other
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # a program that calls this has used JAX before, and has chosen
        return


COMMAND = Command(
    usage="digitaltwin fit --landmarks=landmarks.npz --out=fits.npz",
    description="""\
Fit millions of heads to a file of landmarks, in resumable chunks.

The input is an .npz (uncompressed ones are read where they lie) with

    landmarks           [n 104 2] px, or [n 478 2] with --points=mesh; NaN where the weight is 0
    image_size          [n 2], or [2] for all: height, width
    scores              [n e], or [e]: expression coefficients     optional, as all that follow
    focal_px            [n], or one number
    principal_point_px  [n 2], or [2]
    weights             [n k], or [k], k landmarks
    shape               [n v 3], or [v 3]: neutral shapes; the mean head by default

and the output one with, for each head, expression [e], identity [i] mm, rotation [3 3], translation [3] mm,
focal_scale, energy (after the last step), status, and the solver's unknowns (unknowns_coefficients, ...), of which a
fit without a step makes everything else again (but for the energy, where the contour slides once more):

    start = Unknowns(**{name: fits[f"unknowns_{name}"] for name in Unknowns._fields})
    fit_batch(make_fitter(head, FitConfig(iterations=0)), head.mean, landmarks, image_size, ..., init=start)

With --vertices the fitted skin [v 3] mm takes their place. The fields are explained at FitResult.

A run that was stopped goes on where it was; the same input gives the same bytes. Several machines share the work as

    digitaltwin fit --landmarks=landmarks.npz --out=fits-$I.npz --part=$I/$N            I = 0 to N - 1

(under Slurm: I = $SLURM_PROCID, N = $SLURM_NTASKS), each on all of its devices. Nothing is exchanged, so no machine
waits for, or falls with, another.""",
    define=define,
    work=work,
)
