"""Attention over packed sequences: every token sees its own sequence and nothing else, and nothing is padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


class Segments:
    """Where the sequences of a packed batch lie, in the forms that the devices want. Made once for all layers.

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


def packed_attention(qkv_T3ND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, segments: Segments) -> Tensor:
    """Rotary positions and softmax attention inside each sequence of a packed batch, scaled by head_size^-0.5.

    On CUDA in half precision this is variable-length flash attention. Elsewhere it is one call of scaled dot-product
    attention for each run of neighbours of equal length, so a batch sorted by length costs few calls. On the CPU this
    measures faster than padding to a mask and than nested tensors.

    Args:
        qkv_T3ND: queries, keys and values [T, 3, heads, head size], as the projection gives them.
        cos_T1D, sin_T1D: of each token's rotary angles, [T, 1, head size / 2].
        segments: the batch's sequences.

    Returns:
        [T, heads, head size].
    """
    if qkv_T3ND.device.type == "cpu" and not torch.compiler.is_compiling():
        run: Callable[..., Tensor] = _RunsOnCpu.apply
        return run(qkv_T3ND, cos_T1D, sin_T1D, segments.runs())
    q, k, v = qkv_T3ND.unbind(1)  # not slices: the gradient of a slice is a tensor of the whole size
    q, k = rotate(q, cos_T1D, sin_T1D), rotate(k, cos_T1D, sin_T1D)
    if q.is_cuda and q.dtype in HALF:
        from torch.nn.attention.varlen import varlen_attn

        ends, longest = segments.boundaries, segments.longest
        return cast(Tensor, varlen_attn(q, k, v, ends, ends, longest, longest))
    runs = segments.runs()
    sizes = [count * length for count, length in runs]
    parts: list[Tensor] = []
    for (count, length), *parts_qkv in zip(runs, *(x.split(sizes) for x in (q, k, v)), strict=True):
        part = F.scaled_dot_product_attention(*(x.unflatten(0, (count, length)).transpose(1, 2) for x in parts_qkv))
        parts.append(part.transpose(1, 2).flatten(0, 1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def rotate(x_TND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """Rotary position embedding, half-split form (Su et al. 2021): x*cos + [-x2, x1]*sin, over the last axis."""
    first, second = x_TND.chunk(2, dim=-1)
    return torch.cat((first * cos_T1D - second * sin_T1D, second * cos_T1D + first * sin_T1D), dim=-1)


def _rotate_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """`rotate`, written into a tensor that is there already and shares no memory with `x`."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)


class _RunsOnCpu(torch.autograd.Function):
    """`packed_attention` on the CPU with its gradient by hand.

    The same kernels as `scaled_dot_product_attention`, but every run reads from and writes to its place in one tensor:
    autograd would copy queries, keys, values and their gradients several times, and keep a graph of ten nodes per run.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, runs: list[tuple[int, int]]) -> Tensor:
        cos, sin = cos[:, None], sin[:, None]  # over queries and keys, over heads
        turned = torch.empty_like(qkv[:, :2])
        _rotate_into(turned, qkv[:, :2], cos, sin)
        out = torch.empty_like(qkv[:, 0])
        sums: list[Tensor] = []
        for place, shape in _places(runs):
            q, k, v = (x[place].unflatten(0, shape).transpose(1, 2) for x in (turned[:, 0], turned[:, 1], qkv[:, 2]))
            part, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
            out[place].unflatten(0, shape).copy_(part.transpose(1, 2))
            sums.append(logsumexp)
        ctx.save_for_backward(turned, qkv, out, cos, sin, *sums)
        ctx.runs = runs
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].contiguous()
        turned, qkv, out, cos, sin, *sums = ctx.saved_tensors
        given = torch.empty_like(turned)
        total = torch.empty_like(qkv)
        for (place, shape), logsumexp in zip(_places(ctx.runs), sums, strict=True):
            views = (gradient, turned[:, 0], turned[:, 1], qkv[:, 2], out)
            of_out, q, k, v, o = (x[place].unflatten(0, shape).transpose(1, 2) for x in views)
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                of_out, q, k, v, o, logsumexp, 0.0, False
            )
            for goal, part in zip((given[:, 0], given[:, 1], total[:, 2]), parts, strict=True):
                goal[place].unflatten(0, shape).copy_(part.transpose(1, 2))
        _rotate_into(total[:, :2], given, cos, -sin)  # the gradient is turned back
        return total, None, None, None


def _places(runs: list[tuple[int, int]]) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Where each run lies in a packed tensor [T, heads, head size], and how many sequences of which length it is."""
    start = 0
    for count, length in runs:
        yield slice(start, start + count * length), (count, length)
        start += count * length
