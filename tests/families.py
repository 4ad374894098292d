"""Tiny seeded models, one per family: built from configurations, with weights large enough that a wrong cut shows."""

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

LAYERS, HEADS, HEAD_SIZE, VOCABULARY = 3, 4, 8, 99
WIDTH = HEADS * HEAD_SIZE

_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
_TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DECODER: dict[str, Any] = {**{k: v for k, v in _ENCODER.items() if k != "num_labels"}, **_TOKENS}
_GROUPED: dict[str, Any] = {**_DECODER, "num_key_value_heads": HEADS // 2, "head_dim": HEAD_SIZE}
_EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "decoder_sparse_step": 1,
}
_BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
    **_TOKENS,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": HEAD_SIZE,
    "d_ff": 37,
    "num_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "num_heads": HEADS,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
_IMAGE: dict[str, Any] = {**_ENCODER, "image_size": 8, "patch_size": 4, "num_channels": 3}
_SOUND: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 37,
    "conv_dim": (8, 8),
    "conv_stride": (4, 4),
    "conv_kernel": (6, 6),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_labels": 3,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
_TOWERS: dict[str, Any] = {
    "text_config": {**_DECODER, "projection_dim": 16},
    "vision_config": {**_IMAGE, "projection_dim": 16},
    "projection_dim": 16,
}


@dataclass(frozen=True)
class Family:
    """How a tiny model of a family is built.

    Attributes:
        config: Name of its configuration class in transformers.
        model: Name of its model class.
        auto: The Auto class that users load it with.
        settings: Of the configuration.
        static_cache: Whether transformers itself generates with a static cache; the test asserts what is said here.
    """

    config: str
    model: str
    auto: str
    settings: dict[str, Any] = field(repr=False)
    static_cache: bool = True

    def build(self, attention: str) -> Any:
        """The model, with the library's own random weights."""
        config = getattr(transformers, self.config)(**self.settings)
        return getattr(transformers, self.model)._from_config(config, attn_implementation=attention)

    @property
    def attention(self) -> tuple[str, ...]:
        """The attention implementations that the family has on every machine."""
        return ("sdpa", "eager") if getattr(transformers, self.model)._supports_sdpa else ("eager",)

    @property
    def generates(self) -> bool:
        """Whether its users generate with it."""
        return self.auto in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq")


def _classifier(name: str, **settings: Any) -> Family:
    auto = "AutoModelForSequenceClassification"
    return Family(f"{name}Config", f"{name}ForSequenceClassification", auto, {**_ENCODER, **settings})


def _causal(
    name: str, base: dict[str, Any] = _DECODER, kind: str = "ForCausalLM", static_cache: bool = True, **settings: Any
) -> Family:
    return Family(f"{name}Config", f"{name}{kind}", "AutoModelForCausalLM", {**base, **settings}, static_cache)


def _seq2seq(name: str, model: str = "ForConditionalGeneration", base: dict[str, Any] = _BART, **more: Any) -> Family:
    return Family(f"{name}Config", f"{name}{model}", "AutoModelForSeq2SeqLM", {**base, **more})


def _image(name: str, **settings: Any) -> Family:
    return Family(f"{name}Config", f"{name}ForImageClassification", "AutoModelForImageClassification",
                  {**_IMAGE, **settings})  # fmt: skip


def _sound(name: str, **settings: Any) -> Family:
    auto = "AutoModelForAudioClassification"
    return Family(f"{name}Config", f"{name}ForSequenceClassification", auto, {**_SOUND, **settings})


FAMILIES: dict[str, Family] = {
    "bert": _classifier("Bert"),
    "roberta": _classifier("Roberta"),
    "xlm-roberta": _classifier("XLMRoberta"),
    "camembert": _classifier("Camembert"),
    "roberta-prelayernorm": _classifier("RobertaPreLayerNorm"),
    "electra": _classifier("Electra", embedding_size=16),
    "ernie": _classifier("Ernie"),
    "data2vec-text": _classifier("Data2VecText"),
    "megatron-bert": _classifier("MegatronBert"),
    "rembert": _classifier("RemBert", input_embedding_size=16, output_embedding_size=16),
    "esm": _classifier("Esm", position_embedding_type="rotary", pad_token_id=0, mask_token_id=3),
    "albert": _classifier("Albert", embedding_size=16),
    "distilbert": Family(
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        "AutoModelForSequenceClassification",
        {
            "vocab_size": VOCABULARY,
            "dim": WIDTH,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "hidden_dim": 37,
            "max_position_embeddings": 40,
            "num_labels": 3,
        },
    ),
    "mpnet": _classifier("MPNet"),
    "deberta-v2": _classifier(
        "DebertaV2", relative_attention=True, position_buckets=8, pos_att_type=["c2p", "p2c"], share_att_key=False
    ),
    "modernbert": _classifier("ModernBert", global_attn_every_n_layers=2, local_attention=4, **_TOKENS),
    "vit": _image("ViT"),
    "deit": _image("DeiT"),
    "dinov2": _image("Dinov2"),
    "dinov2-registers": _image("Dinov2WithRegisters"),
    "vit-msn": _image("ViTMSN"),
    "beit": _image("Beit", use_relative_position_bias=True),
    "clip": Family("CLIPConfig", "CLIPModel", "AutoModel", _TOWERS),
    "siglip": Family("SiglipConfig", "SiglipModel", "AutoModel", _TOWERS),
    "ast": Family(
        "ASTConfig",
        "ASTForAudioClassification",
        "AutoModelForAudioClassification",
        {**_IMAGE, "max_length": 8, "num_mel_bins": 8, "frequency_stride": 4, "time_stride": 4},
    ),
    "wav2vec2": _sound("Wav2Vec2"),
    "hubert": _sound("Hubert"),
    "unispeech": _sound("UniSpeech"),
    "unispeech-sat": _sound("UniSpeechSat"),
    "sew": _sound("SEW", squeeze_factor=1),
    "data2vec-audio": _sound("Data2VecAudio"),
    "whisper": Family(
        "WhisperConfig",
        "WhisperForConditionalGeneration",
        "AutoModelForSpeechSeq2Seq",
        {**_BART, "num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 20},
    ),
    "speech2text": Family(
        "Speech2TextConfig",
        "Speech2TextForConditionalGeneration",
        "AutoModelForSpeechSeq2Seq",
        {**_BART, "input_feat_per_channel": 8, "conv_channels": 16, "max_target_positions": 20},
    ),
    "bart": _seq2seq("Bart"),
    "mbart": _seq2seq("MBart"),
    "marian": _seq2seq("Marian", "MTModel"),
    "m2m100": _seq2seq("M2M100", encoder_layerdrop=0.0, decoder_layerdrop=0.0),
    "pegasus": _seq2seq("Pegasus"),
    "blenderbot": _seq2seq("Blenderbot"),
    "blenderbot-small": _seq2seq("BlenderbotSmall"),
    "plbart": _seq2seq("PLBart"),
    "t5": _seq2seq("T5", base=_T5),
    "mt5": _seq2seq("MT5", base=_T5),
    "umt5": _seq2seq("UMT5", base=_T5),
    "switch-transformers": _seq2seq("SwitchTransformers", base=_T5, num_experts=2, expert_capacity=64),
    "gpt2": _causal("GPT2", kind="LMHeadModel"),
    "gptj": _causal("GPTJ", rotary_dim=4),
    "gpt-neox": _causal("GPTNeoX"),
    "bloom": _causal("Bloom"),
    "falcon": _causal("Falcon", new_decoder_architecture=True, num_kv_heads=2, alibi=False),
    "falcon-alibi": _causal(
        "Falcon", new_decoder_architecture=False, multi_query=False, alibi=True, static_cache=False
    ),
    "falcon-multi-query": _causal("Falcon", new_decoder_architecture=False, multi_query=True, alibi=False),
    "opt": _causal("OPT", ffn_dim=37, word_embed_proj_dim=WIDTH),
    "biogpt": _causal("BioGpt"),
    "phi": _causal("Phi"),
    "phi3": _causal("Phi3", _GROUPED),
    "llama": _causal("Llama", _GROUPED),
    "mistral": _causal("Mistral", _GROUPED, sliding_window=4),
    "mixtral": _causal("Mixtral", _GROUPED, num_local_experts=2, intermediate_size=32),
    "ministral": _causal("Ministral", _GROUPED),
    "qwen2": _causal("Qwen2", _GROUPED),
    "qwen2-moe": _causal("Qwen2Moe", _GROUPED, **_EXPERTS),
    "qwen3": _causal("Qwen3", _GROUPED),
    "qwen3-moe": _causal("Qwen3Moe", _GROUPED, **_EXPERTS),
    "gemma": _causal("Gemma", _GROUPED),
    "gemma2": Family(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        "AutoModelForCausalLM",
        {**_GROUPED, "query_pre_attn_scalar": HEAD_SIZE, "sliding_window": 4},
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        "AutoModelForCausalLM",
        {**_GROUPED, "query_pre_attn_scalar": HEAD_SIZE, "sliding_window": 4},
    ),
    "granite": _causal("Granite", _GROUPED),
    "smollm3": _causal("SmolLM3", _GROUPED),
    "starcoder2": _causal("Starcoder2", _GROUPED),
    "glm": _causal("Glm", _GROUPED),
    "helium": _causal("Helium", _GROUPED),
    "bert-decoder": _causal("Bert", {**_DECODER, "is_decoder": True}, kind="LMHeadModel"),
}


CLASSIFIERS = ("bert", "roberta", "electra", "distilbert", "mpnet")
"""Encoders with a classification head, for laws that need no other kind of model."""


def tiny(family: str, seed: int = 0, attention: str | None = None) -> Any:
    """A tiny model of the family, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FAMILIES[family].build(attention or FAMILIES[family].attention[0])
        for parameter in model.parameters():
            if parameter.requires_grad:  # positions by sines are no one's to change, and are not saved
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def checkpointing(model: Any) -> Any:
    """The model with gradient checkpointing, under the name that newer versions of transformers give it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return model
