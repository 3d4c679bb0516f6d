"""What every source of data has: the fields of `[data]`, the words for its rows, its facts, its cost and its loader.

A source is one class in one file, and one line of `ntkhpc.data.sources`. Most of its methods have a default here.
"""

from pathlib import Path
from typing import Self

from ntkhpc.data.split import Split
from ntkhpc.phase.settings import Natural, Positive, Seed, Settings
from ntkhpc.references import Reference
from ntkhpc.words import count

SECONDS_TO_OPEN = 5.0
SECONDS_PER_NUMBER = 50e-9
"""To read a number from a file, and to convert it."""

MEBIBYTE = 2**20

FAINT = 0.01
"""An input whose spread is less than this share of the largest is hardly seen by a network."""


class Facts(Settings, frozen=True, kw_only=True):
    """What is known of data before they are loaded: columns, and of a user's files rows, bytes and checksums.

    The program finds them out, no user writes them. `sha256` has one checksum a file; it is what makes a study of
    changed files another study.
    """

    features: Positive
    outputs: Positive
    rows: Natural = 0
    bytes: Natural = 0
    sha256: tuple[str, ...] = ()


class Source(Settings, frozen=True, kw_only=True, tag_field="source"):
    """A table `[data]`: `pool` training samples to draw from, `test` test points N_T, and a seed for the draws."""

    pool: Positive
    test: Positive
    seed: Seed = 1

    @property
    def source(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def noun(self) -> str:
        """What a row is, in the plural."""
        return "samples"

    @property
    def unit(self) -> str:
        """The unit of the target as measured."""
        return "1"

    @property
    def log_target(self) -> bool:
        """Whether the network learns the logarithm of the target."""
        return False

    @property
    def energy_target(self) -> bool:
        """Whether the target is a particle's energy, so that a report speaks of energy resolution."""
        return False

    @property
    def classification(self) -> bool:
        """Whether the targets stand for classes, so that a report speaks of accuracy."""
        return False

    @property
    def class_targets(self) -> tuple[float, ...]:
        """The number that stands for each class; empty where targets are one-hot, and where there are no classes."""
        return ()

    @property
    def slow_to_check(self) -> bool:
        """Whether `check` reads whole files, so that its answer is worth being remembered."""
        return False

    @property
    def mixed_units(self) -> bool:
        """Whether inputs may have different units, so that one scale for all may hide some of them."""
        return False

    @property
    def keeps_file_order(self) -> bool:
        """Whether the first draw of the training set is the first rows as they come, not a permutation."""
        return False

    @property
    def used_rows(self) -> int:
        """The number of rows of the pool and the test points."""
        return self.pool + self.test

    @property
    def references(self) -> tuple[Reference, ...]:
        """What a publication that uses these data should cite."""
        return ()

    def description(self, facts: Facts) -> str:
        """What a methods section says of the data, in sentences: a function of the section and its facts alone."""
        return " ".join(one for one in (self.origin(facts), self.preparation(facts), self._rows()) if one)

    def origin(self, facts: Facts) -> str:
        """What the data are and where they come from."""
        return f"The data are {self.noun} of source {self.source}."

    def preparation(self, facts: Facts) -> str:
        """How they become inputs and targets of a network."""
        return f"A network has {count(facts.features, 'input')} and {count(facts.outputs, 'output')}."

    def _rows(self) -> str:
        how = (
            "in the order of the files; the first draw of the training set keeps it"
            if self.keeps_file_order
            else f"chosen with seed {self.seed}"
        )
        return (
            f"The pool that training sets are drawn from has {self.pool:,} {self.noun}, the test set has N_T = "
            f"{self.test:,} others, {how}."
        )

    def image(self, facts: Facts) -> tuple[int, int, int] | None:
        """(height, width, channels) of inputs that are images, of which a row holds one channel after the other.

        None for inputs without positions.
        """
        return None

    def facts(self) -> Facts | None:
        """What the section says by itself; None if only its files can tell."""
        return None

    def located(self, folder: Path) -> Self:
        """The section with absolute paths: those that its user wrote are relative to `folder`."""
        return self

    def examine(self) -> Facts:
        """The facts, from files where they tell. Raises DataError for files that cannot be those of the section."""
        if (known := self.facts()) is None:
            raise NotImplementedError(f"{type(self).__name__} has neither facts() nor examine()")
        return known

    def folders(self) -> tuple[Path, ...]:
        """The folders that `load` reads from, which a container must see."""
        return ()

    def making_seconds(self, facts: Facts) -> float:
        """Projected seconds on one reference core to make or read the data."""
        return SECONDS_TO_OPEN + max(self.used_rows, facts.rows) * facts.features * SECONDS_PER_NUMBER

    def packages_bytes(self, facts: Facts) -> int:
        """Memory of packages that `load` alone imports, and which stay."""
        return 0

    def making_bytes(self, facts: Facts) -> int:
        """Projected peak of memory of `load` before it makes the split of the rows that are used."""
        return 64 * MEBIBYTE

    def check(self, facts: Facts) -> tuple[str, ...] | None:
        """Look at the values as `load` will, and say what should be said of them; None if they are not there yet.

        Raises DataError where `load` would. Fetches nothing.
        """
        return ()

    def fetch(self) -> None:
        """Fetch what is missing. Raises SurroundingsError if it cannot be had."""

    def prepare(self, facts: Facts) -> None:
        """Fetch what `load` will need, look at it, and print what should be said of it.

        Raises DataError or SurroundingsError if `load` would fail.
        """
        self.fetch()
        for line in self.check(facts) or ():
            print(line)

    def rows_in_files(self, facts: Facts, rows: tuple[int, ...]) -> str:
        """Where rows of the pool are in the user's files, in words. Raises what `load` may.

        Empty of data that have none, and where it would take much memory to tell.
        """
        return ""

    def load(self, facts: Facts) -> Split:
        """The training pool and the test points. Raises DataError if the data cannot be used or are others by now."""
        raise NotImplementedError
