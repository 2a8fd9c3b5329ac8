"""Out-of-distribution detection: whether a sequence is like the RNA that a classifier was trained on.

A classifier gives one of its classes to any sequence, often with a high probability. So beside it stands a detector,
fitted to tell held-out members of the classes from their dinucleotide shuffles, which have the same length and composition,
but are no RNA of any class. It needs no data but the training rows.

A score is a linear function of:

- cosines of the classifier's vector with the nearest, 3rd and 10th nearest training vector, and with the nearest and 10th
  nearest vector of shuffles of training rows and of low-complexity sequences (nearest neighbours: Sun et al. 2022,
  arXiv:2204.06507; here relative to neighbours of the other kind);
- scores of the best local alignment with the ten nearest training rows, and with the ten nearest of those that get the
  same class: relatives align, and RNA that merely looks alike to the model does not;
- three "none of these" classifiers on the same rows: on the vector, on 4-mer frequencies, and on the outputs of the
  classifier's models (outlier exposure: Hendrycks et al. 2019, arXiv:1812.04606);
- the log-odds of the most probable class, the energy (Liu et al. 2020, arXiv:2010.03759) and the length.

What a linear function says of sequences that are far from all that it was fitted on is arbitrary. So features are clipped
to their range in fitting, and a sequence gets the lowest score if it is less complex (entropy of its 3-mers) than 999 of
1,000 training rows, or farther from the nearest training vector than 998 of 1,000 validation rows.

The scores of the validation rows, each by weights that were fitted on nine tenths without it, make it a conformal p-value
(Vovk et al. 2005): the share of members that are no more like training. Below `alpha` a sequence is flagged: the p-value
between .02 and .06 that is enough to catch 99 of 100 shuffles. docs/predictor-methods.md says what was tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from unirna.model.tensors import save_tensors
from unirna.sequence import complexity_of
from unirna.tasks.errors import TaskError
from unirna.tasks.kinds.classification import sureness
from unirna.tasks.models.head import LinearHead
from unirna.tasks.models.nearest import Codes, nearest_rows, ranked, unit_vectors
from unirna.tasks.models.negatives import coding_pieces, low_complexity, repeats, shuffles
from unirna.tasks.models.sequence_features import kmer_frequencies

FILE: Final = "detector.safetensors"
ALPHA: Final = (0.02, 0.06)
"""Least and greatest conformal p-value below which a sequence is flagged: so are 2 to 6 of 100 members of the classes."""
CAUGHT: Final = 0.99
"""Share of shuffles that the flag is to catch; the lowest p-value between these two that does it is the limit."""
FEWEST: Final = 50
"""Validation rows that a detector is calibrated on, at least: p-values are known to a fiftieth then."""
MOST_SCORES: Final = 1000
"""Scores of validation rows that are kept, evenly spaced in rank."""
MOST_MEMBERS: Final = 30_000
"""Training vectors that are kept."""
SHUFFLES: Final = (500, 10_000)
"""Shuffles of training rows, at least and at most; in between one for each row."""
LOW_COMPLEXITY: Final = 0.1
"""Low-complexity sequences for each shuffle."""
LONGEST: Final = 1000
"""Nucleotides of a shuffle and of what is aligned; longer rows are cut."""
ALIGNED: Final = 10
"""Nearest training rows that a sequence is aligned with."""
LETTERS: Final = "\nACGUNRYSWKMBDHV"
"""Symbols of kept sequences, four bits each; the first stands between two sequences."""
MOST_FITTED: Final = 3000
"""Validation rows that the weights of the score are fitted on."""
MEASURED: Final = 500
"""Sequences of each set that a detector is measured on, at most."""
MEMBERS: Final = "members of its classes"
"""Name of the test rows that a detector is to keep."""
MEMBER_RANKS: Final = (1, 3, 10)
OTHER_RANKS: Final = (1, 10)
LEAST_COMPLEX: Final = 0.001
"""Quantile of the training rows' complexity below which a sequence is out of distribution."""
FARTHEST: Final = 0.002
"""Quantile of the validation rows' cosine with the nearest training vector below which it is too."""
LOWEST: Final = -1e9
"""Score of such a sequence."""
FOLDS: Final = 10
INVERSE_PENALTY: Final = 0.1
"""C of the "none of these" classifiers, on standardised features."""
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """Sequences as a classifier reads them.

    Attributes:
        sequences: N, normalised.
        vectors: float32 [N, H], of its encoder.
        parts: outputs of its models (head, and where they are blended linear model and CNN), float64 [N, C] each.
        outputs: their blend, float64 [N, C].
    """

    sequences: list[str]
    vectors: NDArray[np.float32]
    parts: tuple[Scores, ...]
    outputs: Scores

    def take(self, rows: NDArray[np.int64]) -> Reading:
        """Some of the sequences, by number."""
        parts = tuple(part[rows] for part in self.parts)
        return Reading([self.sequences[i] for i in rows.tolist()], self.vectors[rows], parts, self.outputs[rows])


Read = Callable[[list[str]], Reading]
"""Reads normalised sequences with a classifier."""


@dataclass(frozen=True)
class Background:
    """What a sequence is compared with: training rows, and sequences that belong to no class.

    Attributes:
        centre: float32 [H], the mean training vector.
        members, others: vectors of R training rows, and of shuffles and low complexity.
        sequences: the R training rows, the first `LONGEST` nucleotides of each.
        classes: int64 [R], the class that each of them gets from the classifier.
        none: "none of these" classifiers on vectors, 4-mer frequencies and outputs of models: one output each.
    """

    centre: NDArray[np.float32]
    members: Codes
    others: Codes
    sequences: list[str]
    classes: NDArray[np.int64]
    none: tuple[LinearHead, LinearHead, LinearHead]

    def features(self, read: Reading) -> NDArray[np.float32]:
        """float32 [N, 13], in the order of the module's text."""
        units = unit_vectors(read.vectors, self.centre)
        answers = read.outputs.argmax(axis=1)
        near: list[NDArray[np.float32]] = []
        scores: list[tuple[int, int]] = []
        first = 0
        for cosines in self.members.neighbours(units):
            rows = slice(first, first + len(cosines))
            near.append(ranked(cosines, MEMBER_RANKS))
            nearest = nearest_rows(cosines, ALIGNED)
            alike = nearest_rows(np.where(self.classes == answers[rows, None], cosines, -np.inf), ALIGNED)
            scores += map(self._align, read.sequences[rows], answers[rows].tolist(), nearest.tolist(), alike.tolist())
            first += len(cosines)
        far = [ranked(cosines, OTHER_RANKS) for cosines in self.others.neighbours(units)]
        margins = [head.outputs(features) for head, features in zip(self.none, _none_features(read), strict=True)]
        top = read.outputs.max(axis=1)
        energy = top + np.log(np.exp(read.outputs - top[:, None]).sum(axis=1))
        lengths = np.log([max(len(sequence), 1) for sequence in read.sequences])
        columns = (np.concatenate(near), np.concatenate(far), scores, *margins, sureness(read.outputs), energy, lengths)
        return np.column_stack(columns).astype(np.float32)

    def _align(self, sequence: str, answer: int, nearest: list[int], alike: list[int]) -> tuple[int, int]:
        """Score of the best local alignment with training rows, and with those of the same class among others."""
        from unirna.vectorstore.align import Aligner  # here: the package takes a second to import

        aligner = Aligner(sequence[:LONGEST])
        found = {row: aligner.score(self.sequences[row]) for row in {*nearest, *alike}}
        best_alike = max((found[row] for row in alike if self.classes[row] == answer), default=0)
        return max(found[row] for row in nearest), best_alike


@dataclass(frozen=True)
class Detector:
    """Scores sequences by how like they are to a classifier's training rows.

    Attributes:
        background: what they are compared with.
        weights: of the features.
        bounds: float32 [2, F], the least and the greatest value of each feature in fitting.
        complexity: the least that a sequence like the training rows has (`complexity_of`).
        cosine: the least that such a sequence has with the nearest training vector.
        alpha: p-value below which a sequence is flagged.
        held_out: float64 [K], scores of validation rows, ascending.
    """

    background: Background
    weights: LinearHead
    bounds: NDArray[np.float32]
    complexity: float
    cosine: float
    alpha: float
    held_out: Scores

    def scores(self, read: Reading) -> Scores:
        """How like each is to the RNA of the classes, float64 [N]; higher is more like."""
        features = self.background.features(read)
        simple = np.array([complexity_of(sequence) < self.complexity for sequence in read.sequences], bool)
        far = features[:, 0] < self.cosine
        return np.where(simple | far, LOWEST, self.weights.outputs(np.clip(features, *self.bounds))[:, 0])

    def p_values(self, read: Reading) -> NDArray[np.float32]:
        """Share of members that are no more like training than each, float32 [N], from 1 / (K + 1) up."""
        return _p_values(self.scores(read), self.held_out)

    def save(self, folder: Path) -> None:
        """Write it into a predictor's folder."""
        with_ = self.background
        arrays: dict[str, NDArray[Any]] = {"centre": with_.centre, "held_out": self.held_out.astype(np.float32)}
        arrays |= {"bounds": self.bounds, "least": np.array([self.complexity, self.cosine, self.alpha])}
        for name, codes in (("members", with_.members), ("others", with_.others)):
            arrays |= {f"{name}.packed": codes.packed, f"{name}.scale": codes.scale}
        arrays |= {"members.sequences": _pack(with_.sequences), "members.classes": with_.classes.astype(np.int16)}
        for name, head in zip(("vector", "kmers", "outputs", "weights"), (*with_.none, self.weights), strict=True):
            arrays |= {f"{name}.{key}": getattr(head, key) for key in ("weight", "bias", "mean", "scale")}
        save_tensors({name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Detector:
        """Read what `save` wrote.

        Raises:
            TaskError: a missing or damaged file.
        """
        try:
            arrays = load_file(folder / FILE)
            heads = [
                LinearHead(*(arrays[f"{name}.{key}"] for key in ("weight", "bias", "mean", "scale")))
                for name in ("vector", "kmers", "outputs", "weights")
            ]
            members, others = (Codes(arrays[f"{name}.packed"], arrays[f"{name}.scale"]) for name in ("members", "others"))
            sequences, classes = _unpack(arrays["members.sequences"]), arrays["members.classes"].astype(np.int64)
            none = (heads[0], heads[1], heads[2])
            complexity, cosine, alpha = arrays["least"].tolist()
            held_out = arrays["held_out"].astype(np.float64)
            background = Background(arrays["centre"], members, others, sequences, classes, none)
            return cls(background, heads[3], arrays["bounds"], complexity, cosine, alpha, held_out)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
            raise TaskError(f"{folder / FILE}: missing or damaged ({error}). Fine-tune again") from error


def fit_detector(train: Reading, valid: Reading, read: Read, seed: int = 0) -> Detector:
    """Fit a detector to a trained classifier.

    Args:
        train: its training rows. valid: at least 50 validation rows, which were not trained on.
        read: reads further sequences with it.
        seed: of the shuffles and of what is drawn.
    """
    random = np.random.default_rng(seed)
    kept = train.take(np.sort(random.permutation(len(train.sequences))[:MOST_MEMBERS]))
    count = int(np.clip(len(train.sequences), *SHUFFLES))
    rounds = -(-count // len(train.sequences))
    chosen = np.concatenate([random.permutation(len(train.sequences)) for _ in range(rounds)])[:count]
    sources = [train.sequences[i][:LONGEST] for i in chosen.tolist()]
    lengths = [len(source) for source in sources[: round(LOW_COMPLEXITY * count)]]
    others = read(shuffles(sources, random) + repeats(lengths, random))
    centre = train.vectors.mean(axis=0)
    members, negatives = (Codes.of(unit_vectors(reading.vectors, centre)) for reading in (kept, others))
    truth = np.arange(len(kept.sequences) + len(others.sequences)) < len(kept.sequences)
    vector, kmers, outputs = (
        _logistic(np.concatenate([a, b]), truth, INVERSE_PENALTY)
        for a, b in zip(_none_features(kept), _none_features(others), strict=True)
    )
    cut = [sequence[:LONGEST] for sequence in kept.sequences]
    background = Background(centre, members, negatives, cut, kept.outputs.argmax(axis=1), (vector, kmers, outputs))
    tuned = valid.take(np.sort(random.permutation(len(valid.sequences))[:MOST_FITTED]))
    shuffled = read(shuffles([sequence[:LONGEST] for sequence in tuned.sequences], random))
    ours, theirs = background.features(tuned), background.features(shuffled)
    scores, scores_of_shuffles = np.empty(len(ours)), np.empty(len(ours))
    for fold in range(FOLDS):
        out = np.arange(len(ours)) % FOLDS == fold
        weights = _weights(ours[~out], theirs[~out])
        scores[out], scores_of_shuffles[out] = (weights.outputs(each[out])[:, 0] for each in (ours, theirs))
    held_out = np.sort(scores)
    if len(held_out) > MOST_SCORES:
        held_out = held_out[np.linspace(0, len(held_out) - 1, MOST_SCORES).round().astype(int)]
    step = 1 / (1 + len(held_out))  # so that shuffles of just this p-value are flagged
    alpha = float(np.clip(np.quantile(_p_values(scores_of_shuffles, held_out), CAUGHT) + step, *ALPHA))
    complexity = float(np.quantile([complexity_of(sequence) for sequence in train.sequences], LEAST_COMPLEX))
    cosine = float(np.quantile(ours[:, 0], FARTHEST))
    both = np.concatenate([ours, theirs])
    bounds = np.stack([both.min(axis=0), both.max(axis=0)])
    return Detector(background, _weights(ours, theirs), bounds, complexity, cosine, alpha, held_out)


def measure_detector(
    detector: Detector, members: Reading, read: Read, more: dict[str, list[str]] | None = None, seed: int = 1
) -> dict[str, dict[str, float]]:
    """How many members are kept, and how many other sequences pass without a flag: set -> {"unflagged": share, "n": rows}.

    Args:
        detector: what is measured.
        members: test rows of the classes, which neither classifier nor detector has seen.
        read: reads sequences with the classifier.
        more: further sets by name, normalised.
        seed: of the shuffles and pieces.
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(len(members.sequences))[:MEASURED]
    sources = [members.sequences[i][:LONGEST] for i in rows.tolist()]
    lengths = [len(source) for source in sources]
    sets = {
        "dinucleotide shuffles": shuffles(sources, random),
        "pieces of coding sequences": coding_pieces(lengths, random),
        "low complexity": low_complexity(lengths, random),
        **(more or {}),
    }
    found = {MEMBERS: detector.p_values(members)}
    found |= {name: detector.p_values(read(sequences)) for name, sequences in sets.items() if sequences}
    return {name: {"unflagged": round(float((p >= detector.alpha).mean()), 4), "n": len(p)} for name, p in found.items()}


def facts_of_detector(
    detector: Detector, members: Reading, read: Read, more: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """What `predictor.json` says of a detector; arguments as for `measure_detector`."""
    return {
        "alpha": round(detector.alpha, 4),
        "validation_scores": len(detector.held_out),
        "unflagged": measure_detector(detector, members, read, more),
    }


def _none_features(read: Reading) -> tuple[NDArray[np.float32], ...]:
    """What the three "none of these" classifiers read."""
    return read.vectors, kmer_frequencies(read.sequences), np.concatenate(read.parts, axis=1).astype(np.float32)


def _logistic(features: NDArray[np.float32], member: NDArray[np.bool_], inverse_penalty: float) -> LinearHead:
    """Logistic regression on standardised features [N, F]; its output is the log-odds of being a member."""
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = features.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale < 1e-6] = 1.0
    standard = ((features - mean) / scale).astype(np.float64)
    fitted = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(standard, member)
    return LinearHead(fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32), mean, scale)


def _weights(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> LinearHead:
    """The weights that tell features of members from those of shuffles, [N, F] and [M, F]."""
    return _logistic(np.concatenate([ours, theirs]), np.arange(len(ours) + len(theirs)) < len(ours), 1.0)


def _p_values(scores: Scores, held_out: Scores) -> NDArray[np.float32]:
    """Conformal p-values of scores [N] among those of members, ascending."""
    places = np.searchsorted(held_out, scores, "right")
    found: NDArray[np.float32] = ((1 + places) / (1 + len(held_out))).astype(np.float32)
    return found


def _pack(sequences: list[str]) -> NDArray[np.uint8]:
    """Sequences in four bits a nucleotide."""
    index = np.full(128, LETTERS.index("N"), np.uint8)
    index[[ord(letter) for letter in LETTERS]] = np.arange(len(LETTERS))
    digits = index[np.frombuffer("\n".join([*sequences, ""]).encode("ascii"), np.uint8)]
    digits = np.pad(digits, (0, len(digits) % 2))
    return (digits[::2] | digits[1::2] << 4).astype(np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> list[str]:
    """What `_pack` packed."""
    digits = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    text = np.frombuffer(LETTERS.encode("ascii"), np.uint8)[digits].tobytes().decode("ascii")
    return text.rstrip("\n").split("\n")
