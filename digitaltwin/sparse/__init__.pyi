from ._dissection import factor_dissected as factor_dissected
