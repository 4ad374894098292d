"""Translation models of our own. This package does not depend on the pruning code."""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from headcount.nmt.configuration import PRESETS, TranslatorConfig
from headcount.nmt.int8 import to_int8
from headcount.nmt.lines import LineTranslator, one_line
from headcount.nmt.model import Translator
from headcount.nmt.search import Hypothesis, Search
from headcount.nmt.shortlist import Shortlist
from headcount.nmt.vocabulary import TranslatorTokenizer, learn_vocabulary, read_vocabulary

AutoConfig.register(TranslatorConfig.model_type, TranslatorConfig)
AutoModel.register(TranslatorConfig, Translator)
AutoModelForSeq2SeqLM.register(TranslatorConfig, Translator)
AutoTokenizer.register(TranslatorConfig, tokenizer_class=TranslatorTokenizer)

__all__ = [
    "PRESETS",
    "Hypothesis",
    "LineTranslator",
    "Search",
    "Shortlist",
    "Translator",
    "TranslatorConfig",
    "TranslatorTokenizer",
    "learn_vocabulary",
    "one_line",
    "read_vocabulary",
    "to_int8",
]
