"""One block of the library: read and cleaned by a light task, embedded and scored by an actor, its best rows kept.

A block is a few hundred records of one piece, always the same ones, and travels as one row with its tables packed as Arrow
streams. Of a block's records only those come back that can still be among the best.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from unirna.job import JobError
from unirna.model import Model, load
from unirna.screen.criteria import Criteria
from unirna.sequence import InputError, InputPiece, TextTypes, clean_table, read_tables
from unirna.sequence.normalise import REJECT_SCHEMA
from unirna.tasks import load_predictor

BLOCK_ROWS: Final = 512
BINS: Final = 50
"""Bins of the histogram of scores, from 0 to 1."""
ORDER: Final = [("score", "descending"), ("id", "ascending"), ("source", "ascending"), ("number", "ascending")]
"""The order of the ranking: no two records are equal in it."""
GOT: Final = re.compile(r", got [\d,]+ nt$|position [\d,]+ is \w, |has no position [\d,]+, ")
"""What a sequence has instead of what a predictor expects: left out where sequences are counted by reason."""
OWN_COLUMNS: Final = ("rank", "id", "length", "score", "similarity", "nearest", "source", "number", "sha", "sequence")


def best_rows(table: pa.Table, top: int) -> pa.Table:
    """The best `top` rows in the order of the ranking."""
    return table.sort_by(ORDER).slice(0, top)


def pack(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: bytes) -> pa.Table:
    """The table of an Arrow stream."""
    return pa.ipc.open_stream(packed).read_all()


# ---- reading -------------------------------------------------------------------------------------------------------


class Reader:
    """Reads a piece and yields its blocks; a task without a core of its own, as reading is a small part of the work.

    Args:
        id_column, sequence_column: columns of table input. types: column -> a declared type.
        finished: piece -> blocks that an earlier run has scored.
    """

    def __init__(
        self, id_column: str, sequence_column: str, types: Mapping[str, str], finished: dict[int, set[int]]
    ) -> None:
        self.id_column, self.sequence_column, self.types, self.finished = id_column, sequence_column, types, finished

    def blocks(self, pieces: pa.Table) -> Iterator[pa.Table]:
        """Rows of number and piece (JSON) -> one row for each block, in order; the last one says so.

        A file that cannot be read ends its piece with a row that holds the problem: the driver tells it in one line, where
        an error raised here would come with Ray's traces.
        """
        for row in pieces.to_pylist():
            piece = InputPiece(**json.loads(row["piece"]))
            try:
                yield from self._piece_blocks(row["number"], piece)
            except InputError as error:
                yield _block_row(row["number"], -1, problem=str(error))

    def _piece_blocks(self, number: int, piece: InputPiece) -> Iterator[pa.Table]:
        done = self.finished.get(number, set())
        tables = read_tables(
            piece,
            id_column=self.id_column,
            sequence_column=self.sequence_column,
            rows=BLOCK_ROWS,
            types=dict(self.types),
        )
        table = next(tables, None)
        if table is None:
            yield _block_row(number, 0, last=True, size=piece.bytes)
            return
        left = piece.bytes
        for block in count():
            following = next(tables, None)
            size = left if following is None else min(left, _stored_bytes(table, piece))
            left -= size
            if block not in done:
                types = TextTypes()
                if piece.is_text_table:
                    types.look(table)
                good, rejects = clean_table(table, piece.name)
                good = good.append_column("source", pa.array([piece.name] * good.num_rows, pa.string()))
                yield _block_row(
                    number,
                    block,
                    last=following is None,
                    size=size,
                    read=table.num_rows,
                    good=pack(good),
                    rejects=pack(rejects),
                    types=json.dumps({name: kind for name, kind in types.named().items() if name not in self.types}),
                )
            if following is None:
                return
            table = following


def _block_row(
    piece: int,
    block: int,
    *,
    last: bool = False,
    size: int = 0,
    read: int = 0,
    good: bytes = b"",
    rejects: bytes = b"",
    types: str = "{}",
    problem: str = "",
) -> pa.Table:
    return pa.table(
        {
            "piece": [piece],
            "block": [block],
            "last": [last],
            "bytes": [size],
            "read": [read],
            "good": pa.array([good], pa.large_binary()),
            "rejects": pa.array([rejects], pa.large_binary()),
            "types": [types],
            "problem": [problem],
        }
    )


def _stored_bytes(table: pa.Table, piece: InputPiece) -> int:
    """About how many bytes of its file a block took, for progress: a nucleotide takes one byte, or a quarter if
    compressed."""
    nucleotides: int = sum(len(x or "") for x in table["sequence"].to_pylist()) + 40 * table.num_rows
    return nucleotides if piece.format == "fasta" and not piece.compression else nucleotides // 4


# ---- scoring -------------------------------------------------------------------------------------------------------


class Scorer:
    """Embeds and scores blocks; loads each encoder and predictor once.

    One torch thread: every sum then runs in one order, and a ranking is the same on any number of workers.
    """

    def __init__(self, criteria: Criteria, top: int) -> None:
        torch.set_num_threads(1)
        self.criteria, self.top = criteria, top
        self.models: dict[str, Model] = {}
        for fingerprint, path in criteria.encoders.items():
            # a predictor's encoder may read other nucleotides than all
            model = load_predictor(path).encoder if (Path(path) / "predictor.json").is_file() else load(path)
            if model.fingerprint != fingerprint:
                raise JobError(
                    f"model {path} is {model.fingerprint} on a worker and {fingerprint} where the job was started: put it "
                    "where every machine sees the same files"
                )
            self.models[fingerprint] = model
        self.predictors = {c.folder: load_predictor(c.folder) for c in criteria.labels}
        self._best: set[tuple[float, str, str, int]] = set()

    def __call__(self, blocks: pa.Table) -> pa.Table:
        """Blocks as `Reader` yields them -> their counts (JSON), best rows and rejects."""
        return pa.Table.from_pylist([self._block(row) for row in blocks.to_pylist()])

    def _block(self, row: dict[str, Any]) -> dict[str, Any]:
        counts: dict[str, Any] = {"read": row["read"], "screened": 0, "rejected": {}, "nucleotides": 0, "windowed": 0}
        counts["histogram"], counts["not_applicable"] = [0] * BINS, {}
        top, left_out = b"", row["rejects"]
        if row["good"]:
            good = unpack(row["good"])
            counts["rejected"] = dict(Counter(unpack(row["rejects"])["reason"].to_pylist()))
            good, refused = self._applicable(good)
            if refused:
                counts["not_applicable"] = dict(Counter(GOT.sub("", each["reason"]) for each in refused))
                left_out = pack(pa.concat_tables([unpack(row["rejects"]), pa.Table.from_pylist(refused, REJECT_SCHEMA)]))
            counts["screened"] = good.num_rows
            if good.num_rows:
                scored = self._score(good)
                lengths = good["length"].to_numpy()
                context = min(model.context for model in self.models.values())
                counts["nucleotides"], counts["windowed"] = int(lengths.sum()), int((lengths > context).sum())
                counts["histogram"] = np.histogram(scored["score"].to_numpy(), BINS, (0.0, 1.0))[0].tolist()
                top = pack(self._still_best(best_rows(scored, self.top)))
        kept = {key: row[key] for key in ("piece", "block", "last", "bytes", "types", "problem")}
        return {**kept, "rejects": left_out, "counts": json.dumps(counts), "top": top}

    def _applicable(self, good: pa.Table) -> tuple[pa.Table, list[dict[str, Any]]]:
        """The records that all predictors apply to, and rows of rejects for the others, which are not embedded."""
        found = self.criteria.refusals(good["sequence"].to_pylist(), self.predictors)
        refused = []
        for i in [i for i, (name, _) in enumerate(found) if name]:
            record = good.slice(i, 1).select(["id", "source", "number"]).to_pylist()[0]
            refused.append({**record, "reason": "{} does not apply: {}".format(*found[i]), "position": 0, "letter": ""})
        if not refused:
            return good, []
        return good.filter(pa.array([not name for name, _ in found], pa.bool_())), refused

    def _score(self, good: pa.Table) -> pa.Table:
        sequences = good["sequence"].to_pylist()
        vectors = {fingerprint: model.embed(sequences) for fingerprint, model in self.models.items()}
        for fingerprint, found in vectors.items():
            bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
            if len(bad):
                raise JobError(
                    f"record {good['id'][int(bad[0])].as_py()}: model {self.criteria.encoders[fingerprint]} gives a vector "
                    "with NaN or infinity; its weights are unsound"
                )
        for name, values in self.criteria.score(vectors, sequences, self.predictors).items():
            good = good.append_column(name, pa.array(values))
        return good

    def _still_best(self, rows: pa.Table) -> pa.Table:
        """Rows that are not beaten by `top` rows of this actor's earlier blocks: the others cannot be in the ranking."""
        columns = (rows[name].to_pylist() for name in ("score", "id", "source", "number"))
        keys = [(-score, *rest) for score, *rest in zip(*columns, strict=True)]
        self._best = set(sorted(self._best | set(keys))[: self.top])
        return rows.filter(pa.array([key in self._best for key in keys], pa.bool_()))


def piece_row(number: int, piece: InputPiece) -> dict[str, Any]:
    """A piece as a row of `Reader`'s input."""
    return {"number": number, "piece": json.dumps(asdict(piece))}
