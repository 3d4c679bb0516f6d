"""Every error has one answer to the question what a retry does; unknown ones are bugs."""

import errno
import io
import os
import socket
import ssl
import tempfile
import urllib.error
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import requests
from distributed.comm import CommClosedError
from support.runs import make_run, run_shards

from ntkhpc import errors, files
from ntkhpc.engine import claims, failures
from ntkhpc.errors import NtkhpcError, Retry, SurroundingsError


def family(kind: type[NtkhpcError]) -> list[type[NtkhpcError]]:
    return [kind, *(below for one in kind.__subclasses__() for below in family(one))]


def test_every_class_of_ours_says_what_a_retry_does() -> None:
    found = {one.__name__: failures.kind_of(one("x")) for one in family(NtkhpcError)}
    assert found == {one.__name__: one.retry for one in family(NtkhpcError)}
    others = {name: kind for name, kind in found.items() if kind is not Retry.SURROUNDINGS}
    assert others == {
        "DivergedError": Retry.BUG,
        "DeviceError": Retry.DEVICE,
        "OutOfMemoryError": Retry.MEMORY,
    }
    assert set(found) <= {name for name in dir(errors) if name.endswith("Error")}


def test_the_words_of_records_never_change() -> None:
    assert [one.value for one in Retry] == ["bug", "memory", "device", "surroundings"]


@pytest.mark.promise(
    "An error that no class or number calls a matter of surroundings counts as a bug, not tried again by itself."
)
@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        AssertionError(),
        FileNotFoundError(errno.ENOENT, "no such file", "typo"),
        IsADirectoryError(errno.EISDIR, "is a directory", "x"),
        NotADirectoryError(errno.ENOTDIR, "not a directory", "x"),
        FileExistsError(errno.EEXIST, "exists", "x"),
        OSError(errno.EINVAL, "invalid argument"),
        OSError("a library's own words"),
        ChildProcessError("a worker was killed by SIGSEGV"),
        FileNotFoundError("a library found no node of that name"),
        io.UnsupportedOperation("not readable"),
        requests.exceptions.MissingSchema("no scheme in 'mnist'"),
        ProcessLookupError(errno.ESRCH, "no such process"),
    ],
    ids=repr,
)
def test_a_bug_of_the_code_is_not_tried_again(error: Exception) -> None:
    assert failures.kind_of(error) is Retry.BUG


@pytest.mark.promise(
    "What the system refuses for reasons outside the code (17 error numbers) is tried again by resume."
)
@pytest.mark.parametrize(
    "name",
    ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO", "ESTALE", "ENOLCK", "EMFILE", "ENFILE", "EAGAIN", "ETIMEDOUT",
     "EHOSTDOWN", "ENOTCONN", "ESHUTDOWN", "ECONNREFUSED", "EXDEV", "EMLINK"],
)  # fmt: skip
def test_what_the_system_refuses_for_reasons_outside_the_code_is_tried_again(name: str) -> None:
    number = getattr(errno, name)
    assert failures.kind_of(OSError(number, os.strerror(number))) is Retry.SURROUNDINGS


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("no worker came"),
        ConnectionError(),
        socket.gaierror(-3, "no name"),
        socket.herror(1, "unknown host"),
        ssl.SSLError(1, "wrong version number"),
        ssl.SSLCertVerificationError(1, "certificate verify failed"),
        CommClosedError("in <TCP local=tcp://node1:1 remote=tcp://node2:2>: Stream is closed"),
        requests.exceptions.ConnectionError("connection aborted"),
        requests.exceptions.ChunkedEncodingError("connection broken"),
        urllib.error.URLError("unreachable"),
    ],
    ids=repr,
)
def test_networks_need_no_error_number(error: Exception) -> None:
    assert failures.kind_of(error) is Retry.SURROUNDINGS


def test_a_node_without_room_for_temporary_files_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/scratch"])
    with pytest.raises(FileNotFoundError, match="No usable temporary directory") as refused:
        tempfile.mkdtemp()
    assert failures.kind_of(refused.value) is Retry.SURROUNDINGS


def test_a_file_that_is_no_hdf5_is_no_matter_of_the_surroundings(tmp_path: Path) -> None:
    """h5py raises an OSError without a number for it, and errors with numbers for what the system refuses."""
    (tmp_path / "showers.h5").write_text("no HDF5")
    with pytest.raises(OSError, match="file signature not found") as unreadable:
        h5py.File(tmp_path / "showers.h5")
    assert failures.kind_of(unreadable.value) is Retry.BUG


def test_memory_that_is_refused_is_asked_for_anew() -> None:
    with pytest.raises(MemoryError) as array:
        np.empty(2**62, np.int8)
    for error in (array.value, OSError(errno.ENOMEM, "no memory for a process")):
        assert failures.kind_of(error) is Retry.MEMORY


@pytest.mark.parametrize(
    "message",
    [
        "INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered",
        "INTERNAL: CUDA error: Failed to load PTX text as a module: CUDA_ERROR_ILLEGAL_ADDRESS",
        "INTERNAL: cuSolver internal error",
        "INTERNAL: NCCL operation ncclAllReduce failed: unhandled system error",
        "UNKNOWN: Failed to determine best cudnn convolution algorithm: cuDNN launch failure",
        "INTERNAL: hipErrorLaunchFailure: unspecified launch failure",
        "UNAVAILABLE: the device went away",
        "DATA_LOSS: a transfer to the host was corrupted",
        "Unable to initialize backend 'cuda': no supported devices found for platform CUDA",
    ],
)
def test_a_device_that_fails_is_tried_again_elsewhere(message: str) -> None:
    assert failures.kind_of(jax.errors.JaxRuntimeError(message)) is Retry.DEVICE
    wrapped = ValueError("a shard ended")
    wrapped.__cause__ = jax.errors.JaxRuntimeError(message)
    assert failures.kind_of(wrapped) is Retry.DEVICE


@pytest.mark.parametrize("message", ["INVALID_ARGUMENT: shapes do not match", "INTERNAL: Generated function failed"])
def test_what_jax_says_of_a_program_is_a_bug(message: str) -> None:
    assert failures.kind_of(jax.errors.JaxRuntimeError(message)) is Retry.BUG


def test_memory_of_a_device_is_memory() -> None:
    refused = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4294967296 bytes."
    assert failures.kind_of(jax.errors.JaxRuntimeError(refused)) is Retry.MEMORY


def test_a_name_is_missing_by_a_bug_unless_the_run_itself_has_vanished(tmp_path: Path) -> None:
    error = FileNotFoundError(errno.ENOENT, "no such file", str(tmp_path / "store.zarr"))
    (tmp_path / "manifest.json").touch()
    assert failures.kind_of(error, tmp_path) is Retry.BUG
    assert failures.kind_of(error, tmp_path / "unmounted") is Retry.SURROUNDINGS


@pytest.mark.parametrize(("error", "kind"), [("ENOSPC", "surroundings"), ("ESTALE", "surroundings"), ("ENOENT", "bug")])
def test_a_record_holds_what_the_error_of_a_shard_says(error: str, kind: str, runs: Path) -> None:
    target = make_run(runs)
    shard = target.plan.of_phase("data")[0]
    assert run_shards(target, [shard.id], failpoint=f"chunk-written:1:{error}").returncode != 0
    (record,) = failures.open_records(target)
    assert (record["kind"], record["shard"]) == (kind, shard.id)


def test_a_record_of_an_unknown_word_is_read(runs: Path) -> None:
    """A later version may have more of them."""
    target = make_run(runs)
    shard = target.plan.of_phase("data")[0]
    failures.record(target, shard, claims.this_process("0" * 12), KeyError("x"))
    (path,) = failures.paths(target)
    files.write_atomic(path, files.seal(files.read_sealed(path) | {"kind": "weather"}))
    (record,) = failures.open_records(target)
    assert record["kind"] == "weather"


def test_a_file_in_the_way_is_a_refusal_only_where_it_was_to_be_written(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "claims").touch()
    with pytest.raises(SurroundingsError, match="in the way"), files.explain_refusals(place):
        (place / "claims").mkdir()
    with pytest.raises(SurroundingsError, match="not a directory"), files.explain_refusals(place / "claims" / "data"):
        (place / "claims" / "data").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileExistsError), files.explain_refusals(place):
        other.mkdir()
