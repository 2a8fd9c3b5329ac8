"""The actor that holds a model: chunk in, a written file and its record out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from unirna import model
from unirna.embed.plan import COUNTS, Plan, Recipe, record_counts
from unirna.embed.state import record_name
from unirna.embed.stream import NUMBER, PIECE, distinct, unpack_chunk
from unirna.job import JobError, tell
from unirna.model import tokenise
from unirna.vectorstore import nucleotides_array, vector_array, write_rows

ROWS_AT_ONCE: Final = 16384
"""Rows that are given their vectors at once: some 32 MB of them."""
NUCLEOTIDES_AT_ONCE: Final = 8192
"""Nucleotides whose vectors are in memory at once, or one longer sequence's."""


class Embedder:
    """Embeds chunks and writes them beside the collection."""

    def __init__(self, plan: Plan, recipe: Recipe, shared: ray.ObjectRef[model.SharedModel]) -> None:
        torch.set_num_threads(recipe.threads)
        self.plan, self.recipe, self.shared = plan, recipe, shared
        self.trouble: Exception | None = None  # of the rows: within Lance's writer it comes out as an error of Lance's

    @cached_property
    def model(self) -> model.Model:
        """The model, on the one copy of its weights that this node has; made with the first chunk."""
        shared: model.SharedModel = ray.get(self.shared)
        return shared.load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row of `COUNTS`, and why it failed (`tell`), for each chunk of a batch."""
        return pa.Table.from_pylist([self._counts(item) for item in batch.to_pylist()])

    def _counts(self, item: dict[str, Any]) -> dict[str, Any]:
        failure = item["failure"]
        if not failure:
            try:
                return {**self.embed(item), "failure": ""}
            except Exception as error:
                failure = tell(self.trouble or error)
        return {**dict.fromkeys(COUNTS, 0), "failure": failure}

    def embed(self, item: dict[str, Any]) -> dict[str, int]:
        """Embed one chunk (`part`, `chunk`, packed `table`), write its rows, then its record; give its counts."""
        name = record_name(item["part"], self.plan.run, item["chunk"])
        path = f"records/{name}.parquet"
        if self.plan.state.has(path):  # a worker died after it had written; its rows must not be written twice
            return record_counts(self.plan.state, name)
        chunk = unpack_chunk(item["table"])
        first, which = distinct(chunk["sha"])
        rows_of = self._rows if self.recipe.level == "sequence" else self._nucleotides
        plan = self.plan
        fragments = write_rows(
            plan.store, plan.collection, self._watched(rows_of(chunk, first, which)), plan.schema, overwrite=plan.overwrite
        )
        lengths = chunk["length"].to_numpy()
        counts = {
            "rows": chunk.num_rows,
            "nucleotides": int(lengths.sum()),
            "distinct": len(first),
            "distinct_nucleotides": int(lengths[first].sum()),
            "windowed": int((lengths > self.model.context).sum()),
        }
        note = json.dumps({**counts, "fragments": fragments})
        places = chunk.select([PIECE, NUMBER]).rename_columns(["piece", "number"])
        self.plan.state.write_table(path, places.replace_schema_metadata({"unirna": note}))
        return counts

    def _watched(self, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except Exception as error:
            self.trouble = error
            raise

    def _rows(self, chunk: pa.Table, first: NDArray[np.int64], which: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """The rows of the collection, in their order; those of one sequence get copies of its vector."""
        vectors = self.model.embed(chunk["sequence"].take(first).to_pylist(), batch_tokens=self.recipe.batch_tokens)
        self._check(chunk, first, np.isfinite(vectors).all(axis=1))
        for start in range(0, chunk.num_rows, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            yield self._batch(chunk.slice(start, ROWS_AT_ONCE), vector_array(vectors[which[rows]]))

    def _nucleotides(self, chunk: pa.Table, first: NDArray[np.int64], which: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Rows with the vectors of their nucleotides, sequence by sequence."""
        order = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[order], np.arange(len(first) + 1))
        lengths = chunk["length"].to_numpy()[first]
        groups = np.cumsum(lengths, dtype=np.int64) // NUCLEOTIDES_AT_ONCE
        for group in np.split(np.arange(len(first)), np.flatnonzero(np.diff(groups)) + 1):
            tokens = [tokenise(s) for s in chunk["sequence"].take(first[group]).to_pylist()]
            vectors = self.model.nucleotides_tokens(tokens, batch_tokens=self.recipe.batch_tokens)
            half = [v.astype(np.float16) for v in vectors]
            self._check(chunk, first[group], np.array([np.isfinite(v).all() for v in half]))
            for i, own in zip(group.tolist(), half, strict=True):
                for row in order[ends[i] : ends[i + 1]].tolist():
                    yield self._batch(chunk.slice(row, 1), nucleotides_array([own]))

    def _batch(self, part: pa.Table, vectors: pa.Array) -> pa.RecordBatch:
        """Rows of the collection from those of a chunk and their vectors."""
        schema = self.plan.schema
        own = ("vector", "vectors")
        columns = [vectors if field.name in own else part[field.name].combine_chunks() for field in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _check(self, chunk: pa.Table, first: NDArray[np.int64], sound: Any) -> None:
        if not np.all(sound):
            bad = chunk["id"][int(first[np.flatnonzero(~sound)[0]])].as_py()
            raise JobError(
                f"record {bad}: model {self.model.name} returned a vector with NaN or infinity; its weights are damaged"
            )
