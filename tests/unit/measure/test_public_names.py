"""`builder.measure` exports what its packages offer, without loading it before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import builder.measure

STUB = Path(builder.measure.__file__).with_suffix(".pyi")
# what only some of the core needs, and what takes longest to load
HEAVY = {"cryptography", "cbor2", "yaml", "jsonschema", "Crypto"}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that an interpreter has loaded after `statement`."""
    script = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def stub_names() -> dict[str, tuple[str, str]]:
    """Public name -> its module and its name there, as the type checker sees them."""
    imports = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or "": (node.module or "", alias.name) for node in imports for alias in node.names}


@pytest.mark.parametrize("name", builder.measure.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(builder.measure, name) is not None


def test_the_type_checker_sees_the_same_names_at_the_same_places() -> None:
    names = stub_names()
    assert sorted(names) == builder.measure.__all__
    for name, (module, original) in names.items():
        assert getattr(sys.modules[module], original) is getattr(builder.measure, name), name


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="'builder.measure' has no attribute 'parse_anything'"):
        builder.measure.parse_anything  # noqa: B018 - reading it is what is tested


def test_a_name_is_listed_before_it_is_used() -> None:
    assert set(builder.measure.__all__) <= set(dir(builder.measure))


def test_a_package_and_a_public_name_are_not_mistaken_for_each_other() -> None:
    packages = {path.stem for path in STUB.parent.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not packages & set(builder.measure.__all__)


def test_importing_the_core_loads_nothing_else() -> None:
    loaded = loaded_by("import builder.measure")
    assert not HEAVY & loaded
    assert {name for name in loaded if name.startswith("builder")} == {"builder", "builder.measure"}


@pytest.mark.parametrize("name", ["Measurer", "parse_tdvf", "parse_ccel", "parse_quote", "replay", "generate_acpi"])
def test_what_everybody_needs_loads_no_library_of_others(name: str) -> None:
    assert not HEAVY & loaded_by(f"from builder.measure import {name}")
