"""Sparse matrices as dense blocks: what a mesh operator looks like to a device that is good at small matrix products.

An operator on a mesh (a Laplacian, a gradient, a divergence) has few entries a row. Gathering them one by one costs a
CPU ten times what the products cost; but the rows of a patch of forty neighbouring vertices together read hardly more
columns than there are rows in three such patches. So the rows are cut into patches, and each keeps the columns it reads
as one dense block: a batched matrix product with static shapes, and a batch of right-hand sides makes its matrices
wider at no further gathering.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

PATCH = 48
"""Rows or vertices a patch: larger ones multiply more zeros, smaller ones read more columns twice."""


class BlockedMatrix(NamedTuple):
    """A sparse matrix [n m] as dense blocks.

    Letters: p patches, r rows a patch, c columns a patch, g runs of columns a patch.
    """

    blocks: Float[Array, "p r c"]
    """The entries of each patch's rows at its columns; zero where a patch is padded."""
    runs: Int[Array, "p g"]
    """The columns that each patch reads, as runs of ``c / g`` neighbours (the three of a vertex, say): run k is columns
    ``k c / g`` and on; 0 where padded."""
    places: Int[Array, " n"]
    """Where each row of the matrix stands among the ``p r`` rows of the blocks."""

    def apply(self, values: Float[Array, "m d"]) -> Float[Array, "n d"]:
        """Multiply with d columns, at full precision on every device.

        Args:
            values: The columns.

        Returns:
            The product.
        """
        patches, _, read = self.blocks.shape
        run = read // self.runs.shape[1]
        gathered = values.reshape(-1, run * values.shape[1])[self.runs].reshape(patches, read, values.shape[1])
        products = jnp.einsum("prc,pcd->prd", self.blocks, gathered, precision=Precision.HIGHEST)
        return products.reshape(-1, values.shape[1])[self.places]

    def multiply_adds(self, *, padding: bool = True) -> int:
        """Count the multiply-adds of :meth:`apply` for each column of the values.

        Args:
            padding: Whether those by zero count.

        Returns:
            Their number.
        """
        return self.blocks.size if padding else int(jnp.count_nonzero(self.blocks))


def block_matrix(
    matrix: sp.csr_array, patches: list[Int[np.ndarray, " _"]], *, run: int = 1, dtype: Any = jnp.float32
) -> BlockedMatrix:
    """Cut a sparse matrix into dense blocks, on the host.

    Args:
        matrix: [n m].
        patches: Rows of each patch; every row in exactly one.
        run: Length of the runs in which columns are read; m is a multiple of it.
        dtype: Floating-point type of the blocks.

    Returns:
        The same matrix.

    Raises:
        ValueError: A row is in no patch, or in several.

    Example:
        >>> import numpy as np, jax.numpy as jnp
        >>> from scipy.sparse import csr_array
        >>> matrix = csr_array(np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]))
        >>> block_matrix(matrix, [np.array([1]), np.array([0])]).apply(jnp.ones((3, 1))).tolist()
        [[3.0], [3.0]]
    """
    count = len(matrix.indptr) - 1
    if not np.array_equal(np.sort(np.concatenate(patches)), np.arange(count)):
        raise ValueError("patches: every row has to be in exactly one of them.")
    parts = [matrix[patch] for patch in patches]
    read = [np.unique(part.indices // run) for part in parts]
    rows, most = max(map(len, patches)), max(1, max(map(len, read)))
    runs = np.zeros((len(patches), most), np.int32)
    blocks = np.zeros((len(patches), rows, most * run))
    places = np.empty(count, np.int32)
    for number, (patch, part, runs_read) in enumerate(zip(patches, parts, read)):
        columns = (run * runs_read[:, None] + np.arange(run)).ravel()
        runs[number, : len(runs_read)] = runs_read
        blocks[number, : len(patch), : len(columns)] = part[:, columns].toarray()
        places[patch] = number * rows + np.arange(len(patch))
    return BlockedMatrix(jnp.asarray(blocks, dtype), jnp.asarray(runs), jnp.asarray(places))


def patches_of(positions: Float[np.ndarray, "n 3"], *, size: int = PATCH) -> list[Int[np.ndarray, " _"]]:
    """Cut points into compact patches of nearly equal size, by halving along the longest principal axis.

    Args:
        positions: Points.
        size: No patch is larger.

    Returns:
        Indices of each patch's points.

    Example:
        >>> import numpy as np
        >>> [patch.tolist() for patch in patches_of(np.eye(3)[[0, 0, 0, 0]] * np.arange(4.0)[:, None], size=2)]
        [[0, 1], [2, 3]]
    """
    patches = [np.arange(len(positions))]
    while len(patches[0]) > size:  # halves differ by one at most, so the first is among the largest
        patches = [half for patch in patches for half in _halves(patch, positions)]
    return patches


def _halves(patch: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    along = principal_coordinates(positions[patch])[:, 0]
    order = np.argsort(along, kind="stable")
    middle = (len(patch) + 1) // 2
    return np.sort(patch[order[:middle]]), np.sort(patch[order[middle:]])


def principal_coordinates(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Coordinates of points along their principal axes, longest first, about their centroid."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return centred @ axes[:, ::-1]
