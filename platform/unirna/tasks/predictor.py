"""A predictor: a folder that holds an encoder and a head, and answers with class probabilities.

The folder stands alone: `predictor.json` (what it is and what was measured), `head.safetensors`, `encoder/` (a checkpoint
in the released format) and `card.md`. A registry is a folder of such folders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unirna.model import CheckpointError, Model, load
from unirna.tasks.head import LinearHead
from unirna.tasks.task import TaskError

FORMAT = 1
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Predictions for N sequences.

    Attributes:
        labels: the most probable class of each.
        probabilities: float32 [N, C], rows sum to 1.
        classes: the C class names, in the order of the columns.
    """

    labels: list[str]
    probabilities: Vectors
    classes: list[str]


class Predictor:
    """A predictor read from its folder. The encoder is read when it is first needed.

    Attributes:
        folder: where it stands.
        info: the content of `predictor.json`.
        head: its head.
    """

    def __init__(
        self, folder: Path, info: dict[str, Any], head: LinearHead, device: str | torch.device | None = None
    ) -> None:
        self.folder, self.info, self.head = folder, info, head
        self._device = device

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, {self.task}, {len(self.labels)} classes, {self.mode})"

    @property
    def name(self) -> str:
        """The name under which it was registered, such as "rna_type"."""
        return str(self.info["name"])

    @property
    def task(self) -> str:
        """The kind of task, such as "sequence-classification"."""
        return str(self.info["task"])

    @property
    def mode(self) -> Literal["frozen", "full"]:
        """Whether the encoder stayed as it was or was trained with the head."""
        return "full" if self.info["mode"] == "full" else "frozen"

    @property
    def labels(self) -> list[str]:
        """The C class names."""
        return list(self.info["classes"])

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder whose vectors the head reads."""
        return str(self.info["encoder"]["fingerprint"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured when it was made: split -> metric -> value, low, high, n."""
        return dict(self.info["metrics"])

    @cached_property
    def card(self) -> str:
        """The card, Markdown."""
        return (self.folder / "card.md").read_text()

    @cached_property
    def encoder(self) -> Model:
        """The encoder.

        Raises:
            TaskError: the folder's encoder is damaged or not the one that the head was fitted on.
        """
        try:
            model = load(self.folder / "encoder", device=self._device)
        except CheckpointError as error:
            raise TaskError(f"predictor {self.name!r}: {error}") from error
        if model.fingerprint != self.encoder_fingerprint:
            raise TaskError(
                f"{self.folder}: the encoder's fingerprint is {model.fingerprint}, the head was fitted on "
                f"{self.encoder_fingerprint}. Fine-tune again"
            )
        model.name = str(self.info["encoder"]["name"])
        return model

    def predict(self, sequences: Sequence[str]) -> Predictions:
        """Class probabilities of RNA or DNA sequences, in their order; each is the same alone or in any batch.

        Raises:
            SequenceError: a sequence that is not RNA or DNA.
        """
        return self.predict_vectors(self.encoder.embed(sequences))

    def predict_vectors(self, vectors: Vectors) -> Predictions:
        """Class probabilities of vectors that the caller has already embedded.

        Args:
            vectors: float32 [N, H] of the encoder that `encoder_fingerprint` names; another model's vectors of the same
                width cannot be told apart here, so compare fingerprints first.

        Raises:
            TaskError: vectors of another width, or that are not finite.
        """
        probabilities = self.head.probabilities(vectors)
        classes = self.labels
        return Predictions([classes[i] for i in probabilities.argmax(axis=1).tolist()], probabilities, classes)


def load_predictor(folder: str | Path, device: str | torch.device | None = None) -> Predictor:
    """Read a predictor from its folder.

    Raises:
        TaskError: no predictor there, or one of a later format.
    """
    folder = Path(folder)
    try:
        info = json.loads((folder / "predictor.json").read_text())
    except FileNotFoundError as error:
        raise TaskError(f"{folder}: no predictor.json. A predictor is a folder that jobs/finetune.py wrote") from error
    except ValueError as error:
        raise TaskError(f"{folder}/predictor.json is damaged ({error}). Fine-tune again") from error
    if info.get("format") != FORMAT:
        raise TaskError(f"{folder}: predictor format {info.get('format')!r}; this version of unirna reads {FORMAT}")
    head = LinearHead.load(folder / "head.safetensors")
    if len(head.weight) != len(info["classes"]):
        raise TaskError(f"{folder}: the head has {len(head.weight)} classes, predictor.json {len(info['classes'])}")
    return Predictor(folder, info, head, device)


def list_predictors(registry: str | Path) -> dict[str, Path]:
    """Names and folders of the predictors in a registry, sorted; empty where there is no such folder."""
    return {path.parent.name: path.parent for path in sorted(Path(registry).glob("[!.]*/predictor.json"))}


def find_predictor(registry: str | Path, name: str) -> Path:
    """Folder of a predictor.

    Raises:
        TaskError: none of that name; the message lists those that exist.
    """
    have = list_predictors(registry)
    if name not in have:
        raise TaskError(
            f"no predictor {name!r} in {registry}. It holds: {', '.join(have) or 'none'}. Make one with jobs/finetune.py"
        )
    return have[name]
