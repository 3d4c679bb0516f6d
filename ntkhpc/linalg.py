"""Eigenvalues of symmetric matrices of any size that fits in memory.

SciPy's LAPACK counts in 32 bits. Its dsyevd (divide and conquer) wants a workspace of 1 + 6 n + 2 n^2 numbers and
addresses its parts by n^2: from n = 32,767 on both overflow and it computes in memory that is not its own. dsyevr wants
33 n. Neither dpotrf, dtrtrs, dpotrs nor dsygst has a workspace, and BLAS addresses matrices in 64 bits: they are right
as long as n itself fits in 32 bits.
"""

import numpy as np
import scipy.linalg

LARGEST_EVD = 32_766
"""Largest n for which 1 + 6 n + 2 n^2 fits in 32 bits with a sign."""


def eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n,), ascending, and eigenvectors (n, n), one a column, of a finite symmetric matrix (n, n)."""
    driver = "evd" if len(matrix) <= LARGEST_EVD else "evr"
    values, vectors = scipy.linalg.eigh(matrix, driver=driver, check_finite=False)
    return values, vectors
