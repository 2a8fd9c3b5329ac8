"""The baselines of every predictor, fitted on the same rows: a linear model of sequence features, and a small CNN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.kinds.task import Task, Truth
from unirna.tasks.models.cnn import CNN, fit_cnn
from unirna.tasks.models.cnn import NAME as CNN_NAME
from unirna.tasks.models.head import LinearHead
from unirna.tasks.models.sequence_features import CODON_FEATURES, codon_features, kmer_frequencies, letters_around
from unirna.tasks.table.pairs import difference
from unirna.tasks.table.units import Units

LINEAR_FILE = "kmer_head.safetensors"
CODONS = "codons and length, linear"
"""Name in tables of the linear model of coding sequences."""
CNN_FILE = "cnn.safetensors"
Outputs = NDArray[np.float64]


@dataclass(frozen=True)
class SimpleModels:
    """Models that read the sequence alone.

    Attributes:
        task: what they were fitted for.
        linear: on the shares of 4-mers, on codons and length or, of nucleotides, on the nucleotides around each.
        cnn: the network or networks, where any was asked for.
    """

    task: Task
    linear: LinearHead
    cnn: CNN | None

    @classmethod
    def fit(
        cls,
        task: Task,
        sequences: Sequence[str],
        profiles: list[Truth] | None,
        truth: Truth,
        rows: dict[str, NDArray[np.int64]],
        units: Units,
        num_outputs: int,
        *,
        ensemble_size: int,
        coding: bool = False,
    ) -> SimpleModels:
        """Fit them on the rows of `train`; those of `valid` choose penalty, epoch and temperature.

        Args:
            task: classes or values, of sequences or nucleotides.
            sequences: all N, normalised. profiles: values of the nucleotides of each, for a task of nucleotides.
            truth: of all U units. rows: split -> sequences. units: what is predicted one by one. num_outputs: C.
            ensemble_size: number of networks of the CNN, whose mean answers; 0 for none.
            coding: the sequences are coding ones, from their first codon on.
        """
        features = units.gather(linear_features(task, sequences, coding=coding))
        train, valid = units.within(rows["train"]), units.within(rows["valid"])
        found = task.fit(features[train], truth[train], features[valid], truth[valid], num_outputs, whiten=False).head
        found, _ = task.calibrated(found, features[valid], truth[valid])
        known = truth if profiles is None else profiles
        cnn = None
        if ensemble_size:
            cnn = fit_cnn(task, sequences, known, rows["train"], rows["valid"], num_outputs, ensemble_size)
        return cls(task, found, cnn)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, as they stand in tables."""
        return (CODONS if self._coding else self.task.kmer_name, *([CNN_NAME] if self.cnn else []))

    @property
    def _coding(self) -> bool:
        return bool(self.linear.weight.shape[1] == CODON_FEATURES)

    def outputs(self, name: str, sequences: Sequence[str]) -> Outputs | list[Outputs]:
        """Outputs of one of them for normalised sequences: float64 [N, C]; of nucleotides [L, C] for each sequence."""
        each = self.task.level == "nucleotide"
        if name == CNN_NAME:
            assert self.cnn is not None
            return self.cnn.profiles(sequences) if each else self.cnn.outputs(sequences)
        features = linear_features(self.task, sequences, coding=self._coding)
        if isinstance(features, list):
            return [self.linear.outputs(rows) for rows in features]
        return self.linear.outputs(features)

    def save(self, folder: Path) -> None:
        """Write them into a predictor's folder."""
        self.linear.save(folder / LINEAR_FILE)
        if self.cnn is not None:
            self.cnn.save(folder / CNN_FILE)

    @classmethod
    def load(cls, folder: Path, task: Task) -> SimpleModels:
        """Read what `save` wrote.

        Raises:
            TaskError: a missing or damaged file.
        """
        path = folder / CNN_FILE
        return cls(task, LinearHead.load(folder / LINEAR_FILE), CNN.load(path) if path.exists() else None)


def linear_features(task: Task, sequences: Sequence[str], *, coding: bool) -> Any:
    """What the linear model reads: float32 [N, F], or [L, F] for each sequence where nucleotides are predicted."""
    if coding:
        return codon_features(sequences)
    if task.level == "sequence-pair":
        return difference(kmer_frequencies, sequences)
    return letters_around(sequences) if task.level == "nucleotide" else kmer_frequencies(sequences)
