"""Writes docs/reproduction.md from the experiments' files and the records of small runs; nothing there is typed.

    headcount reproduce lottery-table-1 --scale small -o RUNS
    python benchmarks/reproduction.py --take RUNS lottery-table-1
    python benchmarks/reproduction.py

The first keeps the runs' records and figures in docs/results/reproduction; the second writes the page.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headcount.experiments.reproduction import Experiment, experiment_names, read_experiment
from headcount.experiments.reproduction.carry_out import Plan
from headcount.experiments.reproduction.experiment import PAPERS
from headcount.experiments.reproduction.needs import ASSUMED, Throughput, cost, read_throughputs
from headcount.report import write_report
from headcount.report.groups import group
from headcount.report.published import published, show
from headcount.report.static import choice_name
from headcount.settings.records import Record, read_records

ROOT = Path(__file__).parents[1]
RESULTS = Path("docs") / "results" / "reproduction"
FIGURES = {
    "quality": ("quality", "quality-few"),
    "heads": ("heads",),
    "lambdas": ("lambda",),
    "speed": ("speed-quality", "size-quality"),
    "costs": ("costs",),
    "dynamics": ("dynamics-kept", "dynamics-development"),
    "convergence": ("convergence",),
}
"""What of the report's figures shows the same as a table of `reproduction.tables`."""
INTRO = """# Reproduction: every table and figure of both papers

<!-- Written by benchmarks/reproduction.py; change that, or the experiments' files in src/headcount/reproduction. -->

Each experiment of the two papers is a file of headcount, with what was published, the grid of recipes as the paper has
it, and a small one for two cores. `headcount reproduce --list` names them.

```console
headcount reproduce lottery-table-3 --scale small
headcount reproduce dsp-table-3a --scale small --data DATA --model MODEL --workers 2
headcount reproduce dsp-table-3a
```

A directory takes the runs, their records and `report.html`; started again, the command does what is missing, and an
experiment that shows the runs of another finds them there. `--only` takes some of the runs, by their names, `--set`
changes values. Small translation experiments make their own data:
number words and dates, by rules. Small classification takes `--data`, a directory with `nli/train.jsonl.gz`,
`nli/validation.jsonl.gz`, `sst2/train.tsv.gz` and `sst2/validation.tsv.gz`, and `--model`, all-MiniLM-L6-v2; without
them, sentences made by rules and the encoder of `headcount demo`. A full run tells what it needs and asks first.

The small runs are small: they show that everything runs, and which of the effects are there at that scale. They are no
evidence for or against a published number. What differs stands below each.

**How full runs are reckoned.** Optimiser steps are counted from the recipes: a stage that several runs share once, a
scoring of Michel's as an epoch of steps, a search over lambda with all its tries; early stopping is not counted on.
Steps times tokens of a step is tokens. Hours are these by the tokens a second that the shape trains at{machines},
measured by `benchmarks/throughput.py`. GPU-hours are no measurement: six operations a parameter and token, on a GPU
that reaches {rate} TFLOP/s of them, which large matrices do in bfloat16 on one of a data centre and small models do
not.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The page of reproductions, and the records that it shows.")
    parser.add_argument(
        "--take", nargs=2, metavar=("RUNS", "NAME"), help="Keep the records of runs of that experiment."
    )
    options = parser.parse_args()
    if options.take:
        take(Path(options.take[0]), options.take[1])
    else:
        (ROOT / "docs" / "reproduction.md").write_text(page(), encoding="utf-8")


def take(runs: Path, name: str) -> None:
    """Keep the records of an experiment's runs, and the figures of it and of all that show its runs."""
    found, problems = read_records(runs / "runs", *([runs / "failed"] if (runs / "failed").is_dir() else []))
    if problems or not found:
        raise SystemExit("\n".join(problems) or f"There is no record in {runs / 'runs'}.")
    source = read_experiment(name).source.name
    records = [record.portable() for record in found]
    (ROOT / RESULTS).mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record.to_json()) + "\n" for record in records)
    (ROOT / RESULTS / f"{source}.jsonl").write_text(lines, encoding="utf-8")
    for old in (ROOT / RESULTS / "figures").glob(f"{source}.*"):
        old.unlink()
    shown = [each for each in map(read_experiment, experiment_names()) if each.source.name == source]
    with tempfile.TemporaryDirectory() as directory:
        write_report(records, Path(directory) / "report.html", figures=Path(directory) / "figures")
        for key in sorted({key for each in shown for key in figure_names(each)}):
            for number, file in enumerate(sorted(Path(directory).rglob(f"{key}.svg"))):
                kept = ROOT / RESULTS / "figures" / f"{source}.{key}{f'.{number + 1}' if number else ''}.svg"
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept)


def page() -> str:
    """The whole page."""
    file = ROOT / RESULTS / "throughput.jsonl"
    throughputs = read_throughputs(file) if file.is_file() else []
    machines = list(dict.fromkeys(each.machine for each in throughputs))
    parts = [INTRO.format(machines="".join(f" on {machine}" for machine in machines), rate=f"{ASSUMED / 1e12:g}")]
    last = ""
    for experiment in map(read_experiment, experiment_names()):
        if experiment.paper != last:
            parts.append(f"# {PAPERS[experiment.paper]}\n")
        last = experiment.paper
        parts.append(section(experiment, throughputs))
    return "\n".join(parts)


def section(experiment: Experiment, throughputs: Sequence[Throughput]) -> str:
    """One experiment: published, ours, command, needs, differences."""
    file = RESULTS / f"{experiment.source.name}.jsonl"
    lines = [f"## {experiment.name}\n", f"{experiment.title}. {experiment.what}\n", "Published:\n"]
    lines += [markdown(published(experiment.published)), ""]
    if (ROOT / file).is_file():
        records, _ = read_records(ROOT / file)
        rows = show(records, experiment.shows)
        lines += [f"Small, ours ([records and signatures]({file.relative_to('docs')})):\n", markdown(rows), ""]
        if failed := [record.name for record in records if record.error is not None]:
            lines += [f"Failed: {', '.join(failed)}.", ""]
        lines += [f"![{experiment.title}]({figure.relative_to(ROOT / 'docs')})\n" for figure in figures(experiment)]
        names = sorted({each.name.split(",")[0] for each in group(records)})
        if len(names) > 1 and any(file.stem[-2:] == ".2" for file in figures(experiment)):
            lines += [f"Of figures that are alike, the first is of {', the next of '.join(names)}.\n"]
        lines += [spent(records, len(Plan(experiment, "small", Path("runs"), Path("data"), "model").runs())), ""]
    else:
        lines += ["Small, ours: **not run yet.**\n"]
    given = " --data DATA --model MODEL" if experiment.wants("small", "data") else ""
    lines += ["```console", f"headcount reproduce {experiment.name} --scale small{given}", "```\n"]
    if experiment.seen:
        lines.append(f"**Seen.** {experiment.seen.strip()}\n")
    lines += [f"**Differences.** {experiment.differences.strip()}\n", f"**In full.** {full(experiment, throughputs)}\n"]
    return "\n".join(lines)


def full(experiment: Experiment, throughputs: Sequence[Throughput]) -> str:
    """What the full run needs."""
    if experiment.source is not experiment:
        return f"The runs of [{experiment.source.name}](#{experiment.source.name})."
    found, needs = cost(Plan(experiment, "full", Path("runs")).runs(), experiment.needs), experiment.needs
    told = (
        f"{found.runs} runs, {found.steps:,} steps of {needs['tokens_a_step']:,} tokens: {found.tokens:.2g} tokens; "
        f"{needs['hardware']}."
    )
    here = [each for each in throughputs if each.shape == needs["shape"]]
    told += "".join(
        f" On {each.machine}: {duration(found.hours(each))} ({each.tokens_a_second:,.0f} tokens a second)."
        for each in here
    )
    if here:
        told += f" On the GPU assumed above: {duration(found.gpu_hours(here[0]))}."
    return told


def figures(experiment: Experiment) -> list[Path]:
    """The figures that were kept of what the experiment shows."""
    folder = ROOT / RESULTS / "figures"
    return [
        file
        for key in figure_names(experiment)
        for file in sorted(folder.glob(f"{experiment.source.name}.{key}*.svg"), key=lambda file: (len(file.name), file))
        if re.fullmatch(rf"{re.escape(key)}(\.\d+)?", file.name.removeprefix(f"{experiment.source.name}.")[:-4])
    ]


def figure_names(experiment: Experiment) -> list[str]:
    """What the report's figures are called that show the same as the experiment; of those with choices, the chosen."""
    names = FIGURES[experiment.shows]
    return [f"{name}.{choice_name(each)}" for each in experiment.choices for name in names] or list(names)


def spent(records: Sequence[Record], wanted: int) -> str:
    """What the small runs took, and on what."""
    done = [record for record in records if record.error is None]
    seconds = sum(float(cost.get("seconds", 0)) for record in done for cost in record.costs.values())
    machines = dict.fromkeys(
        f"{record.machine['processor']}, threads: {record.machine['threads']}" for record in done if record.machine
    )
    share = "" if len(done) == wanted else f", of {wanted} that the command below makes,"
    return (
        f"Together {len(done)} runs{share} and {seconds / 60:.0f} minutes of training and selection, each reckoned "
        f"as if it had been alone, on {'; '.join(machines)}."
    )


def duration(hours: float) -> str:
    """Hours, also in years if they are many; or less than an hour."""
    if hours < 1:
        return "less than an hour"
    return f"about {hours:,.0f} hours" if hours < 1000 else f"about {hours:,.0f} hours ({hours / 24 / 365:,.1f} years)"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table."""
    if not rows:
        return "*These runs have nothing of it.*"
    lines = [" | ".join(map(str, rows[0])), "|".join(["---"] * len(rows[0]))]
    lines += [" | ".join(str(value).replace("|", "/") for value in row.values()) for row in rows]
    return "\n".join(f"| {line} |" if not line.startswith("---") else f"|{line}|" for line in lines)


if __name__ == "__main__":
    main()
