"""Our translation models in transformers' own trainers and under PEFT's adapters, as users of these have them."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

import headcount
from headcount.nmt import Translator, TranslatorTokenizer, learn_vocabulary
from translators import DECODERS, TEXT, translator


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TranslatorTokenizer:
    return learn_vocabulary(TEXT * 4, 60, tmp_path_factory.mktemp("vocabulary") / "vocabulary.model")


def rows(tokenizer: TranslatorTokenizer) -> Dataset:
    sources, targets = tokenizer.encode_lines(TEXT[:4]), tokenizer.encode_lines(TEXT[4:8])
    return Dataset.from_dict({"input_ids": sources, "labels": targets})


def model_for(tokenizer: TranslatorTokenizer, decoder: str = "attention") -> Translator:
    return translator(vocab_size=len(tokenizer), **DECODERS[decoder]).float()


@pytest.mark.parametrize("decoder", ["attention", "tied-ssru"])
def test_a_seq2seq_trainer_trains_evaluates_and_predicts(
    decoder: str, tokenizer: TranslatorTokenizer, tmp_path: Path
) -> None:
    model = model_for(tokenizer, decoder)
    settings: dict[str, Any] = {"predict_with_generate": True, "generation_max_length": 7, "generation_num_beams": 2}
    arguments = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=2, eval_strategy="steps", eval_steps=2, use_cpu=True,
        label_smoothing_factor=0.1, report_to="none", save_strategy="no", disable_tqdm=True, **settings,
    )  # fmt: skip
    callback = headcount.PruningCallback("gradual", keep=5)
    data = rows(tokenizer)
    trainer = Seq2SeqTrainer(
        model, arguments, train_dataset=data, eval_dataset=data, callbacks=[callback],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model),
    )  # fmt: skip
    trainer.train()
    assert len(headcount.present(model)) == 5
    assert trainer.evaluate()["eval_loss"] > 0
    predicted = trainer.predict(data).predictions
    assert len(predicted) == 4 and (predicted[:, 0] == model.config.decoder_start_token_id).all()
    assert (predicted[:, 7:] == tokenizer.pad_token_id).all()  # which the trainer fills up to a length of its own


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks transformers
def test_an_adapter_for_translation(tokenizer: TranslatorTokenizer) -> None:
    model = model_for(tokenizer)
    batch = {name: x for name, x in tokenizer(TEXT[:2], return_tensors="pt", padding=True).items()}
    before = model.generate(**batch, max_new_tokens=5)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2)
    adapted = peft.get_peft_model(model, config)
    assert torch.equal(adapted.generate(**batch, max_new_tokens=5), before)  # LoRA starts from nothing
    assert adapted(**batch, labels=batch["input_ids"]).loss > 0
