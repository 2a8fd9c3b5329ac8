"""A model as plain arrays, which processes of one machine can read from one place in memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unirna.model.config import EncoderConfig
from unirna.model.encoder import Encoder
from unirna.model.model import Model
from unirna.model.whitening import Whitening
from unirna.model.windows import Pooling


@dataclass(frozen=True)
class SharedModel:
    """A model's shape and arrays.

    Put into Ray's object store, it goes to each node once, and the models that actors there make of it (`load`) read
    their weights from that one copy. An actor needs no file of the model.

    Attributes:
        name: where the model was loaded from. arrays: by the names of the encoder's state, float32.
        layers: of the whitening; None for a model without one. pooling: as of the model.
    """

    name: str
    config: EncoderConfig
    arrays: dict[str, NDArray[np.float32]]
    layers: tuple[int, ...] | None
    pooling: Pooling = "mean"

    @classmethod
    def of(cls, model: Model) -> SharedModel:
        """The arrays of a model."""
        encoder = model.encoder
        arrays = {name: tensor.cpu().numpy() for name, tensor in encoder.state_dict().items()}
        layers = None if encoder.whitening is None else encoder.whitening.layers
        return cls(model.name, model.config, arrays, layers, model.pooling)

    def load(self, device: str | torch.device | None = None) -> Model:
        """The model on these arrays: on the CPU they are not copied, and must not be written to.

        Args:
            device: "cpu" or "cuda"; by default CUDA where there is one.
        """
        encoder = Encoder(self.config)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            state = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        if not any(name.startswith("lm_head.") for name in state):
            encoder.lm_head = None
        if self.layers is not None:
            encoder.whitening = Whitening(state["whitening.mean"], state["whitening.matrix"], self.layers)
        encoder.load_state_dict(state, assign=True)
        return Model(encoder.requires_grad_(False), self.name, device, pooling=self.pooling)
