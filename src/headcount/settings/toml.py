"""TOML files whose errors name the file and the table, and JSON files that say the same."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headcount.errors import BadRecipe


@dataclass(frozen=True)
class Document:
    """A TOML or JSON file that was read, or one table of it.

    Attributes:
        name: Of the file, and of the table: `recipe.toml, [small]`.
        data: What it says.
    """

    name: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file.

        Raises:
            BadRecipe: There is none, or it is not TOML (JSON, if its name ends so); the message has the line.
        """
        kind = "JSON" if path.suffix == ".json" else "TOML"
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark of its encoding
            data = json.loads(text) if kind == "JSON" else tomllib.loads(text)
        except FileNotFoundError:
            raise BadRecipe(f"There is no file '{path}'.") from None
        except (OSError, ValueError) as error:
            raise BadRecipe(f"{path}: cannot be read as {kind}: {error}.") from error
        if not isinstance(data, dict):
            raise BadRecipe(f'{path}: got JSON that is no object. Write {{"model": …}}.')
        return cls(str(path), data)

    def part(self, name: str) -> "Document":
        """One table of the file as a document of its own."""
        return Document(f"{self.name}, [{name}]", self.data[name])
