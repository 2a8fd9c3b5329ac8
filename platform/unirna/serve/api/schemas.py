"""Bodies of requests and responses, as `/openapi.json` and `/docs` show them.

Types are checked here; what a value means (is it RNA, is k within the limits) is checked by the engine, so that the local
client gives the same errors.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SEQUENCE = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FieldProblem(_Response):
    """A field at fault."""

    field: str
    message: str


class SearchRequest(_Request):
    """Give exactly one of `similar_to`, `queries`, `vector` and `id`."""

    similar_to: str | None = Field(
        None,
        description="An RNA or DNA sequence, or the identifier or accession of a stored sequence.",
        examples=[SEQUENCE],
    )
    queries: list[str] | None = Field(
        None,
        description="Several sequences, at most `max_sequences`. The answer has `results`, one for each in this order.",
        json_schema_extra={"minItems": 1},
    )
    vector: list[float] | None = Field(None, description="A vector of this service's model, as /v1/embed returns it.")
    id: str | None = Field(None, description="The id of a stored sequence; it will be its own first hit.")
    k: int = Field(10, description="Number of hits for each query.", json_schema_extra={"minimum": 1})
    offset: int = Field(0, description="Number of hits to skip first.", json_schema_extra={"minimum": 0})
    where: str | None = Field(None, description="SQL condition on the collection's columns.", examples=["length < 200"])
    collection: str | None = Field(None, description="Which collection; by default the service's.")
    hybrid: bool = Field(False, description="Also search by shared 8-mers, without alignment. Not with `vector`.")
    verify: bool | None = Field(
        None,
        description="Hybrid search, then re-rank the best hits by local alignment score. By default (null) this is done "
        "for queries of up to 2,000 nucleotides where the collection's 8-mers fit in memory, and `hybrid` is false; false "
        "searches by the vector alone.",
    )


class Alignment(_Response):
    """The best local alignment of the query and a hit. All but the score is null for sequences too long to trace."""

    alignment_score: int = Field(description="Match 5, mismatch -4, a gap of n nucleotides -(8 + 6 n).")
    identity: float | None = Field(description="Share of the alignment's columns with equal nucleotides.")
    query_coverage: float | None = Field(description="Share of the query that the alignment spans.")
    target_coverage: float | None = Field(description="Share of the hit that the alignment spans.")
    query_start: int | None = Field(description="Half-open, from 0.")
    query_end: int | None
    target_start: int | None
    target_end: int | None
    cigar: str | None = Field(description="With = and X; I are nucleotides that the hit lacks.")


class Hit(_Response):
    """A stored sequence and its similarity to the query."""

    rank: int = Field(description="From 1.")
    id: str
    similarity: float = Field(description="Cosine of the two vectors; 1 = same direction.")
    p: float | None = Field(
        description="How often the best hit of a random sequence of the query's length is as good; null where that was not "
        "measured for the collection (unirna collections calibrate)."
    )
    found_by: Literal["vector", "kmers", "both"] = Field(
        description="Which ranking found it: by vector, by k-mers, or both."
    )
    alignment: Alignment | None = Field(description="The alignment, if hits were aligned.")
    length: int = Field(description="Nucleotides.")
    sequence: str
    labels: dict[str, Any] = Field(description="The other columns of the collection.")


NOTES = "How the query was understood where that is not plain, and why a filter passes no row; mostly empty."
ALIGNED = "Whether 8-mers were searched too, and the best hits ranked by their alignment."


class SearchResponse(_Response):
    """Hits, best first."""

    collection: str
    model: str = Field(description="The model that made the vectors.")
    hits: list[Hit]
    aligned: bool = Field(description=ALIGNED)
    query_id: str | None = Field(description="Id of the stored sequence that was the query, if it was one.")
    better_than_chance: int | None = Field(description="Number of hits with p of at most .05; null if p is not known.")
    verdict: str = Field(description="The same as a sentence; empty if there is no hit.")
    notes: list[str] = Field(description=NOTES)


class QueryResult(_Response):
    """The hits of one of several queries, best first."""

    hits: list[Hit]
    aligned: bool = Field(description=ALIGNED)
    query_id: str | None = Field(description="Id of the stored sequence that was the query, if it was one.")
    better_than_chance: int | None = Field(description="Number of hits with p of at most .05; null if p is not known.")
    verdict: str = Field(description="The same as a sentence; empty if there is no hit.")
    notes: list[str] = Field(description=NOTES)
    error: FieldProblem | None = Field(description="Why this query was not searched; null if it was.")


class SearchManyResponse(_Response):
    """The answer to several queries."""

    collection: str
    model: str = Field(description="The model that made the vectors.")
    results: list[QueryResult] = Field(description="One for each query, in their order.")


class ParseRequest(_Request):
    """Text that contains sequences: FASTA, FASTQ, GenBank, EMBL, an alignment, a table, or plain lines."""

    text: str = Field(description="The text as pasted or read from a file.", examples=[">my_rna\nGGGAAA-CCC\n"])
    id_column: str = Field("", description="Column of identifiers in a table; by default it is recognised.")
    sequence_column: str = Field("", description="Column of sequences in a table; by default it is recognised.")


class ParsedRecord(_Response):
    """A sequence of a text."""

    name: str = Field(description="Its identifier; empty if the text has none.")
    sequence: str = Field(description="Without white space, numbers, gaps and a final '*'.")
    line: int = Field(description="Line on which it begins, from 1.")
    problem: str = Field(description="Why it cannot be used, with line and column; else empty.")


class ParseResponse(_Response):
    """What a text holds."""

    format: Literal["plain", "fasta", "fastq", "genbank", "embl", "stockholm", "clustal", "table"]
    count: int = Field(description="Number of sequences in the text.")
    problems: int = Field(description="Number of these that cannot be used.")
    records: list[ParsedRecord] = Field(description="The first 500 of them.")
    notes: list[str] = Field(description="What was removed or assumed.")
    columns: list[str] = Field(description="Column names, if the text is a table.")
    sequence_column: str = Field(
        description="The column of sequences that was read from a table; empty if `question` asks for it."
    )
    question: str = Field(description="A question that must be answered first; else empty.")
    identifier: str = Field(description="The text, if it may be the identifier of a stored sequence; else empty.")


class EmbedRequest(_Request):
    """Sequences to turn into vectors."""

    sequences: list[str] = Field(
        description="RNA or DNA sequences, upper or lower case.", examples=[["GGGAAACCC", SEQUENCE]]
    )
    encoding: Literal["json", "base64", "arrow"] = Field(
        "json",
        description="'json': lists of numbers; 'base64': one text, little-endian float32 [N, H]; 'arrow': the answer is an "
        "Arrow IPC stream of one column, `vector`, with model and fingerprint in the metadata of its schema.",
    )


class EmbedResponse(_Response):
    """One vector per sequence, in their order."""

    model: str
    fingerprint: str
    dimension: int = Field(description="H, the length of a vector.")
    vectors: list[list[float]] | str


class PredictRequest(_Request):
    """Sequences to predict for."""

    sequences: list[str] = Field(
        description="RNA or DNA sequences, upper or lower case; for a predictor of what two differ by, FIRST&SECOND.",
        examples=[[SEQUENCE]],
    )
    top: int | None = Field(
        None,
        description="How many classes or labels have their probability given, the most probable ones; 0 gives all. By "
        "default all of up to 20, else 5.",
        json_schema_extra={"minimum": 0},
    )
    prior: float | dict[str, float] | None = Field(
        None,
        description="Prevalence to compute the probabilities for, instead of that of the training data "
        "(`base_rates`): a share for all labels, such as 0.05, or a share for each class or label that is named, such as "
        '{"Human Brain": 0.05}.',
    )


class _Answer(_Response):
    applicable: bool = Field(
        True, description="Whether the sequence meets the predictor's requirements; otherwise it has no answer."
    )
    reason: str | None = Field(None, description="Why the predictor does not apply, or null.")
    motifs: dict[str, bool] = Field({}, description="Motifs that the predictor reports, and whether the sequence has them.")
    in_training_length_range: bool = Field(
        True,
        description="Whether the length is within that of the training sequences; if not, treat the answer as a guess.",
    )


class Prediction(_Answer):
    """The most probable class of a sequence."""

    label: str | None = Field(description="Null if the predictor does not apply, as are the fields that follow.")
    probability: float | None
    probabilities: dict[str, float] = Field(description="The most probable classes, best first.")
    conformal_p_value: float | None = Field(
        None,
        description="Conformal p-value: share of held-out RNA of these classes that is no closer to training, or null.",
    )
    out_of_distribution: bool | None = Field(
        None,
        description="Whether the sequence is unlike the RNA of these classes (conformal_p_value below a limit "
        "between .02 and .06 that stands on the card), so that the label is not to be trusted; null "
        "where it was not measured.",
    )


class LabelSet(_Answer):
    """The labels of a sequence that are true, of several."""

    labels: list[str] = Field(description="Those whose probability is above their threshold (`thresholds`).")
    probabilities: dict[str, float] = Field(description="The most probable labels, best first.")


class Estimate(_Answer):
    """The value of a sequence."""

    value: float | None = Field(description="Null if the predictor does not apply, as is its interval.")
    low: float | None = Field(description="Lower end of the 90 % prediction interval, or null.")
    high: float | None = Field(description="Upper end of the interval.")
    unit: str = Field(description="Unit of value, low and high; empty if none was given.")


class Profile(_Answer):
    """The values of a sequence's nucleotides."""

    values: list[float] = Field(description="One for each nucleotide; empty if the predictor does not apply.")
    half_width: float | None = Field(description="Half-width of the 90 % prediction interval, or null.")
    unit: str = Field(description="Unit of the values; empty if none was given.")


class PredictResponse(_Response):
    """One prediction per sequence, in their order: all of classes, labels, values, or nucleotides' values, by the task."""

    task: str
    base_rates: dict[str, float] | None = Field(
        None,
        description="Share of each class or label in the training data, for which the probabilities are computed; or null.",
    )
    thresholds: dict[str, float] | None = Field(
        None, description="Probability threshold above which each label counts as true."
    )
    prior: float | dict[str, float] | None = Field(
        None, description="The prevalence in the request, for which the probabilities are computed."
    )
    predictions: list[Prediction] | list[LabelSet] | list[Estimate] | list[Profile]


class FoldRequest(_Request):
    """Sequences to fold."""

    sequences: list[str] = Field(description="RNA or DNA sequences, upper or lower case.", examples=[[SEQUENCE]])
    drawing: bool = Field(False, description="Also return a drawing of each structure as SVG.")
    contacts: bool = Field(False, description="Also return the nucleotides that are close in space.")
    pseudoknots: bool = Field(True, description="Add helices that cross the nested structure.")
    constraints: list[str | None] | None = Field(
        None,
        description="Constraint on the structure of each sequence, one character per nucleotide as in ViennaRNA: "
        "`.` free, `x` unpaired, `|` paired, `<` paired with a later nucleotide, `>` with an earlier one, `(` and `)` "
        "paired with each other. null or an empty text for none.",
    )
    plot: bool = Field(False, description="Also return a plot of the pair probabilities of each as SVG.")


class Structure(_Response):
    """The secondary structure of a sequence of L nucleotides."""

    sequence: str
    structure: str = Field(description="Dot-bracket notation; crossing helices are in [].")
    pairs: list[tuple[int, int, float]] = Field(
        description="Pairs (from 0) with their probability over all nested structures, from .05 on."
    )
    certainty: list[float] = Field(description="Probability of each nucleotide's state: that it is paired, or unpaired.")
    free_energy: float = Field(
        description="Free energy without the crossing helices, in kcal/mol at 37 °C, by the Turner 2004 parameters."
    )
    svg: str | None = Field(description="With drawing.")
    contacts: list[tuple[int, int, float]] | None = Field(
        None, description="With contacts: nucleotides (from 0), six apart or more, with their probability, from .2 on."
    )
    plot: str | None = Field(None, description="With plot.")


class FoldResponse(_Response):
    """One structure per sequence, in their order."""

    structures: list[Structure]


class VariantsRequest(_Request):
    """Variants of a sequence to score."""

    sequence: str = Field(description="An RNA or DNA sequence, upper or lower case.", examples=[SEQUENCE])
    variants: list[str] | None = Field(
        None,
        description="Such as A10G (from 1), or G1C+C72G for several substitutions at once; by default all single ones.",
        examples=[["G1C", "G1C+C72G"]],
    )
    method: Literal["masked", "pseudo-likelihood"] = Field(
        "masked", description="'masked' hides the sites of a variant; 'pseudo-likelihood' compares whole sequences."
    )
    drawing: bool = Field(False, description="Also return a heat map of all single substitutions as SVG.")


class VariantScore(_Response):
    """A variant and its score."""

    variant: str
    score: float = Field(description="In nats; positive if the model finds the variant more likely than the sequence.")


class VariantsResponse(_Response):
    """Scores of variants, in their order."""

    sequence: str
    model: str
    method: str
    variants: list[VariantScore]
    svg: str | None = Field(description="With drawing, of all single substitutions.")


class EncoderInfo(_Response):
    """The model that makes vectors."""

    name: str
    fingerprint: str = Field(description="Identifies the architecture and the weights.")
    dimension: int
    context: int = Field(description="Longest sequence embedded in one piece, in nucleotides.")
    parameters: int


class Motif(_Response):
    """Nucleotides at a place of a sequence."""

    pattern: str = Field(description="IUPAC codes.")
    anchor: Literal["start", "centre", "end"] = Field(description="The nucleotide that `offset` counts from.")
    offset: int = Field(description="Place of the pattern's first nucleotide from the anchor.")
    why: str


class Requirements(_Response):
    """Requirements of a predictor."""

    what: str = Field(description="Description of valid sequences; it cannot be checked.")
    min_length: int | None = Field(description="Nucleotides; null for no limit.")
    max_length: int | None
    required: list[Motif] = Field(description="What a sequence must have.")
    reported: dict[str, Motif] = Field(description="Motifs that answers report in `motifs`.")
    text: str = Field(description="All of it in one line.")


class MetricValue(_Response):
    """A metric with its bootstrap 95 % interval."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="Rows (or nucleotides) that it was measured on.")


class VerdictInfo(_Response):
    """The verdict on a predictor."""

    level: Literal["strong", "moderate", "weak", "none"] = Field(
        description="none: unseen rows are predicted no better than by a constant answer."
    )
    text: str = Field(description="The verdict as text.")
    measure: str = Field(description="The measure: R2 of values, AUC of two classes, mean AUC of labels, kappa of classes.")
    value: float | None
    low: float | None = Field(description="The lower end of its 95 % interval.")
    high: float | None
    num_rows: int = Field(description="Number of unseen rows (or nucleotides) that it was measured on.")
    rows: str = Field(description="Which rows: test, or test and cross-validation.")
    baseline: str = Field(description="The best baseline.")
    baseline_value: float | None
    gain: float | None = Field(description="Improvement of the language model over the baselines; null if unknown.")
    gain_low: float | None
    gain_high: float | None


class PredictorInfo(_Response):
    """A predictor of the registry."""

    name: str
    task: str
    labels: list[str] = Field(description="Its classes; empty if it predicts values.")
    unit: str = Field("", description="Unit of its values; empty if none was given.")
    lengths: tuple[int, int] = Field(description="Shortest and longest training sequence, in nucleotides.")
    requirements: Requirements = Field(description="Its requirements; other sequences get no answer.")
    base_rates: dict[str, float] | None = Field(description="Share of each class or label in its training data.")
    thresholds: dict[str, float] | None = Field(
        description="Probability threshold above which each label counts as true, or null."
    )
    mode: str
    fingerprint: str = Field(description="Fingerprint of the encoder that it uses.")
    metrics: dict[str, Any]
    primary_metric: MetricValue = Field(description="The primary metric, on the test rows.")
    verdict: VerdictInfo
    has_plot: bool = Field(description="Whether /v1/models/{name}/plot exists: for values, not for classes.")


class ModelsResponse(_Response):
    """The models of this service."""

    encoder: EncoderInfo
    predictors: list[PredictorInfo]


class CollectionInfo(_Response):
    """A collection of the store."""

    name: str
    num_rows: int
    dimension: int
    model: str
    fingerprint: str
    columns: dict[str, str] = Field(description="Column -> type.")
    version: int
    searchable: bool = Field(description="Whether this service's model made it.")


class CollectionsResponse(_Response):
    """The collections of the store."""

    default: str | None = Field(description="The collection that is searched if a request names none.")
    collections: list[CollectionInfo]


class Record(_Response):
    """A stored sequence."""

    id: str
    length: int
    sequence: str
    labels: dict[str, Any]


class SampleResponse(_Response):
    """Sequences of a collection, in its order."""

    records: list[Record]


class CollectionResponse(CollectionInfo):
    """A collection, and a few of its sequences as examples."""

    examples: list[Record]


EXPORT = (
    "An Arrow IPC stream of `id`, `sequence`, `length`, `vector` (lists of float32) and the labels with their types. The "
    "metadata of its schema has `unirna.provenance`, what made the vectors (JSON), and `unirna.rows`, the number of rows."
)
MAP = (
    "A line of JSON (padded with spaces to a multiple of 4 bytes, its end included), then little-endian numbers: x and y "
    "of each point in turn as float32, then, with `label`, one number for each. The line says `points`, their number; "
    "`map`, a name that changes when the map is rebuilt; `rows` of the collection then and `num_rows` now, `added` since "
    "and `gone` (their x and y are NaN), and whether the map is `current`, of these very "
    "rows; `bounds` (left, bottom, right, top); `method`, `seed`, `model`, `fingerprint`; "
    "`columns` to colour by, with their kind; `label`, its `column` and `kind`. Of kind `classes` the numbers are uint16 "
    "codes: 0 for none, 1 for other, from 2 on the `values` with their `count`, the most frequent first. Of kind `values` "
    "they are float32, NaN for none, with `min`, `low` (2nd percentile), `high` (98th) and `max`. With `ids` a JSON list "
    "of all ids comes last."
)


class MapRecordsRequest(_Request):
    """Points of a map."""

    points: list[int] = Field(description="Places in the map's answer, from 0; at most 1,000.", examples=[[0, 1]])
    map: str | None = Field(None, description="The map they are of, as its answer says; another one is refused.")


class MapRecord(Record):
    """A stored sequence on the map."""

    point: int


class MapRecordsResponse(_Response):
    """Records, in the order asked for."""

    collection: str
    records: list[MapRecord]


class MapPlaceRequest(_Request):
    """A sequence to place on the map."""

    sequence: str = Field(description="An RNA or DNA sequence, upper or lower case.", examples=[SEQUENCE])


class Neighbour(_Response):
    """A stored sequence on the map that is near in the space of the vectors."""

    point: int = Field(description="Its place in the map's answer.")
    id: str
    similarity: float = Field(description="Cosine of the two vectors; 1 = same direction.")


class MapPlaceResponse(_Response):
    """Where a sequence belongs on the map."""

    collection: str
    map: str = Field(description="The map's name; another one than that of the points you have means: read it again.")
    x: float
    y: float
    neighbours: list[Neighbour] = Field(description="The nearest on the map, best first.")


class Status(_Response):
    """Whether the service is there."""

    status: Literal["ok"]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem]
