"""What importing headcount does: nothing heavy by itself, and transformers is taught, whoever imports it first."""

import subprocess
import sys
from typing import Any

import pytest

import headcount


def require_success(code: str) -> None:
    """Run code in a Python of its own, which has imported nothing yet."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_command_starts_without_torch() -> None:
    require_success(
        "import sys, headcount.cli, headcount.report, headcount.settings.records\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import headcount, transformers",
        "import transformers, headcount",
        "import headcount, transformers.quantizers.auto",
        "from headcount.anatomy import present",
        "from headcount.nmt import Search",
        "from headcount.surgery.cut import remove_heads",
        "from headcount import METHODS",
    ],
)
def test_transformers_is_taught_whoever_imports_it(first: str) -> None:
    require_success(
        f"{first}\n"
        "from transformers import AutoConfig, AutoModelForSeq2SeqLM\n"
        "from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING\n"
        "assert 'headcount' in AUTO_QUANTIZER_MAPPING\n"
        "from headcount.nmt import TranslatorConfig\n"
        "assert type(AutoConfig.for_model(TranslatorConfig.model_type)) is TranslatorConfig\n"
        "assert type(AutoModelForSeq2SeqLM.from_config(TranslatorConfig(vocab_size=9))).__name__ == 'Translator'\n"
    )


def test_a_name_that_is_not_there() -> None:
    module: Any = headcount
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name
