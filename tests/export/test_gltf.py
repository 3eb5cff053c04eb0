import json
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pygltflib
import pytest
import trimesh

from digitaltwin.export import Material, Primitive, head_primitives, write_glb
from digitaltwin.types import InputError, Mesh

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def primitives(head):
    texture = np.random.default_rng(0).uniform(size=(64, 64, 3)).astype(np.float32)
    return head_primitives(head, head.mean, head.parts_mean, texture=texture, eye_texture=texture[:32, :32])


@pytest.fixture(scope="module")
def glb(tmp_path_factory, head, primitives):
    path = tmp_path_factory.mktemp("export") / "avatar.glb"
    write_glb(path, primitives, head.expression_names)
    return path


def read(document, accessor_index):
    """One accessor's values, sparse ones laid out."""
    accessor = document.accessors[accessor_index]
    blob = document.binary_blob()
    kinds = {5123: np.uint16, 5125: np.uint32, 5126: np.float32}
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor.type]

    def values(view_index, component, count, columns):
        view = document.bufferViews[view_index]
        return np.frombuffer(blob, kinds[component], count * columns, view.byteOffset).reshape(count, columns)

    if accessor.bufferView is not None:
        return values(accessor.bufferView, accessor.componentType, accessor.count, width)
    dense = np.zeros((accessor.count, width), np.float32)
    sparse = accessor.sparse
    index = values(sparse.indices.bufferView, sparse.indices.componentType, sparse.count, 1)[:, 0]
    assert np.all(np.diff(index.astype(int)) > 0)
    dense[index] = values(sparse.values.bufferView, accessor.componentType, sparse.count, width)
    return dense


def test_validator_finds_no_error(glb):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = """
        const validator = require('gltf-validator'), fs = require('fs');
        validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
            .then(report => console.log(JSON.stringify(report.issues)));
    """
    run = subprocess.run(["node", "-e", script, str(glb)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "Cannot find module 'gltf-validator'" in run.stderr:
        pytest.skip("gltf-validator is not installed: npm install --no-save gltf-validator")
    issues = json.loads(run.stdout)
    assert issues["numErrors"] == 0, issues["messages"]
    assert issues["numWarnings"] == 0, issues["messages"]


def test_loads_in_trimesh_with_the_head_as_it_is(glb, head, primitives):
    scene = trimesh.load(glb)
    meshes = list(scene.geometry.values())
    assert len(meshes) == len(primitives) == 4
    assert sum(len(mesh.faces) for mesh in meshes) == len(head.faces) + len(head.parts_faces)
    # Metres, the head's own axes: +y up, +z to the front.
    extent = np.asarray(head.mean).max(axis=0) - np.asarray(head.mean).min(axis=0)
    np.testing.assert_allclose(meshes[0].extents * 1000, extent, rtol=1e-4)
    corners = np.asarray(head.mean)[np.asarray(head.faces)]
    written = meshes[0].triangles[: len(head.faces)] * 1000
    np.testing.assert_allclose(written, corners, atol=1e-3)
    # trimesh turns v upward again.
    uv = meshes[0].visual.uv[meshes[0].faces[: len(head.faces)]]
    np.testing.assert_allclose(uv, np.asarray(head.uv)[np.asarray(head.uv_faces)], atol=1e-5)


def test_fifty_two_named_targets_move_the_head_as_the_model_does(glb, head, primitives):
    document = pygltflib.GLTF2().load(glb)
    mesh = document.meshes[0]
    assert mesh.extras["targetNames"] == list(head.expression_names)
    assert len(head.expression_names) == 52
    skin = mesh.primitives[0]
    assert all(len(primitive.targets) == 52 for primitive in mesh.primitives)
    faces = read(document, skin.indices).reshape(-1, 3)[: len(head.faces)]
    for number, target in enumerate(skin.targets):
        moved = read(document, target["POSITION"])
        expected = np.asarray(head.expressions[number])[np.asarray(head.faces)]
        np.testing.assert_allclose(moved[faces] * 1000, expected, atol=2e-4)
        accessor = document.accessors[target["POSITION"]]
        np.testing.assert_allclose(accessor.min, moved.min(axis=0), atol=1e-9)
        np.testing.assert_allclose(accessor.max, moved.max(axis=0), atol=1e-9)
    largest = [
        max(np.abs(read(document, primitive.targets[number]["POSITION"])).max() for primitive in mesh.primitives)
        for number in range(52)
    ]
    assert min(largest) > 1e-4  # metres: every target moves something


def test_seams_are_split_and_keep_one_normal(glb, head):
    document = pygltflib.GLTF2().load(glb)
    attributes = document.meshes[0].primitives[0].attributes
    positions, normals = read(document, attributes.POSITION), read(document, attributes.NORMAL)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    _, first, inverse = np.unique(positions, axis=0, return_index=True, return_inverse=True)
    assert len(first) < len(positions)
    agreement = np.sum(normals * normals[first][inverse.reshape(-1)], axis=1)
    # Except on the lips' and lids' edges, where skin and interior each have a vertex of their own.
    assert np.mean(agreement < 0.999) < 0.05


def test_a_failed_write_leaves_the_old_file(tmp_path, head, primitives):
    path = tmp_path / "avatar.glb"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="52 targets, 1 names"):
        write_glb(path, primitives, ["smile"])
    with pytest.raises(InputError, match="cannot be written"):
        write_glb(tmp_path / "missing" / "avatar.glb", primitives, head.expression_names)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_target_that_moves_nothing_stays(tmp_path):
    corners = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]])
    face = np.array([[0, 1, 2]])
    displacements = np.zeros((2, 3, 3))
    displacements[1, 2] = [0, 0, 7.0]
    primitive = Primitive(Mesh(corners, face, corners[:, :2] / 100, face), displacements, Material("grey"))
    write_glb(tmp_path / "face.glb", [primitive], ["still", "moving"])
    document = pygltflib.GLTF2().load(tmp_path / "face.glb")
    still, moving = (read(document, t["POSITION"]) for t in document.meshes[0].primitives[0].targets)
    assert not still.any()
    np.testing.assert_allclose(moving, displacements[1] / 1000)


def test_many_vertices_get_wide_indices(tmp_path):
    side = 260
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(float)
    cell = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    faces = np.concatenate([cell[:, None] + [0, 1, side], cell[:, None] + [1, side + 1, side]])
    vertices = np.column_stack([grid, np.zeros(len(grid))])
    primitive = Primitive(Mesh(vertices, faces, grid / side), np.zeros((0, *vertices.shape)), Material("grid"))
    write_glb(tmp_path / "grid.glb", [primitive], [])
    mesh = trimesh.load(tmp_path / "grid.glb", force="mesh")
    assert mesh.faces.max() == side * side - 1
    assert mesh.area == pytest.approx((side - 1) ** 2 * 1e-6)


def test_normals_of_the_file_are_those_of_the_mesh(glb):
    document = pygltflib.GLTF2().load(glb)
    primitive = document.meshes[0].primitives[1]  # the eyes: two spheres
    positions, normals = (read(document, a) for a in (primitive.attributes.POSITION, primitive.attributes.NORMAL))
    right = positions[:, 0] < 0
    outward = positions[right] - (positions[right].min(axis=0) + positions[right].max(axis=0)) / 2
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert np.min(np.sum(outward * normals[right], axis=1)) > 0.9
    assert jnp.isfinite(normals).all()
