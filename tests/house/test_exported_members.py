"""Everything public is exported once, documented, and named in the documentation."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import headcount

SOURCE = Path(headcount.__file__).parent
MODULES = [
    module.name for module in pkgutil.walk_packages([str(SOURCE)], "headcount.") if "__main__" not in module.name
]


def test_what_the_stub_says_is_there() -> None:
    """Type checkers read its `__all__`; at run time the names are those that it imports."""
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    (listed,) = (node.value for node in stub.body if isinstance(node, ast.Assign))
    names = ast.literal_eval(listed)
    assert sorted(names) == headcount.__all__ and all(hasattr(headcount, name) for name in names)
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    assert ast.get_docstring(tree), f"{name} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"


def test_the_docs_name_every_export() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parents[2].glob("docs/*.md"))
    assert not [name for name in headcount.__all__ if f"`{name}" not in text and f"headcount.{name}" not in text]
