"""The optimiser of a run: AdamW, or Muon for the matrices inside the layers with AdamW for everything else.

Muon moves a matrix by its gradient's orthogonal part (Jordan et al. 2024); the step is scaled to the size of AdamW's (Liu
et al. 2025, arXiv:2502.16982), so both share one learning rate. Query, key and value stand stacked in one matrix and are
orthogonalised each on its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from unirna.model import Encoder
from unirna.train.config import TrainConfig

State = dict[str, dict[str, Tensor]]


class Optimiser:
    """Steps all parameters of an encoder; its state is tensors by parameter name, the same however the weights are sharded.

    Args:
        encoder: on its device, and sharded already if it is to be.
        config: optimiser, weight decay.
    """

    def __init__(self, encoder: Encoder, config: TrainConfig) -> None:
        self.parameters = list(encoder.parameters())
        named = dict(encoder.named_parameters())
        hidden = {n: p for n, p in named.items() if config.optimizer == "muon" and p.ndim == 2 and n.startswith("layers.")}
        matrices = {n: p for n, p in named.items() if p.ndim > 1 and n not in hidden}
        vectors = {n: p for n, p in named.items() if p.ndim <= 1}
        groups = [
            {"params": list(matrices.values()), "weight_decay": config.weight_decay},
            {"params": list(vectors.values()), "weight_decay": 0.0},
        ]
        rate = config.peak_learning_rate
        adamw = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
        self._parts: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        self._all: list[torch.optim.Optimizer] = [adamw]
        self._names: dict[Tensor, str] = {p: n for n, p in (matrices | vectors).items()}
        if hidden:
            for name, parameter in hidden.items():
                count = 3 if ".qkv." in name else 1
                parts = [nn.Parameter(part) for part in parameter.data.chunk(count)]  # views: they share the memory
                self._parts.append((parameter, parts))
                self._names |= {part: f"{name}.{i}" if count > 1 else name for i, part in enumerate(parts)}
            parts = [part for _, some in self._parts for part in some]
            muon = torch.optim.Muon(parts, lr=rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
            self._all.append(muon)

    def step(self, learning_rate: float) -> None:
        """Move the parameters by their gradients, and drop these."""
        for parameter, parts in self._parts:
            assert parameter.grad is not None
            for part, gradient in zip(parts, parameter.grad.chunk(len(parts)), strict=True):
                part.grad = gradient
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        for _, parts in self._parts:
            for part in parts:
                part.grad = None

    def state(self) -> State:
        """Every state tensor by parameter name, whole and on the CPU. With sharded weights all workers must call it."""
        return {
            self._names[parameter]: {key: whole(value) for key, value in values.items() if isinstance(value, Tensor)}
            for optimizer in self._all
            for parameter, values in optimizer.state.items()
        }

    def load(self, state: State) -> None:
        """Take over a state as `state` gives it.

        Raises:
            KeyError: the state is not of these parameters.
        """
        for optimizer in self._all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    optimizer.state[parameter] = {
                        key: like(value, parameter) if value.ndim else value.to(parameter.device)
                        for key, value in state[self._names[parameter]].items()
                    }


def whole(tensor: Tensor) -> Tensor:
    """A tensor, gathered from its shards if it has any, on the CPU. One tensor at a time: memory stays flat."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().cpu()


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor on the parameter's device, and sharded as it is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor.clone()


def restore(encoder: Encoder, tensors: dict[str, Any]) -> None:
    """Write whole tensors, by parameter name, into an encoder's parameters, sharded or not."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter.copy_(like(tensors[name], parameter))
