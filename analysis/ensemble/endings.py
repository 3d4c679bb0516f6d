"""Tails of exact curves that go far beyond the ensembles, and what each can tell of other draws and test sets."""

from dataclasses import dataclass

from analysis.ensemble.curves import CONTAINED, DRAW, FITTED, REQUIRED
from analysis.ensemble.results import EnsembleResults
from analysis.floor import KNOWN, End
from analysis.tails import Tail

REACH = 4.0
"""The curve goes far beyond the ensembles where it reaches so many times their largest size."""


@dataclass(frozen=True)
class Ending:
    """The tail of one exact curve, with every error that is known."""

    quantity: str
    time: str
    tail: Tail

    @property
    def asked(self) -> Tail:
        """With the errors of what is asked of this quantity, and of its iteration."""
        return self.tail.of(*CONTAINED[self.quantity])

    @property
    def has_few_draws(self) -> bool:
        """Whether the draws are too few to be one of several sources of an error.

        Their variance may come out small by chance, and the other source then hides how badly it is known. Of
        exponents that are zero, 2.1, 2.0, 1.3 and 1.0 % are called different at the 1 % level with 2, 3, 4 and 8 draws
        where draws matter as much as test points, 7.2, 3.4, 2.2 and 1.6 % where they matter three times as much.
        """
        dof = [source.dof for source in self.tail.curve.sources if source.name == DRAW]
        return len(REQUIRED[self.quantity]) > 1 and any(one < KNOWN for one in dof)

    @property
    def end(self) -> End:
        if self.has_few_draws or not self.tail.knows(*REQUIRED[self.quantity]):
            return "unknown"
        return self.asked.end


def endings(results: EnsembleResults) -> list[Ending]:
    """Of every exact curve that goes far beyond the ensembles."""
    far = REACH * results.study.ensemble.n_train[-1]
    return [
        Ending(name, time, Tail(curve))
        for name in FITTED
        for (quantity, time), curve in results.exact_curves.items()
        if quantity == name and curve.n[-1] >= far
    ]
