"""From files to a corpus: each piece of the input becomes one shard, alone, in memory bounded by one table of records.

A sequence goes to the validation split by the hash of its letters, so copies of one molecule, DNA or RNA, never stand on
both sides. Near-duplicates may.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from unirna.corpus.shards import CorpusError, is_corpus
from unirna.job import Progress
from unirna.model import tokenise
from unirna.sequence import Piece, clean_table, plan_pieces, read_tables

Mapper = Callable[[Callable[[Any], dict[str, Any]], list[Any]], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class BuildConfig:
    """What a corpus is made of.

    Attributes:
        data: files, folders, globs or URIs.
        out: the corpus's folder.
        valid_share: share of the distinct sequences held out for validation.
        id_column, sequence_column: columns of table input.
    """

    data: tuple[str, ...]
    out: str
    valid_share: float = 0.02
    id_column: str = "id"
    sequence_column: str = "sequence"


def build_corpus(config: BuildConfig, map_pieces: Mapper = lambda f, items: map(f, items)) -> dict[str, Any]:
    """Build a corpus, or return the summary of the finished one that is there.

    Shards that an earlier, interrupted run finished are kept. The manifest is written last and by renaming, so a reader
    sees a whole corpus or none.

    Args:
        config: inputs and output.
        map_pieces: runs a function over the pieces, in any order: `map`, or one that spreads them over a cluster.

    Returns:
        The manifest: counts per split, rejects by reason, `read = kept + rejected`.

    Raises:
        InputError: input that cannot be read. CorpusError: another corpus in the folder, or no sequence left.
    """
    if not 0 <= config.valid_share < 1:
        raise CorpusError(f"valid share {config.valid_share}: wanted 0 up to less than 1")
    out = Path(config.out)
    pieces = plan_pieces(config.data, spool=out)
    recipe = json.loads(json.dumps({**asdict(config), "pieces": [asdict(p) for p in pieces]}))
    if is_corpus(out):
        manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
        if manifest["recipe"] != recipe:
            raise CorpusError(f"{out} holds a corpus of other data or settings. Give another folder, or remove it")
        return manifest
    out.mkdir(parents=True, exist_ok=True)
    started = out / "recipe.json"
    if started.exists() and json.loads(started.read_text()) != recipe:
        for leftover in out.glob("shard-*.json"):  # an interrupted build of something else
            leftover.unlink()
    _write_json(started, recipe)

    progress = Progress("corpus", sum(p.bytes for p in pieces), "bytes")
    done, shards = 0, []
    for shard in map_pieces(lambda job: write_shard(job[0], job[1], config), list(enumerate(pieces))):
        shards.append(shard)
        done += pieces[shard["number"]].bytes
        progress.update(done)
    shards.sort(key=lambda shard: shard["number"])
    rejected: Counter[str] = Counter()
    for shard in shards:
        rejected.update(shard["rejected"])
    splits = {
        split: {key: sum(s["splits"][split][key] for s in shards) for key in ("sequences", "nucleotides")}
        for split in ("train", "valid")
    }
    kept = sum(split["sequences"] for split in splits.values())
    progress.close(f"{kept:,} sequences")
    manifest = {
        "format": 1,
        "unirna": version("unirna"),
        "read": sum(s["read"] for s in shards),
        "kept": kept,
        "rejected": sum(rejected.values()),
        "rejected_by_reason": dict(rejected.most_common()),
        "splits": splits,
        "recipe": recipe,
        "shards": shards,
    }
    if not splits["train"]["sequences"]:
        raise CorpusError(f"{', '.join(config.data)}: no sequence to train on. Rejected: {dict(rejected) or 'none'}")
    _write_json(out / "manifest.json", manifest)
    return manifest


def write_shard(number: int, piece: Piece, config: BuildConfig) -> dict[str, Any]:
    """Write one piece's shard and its record `shard-00000.json`, or return the record that is there."""
    out = Path(config.out)
    record = out / f"shard-{number:05d}.json"
    if record.exists():
        finished: dict[str, Any] = json.loads(record.read_text())
        return finished
    writers = {split: _ShardWriter(out / f"{split}-{number:05d}") for split in ("train", "valid")}
    reasons: Counter[str] = Counter()
    read = 0
    tables = read_tables(piece, id_column=config.id_column, sequence_column=config.sequence_column)
    with writers["train"] as train, writers["valid"] as valid:
        for table in tables:
            good, rejects = clean_table(table, piece.name)
            read += table.num_rows
            reasons.update(rejects["reason"].to_pylist())
            for sequence, sha in zip(good["sequence"].to_pylist(), good["sha"].to_pylist(), strict=True):
                held_out = int(sha[:8], 16) < config.valid_share * 2**32
                (valid if held_out else train).add(tokenise(sequence))
    shard = {
        "number": number,
        "source": piece.name,
        "read": read,
        "rejected": dict(reasons),
        "splits": {split: writer.counts for split, writer in writers.items()},
    }
    _write_json(record, shard)
    return shard


class _ShardWriter:
    """Appends token arrays to a file; the offsets are written at the end, the record of the shard after that."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.offsets = [0]
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _ShardWriter:
        self._file = Path(f"{self.stem}.tokens").open("wb")
        return self

    def add(self, tokens: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        assert self._file is not None
        self._file.write(tokens.tobytes())
        self.offsets.append(self.offsets[-1] + len(tokens))

    def __exit__(self, *exc: object) -> None:
        assert self._file is not None
        self._file.close()
        np.save(f"{self.stem}.offsets.npy", np.array(self.offsets, np.int64))

    @property
    def counts(self) -> dict[str, int]:
        return {"sequences": len(self.offsets) - 1, "nucleotides": self.offsets[-1]}


def _write_json(path: Path, content: object) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)
