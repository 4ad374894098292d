"""Rules of the tests: they use public names, each checks something, and none imports another test's file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
CHECKS = ("require_", "assert_")
"""Beginnings of the names of functions that check something."""
INHERITED = {"_from_config"}
"""Private names of transformers that models of headcount inherit."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(tree: ast.AST) -> Iterator[str]:
    """The private names that a file imports from headcount, or reads off what it imports from there."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "headcount":
            imported |= {each.asname or each.name for each in node.names}
            parts = [*(node.module or "").split("."), *(each.name for each in node.names)]
            yield from filter(is_private, parts)
        if isinstance(node, ast.Import):
            names = [each for each in node.names if each.name.split(".")[0] == "headcount"]
            imported |= {each.asname or "headcount" for each in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in INHERITED:
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in imported:
                yield node.attr


def checks(test: ast.AST) -> bool:
    """Whether a test asserts, expects an error or a warning, or calls a function that checks."""
    called = [node.func for node in ast.walk(test) if isinstance(node, ast.Call)]
    names = [each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in called]
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or any(
        name in ("raises", "warns") or name.startswith(CHECKS) for name in names
    )


def unchecked(tree: ast.AST) -> list[str]:
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not checks(node)
    ]


def imported_tests(tree: ast.AST) -> list[str]:
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    return [module for module in modules if module.split(".")[-1].startswith("test_")]


def test_tests_use_public_names() -> None:
    found = {
        (str(file.relative_to(TESTS)), name) for file in FILES for name in private_names(ast.parse(file.read_text()))
    }
    assert not found


@pytest.mark.parametrize("file", [file for file in FILES if file.name.startswith("test_")], ids=lambda file: file.stem)
def test_every_test_checks_something(file: Path) -> None:
    assert unchecked(ast.parse(file.read_text())) == []


def test_no_file_imports_a_tests_file() -> None:
    assert {str(file): found for file in FILES if (found := imported_tests(ast.parse(file.read_text())))} == {}


def test_the_rules_by_hand() -> None:
    tree = ast.parse(
        "from headcount.a import _b, c\nfrom other import _d\nimport test_x\nc._e\nother._f\n"
        "def test_one(): c()\ndef test_two(): require_c()\ndef test_three(): assert c\n"
    )
    assert sorted(private_names(tree)) == ["_b", "_e"]
    assert unchecked(tree) == ["test_one"] and imported_tests(tree) == ["test_x"]
