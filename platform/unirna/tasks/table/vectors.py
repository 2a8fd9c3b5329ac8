"""Vectors of a labelled table, kept on disk by content: a killed run or a second predictor embeds no sequence again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unirna.job import Progress
from unirna.model import Model, tokenise
from unirna.runs import new_file

PART_NUCLEOTIDES = 200_000
"""Nucleotides of one part file: what a killed run loses at most."""
NUCLEOTIDES_AT_ONCE = 50_000
"""Nucleotides whose states in all layers are in memory at once."""


class VectorCache:
    """Vectors of one model in `<folder>/<fingerprint>/`, in Parquet parts of (sha, vector). It may be deleted at any time.

    Attributes:
        num_embedded: sequences that this object sent through the model. num_read: those that it found.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder = folder / model.fingerprint
        self.model = model
        self.num_embedded = self.num_read = 0

    def embed(
        self, sequences: Sequence[str], shas: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> NDArray[np.float32]:
        """Vectors of normalised sequences, float32 [N, H]; those that are not kept yet are embedded and kept.

        Args:
            sequences: N normalised sequences. shas: their N names (`sequence_sha`).
            progress: is told how many nucleotides this call has embedded, of how many.
        """
        wanted = dict(zip(shas, sequences, strict=True))
        vectors = self._read(set(wanted))
        missing = {sha: sequence for sha, sequence in wanted.items() if sha not in vectors}
        self.num_read += len(wanted) - len(missing)
        done, total = 0, sum(map(len, missing.values()))
        if missing:
            progress(0, total)
        for part in _parts(missing):
            fresh = self.model.embed([sequence for _, sequence in part])
            self._write([sha for sha, _ in part], fresh)
            vectors |= {sha: vector for (sha, _), vector in zip(part, fresh, strict=True)}
            self.num_embedded += len(part)
            done += sum(len(sequence) for _, sequence in part)
            progress(done, total)
        return np.stack([vectors[sha] for sha in shas])

    def _read(self, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for path in sorted(self.folder.glob("part-*.parquet")):
            table = pq.read_table(path)
            shas = table["sha"].to_pylist()
            matrix = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(shas), -1)
            found |= {sha: matrix[i] for i, sha in enumerate(shas) if sha in wanted}
        return found

    def _write(self, shas: list[str], vectors: NDArray[np.float32]) -> None:
        name = hashlib.sha256("".join(shas).encode()).hexdigest()[:16]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        with new_file(self.folder / f"part-{name}.parquet") as part:
            pq.write_table(pa.table({"sha": shas, "vector": column}), part)


def nucleotide_vectors(model: Model, sequences: Sequence[str]) -> list[NDArray[np.float32]]:
    """One row for each nucleotide of each normalised sequence, float32 [L, H]; all are in memory at once."""
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    progress = Progress("embed", sum(map(len, sequences)), "nucleotides")
    found: dict[int, NDArray[np.float32]] = {}
    done, first = 0, 0
    while first < len(order):
        end, size = first, 0
        while end < len(order) and (end == first or size < NUCLEOTIDES_AT_ONCE):
            size += len(sequences[order[end]])
            end += 1
        part = order[first:end]
        found |= zip(part, model.nucleotides_tokens([tokenise(sequences[row]) for row in part]), strict=True)
        done, first = done + size, end
        progress.update(done)
    progress.close(f"the rows of {done:,} nucleotides")
    return [found[row] for row in range(len(sequences))]


def _parts(sequences: dict[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Runs of (sha, sequence), shortest sequences first, of about `PART_NUCLEOTIDES`."""
    part: list[tuple[str, str]] = []
    size = 0
    for item in sorted(sequences.items(), key=lambda item: (len(item[1]), item[0])):
        part.append(item)
        size += len(item[1])
        if size >= PART_NUCLEOTIDES:
            yield part
            part, size = [], 0
    if part:
        yield part
