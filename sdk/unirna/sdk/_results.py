"""Tables of what clients give back: they print well and turn into data frames."""

from __future__ import annotations

import base64
import copy
import html
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, overload

from unirna.base import percent
from unirna.sdk._models import (
    Alignment,
    Answer,
    Estimate,
    Hit,
    LabelSet,
    Prediction,
    Profile,
    Record,
    Structure,
    VariantScore,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    import pyarrow
    from numpy.typing import NDArray

Item = TypeVar("Item")
FIRST_LABELS = ("family", "family_name", "rna_type")
"""Labels that are shown first where a collection has them."""
HIT_COLUMNS: Final = ("rank", "id", "similarity", "p", "length", "sequence")
"""Columns that every table of hits has."""

LARGE: Final = 2**63
"""The least whole number that int64 does not hold."""
FLOATS: Final = 2**53
"""Up to here float64 holds each whole number."""


class _Table(ABC):
    """Turns columns into the tables of other libraries."""

    @abstractmethod
    def _columns(self) -> dict[str, Any]: ...

    def to_arrow(self) -> pyarrow.Table:
        """All of it as an Arrow table.

        Raises:
            ImportError: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError('to_arrow needs pyarrow: pip install "unirna[vectorstore]"') from error
        return pyarrow.table({name: _arrow(values) for name, values in self._columns().items()})

    def to_pandas(self) -> pandas.DataFrame:
        """All of it as a pandas data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        # Whole numbers beside missing ones become floats in pandas, which large ones do not survive.
        columns = {name: (values, _pandas_type(values)) for name, values in self._columns().items()}
        return pandas.DataFrame(
            {
                name: values if kind is None else pandas.Series(values, dtype=kind)
                for name, (values, kind) in columns.items()
            }
        )

    def to_polars(self) -> polars.DataFrame:
        """All of it as a polars data frame.

        Raises:
            ImportError: polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise ImportError("to_polars needs polars: pip install polars") from error
        columns = self._columns()
        wide = {name: _arrow(values) for name, values in columns.items() if _has_large(values)}
        return polars.DataFrame(columns | {name: polars.Series(name, column) for name, column in wide.items()})


def _arrow(values: Any) -> Any:
    """Values as an Arrow array; whole numbers of 2**63 and more, for which Arrow looks for no type, get one."""
    import pyarrow

    if not _has_large(values):
        return values
    if any(isinstance(value, float) for value in values):
        return pyarrow.array([None if value is None else float(value) for value in values])
    return pyarrow.array(values, _arrow_type(values))


def _has_large(value: Any) -> bool:
    """Whether a whole number of 2**63 or more stands somewhere in a value."""
    if isinstance(value, Mapping):
        return any(map(_has_large, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_large, value))
    return isinstance(value, int) and value >= LARGE


def _pandas_type(values: Any) -> str | None:
    """The pandas type of whole numbers that float64 or int64 does not hold; None for what pandas chooses well itself."""
    if not isinstance(values, list) or not any(isinstance(value, int) and abs(value) > FLOATS for value in values):
        return None
    present = [value for value in values if value is not None]
    if not all(isinstance(value, int) for value in present):
        return None
    if min(present) >= 0 and max(present) < 2 * LARGE:
        return "UInt64" if max(present) >= LARGE else "Int64"
    return "Int64" if min(present) >= -LARGE and max(present) < LARGE else "object"


def _arrow_type(values: Sequence[Any]) -> pyarrow.DataType:
    """The Arrow type of values among which there is a large whole number."""
    import pyarrow

    present = [value for value in values if value is not None]
    if not any(map(_has_large, present)):
        return pyarrow.array(present).type
    if all(isinstance(value, Mapping) for value in present):
        names = dict.fromkeys(name for value in present for name in value)
        return pyarrow.struct([(name, _arrow_type([value.get(name) for value in present])) for name in names])
    if all(isinstance(value, (list, tuple)) for value in present):
        return pyarrow.list_(_arrow_type([item for value in present for item in value]))
    if all(isinstance(value, int) for value in present):
        return pyarrow.uint64() if min(present) >= 0 and max(present) < 2 * LARGE else pyarrow.decimal128(38)
    return pyarrow.array(present).type  # values of several kinds: Arrow's error names them


class _Rows(_Table, Sequence[Item]):
    """A fixed sequence of items that can be shown as a table."""

    _always: tuple[str, ...] = ()
    """Columns of a table without rows."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Item | Self:
        if not isinstance(index, slice):
            return self._items[index]
        part = copy.copy(self)
        part._items = self._items[index]
        return part

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._items)

    @abstractmethod
    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dict for each item; labels are columns."""

    def _columns(self) -> dict[str, list[Any]]:
        rows = self.to_dicts()
        names = dict.fromkeys(name for row in rows for name in row) or self._always  # not all rows have all
        return {name: [row.get(name) for row in rows] for name in names}

    @abstractmethod
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown."""

    def __repr__(self) -> str:
        headings, rows = self.table()
        shown = rows[:20]
        widths = [max(map(len, column)) for column in zip(headings, *shown, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [headings, *shown]]
        more = [f"… {len(rows) - 20} more"] if len(rows) > 20 else []
        return "\n".join([f"{type(self).__name__}: {len(rows)}", *lines, *more])

    def _repr_html_(self) -> str:
        headings, rows = self.table()
        return _html(headings, [[html.escape(cell) for cell in row] for row in rows])


class SearchResult(_Rows[Hit]):
    """Hits, best first: a sequence of `Hit`.

    Attributes:
        collection: where they stand.
        model: what made the vectors.
        hybrid: whether k-mers were searched too.
        aligned: whether the best hits were aligned and ranked by that.
        better_than_chance: how many hits have a p of at most .05; None if chance was not measured for the collection.
        verdict: the same in words.
        notes: what the service says of the search, such as that the filter passes no row and why; mostly empty.
        error: of one of several queries, why it was not searched; None if it was.
    """

    _always = HIT_COLUMNS

    def __init__(
        self,
        hits: Sequence[Hit],
        collection: str,
        model: str,
        *,
        hybrid: bool = False,
        aligned: bool = False,
        better_than_chance: int | None = None,
        verdict: str = "",
        notes: Sequence[str] = (),
        error: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.collection, self.model, self.hybrid, self.aligned = collection, model, hybrid, aligned
        self.better_than_chance, self.verdict = better_than_chance, verdict
        self.notes, self.error = tuple(notes), error

    def __repr__(self) -> str:
        said = [self.verdict] if self.verdict else []
        return "\n".join([super().__repr__(), *said, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        said = [*([self.verdict] if self.verdict else []), *(f"note: {note}" for note in self.notes)]
        return super()._repr_html_() + "".join(f"<p>{html.escape(text)}</p>" for text in said)

    @property
    def labels(self) -> list[str]:
        """Names of the label columns, the best known first."""
        names = list(dict.fromkeys(name for hit in self for name in hit.labels))
        return sorted(names, key=lambda n: FIRST_LABELS.index(n) if n in FIRST_LABELS else len(FIRST_LABELS))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Keys: rank, id, similarity, p, length, sequence, the labels; of a hybrid search found_by, and the alignment's."""
        return [
            {"rank": h.rank, "id": h.id, "similarity": h.similarity, "p": h.p}
            | ({"found_by": h.found_by} if self.hybrid else {})
            | (asdict(h.alignment) if h.alignment is not None else {})
            | {"length": h.length, "sequence": h.sequence}
            | {name: h.labels.get(name) for name in self.labels}
            for h in self
        ]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown; the sequence is left out."""
        labels = self.labels
        verified = any(h.alignment is not None for h in self)
        rows = [
            [
                *(str(h.rank), h.id, f"{h.similarity:.4f}", "" if h.p is None else f"{h.p:.1g}"),
                *([h.found_by] if self.hybrid else []),
                *(_shares(h.alignment) if verified else []),
                *(str(h.length), *(_cell(h.labels.get(name)) for name in labels)),
            ]
            for h in self
        ]
        more = (["found by"] if self.hybrid else []) + (["identity", "coverage"] if verified else [])
        return ["rank", "id", "similarity", "p", *more, "length", *labels], rows


class SearchResults(_Rows[SearchResult]):
    """The results of several queries, in their order: a sequence of `SearchResult`.

    Attributes:
        names: of the queries, as they were given, else their numbers from 0 as text.
        collection: what was searched.
        model: what made the vectors.
    """

    _always = ("query", *HIT_COLUMNS)

    def __init__(self, results: Sequence[SearchResult], names: Sequence[str], collection: str, model: str) -> None:
        super().__init__(results)
        self.names, self.collection, self.model = tuple(names), collection, model

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        if isinstance(index, slice):
            part.names = self.names[index]
        return part

    @property
    def errors(self) -> dict[str, str]:
        """Of the queries that were not searched their names, and why."""
        return {name: found.error for name, found in zip(self.names, self, strict=True) if found.error is not None}

    def to_dicts(self) -> list[dict[str, Any]]:
        """One for each hit: the query's name under `query`, then as `SearchResult.to_dicts`."""
        return [{"query": name, **row} for name, found in zip(self.names, self, strict=True) for row in found.to_dicts()]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown: the best hit of each query."""
        rows = []
        for name, found in zip(self.names, self, strict=True):
            best = [found[0].id, f"{found[0].similarity:.4f}"] if len(found) else ["", ""]
            better = "" if found.better_than_chance is None else str(found.better_than_chance)
            rows.append([name, str(len(found)), better, *best, found.error or ""])
        return ["query", "hits", "better than chance", "best hit", "similarity", "error"], rows


class SampleResult(_Rows[Record]):
    """Stored sequences: a sequence of `Record`.

    Attributes:
        collection: where they stand.
    """

    _always = ("id", "length", "sequence")

    def __init__(self, records: Sequence[Record], collection: str) -> None:
        super().__init__(records)
        self.collection = collection

    def to_dicts(self) -> list[dict[str, Any]]:
        """Keys: id, length, sequence and the labels."""
        return [{"id": r.id, "length": r.length, "sequence": r.sequence} | dict(r.labels) for r in self]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown."""
        labels = list(dict.fromkeys(name for record in self for name in record.labels))
        rows = [[r.id, str(r.length), _short(r.sequence), *(_cell(r.labels.get(name)) for name in labels)] for r in self]
        return ["id", "length", "sequence", *labels], rows


class PredictionResult(_Rows[Prediction | LabelSet | Estimate | Profile]):
    """One prediction per sequence, in their order: `Prediction`, `LabelSet`, `Estimate` of values, or `Profile` of
    nucleotides' values.

    Attributes:
        task: the predictor's name.
        base_rates: share of each class or label in the training data, which the probabilities hold for; None for values.
        thresholds: probability above which each label is said to be true; None for other predictors.
        prior: the prevalence that was asked for, which the probabilities then hold for.
    """

    def __init__(
        self,
        predictions: Sequence[Prediction | LabelSet | Estimate | Profile],
        task: str,
        base_rates: Mapping[str, float] | None = None,
        thresholds: Mapping[str, float] | None = None,
        prior: float | Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(predictions)
        self.task, self.base_rates, self.thresholds, self.prior = task, base_rates, thresholds, prior

    def __repr__(self) -> str:
        rates = [*(self.base_rates or {}).values()] if any(isinstance(p, LabelSet) for p in self) else []
        if not rates or self.prior is not None:
            return super().__repr__()
        low, high = (f"{percent(share)}" for share in (min(rates), max(rates)))
        shares = low if low == high else f"{low} to {high}"
        return (
            f"{super().__repr__()}\nprobabilities hold where {shares} are true, as in training; prior= states other shares"
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Keys: label, probability, probabilities, conformal_p_value, out_of_distribution; or labels, probabilities; or
        value, low, high, unit; or values, half_width, unit; and applicable, reason, motifs, in_training_length_range. All
        labels have their probability."""
        return [_flat(p) for p in self]

    def _columns(self) -> dict[str, list[Any]]:
        """As `to_dicts`, with a column for each label, for each class where all were asked for, and for each motif."""
        rows = self.to_dicts()
        taken = {name for row in rows for name in row}
        names = list(self.base_rates or ()) or list(
            dict.fromkeys(share["label"] for row in rows for share in row.get("probabilities", ()))
        )
        complete = all(len(row.get("probabilities", names)) == len(names) for row in rows if row["applicable"])
        for row in rows:
            if names and complete and "probabilities" in row:
                found = {share["label"]: share["probability"] for share in row.pop("probabilities")}
                row |= {f"p({name})" if name in taken else name: found.get(name) for name in names}
            row |= {f"motif {name}" if name in taken else name: has for name, has in row.pop("motifs").items()}
        columns = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in columns}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown."""
        unit = next((f" ({p.unit})" for p in self if isinstance(p, Estimate | Profile) and p.unit), "")
        heads = {
            Estimate: [self.task + unit, "90 % interval"],
            Profile: ["nucleotides", f"{self.task}, mean{unit}", "highest", "at"],
            LabelSet: [self.task, "most probable"],
            Prediction: [self.task, "probability", "next"],
        }[type(self[0]) if len(self) else Prediction]
        rows = [_shown(p) if p.applicable else ["not applicable", p.reason or ""] for p in self]
        return heads, [[*row, *[""] * (len(heads) - len(row))] for row in rows]


class FoldResult(_Rows[Structure]):
    """One structure per sequence, in their order: a sequence of `Structure`."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Keys: sequence, structure, certainty (the mean), free_energy, pairs, and contacts where they were asked for."""
        return [
            {
                "sequence": s.sequence,
                "structure": s.structure,
                "certainty": sum(s.certainty) / len(s.certainty),
                "free_energy": s.free_energy,
                "pairs": [{"i": i, "j": j, "probability": p} for i, j, p in s.pairs],
                **({"contacts": [{"i": i, "j": j, "probability": p} for i, j, p in s.contacts]} if s.contacts else {}),
            }
            for s in self
        ]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown."""
        return ["sequence", "structure", "certainty", "kcal/mol"], [
            [_short(s.sequence), _short(s.structure), f"{sum(s.certainty) / len(s.certainty):.3f}", _energy(s.free_energy)]
            for s in self
        ]

    def _repr_html_(self) -> str:
        headings, rows = self.table()
        cells = [[html.escape(cell) for cell in row] for row in rows]
        return _html(["drawing", *headings], [[_sketch(s.svg), *row] for s, row in zip(self, cells, strict=True)])


def _energy(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _html(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML already."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sketch(svg: str) -> str:
    """A drawing as a small picture; what stands in it cannot run."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="" width="140" src="data:image/svg+xml;base64,{data}">' if svg else ""


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class VariantResult(_Rows[VariantScore]):
    """Scores of variants, in their order: a sequence of `VariantScore`.

    Attributes:
        sequence: the RNA sequence, whose variants they are. model, method: what scored them.
        svg: a heat map, where all single substitutions were scored; else empty.
    """

    def __init__(self, scores: Sequence[VariantScore], sequence: str, model: str, method: str, svg: str) -> None:
        super().__init__(scores)
        self.sequence, self.model, self.method, self.svg = sequence, model, method, svg

    def to_dicts(self) -> list[dict[str, Any]]:
        """Keys: variant, score."""
        return [asdict(score) for score in self]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as they are shown."""
        return ["variant", "score"], [[s.variant, f"{s.score:+.3f}"] for s in self]

    def _repr_html_(self) -> str:
        return self.svg or super()._repr_html_()


@dataclass(frozen=True, eq=False, repr=False)
class MapResult(_Table):
    """The map of a collection: its points, in one order.

    Attributes:
        ids: of the rows. places: float32 [N, 2].
        values: of the label, if one was asked for: texts, of which those beyond the 250 most frequent are "other", or
            numbers; None if a row has none.
        collection: its name. label: that was asked for. method: "umap" or "pca".
        rows: that the collection had when the map was made. added: that came since, and are not on it.
    """

    ids: tuple[str, ...]
    places: NDArray[np.float32]
    values: tuple[Any, ...] | None
    collection: str
    label: str | None
    method: str
    rows: int
    added: int

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        late = f", {self.added:,} added since" if self.added else ""
        return f"MapResult({self.collection!r}, {len(self):,} of {self.rows:,} rows, {self.method}{late})"

    def _columns(self) -> dict[str, Any]:
        """id, x, y, and the label under its name."""
        columns: dict[str, Any] = {"id": list(self.ids), "x": self.places[:, 0], "y": self.places[:, 1]}
        return columns if self.label is None or self.values is None else columns | {self.label: list(self.values)}


def _flat(prediction: Prediction | LabelSet | Estimate | Profile) -> dict[str, Any]:
    """A prediction as a dict, the answer first."""
    row = asdict(prediction)
    shares = row.pop("all_probabilities", None)
    if shares is not None:
        row |= {"labels": list(row["labels"]), "probabilities": _listed(shares or row["probabilities"])}
    elif "probabilities" in row:
        row["probabilities"] = _listed(row["probabilities"])
    last = [field.name for field in fields(Answer)]
    return {name: value for name, value in row.items() if name not in last} | {name: row[name] for name in last}


def _shown(prediction: Prediction | LabelSet | Estimate | Profile) -> list[str]:
    """The cells of a prediction where the predictor applies."""
    doubt = _doubt(prediction)
    if isinstance(prediction, Estimate):
        return [f"{prediction.value:.4g}", _interval(prediction) + doubt]
    if isinstance(prediction, Profile):
        return _peak(prediction)
    if isinstance(prediction, LabelSet):
        return [", ".join(prediction.labels) or "none", _most(prediction.probabilities) + doubt]
    return [_label(prediction), f"{prediction.probability:.3f}", _others(prediction) + doubt]


def _peak(profile: Profile) -> list[str]:
    values, highest = profile.values, max(profile.values)
    place = f"{values.index(highest) + 1}{_doubt(profile)}"
    return [f"{len(values):,}", f"{sum(values) / len(values):.4g}", f"{highest:.4g}", place]


def _interval(estimate: Estimate) -> str:
    low, high = ("–" if end is None else f"{end:.4g}" for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def _listed(probabilities: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"label": name, "probability": share} for name, share in probabilities.items()]


def _doubt(prediction: Prediction | LabelSet | Estimate | Profile) -> str:
    return "" if prediction.in_training_length_range else " (a guess: its length is outside the training range)"


def _label(prediction: Prediction) -> str:
    return f"{prediction.label} (out of distribution)" if prediction.out_of_distribution else str(prediction.label)


def _others(prediction: Prediction) -> str:
    return _most({name: share for name, share in prediction.probabilities.items() if name != prediction.label}, 2)


def _most(probabilities: Mapping[str, float], count: int = 3) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in list(probabilities.items())[:count])


def _shares(alignment: Alignment | None) -> list[str]:
    shares = (None, None) if alignment is None else (alignment.identity, alignment.query_coverage)
    return ["" if share is None else f"{percent(share, 1)}" for share in shares]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
