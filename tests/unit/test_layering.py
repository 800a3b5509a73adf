"""Imports point down only, the core does no I/O, and one module starts programs (design §3)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "builder"
LAYERS = {
    "errors": 0,
    "model": 1,
    "encoding": 1,
    "components": 2,
    "measure": 2,
    "normalize": 2,
    "compare": 2,
    "attest": 2,
    "verify": 2,
    "ports": 3,
    "pipeline": 4,
    "backends": 4,
    "cli": 5,
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "inside")
FORBIDDEN_IN_CORE = {
    "glob",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "requests",
    "docker",
}
STARTERS = {"subprocess", "multiprocessing", "pty"}
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval"}


def layer_of(path: Path) -> int | None:
    return LAYERS.get(path.relative_to(PACKAGE).with_suffix("").parts[0])


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 30


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    own = layer_of(path)
    if own is None:
        assert path.name in ("__init__.py", "__main__.py"), f"{path} stands in no layer of design §3"
        return
    for name in imported_modules(path):
        parts = name.split(".")
        if parts[0] == "builder" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS[parts[1]] <= own, f"{path} (layer {own}) imports {name} (layer {LAYERS[parts[1]]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_pipeline_knows_no_backend(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] == "pipeline":
        assert not [name for name in imported_modules(path) if name.startswith(("builder.backends", "builder.cli"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_does_no_input_or_output(path: Path) -> None:
    own = layer_of(path)
    if own is None or own > 2:
        return
    found = {name.split(".")[0] for name in imported_modules(path)} & FORBIDDEN_IN_CORE
    assert not found, f"{path} imports {found}"
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & FORBIDDEN_CALLS, f"{path} calls {calls & FORBIDDEN_CALLS}"


def test_one_module_starts_programs() -> None:
    users = {str(path.relative_to(PACKAGE)) for path in MODULES if imported_modules(path) & STARTERS}
    assert users == {"backends/process.py"}


def test_programs_of_a_leg_start_others_in_one_place() -> None:
    """`command` runs in a leg, where `backends/process.py` is not: it starts make and the compiler. The probe needs
    two runs of one program to see ASLR, and imports nothing of this package."""
    users = {path.name for path in (PACKAGE / "inside").glob("*.py") if imported_modules(path) & STARTERS}
    assert users == {"command.py", "probe.py"}


def test_no_module_is_a_drawer_for_everything() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & {"utils", "helpers", "common", "manager", "misc"}


def test_no_module_is_over_400_lines() -> None:
    long = {str(path): lines for path in PACKAGE.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 400}
    assert not long
