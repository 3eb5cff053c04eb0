"""A convolutional network as data: a static list of operations over named arrays, interpreted in plain JAX.

The shipped files (``assets/networks``) hold the graphs of MediaPipe's face landmarker in this form. An array keeps the
layout it has there: a leading axis of one, rows, columns, channels. Letters: h w rows and columns, c channels.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from digitaltwin.io import load_arrays


class Operation(NamedTuple):
    """One step of a network. Static, hence hashable."""

    kind: str
    """A key of ``OPERATIONS``."""
    inputs: tuple[str, ...]
    """Names of its operands: weights, the network's inputs or earlier outputs."""
    output: str
    options: tuple[tuple[str, Any], ...]
    """Keyword arguments of the function that does it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Network:
    """Weights (the pytree's leaves) and the static graph over them."""

    weights: Mapping[str, Float[Array, "..."]]
    operations: tuple[Operation, ...] = field(metadata={"static": True})
    inputs: tuple[str, ...] = field(metadata={"static": True})
    outputs: tuple[str, ...] = field(metadata={"static": True})


def load_network(path: Path) -> Network:
    """Read a network; the stored float16 weights become float32.

    Args:
        path: A file written by ``digitaltwin.perception._task_file``.

    Raises:
        InputError: No such file, or not a whole ``.npz``.
        KeyError: The file's graph is missing or holds an operation unknown here.
    """
    arrays, metadata = load_arrays(path)
    graph = metadata["graph"]
    operations = tuple(
        Operation(
            kind=entry.pop("kind"),
            inputs=tuple(entry.pop("inputs")),
            output=entry.pop("output"),
            options=_hashable(entry),
        )
        for entry in graph["operations"]
    )
    unknown = {operation.kind for operation in operations} - OPERATIONS.keys()
    if unknown:
        raise KeyError(f"{path}: unknown operations {sorted(unknown)}")
    weights = jax.device_put({name: array.astype(np.float32) for name, array in arrays.items()})
    return Network(weights, operations, tuple(graph["inputs"]), tuple(graph["outputs"]))


def apply_network(network: Network, *inputs: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    """Run a network.

    Args:
        network: What to run.
        *inputs: Its inputs, with the shapes it was made for.

    Returns:
        Its outputs, in the order of ``network.outputs``.
    """
    values = {**network.weights, **dict(zip(network.inputs, inputs, strict=True))}
    for operation in network.operations:
        operands = [values[name] for name in operation.inputs]
        values[operation.output] = OPERATIONS[operation.kind](*operands, **dict(operation.options))
    return tuple(values[name] for name in network.outputs)


def _hashable(value: Any) -> Any:
    """JSON values as nested tuples, which can be static arguments."""
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


def _conv(x, kernel, bias, *, stride, padding, relu=False):
    # HIGHEST: the accelerators' default rounds the operands to 8 or 11 bits, which moves mesh points by 0.1 px.
    y = lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return _activated(y + bias, relu)


def _depthwise(x, kernel, bias, *, stride, padding, relu=False):
    # A sum of shifted products: on a CPU it takes a quarter of the time of XLA's grouped convolution.
    height, width, channels = kernel.shape
    taps = kernel.reshape(height * width, 1, 1, 1, channels)
    shifted = _shifted(x, (height, width), stride, padding, fill=0.0)
    return _activated(functools.reduce(jnp.add, [tap * view for tap, view in zip(taps, shifted)], bias), relu)


def _max_pool(x, *, window, stride, padding):
    # Not lax.reduce_window: on the CPU, XLA (jaxlib 0.10.2) compiles the face detector with it to a wrong result.
    return functools.reduce(jnp.maximum, _shifted(x, window, stride, padding, fill=-jnp.inf))


def _shifted(x, window, stride, padding, *, fill):
    """For each position in a window, row by row: what a sliding window sees there, [1 rows columns c]."""
    borders = lax.padtype_to_pads(x.shape[1:3], window, stride, padding)
    x = jnp.pad(x, ((0, 0), *borders, (0, 0)), constant_values=fill)
    rows, columns = ((size - extent) // step for size, extent, step in zip(x.shape[1:3], window, stride))
    return [
        x[:, i : i + rows * stride[0] + 1 : stride[0], j : j + columns * stride[1] + 1 : stride[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def _activated(y, relu):
    return jax.nn.relu(y) if relu else y


OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "max_pool": _max_pool,
    "prelu": lambda x, slope: jnp.where(x > 0, x, slope * x),
    "relu": jax.nn.relu,
    "logistic": jax.nn.sigmoid,
    "neg": jnp.negative,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "add": lambda x, y, relu=False: _activated(x + y, relu),
    "sub": lambda x, y, relu=False: _activated(x - y, relu),
    "mul": lambda x, y, relu=False: _activated(x * y, relu),
    "div": lambda x, y, relu=False: _activated(x / y, relu),
    "squared_difference": lambda x, y: jnp.square(x - y),
    "mean": lambda x, axes, keepdims: jnp.mean(x, axes, keepdims=keepdims),
    "sum": lambda x, axes, keepdims: jnp.sum(x, axes, keepdims=keepdims),
    "pad": lambda x, widths: jnp.pad(x, widths),
    "reshape": lambda x, shape: jnp.reshape(x, shape),
    "transpose": lambda x, axes: jnp.transpose(x, axes),
    "concatenate": lambda *xs, axis: jnp.concatenate(xs, axis),
    "slice": lambda x, start, stop, shape: lax.slice(x, start, stop).reshape(shape),
}
"""The function of each kind of operation, as in TensorFlow Lite."""
