"""The corpus builder: scan, resolve, cluster, weigh, write; bucket by bucket, through files, in bounded memory.

1. Scan: each unit of the input is read once; good records are spread over buckets by the hash of their sequence.
2. Resolve: in each bucket copies become one, and what rules or exclusion sets keep out is set aside and listed.
3. Cluster: near-duplicates of all buckets get one representative.
4. Weigh: each cluster goes to one split by the hash of its representative; each sequence gets its sampling weight.
5. Write: each bucket becomes one shard; the manifest is written last.

The driver sees counts, never rows, and the names of the groups. What is finished is kept in `<out>/work`, so the same
command goes on after a kill; the folder goes when the corpus is done.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirna.corpus import cluster as clustering
from unirna.corpus import write as writing
from unirna.corpus.config import BuildConfig, CorpusSource, parse_sources
from unirna.corpus.exclude import write_references
from unirna.corpus.mmseqs import mmseqs_version
from unirna.corpus.resolve import EXCLUDED_SCHEMA, resolve_bucket
from unirna.corpus.scan import CorpusUnit, num_buckets, plan_units, scan_unit
from unirna.corpus.shards import FORMAT, SPLITS, CorpusError, digest_file, is_corpus
from unirna.corpus.summary import write_summary
from unirna.corpus.work import Work
from unirna.job import Progress, package_version, say
from unirna.runs import new_file, read_json, write_json
from unirna.sequence import (
    REJECT_SCHEMA,
    InputError,
    InputPiece,
    changed_path,
    check_unchanged,
    contents_of,
    plan_pieces,
    read_tables,
    stamps_of,
    table_columns,
)

Mapper = Callable[[Callable[[Any], dict[str, Any]], list[Any]], Iterable[dict[str, Any]]]


def build_corpus(config: BuildConfig, map_pieces: Mapper = lambda f, items: map(f, items)) -> dict[str, Any]:
    """Build a corpus, or return the manifest of the finished one that is there.

    Stages that an earlier, interrupted run finished are kept, bucket by bucket. The manifest is written last and by
    renaming, so a reader sees a whole corpus or none.

    Args:
        config: inputs, output and settings.
        map_pieces: runs a function over the parts of a stage, in any order: `map`, or one that spreads them over a cluster.

    Returns:
        The manifest: counts per split and source, `read = kept + rejected + duplicates + excluded`, and all settings.

    Raises:
        InputError: input that cannot be read, or a column that no input has. CorpusError: settings that make no sense,
            another corpus in the folder, MMseqs2 requested but not installed, or no sequence left.
    """
    config.check()
    out = Path(config.out)
    work = Work(out / "work")
    sources = parse_sources(config.data)
    sets = parse_sources(config.exclude, weighted=False)
    names, units = plan_units(sources, str(work.folder), config.encoding)
    stamps = stamps_of(piece.path for unit in units for piece in unit.pieces)
    _check_columns([piece for unit in units for piece in unit.pieces], config)
    recipe = _recipe(config, units, sets)
    if is_corpus(out):
        manifest: dict[str, Any] = read_json(out / "manifest.json")
        if manifest.get("recipe") != recipe:
            path = changed_path(manifest.get("recipe", {}).get("files", []), recipe["files"])
            other = f"an earlier content of {path}" if path else "other data or settings"
            raise CorpusError(f"{out} holds a corpus of {other}. Give another folder, or remove it")
        shutil.rmtree(work.folder, ignore_errors=True)
        return manifest
    tools = _start(work, out, recipe, config)
    run = _Run(work, map_pieces)

    # ---- scan
    dropped = _groups_to_drop(config)
    buckets = num_buckets(units, config.shard_nucleotides)
    scanned = run.stage(
        "rows", len(units), lambda i: scan_unit(work, i, units[i], config, dropped, buckets), [u.bytes for u in units]
    )
    check_unchanged(stamps)
    groups = sorted({name for record in scanned for name in record["groups"]})

    # ---- resolve
    references = _references(work, sets, config)
    resolved = run.stage(
        "kept", buckets, lambda b: resolve_bucket(work, b, units, names, config, tools["exclusion"], buckets)
    )
    starts = np.concatenate([[0], np.cumsum([record["kept"] for record in resolved])]).astype(np.int64)
    totals = _totals(names, scanned, resolved)
    if not totals["kept"]:
        raise CorpusError(f"{', '.join(config.data)}: no sequence to train on. {_why(totals)}")

    # ---- cluster
    sizes = Counter({1: int(starts[-1])})
    if tools["clustering"] == "mmseqs2":
        run.stage("letters", buckets, lambda b: clustering.write_letters(work, b, int(starts[b])))
        run.stage("linclust", 1, lambda _: _linclust(work, starts, config))
    elif tools["clustering"] == "minhash":
        run.stage("sketch", buckets, lambda b: clustering.sketch_bucket(work, b, int(starts[b]), buckets))
        run.stage("pairs", buckets, lambda b: clustering.pair_part(work, b, starts))
        run.stage("edges", buckets, lambda b: clustering.verify_bucket(work, b, starts, config))
        turn = 0
        while sum(r["undecided"] for r in run.stage(f"settle-{turn}", buckets, _settler(work, starts, turn))):
            turn += 1
        run.stage("cluster", buckets, lambda b: _settled(work, b, turn))
    if tools["clustering"] != "none":
        run.stage("members", buckets, lambda b: writing.count_members(work, b))
        counted = run.stage("sizes", buckets, lambda b: writing.size_clusters(work, b, starts))
        sizes = sum((Counter({int(k): v for k, v in r["clusters"].items()}) for r in counted), Counter())

    # ---- weigh and write
    weighed = run.stage("raw", buckets, lambda b: writing.weigh_bucket(work, b, starts, len(names), config))
    weights = {source.name: source.weight for source in sources}
    factors = writing.source_factors(weighed, [weights[name] for name in names], config.source_exponent)
    shards = run.stage(
        "shards", buckets, lambda b: writing.write_shard(work, out, b, starts, names, groups, factors, config)
    )
    manifest = {
        "format": FORMAT,
        "unirna": package_version(),
        **{name: tools[name] for name in ("clustering", "exclusion", "mmseqs2")},
        **totals,
        **_contents(names, weights, shards),
        "num_groups": len(groups),
        "clusters": _cluster_statistics(sizes),
        "exclusion_sets": references,
        "recipe": recipe,
        # every shard is a mix of all sources; model cards list what stands here
        "shards": [
            {"number": s["number"], "source": ", ".join(names), "splits": s["splits"]} for s in shards if s["splits"]
        ],
    }
    assert totals["kept"] == sum(split["sequences"] for split in manifest["splits"].values())
    if not manifest["splits"]["train"]["sequences"]:
        raise CorpusError(f"{', '.join(config.data)}: no sequence to train on: all are held out. {_why(totals)}")
    write_json(out / "groups.json", groups)
    _gather(work, out, "excluded", buckets, EXCLUDED_SCHEMA)
    _gather(work, out, "rejects", len(units), REJECT_SCHEMA)
    write_summary(out / "summary.html", manifest)
    files = {name: entry for shard in shards for name, entry in shard["files"].items()}
    for name in ("groups.json", "excluded.parquet", "rejects.parquet", "summary.html"):
        files[name] = {"bytes": (out / name).stat().st_size, "blake2b": digest_file(out / name)}
    write_json(out / "manifest.json", {**manifest, "files": files})
    shutil.rmtree(work.folder)
    finished: dict[str, Any] = read_json(out / "manifest.json")
    return finished


class _Run:
    """Runs the stages of a build; parts of a stage that are done are not done again."""

    def __init__(self, work: Work, map_pieces: Mapper) -> None:
        self.work, self.map_pieces = work, map_pieces

    def stage(
        self, name: str, count: int, function: Callable[[int], None], sizes: list[int] | None = None
    ) -> list[dict[str, Any]]:
        """Do all parts of a stage; their records, in order."""
        todo = [number for number in range(count) if not self.work.done(name, number)]

        def do(number: int) -> dict[str, Any]:
            function(number)
            return {"number": number}  # what came of it stands in the record on disk

        if todo:
            sizes = sizes or [1] * count
            progress = Progress(_TITLES.get(name, name), sum(sizes), "bytes" if sizes[0] != 1 else "buckets")
            done = sum(sizes) - sum(sizes[number] for number in todo)
            for result in self.map_pieces(do, todo):
                done += sizes[result["number"]]
                progress.update(done)
            progress.close()
        return [self.work.record(name, number) for number in range(count)]


_TITLES = {
    "rows": "scanning",
    "kept": "copies and exclusions",
    "letters": "letters for MMseqs2",
    "linclust": "clustering",
    "members": "cluster members",
    "sizes": "cluster sizes",
    "raw": "weights",
    "shards": "writing",
}


def _recipe(config: BuildConfig, units: list[CorpusUnit], sets: list[CorpusSource]) -> dict[str, Any]:
    """What decides the corpus: settings and input files, not where it stands."""
    settings = {name: value for name, value in asdict(config).items() if name != "out"}
    pieces = [asdict(piece) for unit in units for piece in unit.pieces]
    excluded = [asdict(piece) for one in sets for piece in plan_pieces(one.path, encoding=config.encoding)]
    groups = [asdict(piece) for piece in plan_pieces(config.drop_groups)] if config.drop_groups else []
    files = contents_of(piece["path"] for piece in (*pieces, *excluded, *groups))
    recipe: dict[str, Any] = json.loads(
        json.dumps({**settings, "pieces": pieces, "exclude_pieces": excluded, "files": files})
    )
    return recipe


def _start(work: Work, out: Path, recipe: dict[str, Any], config: BuildConfig) -> dict[str, str]:
    """Claim the folder; the tools to use, which an interrupted build has chosen already."""
    started = work.folder / "started.json"
    installed = mmseqs_version()
    if started.exists():
        before = read_json(started)
        if before["recipe"] == recipe and before["tools"]["mmseqs2"] in ("", installed):
            tools: dict[str, str] = before["tools"]
            return tools
        for leftover in work.folder.iterdir():  # an interrupted build of something else
            if leftover.is_dir():
                shutil.rmtree(leftover)
        for leftover in out.glob("*-[0-9][0-9][0-9][0-9][0-9].*"):
            leftover.unlink()
    chosen = config.clustering
    if chosen == "auto":
        chosen = "mmseqs2" if installed else "minhash"
    if chosen == "mmseqs2" and not installed:
        raise CorpusError(
            "clustering mmseqs2: no program `mmseqs` is installed (Debian: apt-get install mmseqs2). "
            "Install it, or give --clustering minhash"
        )
    if not installed and (config.exclude or config.clustering == "auto"):
        say("MMseqs2 is not installed: near-duplicates are found by shared k-mers, which misses more of the distant ones")
    exclusion = ("mmseqs2" if installed else "kmers") if config.exclude else ""
    uses = "mmseqs2" in (chosen, exclusion)
    tools = {"clustering": chosen, "exclusion": exclusion, "mmseqs2": installed if uses else ""}
    write_json(started, {"recipe": recipe, "tools": tools})
    return tools


def _groups_to_drop(config: BuildConfig) -> frozenset[str]:
    if not config.drop_groups:
        return frozenset()
    (piece,) = plan_pieces(config.drop_groups, encoding=config.encoding)
    column = config.group_column
    if column not in (given := table_columns(piece)):
        have = ", ".join(given) or "none"
        raise InputError(piece.path, f"has no column {column!r}, as --group-column calls it. It has: {have}. Rename it")
    names: set[str] = set()
    for table in read_tables(piece, id_column=column, sequence_column=column, columns=()):
        names.update(name for name in table["id"].to_pylist() if name)
    return frozenset(names)


def _check_columns(pieces: list[InputPiece], config: BuildConfig) -> None:
    """See that each column that is named is in one of the files, before any work."""
    wanted = [("--group-column", config.group_column), *(("--drop", name) for name in config.drop)]
    wanted = [(flag, name) for flag, name in wanted if name]
    found: set[str] = set()
    for piece in pieces:
        if {name for _, name in wanted} <= found:
            return
        found.update(["description"] if piece.format in ("fasta", "fastq") else table_columns(piece))
    for flag, name in wanted:
        if name not in found:
            raise InputError(", ".join(config.data), f"no input has a column {name!r}. Name another with {flag}")


def _references(work: Work, sets: list[CorpusSource], config: BuildConfig) -> dict[str, Any]:
    if not sets:
        return {}
    if not work.done("references", 0):
        work.finish("references", 0, write_references(work, sets, config))
    return work.record("references", 0)


def _linclust(work: Work, starts: Any, config: BuildConfig) -> None:
    clustering.cluster_mmseqs(work, starts, config)
    work.finish("linclust", 0, {})


def _settler(work: Work, starts: Any, turn: int) -> Callable[[int], None]:
    return lambda bucket: clustering.settle_bucket(work, bucket, starts, turn)


def _settled(work: Work, bucket: int, turn: int) -> None:
    work.write_array("cluster", bucket, np.asarray(work.array(f"settle-{turn}", bucket)))
    work.finish("cluster", bucket, {})


# ---- the manifest --------------------------------------------------------------------------------------------------


def _totals(names: list[str], scanned: list[dict[str, Any]], resolved: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of the whole, checked; `by_source` holds them for each source."""
    reasons: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    each = {name: {"read": 0, "rejected": 0, "duplicates": 0, "excluded": 0} for name in names}
    for record in scanned:
        source = each[names[record["source"]]]
        source["read"] += record["read"]
        source["rejected"] += sum(record["rejected"].values())
        reasons.update(record["rejected"])
    for record in resolved:
        for name, count in record["duplicates"].items():
            each[name]["duplicates"] += count
        for name, by, count in record["excluded"]:
            each[name]["excluded"] += count
            excluded[by] += count
    sums = {key: sum(source[key] for source in each.values()) for key in ("read", "rejected", "duplicates", "excluded")}
    kept = sum(record["kept"] for record in resolved)
    if sums["read"] != kept + sums["rejected"] + sums["duplicates"] + sums["excluded"]:
        raise CorpusError(f"{sums} do not add up with {kept} kept: the input changed while it was read. Start again")
    for source in each.values():
        source["kept"] = source["read"] - source["rejected"] - source["duplicates"] - source["excluded"]
    return {
        "read": sums["read"],
        "kept": kept,
        "rejected": sums["rejected"],
        "rejected_by_reason": dict(reasons.most_common()),
        "duplicates": sums["duplicates"],
        "excluded": sums["excluded"],
        "excluded_by_set": dict(excluded.most_common()),
        "by_source": each,
    }


def _why(totals: dict[str, Any]) -> str:
    reasons = totals["rejected_by_reason"] or "none"
    return f"Rejected: {reasons}. Excluded: {totals['excluded_by_set'] or 'none'}"


def _contents(names: list[str], weights: dict[str, float], shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Sequences, nucleotides, lengths and shares of the draw, of each split and source."""
    splits: dict[str, Any] = {}
    for split in SPLITS:
        parts = [shard["splits"][split] for shard in shards if split in shard["splits"]]
        by_source: dict[str, dict[str, float]] = {}
        share = np.sum([part["source_weight"] for part in parts], axis=0) if parts else np.zeros(len(names))
        for number, name in enumerate(names):
            counts = [part["sources"][name] for part in parts if name in part["sources"]]
            if counts:
                sequences, nucleotides = (sum(c[i] for c in counts) for i in (0, 1))
                of_draw = round(float(share[number]), 6)
                by_source[name] = {"sequences": sequences, "nucleotides": nucleotides, "share": of_draw}
        splits[split] = {
            "sequences": sum(part["sequences"] for part in parts),
            "nucleotides": sum(part["nucleotides"] for part in parts),
            "with_group": sum(part["with_group"] for part in parts),
            "sources": by_source,
            "lengths": np.sum([part["lengths"] for part in parts], axis=0).tolist() if parts else [],
        }
    for shard in shards:
        for part in shard["splits"].values():
            for detail in ("sources", "source_weight", "lengths"):
                del part[detail]  # of interest in sum alone
    return {
        "splits": splits,
        "sources": names,
        "source_weights": [weights[name] for name in names],
        "length_edges": list(writing.LENGTH_EDGES),
    }


def _cluster_statistics(sizes: Counter[int]) -> dict[str, Any]:
    """Number of clusters, of those with one member, the largest, and how many there are up to each power of two."""
    histogram: Counter[int] = Counter()
    for size, number in sizes.items():
        histogram[1 << (size - 1).bit_length()] += number
    return {
        "clusters": sum(sizes.values()),
        "singletons": sizes.get(1, 0),
        "largest": max(sizes, default=0),
        "sizes_up_to": {str(size): histogram[size] for size in sorted(histogram)},
    }


def _gather(work: Work, out: Path, stage: str, count: int, schema: pa.Schema) -> None:
    """One Parquet file of what the parts of a stage set aside, copied part by part."""
    with new_file(out / f"{stage}.parquet") as beside, pq.ParquetWriter(beside, schema) as writer:
        for number in range(count):
            table: pa.Table = pq.read_table(work.at(stage, number, "parquet"))
            if table.num_rows:
                writer.write_table(table)
