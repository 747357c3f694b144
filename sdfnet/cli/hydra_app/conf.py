"""Find the folders `conf/` and `meshes/`, and read the comments in the files of `conf/`.

A wheel carries both folders inside the package; in a checkout they stand beside it. They are looked up from this file,
because an editable install may leave a stale copy in site-packages that must not be read.

Every value in `conf/` has a comment above it, written from its dataclass by `conf_files.py`. Help and completion read
the comments, so that they need neither the dataclasses nor torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import OmegaConf

import sdfnet

_PACKAGE = Path(sdfnet.__file__).resolve().parent


def conf_folder(package: Path = _PACKAGE) -> Path:
    """Return the folder of YAML files that Hydra composes."""
    return _resource("conf", package)


def meshes_folder(package: Path = _PACKAGE) -> Path:
    """Return the folder of the shapes that ship with the project."""
    return _resource("meshes", package)


def command_groups(name: str) -> list[str]:
    """Return the configuration groups of a command, in the order of its defaults list."""
    defaults = OmegaConf.load(conf_folder() / f"{name}.yaml").defaults
    return [str(group) for entry in defaults if OmegaConf.is_dict(entry) for group in entry]


def command_examples(name: str) -> list[str]:
    """Return the complete command lines in the head of a command's file."""
    text = (conf_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return re.findall(r"^#   (sdfnet .*|torchrun .*)$", text.partition("\ndefaults:")[0], flags=re.MULTILINE)


def key_comments(place: str, option: str | None = None) -> dict[str, str]:
    """Return the comment above each key of a command's file (`extract.yaml`), or of an `option` of a group.

    Where the option has no comment on a key, the comment of another option of the group is taken.
    """
    path = conf_folder() / place
    files = [path] if path.is_file() else sorted(path.glob("*.yaml"), key=lambda file: (file.stem != option, file))
    comments: dict[str, str] = {}
    for file in files:
        comments = _comments_in(file.read_text(encoding="utf-8")) | comments
    return comments


def _comments_in(text: str) -> dict[str, str]:
    comments: dict[str, str] = {}
    above: list[str] = []
    for line in text.splitlines():
        key = re.match(r"(\w+):", line)
        if line.startswith("# "):
            above.append(line[2:].strip())
            continue
        if key and above:
            comments[key[1]] = " ".join(above)
        above = []
    return comments


def _resource(name: str, package: Path) -> Path:
    inside, beside = package / name, package.parent / name
    if inside.is_dir():
        return inside
    if beside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return beside
    raise ValueError(f"the installation is incomplete: neither {inside} nor {beside} exists. Install sdfnet again.")
