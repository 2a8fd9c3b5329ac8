"""Low-rank adapters: what fine-tuning learned, a few numbers beside a model that stays as it is.

Each matrix W of the layers becomes W + SCALE · B A, with A of `rank` rows and B of `rank` columns (LoRA; Hu et al. 2021,
arXiv:2106.09685). They are trained beside the frozen matrices, kept in half precision, and added to the matrices when they
are loaded, so an adapted model is as fast as any. A folder of an adapted model holds `base.json`, which names a shipped
model by name and fingerprint, and `adapter.safetensors`; without the latter it is the shipped model itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unirna.model.checkpoint import CheckpointError
from unirna.model.encoder import Encoder
from unirna.model.tensors import save_tensors

ADAPTED: Final = ("qkv", "out", "fc1", "fc2")
"""The matrices of a layer that get adapters."""
SCALE: Final = 2.0
BASE_FILE: Final = "base.json"
ADAPTER_FILE: Final = "adapter.safetensors"


class AdaptedLinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition, which is zero at first."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + bias + SCALE · x A^T B^T."""
        added = F.linear(F.linear(x, self.a), self.b * SCALE)
        whole: Tensor = added + self.base(x)
        return whole


def add_adapters(encoder: Encoder, rank: int) -> None:
    """Freeze an encoder and put adapters on the matrices of its layers, in place.

    Raises:
        ValueError: a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}: expected at least 1")
    encoder.requires_grad_(False)
    for layer in encoder.layers:
        for name in ADAPTED:
            setattr(layer, name, AdaptedLinear(getattr(layer, name), rank))


def adapters_of(encoder: Encoder) -> dict[str, Tensor]:
    """The adapters of an encoder, by name, in half precision on the CPU: what is kept of it."""
    return {
        f"layers.{number}.{name}.{part}": getattr(getattr(layer, name), part).detach().half().cpu().contiguous()
        for number, layer in enumerate(encoder.layers)
        for name in ADAPTED
        for part in ("a", "b")
    }


def merge_adapters(encoder: Encoder, adapters: Mapping[str, Tensor], *, whitened: bool = False) -> None:
    """Add adapters to the matrices of a plain encoder, in place; its language-model head goes.

    Its whitening, which was fitted to other states, goes too, unless the adapters were trained through it (`whitened`).

    The sum is made rank by rank with one rounding for each product and addition, so every machine gets the same bits and
    thus the same fingerprint.

    Raises:
        CheckpointError: adapters of another shape.
    """
    encoder.lm_head = None  # made for other states than these
    if not whitened:
        encoder.whitening = None
    for number, layer in enumerate(encoder.layers):
        for name in ADAPTED:
            linear = getattr(layer, name)
            try:
                a, b = (adapters[f"layers.{number}.{name}.{part}"].float() for part in ("a", "b"))
            except KeyError as error:
                raise CheckpointError(f"the adapters lack {error}: they are of another model, or damaged") from error
            if a.shape[1] != linear.in_features or b.shape != (linear.out_features, a.shape[0]):
                raise CheckpointError(f"the adapters of layer {number}'s {name} are of another model's shape")
            with torch.no_grad():
                for i in range(len(a)):
                    product = (b[:, i : i + 1] * SCALE) * a[i : i + 1]
                    linear.weight.add_(product)


def save_adapted(
    folder: str | Path, base: str, fingerprint: str, adapters: Mapping[str, Tensor], *, whitened: bool = False
) -> Path:
    """Write a folder that `unirna.model.load` reads: a shipped model's name, and adapters, if there are any.

    Args:
        base, fingerprint: of the shipped model. adapters: `adapters_of` it; none for the model itself.
        whitened: the adapters were trained through the model's whitening, which stays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"base": base, "fingerprint": fingerprint, **({"whitened": True} if whitened and adapters else {})}
    (folder / BASE_FILE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    if adapters:
        save_tensors(adapters, folder / ADAPTER_FILE)
    return folder


def read_adapted(folder: Path) -> tuple[str, str, dict[str, Tensor], bool]:
    """Name and fingerprint of the shipped model, the adapters, and `whitened`, as `save_adapted` wrote them.

    Raises:
        CheckpointError: a damaged file.
    """
    try:
        base = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
        adapters = load_file(folder / ADAPTER_FILE) if (folder / ADAPTER_FILE).exists() else {}
        return str(base["base"]), str(base["fingerprint"]), adapters, bool(base.get("whitened", False))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no valid adapted model ({error}). Fine-tune again") from error
