"""Out-of-distribution detection: whether a sequence is like the RNA that a classifier was trained on.

A classifier gives one of its classes to any sequence, often with a high probability. So beside it stands a detector,
fitted to tell held-out members of the classes from their dinucleotide shuffles, which have the same length and composition,
but are no RNA of any class. It needs no data but the training rows.

A score is a linear function of:

- cosines of the classifier's vector with the nearest, 3rd and 10th nearest training vector, and with the nearest and 10th
  nearest vector of shuffles of training rows and of low-complexity sequences (nearest neighbours: Sun et al. 2022,
  arXiv:2204.06507; here relative to neighbours of the other kind);
- three "none of these" classifiers on the same rows: on the vector, on 4-mer frequencies, and on the outputs of the
  classifier's models (outlier exposure: Hendrycks et al. 2019, arXiv:1812.04606);
- the log-odds of the most probable class, the energy (Liu et al. 2020, arXiv:2010.03759) and the length.

What a linear function says of sequences that are far from all that it was fitted on is arbitrary. So features are clipped
to their range in fitting, and a sequence gets the lowest score if it is less complex (entropy of its 3-mers) than 999 of
1,000 training rows, or farther from the nearest training vector than 998 of 1,000 validation rows.

The scores of the validation rows, each by weights that were fitted on nine tenths without it, make it a conformal p-value
(Vovk et al. 2005): the share of members that are no more like training. docs/predictors.md says what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from unirna.model.tensors import save_tensors
from unirna.tasks.baselines import kmer_frequencies, letter_digits
from unirna.tasks.classification import sureness
from unirna.tasks.errors import TaskError
from unirna.tasks.head import LinearHead
from unirna.tasks.nearest import Codes, unit_vectors
from unirna.tasks.negatives import coding_pieces, low_complexity, repeats, shuffles

FILE: Final = "detector.safetensors"
ALPHA: Final = 0.05
"""Conformal p-value below which a sequence is out of distribution: so is one in twenty that does belong to the classes."""
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
"""Nucleotides of a shuffle; longer rows are cut."""
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
class Detector:
    """Scores sequences by how like they are to a classifier's training rows.

    Attributes:
        centre: float32 [H], the mean training vector.
        members, others: vectors of training rows, and of shuffles and low complexity.
        none: "none of these" classifiers on vectors, 4-mer frequencies and outputs of models: one output each.
        weights: of the features.
        bounds: float32 [2, F], the least and the greatest value of each feature in fitting.
        complexity: the least that a sequence like the training rows has (`complexity_of`).
        cosine: the least that such a sequence has with the nearest training vector.
        held_out: float64 [K], scores of validation rows, ascending.
    """

    centre: NDArray[np.float32]
    members: Codes
    others: Codes
    none: tuple[LinearHead, LinearHead, LinearHead]
    weights: LinearHead
    bounds: NDArray[np.float32]
    complexity: float
    cosine: float
    held_out: Scores

    def scores(self, read: Reading) -> Scores:
        """How like each is to the RNA of the classes, float64 [N]; higher is more like."""
        features = self._features(read)
        simple = np.array([complexity_of(sequence) < self.complexity for sequence in read.sequences], bool)
        far = features[:, 0] < self.cosine
        return np.where(simple | far, LOWEST, self.weights.outputs(np.clip(features, *self.bounds))[:, 0])

    def p_values(self, read: Reading) -> NDArray[np.float32]:
        """Share of members that are no more like training than each, float32 [N], from 1 / (K + 1) up."""
        places = np.searchsorted(self.held_out, self.scores(read), "right")
        found: NDArray[np.float32] = ((1 + places) / (1 + len(self.held_out))).astype(np.float32)
        return found

    def _features(self, read: Reading) -> NDArray[np.float32]:
        return _features(read, self.centre, self.members, self.others, self.none)

    def save(self, folder: Path) -> None:
        """Write it into a predictor's folder."""
        arrays: dict[str, NDArray[Any]] = {"centre": self.centre, "held_out": self.held_out.astype(np.float32)}
        arrays |= {"bounds": self.bounds, "least": np.array([self.complexity, self.cosine])}
        for name, codes in (("members", self.members), ("others", self.others)):
            arrays |= {f"{name}.packed": codes.packed, f"{name}.scale": codes.scale}
        for name, head in zip(("vector", "kmers", "outputs", "weights"), (*self.none, self.weights), strict=True):
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
            none = (heads[0], heads[1], heads[2])
            complexity, cosine = arrays["least"].tolist()
            held_out = arrays["held_out"].astype(np.float64)
            facts = (arrays["bounds"], complexity, cosine, held_out)
            return cls(arrays["centre"], members, others, none, heads[3], *facts)
        except (SafetensorError, OSError, KeyError, TypeError) as error:
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
    none = (vector, kmers, outputs)
    tuned = valid.take(np.sort(random.permutation(len(valid.sequences))[:MOST_FITTED]))
    shuffled = read(shuffles([sequence[:LONGEST] for sequence in tuned.sequences], random))
    ours, theirs = (_features(reading, centre, members, negatives, none) for reading in (tuned, shuffled))
    held_out = np.empty(len(ours))
    for fold in range(FOLDS):
        out = np.arange(len(ours)) % FOLDS == fold
        held_out[out] = _weights(ours[~out], theirs[~out]).outputs(ours[out])[:, 0]
    whole = _weights(ours, theirs)
    held_out = np.sort(held_out)
    if len(held_out) > MOST_SCORES:
        held_out = held_out[np.linspace(0, len(held_out) - 1, MOST_SCORES).round().astype(int)]
    complexity = float(np.quantile([complexity_of(sequence) for sequence in train.sequences], LEAST_COMPLEX))
    cosine = float(np.quantile(ours[:, 0], FARTHEST))
    both = np.concatenate([ours, theirs])
    bounds = np.stack([both.min(axis=0), both.max(axis=0)])
    return Detector(centre, members, negatives, none, whole, bounds, complexity, cosine, held_out)


def complexity_of(sequence: str) -> float:
    """Entropy of a normalised sequence's 3-mers over the most that its length allows: 0 for a homopolymer, 1 at most."""
    digits = letter_digits(sequence)
    if len(digits) < 4:
        return 0.0
    counts = np.bincount(np.maximum(digits[:-2], 0) * 16 + np.maximum(digits[1:-1], 0) * 4 + np.maximum(digits[2:], 0))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(min(64, len(digits) - 2)))


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
    return {name: {"unflagged": round(float((p >= ALPHA).mean()), 4), "n": len(p)} for name, p in found.items()}


def facts_of_detector(
    detector: Detector, members: Reading, read: Read, more: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """What `predictor.json` says of a detector; arguments as for `measure_detector`."""
    return {
        "alpha": ALPHA,
        "validation_scores": len(detector.held_out),
        "unflagged": measure_detector(detector, members, read, more),
    }


def _features(
    read: Reading, centre: NDArray[np.float32], members: Codes, others: Codes, none: Sequence[LinearHead]
) -> NDArray[np.float32]:
    """float32 [N, 11], in the order of the module's text."""
    units = unit_vectors(read.vectors, centre)
    margins = [head.outputs(features) for head, features in zip(none, _none_features(read), strict=True)]
    top = read.outputs.max(axis=1)
    energy = top + np.log(np.exp(read.outputs - top[:, None]).sum(axis=1))
    lengths = np.log([max(len(sequence), 1) for sequence in read.sequences])
    near = (members.cosines(units, MEMBER_RANKS), others.cosines(units, OTHER_RANKS))
    found: NDArray[np.float32] = np.column_stack([*near, *margins, sureness(read.outputs), energy, lengths])
    return found.astype(np.float32)


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
