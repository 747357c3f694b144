"""Wheel, sdist and editable install: each finds the configuration and the shipped meshes, also outside the checkout."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from sdfnet.cli.hydra_app.conf import conf_folder, meshes_folder

CHECKOUT = Path(__file__).parents[1]
PROGRAM = """
import sys
from pathlib import Path
from sdfnet.cli.hydra_app.command import COMMANDS
from sdfnet.cli.main import main
from sdfnet.cli.hydra_app.conf import conf_folder, meshes_folder
assert all((conf_folder() / f"{name}.yaml").is_file() for name in COMMANDS)
assert (meshes_folder() / "make_chairs.py").is_file()
assert len(list(meshes_folder().glob("*.obj"))) >= 24
assert main(["extract", "run=r", "--cfg", "job"]) == 0
print(conf_folder())
"""


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def used_conf(packages: Path, elsewhere: Path) -> Path:
    """Run the program with the site folder `packages` from a folder that is no checkout; return where its conf lies.

    Other installations of the project are taken off the path; those of its dependencies stay.
    """
    elsewhere.mkdir()
    prelude = (
        "import site, sys; from pathlib import Path\n"
        "sys.path[:] = [place for place in sys.path if not (Path(place) / 'sdfnet' / '__init__.py').is_file()]\n"
        f"site.addsitedir({str(packages)!r})\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        [sys.executable, "-P", "-c", prelude + PROGRAM], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_the_wheel_finds_its_files_outside_the_checkout(distributions: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(only(distributions, "*.whl")) as wheel:
        wheel.extractall(tmp_path / "site-packages")
    conf = used_conf(tmp_path / "site-packages", tmp_path / "elsewhere")
    assert conf == tmp_path / "site-packages" / "sdfnet" / "conf"


@pytest.mark.slow
def test_the_unpacked_sdist_finds_its_files(distributions: Path, tmp_path: Path) -> None:
    with tarfile.open(only(distributions, "*.tar.gz")) as sdist:
        sdist.extractall(tmp_path, filter="data")
    source = only(tmp_path, "sdfnet-*")
    for name in ("constraints.txt", "README.md", "LICENSE", "CHANGELOG.md", "tests/test_packaging.py", ".ci/run"):
        assert (source / name).is_file(), name
    assert used_conf(source, tmp_path / "elsewhere") == source / "conf"


@pytest.mark.slow
def test_an_editable_install_reads_the_checkout_and_not_a_stale_copy(tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*install, "--disable-pip-version-check", "--target", str(target), "--editable", str(CHECKOUT)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    stale = target / "sdfnet" / "conf"
    stale.mkdir(parents=True, exist_ok=True)
    (stale / "extract.yaml").write_text("nothing: works\n")
    (pth,) = target.glob("*.pth")
    assert pth.read_text().strip() == str(CHECKOUT)
    assert used_conf(target, tmp_path / "elsewhere") == CHECKOUT / "conf"


@pytest.mark.slow
def test_the_wheel_has_the_files_of_the_checkout_and_no_others(distributions: Path) -> None:
    with zipfile.ZipFile(only(distributions, "*.whl")) as wheel:
        names = set(wheel.namelist())
    for folder in ("conf", "meshes"):
        shipped = {f"sdfnet/{folder}/{path.relative_to(CHECKOUT / folder).as_posix()}" for path in tracked(folder)}
        assert {name for name in names if name.startswith(f"sdfnet/{folder}/")} >= shipped
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or "__pycache__" in name]


def tracked(folder: str) -> list[Path]:
    return [path for path in (CHECKOUT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_files_inside_the_package_come_first_and_those_beside_need_a_pyproject(tmp_path: Path) -> None:
    package = tmp_path / "sdfnet"
    package.mkdir()
    (tmp_path / "conf").mkdir()
    with pytest.raises(ValueError, match="the installation is incomplete: neither"):
        conf_folder(package)
    (tmp_path / "pyproject.toml").touch()
    assert conf_folder(package) == tmp_path / "conf"
    (package / "conf").mkdir()
    assert conf_folder(package) == package / "conf"


def test_the_checkout_has_both() -> None:
    assert conf_folder().is_dir()
    assert meshes_folder().is_dir()


def test_the_constraints_pin_every_dependency_exactly_once() -> None:
    lines = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    names = [line.partition("==")[0] for line in lines]
    assert all(line.count("==") == 1 for line in lines)
    assert len(set(names)) == len(names)
    assert "torch==2.13.0" in lines
    assert not {"pip", "sdfnet"} & set(names)


IMPORT_NAMES = {
    "scikit-image": "skimage",
    "libigl": "igl",
    "hydra-core": "hydra",
    "pillow": "PIL",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "scikit-robot-pyrender": "pyrender",
    "pyopengl": "OpenGL",
    "pyyaml": "yaml",
}
"""What a distribution is imported as, where the names differ."""


def declared(section: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ \[]", requirement, maxsplit=1)[0] for requirement in section}


def test_the_package_imports_what_it_depends_on_and_nothing_else() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    imported = set()
    for path in (CHECKOUT / "sdfnet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    if "torch.utils.tensorboard" in imported:  # part of torch, but useless without the other
        imported.add("tensorboard")
    others = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"sdfnet"}
    extras = project["optional-dependencies"]
    optional = declared([*extras["cluster"], *extras["viewer"]]) | {"ray", "pxr", "collada", "nibabel", "nrrd"}
    assert others - optional == {IMPORT_NAMES.get(name, name) for name in declared(project["dependencies"])}
    pinned = {line.partition("==")[0] for line in (CHECKOUT / "constraints.txt").read_text().splitlines()}
    tools = declared(project["optional-dependencies"]["dev"]) | declared(project["optional-dependencies"]["docs"])
    assert declared(project["dependencies"]) | tools - {"sdfnet"} <= pinned  # an extra of the project names another
