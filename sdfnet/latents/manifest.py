"""The manifest of a morph: what each file in its folder is, and what is needed to go on after an interruption.

A frame stands in the manifest only after all its files are whole on disk. The manifest of an unfinished morph says
`"complete": false`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdfnet.files import write_json

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = 2


def open_manifest(out: Path, settings: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
    """Return the manifest to go on with: that of `out` if it has the same `settings`, else a new one.

    Raises
    ------
    ValueError
        `out` holds another morph, or frames that no manifest explains, and `overwrite` is false.
    """
    fresh = {"format": MANIFEST_FORMAT, "complete": False, "settings": settings, "frames": []}
    settings = json.loads(json.dumps(settings))  # as it will be read back: lists for tuples
    earlier = _read(out / MANIFEST_FILE)
    if earlier is None:
        strays = sorted(path.name for path in out.glob("frame_*"))
        if strays and not overwrite:
            raise ValueError(f"{out} holds {strays[0]} but no {MANIFEST_FILE}; choose another out, or overwrite=true")
        return fresh
    difference = _difference(earlier, settings)
    if not difference:
        return earlier
    if not overwrite:
        raise ValueError(f"{out} holds another morph: {difference}. Choose another out, or overwrite=true")
    names = list(earlier.get("films", []))
    for record in earlier.get("frames", []):
        names += record.get("files", {})
    for name in names:
        (out / name).unlink(missing_ok=True)
    return fresh


def save_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest` into `out`, whole."""
    write_json(out / MANIFEST_FILE, manifest)


def finished_frames(out: Path, manifest: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the records by frame number of those frames whose files are all there with the size that was written."""
    return {
        record["index"]: record
        for record in manifest["frames"]
        if all(_size(out / name) == size for name, size in record["files"].items())
    }


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it or choose another out.") from error
    return document if isinstance(document, dict) else {}


def _difference(earlier: dict[str, Any], settings: dict[str, Any]) -> str:
    """Say in which setting two morphs differ; empty if in none."""
    if earlier.get("format") != MANIFEST_FORMAT:
        return f"its manifest has format {earlier.get('format')!r}, this version writes {MANIFEST_FORMAT}"
    before = earlier.get("settings", {})
    for key in dict.fromkeys([*settings, *before]):
        if before.get(key) != settings.get(key):
            return f"{key} is {before.get(key)!r} there and {settings.get(key)!r} now"
    return ""
