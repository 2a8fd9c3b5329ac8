"""State of a screen: the best rows, counts and finished blocks. Saved on the way, so that a killed one goes on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.runs import new_file
from unirna.screen.block import BINS, best_rows, unpack
from unirna.sequence import TextTypes


class ScreenState:
    """The running result of a screen.

    Attributes:
        top: the best rows so far.
        counts: read, screened, rejected, nucleotides, windowed; `reasons` and `histogram` beside them.
        not_applicable: records by the reason why a predictor does not apply to them.
        done: piece -> finished blocks. ended: pieces whose last block is known -> its number.
        bytes: size of the finished input. types: of the labels that are text in their files.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], top: int) -> None:
        self.folder, self.recipe, self.limit = folder, recipe, top
        self.top: pa.Table | None = None
        self.counts = Counter[str]()
        self.reasons = Counter[str]()
        self.not_applicable = Counter[str]()
        self.histogram = [0] * BINS
        self.done: dict[int, set[int]] = {}
        self.ended: dict[int, int] = {}
        self.bytes = 0
        self._parts = 0
        self._rejects: list[pa.Table] = []
        self.types = TextTypes()

    # ---- taking in

    def add(self, row: dict[str, Any]) -> None:
        """Take in a scored block; one that is known already is passed over."""
        piece, block = row["piece"], row["block"]
        if block in self.done.setdefault(piece, set()):
            return
        self.done[piece].add(block)
        if row["last"]:
            self.ended[piece] = block
        self.types.join(TextTypes.of_named(json.loads(row["types"])).types)
        counts = json.loads(row["counts"])
        self.reasons.update(counts["rejected"])
        self.counts.update({key: counts[key] for key in ("read", "screened", "nucleotides", "windowed")})
        self.counts["rejected"] += sum(counts["rejected"].values())
        self.not_applicable.update(counts.get("not_applicable", {}))
        self.histogram = [a + b for a, b in zip(self.histogram, counts["histogram"], strict=True)]
        self.bytes += row["bytes"]
        if counts["rejected"] or counts.get("not_applicable"):
            self._rejects.append(unpack(row["rejects"]))
        if row["top"]:
            fresh = unpack(row["top"])
            self.top = best_rows(fresh if self.top is None else _concat(self.top, fresh), self.limit)

    def finished(self, piece: int) -> bool:
        """Whether all blocks of a piece are done."""
        return piece in self.ended and len(self.done[piece]) == self.ended[piece] + 1

    # ---- keeping

    def save(self) -> None:
        """Write the state beside its place and rename it; the rejects since the last time go first, as a part file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._rejects:
            pq.write_table(pa.concat_tables(self._rejects), self.folder / f"rejects-{self._parts:06d}.parquet")
            self._parts += 1
            self._rejects = []
        note = {
            "recipe": self.recipe,
            "counts": self.counts,
            "reasons": self.reasons,
            "not_applicable": self.not_applicable,
            "histogram": self.histogram,
            "done": {str(piece): _ranges(blocks) for piece, blocks in self.done.items()},
            "ended": self.ended,
            "bytes": self.bytes,
            "types": self.types.named(),
            "parts": self._parts,
            "has_top": self.top is not None,
        }
        table = self.top if self.top is not None else pa.table({"id": pa.array([], pa.string())})
        metadata = {**(table.schema.metadata or {}), b"screen": json.dumps(note).encode()}
        with new_file(self.folder / "state.parquet") as part:
            pq.write_table(table.replace_schema_metadata(metadata), part)

    def restore(self) -> bool:
        """Load the state of a killed run of the same recipe; another recipe's is removed. Says whether there was one."""
        path = self.folder / "state.parquet"
        table = pq.read_table(path) if path.exists() else None
        note = json.loads(table.schema.metadata[b"screen"]) if table is not None else {}
        if table is None or note["recipe"] != self.recipe:
            for leftover in (path, *self.folder.glob("rejects-*.parquet")):
                leftover.unlink(missing_ok=True)
            return False
        self.top = table.replace_schema_metadata(None) if note["has_top"] else None
        self.counts, self.reasons = Counter(note["counts"]), Counter(note["reasons"])
        self.not_applicable = Counter(note.get("not_applicable", {}))
        self.histogram, self.bytes, self._parts = note["histogram"], note["bytes"], note["parts"]
        self.types = TextTypes.of_named(note["types"])
        self.done = {int(p): {b for first, last in r for b in range(first, last + 1)} for p, r in note["done"].items()}
        self.ended = {int(piece): block for piece, block in note["ended"].items()}
        return True

    def rejects(self) -> Iterator[pa.Table]:
        """All rejects, part by part; call `save` first."""
        for part in range(self._parts):
            yield pq.read_table(self.folder / f"rejects-{part:06d}.parquet")

    def clear(self) -> None:
        """Remove the state's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """Ascending runs (first, last): blocks finish nearly in order, so a million of them are a few runs."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _concat(one: pa.Table, other: pa.Table) -> pa.Table:
    """Two tables of hits under each other; a label whose types differ between files becomes text."""
    try:
        return pa.concat_tables([one, other], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        clashing = {
            f.name for f in one.schema if f.name in other.schema.names and other.schema.field(f.name).type != f.type
        }
        return pa.concat_tables([_as_text(t, clashing) for t in (one, other)], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for name in sorted(names):
        values = [None if v is None else str(v) for v in table[name].to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table
