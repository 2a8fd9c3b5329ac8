"""A predictor: a folder that holds an encoder and a head, and answers with class probabilities or with a value.

The folder stands alone: `predictor.json` (what it is and what was measured), `head.safetensors`, `encoder/` (a checkpoint
in the released format), the simple models that were fitted with it, and `card.md`. A registry is a folder of such folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unirna.model import SHIPPED, CheckpointError, Model, load, tokenise
from unirna.sequence import normalise
from unirna.tasks.errors import TaskError
from unirna.tasks.kinds.by_name import TASKS
from unirna.tasks.models.baselines import SimpleModels
from unirna.tasks.models.ensemble import ENCODER, Blend
from unirna.tasks.models.head import LinearHead
from unirna.tasks.models.out_of_distribution import FILE as DETECTOR_FILE
from unirna.tasks.models.out_of_distribution import Detector, Reading
from unirna.tasks.prior import Prior, prior_of, rescale
from unirna.tasks.requirements import Applicability, InputRequirements, of_equal_lengths
from unirna.tasks.table.pairs import PAIR_MARK, difference, split_pairs
from unirna.tasks.verdict import Verdict

FORMAT = 2
"""Of `predictor.json`. 1 knew no blend."""
NUCLEOTIDES_AT_ONCE = 20_000
"""Nucleotides whose states in all layers are in memory at once, or one longer sequence's."""
Vectors = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Predictions for N sequences.

    Attributes:
        labels: the most probable class of each; None if the predictor does not apply.
        probabilities: float32 [N, C], rows sum to 1; NaN if the predictor does not apply.
        classes: the C class names, in the order of the columns.
        conformal_p_value: float32 [N], the share of held-out RNA of these classes that is no more like training than this
            one (Vovk et al. 2005). None if it was not measured.
        checks: whether the predictor applies to each, and why not.
        alpha: p-value below which a sequence is out of distribution.
    """

    labels: list[str | None]
    probabilities: Vectors
    classes: list[str]
    conformal_p_value: Vectors | None = None
    checks: list[Applicability] = field(default_factory=list)
    alpha: float = 0.0

    @property
    def out_of_distribution(self) -> NDArray[np.bool_] | None:
        """Whether each is unlike the RNA of the classes (p-value below `alpha`), bool [N]; None if not measured."""
        return None if self.conformal_p_value is None else self.conformal_p_value < self.alpha


@dataclass(frozen=True)
class LabelSets:
    """Predicted labels of N sequences, of C that are each true or not.

    Attributes:
        labels: those of each whose probability is above its threshold (`Predictor.thresholds`).
        probabilities: float32 [N, C], each between 0 and 1 by itself; NaN if the predictor does not apply.
        classes: the C names, in the order of the columns.
        checks: whether the predictor applies to each, and why not.
    """

    labels: list[list[str]]
    probabilities: Vectors
    classes: list[str]
    checks: list[Applicability] = field(default_factory=list)


@dataclass(frozen=True)
class Estimates:
    """Predicted values of N sequences, float64 [N] each; NaN if the predictor does not apply.

    Attributes:
        values: the predictions. low, high: ends of their interval, which holds a new value in about `coverage` of cases
            if it comes from where the validation rows came from. unit: of the values, as its maker named it.
        checks: whether the predictor applies to each, and why not.
    """

    values: Values
    low: Values
    high: Values
    coverage: float
    unit: str
    checks: list[Applicability] = field(default_factory=list)


@dataclass(frozen=True)
class Profiles:
    """Predicted values of the nucleotides of N sequences.

    Attributes:
        values: float64 [L] for each sequence of L nucleotides; [0] where the predictor does not apply.
        half_width: of the interval about each value, which holds a new value in about `coverage` of cases if it comes
            from where the validation rows came from; infinite where it has no bounds. unit: as its maker named it.
        checks: whether the predictor applies to each, and why not.
    """

    values: list[Values]
    half_width: float
    coverage: float
    unit: str
    checks: list[Applicability] = field(default_factory=list)


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
        names = "labels" if TASKS[self.task].several else "classes"
        what = self.unit or "values" if self.numeric else f"{len(self.labels)} {names}"
        return f"Predictor({self.name!r}, {self.task}, {what}, {self.mode})"

    @property
    def name(self) -> str:
        """The name under which it was registered, such as "rna_type"."""
        return str(self.info["name"])

    @property
    def task(self) -> str:
        """The kind of task, such as "sequence-classification"."""
        return str(self.info["task"])

    @property
    def numeric(self) -> bool:
        """Whether it predicts values (`Estimates`, `Profiles`) rather than classes (`Predictions`)."""
        return TASKS[self.task].numeric

    @property
    def level(self) -> str:
        """What it answers for: "sequence", "nucleotide" (`Profiles`) or "sequence-pair" (`pairs`)."""
        return TASKS[self.task].level

    @property
    def pairs(self) -> bool:
        """Whether its sequences are pairs, FIRST&SECOND: a reference and what is compared with it."""
        return self.level == "sequence-pair"

    @property
    def unit(self) -> str:
        """Unit of the values, "" if none was named."""
        return str(self.info.get("unit", ""))

    @property
    def lengths(self) -> tuple[int, int]:
        """Shortest and longest sequence that it was made from, in nucleotides: beyond, its answers are guesses."""
        lengths = self.info["data"]["lengths"]
        return int(lengths["min"]), int(lengths["max"])

    @cached_property
    def requirements(self) -> InputRequirements:
        """What it takes; of a predictor that does not say, the one length of its sequences where they have only one."""
        declared = InputRequirements.from_json(self.info.get("requirements", {}))
        return of_equal_lengths(declared, self.lengths) if self.level == "sequence" else declared

    @cached_property
    def base_rates(self) -> dict[str, float] | None:
        """Share of each class or label in its training data; None for values, or where it is not known."""
        found = self.info.get("base_rates")
        if found is None:
            found = base_rates_of(self.info)
        return None if found is None else {str(name): float(share) for name, share in found.items()}

    def thresholds(self, prior: Prior | None = None) -> dict[str, float]:
        """Probability above which each of several labels is said to be true; none for other predictors.

        Args:
            prior: as of `predict`. Labels whose prevalence is stated are said to be true above .5.
        """
        if not TASKS[self.task].several:
            return {}
        stated = set(self.labels if prior is not None and not isinstance(prior, Mapping) else prior or ())
        chosen = self.info.get("thresholds", {})
        return {name: 0.5 if name in stated else float(chosen.get(name, 0.5)) for name in self.labels}

    def check(self, normalised: Sequence[str]) -> list[Applicability]:
        """Whether it applies to each normalised sequence (or pair), and why not."""
        shortest, longest = self.lengths
        found = []
        for text in normalised:
            length = len(text.rpartition(PAIR_MARK)[2])  # of pairs the second
            found.append(replace(self.requirements.check(text), in_training_length_range=shortest <= length <= longest))
        return found

    def check_prior(self, prior: Prior | None) -> NDArray[np.float64] | None:
        """The stated prevalence of each class or label, float64 [C], as `prior_of` reads it; None for None.

        Raises:
            TaskError: a predictor of values, no base rate, or a prior that is not valid.
        """
        if prior is None:
            return None
        if self.numeric:
            raise TaskError(f"prior: predictor {self.name!r} predicts values, not probabilities")
        return prior_of(prior, self.labels, self.base_rates, several=TASKS[self.task].several)

    @property
    def mode(self) -> Literal["frozen", "lora", "full"]:
        """Whether the encoder stayed as it was, got adapters, or was trained itself, with the head."""
        mode: Literal["frozen", "lora", "full"] = self.info["mode"]
        return mode

    @property
    def labels(self) -> list[str]:
        """The C names of classes or labels; none where values are predicted."""
        return list(self.info["classes"])

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder whose vectors the head reads."""
        return str(self.info["encoder"]["fingerprint"])

    @cached_property
    def blend(self) -> Blend | None:
        """How the outputs of the head and of the simple models are weighted; None if the head answers alone."""
        found = self.info.get("blend")
        return None if found is None else Blend.of_json(found)

    @cached_property
    def detector(self) -> Detector | None:
        """What says whether a sequence is out of distribution; None for values, labels, and below 50 held-out rows.

        Raises:
            TaskError: a damaged file.
        """
        return Detector.load(self.folder) if (self.folder / DETECTOR_FILE).exists() else None

    @cached_property
    def simple(self) -> SimpleModels:
        """The simple models that were fitted with it.

        Raises:
            TaskError: a missing or damaged file.
        """
        return SimpleModels.load(self.folder, TASKS[self.task])

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured when it was made: split -> metric -> value, low, high, n."""
        return dict(self.info["metrics"])

    @cached_property
    def verdict(self) -> Verdict:
        """What it is worth; of its metrics where a version without verdicts made it."""
        return Verdict.of_info(self.info)

    @property
    def primary_metric(self) -> dict[str, Any]:
        """The metric by which it is judged, on its test rows: metric, value, low, high, n."""
        return dict(self.metrics["test"][self.name][TASKS[self.task].primary.name])

    @property
    def plot(self) -> Path | None:
        """The plot of predicted against true values of test rows, SVG; None if it predicts no values."""
        path = self.folder / "predicted.svg"
        return path if path.is_file() else None

    @cached_property
    def card(self) -> str:
        """The card, Markdown.

        Raises:
            TaskError: it is missing.
        """
        try:
            return (self.folder / "card.md").read_text(encoding="utf-8")
        except OSError as error:
            raise TaskError(f"{self.folder}: no card.md ({error.strerror}). Fine-tune again") from error

    @cached_property
    def encoder(self) -> Model:
        """The encoder.

        Raises:
            TaskError: the folder's encoder is damaged or not the one that the head was fitted on.
        """
        try:
            model = load(self.folder / "encoder", device=self._device).pooled(self.info["encoder"].get("pooling", "mean"))
        except CheckpointError as error:
            raise TaskError(f"predictor {self.name!r}: {error}") from error
        if model.fingerprint != self.encoder_fingerprint:
            raise TaskError(
                f"{self.folder}: the encoder's fingerprint is {model.fingerprint}, the head was fitted on "
                f"{self.encoder_fingerprint}. Fine-tune again"
            )
        model.name = str(self.info["encoder"]["name"])
        return model

    @property
    def encoder_loaded(self) -> bool:
        """Whether the encoder is in memory: it is, from its first use on."""
        return "encoder" in self.__dict__

    def predict(
        self, sequences: Sequence[str], encoder: Model | None = None, *, prior: Prior | None = None
    ) -> Predictions | LabelSets | Estimates | Profiles:
        """Class probabilities, or values, of RNA or DNA sequences, in their order; each is the same alone or in any batch.

        A sequence that does not meet `requirements` gets no answer but the reason, in `checks`.

        Args:
            sequences: N sequences.
            encoder: the model that `encoder_fingerprint` names, where it is in memory already.
            prior: prevalence of the classes or labels that the probabilities are to hold for; see `prior_of`.

        Raises:
            TypeError: one sequence instead of a list.
            TaskError: a sequence that is no pair, where pairs are expected; a prior that is not valid.
            SequenceError: a sequence that is not RNA or DNA.
        """
        if isinstance(sequences, str):
            raise TypeError("predict expects a list of sequences, got one")
        self.check_prior(prior)
        normalised = self._normalised(sequences)
        checks = self.check(normalised)
        chosen = [text for text, fit in zip(normalised, checks, strict=True) if fit.applicable]
        if self.level != "nucleotide":
            found = self._vectors(chosen, encoder or self.encoder) if chosen else None
            return self.predict_vectors(self.spread(found, checks), normalised, prior=prior)
        values: list[Values] = []
        for part in nucleotides_at_once(chosen):
            rows = (encoder or self.encoder).nucleotides_tokens([tokenise(text) for text in part])
            values += self.predict_rows(rows, part).values
        return self._profiles(values, checks)

    def spread(self, vectors: Vectors | None, checks: Sequence[Applicability]) -> Vectors:
        """Vectors [M, H] of the sequences that it applies to, as [N, H] for `predict_vectors`; the others' are 0.

        Args:
            vectors: of the M sequences, in their order; None if M is 0.
            checks: of all N sequences.
        """
        applies = np.array([fit.applicable for fit in checks], bool)
        if vectors is not None and applies.all():
            return vectors
        rows = np.zeros((len(checks), self.head.weight.shape[1]), np.float32)
        if vectors is not None:
            rows[applies] = vectors
        return rows

    def vectors(self, normalised: Sequence[str]) -> Vectors:
        """What `predict_vectors` reads of normalised sequences: their vectors, of pairs what those differ by."""
        return self._vectors(normalised, self.encoder)

    def _vectors(self, normalised: Sequence[str], encoder: Model) -> Vectors:
        return difference(encoder.embed, normalised) if self.pairs else encoder.embed(list(normalised))

    def _normalised(self, sequences: Sequence[str]) -> list[str]:
        if not self.pairs:
            return [normalise(s, f"sequence {i}") for i, s in enumerate(sequences)]
        sides = [[normalise(s, f"sequence {i}") for i, s in enumerate(side)] for side in split_pairs(sequences)]
        return [PAIR_MARK.join(both) for both in zip(*sides, strict=True)]

    def predict_vectors(
        self, vectors: Vectors, sequences: Sequence[str], *, prior: Prior | None = None
    ) -> Predictions | LabelSets | Estimates:
        """Class probabilities, or values, of sequences that the caller has already embedded.

        Args:
            vectors: float32 [N, H], as `vectors` gives them, of the encoder that `encoder_fingerprint` names; those of
                another model of the same width cannot be told apart here, so compare fingerprints first. Rows of sequences
                that it does not apply to are not read.
            sequences: the N sequences, which the simple models of a `blend` read.
            prior: prevalence of the classes or labels that the probabilities are to hold for; see `prior_of`.

        Raises:
            TaskError: vectors of another width or number, or that are not finite; a predictor that reads each nucleotide; a
                prior that is not valid.
            SequenceError: a sequence that is not RNA or DNA.
        """
        if self.level == "nucleotide":
            raise TaskError(f"predictor {self.name!r} reads each nucleotide, not vectors of sequences: use predict_rows")
        if len(vectors) != len(sequences):
            raise TaskError(f"{len(vectors):,} vectors of {len(sequences):,} sequences")
        shares, normalised = self.check_prior(prior), self._normalised(sequences)
        checks = self.check(normalised)
        rows = np.flatnonzero([fit.applicable for fit in checks])
        reading = self.read(np.asarray(vectors)[rows], [normalised[i] for i in rows.tolist()])
        task = TASKS[self.task]
        answers = task.answer(reading.outputs) if len(rows) else np.zeros((0,) if task.numeric else (0, len(self.labels)))
        if self.numeric:
            values = np.full(len(checks), np.nan)
            values[rows] = answers
            width, coverage = self._half_width, float(self.info["interval"]["coverage"])
            return Estimates(values, values - width, values + width, coverage, self.unit, checks)
        classes = self.labels
        if shares is not None:
            base = np.array([(self.base_rates or {})[name] for name in classes])
            answers = rescale(answers, base, shares, several=task.several)
        probabilities = np.full((len(checks), len(classes)), np.nan, np.float32)
        probabilities[rows] = answers
        if task.several:
            least = np.array(list(self.thresholds(prior).values()))
            said = [[classes[i] for i in np.flatnonzero(row > least).tolist()] for row in probabilities]
            return LabelSets(said, probabilities, classes, checks)
        p_values, alpha = None, 0.0
        if self.detector is not None:
            alpha = self.detector.alpha
            p_values = np.full(len(checks), np.nan, np.float32)
            if len(rows):
                p_values[rows] = self.detector.p_values(reading)
        labels: list[str | None] = [None] * len(checks)
        for i in rows.tolist():
            labels[i] = classes[int(probabilities[i].argmax())]
        return Predictions(labels, probabilities, classes, p_values, checks, alpha)

    def predict_rows(self, rows: Sequence[Vectors], sequences: Sequence[str]) -> Profiles:
        """Values of the nucleotides of sequences that the caller has already embedded.

        Args:
            rows: for each sequence of L nucleotides float32 [L, H], of the encoder that `encoder_fingerprint` names. Of
                sequences that it does not apply to anything: it is not read.
            sequences: the N sequences, which the simple models of a `blend` read.

        Raises:
            TaskError: a predictor that reads vectors of sequences; rows of another number or width, or that are not finite.
            SequenceError: a sequence that is not RNA or DNA.
        """
        if self.level != "nucleotide":
            raise TaskError(f"predictor {self.name!r} reads vectors of sequences, not of nucleotides: use predict_vectors")
        normalised = self._normalised(sequences)
        checks = self.check(normalised)
        chosen = [i for i, fit in enumerate(checks) if fit.applicable]
        if len(rows) != len(normalised) or any(len(rows[i]) != len(normalised[i]) for i in chosen):
            raise TaskError("expected one row for each nucleotide of each sequence")
        outputs = self.outputs_of_nucleotides([rows[i] for i in chosen], [normalised[i] for i in chosen])
        return self._profiles([TASKS[self.task].answer(one) for one in outputs], checks)

    def _profiles(self, values: Sequence[Values], checks: list[Applicability]) -> Profiles:
        """The profiles of all sequences; `values` are those of the sequences that it applies to, in their order."""
        found = iter(values)
        spread = [next(found) if fit.applicable else np.zeros(0) for fit in checks]
        return Profiles(spread, self._half_width, float(self.info["interval"]["coverage"]), self.unit, checks)

    def outputs(self, vectors: Vectors, normalised: Sequence[str]) -> Values:
        """Numbers before they become an answer, float64 [N, C], of vectors [N, H] and their normalised sequences.

        Raises:
            TaskError: vectors of another width, or that are not finite.
        """
        return self.read(vectors, normalised).outputs

    def read(self, vectors: Vectors, normalised: Sequence[str]) -> Reading:
        """Vectors [N, H] and their normalised sequences with what each of its models says of them.

        Raises:
            TaskError: vectors of another width, or that are not finite.
        """
        alone = self.head.outputs(vectors)
        if self.blend is None or not len(normalised):
            return Reading(list(normalised), vectors, (alone,), alone)
        parts = {
            name: alone if name == ENCODER else np.asarray(self.simple.outputs(name, normalised))
            for name in (ENCODER, *(name for name in self.blend.weights if name != ENCODER))
        }
        return Reading(list(normalised), vectors, tuple(parts.values()), self.blend.of(parts))

    def outputs_of_nucleotides(self, rows: Sequence[Vectors], normalised: Sequence[str]) -> list[Values]:
        """The same, [L, C] of each sequence, of the rows [L, H] of its nucleotides."""
        alone = [self.head.outputs(row) for row in rows]
        if self.blend is None or not len(normalised):
            return alone
        others = {name: list(self.simple.outputs(name, normalised)) for name in self.blend.weights if name != ENCODER}
        return self.blend.of_each({ENCODER: alone, **others})

    @property
    def _half_width(self) -> float:
        width = self.info["interval"]["half_width"]
        return float("inf") if width is None else float(width)


def base_rates_of(info: Mapping[str, Any]) -> dict[str, float] | None:
    """Share of each class or label in the training rows, of the counts in `predictor.json`; None if there are none."""
    data = info["data"]
    if per_label := data.get("per_label"):
        return {name: found["true"] / found["known"] for name, found in per_label["train"].items()}
    per_class = (info.get("per_class") or data.get("per_class") or {}).get("train")
    if not per_class or not info["classes"]:
        return None
    total = sum(per_class[name] for name in info["classes"])
    return {name: per_class[name] / total for name in info["classes"]}


def nucleotides_at_once(normalised: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of sequences of so many nucleotides that all their rows may be in memory (`NUCLEOTIDES_AT_ONCE`)."""
    first = size = 0
    for i, text in enumerate(normalised):
        size += len(text)
        if size >= NUCLEOTIDES_AT_ONCE or i == len(normalised) - 1:
            yield normalised[first : i + 1]
            first, size = i + 1, 0


RENAMED: Final = {"networks": "cnn_ensemble_size", "tries": "num_trials", "reads": "head_input"}
"""Settings of a recipe: their names in unirna 0.1.0 -> now."""


def current_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as any version wrote it, under the names of this version."""
    found = {RENAMED.get(name, name): value for name, value in recipe.items()}
    if "full" in found:
        found["full"] = {RENAMED.get(name, name): value for name, value in found["full"].items()}
    return found


def load_predictor(folder: str | Path, device: str | torch.device | None = None) -> Predictor:
    """Read a predictor from its folder.

    Raises:
        TaskError: no predictor there, or one of a later format.
    """
    folder = Path(folder)
    try:
        info = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TaskError(f"{folder}: no predictor.json. A predictor is a folder that jobs/finetune.py wrote") from error
    except ValueError as error:
        raise TaskError(f"{folder}/predictor.json is damaged ({error}). Fine-tune again") from error
    if info.get("format") not in range(1, FORMAT + 1):
        raise TaskError(f"{folder}: predictor format {info.get('format')!r}; this version of unirna reads 1 to {FORMAT}")
    if "recipe" in info:
        info["recipe"] = current_recipe(info["recipe"])
    head = LinearHead.load(folder / "head.safetensors")
    if info["task"] not in TASKS:
        raise TaskError(f"{folder}: task {info['task']!r}; this version of unirna knows {', '.join(TASKS)}")
    if len(head.weight) != (1 if TASKS[info["task"]].numeric else len(info["classes"])):
        raise TaskError(f"{folder}: the head has {len(head.weight)} classes, predictor.json {len(info['classes'])}")
    predictor = Predictor(folder, info, head, device)
    if predictor.blend is not None and (lacking := set(predictor.blend.weights) - {ENCODER, *predictor.simple.names}):
        raise TaskError(f"{folder}: it blends {', '.join(sorted(lacking))}, which is not there. Fine-tune again")
    return predictor


def list_predictors(registry: str | Path | None, *, shipped: bool = True) -> dict[str, Path]:
    """Names and folders of the predictors in a registry, sorted, and of those that come with the package.

    Args:
        registry: a folder, which need not exist, or None for none. Its predictors stand before shipped ones of their name.
        shipped: count the latter in.
    """
    folders = ([SHIPPED / "predictors"] if shipped else []) + ([] if registry is None else [Path(registry)])
    found = {path.parent.name: path.parent for folder in folders for path in folder.glob("[!.]*/predictor.json")}
    return dict(sorted(found.items()))


def find_predictor(registry: str | Path, name: str) -> Path:
    """Folder of a predictor.

    Raises:
        TaskError: none of that name; the message lists those that exist.
    """
    have = list_predictors(registry)
    if name not in have:
        own = list_predictors(registry, shipped=False)
        raise TaskError(
            f"no predictor {name!r} in {registry}. It holds: {', '.join(own) or 'none'}; with the package come: "
            f"{', '.join(list_predictors(None)) or 'none'}. Make one with jobs/finetune.py"
        )
    return have[name]
