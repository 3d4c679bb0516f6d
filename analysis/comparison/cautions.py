"""What to mind of each variant: networks that diverged, oscillate, dominate or are unstable, and what exponents lack.

And the tables of these networks.
"""

import numpy as np
import pandas as pd

from analysis import second_run
from analysis.comparison.differences import COMPARED
from analysis.comparison.results import ComparisonResults, Variant
from analysis.ensemble import exponents, members, oscillating, rechecked
from analysis.ensemble.members import records
from analysis.report.section import Section
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import DIVERGED
from ntkhpc.words import count, joined, numbers

EXPECTED = sum(name != "eps_pop" for _, name in COMPARED)

TOLD = 5
"""Networks that a sentence names."""


def cautions(results: ComparisonResults) -> list[str]:
    """Those that are alike for several variants are said once."""
    found: dict[str, list[str]] = {}
    for one in results.variants:
        of_exponents = [*exponents.not_fitted(one.results, one.results.fits), *exponents.about_draws(one.results)]
        of_members = [*members.cautions(one.results), *(rechecked.cautions(one.results) if _has_second(one) else [])]
        for text in [*_diverged(one), *_oscillating(one), *of_members, *of_exponents]:
            found.setdefault(text, []).append(one.name)
    said = [f"{joined(names)}: {text}" for text, names in found.items()]
    return [*_not_compared(results), *said, *(text for name in ("mu_L", "eps_L") for text in _bends(results, name))]


def _not_compared(results: ComparisonResults) -> list[str]:
    """Which variants lack a difference from the first at a width; of eps_pop, that may be zero, others tell."""
    known = {(d.what, d.quantity, d.width, d.variant) for d in results.differences}
    if not known:
        return []  # the first box says it
    lacking: dict[str, list[str]] = {}
    for one in results.others:
        for width in results.widths:
            missing = [
                f"exponent of {name}" if what == "exponent" else name
                for what, name in COMPARED
                if name != "eps_pop" and (what, name, width, one.name) not in known
            ]
            if missing:
                text = "nothing" if len(missing) == EXPECTED else f"no {joined(missing, 'or')}"
                lacking.setdefault(text, []).append(f"{one.name} (width {width:,})")
    why = "too few networks that did not diverge, or too few sizes" + (
        ", or shards are missing" if results.missing else ""
    )
    return [
        f"of {joined(where)} {text} is compared with {results.reference.name}: one of the two has {why}"
        for text, where in lacking.items()
    ]


def _bends(results: ComparisonResults, name: str) -> list[str]:
    """One sentence a quantity: where it is no pure power law."""
    found = {}
    for one in results.variants:
        bent = [width for width in results.widths if (fit := one.results.fits.get((name, width))) and fit.is_curved]
        if bent:
            found[one.name] = numbers(bent)
    if not found:
        return []
    where = joined(f"{variant} (width {widths})" for variant, widths in found.items())
    low, high = results.sizes[0], results.sizes[-1]
    return [
        f"{name} is no pure power law between {low:,} and {high:,} (p < 0.01 of its bend, exponents.csv) for {where}: "
        "there exponents and their differences are those of these sizes, and none of larger ones"
    ]


def diverged(one: Variant) -> pd.DataFrame:
    """One row for each cell with networks that diverged: width, n_train, draw, how many, and their numbers."""
    status = one.results.store.status.transpose(*CELL, "member").load()
    rows = []
    for cell in np.ndindex(status.shape[:3]):
        lost = status.member.values[status.values[cell] == DIVERGED]
        if len(lost):
            where = {dim: int(status[dim].values[i]) for dim, i in zip(CELL, cell, strict=True)}
            rows.append({**where, "diverged": len(lost), "members": " ".join(map(str, lost))})
    return pd.DataFrame(rows, columns=[*CELL, "diverged", "members"])


def _diverged(one: Variant) -> list[str]:
    """One sentence a width."""
    said, all_members = [], one.results.store.sizes["member"]
    for width, rows in diverged(one).groupby("width"):
        lost = sorted({int(member) for text in rows.members for member in text.split()})
        named = ", ".join(map(str, lost[:TOLD])) + (", ..." if len(lost) > TOLD else "")
        said.append(
            f"{len(lost):,} of {count(all_members, 'network')} of width {width:,} diverged at one N_D or more "
            f"({named}; at most {rows.diverged.max():,} at one) and are in no number of this variant: what others do "
            "less what it does is partly the choice of the networks that are left"
        )
    return said


def _oscillating(one: Variant) -> list[str]:
    store = one.results.store
    return oscillating.cautions(one.results) if all(name in store for name in oscillating.ARRAYS) else []


def _oscillating_frame(one: Variant) -> pd.DataFrame:
    store = one.results.store
    return oscillating.found_in(one.results) if all(name in store for name in oscillating.ARRAYS) else pd.DataFrame()


def _has_second(one: Variant) -> bool:
    return all(name in one.results.store for name in second_run.ARRAYS)


def _dominant(one: Variant) -> pd.DataFrame:
    return one.results.dominant


def _second_runs(one: Variant) -> pd.DataFrame:
    return one.results.second_runs if _has_second(one) else pd.DataFrame()


def _frames(results: ComparisonResults) -> dict[str, pd.DataFrame]:
    """Cells of all variants, the variant's name first."""
    found = {}
    made = {"diverged": diverged, "oscillating": _oscillating_frame, "dominant_members": _dominant,
            "second_runs": _second_runs}  # fmt: skip
    for name, make in made.items():
        frames = [(one.name, frame) for one in results.variants if len(frame := make(one))]
        if frames:
            found[name] = pd.concat([frame.assign(variant=who) for who, frame in frames], ignore_index=True)
            found[name].insert(0, "variant", found[name].pop("variant"))
    return found


SECTION: Section[ComparisonResults] = Section(
    cautions=cautions,
    fits=lambda results: {name: records(frame) for name, frame in _frames(results).items()},
    files=_frames,
)
