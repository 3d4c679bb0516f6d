"""Whether what was counted is what is promised: a band for each row, and whether chance alone can lead out of it."""

from dataclasses import dataclass

from scipy.stats import binom

CHANCE = 0.01
"""How often chance alone, at the edge of the band in each row, calls any row of a scenario wrong."""

Band = tuple[float, float]


@dataclass(frozen=True)
class Promise:
    """Bands of the coverage of 68 and 95 % intervals, of false alarms at the 1 % level, and of bounds at 2.5 %.

    A bound is one side of a 95 % interval, of which 1.5 to 3.5 % may miss it where 93 to 97 % may cover; as a bound it
    may miss less often.
    """

    narrow: Band
    wide: Band
    alarms: Band = (0.005, 0.02)
    bounds: Band = (0.0, 0.035)


MANY, FEW = Promise((0.65, 0.71), (0.93, 0.97)), Promise((0.62, 1.0), (0.90, 1.0), (0.0, 1.0), (0.0, 1.0))
"""Of 60 networks and more; of fewer, whose verdicts nothing is promised of."""

ENOUGH = 60


def promise(members: int) -> Promise:
    return MANY if members >= ENOUGH else FEW


@dataclass(frozen=True)
class Row:
    """One number of the table: how often something was so in `count` cases of `studies` studies, and its band."""

    rate: float
    count: int
    studies: int
    band: Band

    @property
    def is_within(self) -> bool:
        return self.band[0] <= self.rate <= self.band[1]

    def p_value(self) -> float:
        """Of a rate so far out, were the truth at the near edge of the band.

        Two curves of a study are not independent: they count as one.
        """
        if self.is_within:
            return 1.0
        independent = min(self.count, self.studies)
        found = round(self.rate * independent)
        if self.rate < self.band[0]:
            return float(binom.cdf(found, independent, self.band[0]))
        return float(binom.sf(found - 1, independent, self.band[1]))


def marks(rows: list[Row]) -> list[str]:
    """Of each row "" within its band, "outside" where chance explains it, "WRONG" where it does not."""
    level = CHANCE / max(1, len(rows))
    return ["" if row.is_within else "WRONG" if row.p_value() < level else "outside" for row in rows]


def verdict(found: list[str]) -> str:
    """The marks of a scenario in a sentence."""
    return (
        f"{len(found)} numbers: {found.count('')} within their bands, {found.count('outside')} outside as chance would "
        f"have it, {found.count('WRONG')} WRONG (chance alone finds one in {CHANCE:.0%} of tables)."
    )
