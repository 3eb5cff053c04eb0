"""The interpreter against the reference runtime, and its window operations against a float64 referee."""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digitaltwin.io.assets import asset_path
from digitaltwin.perception import _task_file as networks
from digitaltwin.perception._face_mesh import EXPRESSION_POINTS
from digitaltwin.perception._network import OPERATIONS, apply_network

# What agreement means for each output, in the network's own unit: 1e-3 input pixels; log odds; scores.
TOLERANCES = {"face_detector": (1e-3, 1e-2), "face_mesh": (1e-3, 1e-3, 1e-5), "expressions": (1e-4,)}


def network_inputs(name, photo):
    """Something like what the network sees in the chain; alignment does not matter here."""
    face = jax.image.resize(photo[100:400, 100:400], {"face_detector": (128, 128, 3)}.get(name, (256, 256, 3)), "cubic")
    if name == "face_detector":
        return np.asarray(2 * face - 1)[None]
    if name == "face_mesh":
        return np.asarray(face)[None]
    canonical = np.random.default_rng(len(photo)).normal(size=(478, 2)) * 50 + 200
    return canonical[None, EXPRESSION_POINTS].astype(np.float32)


@pytest.mark.parametrize("name", networks.GRAPHS)
def test_agrees_with_litert(name, task_file, perception, astronaut, hopper):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    with zipfile.ZipFile(task_file) as task:
        interpreter = interpreter_module.Interpreter(model_content=task.read(networks.GRAPHS[name]))
    interpreter.allocate_tensors()
    network = dict(zip(networks.GRAPHS, perception))[name]
    for photo in (astronaut, hopper):
        x = network_inputs(name, photo)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        reference = {f"t{output['index']}": output["index"] for output in interpreter.get_output_details()}
        # Compiled, as it is used: a wrong fusion would not show operation by operation.
        outputs = jax.jit(apply_network)(network, jnp.asarray(x))
        for label, ours, tolerance in zip(network.outputs, outputs, TOLERANCES[name], strict=True):
            theirs = interpreter.get_tensor(reference[label])
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=0)


def test_shipped_files_are_what_the_source_gives(task_file, tmp_path):
    pytest.importorskip("tflite")
    for built in networks.build_networks(task_file, tmp_path):
        assert built.read_bytes() == asset_path(f"networks/{built.name}").read_bytes(), built.name


def test_vmap_equals_a_loop(perception, astronaut, hopper):
    crops = jnp.stack([network_inputs("face_mesh", photo) for photo in (astronaut, hopper)])
    batched = jax.jit(jax.vmap(apply_network, (None, 0)))(perception.face_mesh, crops)
    for i, crop in enumerate(crops):
        for one, many in zip(jax.jit(apply_network)(perception.face_mesh, crop), batched):
            np.testing.assert_allclose(many[i], one, atol=1e-3)


def windows(x, extent, stride, padding, fill):
    """Every window of a sliding operation, by TensorFlow's rule for padding, in float64: [rows columns a b c]."""
    x = np.asarray(x[0], np.float64)
    for axis in (0, 1):
        size = x.shape[axis]
        count = -(-size // stride[axis]) if padding == "SAME" else (size - extent[axis]) // stride[axis] + 1
        total = max((count - 1) * stride[axis] + extent[axis] - size, 0) if padding == "SAME" else 0
        border = [(0, 0)] * x.ndim
        border[axis] = (total // 2, total - total // 2)
        x = np.pad(x, border, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(0, 1))[:: stride[0], :: stride[1]]
    return np.moveaxis(view, 2, -1)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("size", "extent", "stride"), [((8, 8), (3, 3), (2, 2)), ((7, 10), (2, 2), (1, 1)), ((9, 8), (5, 4), (2, 1))]
)
def test_window_operations(size, extent, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, *size, 3)).astype(np.float32)
    kernel = rng.normal(size=(*extent, 3)).astype(np.float32)
    bias = rng.normal(size=(1, 1, 1, 3)).astype(np.float32)
    y = OPERATIONS["depthwise"](jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), stride=stride, padding=padding)
    expected = np.einsum("rcabk,abk->rck", windows(x, extent, stride, padding, 0.0), kernel.astype(float)) + bias[0]
    np.testing.assert_allclose(y[0], expected, atol=1e-5)
    y = OPERATIONS["max_pool"](jnp.asarray(x), window=extent, stride=stride, padding=padding)
    np.testing.assert_allclose(y[0], windows(x, extent, stride, padding, -np.inf).max((2, 3)))
