"""Where the configuration and the shipped meshes lie, in a checkout and in an installed package.

A wheel carries both inside the package. In a checkout they stand beside it. Everything is looked up from this file,
because an editable install may leave a stale copy in site-packages that must not be read.
"""

from __future__ import annotations

from pathlib import Path

import sdfnet

_PACKAGE = Path(sdfnet.__file__).resolve().parent


def conf_folder(package: Path = _PACKAGE) -> Path:
    """Return the folder of YAML files that Hydra composes."""
    return _resource("conf", package)


def meshes_folder(package: Path = _PACKAGE) -> Path:
    """Return the folder of the shapes that ship with the project."""
    return _resource("meshes", package)


def _resource(name: str, package: Path) -> Path:
    inside, beside = package / name, package.parent / name
    if inside.is_dir():
        return inside
    if beside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return beside
    raise ValueError(f"the installation is incomplete: neither {inside} nor {beside} exists. Install sdfnet again.")
