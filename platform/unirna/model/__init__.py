"""The encoder: configuration, tokens, packed forward pass, checkpoints and pooling. Knows torch, not Ray.

>>> from unirna import model
>>> m = model.initialise("nano", seed=0)
>>> m.embed(["GGGAAACCC", "gggaaaccc"]).shape
(2, 128)
"""

from unirna.model.adapter import adapters_of, add_adapters, merge_adapters, save_adapted
from unirna.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from unirna.model.config import SIZES, EncoderConfig
from unirna.model.encoder import Encoder
from unirna.model.model import SHIPPED, Model, initialise, load
from unirna.model.shared import SharedModel
from unirna.model.tokens import (
    CLS,
    EOS,
    MASK,
    NUCLEOTIDES,
    NUM_TOKENS,
    PAD,
    UNKNOWN,
    VOCABULARY,
    Packed,
    pack,
    pack_tokens,
    tokenise,
)
from unirna.model.whitening import Whitening, fit_whitening, pooled_layers
from unirna.model.windows import Pooling, Window, plan_windows, pooling_weights

__all__ = [
    "CLS",
    "EOS",
    "MASK",
    "NUCLEOTIDES",
    "NUM_TOKENS",
    "PAD",
    "SHIPPED",
    "SIZES",
    "UNKNOWN",
    "VOCABULARY",
    "CheckpointError",
    "Encoder",
    "EncoderConfig",
    "Model",
    "Packed",
    "Pooling",
    "SharedModel",
    "Whitening",
    "Window",
    "adapters_of",
    "add_adapters",
    "fit_whitening",
    "initialise",
    "load",
    "load_checkpoint",
    "merge_adapters",
    "pack",
    "pack_tokens",
    "plan_windows",
    "pooled_layers",
    "pooling_weights",
    "save_adapted",
    "save_checkpoint",
    "tokenise",
]
