"""Attention over packed sequences: every token sees its own sequence and nothing else, and nothing is padded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


class Segments:
    """Where the sequences of a packed batch lie, in the forms that the devices need. Made once for all layers.

    Attributes:
        boundaries: int32 [N + 1] on the device.
        positions: int64 [T], place of each token in its sequence, from 0.
        index: int64 [T], the sequence of each token.
        lengths: tokens of each sequence.
    """

    def __init__(self, boundaries: Sequence[int] | Tensor, device: torch.device) -> None:
        ends = torch.as_tensor(boundaries, dtype=torch.int32, device="cpu")
        sizes = ends.diff().long()
        self.lengths: list[int] = sizes.tolist()
        self.longest = max(self.lengths, default=0)
        self.boundaries = ends.to(device)
        index = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self.positions = (torch.arange(int(ends[-1])) - ends[:-1].long()[index]).to(device)
        self.index = index.to(device)

    def runs(self) -> list[tuple[int, int]]:
        """Neighbouring sequences of one length, as (how many, length in tokens)."""
        return [(len(list(group)), length) for length, group in groupby(self.lengths)]


def packed_attention(q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, segments: Segments) -> Tensor:
    """Softmax attention inside each sequence of a packed batch, scaled by head_size^-0.5.

    On CUDA in half precision this is variable-length flash attention. Elsewhere it is one call of scaled dot-product
    attention for each run of neighbours of equal length, so a batch sorted by length costs few calls. On the CPU this
    measures several times faster than padding with a mask (`benchmarks/attention.py`).

    Args:
        q_TND, k_TND, v_TND: [T, heads, head size], rotary positions applied.
        segments: the batch's sequences.

    Returns:
        [T, heads, head size].
    """
    if q_TND.is_cuda and q_TND.dtype in HALF:
        from torch.nn.attention.varlen import varlen_attn

        ends, longest = segments.boundaries, segments.longest
        return cast(Tensor, varlen_attn(q_TND, k_TND, v_TND, ends, ends, longest, longest))
    runs = segments.runs()
    sizes = [count * length for count, length in runs]
    parts: list[Tensor] = []
    # One split, not a slice each: the gradient of a slice is a tensor of the whole batch's size.
    for (count, length), *qkv in zip(runs, *(x.split(sizes) for x in (q_TND, k_TND, v_TND)), strict=True):
        q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2) for x in qkv)
        part = F.scaled_dot_product_attention(q, k, v)
        parts.append(part.transpose(1, 2).flatten(0, 1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
