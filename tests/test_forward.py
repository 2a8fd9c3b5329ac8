"""The packed encoder against a textbook one: padded, one line to a formula, written from the format alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unirna import model
from unirna.model import EncoderConfig, Model, load_checkpoint
from unirna.model.attention import Segments

CONFIG = EncoderConfig(num_layers=3, hidden_size=48, num_heads=4, intermediate_size=80, max_positions=66)
LETTERS = {letter: i for i, letter in enumerate("EN^*ATCGU", 1)}  # ^ is <cls>, E is <eos>, * is <mask>; <pad> is 0
TEXTS = ["^ACGUE", "^AE", "^GGGAAACUUCGGUUUCCCE", "^NNACGURE".replace("R", "N"), "^AC*UG**AE", "^" + "ACGUGCAU" * 8 + "E"]


def norm(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def rotary(x: Tensor) -> Tensor:
    """Rotary positions of [B, heads, L, D], by pairs of channels (i, i + D/2)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def textbook(ids: Tensor, t: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states [B, L, H] and logits [B, L, 10] of padded token ids [B, L]."""
    real = ids != 0
    h = norm(t["embeddings.word_embeddings.weight"][ids], t, "embeddings.layer_norm") * real[..., None]
    masked = (ids == 4).sum(1) / real.sum(1)
    h = h * (ids != 4)[..., None] * (0.88 / (1 - masked))[:, None, None]
    for i in range(CONFIG.num_layers):
        layer = f"encoder.layer.{i}"
        x = norm(h, t, f"{layer}.attention.LayerNorm")
        q, k, v = (
            linear(x, t, f"{layer}.attention.self.{n}").unflatten(-1, (CONFIG.num_heads, -1)).transpose(1, 2)
            for n in ("query", "key", "value")
        )
        scores = rotary(q * q.shape[-1] ** -0.5) @ rotary(k).transpose(-1, -2)
        weights = scores.masked_fill(~real[:, None, None, :], -torch.inf).softmax(-1)
        h = h + linear((weights @ v).transpose(1, 2).flatten(2), t, f"{layer}.attention.output.dense")
        wide = gelu(linear(norm(h, t, f"{layer}.LayerNorm"), t, f"{layer}.intermediate.dense"))
        h = h + linear(wide, t, f"{layer}.output.dense")
    h = norm(h, t, "encoder.emb_layer_norm_after")
    logits = linear(norm(gelu(linear(h, t, "lm_head.dense")), t, "lm_head.layer_norm"), t, "lm_head.decoder")
    return h, logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which no tensor is a default: every bias and norm is drawn."""
    folder = model.initialise(CONFIG, seed=0).save(tmp_path_factory.mktemp("tiny") / "model")
    chance = torch.Generator().manual_seed(1)
    tensors = load_file(folder / "model.safetensors")
    drawn = {name: torch.randn(x.shape, generator=chance) * 0.2 + ("norm" in name.lower()) for name, x in tensors.items()}
    save_file(drawn, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_packed_hidden_states_and_logits_are_the_textbook_s(folder: Path) -> None:
    rows = [torch.tensor([LETTERS[letter] for letter in text]) for text in TEXTS]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    hidden, logits = textbook(padded, load_file(folder / "model.safetensors"))
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0)
    encoder = load_checkpoint(folder)
    assert encoder.lm_head is not None
    with torch.inference_mode():
        found = encoder(torch.cat(rows).int(), Segments(ends, torch.device("cpu")))
        found_logits = encoder.lm_head(found)
    real = padded != 0
    np.testing.assert_allclose(found, hidden[real], atol=2e-5, rtol=1e-5)
    np.testing.assert_allclose(found_logits, logits[real], atol=2e-5, rtol=1e-5)


def test_a_vector_is_the_textbook_s_mean_over_the_letters(folder: Path) -> None:
    texts = [text for text in TEXTS if "*" not in text]
    loaded: Model = model.load(folder, device="cpu")
    tensors = load_file(folder / "model.safetensors")
    for text, vector in zip(texts, loaded.embed([text[1:-1] for text in texts]), strict=True):
        hidden, _ = textbook(torch.tensor([[LETTERS[letter] for letter in text]]), tensors)
        np.testing.assert_allclose(vector, hidden[0, 1:-1].mean(0), atol=2e-5, rtol=1e-5)
