"""TOML files, whose errors name the file and the table."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headcount.errors import BadRecipe


@dataclass(frozen=True)
class Document:
    """A TOML file that was read, or one table of it.

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
            BadRecipe: There is none, or it is not TOML; the message has the line.
        """
        try:
            # Some editors begin a file with a mark of its encoding.
            return cls(str(path), tomllib.loads(path.read_text(encoding="utf-8-sig")))
        except FileNotFoundError:
            raise BadRecipe(f"There is no file '{path}'.") from None
        except (OSError, ValueError) as error:
            raise BadRecipe(f"{path}: cannot be read as TOML: {error}.") from error

    def part(self, name: str) -> "Document":
        """One table of the file as a document of its own."""
        return Document(f"{self.name}, [{name}]", self.data[name])
