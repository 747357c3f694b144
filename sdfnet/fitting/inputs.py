"""Find the input files of a fit, and decide what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations import KINDS, observation_kind
from sdfnet.fitting.observations.depth import depth_files
from sdfnet.fitting.observations.points import load_table
from sdfnet.fitting.observations.scan import is_open
from sdfnet.mesh.io.ply import parse_ply
from sdfnet.mesh.io.read import read_file
from sdfnet.volumes.label_volume import is_volume

_USES = {
    "sensor": ("mesh", "points"),
    "label": ("labels",),
    "axis": ("labels",),
    "every": ("labels",),
    "start": ("labels",),
    "spacing": ("labels", "sdf"),
}
"""Kinds that use each key; `noise_std` serves all."""


@dataclass(frozen=True)
class InputFile:
    """One input: the file (or the folder of depth images), its kind, and whether it shows the whole shape.

    >>> InputFile(Path("a.ply"), "mesh", is_whole=False).kind
    'mesh'
    """

    path: Path
    kind: str
    is_whole: bool


def find_inputs(path: str | Path, *, kind: str = "auto") -> dict[str, Path]:
    """Return the inputs in a file or a folder, by name: the path below the folder, without its suffix.

    A folder that holds depth images with their cameras is one input: all its images show one shape.

    Raises
    ------
    ValueError
        Nothing there, or two inputs of one name.

    >>> list(find_inputs("chairs"))[:2], list(find_inputs("chairs/chair_01.obj"))
    (['chair_00', 'chair_01'], ['chair_01'])
    """
    path = Path(path)
    kinds = KINDS if kind == "auto" else {kind: observation_kind(kind)}
    suffixes = tuple({suffix for each in kinds.values() for suffix in each.suffixes})
    if path.is_file():
        return {_name(path.name, suffixes): path}
    if not path.is_dir():
        raise ValueError(f"cannot read {path}: there is no such file or folder")
    found: dict[str, Path] = {}
    folders = [path, *sorted(each for each in path.rglob("*") if each.is_dir())]
    for folder in (each for each in folders if not _is_hidden(each, path)):
        views = depth_files(folder) if "depth" in kinds else []
        inputs = [folder] if views else []
        inputs += [each for each in sorted(folder.iterdir()) if each.is_file() and each not in views]
        for each in inputs:
            if each != folder and (not each.name.lower().endswith(suffixes) or each.name.startswith(".")):
                continue
            name = _name(each.relative_to(path).as_posix() if each != path else path.name, suffixes)
            if name in found:
                raise ValueError(
                    f"{found[name]} and {each} have the same name {name}; rename one, or give one as input"
                )
            found[name] = each
    if not found:
        raise ValueError(f"no input in {path} or below it; looked for files ending in {', '.join(sorted(suffixes))}")
    return found


def _is_hidden(folder: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(top).parts)


def _name(name: str, suffixes: tuple[str, ...]) -> str:
    longest = max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(longest)] or name


def resolve_input(path: Path, *, kind: str = "auto", config: ObserveConfig) -> InputFile:
    """Return what an input is: the kind given, or else what its suffix and its content say.

    Raises
    ------
    ValueError
        It could be of several kinds (the message names them) or of none; a key that its kind does not use.

    >>> resolve_input(Path("chairs/chair_00.obj"), config=ObserveConfig())
    InputFile(path=PosixPath('chairs/chair_00.obj'), kind='mesh', is_whole=True)
    """
    found = _detect(path, config) if kind == "auto" else kind
    observation_kind(found)
    for key, kinds in _USES.items():
        if getattr(config, key) != getattr(ObserveConfig, key) and found not in kinds:
            raise ValueError(f"{path}: {key} has no effect on an input of kind={found}; it is for {', '.join(kinds)}")
    return InputFile(path, found, is_whole=found == "mesh" and not is_open(path))


def _detect(path: Path, config: ObserveConfig) -> str:
    if path.is_dir():
        return "depth"
    suffix = path.suffix.lower()
    if is_volume(path):
        return "labels"
    if suffix == ".ply":
        try:
            return "mesh" if len(parse_ply(read_file(path)).corners) else "points"
        except ValueError as error:
            raise ValueError(f"{path}: damaged, or not PLY ({error}); export it again") from error
    if suffix in KINDS["mesh"].suffixes:
        return "mesh"
    if suffix == ".png":
        return "depth"
    if suffix == ".csv":
        return "contours" if load_table(path).shape[1] == 4 else "points"
    if suffix == ".npy":
        return _detect_array(path, config)
    if suffix in KINDS["points"].suffixes:
        return "points"
    choices = ", ".join(sorted({suffix for each in KINDS.values() for suffix in each.suffixes}))
    raise ValueError(f"{path}: no kind of input has this suffix; give a file ending in {choices}, or kind=")


def _detect_array(path: Path, config: ObserveConfig) -> str:
    if path.with_suffix(".json").is_file():
        return "depth"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: damaged, or not a plain .npy array ({error}); save it again") from error
    if array.ndim == 2 and array.shape[1] in (3, 6):
        return "points"
    if array.ndim == 3 and array.dtype.kind in "biu" and config.spacing is not None:
        return "labels"
    raise ValueError(
        f"{path}: an array of shape {array.shape} and type {array.dtype} can be of several kinds; give kind=points "
        "(N × 3 or N × 6), kind=labels or kind=sdf (three axes, with spacing=), or kind=depth (two axes, with a JSON "
        "file of the same name)"
    )


def resolve_inputs(
    paths: Mapping[str, Path], *, kind: str, config: ObserveConfig
) -> tuple[dict[str, InputFile], dict[str, str]]:
    """Return what each input is, and the reason for each that is of no kind.

    >>> resolve_inputs({"gone": Path("gone.txt")}, kind="sdf", config=ObserveConfig(axis=1))[1]["gone"][:30]
    'gone.txt: axis has no effect o'
    """
    found, failures = {}, {}
    for name, path in paths.items():
        try:
            found[name] = resolve_input(path, kind=kind, config=config)
        except (ValueError, OSError) as error:
            failures[name] = str(error)
    return found, failures
