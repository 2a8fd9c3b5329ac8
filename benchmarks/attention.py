"""Attention of one packed batch on the CPU, in the ways that torch offers: the choice in `unirna.model.attention`.

    python benchmarks/attention.py                    # lengths of the shipped sequences, mini's heads
    python benchmarks/attention.py --size L8 --backward

The lengths are a sorted draw from real sequences, as the batches of training and embedding have them. Each way gets the
same tensors; its answer is compared with the first one's, and the median of the repeats is shown.

- runs: one scaled-dot-product call for each run of equal lengths (`packed_attention`);
- each: one call for each sequence;
- padded: all sequences padded to the longest, with a mask.

Nested tensors are left out: forward alone they took 34 times as long, backward minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unirna.model import SIZES
from unirna.model.attention import Segments, packed_attention
from unirna.sequence import read

SAMPLE = Path(__file__).resolve().parent.parent / "jobs" / "demo" / "rfam_sample.parquet"
Way = Callable[[Tensor, Tensor, Tensor, list[int]], Tensor]


@dataclass(frozen=True)
class Config:
    """Measure ways of packed attention."""

    fasta: str = str(SAMPLE)
    """Sequences whose lengths are drawn."""
    size: str = "mini"
    """Size of the model: its heads and their size."""
    tokens: int = 8192
    """Tokens of the batch."""
    backward: bool = False
    """Also the gradients."""
    repeats: int = 20
    """Times of each way."""
    threads: int = 2
    """Threads of torch."""


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    shape = SIZES[config.size]
    pool = [len(r.sequence) + 2 for r in read(config.fasta) if r.sequence and len(r.sequence) <= shape.context]
    lengths: list[int] = []
    random = np.random.default_rng(0)
    while sum(lengths) < config.tokens:
        lengths.append(int(random.choice(pool)))
    lengths.sort()
    total = sum(lengths)
    q, k, v = (torch.randn(total, shape.num_heads, shape.head_size, requires_grad=config.backward) for _ in range(3))
    ways: dict[str, Way] = {"runs": runs, "each": each, "padded": padded}
    wanted = runs(q, k, v, lengths).detach()
    table = Table("way", "ms", "x runs", title=f"{len(lengths)} sequences, {total:,} tokens, {config.size}")
    base = 0.0
    for name, way in ways.items():
        assert torch.allclose(way(q, k, v, lengths), wanted, atol=1e-5), name
        ms = 1000 * statistics.median(once(way, q, k, v, lengths, config.backward) for _ in range(config.repeats))
        base = base or ms
        table.add_row(name, f"{ms:.1f}", f"{ms / base:.2f}")
    Console().print(table)


def once(way: Way, q: Tensor, k: Tensor, v: Tensor, lengths: list[int], backward: bool) -> float:
    start = time.perf_counter()
    out = way(q, k, v, lengths)
    if backward:
        torch.autograd.grad(out.sum(), (q, k, v))
    return time.perf_counter() - start


def runs(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    return packed_attention(q, k, v, Segments([0, *np.cumsum(lengths).tolist()], q.device))


def each(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    parts = zip(*(x.transpose(0, 1).split(lengths, dim=1) for x in (q, k, v)), strict=True)
    out = [F.scaled_dot_product_attention(*(x[None] for x in qkv))[0] for qkv in parts]
    return torch.cat(out, dim=1).transpose(0, 1)


def padded(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    q, k, v = (torch.nn.utils.rnn.pad_sequence(x.split(lengths), batch_first=True).transpose(1, 2) for x in (q, k, v))
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
    return out.transpose(1, 2)[real]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
