"""The targets that make a person, as displacements of the reduced head: what identities are linear combinations of.

Letters: n targets (the size among them), v skin vertices, p parts vertices, i people.
"""

from dataclasses import dataclass

import numpy as np

from experiments._shared.people import without_rigid_motion
from experiments.build_assets import population
from experiments.build_assets.lips import OVERLAP_MM, LipSeal, lip_seal
from experiments.build_assets.source import Source, sphere

FACE_RADIUS_MM = 95.0
SIZE = "size"
"""Name of the last direction: the whole head, larger by its coefficient."""


@dataclass(frozen=True)
class Targets:
    """The identity targets at the vertices of the reduced head, in mm.

    Every displacement is free of rigid motion, as the face tells it: heads that differ by their coefficients alone lie
    on each other. The coefficients of a person count from those of ``reference``.
    """

    names: tuple[str, ...]
    reference_weights: np.ndarray  # [n] of the reference: of the size, 0
    reference: np.ndarray  # [v + p, 3] the average of the groups, as MakeHuman has them; skin first
    displacements: np.ndarray  # [n v + p 3]
    face: np.ndarray  # [v] mask of the skin within 95 mm of the nose tip
    lips: LipSeal  # where lips touch, of everybody
    skin_count: int

    @property
    def of_face(self) -> np.ndarray:
        """The displacements of the face, flat [n 3f]."""
        return self.displacements[:, : self.skin_count][:, self.face].reshape(len(self.names), -1)

    def shape(self, coefficients: np.ndarray) -> np.ndarray:
        """Compute the vertices [*i v + p, 3] of people with coefficients [*i n]."""
        return self.reference + np.tensordot(coefficients, self.displacements, 1)

    def chosen(self, weights: np.ndarray, names: list[str]) -> np.ndarray:
        """Pick the weights [i n - 1] of these targets out of those [i all] of all the source's, by name."""
        index = {name: number for number, name in enumerate(names)}
        return weights[:, [index[name] for name in self.names[:-1]]]

    def of_weights(self, weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Turn MakeHuman's weights [i n - 1] and factors of size [i] into coefficients [i n]."""
        return np.c_[weights - self.reference_weights[:-1], sizes - 1.0]


@dataclass(frozen=True)
class Mouth:
    """What is needed to close the lips of the reduced skin."""

    faces: np.ndarray  # [f 3] of the skin
    opening: np.ndarray  # the skin's border in the mouth
    mirror: np.ndarray  # [v] mirror image of each of its vertices
    shared: dict[int, int]  # parts vertices on a border of the skin, and the skin's there


def identity_targets(source: Source, scale: np.ndarray, skin: np.ndarray, parts: np.ndarray, mouth: Mouth) -> Targets:
    """Take the local and the macro targets at the vertices that are left, and the size; nobody's lips part.

    Args:
        source: The head at full resolution.
        scale: Millimetres a decimetre along x, y, z.
        skin: Vertices of the reduced skin.
        parts: Vertices of the reduced parts.
        mouth: The lips.
    """
    folders = (*population.LOCAL_FOLDERS, "macrodetails")
    chosen = [k for k, name in enumerate(source.names) if name.split("/")[0] in folders]
    index = np.concatenate([skin, parts])
    weights = np.mean([population.group_weights(source.names, group) for group in population.GROUPS], axis=0)[chosen]
    moved = source.targets[chosen][:, index].astype(np.float64) * scale
    reference = source.vertices[index] * scale + np.tensordot(weights, moved, 1)
    eyes = [sphere((source.vertices + np.tensordot(weights, source.targets[chosen], 1))[np.unique(f)] * scale)[0]
            for f in (source.faces["left_eye"], source.faces["right_eye"])]  # fmt: skip
    reference = reference - np.mean(eyes, axis=0)
    bare = reference[: len(skin)]
    face = np.linalg.norm(bare - bare[np.argmax(bare[:, 2])], axis=1) < FACE_RADIUS_MM
    larger = reference - bare[face].mean(0)
    displacements = without_rigid_motion(np.concatenate([moved, larger[None]]), reference, np.flatnonzero(face))
    seal = lip_seal(bare, mouth.faces, mouth.opening, mouth.mirror)
    reference[: len(skin)] = seal.closed(bare, overlap_mm=OVERLAP_MM)
    displacements[:, : len(skin)] = seal.closed(displacements[:, : len(skin)])
    for part, there in mouth.shared.items():  # the mouth's lining hangs on the lips
        reference[len(skin) + part], displacements[:, len(skin) + part] = reference[there], displacements[:, there]
    names = (*(source.names[k] for k in chosen), SIZE)
    return Targets(names, np.append(weights, 0.0), reference, displacements, face, seal, len(skin))
