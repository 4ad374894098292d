"""Keep libraries quiet: for a block, put back afterwards as the user had them; or for a process that is headcount's."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


def silence_libraries() -> None:
    """Turn off the bars and notices of `transformers` and tokenizers, in a process that runs a command or a sweep."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")  # Marian's; it is for other languages


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """No progress bars of `datasets` in here."""
    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


@contextmanager
def no_loading_report() -> Iterator[None]:
    """No bar and no report of missing weights while `transformers` loads a model: the caller looks itself."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars_off = are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # this turns on the bars of huggingface_hub, too
            if hub_bars_off:
                disable_progress_bars()
