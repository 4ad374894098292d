"""A Markdown table of records, wherever they lie, and their signatures.

    python benchmarks/table.py docs/results/methods/sst2.jsonl docs/results/reproduction/dsp-table-3a.jsonl
    python benchmarks/table.py RUNS --shows heads --only nli --without temperature_start --figure quality.svg

A run that lies in two places counts once. To keep records: headcount records RUNS --json --portable > FILE.jsonl
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

from headcount.report import write_report
from headcount.report.published import TABLES, show
from headcount.settings.records import Record, read_records
from reproduction import markdown


def main() -> None:
    parser = argparse.ArgumentParser(description="A Markdown table of records.")
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--shows", choices=TABLES, default="quality")
    parser.add_argument("--only", default="", help="Records with this in their signatures.")
    parser.add_argument("--without", nargs="*", default=[], help="Not those with any of these.")
    parser.add_argument("--figure", type=Path, help="Also write the report's figure of quality by heads, as SVG.")
    options = parser.parse_args()
    found, problems = read_records(*options.sources)
    if problems:
        raise SystemExit("\n".join(problems))
    wanted = [each for each in found if options.only in each.signature]
    wanted = [each for each in wanted if not any(part in each.signature for part in options.without)]
    records = list({what_it_is(record): record for record in (each.portable() for each in wanted)}.values())
    print(markdown(show(records, options.shows)), end="\n\n")
    for signature in sorted({re.sub(r"[|]keep:[0-9]+/", "|keep:K/", record.signature) for record in records}):
        print(f"- `{signature}`")
    if options.figure is not None:
        with tempfile.TemporaryDirectory() as directory:
            write_report(records, Path(directory) / "report.html", figures=Path(directory) / "figures")
            shutil.copy(Path(directory) / "figures" / "quality.svg", options.figure)


def what_it_is(record: Record) -> str:
    """The same of two records of one recipe, whichever version of headcount wrote them."""
    recipe = record.recipe
    named = [recipe[name] for name in ("model", "method", "keep", "seed", "options")]
    return json.dumps([*named, recipe["data"]["train"], recipe["data"].get("train_limit"), recipe["training"]["lr"]])


if __name__ == "__main__":
    main()
