"""Write files whole or not at all. Every write of the project goes through this module.

A write goes to a temporary file beside the target. This file is flushed to disk and then renamed to the target. So a
killed process never leaves a half-written file that a later run would trust.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. It replaces `path` when the block ends without an error.

    The temporary keeps the suffix of `path` (writers choose a format by it) and starts with a dot. Parent folders are
    made. On an error the temporary is removed and `path` stays as it was.

    Raises
    ------
    ValueError
        The folder of `path` cannot be made or written to.

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
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
