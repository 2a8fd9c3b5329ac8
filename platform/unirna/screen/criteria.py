"""What a record is scored on: likeness to references, probability of labels, and the one number that ranks.

Each criterion is a desirability from 0 (useless) to 1 (as desired), and the score of a record is their geometric mean
(Derringer & Suich 1980): a record must do well on every criterion, and its score depends on nothing but itself.

- A label's desirability is its probability. A value's is the share of the values of the predictor's table that it exceeds
  (task=high) or stays under (task=low), as a normal distribution of their mean and standard deviation has it.
- Similarity is the cosine of a record's vector with that of the nearest reference. Cosines of one model crowd together in
  a narrow band, so the distance 1 - cosine is measured in a unit of the model's own: d0 / (d0 + 1 - cosine), where d0 is
  the median distance to the references of random RNA of their lengths. It is 1 for a reference itself and about 0.5 for
  random RNA. (Shuffled references would be the stricter measure, but the vectors of a little-trained model hardly change
  when a sequence is shuffled.)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from unirna.model import Model
from unirna.tasks import Estimates, Predictions, Predictor, TaskError, find_predictor, load_predictor

RANDOM_SEQUENCES = 200
"""How many random sequences, at least one for each of so many references, give the unit of distance."""
LEAST_UNIT = 1e-5
"""Least unit of distance: below it cosines are rounding."""
WANTED = {"high": 1.0, "low": -1.0}
"""Targets for a value."""
CHUNK = 8192
"""References compared at once."""

Numbers = NDArray[np.float64]


class ScreenError(ValueError):
    """Settings or inputs that cannot be screened with; the message says what to do."""


@dataclass(frozen=True)
class References:
    """Reference sequences as vectors of one model.

    Attributes:
        ids: R names. vectors: float32 [R, H], of length 1. fingerprint: of their model.
        unit: d0, the distance at which desirability is one half.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    fingerprint: str
    unit: float

    @property
    def digest(self) -> str:
        """16 hex digits that name the references: ids, vectors, model."""
        text = "\n".join([self.fingerprint, *self.ids]).encode()
        return hashlib.sha256(text + self.vectors.tobytes()).hexdigest()[:16]

    def nearest(self, vectors: NDArray[np.float32]) -> tuple[Numbers, NDArray[np.int64]]:
        """Cosine with the nearest reference, float64 [N], and which one it is, int64 [N]; the first of equals."""
        units = _unit_length(vectors).astype(np.float64)
        best = np.full(len(units), -np.inf)
        which = np.zeros(len(units), np.int64)
        for start in range(0, len(self.vectors), CHUNK):
            cosines = units @ self.vectors[start : start + CHUNK].T.astype(np.float64)
            place = cosines.argmax(axis=1)
            found = cosines[np.arange(len(units)), place]
            better = found > best
            best[better], which[better] = found[better], place[better] + start
        return np.minimum(best, 1.0), which

    def desirability(self, cosines: Numbers) -> Numbers:
        """d0 / (d0 + 1 - cosine), float64 [N]."""
        distance = 1.0 - cosines
        wanted: Numbers = self.unit / (self.unit + np.maximum(distance, 0.0))
        return wanted


def embed_references(model: Model, ids: Sequence[str], sequences: Sequence[str]) -> References:
    """Embed normalised reference sequences and find their unit of distance from random RNA (fixed seed)."""
    vectors = _unit_length(model.embed(sequences))
    chance = random.Random(0)
    places = [round(i * (len(sequences) - 1) / (RANDOM_SEQUENCES - 1)) for i in range(RANDOM_SEQUENCES)]
    lengths = [min(len(sequences[place]), model.context) for place in places]
    references = References(list(ids), vectors, model.fingerprint, 1.0)
    cosines, _ = references.nearest(model.embed(["".join(chance.choices("ACGU", k=length)) for length in lengths]))
    return replace(references, unit=max(float(np.median(1.0 - cosines)), LEAST_UNIT))


def _unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return units


@dataclass(frozen=True)
class LabelCriterion:
    """The probability that a predictor gives a label, or how high or low the value is that it predicts.

    Attributes:
        predictor: the predictor's name. label: one of its labels, or "high" or "low". folder: where it stands.
        fingerprint: of the encoder whose vectors it reads. numeric: whether it predicts values.
        prior: prevalence of the label that its probability is to hold for; None for that of the training data.
    """

    predictor: str
    label: str
    folder: str
    fingerprint: str
    numeric: bool = False
    prior: float | None = None

    @property
    def name(self) -> str:
        """The criterion as asked for, "task=label": the name of its column."""
        return f"{self.predictor}={self.label}"


def outside_column(predictor: str) -> str:
    """Name of the column that says which records are out of a classifier's distribution."""
    return f"out of distribution {predictor}"


def parse_priors(texts: Sequence[str]) -> dict[str, float]:
    """Read "task=label=share" or "task=share", shares of a label or of all labels of a predictor that are screened for.

    Raises:
        ScreenError: a text of another form.
    """
    found = {}
    for text in texts:
        name, equals, share = text.rpartition("=")
        try:
            found[name] = float(share)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise ScreenError(f"--prior {text!r}: expected task=label=share or task=share, as in m6a=0.05")
    return found


def with_priors(criteria: Sequence[LabelCriterion], priors: Mapping[str, float]) -> tuple[LabelCriterion, ...]:
    """The criteria with the priors of their own, or else of their predictor.

    Raises:
        ScreenError: a prior of no criterion, or one that the predictor cannot use.
    """
    if unknown := [name for name in priors if name not in {x for c in criteria for x in (c.name, c.predictor)}]:
        raise ScreenError(
            f"--prior {unknown[0]}: no such criterion. There are: {', '.join(c.name for c in criteria) or 'none'}"
        )
    found = [replace(c, prior=priors.get(c.name, priors.get(c.predictor))) for c in criteria]
    for criterion in found:
        if criterion.prior is not None:
            try:
                load_predictor(criterion.folder).check_prior({criterion.label: criterion.prior})
            except TaskError as error:
                raise ScreenError(f"--prior of {criterion.name}: {str(error).removeprefix('prior: ')}") from error
    return tuple(found)


def parse_label_criterion(text: str, registry: str) -> LabelCriterion:
    """Read "task=label" and find the predictor.

    Raises:
        ScreenError: no "=", or a label that the predictor does not have (of values: high and low); those it has are listed.
        TaskError: no such predictor; those that exist are listed.
    """
    name, equals, label = text.partition("=")
    if not equals or not name or not label:
        raise ScreenError(f"--predict {text!r}: expected task=label, as in rna_type=tRNA")
    folder = find_predictor(registry, name)
    predictor = load_predictor(folder)
    if predictor.pairs:
        raise ScreenError(f"predictor {name!r} compares two sequences, and a library has one in each record")
    if predictor.level == "nucleotide":
        raise ScreenError(f"predictor {name!r} gives a value for each nucleotide, so sequences cannot be ranked by it")
    if predictor.numeric and label not in WANTED:
        raise ScreenError(f"predictor {name!r} predicts values: expected {name}=high or {name}=low, got {text!r}")
    if not predictor.numeric and label not in predictor.labels:
        shown = ", ".join(predictor.labels[:40]) + (" …" if len(predictor.labels) > 40 else "")
        near = nearest_labels(label, predictor.labels)
        meant = f"; did you mean {name}={near[0]}?" if near else "."
        raise ScreenError(f"predictor {name!r} has no label {label!r}{meant} It has: {shown}")
    return LabelCriterion(name, label, str(folder.absolute()), predictor.encoder_fingerprint, predictor.numeric)


@dataclass(frozen=True)
class Criteria:
    """Everything a worker needs to score records.

    Attributes:
        references: what to be similar to; None for no such criterion.
        labels: the label criteria.
        encoders: fingerprint -> where the model is loaded from; each runs once over a record.
    """

    references: References | None = None
    labels: tuple[LabelCriterion, ...] = ()
    encoders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.references is None and not self.labels:
            raise ScreenError("there is no criterion: give --similar-to references.fasta, or --predict task=label, or both")

    def refusals(self, sequences: Sequence[str], predictors: Mapping[str, Predictor]) -> list[tuple[str, str]]:
        """For each sequence the first predictor that does not apply, and why not; twice "" where all apply.

        Args:
            sequences: normalised. predictors: folder -> predictor.
        """
        found = [("", "")] * len(sequences)
        for name, folder in {c.predictor: c.folder for c in self.labels}.items():
            for i, check in enumerate(predictors[folder].check(sequences)):
                if not check.applicable and not found[i][0]:
                    found[i] = (name, check.reason)
        return found

    def score(
        self, vectors: dict[str, NDArray[np.float32]], sequences: list[str], predictors: dict[str, Predictor]
    ) -> dict[str, NDArray[np.float64] | NDArray[np.bool_] | list[str | None]]:
        """Columns of N records, the combined `score` first.

        Args:
            vectors: encoder's fingerprint -> float32 [N, H].
            sequences: theirs, all of which the predictors apply to (`refusals`).
            predictors: folder -> predictor.
        """
        columns: dict[str, NDArray[np.float64] | NDArray[np.bool_] | list[str | None]] = {}
        wanted: list[Numbers] = []
        if self.references is not None:
            cosines, which = self.references.nearest(vectors[self.references.fingerprint])
            columns |= {"similarity": cosines, "nearest": [self.references.ids[i] for i in which.tolist()]}
            wanted.append(self.references.desirability(cosines))
        for criterion in self.labels:
            predictor = predictors[criterion.folder]
            prior = None if criterion.prior is None else {criterion.label: criterion.prior}
            predicted = predictor.predict_vectors(vectors[criterion.fingerprint], sequences, prior=prior)
            said: Numbers | list[str | None]
            if isinstance(predicted, Estimates):
                known, said = predictor.info["data"]["values"], predicted.values
                chance = ndtr(WANTED[criterion.label] * (predicted.values - known["mean"]) / known["sd"])
            else:
                said = [name if name is None or isinstance(name, str) else ";".join(name) for name in predicted.labels]
                chance = predicted.probabilities[:, predicted.classes.index(criterion.label)].astype(np.float64)
            columns |= {criterion.name: chance, f"predicted {criterion.predictor}": said}
            if isinstance(predicted, Predictions) and predicted.out_of_distribution is not None:
                columns[outside_column(criterion.predictor)] = predicted.out_of_distribution
            wanted.append(chance)
        with np.errstate(divide="ignore"):  # a probability of 0 makes the score 0
            score = np.exp(np.mean([np.log(d) for d in wanted], axis=0))
        return {"score": score, **columns}


def nearest_labels(label: str, labels: Sequence[str]) -> list[str]:
    """Labels that were perhaps meant, the likeliest first: upper and lower case, and what stands before a ";", aside."""
    last = label.rpartition(";")[2].casefold()
    same = [own for own in labels if last and own.rpartition(";")[2].casefold() == last]
    if same:
        return same
    folded = {own.casefold(): own for own in labels}
    return [folded[near] for near in get_close_matches(label.casefold(), folded, 1)]
