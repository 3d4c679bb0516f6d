"""What studies of every kind have: a name, data and a seed, and an id that is a hash of their content."""

import re
from typing import Any, TypeVar

from ntkhpc.data.source import Facts
from ntkhpc.data.sources import AnySource
from ntkhpc.errors import DataError
from ntkhpc.files import canonical_json, sha256
from ntkhpc.phase.settings import Seed, Settings
from ntkhpc.references import Reference
from ntkhpc.studies import content

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

S = TypeVar("S", bound="Study")


class Study(Settings, frozen=True, kw_only=True):
    """Everything that decides the values of a run; two studies with equal content have the same id."""

    name: str
    data: AnySource
    seed: Seed = 0
    facts: Facts | None = None
    """What was found in the files of the data when the study was resolved; no user writes it."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name = {self.name!r} is not allowed: 1 to 64 letters a-z A-Z, digits, '.', '_' and '-', "
                "beginning with a letter or digit"
            )

    @property
    def content(self) -> dict[str, Any]:
        """What decides the values, without what is as it was when it was introduced (see studies.content).

        Of data files it has what is in them (sha256), once that is known, and not where they are.
        """
        found = content.of(self)
        found.pop("facts", None)  # all else follows from the content of the files, for which sha256 stands
        if self.facts and self.facts.sha256:
            found["data"]["sha256"] = list(self.facts.sha256)
            found["data"].pop("path", None)
        return found

    @property
    def id(self) -> str:
        """First ten hex digits of the sha256 of the content."""
        return sha256(canonical_json(self.content))[:10]

    @property
    def run_name(self) -> str:
        return f"{self.name}-{self.id}"

    @property
    def known(self) -> Facts:
        """What is known of the data, with or without their files. Raises DataError if they had to be looked at."""
        if found := self.facts or self.data.facts():
            return found
        raise DataError(
            "the files of the data have not been looked at, so nobody knows how many inputs there are",
            where=f"study {self.name}",
            todo="ntkhpc.studies.facts.resolve(study, folder) looks at them",
        )

    @property
    def features(self) -> int:
        """The number of inputs of a network."""
        return self.known.features

    @property
    def outputs(self) -> int:
        """The number of outputs of a network."""
        return self.known.outputs

    @property
    def references(self) -> tuple[Reference, ...]:
        """What a publication of the study's results should cite besides this software."""
        return self.data.references

    def methods(self) -> tuple[str, ...]:
        """What is computed, as the paragraphs of a methods section: a function of the study and its facts alone.

        Raises DataError as `known` does.
        """
        return (self.data.description(self.known),)

    @property
    def test_sizes(self) -> tuple[int, ...]:
        """Test-set sizes at which the spread of L is computed: the whole, and halves of it down to a sixteenth."""
        return tuple(sorted({max(1, self.data.test >> halvings) for halvings in range(5)}))

    @property
    def orders(self) -> int:
        """Permutations of the training pool that the study draws its training sets from."""
        raise NotImplementedError

    @property
    def numerics(self) -> dict[str, object]:
        """Settings that decide bits of the values besides the data: part of the fingerprint."""
        raise NotImplementedError

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that decide the values of such a study and not those of every one (see engine.packages.SOME)."""
        return ()

    def require_pool(self, field: str, n: int) -> None:
        """Raises ValueError if a training set of n samples cannot be drawn."""
        if n > self.data.pool:
            raise ValueError(f"{field} asks for {n} samples, data.pool has {self.data.pool}")

    def of_kind(self, kind: type[S]) -> S:
        """Itself, for what is written for one kind of study. Raises TypeError for another."""
        if not isinstance(self, kind):
            raise TypeError(f"study {self.name!r} is a {type(self).__name__}, this needs a {kind.__name__}")
        return self
