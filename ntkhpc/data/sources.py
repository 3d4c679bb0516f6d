"""Where the data of a study come from: `[data]`, one class for each value of its field `source`.

A study is planned before any data are read, so a section knows how many inputs and outputs there will be. Sections of
the user's files are told (`sha256`, `rows`, `features`, ...) when the study is resolved, before a run is made of it.
"""

from typing import Annotated, Literal, get_args

from msgspec import Meta, structs

from ntkhpc.phase.section import NonNegativeFloat, Positive, PositiveFloat, Section, Seed

Particle = Literal["electron", "photon", "pion"]
Cifar10Class = Literal[
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
]  # in the order of their labels
Names = Annotated[tuple[str, ...], Meta(min_length=1)]

LCD_LAYERS = 25


class Source(Section, frozen=True, kw_only=True, tag_field="source"):
    """What every source has: `pool` training samples to draw from, `test` test points N_T, and a seed for the draws."""

    seed: Seed = 1

    @property
    def source(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def keeps_file_order(self) -> bool:
        """Whether the first draw of the training set is the first rows as they come, not a permutation."""
        return False

    @property
    def log_target(self) -> bool:
        """Whether the network learns the logarithm of the target."""
        return False

    @property
    def unit(self) -> str:
        """Of the target as measured."""
        return "1"

    @property
    def noun(self) -> str:
        """What a row is, in the plural."""
        return "samples"


class Showers(Source, frozen=True, kw_only=True):
    """What generated and stored showers share: how their energies become inputs. The target is log E."""

    inputs: Literal["layers", "rings", "cells"] = "layers"
    threshold: PositiveFloat = 0.050
    scaling: Literal["global", "feature"] = "global"

    @property
    def log_target(self) -> bool:
        return True

    @property
    def unit(self) -> str:
        return "GeV"

    @property
    def noun(self) -> str:
        return "showers"


class Calorimeter(Showers, frozen=True, kw_only=True, tag="calorimeter"):
    """Energy regression of showers from the package's own generator (a parametrisation)."""

    pool: Positive = 8192
    test: Positive = 2000
    particles: Annotated[tuple[Particle, ...], Meta(min_length=1)] = ("electron",)
    energy_min: PositiveFloat = 10.0
    energy_max: PositiveFloat = 500.0
    spectrum: Literal["log-uniform", "uniform"] = "log-uniform"
    geometry: Literal["lcd", "nai"] = "lcd"
    absorber_mm: tuple[PositiveFloat, ...] = ()
    nai_layers: Positive = 12
    layer_mm: PositiveFloat = 50.0
    cells: Positive = 11
    cell_mm: PositiveFloat = 5.1
    stochastic_term: NonNegativeFloat = 0.17
    constant_term: NonNegativeFloat = 0.01
    noise: NonNegativeFloat = 0.0

    @property
    def layers(self) -> int:
        return self.nai_layers if self.geometry == "nai" else len(self.absorber_mm) or LCD_LAYERS

    @property
    def features(self) -> int:
        per_layer = {"layers": 1, "rings": (self.cells + 1) // 2, "cells": self.cells**2}
        return self.layers * per_layer[self.inputs]

    @property
    def outputs(self) -> int:
        return 1

    def __post_init__(self) -> None:
        if self.energy_min >= self.energy_max:
            raise ValueError(f"energy_min = {self.energy_min} must be below energy_max = {self.energy_max} (GeV)")
        if self.energy_min < 1:
            raise ValueError(
                f"energy_min = {self.energy_min} GeV is outside the shower parametrisation; at least 1 GeV"
            )
        if len(set(self.particles)) < len(self.particles):
            raise ValueError(f"particles = {list(self.particles)} names one of them twice")
        self._require_used()
        if self.geometry == "lcd" and not self.stochastic_term:
            raise ValueError("stochastic_term = 0 is impossible for geometry = 'lcd', a sampling calorimeter")

    def _require_used(self) -> None:
        """Fields that another field makes meaningless stay at their defaults, so that equal data have equal ids."""
        default = {field.name: field.default for field in structs.fields(self)}
        elsewhere = {
            "geometry = 'lcd'": ("absorber_mm",) if self.geometry == "nai" else (),
            "geometry = 'nai'": ("nai_layers", "layer_mm") if self.geometry == "lcd" else (),
            "inputs = 'rings' or 'cells'": ("cells", "cell_mm") if self.inputs == "layers" else (),
        }
        for where, names in elsewhere.items():
            for name in names:
                if getattr(self, name) != default[name]:
                    raise ValueError(f"{name} = {getattr(self, name)} has a meaning with {where} only")
        if self.geometry == "nai":
            needed = ("stochastic_term", "constant_term", *(("cell_mm",) if self.inputs != "layers" else ()))
            if left := [name for name in needed if getattr(self, name) == default[name]]:
                raise ValueError(
                    f"geometry = 'nai' needs its own {' and '.join(left)}, not those of silicon and tungsten: "
                    "a crystal may have stochastic_term = 0.0, constant_term = 0.0, cell_mm = 20.0"
                )


class ShowerFile(Showers, frozen=True, kw_only=True, tag="showers"):
    """Energy regression of showers in the user's files, in one of the public layouts."""

    path: Names
    layout: Literal["lcd", "calochallenge", "steps"]
    threshold: PositiveFloat = 0.001
    pool: Positive
    test: Positive
    order: Literal["permuted", "file"] = "permuted"
    scale: NonNegativeFloat = 0.0
    pdg: tuple[int, ...] = ()
    energy_min: NonNegativeFloat = 0.0
    energy_max: PositiveFloat = 1e9
    sha256: tuple[str, ...] = ()
    rows: int = 0
    features: int = 0

    @property
    def outputs(self) -> int:
        return 1

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    def __post_init__(self) -> None:
        if self.energy_min >= self.energy_max:
            raise ValueError(f"energy_min = {self.energy_min} must be below energy_max = {self.energy_max} (GeV)")


class Table(Source, frozen=True, kw_only=True, tag="file"):
    """Regression on columns `y` from columns `x` of the user's own .npz, .h5, .csv or .parquet file."""

    path: str
    x: Names
    y: Names
    pool: Positive
    test: Positive
    order: Literal["permuted", "file"] = "permuted"
    target: Literal["linear", "log"] = "linear"
    scaling: Literal["global", "feature"] = "global"
    duplicates: Literal["refuse", "drop"] = "refuse"
    target_unit: str = "1"
    sha256: str = ""
    bytes: int = 0
    rows: int = 0
    features: int = 0
    outputs: int = 0

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    @property
    def log_target(self) -> bool:
        return self.target == "log"

    @property
    def unit(self) -> str:
        return self.target_unit


class Images(Source, frozen=True, kw_only=True):
    """Classification as regression: on centred one-hot targets, or on one number for each class."""

    pool: Positive
    test: Positive
    order: Literal["permuted", "file"] = "permuted"
    targets: tuple[float, ...] = ()
    pixels: Literal["pool", "fixed"] = "pool"
    pixel_mean: float = 0.0
    pixel_std: PositiveFloat = 1.0

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    @property
    def noun(self) -> str:
        return "images"

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels of the classes that are used."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        return 1 if self.targets else len(self.labels)

    def __post_init__(self) -> None:
        labels = self.labels
        if len(set(labels)) < len(labels) or len(labels) < 2:
            raise ValueError(f"classes = {list(labels)} must be at least two different ones")
        if self.targets and (len(self.targets) != len(labels) or len(set(self.targets)) < len(labels)):
            raise ValueError(f"targets = {list(self.targets)} must be {len(labels)} different numbers, one a class")
        if self.pixels == "pool" and (self.pixel_mean, self.pixel_std) != (0.0, 1.0):
            raise ValueError("pixel_mean and pixel_std need pixels = 'fixed'; with 'pool' they come from the pool")


class Mnist(Images, frozen=True, kw_only=True, tag="mnist"):
    """Handwritten digits, 28 x 28."""

    pool: Annotated[int, Meta(ge=1, le=60_000)] = 8192
    test: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    classes: tuple[Annotated[int, Meta(ge=0, le=9)], ...] = tuple(range(10))

    @property
    def labels(self) -> tuple[int, ...]:
        return self.classes

    @property
    def features(self) -> int:
        return 28 * 28


class Cifar10(Images, frozen=True, kw_only=True, tag="cifar10"):
    """Small photographs, 32 x 32 in three colours; optionally grey, and resized to 28 x 28."""

    pool: Annotated[int, Meta(ge=1, le=50_000)] = 8192
    test: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    classes: tuple[Cifar10Class, ...] = get_args(Cifar10Class)
    grey: bool = False
    size: Literal[32, 28] = 32
    sha256: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(get_args(Cifar10Class).index(name) for name in self.classes)

    @property
    def features(self) -> int:
        return (1 if self.grey else 3) * self.size**2


AnySource = Calorimeter | ShowerFile | Table | Mnist | Cifar10
