"""The released checkpoint format: a folder with `config.json` and `model.safetensors`.

Released Uni-RNA weights load as they are, and what we save loads in the authors' code. In memory the three projections of
an attention layer are one matrix; in the file they stand apart, under the released names.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from unirna.model.config import EncoderConfig
from unirna.model.encoder import Encoder
from unirna.model.tensors import save_tensors
from unirna.model.tokens import VOCABULARY
from unirna.model.whitening import Whitening

OPTIONAL = ("pooler.", "rotary_embeddings.inv_freq")
"""Tensors that may stand in a file and are not used."""

OF_TOKENS = ("embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.decoder.bias")
"""Tensors with a row for each token."""


class CheckpointError(ValueError):
    """A folder that is not a checkpoint, or one whose tensors do not fit its configuration."""


def _names(config: EncoderConfig, lm_head: bool) -> dict[str, tuple[str, ...]]:
    """Parameter of the encoder -> the tensors of the file that make it, stacked along the first axis."""
    table: dict[str, tuple[str, ...]] = {
        "embedding.weight": ("embeddings.word_embeddings.weight",),
        **{f"embedding_norm.{p}": (f"embeddings.layer_norm.{p}",) for p in ("weight", "bias")},
        **{f"final_norm.{p}": (f"encoder.emb_layer_norm_after.{p}",) for p in ("weight", "bias")},
    }
    for i in range(config.num_layers):
        theirs = f"encoder.layer.{i}"
        for p in ("weight", "bias"):
            table |= {
                f"layers.{i}.attention_norm.{p}": (f"{theirs}.attention.LayerNorm.{p}",),
                f"layers.{i}.qkv.{p}": tuple(f"{theirs}.attention.self.{n}.{p}" for n in ("query", "key", "value")),
                f"layers.{i}.out.{p}": (f"{theirs}.attention.output.dense.{p}",),
                f"layers.{i}.feed_forward_norm.{p}": (f"{theirs}.LayerNorm.{p}",),
                f"layers.{i}.fc1.{p}": (f"{theirs}.intermediate.dense.{p}",),
                f"layers.{i}.fc2.{p}": (f"{theirs}.output.dense.{p}",),
            }
    if lm_head:
        for ours, theirs in (("dense", "dense"), ("norm", "layer_norm"), ("decoder", "decoder")):
            table |= {f"lm_head.{ours}.{p}": (f"lm_head.{theirs}.{p}",) for p in ("weight", "bias")}
    return table


def to_released(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's tensors under their released names, float32 on the CPU."""
    state = encoder.state_dict()
    released: dict[str, Tensor] = {}
    for ours, theirs in _names(encoder.config, encoder.lm_head is not None).items():
        whole = state[ours].detach().float().cpu()
        released |= dict(zip(theirs, (part.contiguous() for part in whole.chunk(len(theirs))), strict=True))
    return released


def save_checkpoint(encoder: Encoder, folder: str | Path, *, half: bool = False) -> Path:
    """Write `config.json`, `model.safetensors`, `vocab.txt` and any `whitening.safetensors` into a folder.

    Args:
        half: write float16, half the size. What is loaded from it is another model, with a fingerprint of its own.

    Raises:
        CheckpointError: a value that float16 cannot hold.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(encoder.config.to_json(), indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    weights = to_released(encoder)
    save_tensors(_halved(weights) if half else weights, folder / "model.safetensors", {"format": "pt"})
    if encoder.whitening is not None:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in encoder.whitening.state_dict().items()}
        if half:
            tensors = _halved(tensors)
        tensors["layers"] = torch.tensor(encoder.whitening.layers, dtype=torch.int64)
        save_tensors(tensors, folder / "whitening.safetensors")
    return folder


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    half = {name: tensor.half() for name, tensor in tensors.items()}
    if bad := [name for name, tensor in half.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"float16 cannot hold the values of {', '.join(bad)}. Save in full precision")
    return half


def load_checkpoint(folder: str | Path) -> Encoder:
    """Read an encoder from a folder in the released format.

    `model.safetensors` is read if it is there, else `pytorch_model.bin` with `weights_only=True`. Weights in half
    precision become float32. A checkpoint without language-model head gives an encoder whose `lm_head` is None.

    Raises:
        CheckpointError: a missing file, a field or a tensor that does not fit; it is named.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json. A checkpoint is a folder with config.json and model.safetensors")
    try:
        config = EncoderConfig.from_json(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    tensors = _in_our_order(_read_tensors(folder), folder)
    encoder = Encoder(config)
    if not any(name.startswith("lm_head.") for name in tensors):
        encoder.lm_head = None
    state: dict[str, Tensor] = {}
    shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    table = _names(config, encoder.lm_head is not None)
    missing = [name for theirs in table.values() for name in theirs if name not in tensors]
    known = {name for theirs in table.values() for name in theirs}
    extra = [n for n in tensors if n not in known and not n.startswith(OPTIONAL[0]) and not n.endswith(OPTIONAL[1])]
    if missing or extra:
        raise CheckpointError(
            f"{folder}: tensors missing: {', '.join(missing) or 'none'}; tensors that belong to no part of the model: "
            f"{', '.join(extra) or 'none'}"
        )
    for ours, theirs in table.items():
        state[ours] = torch.cat([tensors[name].float() for name in theirs])
        if state[ours].shape != shapes[ours]:
            raise CheckpointError(
                f"{folder}: {' + '.join(theirs)} has shape {tuple(state[ours].shape)}, config.json asks for "
                f"{tuple(shapes[ours])}"
            )
    encoder.load_state_dict(state, assign=True)
    encoder.whitening = _read_whitening(folder, config)
    return encoder.eval()


def _in_our_order(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors with their rows of tokens in the order of `VOCABULARY`, where a `vocab.txt` has another.

    Raises:
        CheckpointError: a `vocab.txt` with other tokens.
    """
    path = folder / "vocab.txt"
    if not path.is_file():
        return tensors
    try:
        tokens = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error.reason})") from error
    if sorted(tokens) != sorted(VOCABULARY):
        raise CheckpointError(
            f"{path} has the tokens {' '.join(tokens)[:200]}; expected {' '.join(VOCABULARY)}, in any order. A model of "
            "other tokens cannot be used"
        )
    order = [tokens.index(token) for token in VOCABULARY]
    if order == list(range(len(order))):
        return tensors
    moved = {name: tensors[name] for name in OF_TOKENS if name in tensors}
    if any(len(tensor) != len(order) for tensor in moved.values()):
        return tensors  # whose shape is refused then
    return tensors | {name: tensor[order] for name, tensor in moved.items()}


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / "model.safetensors").is_file():
            return dict(load_file(folder / "model.safetensors"))
        if (folder / "pytorch_model.bin").is_file():
            return dict(torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True))
    except Exception as error:  # both readers raise a dozen kinds, the unpickler's refusal among them
        raise CheckpointError(f"{folder}: the weights are damaged, cut short or no plain tensors ({error})") from error
    raise CheckpointError(f"{folder}: neither model.safetensors nor pytorch_model.bin")


def _read_whitening(folder: Path, config: EncoderConfig) -> Whitening | None:
    path = folder / "whitening.safetensors"
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error})") from error
    layers = tensors.pop("layers", torch.empty(0, dtype=torch.int64)).tolist()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    width = config.hidden_size * max(1, len(layers))
    known = sorted(set(layers)) == layers and all(1 <= number <= config.num_layers for number in layers)
    if not known or shapes.get("mean") != (width,) or shapes.get("matrix", ())[:1] != (width,) or len(shapes) != 2:
        raise CheckpointError(
            f"{path}: expected mean [{width}] and matrix [{width}, size of a vector] for layers {layers} of "
            f"{config.num_layers}, got {shapes}"
        )
    return Whitening(tensors["mean"], tensors["matrix"], layers)


def fingerprint(encoder: Encoder) -> str:
    """16 hex digits that name what determines a vector: the encoder's shape, weights and whitening, not its head."""
    digest = hashlib.sha256(repr(encoder.config).encode())
    for name, tensor in sorted(to_released(encoder).items()):
        if not name.startswith("lm_head."):
            digest.update(name.encode() + tensor.numpy().tobytes())
    if encoder.whitening is not None:
        if encoder.whitening.layers:
            digest.update(repr(encoder.whitening.layers).encode())
        for tensor in (encoder.whitening.mean, encoder.whitening.matrix):
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
