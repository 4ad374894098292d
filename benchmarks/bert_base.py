"""Write BERT-base-shaped random models with all, 36 and 12 of 144 heads, to be timed by `headcount bench`.

    python benchmarks/bert_base.py OUT
    headcount bench OUT/144 OUT/36 OUT/12 --batch-size 8 --length 128 --threads 1

The heads that stay are spread unevenly, with empty layers, as learned subsets are.
"""

import argparse
import copy
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

import headcount

KEPT = {
    36: [1, 2, 5, 8, 8, 6, 4, 1, 1, 0, 0, 0],
    12: [0, 0, 2, 4, 3, 2, 1, 0, 0, 0, 0, 0],
}
"""Heads per layer."""


def main() -> None:
    parser = argparse.ArgumentParser(description="BERT-base-shaped random models, unpruned and pruned.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    torch.manual_seed(0)
    model = BertModel(BertConfig(), add_pooling_layer=False).eval()
    model.save_pretrained(out / "144")
    sites = [site.name for site in headcount.head_map(model).sites]
    for keep, counts in KEPT.items():
        pruned = copy.deepcopy(model)
        headcount.remove_heads(pruned, {site: range(count) for site, count in zip(sites, counts, strict=True)})
        pruned.save_pretrained(out / str(keep))
        print(f"{out / str(keep)}: {headcount.present(pruned)}")


if __name__ == "__main__":
    main()
