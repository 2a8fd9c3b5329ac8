"""Shape of an encoder, as `config.json` states it, and the named sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder.

    Attributes:
        num_layers: Transformer layers.
        hidden_size: H, width of a token's vector.
        num_heads: attention heads; the head size is `hidden_size / num_heads`, an even number.
        intermediate_size: width of the feed-forward layer.
        max_positions: longest input in tokens, `<cls>` and `<eos>` included.
        layer_norm_eps: epsilon of every LayerNorm.
        token_dropout: rescale embeddings for the share of masked tokens (ESM-1b; Rives et al. 2021).
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 1026
    layer_norm_eps: float = 1e-5
    token_dropout: bool = True

    def __post_init__(self) -> None:
        least = {"num_layers": 1, "hidden_size": 2, "num_heads": 1, "intermediate_size": 1, "max_positions": 3}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {smallest} or more")
        if not 0 < self.layer_norm_eps < 1:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps}: expected a small number above 0")
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.num_heads} heads: expected a whole, even head size "
                "(rotary positions turn pairs of channels)"
            )

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def context(self) -> int:
        """Longest sequence that is embedded in one piece, in nucleotides: `max_positions` less the two special tokens."""
        return self.max_positions - 2

    @property
    def num_parameters(self) -> int:
        """Parameters of the encoder, language-model head excluded."""
        h, f = self.hidden_size, self.intermediate_size
        layer = 4 * (h * h + h) + (h * f + f) + (f * h + h) + 4 * h
        return 10 * h + 2 * h + self.num_layers * layer + 2 * h

    def flops(self, lengths: list[int]) -> int:
        """Floating-point operations of one forward pass over sequences of these lengths in tokens.

        Two for each multiply-add of the linear layers and of attention (QK^T and AV); norms and activations left out.
        """
        linear = 2 * self.num_layers * (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size)
        quadratic = 4 * self.num_layers * self.hidden_size
        return sum(n * linear + quadratic * n * n for n in lengths)

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`, in the released form."""
        return {
            "architectures": ["UniRNAForMaskedLM"],
            "attention_probs_dropout_prob": 0.0,
            "cls_token_id": 3,
            "dtype": "float32",
            "emb_layer_norm_before": True,
            "hidden_dropout_prob": 0.0,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "mask_token_id": 4,
            "max_position_embeddings": self.max_positions,
            "model_type": "unirna",
            "num_attention_heads": self.num_heads,
            "num_hidden_layers": self.num_layers,
            "pad_token_id": 0,
            "position_embedding_type": "rotary",
            "sep_token_id": 1,
            "tie_word_embeddings": False,
            "token_dropout": self.token_dropout,
            "use_flash_attention": False,
            "vocab_size": 10,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """Read the content of `config.json`.

        Raises:
            ValueError: a missing field, or a value that this encoder does not implement; the field is named.
        """
        fixed = {
            "model_type": "unirna",
            "vocab_size": 10,
            "position_embedding_type": "rotary",
            "emb_layer_norm_before": True,
            "tie_word_embeddings": False,
            "hidden_act": "gelu",
        }
        if not isinstance(values, Mapping):
            raise ValueError(f"config.json: expected an object of fields, got {type(values).__name__}")
        for key, wanted in fixed.items():
            if values.get(key, wanted) != wanted:
                raise ValueError(f"config.json: {key} is {values[key]!r}, this encoder has {wanted!r} only")
        names = {
            "num_hidden_layers": "num_layers",
            "hidden_size": "hidden_size",
            "num_attention_heads": "num_heads",
            "intermediate_size": "intermediate_size",
        }
        missing = [key for key in names if key not in values]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}")
        counts = {**names, "max_position_embeddings": "max_positions"}
        for key in counts:
            value = values.get(key, 1026)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"config.json: {key} is {value!r}, expected a whole number above 0")
        return cls(
            **{ours: int(values[theirs]) for theirs, ours in names.items()},
            max_positions=int(values.get("max_position_embeddings", 1026)),
            layer_norm_eps=float(values.get("layer_norm_eps", 1e-5)),
            token_dropout=bool(values.get("token_dropout", True)),
        )


SIZES: Final[Mapping[str, EncoderConfig]] = {
    "nano": EncoderConfig(4, 128, 4, 384),
    "mini": EncoderConfig(6, 256, 4, 768),
    "L8": EncoderConfig(8, 512, 8, 1536),
    "L12": EncoderConfig(12, 768, 12, 2304),
    "L16": EncoderConfig(16, 1024, 16, 3072),
    "L24": EncoderConfig(24, 1280, 20, 3840),
}
"""The named sizes: `nano` for tests and demonstrations, `mini` for a laptop, L8 to L24 as in the Uni-RNA paper."""
