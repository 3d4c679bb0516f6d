"""Labelled images as a regression: which rows, which pixels, which targets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ntkhpc import seeds
from ntkhpc.data import download
from ntkhpc.data.source import Facts, Source
from ntkhpc.data.split import SCALED, Split, standardise
from ntkhpc.errors import DataError
from ntkhpc.phase.settings import PositiveFloat
from ntkhpc.words import numbers

TRAIN, TEST = 0, 1

PIXEL_MEANS, PIXEL_STDS = (-1.0, 2.0), (1e-3, 10.0)
"""What is subtracted from pixel/255, which is 0 to 1, and what it is divided by then: 1/255 gives 0 to 255 again."""

LARGEST_TARGET, CLOSEST_TARGETS = 1e6, 1e-6
"""Of the numbers for classes: the largest, and how near they may be, in the largest of them and absolutely."""


class Images(Source, frozen=True, kw_only=True):
    """Classification as regression: on centred one-hot targets, or on one number for each class."""

    order: Literal["permuted", "file"] = "permuted"
    targets: tuple[float, ...] = ()
    pixels: Literal["pool", "fixed"] = "pool"
    pixel_mean: float = 0.0
    pixel_std: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        labels = self.labels
        if len(set(labels)) < len(labels) or len(labels) < 2:
            raise ValueError(f"classes = {list(labels)} must be at least two different ones")
        if self.targets and (len(self.targets) != len(labels) or len(set(self.targets)) < len(labels)):
            raise ValueError(f"targets = {list(self.targets)} must be {len(labels)} different numbers, one a class")
        if self.pixels == "pool" and (self.pixel_mean, self.pixel_std) != (0.0, 1.0):
            raise ValueError("pixel_mean and pixel_std need pixels = 'fixed'; with 'pool' they come from the pool")

    @property
    def noun(self) -> str:
        return "images"

    @property
    def classification(self) -> bool:
        return True

    @property
    def class_targets(self) -> tuple[float, ...]:
        return self.targets

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels of the classes that are used."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        return 1 if self.targets else len(self.labels)

    def preparation(self, facts: Facts) -> str:
        pixels = f"pixels/255, {SCALED['global']}"
        if self.pixels == "fixed":
            pixels = f"(pixel/255 - {self.pixel_mean:g})/{self.pixel_std:g}"
        learned = "one output a class, on targets of 1 for the right class and 0 for others, less 1/classes"
        if self.targets:
            learned = f"one output on the numbers {numbers(self.targets)} for the classes in this order"
        return f"The {facts.features:,} inputs of a network are {pixels}. Classification is a regression: {learned}."

    def folders(self) -> tuple[Path, ...]:
        """The data directory, and the folders of files that links in it lead to."""
        here = download.directory()
        links = [path for path in (here / self.source).glob("*") if path.is_symlink()]
        return (here, *sorted({path.resolve().parent for path in links} - {here / self.source}))


@dataclass(frozen=True)
class Labelled:
    """pixels (n, features) from 0 to 255 and labels (n,) from 0 to 9, in the order of the files; where they are."""

    pixels: np.ndarray
    labels: np.ndarray
    where: str


def require_plausible(section: Images) -> None:
    """Raises DataError for pixels in another unit, and for targets that single precision does not tell apart."""
    for name, value, (low, high) in (
        ("pixel_mean", section.pixel_mean, PIXEL_MEANS),
        ("pixel_std", section.pixel_std, PIXEL_STDS),
    ):
        if not low <= value <= high:
            raise DataError(
                f"data.{name} = {value:g}; {low:g} to {high:g} is plausible",
                where="[data]",
                cause="it is of pixels from 0 to 255; here they are from 0 to 1",
                todo="divide pixel_mean and pixel_std by 255",
            )
    if section.targets:
        ordered = np.sort(section.targets)
        largest, nearest = float(np.abs(ordered).max()), float(np.diff(ordered).min())
        if largest > LARGEST_TARGET or nearest < CLOSEST_TARGETS * max(1.0, largest):
            raise DataError(
                f"data.targets are up to {largest:g}, the nearest two {nearest:g} apart",
                where="[data]",
                cause="losses are squares of them, which would overflow, vanish, or be all the same",
                todo="take numbers of the order of one, such as -1 and 1",
            )


def require_enough(section: Images, train: np.ndarray, test: np.ndarray, where: str) -> None:
    """Raises DataError if the labels (n,) of the training or test file have too few of the study's classes."""
    for name, labels, wanted in (("pool", train, section.pool), ("test", test, section.test)):
        there = int(np.isin(labels, section.labels).sum())
        if there < wanted:
            raise DataError(
                f"data.{name} = {wanted:,} images of the classes {list(section.labels)} are asked for, "
                f"there are {there:,}",
                where=where,
                cause=f"these files hold {len(labels):,} images, of all classes",
                todo=f"lower data.{name}, or take more classes, if there are any left",
            )
    if lacking := set(section.labels) - set(train[_rows(section, train, TRAIN)].tolist()):
        raise DataError(
            f"the pool of {section.pool:,} images has none of the classes {sorted(lacking)}",
            where=where,
            cause="the rows are in an order, or there are few",
            todo='raise data.pool, or use order = "permuted"',
        )


def split(
    section: Images,
    train: Labelled,
    test: Labelled,
    convert: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
) -> Split:
    """The first rows of the wanted classes, in file order or after a seeded permutation of each file.

    `convert` makes the inputs (n, features), still from 0 to 255, of the pixels of the rows that are used.
    """
    require_enough(section, train.labels, test.labels, train.where)
    rows = [_rows(section, part.labels, which) for which, part in enumerate((train, test))]
    inputs = [convert(part.pixels[chosen]) / 255.0 for part, chosen in zip((train, test), rows, strict=True)]
    (x_train, x_test), feature_mean, feature_scale = _pixels(section, *inputs)
    target = [_targets(section, part.labels[chosen]) for part, chosen in zip((train, test), rows, strict=True)]
    mean = np.zeros(section.outputs) if section.targets else np.full(section.outputs, 1 / section.outputs)
    return Split(
        x_train=x_train,
        y_train=target[TRAIN] - mean,
        x_test=x_test,
        y_test=target[TEST] - mean,
        target_train=target[TRAIN],
        target_test=target[TEST],
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        target_mean=mean,
        target_scale=np.ones(section.outputs),
    )


def _rows(section: Images, labels: np.ndarray, which: int) -> np.ndarray:
    """Numbers of the rows that are used, of those with the given labels."""
    rows = np.flatnonzero(np.isin(labels, section.labels))
    if not section.keeps_file_order:
        rows = seeds.generator(section.seed, seeds.ROWS, which).permutation(rows)
    return rows[: section.pool if which == TRAIN else section.test]


def _pixels(section: Images, train: np.ndarray, test: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Both parts normalised, with mean and scale of each pixel."""
    if section.pixels == "pool":
        both, mean, scale = standardise(np.concatenate([train, test]), train)
        return [both[: len(train)], both[len(train) :]], mean, scale
    mean, scale = (np.full(train.shape[1], value) for value in (section.pixel_mean, section.pixel_std))
    return [(part - mean) / scale for part in (train, test)], mean, scale


def _targets(section: Images, labels: np.ndarray) -> np.ndarray:
    """(n, outputs): one-hot in the order of `classes`, or the number given for each class."""
    place = (labels[:, None] == np.array(section.labels)).argmax(axis=1)
    if section.targets:
        return np.array(section.targets)[place][:, None]
    return np.eye(section.outputs)[place]
