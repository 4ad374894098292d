"""Accuracy over heads kept, a line a method, of a directory of records that benchmarks/methods.py made.

python benchmarks/figure.py RUNS docs/results/methods.svg --title "SST-2"
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

from table import kept

STYLES = {"lottery": "--", "michel": ":", "magnitude": ":", "random": ":", "fewer-heads": "--", "dsp-pipelined": "--"}
"""Solid: learned in one training. Dashed: trained again, or on. Dotted: a trained model, whose weights stay."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy over heads kept.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    matplotlib.rcParams.update({"svg.hashsalt": "headcount", "font.size": 9})  # equal figures, equal files
    lines: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    whole = []
    for path in sorted(options.runs.glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text())
        accuracy, method = 100 * record["metrics"]["accuracy"], record["recipe"]["method"]
        if method == "unpruned":
            whole.append(accuracy)
        elif not path.stem.startswith("voita-lambda"):
            lines[method][kept(record)].append(accuracy)
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for method, at in sorted(lines.items(), key=lambda line: -max(map(max, line[1].values()))):
        keeps = sorted(at)
        means = [sum(at[keep]) / len(at[keep]) for keep in keeps]
        axes.plot(keeps, means, STYLES.get(method, "-"), marker=".", label=method, linewidth=1.2)
        for keep in keeps:  # every seed
            axes.plot([keep] * len(at[keep]), at[keep], ".", color=axes.lines[-1].get_color(), markersize=3)
    for accuracy in whole:
        axes.axhline(accuracy, color="grey", linewidth=0.8, label="unpruned" if accuracy == whole[0] else None)
    axes.set(xscale="log", xlabel="heads kept", ylabel="accuracy, %", title=options.title)
    ticks = sorted({keep for at in lines.values() for keep in at})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
