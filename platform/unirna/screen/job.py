"""The screening job: one pass of Ray Data over the library, merged in the driver from the blocks' best rows."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.base import counted
from unirna.base.job_settings import ScreenConfig
from unirna.job import JobError, Progress, connect_ray, package_version, plan_workers, say
from unirna.model import load
from unirna.runs import Folder, absolute, new_file, owned, read_json, write_json, write_text
from unirna.screen.block import OWN_COLUMNS, Reader, Scorer, best_rows, piece_row
from unirna.screen.criteria import (
    Criteria,
    LabelCriterion,
    References,
    ScreenError,
    embed_references,
    outside_column,
    parse_label_criterion,
    parse_priors,
    with_priors,
)
from unirna.screen.report import write_report
from unirna.screen.state import ScreenState
from unirna.sequence import (
    InputError,
    InputPiece,
    check_unchanged,
    clean_table,
    column_of,
    contents_of,
    convert_table,
    file_columns,
    parse_types,
    plan_pieces,
    read_tables,
    stamps_of,
    table_columns,
    unnamed_columns,
)
from unirna.sequence.normalise import REJECT_SCHEMA
from unirna.vectorstore import renamed, safe_names, tell_renamed

SAVE_SECONDS = 15.0
"""Between saves of the state: what a killed screen loses at most."""


def screen_library(config: ScreenConfig) -> dict[str, Any]:
    """Rank a library, or return the summary of the same screen that is there.

    Writes `ranked.parquet`, `ranked.csv`, `report.html`, `rejects.parquet` where there are rejects, and last `screen.json`,
    each beside its place and renamed. Other files in the folder are left alone.

    Returns:
        The summary: `read = screened + not_applicable + rejected`, the hits, files and seconds.

    Raises:
        InputError: input that cannot be read. ScreenError, TaskError: a criterion that does not exist.
        JobError: no record left to rank.
    """
    for name, value in (("top", config.top), ("workers", config.workers)):
        if value is not None and value < 1:
            raise ScreenError(f"{name} is {value}: expected at least 1")
    criteria = _criteria(config)
    with owned(Folder(config.out)):
        return _screen(config, criteria)


def _screen(config: ScreenConfig, criteria: Criteria) -> dict[str, Any]:
    out = Path(config.out)
    work = out / ".work"
    library = [absolute(item) for item in config.library]  # workers on this machine may stand in another folder
    pieces = plan_pieces(library, piece_bytes=config.piece_bytes, spool=work.absolute(), encoding=config.encoding)
    names = _label_names(config, pieces, criteria)
    stamps = stamps_of(piece.path for piece in pieces)
    recipe = _recipe(config, criteria, pieces)
    finished = out / "screen.json"
    if finished.exists() and (before := read_json(finished)).get("recipe") == recipe:
        say(f"{out} holds the result of the same screen: nothing to do")
        summary: dict[str, Any] = before["summary"]
        return summary
    started = time.monotonic()
    state = ScreenState(work, recipe, config.top)
    _score_library(config, criteria, pieces, state)
    check_unchanged(stamps)
    finished.unlink(missing_ok=True)
    summary = _write_results(config, criteria, state, names, started)
    write_json(finished, {"recipe": recipe, "settings": summary.pop("settings"), "summary": summary})
    state.clear()
    return summary


def _score_library(config: ScreenConfig, criteria: Criteria, pieces: list[InputPiece], state: ScreenState) -> None:
    """One pass over the library, from where a killed one was; the state is saved on the way."""
    if state.restore():
        say(f"going on from {state.folder}: {state.counts['read']:,} records are done")
    progress = Progress("screening", sum(piece.bytes for piece in pieces), "bytes")
    progress.update(state.bytes)
    saved = time.monotonic()
    for row in _scored_blocks(config, criteria, pieces, state):
        state.add(row)
        progress.update(state.bytes, counted(state.counts["read"], "record"))
        if time.monotonic() - saved > SAVE_SECONDS:
            state.save()
            saved = time.monotonic()
    state.save()
    progress.close(counted(state.counts["read"], "record"))


def _write_results(
    config: ScreenConfig, criteria: Criteria, state: ScreenState, names: dict[str, str], started: float
) -> dict[str, Any]:
    """Write the rejects, the ranking and the report; gives the summary, and the `settings` beside it.

    Raises:
        JobError: no record left to rank.
    """
    out = Path(config.out)
    counts: dict[str, Any] = {key: state.counts[key] for key in ("read", "screened", "rejected", "nucleotides", "windowed")}
    counts["rejected_by_reason"] = dict(state.reasons.most_common())
    counts["not_applicable"] = state.not_applicable.total()
    counts["not_applicable_by_reason"] = dict(state.not_applicable.most_common())
    _write_rejects(state, out / "rejects.parquet")
    if state.top is None:
        raise JobError(
            f"nothing to rank: {counted(counts['read'], 'record')} read, {counts['rejected']:,} rejected "
            f"({counts['rejected_by_reason'] or 'none'}), a predictor does not apply to {counts['not_applicable']:,} "
            f"({counts['not_applicable_by_reason'] or 'none'})"
        )
    best = convert_table(best_rows(state.top, config.top), state.types.types)
    ranked = _ranked(best, criteria, names)
    settings = _settings(config, criteria)
    _write_ranked(ranked, out)
    write_text(out / "report.html", write_report(ranked, criteria, counts, state.histogram, settings))
    return {
        "out": str(out),
        "hits": ranked.num_rows,
        "renamed_labels": renamed(names),
        **counts,
        "best": {"id": ranked["id"][0].as_py(), "score": round(ranked["score"][0].as_py(), 4)},
        "report": str(out / "report.html"),
        "seconds": round(time.monotonic() - started, 1),
        "settings": settings,
    }


def _criteria(config: ScreenConfig) -> Criteria:
    named = [parse_label_criterion(text, config.registry) for text in dict.fromkeys(config.predict)]
    labels = with_priors(named, parse_priors(config.prior))
    encoders: dict[str, str] = {}
    references: References | None = None
    if config.similar_to:
        if not config.model:
            raise ScreenError("--similar-to compares vectors: name the encoder with --model")
        model = load(config.model)
        encoders[model.fingerprint] = absolute(config.model) if Path(config.model).exists() else config.model
        ids, sequences = _read_references(config)
        references = embed_references(model, ids, sequences)
        say(f"{len(ids):,} references; unit of distance {references.unit:.2g}")
    for criterion in labels:
        if criterion.fingerprint not in encoders:
            if encoders:
                say(
                    f"note: {criterion.predictor} uses the vectors of another encoder, so every record is embedded with "
                    "that one too"
                )
            encoders[criterion.fingerprint] = criterion.folder
    return Criteria(references, labels, encoders)


def _read_references(config: ScreenConfig) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    sequences: list[str] = []
    for piece in plan_pieces(config.similar_to, encoding=config.encoding):
        for table in read_tables(piece, id_column=config.id_column, sequence_column=config.sequence_column, columns=()):
            good, rejects = clean_table(table, piece.name)
            ids += good["id"].to_pylist()
            sequences += good["sequence"].to_pylist()
            for reject in rejects.to_pylist():
                say(f"reference {reject['id'] or reject['number']} of {piece.path} is left out: {reject['reason']}")
    if not ids:
        raise ScreenError(f"{', '.join(config.similar_to)}: no usable reference sequence")
    return ids, sequences


def _recipe(config: ScreenConfig, criteria: Criteria, pieces: list[InputPiece]) -> dict[str, Any]:
    """Everything that decides the result, as plain JSON values; files by their contents."""
    references = criteria.references
    recipe = {
        "format": 2,
        "pieces": [asdict(piece) for piece in pieces],
        "files": contents_of(piece.path for piece in pieces),
        "columns": [config.id_column, config.sequence_column, *config.column_type],
        "top": config.top,
        "references": [references.digest, references.unit] if references else None,
        "labels": [[c.name, c.fingerprint, contents_of([f"{c.folder}/predictor.json"])] for c in criteria.labels],
        **({"prior": [c.prior for c in criteria.labels]} if any(c.prior is not None for c in criteria.labels) else {}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain


def _scored_blocks(
    config: ScreenConfig, criteria: Criteria, pieces: list[InputPiece], state: ScreenState
) -> Iterator[dict[str, Any]]:
    """Run the pass over the pieces that are not finished; yields each scored block as it comes."""
    todo = [piece_row(number, piece) for number, piece in enumerate(pieces) if not state.finished(number)]
    if not todo:
        return
    connect_ray()
    import ray

    workers, gpus_each = plan_workers(config.workers)
    reader = Reader(config.id_column, config.sequence_column, parse_types(config.column_type), state.done)
    context = ray.data.DataContext.get_current().copy()
    # A block travels as one row and each row is a block of Ray's own: Ray would otherwise join and cut them by size.
    context.target_max_block_size = 1
    with ray.data.DataContext.current(context):
        source = ray.data.from_items(todo, override_num_blocks=len(todo))
    # Readers ask for no core: the actors may hold them all, and a reader that waits for one would wait for ever.
    blocks = source.map_batches(
        reader.blocks,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=min(len(todo), max(2, workers))),
    ).map_batches(
        Scorer,
        fn_constructor_args=(criteria, config.top),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=gpus_each,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, initial_size=workers, max_size=workers, max_tasks_in_flight_per_actor=2
        ),
    )
    for batch in blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            if row["problem"]:
                raise ScreenError(row["problem"])
            yield row


# ---- outputs -------------------------------------------------------------------------------------------------------


def _score_columns(criteria: Criteria) -> list[str]:
    columns = [x for c in criteria.labels for x in (c.name, f"predicted {c.predictor}", outside_column(c.predictor))]
    return list(dict.fromkeys(columns))


def _label_names(config: ScreenConfig, pieces: list[InputPiece], criteria: Criteria) -> dict[str, str]:
    """Names of the library's columns in its files -> in the ranking, told before any work.

    Raises:
        InputError: a declared type for a column that no file has.
    """
    files = list({piece.path: piece for piece in pieces}.values())
    given = dict.fromkeys(name for piece in files for name in table_columns(piece))
    for name in parse_types(config.column_type):
        if name not in given:
            have = ", ".join(given) or "none"
            raise InputError(f"--column-type {name}", f"no input has a column of that name. They have: {have}")
    if any(piece.format in ("fasta", "fastq") for piece in files):
        given["description"] = None
    labels = [name for name in given if name not in (config.id_column, config.sequence_column)]
    names = safe_names(labels, reserved=(*OWN_COLUMNS, *_score_columns(criteria)), prefix="input_")
    if told := tell_renamed(names, (name for piece in files for name in unnamed_columns(piece))):
        say(told)
    return names


def _ranked(top: pa.Table, criteria: Criteria, names: dict[str, str]) -> pa.Table:
    """The ranking with its columns in reading order: rank, id, scores, the input's labels, source, the sequence.

    Args:
        top: the best rows, best first. criteria: what they were scored on.
        names: of the input's columns in its files -> in the ranking.
    """
    ranked = top.append_column("rank", pa.array(range(1, top.num_rows + 1), pa.int32()))
    labels = file_columns(ranked.column_names)
    first = ["rank", "id", "length", "score", "similarity", "nearest", *_score_columns(criteria)]
    own = [name for name in (*first, "source", "number", "sha", "sequence") if name in ranked.column_names]
    place = len(own) - 4
    columns = [*own[:place], *map(column_of, labels), *own[place:]]
    return ranked.select(columns).rename_columns([*own[:place], *(names[name] for name in labels), *own[place:]])


def _write_ranked(ranked: pa.Table, out: Path) -> None:
    with new_file(out / "ranked.parquet") as part:
        pq.write_table(ranked, part)
    with new_file(out / "ranked.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(ranked.column_names)
        writer.writerows(zip(*(ranked[name].to_pylist() for name in ranked.column_names), strict=True))


def _write_rejects(state: ScreenState, path: Path) -> None:
    if not state.counts["rejected"] and not state.not_applicable:
        path.unlink(missing_ok=True)  # of an earlier screen into this folder
        return
    with new_file(path) as part, pq.ParquetWriter(part, REJECT_SCHEMA) as writer:
        for table in state.rejects():
            writer.write_table(table)


def _settings(config: ScreenConfig, criteria: Criteria) -> dict[str, str]:
    """What was asked for, for the report and `screen.json`."""
    settings = {"Library": ", ".join(config.library)}
    if criteria.references:
        settings["Similar to"] = f"{', '.join(config.similar_to)} ({counted(len(criteria.references.ids), 'sequence')})"
        settings["Model"] = f"{config.model} (fingerprint {criteria.references.fingerprint})"
        settings["Unit of distance d0"] = f"{criteria.references.unit:.3g}"
    for criterion in criteria.labels:
        settings[f"Label {criterion.name}"] = _describe(criterion)
    settings["Shortlist"] = counted(config.top, "record")
    settings["Made"] = f"{datetime.now(UTC).isoformat(timespec='seconds')} with unirna {package_version()}"
    return settings


def _describe(criterion: LabelCriterion) -> str:
    prior = "" if criterion.prior is None else f", at a prevalence of {criterion.prior:g}"
    return f"predictor {criterion.folder} (encoder fingerprint {criterion.fingerprint}){prior}"
