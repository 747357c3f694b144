"""The guide itself, held against the source: layers, imports, and what no module may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sdfnet

PACKAGE = Path(sdfnet.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    "files",
    "geometry",
    "mesh",
    "decoders",
    "fields",
    "extraction",
    "volumes",
    "solids",
    "runs",
    "sampling",
    "rendering",
    "evaluation",
    "training",
    "correspondence",
    "latents",
    "fitting",
    "morphs",
    "scenes",
    "viewer",
    "cli",
)
FORBIDDEN_NAMES = ("utils", "common", "helpers", "misc")
LONGEST_MODULE, LONGEST_FUNCTION = 600, 60
MOST_PARAMETERS, MOST_MODULES = 7, 15
SHORT_MODULE = 60
FREE_FOLDERS = ("cli/commands", "decoders", "fitting/observations", "mesh/io")
"""One command, decoder, observation or format a file, however short and whoever imports it."""

ALONE = {
    "cli/main.py": "imports nothing heavy, so that the list of commands and completion of their names answer at once",
    "cli/hydra_app/application.py": "imports Hydra, which cli/main.py must not",
    "cli/hydra_app/completion.py": "is imported only when a shell asks",
    "cli/hydra_app/conf_files.py": "is a program that rewrites conf/",
    "correspondence/advect.py": "moves one mesh over one step; track.py decides where a mesh starts and ends",
    "correspondence/lattice_topology.py": "components and handles on a lattice, a subject with its own literature",
    "correspondence/template_track.py": "tracking through a template, beside track.py which advects",
    "extraction/normals.py": "normals from a field's gradient, for extraction and after decimation",
    "extraction/sharp_features/detect.py": "finds the cells of sharp features; the method rebuilds them",
    "extraction/sharp_features/extended_marching_cubes.py": "one published method of sharp features",
    "fields/arguments.py": "checks of the arguments that four modules of fields share",
    "fitting/align.py": "a subject that a practitioner looks up by name",
    "fitting/calibrate.py": "a subject that a practitioner looks up by name",
    "fitting/ensemble.py": "the ensemble of learned fields, a method with its own literature, beside refine.py",
    "fitting/family.py": "what a run says before any observation, for alignment and posterior",
    "fitting/results.py": "writes the files of a completed part; fit_meshes.py decides which and when",
    "fitting/posterior.py": "the mathematics of completion, without files and batches",
    "fitting/holdout.py": "two trainings and a fit: too much for a command, and scripts call it",
    "latents/arc_length.py": "a subject that a practitioner looks up by name",
    "latents/attributes.py": "a subject that a practitioner looks up by name",
    "latents/config.py": "the options of sdfnet space, apart from what uses them",
    "latents/effects.py": "reads attributes off shapes, apart from the regression that finds directions",
    "latents/generalization.py": "a subject that a practitioner looks up by name",
    "latents/geodesic.py": "a subject that a practitioner looks up by name",
    "latents/groups.py": "a subject that a practitioner looks up by name",
    "latents/families.py": "attributes and groups of one run; analysis.py puts all parts together",
    "latents/pictures.py": "draws what analysis.py measures",
    "latents/space_page.py": "writes the offline report, one format of output",
    "decoders/lookup.py": "look-ups in a volume, which the decoders with volumes share",
    "decoders/lookup_kernels.py": "the compiled loops of look-ups; imports numba, which decoders without them need not",
    "mesh/bvh.py": "the compiled search tree",
    "mesh/visibility.py": "what is seen of a surface from outside, by rays; loads embree",
    "mesh/union.py": "a subject that a practitioner looks up by name",
    "morphs/export.py": "writes the files of a morph; morph.py decides which and when",
    "rendering/colormap.py": "a subject that a practitioner looks up by name",
    "rendering/pyrender_backend.py": "imports pyrender, which is loaded only where GL works",
    "rendering/embree_backend.py": "the pictures of a machine without GL; loads embree",
    "rendering/web_page.py": "writes the offline page, one format of output",
    "scenes/colors.py": "the colour of a scene at a point; extract.py asks it at the vertices",
    "scenes/sources.py": "meshes and runs as nodes of a scene, each file read once",
    "runs/local_blends.py": "the words of one kind of shape; mixes.py reads all kinds",
    "viewer/latest.py": "coarse and fine answers to the newest request, without a browser",
    "viewer/section.py": "a cut with its lines of distance, without a browser",
    "solids/caps.py": "which holes a flat cap closes; walls.py only takes its faces",
    "solids/limits.py": "limits of time and memory for the work on one mesh, also outside solids",
    "solids/solid.py": "makes a solid of a mesh by the rule, which source_shape.py only hands on",
    "solids/walls.py": "parts without an inside, and the surface of solids and walls together",
}
"""Why a module that is short, or that only one other imports, is none the less a module of its own."""

SAME_NAMES: dict[str, str] = {}
"""Public names that two modules define, and why that confuses nobody."""

GLOBAL_RANDOM = {
    "torch": {"manual_seed", "seed"},
    "random": {"random", "randint", "choice", "shuffle", "seed", "uniform", "gauss", "sample"},
}
TAKES_GENERATOR = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    """The folder (or top file) a module of the package lies in; None for the package's own face."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else None


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if not is_type_checking(child):
            nodes += [child, *runtime_nodes(child)]
    return nodes


def imported_modules(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.fixture(params=MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def module(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_module_imports_only_from_its_own_layer_or_those_above(module: Path) -> None:
    own = layer_of(name_of(module))
    if own is None:
        return
    for imported in imported_modules(parse(module)):
        other = layer_of(imported) if imported.startswith("sdfnet.") else None
        if other is not None:
            assert LAYERS.index(other) <= LAYERS.index(own), f"{name_of(module)} imports {imported}"


def test_every_top_level_name_of_the_package_has_a_layer() -> None:
    names = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    outside = {name for name in names if not name.startswith("__") and name not in LAYERS}
    assert outside - {"conf", "meshes", "py"} == set()


def test_there_are_no_circles_between_modules() -> None:
    known = {name_of(path): path for path in MODULES}
    graph = {
        name: {other for other in imported_modules(parse(path)) if other in known and other != name}
        for name, path in known.items()
        if path.name != "__init__.py"
    }
    # A package's face imports its own modules; what matters is the circles between the modules themselves.
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_the_command_line_imports_hydra(module: Path) -> None:
    if layer_of(name_of(module)) != "cli":
        tops = {name.split(".")[0] for name in imported_modules(parse(module))}
        assert not tops & {"hydra", "omegaconf"}


def test_nothing_prints_outside_the_command_line(module: Path) -> None:
    if layer_of(name_of(module)) != "cli":
        calls = [node for node in ast.walk(parse(module)) if isinstance(node, ast.Call)]
        assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_no_bare_except_and_no_star_import(module: Path) -> None:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}: import *"


def forked_nodes(tree: ast.Module) -> set[ast.AST]:
    """All nodes inside `with torch.random.fork_rng(…)`: the global generator is put back as it was."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    forks = [block for block in blocks if any("fork_rng" in ast.unparse(item.context_expr) for item in block.items)]
    return {node for block in forks for node in ast.walk(block)}


def test_no_call_reaches_for_a_global_generator(module: Path) -> None:
    tree = parse(module)
    forked, imports = forked_nodes(tree), imported_modules(tree)
    for node in ast.walk(tree):
        if node in forked:
            continue
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        called = ast.unparse(node.func)
        owner, _, function = called.rpartition(".")
        where = f"line {node.lineno}: {called}"
        assert owner not in ("np.random", "numpy.random") or (function == "default_rng" and node.args), where
        if owner in imports:  # A local generator may well be called `random`.
            assert function not in GLOBAL_RANDOM.get(owner, ()), where
        if owner == "torch" and function in TAKES_GENERATOR:
            assert any(keyword.arg == "generator" for keyword in node.keywords), where


def test_a_folder_has_few_modules() -> None:
    folders: dict[Path, list[str]] = {}
    for path in MODULES:
        if path.name != "__init__.py":
            folders.setdefault(path.parent, []).append(path.name)
    # A table of one command or format a file is as long as the table.
    free = {PACKAGE / folder for folder in FREE_FOLDERS}
    assert {str(each): names for each, names in folders.items() if len(names) > MOST_MODULES and each not in free} == {}


def test_a_private_function_has_few_parameters(module: Path) -> None:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_") and not node.name.startswith("__"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            number = len([one for one in arguments if one.arg not in ("self", "cls")])
            assert number <= MOST_PARAMETERS, f"{node.name} has {number} parameters"


def users() -> dict[str, set[str]]:
    """Return the modules that use each module; what a folder's face hands on counts for the module that it is from."""
    origin: dict[str, str] = {}
    for face in (path for path in MODULES if path.name == "__init__.py"):
        for node in ast.walk(parse(face)):
            if isinstance(node, ast.ImportFrom):
                origin |= {f"{name_of(face)}.{alias.asname or alias.name}": node.module or "" for alias in node.names}
    found: dict[str, set[str]] = {}
    for name, home in origin.items():
        found.setdefault(home, set()).add(f"users of {name.rpartition('.')[0]}")
    for path in (path for path in MODULES if path.name != "__init__.py"):
        for imported in imported_modules(parse(path)):
            found.setdefault(origin.get(imported, imported), set()).add(name_of(path))
    return found


def test_a_module_that_is_short_or_has_one_user_has_a_reason() -> None:
    used = users()
    without = {}
    for path in MODULES:
        where = path.relative_to(PACKAGE).as_posix()
        if path.name in ("__init__.py", "__main__.py") or where.rpartition("/")[0] in FREE_FOLDERS:
            continue
        importers = used.get(name_of(path), set()) - {name_of(path)}
        length = len(path.read_text(encoding="utf-8").splitlines())
        for_users = any(name.startswith("users of ") for name in importers)
        if length < SHORT_MODULE or (len(importers) < 2 and not for_users):
            without[where] = f"{length} lines, imported by {', '.join(sorted(importers)) or 'none'}"
    assert {where: told for where, told in without.items() if where not in ALONE} == {}
    assert [where for where in ALONE if not (PACKAGE / where).is_file()] == []


def test_a_public_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in parse(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(path))
    twice = {name: found for name, found in homes.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SAME_NAMES} == {}
    assert set(SAME_NAMES) <= set(twice), "a name that does not stand twice any longer"


def test_no_two_classes_differ_only_by_an_ending() -> None:
    names = {node.name for path in MODULES for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)}
    verbs = {name.removesuffix("Config"): name for name in names if name.endswith("Config")}
    endings = ("ing", "ation", "ion")
    assert [(verbs[verb], verbs[verb + end]) for verb in verbs for end in endings if verb + end in verbs] == []
    stems = {verb[:-1] for verb in verbs if verb.endswith("e")}
    assert [stem for stem in stems for end in endings if stem + end in verbs] == []


def test_a_module_is_short_has_a_docstring_and_a_name_that_says_something(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(parse(module)), "no module docstring"
    assert module.stem not in FORBIDDEN_NAMES


def test_a_function_fits_on_a_page(module: Path) -> None:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_importing_the_package_stays_light() -> None:
    heavy = ("hydra", "omegaconf", "pyrender", "viser", "matplotlib")
    program = f"import sys, sdfnet; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
