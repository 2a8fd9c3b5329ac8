"""Pre-training: the masked-language-model objective, one plain loop that does not depend on Ray, and its Ray Train
driver."""

from unirna.train.batches import BatchSource, MaskedBatch
from unirna.train.checkpoints import latest_checkpoint
from unirna.train.config import TrainConfig, TrainError
from unirna.train.loop import train
from unirna.train.masking import mask_tokens
from unirna.train.objective import MaskedLanguageModel, Objective
from unirna.train.pretrain import PretrainConfig, pretrain, run_pretraining
from unirna.train.ray_tune import run_trials
from unirna.train.run_dir import claim_run
from unirna.train.whitening import corpus_whitening
from unirna.train.workers import run_workers

__all__ = [
    "BatchSource",
    "MaskedBatch",
    "MaskedLanguageModel",
    "Objective",
    "PretrainConfig",
    "TrainConfig",
    "TrainError",
    "claim_run",
    "corpus_whitening",
    "latest_checkpoint",
    "mask_tokens",
    "pretrain",
    "run_pretraining",
    "run_trials",
    "run_workers",
    "train",
]
