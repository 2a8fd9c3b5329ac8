"""Pre-training: the masked-language-model objective, one plain loop that knows nothing of Ray, and its Ray Train driver."""

from unirna.train.batches import BatchSource, MaskedBatch
from unirna.train.checkpoints import latest_checkpoint
from unirna.train.config import TrainConfig, TrainError
from unirna.train.loop import claim_run, train
from unirna.train.objective import MaskedLanguageModel, mask_tokens
from unirna.train.workers import run_workers

__all__ = [
    "BatchSource",
    "MaskedBatch",
    "MaskedLanguageModel",
    "TrainConfig",
    "TrainError",
    "claim_run",
    "latest_checkpoint",
    "mask_tokens",
    "run_workers",
    "train",
]
