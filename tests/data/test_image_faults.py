"""Files of images that are damaged, hostile, or not what they say."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ntkhpc.data import mnist
from ntkhpc.data.cifar10 import Cifar10
from ntkhpc.data.formats import batches, content
from ntkhpc.errors import DataError

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (20, 3072))
LABELS = np.arange(20) % 10


def batch(pixels: object = PIXELS, labels: object = LABELS, **more: object) -> bytes:
    return pickle.dumps({b"data": pixels, b"labels": labels, **{k.encode(): v for k, v in more.items()}}, 2)


def u8(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8)


BATCHES = {
    "pixels over 255": (batch(PIXELS / 255), r"pixel 0\.\d+; they are whole numbers from 0 to 255"),
    "the same in single precision": (batch((PIXELS / 255).astype("f4")), r"pixel 0\.\d+; they are whole"),
    "normalised pixels": (batch((PIXELS - 120) / 60), "they are whole numbers from 0 to 255"),
    "whole, but rounded to 0 and 1": (batch(np.round(PIXELS / 255)), "above 1; they are whole numbers"),
    "signed bytes": (batch(PIXELS.astype(np.int8)), r"pixel -\d+; they are whole"),
    "16 bits": (batch(PIXELS * 257), r"pixel \d+; they are whole"),
    "a pixel that is not finite": (batch(np.where(PIXELS == 7, np.nan, PIXELS)), "pixel nan"),
    "pixels of objects": (batch(PIXELS.astype(object)), "type object|no batch of CIFAR-10"),
    "pixels of text": (batch(PIXELS.astype("S3")), "type .S3"),
    "complex pixels": (batch(PIXELS + 0j), "type complex128"),
    "labels of ten": (batch(u8(PIXELS), LABELS + 1), "label 10; they are whole numbers from 0 to 9"),
    "a negative label": (batch(u8(PIXELS), (LABELS - 1).tolist()), "label -1"),
    "a label in between": (batch(u8(PIXELS), LABELS + 0.5), r"label 0\.5"),
    "fewer labels": (batch(u8(PIXELS), LABELS[:7]), r"shape \(20, 3072\) and 7 labels"),
    "images that were reshaped": (batch(u8(PIXELS).reshape(20, 3, 32, 32)), r"shape \(20, 3, 32, 32\)"),
    "no images": (batch(u8(PIXELS)[:0], LABELS[:0]), "no batch of CIFAR-10|0 labels"),
    "CIFAR-100": (pickle.dumps({b"data": u8(PIXELS), b"fine_labels": [1] * 20}, 2), "it has no 'labels'"),
    "a list": (pickle.dumps([1, 2], 2), "no batch of CIFAR-10"),
    "a number": (pickle.dumps(10**5000, 2), "no batch of CIFAR-10"),
    "deep": (b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".", "no batch of CIFAR-10"),
    "a giant array": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10\x85"
        b"c_codecs\nencode\nU\x01b\x85R\x87R.",
        "no batch of CIFAR-10",
    ),
    "cut short": (batch()[:500], "no batch of CIFAR-10"),
    "a reference outside of it": (b"\x80\x02Pobject\n.", "no batch of CIFAR-10"),
    "a codec that nobody knows": (b"\x80\x02c_codecs\nencode\nU\x01xU\x05nopes\x86R.", "no batch of CIFAR-10"),
}


@pytest.mark.promise("Batches of CIFAR-10 whose pixels are no whole numbers from 0 to 255 are refused.")
@pytest.mark.parametrize("how", BATCHES)
def test_batches_that_are_none_are_refused(how: str) -> None:
    raw, said = BATCHES[how]
    with pytest.raises(DataError, match=said):
        batches.decode(raw, Path("here"), "data_batch_1")


@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "f4", "f8"])
def test_whole_pixels_of_any_type_are_read(kind: str) -> None:
    pixels, labels = batches.decode(batch(PIXELS.astype(kind), LABELS.astype(kind)), Path("here"), "data_batch_1")
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(labels, LABELS)


def test_damaged_batches_end_in_a_sentence_or_in_images() -> None:
    """Of 400 batches with up to 8 changed bytes in their first 300 or anywhere, every one is read or refused."""
    whole, rng, refused = batch(u8(PIXELS)), np.random.default_rng(0), 0
    for turn in range(400):
        raw = bytearray(whole)
        for at in rng.integers(0, 300 if turn % 2 else len(raw), rng.integers(1, 9)):
            raw[at] = rng.integers(256)
        try:
            batches.decode(bytes(raw), Path("here"), "data_batch_1")
        except DataError:
            refused += 1
    assert refused > 100


@pytest.mark.promise("A compressed file of images that unpacks to more than the whole data set is refused.")
def test_files_that_unpack_to_more_than_the_data_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(DataError, match=r"bomb\.gz has more than 1,000,000 bytes when it is unpacked"):
        content.unpacked(tmp_path / "bomb.gz", 10**6)
    assert len(content.unpacked(tmp_path / "bomb.gz", 10**7)) == 10**7
    (tmp_path / "cut.gz").write_bytes((tmp_path / "bomb.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match="cut short or damaged"):
        content.unpacked(tmp_path / "cut.gz", 10**7)


def test_a_study_of_float_pixels_is_refused_when_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    section = Cifar10(pool=30, test=10)
    assert section.check(section.examine()) is None
    for name in batches.NAMES:
        (folder / name).write_bytes(batch((PIXELS / 255).astype("f4")))
    for look in (section.check, section.prepare):
        with pytest.raises(DataError, match="divided by 255"):
            look(section.examine())


def idx(shape: tuple[int, ...], body: bytes, kind: int = 8, zeros: int = 0) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", zeros, kind, len(shape), *shape) + body


IDX = {
    "rows that overflow": idx((2**32 - 1, 2**32 - 1, 2**32 - 1), bytes(64)),
    "a product that wraps to what follows": idx((2**31, 2**31, 4), b""),
    "fewer bytes than it says": idx((10, 4), bytes(39)),
    "more bytes than it says": idx((10, 4), bytes(41)),
    "numbers of 4 bytes": idx((10,), bytes(40), kind=0x0D),
    "no zeros at its head": idx((10,), bytes(10), zeros=7),
    "255 dimensions": struct.pack(">HBB", 0, 8, 255) + bytes(8),
    "255 dimensions, all there": idx((1,) * 255, b"x"),
    "no dimension": idx((), b"x"),
    "two bytes": b"\0\0",
    "another format": b"\x89PNG\r\n\x1a\n" + bytes(50),
}


@pytest.mark.parametrize("how", IDX)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_are_none_are_refused(tmp_path: Path, how: str, packed: bool) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(IDX[how]) if packed else IDX[how])
    with pytest.raises(DataError, match=r"no IDX file|cut short") as caught:
        mnist.read_idx(tmp_path / "a")
    assert caught.value.where == tmp_path / "a"
