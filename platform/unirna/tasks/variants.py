"""The job that scores variants of many sequences: one row a variant, a heat map a sequence."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from unirna.job import JobError, Progress, say
from unirna.model import load
from unirna.model.variants import Method, Variant, VariantError, heat_map, parse_variant, score_variants, substitutions
from unirna.runs import Folder, RunFolder, new_file, owned, read_json, write_json, write_text
from unirna.runs.run_folder import FILES
from unirna.sequence import (
    InputError,
    InputPiece,
    Record,
    SequenceError,
    check_unchanged,
    contents_of,
    normalise,
    plan_pieces,
    read,
    read_tables,
    stamps_of,
    table_columns,
)

SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("variant", pa.string()), ("place", pa.int32()), ("score", pa.float32()), ("reason", pa.string())]
)
"""Columns of `variants.parquet`. `place` is that of the first substitution, from 1. What could not be scored has a reason
instead of a score; a record that could not be read has neither variant nor place."""
NO_RECORD: Final = "no sequence of this id in the input"
PART_ROWS: Final = 500_000
"""Rows of one part file, at most about."""
PART_NUCLEOTIDES: Final = 2_000_000
"""Nucleotides that pass the model for one part file: what a killed run loses at most."""


@dataclass(frozen=True)
class VariantsConfig:
    """Score variants of sequences by the language model."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Sequences: files, folders, globs or URIs."""
    out: str
    """Folder of the results."""
    variants: str = ""
    """A table of id and variant (CSV, TSV, Parquet), such as A10G or G3C+C70G. By default all single substitutions."""
    model: str = "unirna-mini"
    """A shipped name, a folder or a URI."""
    method: Method = "masked"
    """How a variant is scored."""
    id_column: str = "id"
    """Column of table input with the identifiers."""
    sequence_column: str = "sequence"
    """Column of table input with the sequences."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what a file's byte-order mark says."""
    drawings: int = 100
    """Number of heat maps to draw, of the first sequences."""


def score_collection(config: VariantsConfig) -> dict[str, Any]:
    """Score variants of all sequences of the inputs, going on where a killed run stopped.

    Returns:
        The summary: sequences read, scored and rejected, variants scored and rejected, by reason.

    Raises:
        InputError: inputs that cannot be read. JobError: a folder that holds the results of another command.
    """
    out = Path(config.out)
    with owned(Folder(str(out))):
        return _score_collection(config, out)


def _score_collection(config: VariantsConfig, out: Path) -> dict[str, Any]:
    parts = out / ".parts"
    for item in config.inputs:
        if "://" not in item and out.resolve().is_relative_to(Path(item).resolve()):
            raise JobError(f"--out {out} lies inside the input {item}, so its results would be read as input. Give another")
    model = load(config.model)
    wanted = _listed(config) if config.variants else None
    pieces = plan_pieces(config.inputs, encoding=config.encoding)
    stamps = stamps_of(piece.path for piece in pieces)
    files = contents_of(piece.path for piece in pieces)
    settings = _settings(config, pieces, files, model.fingerprint, wanted)
    complete = (out / "summary.json").exists()
    changed = RunFolder(str(out)).claim(
        settings, finished=complete, start_over=lambda: shutil.rmtree(parts, ignore_errors=True)
    )
    if complete:
        say(f"{out} is complete: nothing to do")
        shutil.rmtree(parts, ignore_errors=True)  # a run that was killed after its summary leaves them
        return read_json(out / "summary.json")
    if changed:
        say(f"{changed} has changed since the run that was cut short: starting again")
    read, missing = _score_records(config, out, parts, model, wanted)
    check_unchanged(stamps)
    listed = [(name, text) for name, texts in (wanted or {}).items() if name in missing for text in texts]
    return _finish(out, parts, [{"id": name, "variant": text, "reason": NO_RECORD} for name, text in listed], read)


def _score_records(
    config: VariantsConfig, out: Path, parts: Path, model: Any, wanted: dict[str, list[str]] | None
) -> tuple[int, set[str]]:
    """Score the records that no part holds yet; the number of all records, and the ids of the table that none has."""
    done = sum(int(path.stem.split("-")[2]) for path in _part_files(parts))
    if done:
        say(f"going on after {done:,} sequences")
    progress = Progress("score", None, "sequences")
    rows: list[dict[str, Any]] = []
    counted = since = cost = 0
    missing = set(wanted or ())
    for record in _records(config):
        counted += 1
        missing.discard(record.id)
        if counted <= done:
            continue
        fresh, passed, drawing = _score(record, None if wanted is None else wanted.get(record.id, []), config, model)
        rows += fresh
        since += 1
        cost += passed
        if drawing and counted <= config.drawings:
            write_text(out / "heat_maps" / f"{counted:06d}.svg", drawing)
        if cost >= PART_NUCLEOTIDES or len(rows) >= PART_ROWS:
            _flush(parts, rows, since)
            rows, since, cost = [], 0, 0
            progress.update(counted)
    if since:
        _flush(parts, rows, since)
    progress.update(counted)
    progress.close()
    return counted, missing


def _score(
    record: Record, listed: list[str] | None, config: VariantsConfig, model: Any
) -> tuple[list[dict[str, Any]], int, str]:
    """Rows of one record, nucleotides that passed the model, and a heat map."""
    try:
        if record.sequence is None:
            raise SequenceError("no sequence")
        letters = normalise(record.sequence)
    except SequenceError as error:
        where = f" at position {error.position}: {error.letter!r}" if error.position else ""
        return [{"id": record.id, "reason": f"{error.reason}{where}"}], 0, ""
    rows: list[dict[str, Any]] = []
    good: list[str] = []
    for text in listed or ():
        try:
            good.append(parse_variant(text, letters).name)
        except VariantError as error:
            rows.append({"id": record.id, "variant": text, "reason": str(error)})
    scored: list[tuple[Variant, float]] = []
    if listed is None or good:
        scored = score_variants(model, letters, None if listed is None else good, method=config.method)
    rows += [
        {"id": record.id, "variant": variant.name, "place": variant.sites[0][0] + 1, "score": score}
        for variant, score in scored
    ]
    passes = len(letters) if listed is None else len(good)
    if config.method != "masked":
        passes = (len(scored) + 1) * len(letters)
    drawing = heat_map(letters, substitutions(scored, len(letters)), record.id) if listed is None else ""
    return rows, passes * len(letters), drawing


def _records(config: VariantsConfig) -> Iterator[Record]:
    return read(config.inputs, id_column=config.id_column, sequence_column=config.sequence_column, encoding=config.encoding)


def _listed(config: VariantsConfig) -> dict[str, list[str]]:
    """Variants by id, from the table."""
    found: dict[str, list[str]] = defaultdict(list)
    for piece in plan_pieces((config.variants,), encoding=config.encoding):
        if piece.format not in ("parquet", "csv", "tsv"):
            raise InputError(piece.path, "expected a table (CSV, TSV or Parquet) of id and variant")
        names = table_columns(piece)
        if names and not {"id", "variant"} <= set(names):
            raise InputError(piece.path, f"expected the columns id and variant. It has: {', '.join(names)}. Rename them")
        for table in read_tables(piece, id_column="id", sequence_column="variant", columns=()):
            for name, text in zip(table["id"].to_pylist(), table["sequence"].to_pylist(), strict=True):
                found[str(name)].append(str(text or ""))
    return dict(found)


def _settings(
    config: VariantsConfig,
    pieces: list[InputPiece],
    files: list[dict[str, Any]],
    fingerprint: str,
    wanted: dict[str, list[str]] | None,
) -> dict[str, Any]:
    """What decides the results: inputs and their contents, model, method, variants."""
    listed = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "inputs": list(dict.fromkeys(piece.path for piece in pieces)),
        "model": fingerprint,
        "method": config.method,
        "id_column": config.id_column,
        "sequence_column": config.sequence_column,
        "variants": "all substitutions" if wanted is None else f"table {listed}",
        FILES: files,
    }


def _part_files(parts: Path) -> list[Path]:
    return sorted(parts.glob("part-*.parquet"))


def _flush(parts: Path, rows: Sequence[dict[str, Any]], sequences: int) -> None:
    """Write a part; its name says how many sequences it holds."""
    with new_file(parts / f"part-{len(_part_files(parts)):08d}-{sequences}.parquet") as part:
        pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), part)


def _finish(out: Path, parts: Path, lost: list[dict[str, Any]], read: int) -> dict[str, Any]:
    """Join the parts into one table, count, and write the summary last."""
    reasons: Counter[str] = Counter()
    scored = rejected_variants = rejected = 0
    with new_file(out / "variants.parquet") as part, pq.ParquetWriter(part, SCHEMA) as writer:
        for table in _tables(parts, lost):
            writer.write_table(table)
            for variant, reason in zip(table["variant"].to_pylist(), table["reason"].to_pylist(), strict=True):
                scored += reason is None
                rejected += reason is not None and variant is None
                rejected_variants += reason is not None and variant is not None
                if reason is not None:
                    kind = reason.split(" at position ")[0] if variant is None else "not a variant of its sequence"
                    reasons[NO_RECORD if reason == NO_RECORD else kind] += 1
    summary = {
        "out": str(out),
        "read": read,
        "scored": read - rejected,
        "rejected": rejected,
        "variants_scored": scored,
        "variants_rejected": rejected_variants,
        "rejected_by_reason": dict(reasons),
    }
    write_json(out / "summary.json", summary)
    shutil.rmtree(parts, ignore_errors=True)  # there are none of an empty input
    return summary


def _tables(parts: Path, lost: list[dict[str, Any]]) -> Iterator[pa.Table]:
    yield from (pq.read_table(path) for path in _part_files(parts))
    if lost:
        yield pa.Table.from_pylist(lost, SCHEMA)
