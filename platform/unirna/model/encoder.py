"""The Uni-RNA encoder on packed input: definition only, no parallelism, no files.

Architecture: pre-norm Transformer with rotary positions, token-dropout rescaling and exact GELU, as the released
checkpoints have it (Wang et al. 2023, bioRxiv 2023.07.11.548588). Shapes: T tokens of all sequences, H hidden size,
N heads, D head size, F feed-forward size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unirna.model.attention import Segments, packed_attention
from unirna.model.config import EncoderConfig
from unirna.model.tokens import MASK, NUM_TOKENS, PAD
from unirna.model.whitening import Whitening

MASKED_SHARE = 0.15 * 0.8
"""Share of tokens that are `<mask>` in training: the constant of the token-dropout rescaling."""


class Linear(nn.Linear):
    """A linear layer that starts empty, since `Encoder.initialise` or a checkpoint fills it."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class LayerNorm(nn.LayerNorm):
    """Layer norm with its input's number type, under autocast too: the sums inside the kernel are float32 anyway."""

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.LayerNorm`."""
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class Layer(nn.Module):
    """One pre-norm Transformer layer: h += out(attention(norm(h))); h += fc2(gelu(fc1(norm(h))))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size, wide = config.hidden_size, config.intermediate_size
        self.num_heads, self.head_size = config.num_heads, config.head_size
        self.attention_norm = LayerNorm(size, config.layer_norm_eps)
        self.qkv = Linear(size, 3 * size)
        self.out = Linear(size, size)
        self.feed_forward_norm = LayerNorm(size, config.layer_norm_eps)
        self.fc1 = Linear(size, wide)
        self.fc2 = Linear(wide, size)

    def forward(self, hidden_TH: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, segments: Segments) -> Tensor:
        """Hidden states [T, H] -> [T, H]."""
        qkv = self.qkv(self.attention_norm(hidden_TH)).view(-1, 3, self.num_heads, self.head_size)
        qk, v = qkv.split((2, 1), dim=1)  # not slices: the gradient of a slice is a tensor of the whole's size
        q, k = rotate(qk.flatten(1, 2), cos_T1D, sin_T1D).split(self.num_heads, dim=1)
        attended = packed_attention(q, k, v.squeeze(1), segments)
        hidden_TH = self.out(attended.flatten(1)).add_(hidden_TH)
        hidden_TH = self.fc2(F.gelu(self.fc1(self.feed_forward_norm(hidden_TH)))).add_(hidden_TH)
        return hidden_TH


def rotate(x_TND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """Rotary position embedding, half-split form (Su et al. 2021): x*cos + [-x2, x1]*sin, over the last axis."""
    first, second = x_TND.chunk(2, dim=-1)
    left = (first * cos_T1D).addcmul_(second, sin_T1D, value=-1)  # in place: new memory is what costs most here
    right = (second * cos_T1D).addcmul_(first, sin_T1D)
    return torch.cat((left, right), dim=-1)


class LanguageModelHead(nn.Module):
    """Hidden states [M, H] -> logits over the vocabulary [M, 10]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.decoder = Linear(config.hidden_size, NUM_TOKENS)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Logits [M, 10] of hidden states [M, H]."""
        logits: Tensor = self.decoder(self.norm(F.gelu(self.dense(hidden_MH))))
        return logits


class Encoder(nn.Module):
    """Tokens [T] with sequence boundaries -> hidden states [T, H]. Empty until `initialise` or a checkpoint fills it.

    `lm_head` is the language-model head; it is None for a checkpoint that has none. `whitening` is the map from mean
    states to the vectors that searches compare; it plays no part in the forward pass and is None if none was fitted.
    """

    inverse_frequencies: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        table = torch.empty(NUM_TOKENS, config.hidden_size)
        self.embedding = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=PAD)
        self.embedding_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.lm_head: LanguageModelHead | None = LanguageModelHead(config)
        self.whitening: Whitening | None = None
        even = torch.arange(0, config.head_size, 2, dtype=torch.float32)
        self.register_buffer("inverse_frequencies", 10_000.0 ** (-even / config.head_size), persistent=False)

    def forward(self, tokens_T: Tensor, segments: Segments) -> Tensor:
        """Hidden states after the final norm.

        Args:
            tokens_T: token ids, integers [T], every sequence with its `<cls>` and `<eos>`.
            segments: where the sequences lie.

        Returns:
            [T, H].
        """
        last = deque(self._layer_outputs(tokens_T, segments), maxlen=1)
        normed: Tensor = self.final_norm(last[0])
        return normed

    def states(self, tokens_T: Tensor, segments: Segments) -> Iterator[Tensor]:
        """The states of which vectors are made, [T, H] each: of the layers that `whitening` names, else the final one."""
        layers = self.whitening.layers if self.whitening is not None else ()
        if not layers:
            yield self(tokens_T, segments)
            return
        for number, hidden in enumerate(self._layer_outputs(tokens_T, segments), 1):
            if number in layers:
                yield hidden
            if number == max(layers):
                return

    def _layer_outputs(self, tokens_T: Tensor, segments: Segments) -> Iterator[Tensor]:
        """Output of each layer in turn, [T, H]."""
        hidden = self.embedding_norm(self.embedding(tokens_T))
        if self.config.token_dropout:
            hidden = hidden * self._dropout_scale(tokens_T, segments)[:, None].to(hidden.dtype)
        angles = segments.positions[:, None].float() * self.inverse_frequencies
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        if torch.is_autocast_enabled(hidden.device.type):
            half = torch.get_autocast_dtype(hidden.device.type)
            cos, sin = cos.to(half), sin.to(half)
        else:
            cos, sin = cos.to(hidden.dtype), sin.to(hidden.dtype)
        for layer in self.layers:
            if self.checkpoint_activations and self.training:
                hidden = checkpoint(layer, hidden, cos, sin, segments, use_reentrant=False)
            else:
                hidden = layer(hidden, cos, sin, segments)
            yield hidden

    @staticmethod
    def _dropout_scale(tokens_T: Tensor, segments: Segments) -> Tensor:
        """0 at `<mask>`, elsewhere (1 - 0.12) / (1 - masked/real) of the token's sequence: float32 [T]."""
        masked_T = tokens_T == MASK
        count = segments.boundaries.diff()
        masked = torch.zeros(len(count), device=tokens_T.device).index_add_(0, segments.index, masked_T.float())
        scale = (1 - MASKED_SHARE) / (1 - masked / count)
        return scale[segments.index].masked_fill(masked_T, 0.0)

    def initialise(self, seed: int) -> Encoder:
        """Initialise every weight at random.

        Matrices are normal with standard deviation 0.7 / sqrt(H), biases 0, norms 1. Many heads of the lower layers
        start by looking at one neighbour each (`local_offsets`): their query and key biases are set so that the score
        peaks at that distance. Random weights then already tell k-mers apart, where with the usual small ones a
        network this shallow is all but linear and its mean vectors hold little but the composition (docs/log.md has
        the figures). It is only a start: training moves these biases like any other weight.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 1:
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                else:
                    parameter.normal_(0.0, 0.7 * self.config.hidden_size**-0.5, generator=generator)
            self.embedding.weight[PAD].zero_()
            for layer, offsets in zip(self.layers, local_offsets(self.config), strict=True):
                assert isinstance(layer, Layer)
                for head, offset in enumerate(offsets):
                    _look_at(layer, head, offset, self.inverse_frequencies)
        return self


def local_offsets(config: EncoderConfig) -> list[list[int]]:
    """Distances at which the first heads of each layer start to look: -1, 1, -2, 2 in turn.

    All heads of the first half of the layers, half of the heads of the third quarter, none of the rest.
    """
    count, heads = config.num_layers, config.num_heads
    local = [heads if i < count / 2 else heads // 2 if i < 3 * count / 4 else 0 for i in range(count)]
    return [[(-1, 1, -2, 2)[head % 4] for head in range(number)] for number in local]


def _look_at(layer: Layer, head: int, offset: int, frequencies: Tensor) -> None:
    """Give a head constant query and key parts whose rotary product peaks where key - query position = offset."""
    half = layer.head_size // 2
    # Moving one position off the peak lowers the score by 4 before the softmax.
    size = (4.0 * layer.head_size**0.5 / float((1 - frequencies.cos()).sum())) ** 0.5
    query, key, _ = layer.qkv.bias.view(3, layer.num_heads, layer.head_size)[:, head]
    query[:half] = size
    key[:half] = size * (frequencies * offset).cos()
    key[half:] = -size * (frequencies * offset).sin()
