#!/usr/bin/env bash
# Unpruned, joint DSP and Michel at four budgets on one data set, by the command line alone. What is there is not done
# again; a killed run goes on from its checkpoint. Michel's greedy removal goes on from the larger budget's model.
# Usage: benchmarks/spine.sh NAME TRAIN VALIDATION MODEL RUNS
set -euo pipefail
name=$1 train=$2 validation=$3 model=$4 runs=$5/$1
common=(--train "$train" --validation "$validation" --lr 1e-4 --precision bfloat16 --threads 1 --json)
mkdir -p "$runs"

prune() { # output, arguments
  [ -f "$runs/$1/headcount.json" ] || headcount prune "${@:2}" -o "$runs/$1" "${common[@]}" > "$runs/$1.json" 2> "$runs/$1.log"
}

prune unpruned "$model" --method unpruned --epochs 1
prune dsp-joint-12 "$model" --method dsp-joint --keep 12 --epochs 1
from=unpruned
for keep in 36 18 12 6; do
  prune "michel-$keep" "$runs/$from" --method michel --keep "$keep" --set examples=1024 --set heads_per_step=6
  from=michel-$keep
done
for keep in 6 36 18; do
  prune "dsp-joint-$keep" "$model" --method dsp-joint --keep "$keep" --epochs 1
done
