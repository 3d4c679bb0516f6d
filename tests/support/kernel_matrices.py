"""Kernels as matrices in memory, behind the protocol of those that are computed: tiles of a file would stand so too."""

from dataclasses import dataclass

import numpy as np

from ntkhpc import kernels
from ntkhpc.iterative import LawKernels
from ntkhpc.kernel_products import Kernel, Vectors
from ntkhpc.networks import MLP


@dataclass(frozen=True)
class Matrices:
    ntk: np.ndarray
    nngp: np.ndarray
    operations: float = 0.0

    @property
    def size(self) -> int:
        return len(self.ntk)

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        return {kernel: getattr(self, kernel) @ block for kernel, block in vectors.items()}

    def transposed(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        return {kernel: getattr(self, kernel).T @ block for kernel, block in vectors.items()}

    def columns(self, kernel: Kernel, indices: np.ndarray) -> np.ndarray:
        return getattr(self, kernel)[:, indices]

    def diagonal(self, kernel: Kernel) -> np.ndarray:
        return np.diag(getattr(self, kernel)).copy()


def matrices(network: MLP, x: np.ndarray, other: np.ndarray | None = None) -> Matrices:
    nngp, ntk = kernels.nngp_ntk(network, x, other)
    return Matrices(ntk, nngp)


def law_kernels(network: MLP, x_train: np.ndarray, x_test: np.ndarray) -> LawKernels:
    return LawKernels(matrices(network, x_train), matrices(network, x_train, x_test), matrices(network, x_test))
