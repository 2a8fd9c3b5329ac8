"""The actor that holds a model: chunk in, a written file and its record out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from unirna import model
from unirna.embed.plan import Plan, Recipe, record_counts
from unirna.embed.state import record_name
from unirna.embed.stream import unpack_chunk
from unirna.job import JobError
from unirna.vectorstore import vector_array, write_rows


class Embedder:
    """Embeds chunks and writes them beside the collection; loads the model once."""

    def __init__(self, plan: Plan, recipe: Recipe) -> None:
        torch.set_num_threads(recipe.threads)
        self.plan, self.recipe = plan, recipe
        self.model = model.load(recipe.path)
        if self.model.fingerprint != recipe.fingerprint:
            raise JobError(
                f"model {recipe.path} is {self.model.fingerprint} on a worker and {recipe.fingerprint} where the job was "
                "started: put it where every machine sees the same files"
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row for each chunk of a batch: `rows`, `nucleotides`, `windowed`."""
        return pa.Table.from_pylist([self.embed(chunk) for chunk in batch.to_pylist()])

    def embed(self, item: dict[str, Any]) -> dict[str, int]:
        """Embed one chunk (`unit`, `chunk`, packed `table`), write its rows, then its record; give its counts."""
        name = record_name(item["unit"], self.plan.run, item["chunk"])
        path = f"records/{name}.parquet"
        if self.plan.state.has(path):  # a worker died after it had written; its rows must not be written twice
            return record_counts(self.plan, name)
        chunk = unpack_chunk(item["table"])
        sequences = chunk["sequence"].to_pylist()
        vectors = self.model.embed(sequences, batch_tokens=self.recipe.batch_tokens)
        if not np.isfinite(vectors).all():
            bad = chunk["id"][int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])].as_py()
            raise JobError(
                f"record {bad}: model {self.recipe.path} gives a vector with NaN or infinity; its weights are unsound"
            )
        schema = self.plan.schema
        columns = [vector_array(vectors) if field.name == "vector" else chunk[field.name] for field in schema]
        fragments = write_rows(self.plan.store, self.plan.collection, pa.table(columns, schema=schema), schema)
        lengths = chunk["length"].to_numpy()
        counts = {
            "rows": chunk.num_rows,
            "nucleotides": int(lengths.sum()),
            "windowed": int((lengths > self.model.context).sum()),
        }
        note = json.dumps({**counts, "fragments": fragments})
        self.plan.state.write_table(path, chunk.select(["piece", "number"]).replace_schema_metadata({"unirna": note}))
        return counts
