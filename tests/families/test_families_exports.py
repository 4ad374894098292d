"""Every family in every format: a graph that computes the same, or a refusal that says why. `make families` runs it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from exporting import TRANSLATORS, saved, saved_translator
from families import FAMILIES, tiny
from headcount.errors import ExportFailed, UnsupportedModel
from headcount.running.export import export_model

FORMATS = {"onnx": "ONNX", "openvino": "OpenVINO", "ctranslate2": "CTranslate2"}
# Family and format -> why not; the test makes sure that the unpruned model does not go either.
NOT_TRACED: dict[tuple[str, str], str] = {
    ("switch-transformers", "onnx"): "PyTorch does not trace it, pruned or not.",
    ("switch-transformers", "openvino"): "PyTorch does not trace it, pruned or not.",
    ("falcon-alibi", "onnx"): "ONNX Runtime does not run its graph, pruned or not: it has no product of bfloat16.",
}


@pytest.mark.page
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_export(family: str, to: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("family", family)
    record_property("operation", FORMATS[to])
    if to == "ctranslate2" and family not in TRANSLATORS:
        saved(family, tmp_path / "model")
        with pytest.raises(UnsupportedModel, match="CTranslate2"):
            export_model(tmp_path / "model", tmp_path / "out", to)
        record_property("refused", "CTranslate2 holds encoder-decoders of the families that its own converters know.")
    elif (family, to) in NOT_TRACED:
        saved(family, tmp_path / "model")
        tiny(family).save_pretrained(tmp_path / "unpruned")
        for model in ("unpruned", "model"):
            with pytest.raises(ExportFailed):
                export_model(tmp_path / model, tmp_path / "out", to)
        record_property("refused", NOT_TRACED[family, to])
    else:
        saved_translator(family, tmp_path / "model") if to == "ctranslate2" else saved(family, tmp_path / "model")
        assert export_model(tmp_path / "model", tmp_path / "out", to).difference <= 1e-5
        return
    assert not (tmp_path / "out").exists()
