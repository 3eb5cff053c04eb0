import numpy as np
import pytest
import scipy.spatial
import trimesh

from digitaltwin.geometry._laplacian import cotangent_stiffness, lumped_mass, weighted_laplacian
from digitaltwin.geometry._topology import boundary_vertices, edges

UNCLAMPED = -np.inf


@pytest.fixture(scope="module")
def patch():
    """A planar Delaunay mesh, tilted in space, on which no cotangent weight of an inner edge is negative."""
    plane = np.random.default_rng(0).uniform(-50, 50, size=(400, 2))
    faces = scipy.spatial.Delaunay(plane).simplices
    tilt, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return np.column_stack([plane, np.zeros(400)]) @ tilt, faces


def test_stiffness_is_symmetric_and_positive_on_the_head(head):
    stiffness = cotangent_stiffness(np.asarray(head.mean), np.asarray(head.faces))
    assert abs(stiffness - stiffness.T).max() < 1e-12
    i, j = edges(np.asarray(head.faces)).T
    assert stiffness[i, j].max() <= -1e-3, "every edge is held by at least the floor"
    # x'Cx = sum of c_ij (x_i - x_j)^2: with symmetry, weights above zero and zero row sums, C is positive semidefinite.
    np.testing.assert_allclose(stiffness @ np.ones(len(head.mean)), 0.0, atol=1e-10)


def test_the_head_has_negative_cotangents_that_the_floor_removes(head):
    pure = cotangent_stiffness(np.asarray(head.mean), np.asarray(head.faces), floor=UNCLAMPED)
    pure.setdiag(0)
    assert pure.max() > 0.01, "without them the floor would be an idle safeguard"


def test_linear_functions_on_a_plane_are_harmonic(patch):
    vertices, faces = patch
    stiffness = cotangent_stiffness(vertices, faces, floor=UNCLAMPED)
    inner = ~boundary_vertices(faces, len(vertices))
    scale = np.abs(stiffness).sum(axis=1).max() * 50
    assert np.abs((stiffness @ vertices)[inner]).max() < 1e-12 * scale


def test_dirichlet_energy_of_a_linear_function_is_its_slope_times_the_area(patch):
    vertices, faces = patch
    direction = vertices[faces[0, 1]] - vertices[faces[0, 0]]
    direction /= np.linalg.norm(direction)
    values = vertices @ direction
    energy = values @ (cotangent_stiffness(vertices, faces, floor=UNCLAMPED) @ values)
    assert energy == pytest.approx(lumped_mass(vertices, faces).sum(), rel=1e-10)


def test_masses_sum_to_the_area(head):
    mesh = trimesh.Trimesh(np.asarray(head.mean), np.asarray(head.faces), process=False)
    assert lumped_mass(mesh.vertices, mesh.faces).sum() == pytest.approx(mesh.area, rel=1e-9)


def test_spherical_harmonics_converge_to_their_eigenvalue():
    # On a sphere of radius r the function xy is an eigenfunction of the Laplace-Beltrami operator, of value 6 / r^2.
    radius, errors = 80.0, []
    for subdivisions in (2, 3, 4):
        sphere = trimesh.creation.icosphere(subdivisions, radius)
        harmonic = sphere.vertices[:, 0] * sphere.vertices[:, 1]
        energy = harmonic @ (cotangent_stiffness(sphere.vertices, sphere.faces) @ harmonic)
        quotient = energy / np.sum(lumped_mass(sphere.vertices, sphere.faces) * harmonic**2)
        errors.append(abs(quotient * radius**2 / 6.0 - 1.0))
    assert errors[0] > 3.5 * errors[1] > 12.0 * errors[2]


def test_the_prior_belongs_to_the_surface_and_not_to_its_triangles():
    # Each refinement divides a graph Laplacian's |L d|^2 by four; this one stays.
    energies = []
    for subdivisions in (3, 4, 5):
        sphere = trimesh.creation.icosphere(subdivisions, 80.0)
        laplacian = weighted_laplacian(sphere.vertices, sphere.faces)
        bump = np.exp(-np.sum((sphere.vertices - [0, 0, 80.0]) ** 2, axis=1) / (2 * 25.0**2))
        moved = laplacian.operator @ bump
        # a |L d|_W^2 / a^2 is the integral of the squared Laplacian.
        energies.append(np.sum(laplacian.weights * moved**2) / laplacian.area_mm2)
    assert abs(energies[2] / energies[1] - 1.0) < abs(energies[1] / energies[0] - 1.0) < 0.1
    assert weighted_laplacian(sphere.vertices, sphere.faces).weights.mean() == pytest.approx(1.0)


def test_edges_and_boundary(head):
    sphere = trimesh.creation.icosphere(2)
    assert len(sphere.vertices) - len(edges(sphere.faces)) + len(sphere.faces) == 2, "Euler's formula"
    assert not boundary_vertices(sphere.faces, len(sphere.vertices)).any()
    faces = np.asarray(head.faces)
    mesh = trimesh.Trimesh(np.asarray(head.mean), faces, process=False)
    assert np.array_equal(edges(faces), np.unique(mesh.edges_sorted, axis=0))
    assert boundary_vertices(faces, len(head.mean)).any(), "the neck is open"
