"""Imports go down the floors only, also inside functions; no file has a name that says nothing."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "headcount"
FLOORS = {
    "cli": 7,
    "__init__": 7,
    "__main__": 7,
    "demo": 6,
    "distil": 6,
    "printing": 6,
    "report": 6,
    "reproduction": 6,
    "run": 6,
    "resuming": 6,
    "card": 6,
    "callback": 6,
    "shape": 6,
    "sweep": 6,
    "grid": 5,
    "recipe": 5,
    "methods": 5,
    "training": 4,
    "trainer": 4,
    "sampling": 4,
    "stages": 4,
    "keeping": 4,
    "tasks": 4,
    "measure": 4,
    "export": 4,
    "relaxations": 3,
    "importance": 3,
    "loader": 3,
    "checkpoint": 3,
    "runtimes": 3,
    "fingerprint": 3,
    "plan": 3,
    "gates": 2,
    "gating": 2,
    "selfcheck": 2,
    "surgery": 2,
    "anatomy": 1,
    "device": 1,
    "matmul": 1,
    "nmt": 1,
    "heads": 0,
    "budget": 0,
    "records": 0,
    "settings": 0,
    "toml": 0,
    "typed": 0,
    "writing": 0,
    "errors": 0,
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room(module: str) -> str:
    """The room of a dotted name below headcount: its first part."""
    return module.split(".")[0] if module else "__init__"


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import headcount by its full name"
            found.append(node.module or "")
            if node.module == "headcount":
                found += [f"headcount.{alias.name}" for alias in node.names]
    return [name.removeprefix("headcount").lstrip(".") for name in found if name.split(".")[0] == "headcount"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imports(path):
        if name and room(name) in FLOORS and room(name) != here:
            assert FLOORS[room(name)] <= FLOORS[here], f"{path.name} (floor {FLOORS[here]}) imports {name}"


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms <= set(FLOORS)


def test_no_circles_between_rooms() -> None:
    arrows: dict[str, set[str]] = {}
    for path in MODULES:
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        arrows.setdefault(here, set()).update(room(name) for name in imports(path) if room(name) in FLOORS)
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, f"a circle of imports: {' -> '.join([*trail, node])}"
        if node not in done:
            for target in arrows.get(node, set()) - {node}:
                visit(target, (*trail, node))
            done.add(node)

    for node in arrows:
        visit(node, ())


def test_ground_floor_knows_no_torch() -> None:
    for path in MODULES:
        if FLOORS[path.relative_to(SOURCE).parts[0].removesuffix(".py")] == 0:
            text = path.read_text()
            assert "import torch" not in text and "from torch" not in text, path


def test_names_say_something() -> None:
    empty = {"utils", "helpers", "common", "misc", "manager"}
    assert not [path for path in MODULES if path.stem.lower() in empty]
