"""Deformation of meshes: a representation of nine numbers a vertex, and new heads mixed in it."""

from digitaltwin.deformation.augmentation import (
    NewHead,
    Population,
    augment,
    closest_subject,
    make_population,
    mixed_head,
)
from digitaltwin.deformation.representation import (
    Reference,
    decode,
    deformation_gradients,
    encode,
    make_reference,
)
from digitaltwin.deformation.sampling import (
    GroupComponents,
    Mixture,
    PolarConfig,
    assign_groups,
    group_components,
    group_shares,
    mix,
    polar_coefficients,
    polar_mixture,
    sample_components,
    single_subject,
)

__all__ = [
    "GroupComponents",
    "Mixture",
    "NewHead",
    "PolarConfig",
    "Population",
    "Reference",
    "assign_groups",
    "augment",
    "closest_subject",
    "decode",
    "deformation_gradients",
    "encode",
    "group_components",
    "group_shares",
    "make_population",
    "make_reference",
    "mix",
    "mixed_head",
    "polar_coefficients",
    "polar_mixture",
    "sample_components",
    "single_subject",
]
