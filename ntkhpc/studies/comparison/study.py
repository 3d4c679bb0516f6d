"""Studies of kind `comparison`: one ensemble in several variants, which differ in training or in the network.

Variants have the same data, draws, sizes, widths, members and seed: a member has the same place in the stream of
initialisations in each, so that what differs between two variants is known member by member.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, structs

from ntkhpc.phase.settings import Settings, optional, unruled
from ntkhpc.references import Reference
from ntkhpc.studies.base import NAME, Study
from ntkhpc.studies.ensemble import exact, redraws
from ntkhpc.studies.ensemble.curve import InfiniteWidth
from ntkhpc.studies.ensemble.network import Network
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import Ensemble, TrainingSettings

if TYPE_CHECKING:
    NetworkChange = Network
    TrainingChange = TrainingSettings
else:
    NetworkChange = optional("NetworkChange", Network, without=("widths",))
    TrainingChange = optional("TrainingChange", TrainingSettings)


class VariantSettings(Settings, frozen=True, kw_only=True):
    """What one ensemble has that the others have not: fields of [network] and [training], the rest as the study says.

    Without any it is the ensemble that the study's own tables describe.
    """

    name: str
    network: NetworkChange | None = None
    training: TrainingChange | None = None

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """The fields that are given, by table."""
        tables = {"network": self.network, "training": self.training}
        return {name: _given(table) for name, table in tables.items() if table is not None}


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
        _ensemble(self, None)
        seen: dict[EnsembleStudy, str] = {}
        for name in names:
            try:
                ensemble = structs.replace(_ensemble(self, name), name="any")
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
        if exact.has_curves(self.base) and self.base.curve_sizes[-1] > infinite.tile:
            raise ValueError(
                f"infinite_width.n_train has {self.base.curve_sizes[-1]:,}, more than infinite_width.tile = "
                f"{infinite.tile:,}: a comparison keeps no tiles of kernels. Lower it, or raise the tile"
            )

    @property
    def base(self) -> EnsembleStudy:
        """The ensemble of the study's own tables, without any change."""
        return _made(self)[0]

    @property
    def ensembles(self) -> tuple[EnsembleStudy, ...]:
        """Each variant as a study of its own, called by the name of the study and its own."""
        return _made(self)[1]

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(dict.fromkeys(one for ensemble in self.ensembles for one in ensemble.references))

    def methods(self) -> tuple[str, ...]:
        """Of each variant what it alone has, once for all what they share."""
        each = [ensemble.methods() for ensemble in self.ensembles]
        shared = [text for text in each[0] if all(text in other for other in each)]
        own = [
            f"Variant {variant.name}: {' '.join(text for text in said if text not in shared)}"
            for variant, said in zip(self.variants, each, strict=True)
        ]
        return (shared[0], *own, *shared[1:])

    @property
    def orders(self) -> int:
        further = redraws.orders(self.base) if self.has_curves else 0
        return max(self.ensemble.draws + further, self.infinite_width.draws)

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
def _made(study: ComparisonStudy) -> tuple[EnsembleStudy, tuple[EnsembleStudy, ...]]:
    """The base and the variants; rules were asked when the study was read, and not of one that is frozen in a run."""
    with unruled():
        return _ensemble(study, None), tuple(_ensemble(study, one.name) for one in study.variants)


def _ensemble(study: ComparisonStudy, name: str | None) -> EnsembleStudy:
    """A variant by its name, or the base. Raises ValueError for what no ensemble can be."""
    changes = next((one.changes for one in study.variants if one.name == name), {})
    network = structs.replace(study.network, **changes.get("network", {}))
    infinite = study.infinite_width
    if name is not None and not (network.parametrisation == "ntk" and not network.centred):
        infinite = InfiniteWidth()  # of such networks there are no curves
    return EnsembleStudy(
        name=study.name if name is None else f"{study.name}.{name}",
        data=study.data,
        seed=study.seed,
        facts=study.facts,
        network=network,
        training=structs.replace(study.training, **changes.get("training", {})),
        ensemble=study.ensemble,
        infinite_width=infinite,
    )


def _given(table: Settings) -> dict[str, Any]:
    values = {field: getattr(table, field) for field in table.__struct_fields__}
    return {field: value for field, value in values.items() if value is not None}
