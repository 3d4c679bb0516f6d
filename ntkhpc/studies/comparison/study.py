"""Studies of kind `comparison`: one ensemble in several variants, which differ in training or in the network.

Variants have the same data, draws, sizes, widths, members and seed: a member has the same place in the stream of
initialisations in each, so that what differs between two variants is known member by member.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from msgspec import Meta, structs

from ntkhpc.phase.settings import Settings, optional, unruled
from ntkhpc.references import Reference
from ntkhpc.studies.base import NAME, Study
from ntkhpc.studies.ensemble import exact
from ntkhpc.studies.ensemble.curve import InfiniteWidth
from ntkhpc.studies.ensemble.members import Ensemble
from ntkhpc.studies.ensemble.network import Network
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import TrainingSettings

S = TypeVar("S", bound=Settings)

if TYPE_CHECKING:
    NetworkChange = Network
    TrainingChange = TrainingSettings
else:
    NetworkChange = optional("NetworkChange", Network, __name__, without=("widths",))
    TrainingChange = optional("TrainingChange", TrainingSettings, __name__)


class VariantSettings(Settings, frozen=True, kw_only=True):
    """What one ensemble has that others have not: fields of [network] and [training]; the rest is as the study says."""

    name: str
    network: NetworkChange | None = None
    training: TrainingChange | None = None

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """The fields that are given, by table."""
        tables = {"network": self.network, "training": self.training}
        given = {name: _given(table) for name, table in tables.items() if table is not None}
        return {name: fields for name, fields in given.items() if fields}


class ComparisonStudy(Study, frozen=True, kw_only=True):
    """The tables of an ensemble, and the variants of it that are compared. The first is what others differ from."""

    network: Network
    ensemble: Ensemble
    variants: Annotated[tuple[VariantSettings, ...], Meta(min_length=2)]
    training: TrainingSettings = TrainingSettings()
    infinite_width: InfiniteWidth = InfiniteWidth()
    kind: Literal["comparison"] = "comparison"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [one.name for one in self.variants]
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"a variant has the name {name!r}: letters, digits, '.', '_', '-' are allowed")
            if names.count(name) > 1:
                raise ValueError(f"two variants have the name {name!r}")
        if self.ensemble.leapt:
            field = "method" if self.ensemble.method == "leaps" else "leap_members"
            raise ValueError(
                f"ensemble.{field} = {getattr(self.ensemble, field)!r}: variants are compared by networks that are "
                "trained step by step; leave it out, or run a study of kind ensemble for leaps"
            )
        seen: dict[EnsembleStudy, str] = {}
        for name in names:
            try:
                ensemble = _ensemble(self, name)
            except ValueError as error:
                raise ValueError(f"variant {name}: {error}") from error
            if (other := seen.setdefault(ensemble, name)) != name:
                raise ValueError(f"variants {other} and {name} are the same")
        self._require_whole_kernels()

    def _require_whole_kernels(self) -> None:
        infinite = self.infinite_width
        if infinite.method != "exact":
            raise ValueError(
                f"infinite_width.method = {infinite.method!r}: curves beside variants are exact; run a study of kind "
                "ensemble for the other ones"
            )
        if not self.has_curves and infinite != InfiniteWidth():
            raise ValueError(
                "infinite_width: no variant has curves at infinite width, as all are centred or in the "
                "mu-parametrisation: leave [infinite_width] out"
            )
        if self.has_curves and self.base.curve_sizes[-1] > infinite.tile:
            raise ValueError(
                f"infinite_width.n_train has {self.base.curve_sizes[-1]:,}, more than infinite_width.tile = "
                f"{infinite.tile:,}: a comparison keeps no tiles of kernels. Lower it, or raise the tile"
            )

    @property
    def base(self) -> EnsembleStudy:
        """A variant that has all dimensions that any has: the first with curves at infinite width, or the first."""
        return next(filter(exact.has_curves, self.ensembles), self.ensembles[0])

    @property
    def ensembles(self) -> tuple[EnsembleStudy, ...]:
        """Each variant as a study of its own, with the name of the study."""
        return _made(self)

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(dict.fromkeys(one for ensemble in self.ensembles for one in ensemble.references))

    def methods(self) -> tuple[str, ...]:
        """Of each variant what it alone has, once for all what they share."""
        each = [ensemble.methods() for ensemble in self.ensembles]
        shared = [text for text in each[0] if all(text in other for other in each)]
        own = [
            f"Variant {variant.name}: {' '.join(text for text in said if text not in shared) or 'as described below.'}"
            for variant, said in zip(self.variants, each, strict=True)
        ]
        return (shared[0], *own, *shared[1:])

    @property
    def orders(self) -> int:
        return self.base.orders

    @property
    def has_curves(self) -> bool:
        """Whether any variant has curves and further draws at infinite width."""
        return any(exact.has_curves(ensemble) for ensemble in self.ensembles)

    @property
    def numerics(self) -> dict[str, object]:
        return {"variants": [ensemble.numerics for ensemble in self.ensembles]}

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for ensemble in self.ensembles for one in ensemble.packages))


@lru_cache(maxsize=16)
def _made(study: ComparisonStudy) -> tuple[EnsembleStudy, ...]:
    """The variants; rules are asked when a study is read, and not of one that is frozen in a run."""
    with unruled():
        return tuple(_ensemble(study, one.name) for one in study.variants)


def _ensemble(study: ComparisonStudy, name: str) -> EnsembleStudy:
    """A variant by its name. Raises ValueError for what no ensemble can be."""
    changes = next(one.changes for one in study.variants if one.name == name)
    changed = EnsembleStudy(
        name=study.name,
        data=study.data,
        seed=study.seed,
        facts=study.facts,
        network=_changed(study.network, changes.get("network", {})),
        training=_changed(study.training, changes.get("training", {})),
        ensemble=study.ensemble,
    )
    if not exact.has_curves(changed):
        return changed  # the table [infinite_width] is of the other variants
    return structs.replace(changed, infinite_width=study.infinite_width)


def _changed(section: S, given: dict[str, Any]) -> S:
    """A table with other values of the fields that are given, those of tables in it included."""
    values = {
        field: _changed(getattr(section, field), one) if isinstance(one, dict) else one for field, one in given.items()
    }
    return structs.replace(section, **values)


def _given(table: Settings) -> dict[str, Any]:
    values = {field: getattr(table, field) for field in table.__struct_fields__}
    return {
        field: _given(value) if isinstance(value, Settings) else value
        for field, value in values.items()
        if value is not None
    }
