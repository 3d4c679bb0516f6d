"""How the tiles of the kernels of a training set and of its test points are cut, counted and ordered."""

from bisect import bisect_right
from dataclasses import dataclass

STRIP = 512
"""Rows of a piece of work. It fixes the bits."""


def strips(rows: int) -> int:
    """How many pieces of work so many rows are: no more threads are of use."""
    return -(-rows // STRIP)


@dataclass(frozen=True)
class Blocks:
    """How n training and m test inputs are cut into blocks of `size` rows."""

    n: int
    m: int
    size: int

    @property
    def train(self) -> int:
        return -(-self.n // self.size)

    @property
    def test(self) -> int:
        return -(-self.m // self.size)

    def column(self, j: int) -> range:
        """The block rows of the tiles of a column: the diagonal one, those below it, those of the test inputs."""
        return range(j, self.train + self.test)

    def number(self, i: int, j: int) -> int:
        """The number of the tile (i, j) when tiles are counted column after column."""
        return j * (self.train + self.test) - j * (j - 1) // 2 + i - j

    def span(self, j: int) -> tuple[int, int]:
        """The half-open range of the numbers of a column's tiles."""
        return self.number(j, j), self.number(j, j) + len(self.column(j))

    def place(self, number: int) -> tuple[int, int]:
        """The block row and the block column of a tile."""
        if not 0 <= number < self.tiles:
            raise IndexError(f"there is no tile {number}")
        j = bisect_right(range(self.train), number, key=lambda j: self.number(j, j)) - 1
        return j + number - self.number(j, j), j

    @property
    def tiles(self) -> int:
        return self.span(self.train - 1)[1]

    def height(self, i: int) -> int:
        """How many rows a block row has: of the last training and of the last test inputs there may be fewer."""
        rows = self.rows(i)
        return rows.stop - rows.start

    def rows(self, i: int) -> slice:
        """The training rows of a block row, or the test rows, counted by themselves."""
        inner, end = (i, self.n) if i < self.train else (i - self.train, self.m)
        return slice(inner * self.size, min((inner + 1) * self.size, end))
