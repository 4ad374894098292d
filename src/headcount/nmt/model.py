"""`Translator`, our own translation model, as a transformers model."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import Seq2SeqLMOutput

from headcount.errors import BadRecipe
from headcount.nmt.attention import NoHeads
from headcount.nmt.configuration import TranslatorConfig
from headcount.nmt.decoder import Decoder, Decoding
from headcount.nmt.encoder import Encoder
from headcount.nmt.layers import positions
from headcount.nmt.search import Search, search
from headcount.nmt.vocabulary import UNKNOWN_ID
from headcount.settings.schema import require_least

OF_THE_TRAINER = ("labels", "synced_gpus")
"""The arguments that transformers' Seq2SeqTrainer passes to `generate` beside the source."""


class Output(nn.Module):
    """The output layer: a bias, and a matrix if it does not share that of the embeddings."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        own = config.tied_embeddings == "none"
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.d_model)) if own else None
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def project(self, weight: Tensor, bias: Tensor, candidates: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return a function that computes the logits of all pieces, or of the candidates."""
        if candidates is not None:
            weight, bias = (x.index_select(0, candidates) for x in (weight, bias))
        return partial(nn.functional.linear, weight=weight, bias=bias)


class Translator(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped here
    """An encoder-decoder Transformer for translation, with a decoder of attention or an SSRU."""

    config_class = TranslatorConfig
    base_model_prefix = "translator"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        shared = config.tied_embeddings == "all"
        self.source_embedding = None if shared else nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder, self.decoder, self.output = Encoder(config), Decoder(config), Output(config)
        # This model does not need it, but transformers' Seq2SeqTrainer reads it from every model.
        self.generation_config = GenerationConfig(pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw matrices by Glorot's uniform rule and embeddings of mean length one; set biases to zero."""
        if isinstance(module, nn.Linear):
            if module.weight.numel():
                init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Output):
            init.zeros_(module.bias)
            if module.weight is not None:
                init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        elif isinstance(module, NoHeads):
            init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Return the source embeddings."""
        return self.embedding if self.source_embedding is None else self.source_embedding

    def forward(
        self,
        input_ids: Int[Tensor, "batch source"],
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> Seq2SeqLMOutput | tuple[Tensor, ...]:
        """Return the logits of every target token, given earlier ones. With labels, add the mean loss of a token.

        Args:
            input_ids: The source.
            attention_mask: 0 at padding.
            decoder_input_ids: The target, with its start token. None: the shifted labels.
            decoder_attention_mask: 0 at padding of the target.
            labels: The target, with its end token; -100 at padding. Training smooths them.
            return_dict: Whether to return a `Seq2SeqLMOutput` instead of a tuple.

        Raises:
            ValueError: Neither `labels` nor `decoder_input_ids` is given.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("Give labels or decoder_input_ids; to translate, call generate.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        memory, memory_mask = self.encode(input_ids, attention_mask)
        x = self._embed(self.embedding, decoder_input_ids)
        mask = create_causal_mask(self.config, x, decoder_attention_mask, past_key_values=None)
        cross_mask = create_bidirectional_mask(self.config, x, memory_mask, encoder_hidden_states=memory)
        x = self.decoder(x, mask, memory, cross_mask)
        logits = nn.functional.linear(x, self.output_weight(), self.output.bias)
        loss = None
        if labels is not None:
            smoothing = self.config.label_smoothing if self.training else 0.0
            precise = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
            loss = nn.functional.cross_entropy(precise, labels.flatten(), label_smoothing=float(smoothing))
        result = Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=memory)
        return result if return_dict else result.to_tuple()

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "batch target"]) -> Int[Tensor, "batch target"]:
        """Return the decoder input for these labels: the start token, then all labels but the last.

        The collators of transformers call it by this name.
        """
        shifted = labels.new_full(labels.shape, self.config.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == -100, self.config.pad_token_id)
        return shifted

    def encode(
        self, input_ids: Int[Tensor, "batch source"], attention_mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch source model"], Bool[Tensor, "batch source"] | None]:
        """Return the encoder output, and which positions are text (None: all)."""
        x = self._embed(self.get_input_embeddings(), input_ids)
        text = None if attention_mask is None else attention_mask.bool()
        # Without padding, no mask is faster. A traced graph must work for every mask.
        if text is not None and not torch.compiler.is_compiling() and bool(text.all()):
            text = None
        mask = create_bidirectional_mask(self.config, x, text)
        return self.encoder(x, mask), text

    def start(
        self,
        input_ids: Int[Tensor, "sentence source"],
        attention_mask: Tensor | None = None,
        beam: int = 1,
        candidates: Int[Tensor, " candidate"] | None = None,
        forbidden: Sequence[int] = (),
    ) -> Decoding:
        """Encode the source, and return the state that `step` translates from.

        Args:
            input_ids: The source.
            attention_mask: 0 at padding.
            beam: Number of hypotheses of each sentence.
            candidates: The pieces that a translation may have. None: all.
            forbidden: The pieces that a translation must not have. Their logits are -inf.
        """
        memory, text = self.encode(input_ids, attention_mask)
        queries = memory.new_empty(len(memory), beam, 0)
        mask = None if text is None else create_bidirectional_mask(
            self.config, queries, text, encoder_hidden_states=memory
        )  # fmt: skip
        bias: Tensor = self.output.bias
        if forbidden:
            bias = bias.index_fill(0, torch.tensor(forbidden, device=bias.device), -torch.inf)
        project = self.output.project(self.output_weight(), bias, candidates)
        places = positions(64, self.config.d_model, memory)
        return Decoding(memory, mask, self.decoder.start(), places, 0, project)

    def step(
        self, tokens: Int[Tensor, "sentence beam"], decoding: Decoding
    ) -> Float[Tensor, "sentence beam candidate"]:
        """Append a token to every hypothesis, and return the logits of the next one."""
        if decoding.position == len(decoding.places):
            decoding.places = positions(2 * len(decoding.places), self.config.d_model, decoding.places)
        place = decoding.places[decoding.position]
        x = torch.add(place, self.embedding(tokens), alpha=self.config.d_model**0.5)
        decoding.position += 1
        x = self.decoder.step(x, decoding.layers, decoding.memory, decoding.memory_mask)
        return decoding.project(x)

    def generate(
        self,
        input_ids: Int[Tensor, "sentence source"],
        attention_mask: Tensor | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        num_return_sequences: int = 1,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        **others: object,
    ) -> Int[Tensor, "hypothesis target"]:
        """Return translations in transformers' format: start token, pieces, end token, padding. The best come first.

        `search` offers more, for example shortlists and scores.

        Args:
            input_ids: The source. Padding must come after the text.
            attention_mask: 0 at padding. None: there is no padding.
            num_beams: See `Search.beam`.
            length_penalty: See `Search.normalisation`.
            num_return_sequences: Number of translations of each sentence, at most `num_beams`. If a sentence has fewer
                within its length, the last ones are empty.
            max_new_tokens: Maximum number of tokens after the start, including the end. A cut translation has no end.
            max_length: Maximum number of tokens, including the start. `max_new_tokens` overrides it.
            others: Further arguments of transformers' Trainer. They have no effect; any other argument is refused.

        Raises:
            BadRecipe: A number is not allowed, padding comes before text, or an argument is unknown.
        """
        if unknown := [name for name in others if name not in OF_THE_TRAINER]:
            raise BadRecipe(
                f"Got {', '.join(unknown)}. A translation model of headcount's generates by num_beams, length_penalty, "
                "num_return_sequences, max_new_tokens and max_length."
            )
        require_least(2, max_length=max_length)
        require_least(1, max_new_tokens=max_new_tokens)
        if max_new_tokens is None and max_length is not None:
            max_new_tokens = max_length - 1
        settings = Search(num_beams, length_penalty, num_return_sequences, most=max_new_tokens)
        text = torch.ones_like(input_ids) if attention_mask is None else (attention_mask != 0).long()
        if (text.diff(dim=1) > 0).any():
            raise BadRecipe("Got padding before text, which moves its positions. Tokenize with padding_side='right'.")
        was_training = self.training
        self.eval()
        try:
            found = search(self, input_ids, text, settings, never=(UNKNOWN_ID,))
        finally:
            self.train(was_training)
        start, end = self.config.decoder_start_token_id, self.config.eos_token_id
        ids = [[one.ids for one in best] + [[]] * (num_return_sequences - len(best)) for best in found]
        most = None if max_new_tokens is None else max_new_tokens + 1
        lines = [torch.tensor([start, *one, end][:most]) for best in ids for one in best]
        padded = nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=self.config.pad_token_id)
        return padded.to(input_ids.device)

    def _embed(self, embedding: nn.Module, ids: Tensor) -> Tensor:
        x = embedding(ids) * self.config.d_model**0.5
        embedded: Tensor = self.dropout(x + positions(ids.shape[1], self.config.d_model, x))
        return embedded

    def output_weight(self) -> Float[Tensor, "piece model"]:
        """Return the matrix of the output layer: its own, or that of the embeddings."""
        return self.embedding.weight if self.output.weight is None else self.output.weight
