"""TOML files whose errors name the line, and JSON files that say the same."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from headcount.errors import BadRecipe

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-.\"' ]+?)\s*=")


@dataclass(frozen=True)
class Document:
    """A TOML file, or a JSON file, that was read.

    Attributes:
        name: Of the file.
        text: What it says.
        data: The same as plain data; of a part of the file, that part.
        above: The keys of that part.
    """

    name: str
    text: str
    data: Mapping[str, Any]
    above: tuple[str, ...] = ()

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
        return cls(str(path), text, data)

    def part(self, name: str) -> "Document":
        """One table of the file as a document of its own, whose errors name the lines of the file."""
        return replace(self, data=self.data[name], above=(*self.above, name))

    def place(self, *keys: str | int) -> str:
        """Where the value at these keys stands: `recipe.toml, line 7`. A number counts the tables of an array."""
        keys = (*self.above, *keys)
        line = self._lines.get(keys)
        while line is None and len(keys) > 1:
            keys = keys[:-1]
            line = self._lines.get(keys)
        return self.name if line is None else f"{self.name}, line {line}"

    @cached_property
    def _lines(self) -> dict[tuple[str | int, ...], int]:
        """The line of each key and table. What looks like one within a text of many lines comes after the real one."""
        found: dict[tuple[str | int, ...], int] = {}
        table: tuple[str | int, ...] = ()
        counts: dict[tuple[str | int, ...], int] = {}
        for number, line in enumerate(self.text.split("\n"), start=1):
            if match := _TABLE.match(line):
                table = _parts(match[2])
                if match[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                else:  # perhaps a table within the last of an array
                    arrays = [length for length in range(1, len(table)) if table[:length] in counts]
                    for length in reversed(arrays):
                        table = (*table[:length], counts[table[:length]], *table[length:])
                found.setdefault(table, number)
            elif match := _KEY.match(line):
                keys = (*table, *_parts(match[1]))
                for length in range(len(table) + 1, len(keys) + 1):
                    found.setdefault(keys[:length], number)
        return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
