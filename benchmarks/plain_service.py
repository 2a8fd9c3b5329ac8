"""What a good engineer would write in an hour: uvicorn, FastAPI, torch and faiss, to compare `benchmarks/serve.py` with.

    python benchmarks/plain_service.py --store runs/serve-store --collection windows --port 20100

One process, the same model and vectors as the service's, exact search by faiss. No batching, keys, limits, filters,
metrics, versions or replicas.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
import tyro
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from unirna import model, vectorstore
from unirna.job import num_cpus


class Query(BaseModel):
    """A search."""

    similar_to: str
    k: int = 10


def main(store: str, collection: str, port: int) -> None:
    """Serve one collection."""
    import faiss

    torch.set_num_threads(num_cpus())
    rows = vectorstore.open(store, collection)
    encoder = model.load(rows.provenance.model)
    table = rows.dataset.to_table(columns=["id", "sequence", "length", "vector"])
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1).copy()
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    ids, letters = table["id"].to_pylist(), table["sequence"].to_pylist()
    one_at_a_time = threading.Lock()  # two forward passes at once would fight over the cores
    app = FastAPI()

    @app.post("/search")
    def search(query: Query) -> dict[str, object]:
        with one_at_a_time:
            vector = encoder.embed([query.similar_to])
            faiss.normalize_L2(vector)
            similarities, places = index.search(vector, query.k)
        return {
            "hits": [
                {"id": ids[i], "sequence": letters[i], "length": len(letters[i]), "similarity": float(s)}
                for s, i in zip(similarities[0], places[0], strict=True)
            ]
        }

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "rows": str(np.int64(len(ids)))}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
