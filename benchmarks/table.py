"""The Markdown table of a directory of runs, one row a record; with --copy-to, the records themselves beside it.

python benchmarks/table.py RUNS --copy-to docs/results
"""

import argparse
import json
from pathlib import Path, PurePath
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description="A Markdown table of records.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--copy-to", type=Path)
    options = parser.parse_args()
    records = [(path.parent, json.loads(path.read_text())) for path in options.runs.glob("*/headcount.json")]
    print("| method | K | heads per layer | accuracy | macro-F1 | parameters |\n|---|---|---|---|---|---|")
    for directory, record in sorted(records, key=lambda each: (-kept(each[1]), each[1]["recipe"]["method"])):
        accuracy, f1 = (f"{100 * record['metrics'][name]:.2f}" for name in ("accuracy", "macro_f1"))
        size = f"{record['size']['after']['parameters'] / 1e6:.2f} M"
        print(f"| {record['recipe']['method']} | {kept(record)} | {record['heads']} | {accuracy} | {f1} | {size} |")
        if options.copy_to is not None:
            options.copy_to.mkdir(parents=True, exist_ok=True)
            (options.copy_to / f"{directory.name}.json").write_text(json.dumps(portable(record)) + "\n")
    print()
    for _, record in sorted(records, key=lambda each: (-kept(each[1]), each[1]["recipe"]["method"])):
        print(f"- `{record['signature']}`")


def portable(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the last two parts of paths only: what names the data, not where they lie."""
    recipe = record["recipe"]
    data = {name: short(value) if name in ("train", "validation") else value for name, value in recipe["data"].items()}
    return {**record, "recipe": {**recipe, "model": short(recipe["model"]), "data": data}}


def short(path: str) -> str:
    return "/".join(PurePath(path).parts[-2:])


def kept(record: dict[str, Any]) -> int:
    return sum(map(len, record["subset"].values()))


if __name__ == "__main__":
    main()
