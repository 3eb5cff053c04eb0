"""A sparse symmetric system, factored once and solved for many right-hand sides: dense, or by nested dissection.

Nested dissection (George 1973) cuts the unknowns into many small *leaves* that a few *separator* unknowns keep apart,
so that no leaf's equations name another leaf's unknowns. Each group of blocks that are independent of one another is
eliminated at once. With B a block and N its neighbours among what remains,

    x_B = A_BB^-1 (b_B - A_BN x_N)          S_NN = A_NN - A_NB A_BB^-1 A_BN          (the Schur complement)

the solve runs down the levels, ``b_N -= G' b_B`` with ``G = A_BB^-1 A_BN``, through a dense system for the last
separators, and back up, ``x_B = A_BB^-1 b_B - G x_N``. All blocks of a level have one padded size: batched matrix
products with static shapes, which ``jit``, ``vmap`` and reverse mode take as they are. For a mesh of 2,700 vertices
that is a ninth of the dense product's work; blocks are inverted in float64 on the host.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.lax import Precision
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import maximum_bipartite_matching

from digitaltwin.sparse._blocked import principal_coordinates

LEAF, LAST = 80, 600
"""Unknowns of a leaf and of the last, dense system at most: measured best on CPUs, and flat around it."""


class DenseFactor(NamedTuple):
    """The inverse itself: 2 n^2 operations a column, in the one shape that every accelerator likes best."""

    inverse: Float[Array, "n n"]

    def solve(self, right: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """``A^-1 b`` for d columns."""
        return jnp.matmul(self.inverse, right, precision=Precision.HIGHEST)

    def multiply_adds(self, *, padding: bool = True) -> int:
        """Multiply-adds of :meth:`solve` for each column, with or without those by zero."""
        return self.inverse.size if padding else int(jnp.count_nonzero(self.inverse))


class Level(NamedTuple):
    """Blocks that are eliminated together.

    Letters: p blocks, s unknowns a block, m neighbours a block, l unknowns before the elimination, n after it, t blocks
    that have a neighbour in common.
    """

    inverse: Float[Array, "p s s"]
    """``A_BB^-1``, zero where a block is padded."""
    coupling: Float[Array, "p s m"]
    """``G = A_BB^-1 A_BN``, zero where padded."""
    unknowns: Int[Array, "p s"]
    """Which of the l each block holds; 0 where padded."""
    neighbours: Int[Array, "p m"]
    """Which of the n each block's neighbours are; 0 where padded."""
    kept: Int[Array, " n"]
    """Which of the l remain."""
    touching: Int[Array, "n t"]
    """Where among the ``p m`` neighbours each that remains stands; beyond the end where it stands no more."""
    places: Int[Array, " l"]
    """Where each of the l stands among ``p s`` block unknowns followed by the n."""


class DissectedFactor(NamedTuple):
    """A factorisation by nested dissection."""

    levels: tuple[Level, ...]
    last: DenseFactor

    def solve(self, right: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """``A^-1 b`` for d columns."""
        width, own = right.shape[1], []
        for level in self.levels:
            mine = right[level.unknowns]
            own.append(jnp.einsum("pst,ptd->psd", level.inverse, mine, precision=Precision.HIGHEST))
            pushed = jnp.einsum("psm,psd->pmd", level.coupling, mine, precision=Precision.HIGHEST).reshape(-1, width)
            received = pushed.at[level.touching].get(mode="fill", fill_value=0)
            right = right[level.kept] - jnp.sum(received, axis=1)
        solution = self.last.solve(right)
        for level, block in zip(self.levels[::-1], own[::-1]):
            given = solution[level.neighbours]
            block = block - jnp.einsum("psm,pmd->psd", level.coupling, given, precision=Precision.HIGHEST)
            solution = jnp.concatenate([block.reshape(-1, width), solution])[level.places]
        return solution

    def multiply_adds(self, *, padding: bool = True) -> int:
        """Multiply-adds of :meth:`solve` for each column, with or without those by zero."""
        # A level's coupling is used on the way down and on the way up.
        blocks = [block for level in self.levels for block in (level.inverse, level.coupling, level.coupling)]
        own = sum(block.size if padding else int(jnp.count_nonzero(block)) for block in blocks)
        return own + self.last.multiply_adds(padding=padding)


Factor = DenseFactor | DissectedFactor


def factor_dense(matrix: sp.csr_array, *, dtype: Any = jnp.float32) -> DenseFactor:
    """Invert a symmetric matrix on the host in float64.

    Args:
        matrix: [n n], sparse, regular.
        dtype: Floating-point type of the inverse.

    Returns:
        Its factor.

    Example:
        >>> import jax.numpy as jnp
        >>> import scipy.sparse as sp
        >>> factor_dense(sp.csr_array(2.0 * sp.eye_array(2))).solve(jnp.ones((2, 1))).ravel().tolist()
        [0.5, 0.5]
    """
    inverse = np.linalg.inv(matrix.toarray())
    return DenseFactor(jnp.asarray((inverse + inverse.T) / 2, dtype))


def factor_dissected(
    matrix: sp.csr_array,
    positions: Float[np.ndarray, "n 3"],
    *,
    leaf: int = LEAF,
    last: int = LAST,
    dtype: Any = jnp.float32,
) -> DissectedFactor:
    """Factor a sparse symmetric positive definite matrix by nested dissection, on the host in float64.

    Args:
        matrix: [n n]; an entry couples the unknowns of nearby points.
        positions: A point for each unknown, along which the cuts are laid.
        leaf: Unknowns of a leaf at most.
        last: Separators are eliminated until at most this many unknowns remain.
        dtype: Floating-point type of the blocks.

    Returns:
        The factor.

    Example:
        >>> import numpy as np, jax.numpy as jnp
        >>> from scipy.sparse import diags_array
        >>> chain = diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(200, 200)).tocsr()
        >>> along = np.arange(200.0)[:, None] * [1.0, 0.0, 0.0]
        >>> factor = factor_dissected(chain, along, leaf=20, last=10)
        >>> bool(jnp.allclose(factor.solve(jnp.asarray(chain @ np.ones((200, 1)))), 1.0, atol=1e-5))
        True
    """
    remaining = sp.csr_array(matrix, dtype=np.float64)
    count = len(positions)
    names = np.arange(count)  # of the unknowns that remain
    levels = []
    for blocks in _elimination_groups(remaining, np.asarray(positions, np.float64), leaf):
        if len(names) <= max(last, sum(map(len, blocks))):
            break
        number = np.full(count, -1)
        number[names] = np.arange(len(names))
        level, remaining, kept = _eliminate(remaining, [number[block] for block in blocks], dtype)
        levels.append(level)
        names = names[kept]
    return DissectedFactor(tuple(levels), factor_dense(remaining, dtype=dtype))


def _eliminate(
    matrix: sp.csr_array, blocks: list[np.ndarray], dtype: Any
) -> tuple[Level, sp.csr_array, Int[np.ndarray, " n"]]:
    """Eliminate independent blocks: the level, the Schur complement, and which unknowns it is over."""
    count = len(matrix.indptr) - 1
    kept = np.setdiff1d(np.arange(count), np.concatenate(blocks))
    number = np.full(count, -1)
    number[kept] = np.arange(len(kept))
    rows = [matrix[block] for block in blocks]
    neighbours = [np.setdiff1d(row.indices, block) for row, block in zip(rows, blocks)]
    s, m = max(map(len, blocks)), max(1, max(map(len, neighbours)))
    inverse, coupling = np.zeros((len(blocks), s, s)), np.zeros((len(blocks), s, m))
    unknowns, beside = np.zeros((len(blocks), s), np.int32), np.zeros((len(blocks), m), np.int32)
    places = np.empty(count, np.int32)
    places[kept] = len(blocks) * s + np.arange(len(kept))
    touching: list[list[int]] = [[] for _ in kept]
    updates = []
    for p, (block, row, around) in enumerate(zip(blocks, rows, neighbours)):
        a, b = len(block), len(around)
        outward = row[:, around].toarray()
        inverse[p, :a, :a] = np.linalg.inv(row[:, block].toarray())
        coupling[p, :a, :b] = inverse[p, :a, :a] @ outward
        unknowns[p, :a], beside[p, :b] = block, number[around]
        places[block] = p * s + np.arange(a)
        for slot, remaining in enumerate(number[around]):
            touching[remaining].append(p * m + slot)
        update = outward.T @ coupling[p, :a, :b]
        updates.append((update.ravel(), (np.repeat(number[around], b), np.tile(number[around], b))))
    values = np.concatenate([update[0] for update in updates])
    where = tuple(np.concatenate([update[1][axis] for update in updates]) for axis in range(2))
    schur = sp.csr_array(matrix[kept][:, kept] - sp.coo_array((values, where), shape=(len(kept), len(kept))).tocsr())
    table = np.full((len(kept), max(1, max(map(len, touching), default=1))), len(blocks) * m, np.int32)
    for row, slots in zip(table, touching):
        row[: len(slots)] = slots
    arrays = (unknowns, beside, kept.astype(np.int32), table, places)
    blocks_on_device = (jnp.asarray(inverse, dtype), jnp.asarray(coupling, dtype))
    return Level(*blocks_on_device, *map(jnp.asarray, arrays)), schur, kept


def _elimination_groups(matrix: sp.csr_array, positions: np.ndarray, leaf: int) -> list[list[np.ndarray]]:
    """The leaves, then the separators from the last cuts to the first; the blocks of a group are independent."""
    parts, separators = [np.arange(len(positions))], []
    while max(map(len, parts)) > leaf:
        cuts = [_cut(matrix, positions, part) for part in parts]
        separators.append([separator for separator, *_ in cuts if len(separator)])
        parts = [half for _, *halves in cuts for half in halves if len(half)]
    return [parts, *(group for group in separators[::-1] if group)]


def _cut(matrix: sp.csr_array, positions: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fewest unknowns whose removal parts the two halves of a part, and what is left of the halves.

    The part is halved across each of its two longest principal axes; the entries between the halves are the edges of a
    bipartite graph, and its smallest vertex cover (König: as many as the largest matching) separates them.
    """
    inner = matrix[part][:, part].tocoo()
    coordinates = principal_coordinates(positions[part])
    best: tuple[np.ndarray, np.ndarray] | None = None
    for along in coordinates.T[:2]:
        first = np.zeros(len(part), bool)
        first[np.argsort(along, kind="stable")[: len(part) // 2]] = True
        between = first[inner.row] & ~first[inner.col]
        cover = _vertex_cover(inner.row[between], inner.col[between], len(part))
        if best is None or len(cover) < len(best[0]):
            best = cover, first
    assert best is not None
    separator = np.zeros(len(part), bool)
    separator[best[0]] = True
    return part[separator], part[best[1] & ~separator], part[~best[1] & ~separator]


def _vertex_cover(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """The smallest set of unknowns that holds an end of every edge (rows[i], columns[i]) of a bipartite graph."""
    graph = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    partner = maximum_bipartite_matching(graph, perm_type="column")  # of each row, -1 where it has none
    row_of = np.full(count, -1)
    row_of[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    # König: from the unmatched rows along alternating paths; the cover is the rows not reached and the columns reached.
    reached_rows, reached_columns = np.zeros(count, bool), np.zeros(count, bool)
    front = np.setdiff1d(rows, np.flatnonzero(partner >= 0))
    while len(front):
        reached_rows[front] = True
        ahead = np.unique(graph[front].indices)
        ahead = ahead[~reached_columns[ahead]]
        reached_columns[ahead] = True
        front = row_of[ahead]
        front = front[(front >= 0) & ~reached_rows[front]]
    ends = np.zeros(count, bool)
    ends[rows] = True
    return np.flatnonzero((ends & ~reached_rows) | reached_columns)
