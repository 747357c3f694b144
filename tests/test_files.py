"""Writes: whole or not at all, with the rights of the umask, and one clear error on a full disk. Locks of folders."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sdfnet import files
from sdfnet.files import atomic_path, full_disk_named, only_process, write_atomic
from sdfnet.runs import save_tensors

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")


@POSIX
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_get_the_rights_of_the_umask_whoever_writes_them(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(3)}, metadata={})
        write_atomic(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert rights == {"a.safetensors": 0o666 & ~umask, "a.txt": 0o666 & ~umask}


@POSIX
def test_a_file_is_flushed_through_a_handle_that_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    modes = {}

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        modes[kind] = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_atomic(tmp_path / "a.txt", "text")
    assert modes == {"file": os.O_RDWR, "folder": os.O_RDONLY}
    modes.clear()
    monkeypatch.setattr(files, "_IS_WINDOWS", True)
    write_atomic(tmp_path / "a.txt", "text")
    assert modes == {"file": os.O_RDWR}  # Windows opens no folder.


FULL = {
    "the system": OSError(errno.ENOSPC, "No space left on device"),
    "a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "numpy": OSError("4096 requested and 0 written: No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL.keys())
def test_a_full_disk_is_one_error_that_names_the_target_and_leaves_no_half_file(
    tmp_path: Path, error: Exception
) -> None:
    target = tmp_path / "shard.npy"
    target.write_bytes(b"before")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(OSError, match="the disk is full; make room") as raised:
        write()
    assert raised.value.filename == str(target)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("shard.npy", b"before")]


def test_a_library_that_only_fails_on_a_disk_without_room_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 4096})())
    with pytest.raises(OSError, match="the disk is full"), full_disk_named(tmp_path / "film.mp4"):
        raise ValueError("ffmpeg could not write the film: broken pipe")


def test_other_errors_pass_unchanged_and_the_innermost_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_named(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(OSError, match="the disk is full") as raised, full_disk_named("outer"), full_disk_named("inner"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == "inner"


HOLDER = """
import sys, time
from sdfnet.files import only_process
with only_process(sys.argv[1], doing="training", key="run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_belongs_to_one_process_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=f"run={tmp_path} is in use: process {holder.pid} is training there"),
            only_process(tmp_path, doing="training", key="run"),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / ".lock").is_file()  # The killed process has left its lock.
    with only_process(tmp_path, doing="training", key="run"):
        with only_process(tmp_path, doing="training", key="run"):  # The same thread may nest.
            pass
        assert (tmp_path / ".lock").read_text().split()[0] == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_machine_is_kept_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.write_text("77\nfar?pidns-abc\n")
    expected = f"process 77 on the machine far is training there.*If that process has ended, remove {lock}"
    with pytest.raises(ValueError, match=expected), only_process(tmp_path, doing="training", key="run"):
        pass
    assert lock.read_text().startswith("77")
    lock.write_text(f"{2**30}\n{socket.gethostname()}\n")
    with only_process(tmp_path, doing="training", key="run"):  # No such process on this machine.
        assert lock.read_text().split()[0] == str(os.getpid())
