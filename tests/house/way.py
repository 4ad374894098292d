"""The way of a call through the house: the files whose functions run, and the calls that climb to a higher floor.

As a script it runs a command of headcount and prints its way: `python tests/house/way.py prune …`. Tests run it in
another process: within pytest a check of types stands between a function and its caller.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

NO_FUNCTION = {"<module>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"}
"""Names of frames that are no call of a function of a file."""


@dataclass
class Way:
    """What was called.

    Attributes:
        files: The files whose functions were called, by their names below the root.
        calls: Pairs of such files: a function of the first called one of the second directly.
    """

    files: set[str] = field(default_factory=set)
    calls: set[tuple[str, str]] = field(default_factory=set)

    def climbs(self, floors: Sequence[str], floor_of: Callable[[str], str]) -> list[tuple[str, str]]:
        """The calls whose callee stands on a higher floor than the caller.

        Args:
            floors: The floors from the top down.
            floor_of: The floor of a file.
        """
        at = {name: place for place, name in enumerate(floors)}
        known = [(caller, callee) for caller, callee in self.calls if floor_of(caller) in at and floor_of(callee) in at]
        return sorted(pair for pair in known if at[floor_of(pair[1])] < at[floor_of(pair[0])])


@contextmanager
def traced(root: Path) -> Iterator[Way]:
    """Within the block, what is called of the files below the root is written down, on all new threads too."""
    way, names = Way(), _Names(root)

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or frame.f_code.co_name in NO_FUNCTION:
            return
        callee, back = names[frame.f_code.co_filename], frame.f_back
        if callee is None or (back is not None and back.f_code.co_name == "<module>"):
            return
        way.files.add(callee)
        caller = None if back is None else names[back.f_code.co_filename]
        if caller is not None and caller != callee:
            way.calls.add((caller, callee))

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield way
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]  # typeshed does not know that None takes it back


class _Names(dict[str, str | None]):
    """The name of each file below the root, None for others."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = f"{root}/"

    def __missing__(self, path: str) -> str | None:
        self[path] = path.removeprefix(self._root) if path.startswith(self._root) else None
        return self[path]


def main() -> None:
    """Run the command of the arguments, and print its way as the last line."""
    import headcount.cli

    with traced(Path(headcount.cli.__file__).parents[1]) as way:
        try:
            headcount.cli.main()
        except SystemExit as ended:
            if ended.code:
                raise
    print(json.dumps({"files": sorted(way.files), "calls": sorted(way.calls)}))


if __name__ == "__main__":
    main()
