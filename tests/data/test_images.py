"""Labelled images become the regression that a study asks for, whatever archive they come from."""

import gzip
import hashlib
import io
import pickle
import re
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntkhpc.data import cifar10, images, mnist
from ntkhpc.data.cifar10 import Cifar10
from ntkhpc.data.images import Labelled
from ntkhpc.data.mnist import Mnist
from ntkhpc.errors import DataError

RNG = np.random.default_rng(0)


def labelled(count: int, features: int = 784) -> Labelled:
    return Labelled(RNG.integers(0, 256, (count, features), np.uint8), np.arange(count) % 10, "here")


def test_one_hot_targets_are_centred_and_in_the_order_of_the_classes() -> None:
    train, test = labelled(100), labelled(50)
    split = images.split(Mnist(pool=20, test=10, classes=(7, 3, 5), order="file"), train, test)
    assert split.y_train.shape == (20, 3)
    np.testing.assert_allclose(split.y_train.sum(axis=1), 0, atol=1e-15)
    rows = np.flatnonzero(np.isin(train.labels, (7, 3, 5)))[:20]
    assert (np.array((7, 3, 5))[split.target_train.argmax(axis=1)] == train.labels[rows]).all()
    assert set(np.unique(split.y_train)) == {1 - 1 / 3, -1 / 3}
    np.testing.assert_allclose(
        train.pixels[rows] / 255, split.x_train * split.feature_scale + split.feature_mean, atol=1e-12
    )


def test_classes_with_targets_have_one_output() -> None:
    split = images.split(Mnist(pool=12, test=6, classes=(0, 1), targets=(0.0, 1.0)), labelled(100), labelled(60))
    assert split.y_train.shape == (12, 1)
    assert (split.y_train == split.target_train).all()
    assert set(np.unique(split.y_train)) == {0.0, 1.0}


@pytest.mark.promise("plan refuses numbers for pixels in another unit, and targets that are all but equal or overflow.")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pixel_mean": 33.3}, "pixel_mean = 33.3; -1 to 2 is plausible"),
        ({"pixel_mean": 1e200}, "pixel_mean"),
        ({"pixel_mean": -1e10}, "pixel_mean"),
        ({"pixel_mean": 0.1307, "pixel_std": 78.6}, "pixel_std = 78.6; 0.001 to 10"),
        ({"pixel_std": 1e300}, "pixel_std"),
        ({"pixel_std": 1e-300}, "pixel_std"),
        ({"targets": (1e30, -1e30)}, "data.targets are up to 1e"),
        ({"targets": (1e-320, 0.0)}, "data.targets are up to"),
        ({"targets": (1.0, 1 + 2e-16)}, "nearest two 2.22045e-16 apart"),
        ({"targets": (1e5, 1e5 + 0.01)}, "nearest two 0.01 apart"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Mnist, Cifar10])
def test_numbers_that_no_pixels_or_targets_have_are_refused_without_the_data(
    kind: type, fields: dict, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    two = {"classes": (0, 1) if kind is Mnist else ("cat", "dog"), "pixels": "fixed"}
    usual = kind(pixel_mean=0.1307, pixel_std=1 / 255, targets=(-0.5, 0.5), **two)
    assert usual.check(usual.facts()) is None
    section = kind(**two | fields)
    with pytest.raises(DataError, match=re.escape(said)):
        section.check(section.facts())


def test_permuted_rows_are_seeded_and_smaller_pools_begin_larger_ones() -> None:
    train, test = labelled(200), labelled(50)
    one, two, other = (
        images.split(Mnist(pool=pool, test=10, seed=seed, pixels="fixed"), train, test).x_train
        for pool, seed in ((30, 1), (60, 1), (30, 2))
    )
    assert (two[:30] == one).all()
    assert (one != other).any()


def test_fixed_normalisation_is_that_of_the_study() -> None:
    train = labelled(50)
    section = Mnist(pool=50, test=10, order="file", pixels="fixed", pixel_mean=0.1307, pixel_std=0.3081)
    split = images.split(section, train, labelled(20))
    np.testing.assert_allclose(split.x_train, (train.pixels / 255 - 0.1307) / 0.3081, rtol=1e-13)


def test_too_few_images_of_a_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"data.pool = 30 images of the classes \[0, 1\] are asked for, there are 20"):
        images.split(Mnist(pool=30, test=5, classes=(0, 1)), labelled(100), labelled(50))


@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_idx_files_are_read_plain_and_compressed(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (5, 4, 3), np.uint8)
    path = tmp_path / "x"
    path.write_bytes(compress(struct.pack(">HBBIII", 0, 8, 3, 5, 4, 3) + values.tobytes()))
    assert (mnist.read_idx(path) == values).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        struct.pack(">HBBI", 0, 8, 1, 9) + b"12345",
        struct.pack(">HBBI", 0, 13, 1, 1) + b"1234",
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 5) + b"12345")[:-12],
    ],
    ids=["empty", "half a header", "cut short", "floats", "half a gzip"],
)
def test_damaged_idx_files_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        mnist.read_idx(path)


def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Five training batches and a test batch of 30 images."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {name: (RNG.integers(0, 256, (30, 3072), np.uint8), RNG.integers(0, 10, 30, np.uint8)) for name in names}


def records(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return np.hstack([labels[:, None], pixels]).tobytes()


def pickled(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """As Python 2 wrote the official files: byte keys, protocol 2."""
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)


def archive(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as out:
        for name, content in contents.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            out.addfile(one, io.BytesIO(content))


@pytest.mark.promise("Every form of CIFAR-10 (archives, folders, concatenated records) gives the same numbers.")
@pytest.mark.parametrize("form", ["binary archive", "python archive", "binary folder", "python folder", "parts"])
def test_every_form_of_cifar_10_gives_the_same_split(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    made = batches()
    folder = tmp_path / "cifar10"
    folder.mkdir()
    binary = {f"cifar-10-batches-bin/{name}.bin": records(*one) for name, one in made.items()}
    python = {f"cifar-10-batches-py/{name}": pickled(*one) for name, one in made.items()}
    extra = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n", "cifar-10-batches-py/batches.meta": b"\x80\x02N."}
    if form.endswith("archive"):
        remote = cifar10.BINARY if form.startswith("binary") else cifar10.PYTHON
        archive(folder / remote.name, {**(binary if form.startswith("binary") else python), **extra})
        name = "BINARY" if form.startswith("binary") else "PYTHON"
        digest = hashlib.md5((folder / remote.name).read_bytes()).hexdigest()
        monkeypatch.setattr(cifar10, name, replace(remote, checksum=f"md5:{digest}"))
    elif form == "parts":
        train = b"".join(content for name, content in binary.items() if "data_batch" in name)
        (folder / "train_exact.bin.gz").write_bytes(gzip.compress(train))
        (folder / "test_exact.bin.gz").write_bytes(gzip.compress(binary["cifar-10-batches-bin/test_batch.bin"]))
    else:
        for name, content in {**(binary if form.startswith("binary") else python), **extra}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    section = Cifar10(pool=150, test=30, order="file", pixels="fixed")
    facts = section.examine()
    assert (facts.features, facts.outputs, len(facts.sha256)) == (3072, 10, 0 if form.endswith("archive") else 1)
    section.prepare(facts)
    split = section.load(facts)
    pixels = np.concatenate([one[0] for name, one in made.items() if name != "test_batch"])
    assert (split.x_train == pixels / 255).all()
    assert (split.target_test.argmax(axis=1) == made["test_batch"][1]).all()


@pytest.mark.promise("A pickle of CIFAR-10 that asks for more than arrays is refused and not run.")
def test_a_pickle_that_wants_more_than_arrays_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "owned").write_text, ("x",))

    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in batches():
        (folder / name).write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match="which no batch of images needs"):
        Cifar10(pool=10, test=5).prepare(Cifar10().examine())
    assert not (tmp_path / "owned").exists()


def test_loose_files_that_change_or_are_not_whole_are_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (tmp_path / "train").mkdir()  # somebody's other data
    (tmp_path / "test").mkdir()
    for name, one in batches().items():
        (folder / f"{name}.bin").write_bytes(records(*one))
    section = Cifar10(pool=100, test=30)
    facts = section.examine()
    section.load(facts)
    (folder / "data_batch_3.bin").write_bytes(records(*batches()["data_batch_3"]))
    with pytest.raises(DataError, match="not those the study was submitted with"):
        section.load(facts)
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz is not there"):
        section.load(section.facts())


def test_a_pool_without_one_of_the_classes_is_refused() -> None:
    sorted_by_class = Labelled(labelled(100).pixels, np.repeat(np.arange(10), 10), "here")
    with pytest.raises(DataError, match=r"the pool of 20 images has none of the classes \[2, 3\]"):
        images.split(Mnist(pool=20, test=5, classes=(0, 1, 2, 3), order="file"), sorted_by_class, labelled(50))


def test_grey_is_luma_and_a_resized_image_keeps_flat_and_straight_parts() -> None:
    flat = np.repeat(np.array([10.0, 100.0, 200.0]), 1024)[None].astype(np.uint8)
    np.testing.assert_allclose(cifar10.features(flat, grey=True, size=32), 0.299 * 10 + 0.587 * 100 + 0.114 * 200)
    small = cifar10.features(flat, grey=False, size=28).reshape(3, 28, 28)
    np.testing.assert_allclose(small, np.array([10, 100, 200])[:, None, None] * np.ones((3, 28, 28)))
    # A ramp stays one: pixel centres of the new grid, but for the margins, where the filter is cut off.
    ramp = np.arange(32) + 0.5
    new = (np.arange(28) + 0.5) * 32 / 28
    np.testing.assert_allclose((cifar10.resampling(32, 28) @ ramp)[2:-2], new[2:-2], atol=0.15)


def test_real_mnist_is_what_it_is_known_to_be(shared_data: Path) -> None:
    section = Mnist(pool=1000, test=1000, classes=(0, 1), targets=(0.0, 1.0), order="file")
    section.prepare(section.facts())
    split = section.load(section.facts())
    assert mnist.read_idx(shared_data / "mnist" / "train-labels-idx1-ubyte.gz")[:10].tolist() == [
        5, 0, 4, 1, 9, 2, 1, 3, 1, 4,
    ]  # fmt: skip
    assert split.target_train[:6, 0].tolist() == [0, 1, 1, 1, 1, 0]
    everything = mnist.read_idx(shared_data / "mnist" / "train-images-idx3-ubyte.gz") / 255
    assert everything.mean() == pytest.approx(0.1307, abs=5e-5)
    assert everything.std() == pytest.approx(0.3081, abs=5e-5)


def test_a_real_part_of_cifar_10_is_read_and_its_classes_are_even(shared_data: Path) -> None:
    section = Cifar10(pool=7000, test=900)
    facts = section.examine()
    section.prepare(facts)
    split = section.load(facts)
    shares = split.target_train.mean(axis=0)
    # 7,000 images of 7,728, of ten classes of about equal size: 0.0036 is one standard deviation; 5 allowed.
    np.testing.assert_allclose(shares, 0.1, atol=5 * 0.0036)
    assert np.mean(split.x_train**2) == pytest.approx(1)
    with pytest.raises(DataError, match="there are 7,728"):
        Cifar10(pool=8000, test=900).prepare(facts)


@pytest.mark.parametrize("section", [Mnist(), Cifar10()], ids=lambda section: section.source)
def test_without_files_it_is_said_what_to_put_where(
    section: Mnist | Cifar10, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    with pytest.raises(DataError) as error:
        section.load(section.facts())
    assert str(tmp_path) in str(error.value)
    assert ".gz" in str(error.value)
