"""Fixtures of the tasks' tests."""

from typing import Any

import pytest

from headcount.experiments.demo.parallel_corpus import write


@pytest.fixture(scope="session")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small parallel corpus: 48 pairs to learn from, 12 to measure on."""
    directory = tmp_path_factory.mktemp("parallel")
    train_en, train_de, validation_en, validation_de = write(directory, 240)
    lines = {}
    for name, en, de, count in (("train", train_en, train_de, 48), ("validation", validation_en, validation_de, 6)):
        for path in (en, de):
            path.write_text(
                "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]), encoding="utf-8"
            )
        lines[name] = f"{en},{de}"
    return {**lines, "development": 16, "vocabulary": 90, "beam": 2}
