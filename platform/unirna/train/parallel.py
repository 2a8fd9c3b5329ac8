"""Several workers on one model: none, DDP, or FSDP2 with weights, gradients and optimiser states in shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from unirna.model import Encoder
from unirna.train.objective import Objective
from unirna.train.optimiser import whole


class Workers:
    """This process's place among the workers of a torch.distributed group, or alone.

    Attributes:
        rank: from 0. world: how many there are. device: where this one computes.
    """

    def __init__(self) -> None:
        self.alone = not (dist.is_available() and dist.is_initialized())
        self.rank, self.world = (0, 1) if self.alone else (dist.get_rank(), dist.get_world_size())
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        )

    def wait(self) -> None:
        """Until all are here."""
        if not self.alone:
            dist.barrier()

    def all_reduce_sum(self, *values: float) -> list[float]:
        """The sum of each value over the workers."""
        if self.alone:
            return [float(value) for value in values]
        tensor = torch.tensor([float(value) for value in values], dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def broadcast(self, value: str | None) -> str | None:
        """The value that rank 0 has."""
        box = [value]
        if not self.alone:
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def shard(objective: Objective, *, half: bool) -> None:
    """FSDP2: one group of shards for each layer, gathered when the layer runs, and one for the rest.

    Args:
        objective: its parameters become shards in place, under the same names.
        half: gather weights in bfloat16; gradients are summed in float32 either way.
    """
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else MixedPrecisionPolicy()
    )
    for module in (*objective.encoder.layers, objective):
        sharded = fully_shard(module, mp_policy=policy)
        if next(objective.parameters()).device.type == "cpu":
            sharded.set_force_sum_reduction_for_comms(True)  # gloo cannot average; the sum is divided
    register_fsdp_forward_method(objective, "score")


def wrap(objective: Objective, workers: Workers, parallelism: str) -> nn.Module:
    """The module to call for the loss: its backward pass shares gradients among the workers."""
    if workers.alone or parallelism == "fsdp":
        return objective
    return DistributedDataParallel(objective, gradient_as_bucket_view=True)


def without_sync(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """While gradients accumulate, they are shared with the last forward pass alone."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    elif isinstance(model, DistributedDataParallel) and not last:
        return cast(AbstractContextManager[None], model.no_sync())
    return contextlib.nullcontext()


def clip(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scale the gradients down to a norm of at most `largest`; returns the norm that they had."""
    norm: Tensor = torch.nn.utils.clip_grad_norm_(parameters, largest)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def plain_encoder(encoder: Encoder, rank: int) -> Encoder | None:
    """The encoder with whole weights: itself where nothing is sharded, else gathered on rank 0 (elsewhere None).

    With shards all workers must call it. Weights come one by one and leave the device at once.
    """
    if not any(isinstance(p, DTensor) for p in encoder.parameters()):
        return encoder
    tensors: dict[str, Tensor] = {}
    for name, parameter in encoder.named_parameters():
        tensor = whole(parameter)
        if rank == 0:
            tensors[name] = tensor
    if rank != 0:
        return None
    gathered = Encoder(encoder.config)
    gathered.load_state_dict(tensors)
    gathered.whitening = encoder.whitening
    return gathered
