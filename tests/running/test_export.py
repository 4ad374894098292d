"""Exports compute what the model computes, in their own runtimes, for any batch and length; refusals leave nothing."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from exporting import saved, saved_translator, words
from families import FAMILIES
from headcount.anatomy import head_map
from headcount.errors import BadRecipe, CorruptCheckpoint, ExportFailed, UnsupportedModel
from headcount.experiments.demo.demonstration import encoder_directory
from headcount.running.export import EXPORTERS, Exported, export_model
from headcount.running.export.graph import example, share
from headcount.running.libraries import library
from headcount.running.runtimes import OnnxRuntime, open_model
from headcount.surgery.cut import remove_heads
from processes import headcount
from translators import DECODERS, translator

openvino = library("openvino", "openvino")
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Exported]:
    """A tiny BERT with uneven sites, the first one empty; and its ONNX export beside it."""
    directory = tmp_path_factory.mktemp("bert")
    model = saved("bert", directory / "model")
    words(FAMILIES["bart"]).save_pretrained(directory / "model")
    (directory / "model" / "headcount.json").write_text("{}")
    return model, directory, export_model(directory / "model", directory / "onnx", "onnx")


def logits_of(model: Any, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**inputs).logits
    return logits


@pytest.mark.parametrize(("batch", "length"), [(1, 2), (2, 7), (5, 36)])
def test_onnx_of_any_shape(bert: tuple[Any, Path, Exported], batch: int, length: int) -> None:
    """Through onnxruntime alone, without a runner of ours."""
    model, directory, _ = bert
    session = onnxruntime.InferenceSession(str(directory / "onnx" / "model.onnx"))
    inputs = example(model, batch, length, seed=7)
    (found,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    assert share(logits_of(model, **inputs), torch.from_numpy(found)) < 1e-5
    swapped = {**inputs, "token_type_ids": 1 - inputs["token_type_ids"]}
    (other,) = session.run(None, {name: value.numpy() for name, value in swapped.items()})
    assert share(logits_of(model, **swapped), torch.from_numpy(other)) < 1e-5 < abs(found - other).max()


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["attention", "ssru"])
def test_translation_models_of_our_own(decoder: str, tmp_path: Path) -> None:
    """With an empty site; the recurrence has a form for graphs of any length."""
    model = translator(**DECODERS[decoder]).float()
    remove_heads(model, {site.name: [] if number == 0 else [1] for number, site in enumerate(head_map(model).sites)})
    model.save_pretrained(tmp_path / "model")
    # In a process of its own: tests check the types of arguments, and sizes in a graph are no numbers yet.
    assert headcount("export", "model", "--to", "onnx", "-o", "onnx", cwd=tmp_path).returncode == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    for batch, length in ((1, 2), (3, 17)):
        inputs = example(model, batch, length, seed=length)
        (found,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
        assert share(logits_of(model, **inputs), torch.from_numpy(found)) < 1e-5


def test_an_export_says_what_was_checked(bert: tuple[Any, Path, Exported]) -> None:
    _, directory, exported = bert
    assert exported.directory == directory / "onnx" and exported.format == "onnx" and exported.notes == ()
    assert exported.inputs == ("input_ids", "attention_mask", "token_type_ids") and exported.outputs == ("logits",)
    assert 0 < exported.difference < 1e-5 and exported.checked.endswith("of 3x12 and 1x5, padding included")


def test_an_export_lists_its_files(bert: tuple[Any, Path, Exported]) -> None:
    _, directory, exported = bert
    assert exported.files == {file.name: file.stat().st_size for file in (directory / "onnx").iterdir()}
    assert set(exported.files) == {
        "config.json",
        "export.json",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_an_export_writes_what_it_says(bert: tuple[Any, Path, Exported]) -> None:
    _, directory, exported = bert
    written = json.loads((directory / "onnx" / "export.json").read_text())
    assert written["format"] == "onnx" and written["difference"] == exported.difference
    assert written["inputs"] == list(exported.inputs) and written["versions"]["onnxruntime"] == onnxruntime.__version__
    assert json.loads(json.dumps(exported.to_json()))["files"] == exported.files


def test_an_exported_graph_has_free_axes_and_no_paths(bert: tuple[Any, Path, Exported]) -> None:
    _, directory, _ = bert
    graph = onnx.load(directory / "onnx" / "model.onnx")
    assert [axis.dim_param for axis in graph.graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]
    assert not any(node.metadata_props for node in graph.graph.node)  # no paths of the machine that exported


def test_an_export_has_the_tokenizer(bert: tuple[Any, Path, Exported]) -> None:
    _, directory, _ = bert
    assert AutoTokenizer.from_pretrained(directory / "onnx")("w5 w7")["input_ids"] == [5, 7]


def test_runner_and_structure_of_an_export(bert: tuple[Any, Path, Exported]) -> None:
    model, directory, exported = bert
    runner, inputs = open_model(directory / "onnx"), example(model, 2, 9)
    assert share(logits_of(model, **inputs), runner(inputs)[0]) < 1e-5
    del inputs["token_type_ids"]
    assert share(logits_of(model, **inputs), runner(inputs)[0]) < 1e-5  # both take them for zeros
    structure: Any = runner.structure()
    assert structure.config.quantization_config == model.config.quantization_config
    assert runner.file_bytes() == exported.files["model.onnx"]


@pytest.mark.slow
def test_large_weights_lie_beside_the_graph(
    bert: tuple[Any, Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, directory, exported = bert
    monkeypatch.setattr("headcount.running.export.graph.ONE_FILE", 0)
    large = export_model(directory / "model", tmp_path / "large", "onnx")
    assert large.files["model.onnx.data"] > large.files["model.onnx"] and large.difference == exported.difference
    assert open_model(tmp_path / "large").file_bytes() == large.files["model.onnx"] + large.files["model.onnx.data"]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("family", ["distilbert", "mpnet", "vit", "wav2vec2", "gpt2", "llama", "t5"])
def test_families_as_graphs(family: str, to: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "out", to)
    assert exported.difference < 1e-5
    generates = FAMILIES[family].generates
    assert ("without a key/value cache" in "".join(exported.notes)) == generates
    assert ("decoder_input_ids" in exported.inputs) == (family == "t5")
    runner = open_model(tmp_path / "out")
    inputs = example(model, 4, 15, seed=9)
    model.config.use_cache = False
    assert share(logits_of(model, **inputs), runner(inputs)[0]) < 1e-5


@pytest.mark.slow
def test_openvino_by_its_own_means(bert: tuple[Any, Path, Exported], tmp_path: Path) -> None:
    """Names of ports, and float32 where it is asked for, as the documentation does."""
    model, directory, _ = bert
    exported = export_model(directory / "model", tmp_path / "out", "openvino")
    assert {"openvino_model.xml", "openvino_model.bin"} < set(exported.files) and "model.onnx" not in exported.files
    single = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(tmp_path / "out" / "openvino_model.xml"), "CPU", single)
    inputs = example(model, 3, 20, seed=4)
    found = compiled({name: value.numpy() for name, value in inputs.items()})["logits"]
    assert share(logits_of(model, **inputs), torch.from_numpy(found)) < 1e-5


@pytest.mark.slow
def test_the_real_encoder(tmp_path: Path) -> None:
    """Without a head, so two outputs; pruned to 30 of 72 heads, one layer empty; on sentences of two lengths."""
    model = AutoModel.from_pretrained(encoder_directory()).eval()
    keep = [[], [0, 3, 5], [1], list(range(12)), [2, 4, 6, 8], list(range(10))]
    remove_heads(model, {f"encoder.layer.{layer}.attention": kept for layer, kept in enumerate(keep)})
    model.save_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(encoder_directory())
    tokenizer.save_pretrained(tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "out", "onnx")
    assert exported.outputs == ("last_hidden_state", "pooler_output")
    batch = dict(tokenizer(["A head that is gone is not missed.", "Who?"], padding=True, return_tensors="pt"))
    with torch.no_grad():
        expected = model(**batch)
    for found, name in zip(open_model(tmp_path / "out")(batch), exported.outputs, strict=True):
        assert share(expected[name], found) < 1e-5


def test_a_wrong_graph_is_found_and_not_written(
    bert: tuple[Any, Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntime.__call__
    for spoil in (lambda x: x + 1e-3, lambda x: x * float("nan"), lambda x: x[:, :1]):
        monkeypatch.setattr(OnnxRuntime, "__call__", lambda self, inputs: [spoil(x) for x in run(self, inputs)])  # noqa: B023
        monkeypatch.setattr(
            "headcount.running.export.onnx.write_onnx",
            lambda graph, file: file.write_bytes((bert[1] / "onnx" / "model.onnx").read_bytes()),
        )
        with pytest.raises(ExportFailed, match="onnxruntime .* differ from PyTorch's by .* Nothing was written"):
            export_model(bert[1] / "model", tmp_path / "out", "onnx")
        assert list(tmp_path.iterdir()) == []


def test_a_graph_of_one_shape_only_is_refused(
    bert: tuple[Any, Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_with_fixed_axes(graph: Any, file: Path) -> None:
        fixed = onnx.load(bert[1] / "onnx" / "model.onnx")
        for given in fixed.graph.input:
            given.type.tensor_type.shape.dim[1].dim_value = 7
        onnx.save(fixed, file)

    monkeypatch.setattr("headcount.running.export.onnx.write_onnx", write_with_fixed_axes)
    with pytest.raises(ExportFailed, match="onnxruntime .* cannot run the graph on another batch than the one traced"):
        export_model(bert[1] / "model", tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_for_one_text_at_a_time_is_refused(tmp_path: Path) -> None:
    """A classifier that looks for padding, and does not know what that is, reads no two texts at once."""
    model = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1)
    )
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedModel, match="batches and texts of any size: .* no pad_token_id. Set that."):
        export_model(tmp_path / "model", tmp_path / "onnx", "onnx")
    assert not (tmp_path / "onnx").exists()


def test_differences_by_hand() -> None:
    assert share(torch.tensor([0.5, -0.25]), torch.tensor([0.5, 0.25])) == 0.5
    assert share(torch.tensor([4.0, -10.0]), torch.tensor([5.0, -10.0])) == pytest.approx(0.1)
    for one, other in (([1.0, float("nan")], [1.0, 2.0]), ([1.0, 2.0], [float("nan"), 2.0])):
        assert share(torch.tensor(one), torch.tensor(other)) == float("inf")


def test_what_cannot_be_traced_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("bert", tmp_path / "model")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("\n  Data-dependent branch.\nat line 7")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    says = "BertForSequenceClassification could not be traced into a graph: Data-dependent branch. Nothing was written"
    with pytest.raises(ExportFailed, match=says):
        export_model(tmp_path / "model", tmp_path / "out", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_bad_input(bert: tuple[Any, Path, Exported], tmp_path: Path) -> None:
    model = bert[1] / "model"
    with pytest.raises(BadRecipe, match="Unknown format 'tflite'. Valid formats: onnx, openvino, ctranslate2"):
        export_model(model, tmp_path / "out", "tflite")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(BadRecipe, match="is there already and not empty"):
        export_model(model, tmp_path / "full", "onnx")
    with pytest.raises(CorruptCheckpoint, match="no config.json"):
        export_model(tmp_path / "full", tmp_path / "out", "onnx")
    saved_translator("marian", tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(BadRecipe, match="there is no tokenizer .* Save the tokenizer into the model's directory"):
        export_model(tmp_path / "mute", tmp_path / "out", "ctranslate2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "mute"]


@pytest.mark.parametrize("to", EXPORTERS)
def test_missing_libraries_are_found_first(
    to: str, bert: tuple[Any, Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EXPORTERS[to].libraries:
        with monkeypatch.context() as context:
            context.setitem(sys.modules, name, None)
            with pytest.raises(BadRecipe, match=rf"needs {name}, which is not installed.*'headcount\[{to}\]'"):
                export_model(bert[1] / "model", tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def test_the_documents_name_every_format() -> None:
    assert all(f"| `{to}` |" in DOCS.read_text() for to in EXPORTERS)


@pytest.mark.slow
def test_the_documents_code_runs(
    bert: tuple[Any, Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small-onnx").symlink_to(bert[1] / "onnx")
    export_model(bert[1] / "model", tmp_path / "small-openvino", "openvino")
    saved_translator("marian", tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "translator-ct2", "ctranslate2")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    found: list[dict[str, Any]] = []
    for block in blocks:
        found.append({})
        exec(block, found[-1])
    assert len(blocks) == 3 and found[0]["logits"].shape == found[1]["logits"].shape == (2, 3)
    assert abs(found[0]["logits"] - found[1]["logits"]).max() < 1e-5 and isinstance(found[2]["text"], str)


@pytest.mark.slow
def test_the_commands(bert: tuple[Any, Path, Exported], tmp_path: Path) -> None:
    """As a process: what is printed, what is written, and the exports next to the model they come from."""
    directory = bert[1]
    ran = headcount("export", directory / "model", "--to", "openvino", "-o", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert "openvino_model.bin" in ran.stdout and "difference from PyTorch: " in ran.stdout
    assert "takes input_ids, attention_mask, token_type_ids; gives logits" in ran.stdout
    ran = headcount("export", directory / "model", "--to", "ctranslate2", "-o", tmp_path / "no", "--json")
    assert ran.returncode == 1 and ran.stdout == "" and "encoder-decoder models" in ran.stderr.splitlines()[-1]
    sources = (directory / "model", directory / "onnx", tmp_path / "out", directory / "model")
    conditions = ("--batch-size", 2, "--length", 16, "--rounds", 2, "--warmup", 0)
    timings = json.loads(headcount("bench", *sources, *conditions, "--json").stdout)["timings"]
    assert [each["runtime"].split()[0] for each in timings] == ["torch", "onnxruntime", "openvino", "torch"]
    assert [each["name"] for each in timings][3] == f"{directory / 'model'} (2)"
    assert len({each["flops"] for each in timings}) == 1 == timings[1]["predicted_speedup"]
    assert timings[1]["size"]["bytes"] == bert[2].files["model.onnx"]
