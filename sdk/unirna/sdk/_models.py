"""What clients give back: small typed objects. `_results` has the tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unirna.sdk import _structure_files


@dataclass(frozen=True)
class Alignment:
    """The best local alignment of the query and a hit.

    Attributes:
        alignment_score: match 5, mismatch -4, a gap of n nucleotides -(8 + 6 n).
        identity: share of columns with equal nucleotides. query_coverage, target_coverage: share of each sequence that it
            spans.
        query_start, query_end, target_start, target_end: half-open, from 0.
        cigar: with = and X; I are nucleotides of the query that the hit lacks.

    All but the score is None for two sequences so long that only their score is worked out.
    """

    alignment_score: int
    identity: float | None
    query_coverage: float | None
    target_coverage: float | None
    query_start: int | None
    query_end: int | None
    target_start: int | None
    target_end: int | None
    cigar: str | None


@dataclass(frozen=True)
class Hit:
    """A stored sequence and how near it is to the query.

    Attributes:
        id: as it stands in the collection.
        similarity: cosine of the two vectors; 1 = same direction.
        sequence: the RNA sequence. length: in nucleotides.
        labels: the collection's other columns.
        rank: from 1.
        found_by: "vector", or in a hybrid search also "kmers" or "both".
        alignment: in an aligned search.
        p: how often the best hit of a random sequence of the query's length is as good; None if that is not known.
    """

    id: str
    similarity: float
    sequence: str = field(repr=False)
    length: int
    labels: Mapping[str, Any]
    rank: int
    found_by: str = "vector"
    alignment: Alignment | None = None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What every prediction says.

    Attributes:
        applicable: whether the sequence is what the predictor takes (`ModelInfo.requirements`); if not, there is no label,
            value or probability.
        reason: why it does not apply, None if it does.
        motifs: motifs that the predictor reports -> whether the sequence has them.
        in_training_length_range: whether the length is within that of the training sequences; if not, treat the answer as a
            guess.
    """

    applicable: bool = True
    reason: str | None = None
    motifs: Mapping[str, bool] = field(default_factory=dict, repr=False)
    in_training_length_range: bool = True


@dataclass(frozen=True)
class Prediction(Answer):
    """The most probable class of a sequence.

    Attributes:
        label: the class. probability: its share. Both are None if the predictor does not apply.
        probabilities: the most probable classes, best first.
        conformal_p_value: share of held-out RNA of these classes that is no more like training than this sequence. None
            where it was not measured.
        out_of_distribution: whether the sequence is unlike the RNA of these classes (p-value below a limit between .02
            and .06 that stands on the card), so that the label is not to be trusted. None if it was not measured.
    """

    label: str | None
    probability: float | None
    probabilities: Mapping[str, float] = field(repr=False)
    conformal_p_value: float | None = None
    out_of_distribution: bool | None = None


@dataclass(frozen=True)
class LabelSet(Answer):
    """The labels of a sequence, of several that are each true or not.

    Attributes:
        labels: those whose probability is above their threshold (`PredictionResult.thresholds`); none where the predictor
            does not apply.
        probabilities: the most probable labels, best first, each between 0 and 1 by itself; as many as `top` says, by
            default all.
        all_probabilities: of all labels, best first.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float] = field(repr=False)
    all_probabilities: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Estimate(Answer):
    """The predicted value of a sequence.

    Attributes:
        value: the prediction, None if the predictor does not apply.
        low, high: its interval, which holds nine of ten new values; None if it has no bounds.
        unit: of the three, "" if none was named.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str = ""


@dataclass(frozen=True)
class Profile(Answer):
    """The predicted values of a sequence's nucleotides.

    Attributes:
        values: one for each nucleotide; none where the predictor does not apply.
        half_width: nine of ten new values are no further from the prediction; None if there are no bounds.
        unit: of these, "" if none was named.
    """

    values: tuple[float, ...] = field(repr=False)
    half_width: float | None
    unit: str = ""


@dataclass(frozen=True)
class Structure:
    """The secondary structure of a sequence of L nucleotides.

    Attributes:
        sequence: the RNA sequence. structure: in brackets; helices that cross the others, pseudoknots, in [].
        pairs: pairs (from 0) with their probability over all nested structures, those of .05 and more.
        certainty: of each nucleotide, to be paired if it is, unpaired if not.
        svg: a drawing, coloured by the certainty.
        free_energy: of the structure without its crossing helices, in kcal/mol at 37 °C, by the Turner 2004 parameters;
            None from services that do not give it.
        plot: a plot of the pair probabilities as SVG; empty unless it was asked for.
        contacts: nucleotides (from 0), six apart or more, that are close in space with a probability of .2 and more, and
            that; empty unless they were asked for.
    """

    sequence: str
    structure: str
    pairs: tuple[tuple[int, int, float], ...] = field(repr=False)
    certainty: tuple[float, ...] = field(repr=False)
    svg: str = field(repr=False)
    contacts: tuple[tuple[int, int, float], ...] = field(default=(), repr=False)
    free_energy: float | None = None
    plot: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.sequence}\n{self.structure}"

    def to_dot_bracket(self, name: str = "sequence") -> str:
        """The structure as three lines: `>name`, the sequence, the brackets."""
        return _structure_files.dot_bracket(self.sequence, self.structure, name)

    def to_ct(self, name: str = "sequence") -> str:
        """The structure as a connectivity table (CT), pseudoknots included; its title has the free energy."""
        return _structure_files.ct(self.sequence, self.structure, name, self.free_energy)

    def to_bpseq(self, name: str = "sequence") -> str:
        """The structure as BPSEQ, pseudoknots included."""
        return _structure_files.bpseq(self.sequence, self.structure, name)

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True)
class VariantScore:
    """A variant and its score by the language model.

    Attributes:
        variant: as it was asked for, such as "A10G". score: in nats; positive: more likely than the sequence.
    """

    variant: str
    score: float


@dataclass(frozen=True)
class Record:
    """A stored sequence.

    Attributes:
        id: as it stands in the collection. sequence: the RNA sequence. length: in nucleotides.
        labels: the collection's other columns.
    """

    id: str
    length: int
    sequence: str = field(repr=False)
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class CollectionInfo:
    """A collection of the store.

    Attributes:
        name: its name. num_rows: sequences in it. dimension: numbers of a vector.
        model, fingerprint: what made the vectors. columns: name -> Arrow type. version: grows with each change.
        searchable: whether this client's model made it. default: searched when none is named.
    """

    name: str
    num_rows: int
    dimension: int
    model: str
    fingerprint: str
    columns: Mapping[str, str] = field(repr=False)
    version: int
    searchable: bool
    default: bool


@dataclass(frozen=True)
class ModelInfo:
    """A model: the encoder that makes vectors, or a predictor.

    Attributes:
        name: its name; of a predictor, what `predict` takes.
        kind: "encoder", or the predictor's task such as "sequence-classification".
        fingerprint: of the encoder. dimension: numbers of a vector, None for a predictor.
        labels: classes of a predictor, none where it predicts values. metrics: what was measured of it.
        unit: of a predictor's values, "" if none was named.
        lengths: shortest and longest sequence that a predictor was made from, in nucleotides.
        requirements: what a predictor takes: what, min_length, max_length, required and reported motifs; text has all of
            it in one line.
        base_rates: share of each class or label in a predictor's training data; None for values.
        thresholds: probability above which each label is said to be true; None for predictors without labels.
        primary_metric: of a predictor the metric by which it is judged, on its test rows: metric, value, low, high, n.
        verdict: what a predictor is worth: level ("strong", "moderate", "weak", "none"), text, and the numbers behind it.
    """

    name: str
    kind: str
    fingerprint: str
    dimension: int | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)
    metrics: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unit: str = ""
    lengths: tuple[int, int] | None = None
    requirements: Mapping[str, Any] = field(default_factory=dict, repr=False)
    base_rates: Mapping[str, float] | None = field(default=None, repr=False)
    thresholds: Mapping[str, float] | None = field(default=None, repr=False)
    primary_metric: Mapping[str, Any] = field(default_factory=dict, repr=False)
    verdict: Mapping[str, Any] = field(default_factory=dict, repr=False)
