"""A folder of results that a later call continues: a morph, a fit, and whatever else is made record by record.

One JSON file in the folder says with which settings the results are made and lists a record for every finished part.
Use it in four steps:

1. `open_folder` returns the document of the folder: a fresh one, or that of an earlier call with the same settings.
   Where the settings differ, it names the difference and refuses, or it removes the earlier results.
2. `is_whole` tells which records of the document can be kept: all their files are there with the size that was written.
3. Write the files of a part. Then put its record into the document, with `"files": file_sizes(out, names)`.
4. `save_folder` writes the document, whole or not at all. Call it after every part, or every few seconds.

So a killed call loses only what it had not recorded. Folders with a file of their own kind (a run, a sample store) only
compare: `setting_differences`.

    FIT = FolderKind(what="fit", file="fit.json", format=1, records="shapes")
    document = open_folder(out, settings, FIT)
    done = {name for name, record in document["shapes"].items() if is_whole(out, record)}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdfnet.files import ensure_folder, write_json

_MOST_TOLD = 4
"""Differences that an error names."""

_LONG_LISTS = 120
"""If two lists have more characters than this, an error names only the items lost and gained."""


_WITHOUT_EFFECT = ("sparse",)
"""Options of earlier versions that changed no result."""


@dataclass(frozen=True)
class FolderKind:
    """The name of one kind of folder, and the layout of its JSON file.

    `what` is the results in words, for messages. The JSON `file` has a layout of the number `format`; another number
    counts as other settings. `records` is the key of the records: a list if `listed`, else a dict by name.
    `other_files` are keys beside the records whose values name files, or lists of files, of the whole folder. `pattern`
    is a glob of files that only such a folder holds: where they lie without the JSON file, the folder is refused.
    `unnamed` is that of `setting_differences`.
    """

    what: str
    file: str
    format: int
    records: str
    listed: bool = False
    other_files: tuple[str, ...] = ()
    pattern: str = ""
    unnamed: Mapping[str, Any] = field(default_factory=dict)


def open_folder(
    out: str | Path, settings: Mapping[str, Any], kind: FolderKind, *, overwrite: bool | None = None
) -> dict[str, Any]:
    """Return the document of the folder `out`: the earlier one, or a fresh one. Make the folder if needed.

    `settings` are all that the results in the folder depend on, as JSON values. `overwrite` says whether to remove the
    files of other results of this kind; it is None if the caller has no such option.

    Raises
    ------
    ValueError
        The folder holds results with other settings (the message names the differences), files that no document
        explains, or a damaged document.
    """
    out = ensure_folder(out)
    fresh = {"format": kind.format, "settings": dict(settings), kind.records: [] if kind.listed else {}}
    earlier = _read(out / kind.file)
    if earlier is None:
        found = sorted(path.name for path in out.glob(kind.pattern)) if kind.pattern else []
        if found and not overwrite:
            raise ValueError(f"{out} holds {found[0]} but no {kind.file}; choose another out, or overwrite=true")
        return fresh
    if earlier.get("format") != kind.format:
        differences = [f"{kind.file} has format {earlier.get('format')!r}, this version writes {kind.format}"]
    else:
        differences = setting_differences(earlier.get("settings", {}), settings, unnamed=kind.unnamed)
    if not differences:
        return earlier
    if not overwrite:
        cure = "repeat its own options" if overwrite is None else "overwrite=true"
        told = "; ".join(differences[:_MOST_TOLD])
        raise ValueError(f"{out} holds another {kind.what}: {told}. Choose another out, or {cure}")
    for name in _recorded_files(earlier, kind):
        (out / name).unlink(missing_ok=True)
    return fresh


def save_folder(out: str | Path, document: Mapping[str, Any], kind: FolderKind) -> None:
    """Write the document of the folder `out`, whole or not at all."""
    write_json(Path(out) / kind.file, document)


def file_sizes(out: str | Path, names: Iterable[str]) -> dict[str, int]:
    """Return the bytes of the files `names` in the folder `out`, for a record's `files`."""
    return {name: (Path(out) / name).stat().st_size for name in names}


def is_whole(out: str | Path, record: Mapping[str, Any]) -> bool:
    """Tell whether all files of a record exist with the recorded size."""
    sizes = {Path(out) / name: size for name, size in record["files"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def setting_differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    ignored: Collection[str] = (),
    unnamed: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return one text for each key in which two settings differ; nested keys are joined by dots.

    The dotted keys in `ignored` may differ. `unnamed` says what a dotted key stands for in settings that an earlier
    version wrote without the key.

    >>> setting_differences({"frames": 3, "film": {"fps": 20}}, {"frames": 4, "film": {"fps": 20, "loop": True}})
    ['frames is 3 there and 4 now', 'film.loop is null there and true now']
    """
    left, right = dict(_flat(_as_read(before))), dict(_flat(_as_read(now)))
    defaults = {} if unnamed is None else _as_read(unnamed)
    found = []
    for key in dict.fromkeys([*left, *right]):
        old, new = left.get(key, defaults.get(key)), right.get(key)
        if old != new and key not in ignored and key not in _WITHOUT_EFFECT:
            found.append(_difference(key, old, new))
    return found


def _as_read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a file: lists in place of tuples."""
    document: dict[str, Any] = json.loads(json.dumps(settings))
    return document


def _flat(settings: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _difference(key: str, old: Any, new: Any) -> str:
    before, now = json.dumps(old, ensure_ascii=False), json.dumps(new, ensure_ascii=False)
    if isinstance(old, list) and isinstance(new, list) and len(before) + len(now) > _LONG_LISTS:
        lost, gained = [each for each in old if each not in new], [each for each in new if each not in old]
        if lost or gained:
            return f"{key} lost {_first_of(lost)} and gained {_first_of(gained)}"
    return f"{key} is {before} there and {now} now"


def _first_of(items: list[Any]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(str(item) for item in items[:3]) + more if items else "nothing"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it or choose another out.") from error
    return document if isinstance(document, dict) else {}


def _recorded_files(document: Mapping[str, Any], kind: FolderKind) -> Iterator[str]:
    records = document.get(kind.records, [])
    for record in records if isinstance(records, list) else records.values():
        yield from record.get("files", {})
    for key in kind.other_files:
        names = document.get(key, [])
        yield from [names] if isinstance(names, str) else names
