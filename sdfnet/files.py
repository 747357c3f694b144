"""Write files whole or not at all, and let only one process work in a folder. Every write goes through this module.

A write goes to a temporary file beside the target. This file is flushed to disk and then renamed to the target. So a
killed process never leaves a half-written file that a later run would trust. A full disk is one error that names the
target. Files get the rights of the umask, whichever library writes them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

_LOCK_FILE = ".lock"
_CONTAINER_MARK = "?pidns-"
"""filelock adds this mark to the name of the machine in a container, whose processes others cannot see."""

_IS_WINDOWS = os.name == "nt"
"""Windows opens no folders, so it cannot flush them, and has no umask."""

_FULL = "the disk is full; make room and repeat the command"
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left", "os error 112")
_FULL_BYTES = 64 * 1024
"""A disk with fewer free bytes is full. Some libraries report a full disk without its error number, or not at all."""

_PRIVATE = 0o077
"""The rights of the group and of others."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. It replaces `path` when the block ends without an error.

    The temporary keeps the suffix of `path` (writers choose a format by it) and starts with a dot. Parent folders are
    made. On an error the temporary is removed and `path` stays as it was.

    Raises
    ------
    ValueError
        The folder of `path` cannot be made or written to.
    OSError
        The disk is full, with `path` as its `filename`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    target = Path(path)
    ensure_folder(target.parent)
    temporary = target.with_name(f".{secrets.token_hex(6)}.partial{target.suffix}")
    try:
        with full_disk_named(target):
            yield temporary
            with open(temporary, "r+b") as handle:  # For update: Windows flushes no file that was opened for reading.
                os.fsync(handle.fileno())
            _give_usual_rights(temporary)
            os.replace(temporary, target)
            _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in `folder` itself; no other process may write there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, ".0123456789ab.partial.npy").write_text("half")
    ...     remove_partial_files(folder)
    ...     list(Path(folder).iterdir())
    []
    """
    for path in Path(folder).glob(".*.partial*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(path: str | Path) -> Iterator[None]:
    """Raise OSError with a plain message and `path` as its `filename` if the block fails because the disk is full.

    >>> with full_disk_named("shard.npy"):
    ...     raise OSError("4096 requested and 0 written: No space left on device")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] the disk is full; make room and repeat the command: 'shard.npy'
    """
    try:
        yield
    except Exception as error:
        is_named = isinstance(error, OSError) and error.strerror == _FULL  # By a block inside this one.
        if not is_named and _is_full_disk(error, Path(path).parent):
            raise OSError(errno.ENOSPC, _FULL, str(path)) from error
        raise


def _is_full_disk(error: Exception, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL_ERRORS:
        return True
    if any(text in str(error) for text in _FULL_TEXTS):
        return True
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


@contextlib.contextmanager
def only_process(folder: str | Path, *, doing: str, key: str) -> Iterator[None]:
    """Keep other processes and threads out of `folder` during the block. Blocks of one thread may be nested.

    The file `.lock` in the folder names the process and its machine. A lock that a killed process of this machine left
    is removed. The message says what the other process is `doing`, and which `key` of the command gave the folder.

    Raises
    ------
    ValueError
        Another process holds the lock, or may hold it on another machine. The message names both.
    OSError
        The folder cannot be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, only_process(folder, doing="training", key="run"):
    ...     (Path(folder) / ".lock").is_file()
    True
    """
    path = Path(folder) / _LOCK_FILE
    lock = filelock.SoftFileLock(path, is_singleton=True)
    with full_disk_named(path):
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise ValueError(_held(path, doing, key)) from error
    try:
        yield
    finally:
        lock.release()


def _held(path: Path, doing: str, key: str) -> str:
    """Return the message about a lock that another process holds."""
    try:
        process, host = path.read_text(encoding="utf-8").split()[:2]
    except (OSError, ValueError):  # It is being written or removed.
        process, host = "unknown", socket.gethostname()
    if host == socket.gethostname():
        return f"{key}={path.parent} is in use: process {process} is {doing} there. Wait for it, or give another {key}"
    host = host.partition(_CONTAINER_MARK)[0]
    return (
        f"{key}={path.parent} is in use: process {process} on the machine {host} is {doing} there. "
        f"Wait for it, or give another {key}. If that process has ended, remove {path}"
    )


def _give_usual_rights(path: Path) -> None:
    """Give a file that only its owner may read the rights of any new file here. safetensors writes such files."""
    if not _IS_WINDOWS and not path.stat().st_mode & _PRIVATE:
        probe = path.with_suffix(".rights")  # The umask cannot be read without changing it for all threads.
        try:
            os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            path.chmod(probe.stat().st_mode & 0o777)
        finally:
            probe.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: str | Path, document: Any) -> None:
    """Write `document` as indented JSON, whole or not at all. NaN and infinity are refused (they are not JSON)."""
    write_atomic(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def ensure_folder(folder: str | Path) -> Path:
    """Make `folder` (with parents) and return it.

    Raises
    ------
    ValueError
        It is a file, cannot be made or is not writable; the message names it.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make the folder {folder}: {error.strerror or error}. Choose another place."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write to the folder {folder}: permission denied. Choose another place.")
    return folder


def _flush_folder(folder: Path) -> None:
    """Make a rename durable; some file systems do not allow opening a folder, and there it is best effort."""
    if _IS_WINDOWS:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
