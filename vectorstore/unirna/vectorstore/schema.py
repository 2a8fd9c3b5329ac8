"""Columns of a collection, and the record of the model that made its vectors, kept in the table itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.names import is_safe
from unirna.vectorstore.types import storable

PROVENANCE_KEY: Final = b"unirna.provenance"
INDEX_KEY: Final = "unirna.index"
"""Key of the index's record in the table's configuration."""
CHANCE_KEY: Final = "unirna.chance"
"""Key of what random queries find (`Chance`), in the table's configuration."""
VECTOR_INDEX: Final = "vector_index"
KMER_INDEX: Final = "kmer_index"
"""Names of a table's indexes."""
OLD_KMER_INDEX: Final = "word_index"
"""What unirna 0.1.0 called the index of k-mers."""


@dataclass(frozen=True)
class Provenance:
    """What made the vectors of a collection.

    Attributes:
        model: the model's name. fingerprint: the name of its shape and weights.
        pooling: how nucleotides become one vector, "none" where each has its own.
        layer: which layer's states, from 1 or back from -2; -1 for the model's own vectors.
        normalisation: what was done to a vector's length: "none".
        unirna: version of this package that made the collection.
    """

    model: str
    fingerprint: str
    pooling: str = "mean"
    layer: int = -1
    normalisation: str = "none"
    unirna: str = ""

    def to_bytes(self) -> bytes:
        """JSON, as it stands in the table's metadata."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_schema(cls, schema: pa.Schema, name: str) -> Provenance:
        """Read it from a table's schema.

        Raises:
            StoreError: a table without it, so none of ours.
        """
        raw = (schema.metadata or {}).get(PROVENANCE_KEY)
        if raw is None:
            raise StoreError(f"table {name!r} does not say which model made it, so it is not a unirna collection")
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in json.loads(raw).items() if key in known})


@dataclass(frozen=True)
class Measurement:
    """What an index gives with some settings, on rows of the collection that look for their neighbours.

    Attributes:
        recall: share of the 10 nearest others that are found. p50, p99: milliseconds a query, one after the other.
        exact_p50: the same of an exact search. queries: how many were asked.
    """

    recall: float
    p50: float
    p99: float
    exact_p50: float
    queries: int


@dataclass(frozen=True)
class Index:
    """An index over a collection's vectors, and how it is searched.

    Attributes:
        kind: "hnsw", "ivf_flat", "ivf_sq", "ivf_pq" or "ivf_rq".
        nprobes: partitions that a search looks into. ef: candidates that a search of a graph keeps; 0 for other kinds.
        refine: how many times the rows asked for are compared again with their whole vectors.
        rows: that it was built over. seconds: that took. measured: recall and times.
    """

    kind: str
    nprobes: int = 1
    ef: int = 0
    refine: int = 1
    rows: int = 0
    seconds: float = 0.0
    measured: Measurement | None = None

    def to_json(self) -> str:
        """As it stands in the table's configuration."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Index:
        """Read what `to_json` wrote, by this version or another."""
        values = {key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__}
        measured = values.pop("measured", None)
        return cls(**values, measured=None if measured is None else Measurement(**measured))


def collection_schema(dimension: int, labels: pa.Schema, provenance: Provenance, level: str = "sequence") -> pa.Schema:
    """Schema of a collection: our own columns, then the labels with their types, and the provenance as metadata.

    Where `level` is "nucleotide", `vectors` (a list of half-precision vectors, one for each nucleotide) stands in the place
    of `vector`.

    Raises:
        StoreError: a label with a reserved name (`RESERVED`), or of a type that no store holds (`storable`).
    """
    vector = pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)
    if level == "nucleotide":
        vector = pa.field("vectors", pa.list_(pa.list_(pa.float16(), dimension)), nullable=False)
    taken = [name for name in labels.names if not is_safe(name)]
    if taken:
        raise StoreError(f"label columns cannot be called {', '.join(map(repr, taken))}: rename them (safe_names)")
    own = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("sha", pa.string(), nullable=False),
        vector,
    ]
    # Every label may be missing in some file, and metadata of one input file says nothing of a collection.
    fields = [pa.field(f.name, storable(f.name, f.type)) for f in labels]
    return pa.schema([*own, *fields], metadata={PROVENANCE_KEY: provenance.to_bytes()})


def nucleotides_array(vectors: Sequence[NDArray[np.float16]]) -> pa.ListArray:
    """Vectors of the nucleotides of some sequences, [L, H] each, as the Arrow column of a nucleotide table."""
    ends = np.concatenate([[0], np.cumsum([len(v) for v in vectors])]).astype(np.int32)
    flat = np.ascontiguousarray(np.concatenate(vectors), np.float16)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    return pa.ListArray.from_arrays(pa.array(ends), rows)


def vector_array(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Vectors [N, H] as the Arrow column that a collection holds: fixed-size lists of float32, not copied."""
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])
