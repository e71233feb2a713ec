"""The layout and the dependency rule of the project: who may import whom, and what at module level."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    "data": {"numpy", "h5py", "ase", "simpleeval"},
    "labeler": {"numpy", "h5py", "ase", "dask", "distributed"},
    "trainer": {"numpy", "h5py", "ase", "torch", "vesin", "safetensors"},
    "pipelines": {"click"},
}
TEACHER_PACKAGES = {"mace", "sevenn", "chgnet", "fairchem", "torchani", "matgl"}
NEVER = {
    "data": TEACHER_PACKAGES | {"dask", "distributed", "click"},
    "labeler": TEACHER_PACKAGES | {"torch", "click"},
    "trainer": TEACHER_PACKAGES | {"dask", "distributed", "click"},
    "pipelines": TEACHER_PACKAGES,
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, module_level: bool) -> set[str]:
    """Absolute names imported in a file; relative ones as hdistill.<...>. Those for type checking only are left out."""
    found: set[str] = set()
    package = ("hdistill", *path.relative_to(ROOT).with_suffix("").parts[:-1])

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if not (inside and module_level):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
                name = ".".join(part for part in (base, node.module or "") if part)
                found.update({name} if node.module else {f"{name}.{alias.name}" for alias in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(path.read_text()), False)
    return found


def is_teacher_side(path: Path) -> bool:
    """Adapters and the child's own script run in the teacher's interpreter, where its packages are."""
    return path.parent.name == "teachers" or path.name == "serve.py"


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
            allowed = top in STANDARD or top == "hdistill" or top in THIRD_PARTY[package]
            assert allowed, f"{path} imports {name} at module level"
        everything = {name.split(".")[0] for name in imports(path, module_level=False)}
        forbidden = everything & NEVER[package]
        assert not forbidden, f"{path} imports {forbidden}"


def test_only_one_file_of_data_uses_torch() -> None:
    users = {p.name for p in files("data") if "torch" in {n.split(".")[0] for n in imports(p, module_level=False)}}
    assert users <= {"hessian.py"}


def test_adapters_are_imported_by_nobody() -> None:
    for package in PACKAGES:
        for path in files(package):
            for name in imports(path, module_level=False):
                if name.startswith("hdistill.labeler.teachers.") and not is_teacher_side(path):
                    assert name == "hdistill.labeler.teachers.contract", f"{path} imports {name}"


def test_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    modules = {
        "hdistill." + ".".join(p.relative_to(ROOT).with_suffix("").parts): p
        for package in PACKAGES
        for p in files(package)
    }
    for module, path in modules.items():
        names = imports(path, module_level=True)
        graph[module.removesuffix(".__init__")] = {
            n.removesuffix(".__init__") for n in names if n in modules or n + ".__init__" in modules
        }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for other in graph.get(module, ()):
            if other != module:
                walk(other, (*trail, module))
        done.add(module)

    for module in graph:
        walk(module, ())


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
    loaded = modules_after("import hdistill.pipelines.cli")
    assert not loaded & {"torch", "numpy", "h5py", "ase", "dask", "distributed", "matplotlib"}


def test_every_package_is_listed_and_typed() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            name = "hdistill." + ".".join(init.parent.relative_to(ROOT).parts)
            assert f'"{name}"' in listed, f"{name} is not in pyproject.toml's packages"
            assert (init.parent / "py.typed").exists(), f"{name} has no py.typed"


def test_the_readme_lists_every_file() -> None:
    tree = (ROOT / "README.md").read_text().split("## What is where")[1]
    for package in (*PACKAGES, "benchmarks"):
        for path in files(package):
            assert path.name == "__init__.py" or path.name in tree, f"{path} is not in the README's tree"
