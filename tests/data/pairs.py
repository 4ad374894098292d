"""Pairs of sentences for the tests of parallel text: some to write, files of them, and what was read."""

import gzip
from pathlib import Path

from headcount.data.parallel import Pairs

PAIRS = [("Ein Hund läuft.", "A dog runs."), ("nan", "null"), ("Er sagte „nein“.", 'He said "no".')]


def put(path: Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return str(path)


def pairs_of(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.sources, pairs.targets, strict=True))
