"""A file is one room, and a function one step: neither grows without a reason that is written there."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "headcount"
FILES = sorted(SOURCE.rglob("*.py"))
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 40
"""Without its docstring."""
REASON = "# Long:"
"""How a comment begins that says why a function is longer."""


def length(function: ast.FunctionDef) -> int:
    """The lines of a function without its docstring."""
    first, lines = function.body[0], (function.end_lineno or 0) - function.lineno + 1
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_and_its_functions_are_short_or_say_why_not(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) < LINES_OF_A_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and length(node) > LINES_OF_A_FUNCTION:
            own = lines[node.lineno - 1 : node.end_lineno]
            assert any(line.strip().startswith(REASON) for line in own), f"{node.name} has {length(node)} lines"
