"""Imports go down only: folder by folder, and file by file within a folder; also imports inside functions."""

import ast
from pathlib import Path

import pytest
from floors import FLOORS

SOURCE = Path(__file__).parents[2] / "src" / "headcount"
ROOT = {"__init__.py", "__init__.pyi", "__main__.py", "errors.py", "py.typed"}
NO_TORCH = ("report", "units", "settings", "errors")


def name_of(path: Path) -> str:
    """The dotted name of a file below headcount; of a folder's `__init__` that of the folder."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem == "errors"}


def floor(name: str) -> str:
    return name.split(".")[0]


def imports(path: Path) -> set[str]:
    """The files of headcount that a file imports, by dotted name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import headcount by its full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "headcount":
                lengths = range(len(parts), 1, -1)
                known = [".".join(parts[1:length]) for length in lengths if ".".join(parts[1:length]) in FILES]
                found.update(known[:1])
    return found


ARROWS = {name: imports(path) for name, path in FILES.items()}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down_the_floors(name: str) -> None:
    for other in ARROWS[name]:
        assert FLOORS.index(floor(name)) <= FLOORS.index(floor(other)), f"{name} imports {other}, which stands above"


def test_no_files_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle of imports: {' -> '.join([*trail, name])}"
        if name not in done:
            for other in sorted(ARROWS[name] - {name}):
                visit(other, (*trail, name))
            done.add(name)

    for name in FILES:
        visit(name, ())


def test_the_root_holds_folders_and_what_belongs_to_nobody() -> None:
    here = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert here == ROOT
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FLOORS) - {"errors"}


def test_plain_values_and_reports_do_without_torch() -> None:
    for name, path in FILES.items():
        if floor(name) in NO_TORCH:
            text = path.read_text(encoding="utf-8")
            assert "import torch" not in text and "from torch" not in text, name


def test_names_say_something() -> None:
    empty = {"utils", "helpers", "common", "misc", "manager"}
    assert not [name for name in FILES if name.split(".")[-1].lower() in empty]
