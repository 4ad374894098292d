"""Fixtures of the experiments' tests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import GRID


@pytest.fixture(scope="module")
def grid_file(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that writes a grid file of the given methods, keeps and seeds."""

    def make(method: list[str], keep: list[int], seed: list[int]) -> Path:
        lists = {name: json.dumps(value) for name, value in (("method", method), ("keep", keep), ("seed", seed))}
        file = tmp_path_factory.mktemp("grid") / "sweep.toml"
        file.write_text(GRID.format(model=tiny_bert_dir, **data, **lists))
        return file

    return make
