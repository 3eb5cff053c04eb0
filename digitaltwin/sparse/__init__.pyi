from ._blocked import BlockedMatrix as BlockedMatrix
from ._blocked import block_matrix as block_matrix
from ._blocked import patches_of as patches_of
from ._dissection import factor_dense as factor_dense
from ._dissection import factor_dissected as factor_dissected
