"""Families whose attention the table cannot hold: each with what the refusal names, and why."""

from typing import Any

from families import FAMILIES

_BASE, _SMALL_BART = FAMILIES["bert"].settings, FAMILIES["bart"].settings
# Family -> configuration, model, settings, what the message names, why the table cannot hold it.
REFUSED: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "longformer": (
        "LongformerConfig",
        "LongformerModel",
        {**_BASE, "attention_window": 4},
        "LongformerAttention",
        "one attribute serves as the model's width and as heads x head size",
    ),
    "led": (
        "LEDConfig",
        "LEDModel",
        {**_SMALL_BART, "attention_window": 4},
        "LEDEncoderAttention",
        "as Longformer, in its encoder",
    ),
    "xlnet": (
        "XLNetConfig",
        "XLNetModel",
        {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37},
        "XLNetRelativeAttention",
        "its projections are parameters of one product, not layers",
    ),
    "wavlm": (
        "WavLMConfig",
        "WavLMModel",
        {**_BASE, "conv_dim": (8,), "conv_stride": (4,), "conv_kernel": (6,), "num_conv_pos_embedding_groups": 2},
        "WavLMAttention",
        "hands the weights of its projections to torch's own multi-head attention, so its output layer is never called",
    ),
    "olmo2": (
        "Olmo2Config",
        "Olmo2Model",
        {**_BASE, "num_key_value_heads": 2},
        "Olmo2Attention",
        "queries and keys are normalised over all heads together: fewer heads would be scaled otherwise",
    ),
    "gpt-oss": (
        "GptOssConfig",
        "GptOssModel",
        {**_BASE, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2, "intermediate_size": 32},
        "GptOssAttention",
        "every head has a learned sink, which no row describes yet",
    ),
}
