"""The layout and the dependency rule of the project: who may import whom, and what at module level."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "labeler", "trainer", "pipelines")
STANDARD = set(sys.stdlib_module_names) | {"__future__"}
MAY_IMPORT = {
    "data": {"data"},
    "labeler": {"data", "labeler"},
    "trainer": {"data", "trainer"},
    "pipelines": set(PACKAGES),
}
# At module level; inside functions anything light goes, except what NEVER says.
THIRD_PARTY = {
    "data": {"numpy", "h5py", "ase", "simpleeval", "msgspec", "filelock"},
    "labeler": {"numpy", "h5py", "ase", "dask", "distributed", "msgspec"},
    "trainer": {"numpy", "h5py", "ase", "torch", "vesin", "safetensors"},
    "pipelines": {"click"},
}
# Rooms that nothing loads before they are wanted, and what they may import besides.
LOADED_LATE = {("pipelines", "judging"): {"numpy", "ase", "safetensors"}}
# Rooms of a package in the order in which they may be imported: each imports only those before it. "" is the package's own files.
ROOMS = {
    "data": ("", "support", "format", "publication", "labelsets", "sources", "sampling", "convert", "sharing"),
    "labeler": ("teachers", "process", "planning", "work", "executors", ""),
    "trainer": ("", "bundles", "students", "inputs", "force_field", "evaluation", "fitting"),
    "pipelines": ("report", "", "dynamics", "judging", "distill", "api", "cli"),
}
ADAPTERS = {"lennard_jones", "sevennet", "chgnet", "mace", "fairchem", "torchani", "ase", "outside"}
TEACHER_PACKAGES = {"mace", "sevenn", "chgnet", "fairchem", "torchani", "matgl"}
NEVER = {
    "data": TEACHER_PACKAGES | {"dask", "distributed", "click"},
    "labeler": TEACHER_PACKAGES | {"torch", "click"},
    "trainer": TEACHER_PACKAGES | {"dask", "distributed", "click"},
    "pipelines": TEACHER_PACKAGES,
}
# Files of the trainer that run only where another package is, which they load when they are called.
OF_A_PACKAGE = {"mace": {"mace"}, "mace_model": {"mace"}}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


MODULES = {
    "hdistill." + ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for package in PACKAGES
    for p in files(package)
}


def imports(path: Path, module_level: bool) -> set[str]:
    """Absolute names imported in a file; relative ones as hdistill.<...>. Without module_level, those inside functions and
    those for type checking only are among them."""
    names: set[str] = set()
    package = ("hdistill", *path.relative_to(ROOT).with_suffix("").parts[:-1])

    def visit(node: ast.AST, inside: bool) -> None:
        if module_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if not (inside and module_level):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
                name = ".".join(part for part in (base, node.module or "") if part)
                own = {f"{name}.{alias.name}" for alias in node.names} & set(MODULES)
                names.update(own or {name})
        for child in ast.iter_child_nodes(node):
            visit(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(path.read_text()), False)
    return names


def is_teacher_side(path: Path) -> bool:
    """Adapters and the child's own script run in the teacher's interpreter, where its packages are."""
    return (path.parent.name == "teachers" and path.stem in ADAPTERS | {"contract"}) or path.name == "child.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in files(package):
        for name in imports(path, module_level=False):
            if name.startswith("hdistill."):
                assert name.split(".")[1] in MAY_IMPORT[package], f"{path} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_third_party_imports(package: str) -> None:
    for path in files(package):
        if is_teacher_side(path):
            continue
        for name in imports(path, module_level=True):
            top = name.split(".")[0]
            late = LOADED_LATE.get((package, path.parent.name), set())
            allowed = top in STANDARD or top == "hdistill" or top in THIRD_PARTY[package] | late
            assert allowed, f"{path} imports {name} at module level"
        everything = {name.split(".")[0] for name in imports(path, module_level=False)}
        forbidden = everything & NEVER[package] - OF_A_PACKAGE.get(path.stem, set())
        assert not forbidden, f"{path} imports {forbidden}"


def test_only_one_file_of_data_uses_torch() -> None:
    users = {p.name for p in files("data") if "torch" in {n.split(".")[0] for n in imports(p, module_level=False)}}
    assert users <= {"hessian.py"}


def test_adapters_are_imported_by_nobody() -> None:
    for package in PACKAGES:
        for path in files(package):
            for name in imports(path, module_level=False):
                if name.startswith("hdistill.labeler.teachers."):
                    assert name.split(".")[3] not in ADAPTERS, f"{path} imports {name}"


def test_no_circle_of_imports() -> None:
    """Imports inside functions and for type checking only are imports, too."""
    graph = {module: imports(path, module_level=False) & set(MODULES) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in graph[module]:
                walk(other, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def room(module: str) -> str:
    """The folder of a module inside its package; "" for what lies in the package itself."""
    _, package, *rest = module.split(".")
    return rest[0] if rest and (ROOT / package / rest[0]).is_dir() else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_rooms_above_it(package: str) -> None:
    order = ROOMS[package]
    assert {room(module) for module in MODULES if module.split(".")[1] == package} <= set(order)
    for module, path in MODULES.items():
        if module.split(".")[1] != package or path.name == "__main__.py":
            continue
        for name in imports(path, module_level=False) & set(MODULES):
            if name.split(".")[1] == package:
                assert order.index(room(name)) <= order.index(room(module)), f"{module} imports {name}"


def test_nobody_inside_imports_the_front_door() -> None:
    """`import hdistill` shows what is behind it; behind it, everything is imported from where it is."""
    for path in MODULES.values():
        assert "hdistill" not in imports(path, module_level=False), path


def test_no_bare_imports_of_our_packages() -> None:
    """`import data` works from the repository root and would be a second module object."""
    for folder in (*PACKAGES, "tests", "benchmarks"):
        for path in files(folder):
            tops = {name.split(".")[0] for name in imports(path, module_level=False)}
            assert not tops & set(PACKAGES), path


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    return {name.split(".")[0] for name in run.stdout.split()}


def test_the_trainer_loads_neither_teachers_nor_dask() -> None:
    loaded = modules_after(
        "import pkgutil, importlib, hdistill.trainer as t\n"
        "for m in pkgutil.walk_packages(t.__path__, 'hdistill.trainer.'): importlib.import_module(m.name)"
    )
    assert "torch" in loaded
    assert not loaded & (TEACHER_PACKAGES | {"dask", "distributed"})


def test_the_command_line_starts_light() -> None:
    loaded = modules_after("import hdistill.pipelines.cli.main")
    assert not loaded & {"torch", "numpy", "h5py", "ase", "dask", "distributed", "matplotlib"}


def test_every_package_is_listed_and_typed() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for package in PACKAGES:
        for init in (ROOT / "__init__.py", *(ROOT / package).rglob("__init__.py")):
            name = ".".join(("hdistill", *init.parent.relative_to(ROOT).parts))
            assert f'"{name}"' in listed, f"{name} is not in pyproject.toml's packages"
            assert (init.parent / "py.typed").exists(), f"{name} has no py.typed"


def test_every_data_file_is_installed_and_nothing_else_is() -> None:
    """The package's folder is the repository's own, so that a pattern too many would install README and tests."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["include-package-data"] is False
    engines = "hdistill.trainer.force_field.engines"
    assert setuptools["package-data"] == {
        "*": ["py.typed"],
        "hdistill.pipelines": ["recipes/*.toml", "recipes/bundles/*"],
        "hdistill.data.sampling": ["recipes/*.toml"],
        "hdistill.trainer.bundles": ["*/*"],
        engines: ["*.cpp"],
    }
    recipes = ROOT / "pipelines" / "recipes"
    sources = {ROOT / "trainer" / "force_field" / "engines" / "lammps_plugin.cpp"}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "py.typed" and path not in sources:
            if path.parent.parent == ROOT / "trainer" / "bundles":
                continue  # what is in them is of tests/trainer/test_shipped.py
            assert path.parent in (recipes, recipes / "bundles", ROOT / "data" / "sampling" / "recipes"), path
            assert path.suffix == ".toml" or path.with_suffix(".toml").exists(), path


def test_the_readme_lists_every_folder() -> None:
    tree = (ROOT / "README.md").read_text().split("## What is where")[1]
    for init in (path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")):
        assert f"{init.parent.name}/ " in tree, f"{init.parent} is not in the README's tree"


def test_every_folder_says_what_its_files_do() -> None:
    for init in (path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse(init.read_text())) or ""
        for path in init.parent.glob("*.py"):
            assert path.name == "__init__.py" or path.name in docstring, f"{path} is not in {init}"


@pytest.mark.xdist_group("architecture")
def test_groups_of_tests_are_groups(request: pytest.FixtureRequest) -> None:
    """What they share is dear, or there is one of it on a machine; a pytest that is newer than its xdist divides them unasked."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@architecture")
