"""Markdown tables of records: one row a record, or with --by-budget one row a method; --copy-to keeps the records.

python benchmarks/table.py RUNS --by-budget --copy-to docs/results/methods/nli
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from headcount.records import Record


def main() -> None:
    parser = argparse.ArgumentParser(description="Markdown tables of records.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--by-budget", action="store_true")
    parser.add_argument("--copy-to", type=Path)
    options = parser.parse_args()
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(options.runs.glob("*/headcount.json"))}
    shown = [record for name, record in found.items() if not name.startswith("voita-lambda")]  # that grid is no seed
    records = sorted(shown, key=lambda record: (-kept(record), record["recipe"]["method"]))
    if options.by_budget:
        by_budget(records)
    else:
        by_record(records)
    if options.copy_to is not None:
        options.copy_to.mkdir(parents=True, exist_ok=True)
        for name, record in found.items():
            (options.copy_to / f"{name}.json").write_text(json.dumps(Record(**record).portable().to_json()) + "\n")


def by_record(records: list[dict[str, Any]]) -> None:
    """A row a record, then their signatures."""
    print("| method | K | heads per layer | accuracy | macro-F1 | parameters |\n|---|---|---|---|---|---|")
    for record in records:
        accuracy, f1 = (f"{100 * record['metrics'][name]:.2f}" for name in ("accuracy", "macro_f1"))
        size = f"{record['size']['after']['parameters'] / 1e6:.2f} M"
        print(f"| {record['recipe']['method']} | {kept(record)} | {record['heads']} | {accuracy} | {f1} | {size} |")
    print()
    for record in records:
        print(f"- `{record['signature']}`")


def by_budget(records: list[dict[str, Any]]) -> None:
    """A row a method, a column a budget: accuracy in %, the mean of the seeds; then costs, and a signature a method."""
    keeps = sorted({kept(record) for record in records}, reverse=True)
    cells: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        cells[record["recipe"]["method"]][kept(record)].append(record)
    print("| method | " + " | ".join(map(str, keeps)) + " | steps of training, of selection |")
    print("|---" * (len(keeps) + 2) + "|")
    for method, row in sorted(cells.items(), key=lambda each: -max(map(accuracy_of, each[1].values()))):
        shown = [accuracy_text(row[keep]) if keep in row else "" for keep in keeps]
        costs = [
            {name: int(each["costs"].get(name, {}).get("steps", 0)) for name in ("training", "selection")}
            for at in row.values()
            for each in at
        ]
        span = ", ".join(sorted_range([cost[name] for cost in costs]) for name in ("training", "selection"))
        print(f"| {method} | {' | '.join(shown)} | {span} |")
    print()
    for method, row in sorted(cells.items()):
        signature = row[max(row)][0]["signature"]
        print(f"- `{re.sub(r'[|]keep:[0-9]+/', '|keep:K/', signature) if method != 'unpruned' else signature}`")


def accuracy_of(records: list[dict[str, Any]]) -> float:
    return 100 * sum(record["metrics"]["accuracy"] for record in records) / len(records)


def accuracy_text(records: list[dict[str, Any]]) -> str:
    seeds = [accuracy_of([record]) for record in records]
    spread = f" ({min(seeds):.1f}–{max(seeds):.1f})" if len(seeds) > 1 else ""
    return f"{accuracy_of(records):.1f}{spread}"


def sorted_range(numbers: list[int]) -> str:
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}–{max(numbers)}"


def kept(record: dict[str, Any]) -> int:
    """K, the number of heads kept."""
    return sum(map(len, record["subset"].values()))


if __name__ == "__main__":
    main()
