"""The house: no import circle, folders import downwards only, public names are described."""

import ast
import graphlib
from pathlib import Path

import pytest

import adkit

ADKIT = Path(adkit.__file__).parent
FLOORS = ["spine", "interchange", "envs", "sources", "cookieworld", "models", "probing", "views"]
"""Folders from the bottom up. A folder imports only from folders further down."""
TOP = {"__init__", "recipes", "notebook"}
"""Root modules above every folder: the public names, the recipes, the notebook's first call."""


def imported(path: Path) -> set[str]:
    """Return the adkit modules that a file imports, those for types only included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("adkit.") for name in found if name.startswith("adkit.")} & MODULES


def named(path: Path) -> str:
    """Return a file's module name below adkit; a package's `__init__` has the package's name."""
    parts = path.relative_to(ADKIT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PATHS = {named(path): path for path in ADKIT.rglob("*.py")}
MODULES = set(PATHS)


def test_no_import_circle():
    graph = {name: imported(path) - {name} for name, path in PATHS.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def floor(module: str) -> int:
    folder, *inside = module.split(".")
    if folder in TOP:
        return len(FLOORS)
    return FLOORS.index(folder) if inside or folder in FLOORS else 0


def test_folders_import_downwards():
    for name, path in PATHS.items():
        above = {other for other in imported(path) if floor(other) > floor(name)}
        assert not above, f"{name} imports {above} from a folder above it"


def test_root_is_small_and_the_study_stays_outside():
    assert len(list(ADKIT.glob("*.py"))) <= 16
    for path in PATHS.values():
        text = path.read_text(encoding="utf-8")
        assert "import study" not in text and "from study" not in text, f"{path} imports the study"


@pytest.mark.parametrize("module", [adkit, adkit.envs, adkit.sources, adkit.views])
def test_every_public_name_exists_and_is_described(module):
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"
    with pytest.raises(AttributeError, match="it has"):
        _ = module.nonsense
