"""How far two surfaces are apart, in the definitions of the field, each stated.

ARMSE (the paper's section 5.2) is the mean of two root mean squares: of the distances of the prediction's vertices from
the scan's surface, and of the scan's vertices from the prediction's. A distance is that to the closest point of the
other surface, edges and vertices included. Counted are vertices within ``crop_mm`` of the scan's nose tip, on both
sides after alignment, but for those whose closest point lies on the other surface's border: there it ends, and how far
the surfaces are apart is not known. Of a prediction such do not count either as nothing outside can see: no scan shows
eyeballs behind lids, or the inside of a mouth.

Letters: v vertices of the prediction, s of the scan.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from digitaltwin.geometry import IcpConfig, Similarity, SurfacePoints, SurfaceTree, procrustes_alignment
from digitaltwin.geometry import icp as align_by_icp
from digitaltwin.geometry._icp import Reverse
from digitaltwin.types import InputError

LARGEST_HIDDEN_SHARE = 0.5
"""Share of vertices that may be hidden inside a prediction; more, and its faces point inwards."""


class Comparison(NamedTuple):
    """A prediction aligned with a scan, and their distances."""

    scan_from_prediction: Similarity
    """The alignment; the identity without landmarks."""
    vertices: Float[np.ndarray, "v 3"]
    """The prediction's vertices in the scan's frame."""
    prediction_mm: Float[np.ndarray, " v"]
    """Distance of each from the scan; NaN where it does not count."""
    scan_mm: Float[np.ndarray, " s"]
    """Distance of each of the scan's from the prediction; NaN where it does not count."""
    signed_mm: Float[np.ndarray, " v"]
    """From the scan's tangent plane where that is closest, positive outside: the heat map. NaN likewise."""
    prediction_areas: Float[np.ndarray, " v"]
    """A third of the areas of a vertex's faces: what ``by_area`` weighs it with."""
    scan_areas: Float[np.ndarray, " s"]
    """The same of the scan's vertices."""
    complexity: "Complexity"
    """The prediction's complexity."""

    @property
    def placement(self) -> Similarity:
        """The former name of :attr:`scan_from_prediction`."""
        warnings.warn("Comparison.placement is scan_from_prediction now", DeprecationWarning, stacklevel=2)
        return self.scan_from_prediction


class Complexity(NamedTuple):
    """How fine a mesh is, whole and where it is compared; a number each, or one for each of several crops.

    Vertices are positions of faces that have an area: one that a file repeats along a texture's seam counts once.
    """

    vertices: Float[np.ndarray, "*crops"]
    """Number of the mesh's vertices."""
    faces: Float[np.ndarray, "*crops"]
    """Number of its faces."""
    vertices_within: Float[np.ndarray, "*crops"]
    """Number of vertices within the crop."""
    faces_within: Float[np.ndarray, "*crops"]
    """Number of faces all of whose corners are."""
    edge_mm: Float[np.ndarray, "*crops"]
    """Mean length of their edges [mm], each counted once; NaN if there are none."""


def compare_surfaces(
    vertices: Shaped[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    scan_vertices: Shaped[np.ndarray, "s 3"],
    scan_faces: Int[np.ndarray, "g 3"],
    *,
    landmarks: tuple[Float[Any, "n 3"], Float[Any, "n 3"]] | None = None,
    nose_tip: Float[np.ndarray, " 3"] | None = None,
    crop_mm: float | None = None,
    icp: IcpConfig | None = None,
) -> Comparison:
    """Align a prediction with a scan, and measure both ways.

    Args:
        vertices: The prediction's vertices [v 3] in millimetres.
        faces: Its triangles [f 3], counter-clockwise seen from outside.
        scan_vertices: The scan's vertices [s 3] in millimetres.
        scan_faces: Its triangles.
        landmarks: The same points on prediction and scan, such as the seven of
            :data:`digitaltwin.head.markup.ALIGNMENT`. With them the prediction is aligned by landmarks and then by
            closest points; without it stays where it is.
        nose_tip: The scan's nose tip; with ``crop_mm`` only what lies within that distance of it counts, in the
            alignment too.
        crop_mm: That distance.
        icp: Numbers of the alignment.

    Returns:
        The alignment and the distances, in millimetres.

    Raises:
        InputError: A mesh or the landmarks cannot be used, only one of ``nose_tip`` and ``crop_mm`` is given, or
            nothing is left to be compared.

    Example:
        >>> import trimesh
        >>> ball, larger = (trimesh.creation.icosphere(subdivisions=4, radius=radius) for radius in (100.0, 102.0))
        >>> found = compare_surfaces(ball.vertices, ball.faces, larger.vertices, larger.faces)
        >>> round(float(found.signed_mm.mean()), 1)  # the prediction lies inside
        -2.0
    """
    prediction = SurfaceTree(vertices, faces, name="prediction")
    scan = SurfaceTree(scan_vertices, scan_faces, name="scan")
    return compare_trees(prediction, scan, landmarks=landmarks, nose_tip=nose_tip, crop_mm=crop_mm, icp=icp)


def compare_trees(
    prediction: SurfaceTree,
    scan: SurfaceTree,
    *,
    landmarks: tuple[Float[Any, "n 3"], Float[Any, "n 3"]] | None = None,
    nose_tip: Float[np.ndarray, " 3"] | None = None,
    crop_mm: float | None = None,
    icp: IcpConfig | None = None,
    count_borders: bool = False,
) -> Comparison:
    """Compare surfaces whose trees are built already, as :func:`compare_surfaces` does, for several crops of a pair.

    Args:
        prediction: Its surface.
        scan: The scan's.
        landmarks: The same points on prediction and scan; without them nothing is aligned.
        nose_tip: The scan's nose tip, or another centre of what counts.
        crop_mm: Distance from it up to which vertices count.
        icp: Numbers of the alignment.
        count_borders: Whether distances count whose closest point lies on a border, in the alignment too.

    Returns:
        The alignment and the distances, in millimetres.

    Raises:
        InputError: As :func:`compare_surfaces`.

    Example:
        >>> import numpy as np
        >>> import trimesh
        >>> from digitaltwin.geometry import SurfaceTree
        >>> ball = trimesh.creation.icosphere(subdivisions=4, radius=100.0)
        >>> scan, prediction = (SurfaceTree(size * ball.vertices, ball.faces) for size in (1.0, 1.01))
        >>> found = compare_trees(prediction, scan, nose_tip=np.array([0.0, 0.0, 100.0]), crop_mm=50.0)
        >>> int(np.isfinite(found.scan_mm).sum()) < len(ball.vertices), round(float(np.nanmean(found.scan_mm)), 1)
        (True, 1.0)
    """
    if (nose_tip is None) != (crop_mm is None):
        raise InputError("nose_tip and crop_mm: give both, or none of them.")
    if crop_mm is not None and not crop_mm > 0.0:
        raise InputError(f"crop_mm: is {crop_mm}; give a distance in millimetres.")

    def within(points: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """Whether vertices count; one of no face, whose area is zero, is no part of the surface."""
        if nose_tip is None or crop_mm is None:
            return areas > 0.0
        return (np.linalg.norm(points - np.asarray(nose_tip, np.float64), axis=1) <= crop_mm) & (areas > 0.0)

    def visible(counts: np.ndarray) -> np.ndarray:
        """Those of the prediction's vertices that something outside can see; all where most would be hidden."""
        asked = np.flatnonzero(counts)
        hidden = prediction.visibility.hidden(asked)
        seen = counts.copy()
        if len(asked) and hidden.mean() < LARGEST_HIDDEN_SHARE:
            seen[asked[hidden]] = False
        return seen

    scan_counts = within(scan.vertices, scan.vertex_areas)
    aligned = Similarity.identity()
    if landmarks is not None:
        icp = IcpConfig() if icp is None else icp
        source, target = (np.asarray(points, np.float64) for points in landmarks)
        aligned = procrustes_alignment(source, target, with_scale=icp.with_scale)
        if icp.from_scan:
            moved, near, other, start = scan, scan_counts, prediction, aligned.inverse()
        else:
            near = visible(within(aligned.apply(prediction.vertices), prediction.vertex_areas))
            moved, other, start = prediction, scan, aligned
        points, normals = moved.vertices[near], moved.vertex_normals[near]
        reverse = None
        if icp.with_scale and not icp.from_scan:  # one side alone would tell the size badly
            reverse = Reverse(scan.vertices[scan_counts], scan.vertex_normals[scan_counts], prediction)
        found = align_by_icp(
            points, normals, other, start, config=icp, count_borders=count_borders, reverse=reverse
        ).similarity
        aligned = found.inverse() if icp.from_scan else found
    placed = aligned.apply(prediction.vertices)

    def distances(points: np.ndarray, counts: np.ndarray, other: SurfaceTree) -> tuple[np.ndarray, np.ndarray]:
        """In the other surface's own frame, where its tree was built; NaN where they do not count."""
        apart, signed = np.full((2, len(points)), np.nan)
        asked = np.flatnonzero(counts)
        positions, closest = other.closest(points[asked])
        if not count_borders:
            kept = ~other.on_rim(closest)
            asked, positions, closest = asked[kept], positions[kept], SurfacePoints(*(part[kept] for part in closest))
        away = points[asked] - positions
        apart[asked] = np.linalg.norm(away, axis=1)
        signed[asked] = np.sum(away * other.normals[closest.faces], axis=1)
        return apart, signed

    counts = visible(within(placed, prediction.vertex_areas))
    to_scan, signed = distances(placed, counts, scan)
    to_prediction = aligned.scale * distances(aligned.inverse().apply(scan.vertices), scan_counts, prediction)[0]
    if np.isnan(to_scan).all() or np.isnan(to_prediction).all():
        raise InputError(
            "surfaces: nothing of them lies over one another within the crop; check alignment and nose tip."
        )
    areas = prediction.vertex_areas * aligned.scale**2
    complexity = mesh_complexity(prediction, within=counts, scale=aligned.scale)
    return Comparison(aligned, placed, to_scan, to_prediction, signed, areas, scan.vertex_areas, complexity)


def mesh_complexity(
    surface: SurfaceTree, *, within: Bool[np.ndarray, " v"] | None = None, scale: float = 1.0
) -> Complexity:
    """Count a mesh's vertices and faces, and measure its edges.

    Args:
        surface: The mesh.
        within: Vertices of the part of it that counts; all of them by default.
        scale: What lengths are multiplied by.

    Returns:
        Numbers of the whole and of the part.

    Example:
        >>> import trimesh
        >>> box = trimesh.creation.box((30.0, 40.0, 50.0))
        >>> [round(float(number)) for number in mesh_complexity(SurfaceTree(box.vertices, box.faces))]
        [8, 12, 8, 12, 46]
    """
    places = surface.places[surface.faces]
    inside = np.ones(len(surface.faces), bool) if within is None else within[surface.faces].all(axis=1)
    used = np.unique(places)
    counted = used if within is None else np.intersect1d(used, surface.places[within])
    sides = [[0, 1], [1, 2], [2, 0]]
    edges = np.sort(places[inside][:, sides], axis=2).reshape(-1, 2)
    _, first = np.unique(edges[:, 0] * len(surface.vertices) + edges[:, 1], return_index=True)
    ends = surface.vertices[surface.faces[inside][:, sides].reshape(-1, 2)[first]]
    lengths = scale * np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    edge_mm = lengths.mean() if len(lengths) else np.nan
    numbers = (len(used), len(surface.faces), len(counted), inside.sum(), edge_mm)
    return Complexity(*(np.asarray(number, np.float64) for number in numbers))


def armse(
    vertices: Shaped[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    scan_vertices: Shaped[np.ndarray, "s 3"],
    scan_faces: Int[np.ndarray, "g 3"],
    *,
    landmarks: tuple[Float[Any, "n 3"], Float[Any, "n 3"]] | None = None,
    nose_tip: Float[np.ndarray, " 3"] | None = None,
    crop_mm: float | None = None,
    icp: IcpConfig | None = None,
    by_area: bool = False,
    normaliser_mm: float | None = None,
) -> float:
    """Compute the average root mean square error: the mean of RMSE(prediction -> scan) and RMSE(scan -> prediction).

    Args:
        vertices: The prediction's vertices [v 3] in millimetres.
        faces: Its triangles [f 3], counter-clockwise seen from outside.
        scan_vertices: The scan's vertices [s 3] in millimetres.
        scan_faces: Its triangles.
        landmarks: The same points on prediction and scan; without them nothing is aligned.
        nose_tip: The scan's nose tip.
        crop_mm: Distance from the nose tip up to which vertices count; the paper's are 80 to 110.
        icp: Numbers of the alignment.
        by_area: Whether a vertex counts by its faces' areas, so that the number does not depend on where a mesh is
            dense; each counts once otherwise, as published.
        normaliser_mm: Length that the error is divided by, such as the scan's interocular distance; it has no unit
            then.

    Returns:
        The error [mm].

    Raises:
        InputError: As :func:`compare_surfaces`, or the normaliser is not positive.

    Example:
        >>> import trimesh
        >>> ball, larger = (trimesh.creation.icosphere(subdivisions=4, radius=radius) for radius in (100.0, 102.0))
        >>> round(armse(ball.vertices, ball.faces, larger.vertices, larger.faces), 1)
        2.0

    Source: Wang et al., Digital Twin: Acquiring High-Fidelity 3D Avatar from a Single Image, 2019, section 5.2.
    """
    if normaliser_mm is not None and not normaliser_mm > 0.0:
        raise InputError(f"normaliser_mm: is {normaliser_mm}; give a length.")
    found = compare_surfaces(
        vertices, faces, scan_vertices, scan_faces, landmarks=landmarks, nose_tip=nose_tip, crop_mm=crop_mm, icp=icp
    )
    return float(np.mean(rms_both_ways(found, by_area=by_area))) / (1.0 if normaliser_mm is None else normaliser_mm)


def rms_both_ways(comparison: Comparison, *, by_area: bool) -> tuple[float, float]:
    """Compute RMSE(prediction -> scan) and RMSE(scan -> prediction) of a comparison.

    Args:
        comparison: Prediction and scan, aligned and cropped.
        by_area: Whether a vertex counts by its faces' areas; each counts once otherwise.

    Returns:
        Both [mm].
    """
    areas = (comparison.prediction_areas, comparison.scan_areas) if by_area else (None, None)
    there, back = map(root_mean_square, (comparison.prediction_mm, comparison.scan_mm), areas)
    return there, back


def root_mean_square(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None) -> float:
    """Root mean square of what is not NaN.

    Args:
        values: Distances, NaN where they do not count.
        weights: Weight of each, or None for equal ones.

    Returns:
        One number in their unit.
    """
    counts = np.isfinite(values)
    weights = np.ones(len(values)) if weights is None else weights
    return float(np.sqrt(np.sum(weights[counts] * values[counts] ** 2) / np.sum(weights[counts])))
