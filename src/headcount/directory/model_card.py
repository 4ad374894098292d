"""The README of a model that a run wrote: how to load it, how it was made, and the one trap."""

import transformers

from headcount.nmt import Translator
from headcount.settings.records import Record

CARD = """---
library_name: transformers
tags: [{tags}]
---
{what}

```python
import headcount  # teaches transformers to read the model
{code}
```

{trap}{figures}

`{signature}`
"""
TRAP = """Without the import, loading stops with a size mismatch. Do not silence that with
`ignore_mismatched_sizes=True`: the attention weights would be random.

"""
TRANSLATES = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("this directory")
tokenizer = AutoTokenizer.from_pretrained("this directory")
batch = tokenizer(["A sentence."], return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**batch, num_beams=5), skip_special_tokens=True))"""
LOADS = """from {module} import {kind}

model = {kind}.from_pretrained("this directory")"""


def model_card(record: Record, kind: type) -> str:
    """The card of a model of that class, in Markdown."""
    kept, heads = sum(map(len, record.subset.values())), sum(site["heads"] for site in record.sites)
    pruned = kept < heads
    if pruned:
        what = f"A model with {kept} of its {heads} attention heads; kept per layer: {record.heads}."
    else:
        what = f"A model with all of its {heads} attention heads, trained by headcount."
    if teacher := record.notes.get("teacher"):
        what += f" It learned from translations of `{teacher['model']}`."
    of_transformers = hasattr(transformers, kind.__name__)
    module = "transformers" if of_transformers else kind.__module__
    signatures = record.notes.get("metrics", {})
    lines = [
        f"- {name}: {value:.4f}" + (f" (`{signatures[name]}`)" if name in signatures else "")
        for name, value in record.metrics.items()
    ]
    return CARD.format(
        tags="headcount, pruned" if pruned else "headcount",
        what=what,
        code=TRANSLATES if issubclass(kind, Translator) else LOADS.format(module=module, kind=kind.__name__),
        trap=TRAP if pruned and of_transformers else "",
        figures="\n".join(lines),
        signature=record.signature,
    )
