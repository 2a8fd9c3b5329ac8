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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.corpus import cluster as clustering
from unirna.corpus import write as writing
from unirna.corpus.config import BuildConfig, CorpusSource, parse_sources
from unirna.corpus.exclude import write_references
from unirna.corpus.manifest import cluster_statistics, gather_tables, reasons_of, split_contents, sum_counts
from unirna.corpus.mmseqs import mmseqs_version
from unirna.corpus.resolve import EXCLUDED_SCHEMA, resolve_bucket
from unirna.corpus.scan import CorpusUnit, num_buckets, plan_units, scan_unit
from unirna.corpus.shards import FORMAT, CorpusError, digest_file, is_corpus
from unirna.corpus.summary import write_summary
from unirna.corpus.work import Work
from unirna.job import Progress, package_version, say
from unirna.runs import Spread, changed_file, inline, read_json, run_stage, write_json
from unirna.sequence import (
    REJECT_SCHEMA,
    InputError,
    InputPiece,
    check_unchanged,
    contents_of,
    plan_pieces,
    read_tables,
    stamps_of,
    table_columns,
)

WORK_FORMAT: Final = 2
"""Of the files in `work`: a build that a version with another format began starts over."""
_TITLES: Final = {
    "rows": "scanning",
    "kept": "copies and exclusions",
    "letters": "letters for MMseqs2",
    "linclust": "clustering",
    "members": "cluster members",
    "sizes": "cluster sizes",
    "raw": "weights",
    "shards": "writing",
}
"""Of the stages in the progress line, where the name of the stage says too little."""


def build_corpus(config: BuildConfig, spread: Spread = inline) -> dict[str, Any]:
    """Build a corpus, or return the manifest of the finished one that is there.

    Stages that an earlier, interrupted run finished are kept, bucket by bucket. The manifest is written last and by
    renaming, so a reader sees a whole corpus or none.

    Args:
        config: inputs, output and settings.
        spread: runs the parts of a stage: here, or over a cluster.

    Returns:
        The manifest: counts per split and source, `read = kept + rejected + duplicates + excluded`, and all settings.

    Raises:
        InputError: input that cannot be read, or a column that no input has. CorpusError: settings that make no sense,
            another corpus in the folder, MMseqs2 requested but not installed, or no sequence left.
    """
    config.check()
    out = Path(config.out)
    work = Work(out / "work")
    inputs = _read_inputs(config, work)
    recipe = _recipe(config, inputs)
    if is_corpus(out):
        return _finished(out, work, recipe)
    build = _Build(config, out, work, inputs, _start(work, out, recipe, config), spread)
    scanned = build.scan()
    kept = build.resolve(scanned)
    sizes = build.cluster(kept)
    shards = build.write(kept)
    contents = {
        "format": FORMAT,
        "unirna": package_version(),
        **asdict(build.tools),
        **kept.totals,
        **split_contents(inputs.names, inputs.weights, shards),
        "num_groups": len(kept.groups),
        "clusters": cluster_statistics(sizes),
        "exclusion_sets": kept.references,
        "recipe": recipe,
        # every shard is a mix of all sources; model cards list what stands here
        "shards": [
            {"number": s["number"], "source": ", ".join(inputs.names), "splits": s["splits"]} for s in shards if s["splits"]
        ],
    }
    assert kept.totals["kept"] == sum(split["sequences"] for split in contents["splits"].values())
    if not contents["splits"]["train"]["sequences"]:
        why = reasons_of(kept.totals)
        raise CorpusError(f"{', '.join(config.data)}: no sequence to train on: all are held out. {why}")
    return build.finish(contents, kept, shards)


@dataclass(frozen=True)
class _Inputs:
    """What is read.

    Attributes:
        names: of the sources, in order. weights: of the sources. units: of all sources. sets: that are kept out.
        stamps: of the files, to see whether one changes.
    """

    names: list[str]
    weights: dict[str, float]
    units: list[CorpusUnit]
    sets: list[CorpusSource]
    stamps: list[tuple[str, int, int]]


@dataclass(frozen=True)
class _Tools:
    """The programs that were chosen: each one's name, empty where none is used, and the version of MMseqs2."""

    clustering: str
    exclusion: str
    mmseqs2: str


@dataclass(frozen=True)
class _Kept:
    """The sequences that are kept.

    Attributes:
        starts: int64 [buckets + 1], index of the first of each bucket, and their number. nucleotides: of all.
        groups: names of the groups. totals: counts for the manifest. references: counts of the exclusion sets.
    """

    starts: NDArray[np.int64]
    nucleotides: int
    groups: list[str]
    totals: dict[str, Any]
    references: dict[str, Any]


@dataclass(frozen=True)
class _Build:
    """The steps of a build; parts of a stage that are done are not done again."""

    config: BuildConfig
    out: Path
    work: Work
    inputs: _Inputs
    tools: _Tools
    spread: Spread

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return num_buckets(self.inputs.units, self.config.shard_nucleotides)

    def stage(
        self, name: str, count: int, unit: Callable[[int], dict[str, Any]], sizes: list[int] | None = None
    ) -> list[dict[str, Any]]:
        """Do all parts of a stage; their results, in order."""
        each = sizes or [1] * count
        progress = Progress(_TITLES.get(name, name), sum(each), "bytes" if sizes else "buckets")

        def report(numbers: Sequence[int]) -> None:
            progress.add(sum(each[number] for number in numbers))

        results = run_stage(self.work.files, name, count, unit, spread=self.spread, report=report)
        if progress.done:
            progress.close()
        return results

    def scan(self) -> list[dict[str, Any]]:
        """Read all units."""
        work, units, config, buckets = self.work, self.inputs.units, self.config, self.buckets
        dropped = _groups_to_drop(config)
        sizes = [unit.bytes for unit in units]
        scanned = self.stage("rows", len(units), lambda i: scan_unit(work, i, units[i], config, dropped, buckets), sizes)
        check_unchanged(self.inputs.stamps)
        return scanned

    def resolve(self, scanned: list[dict[str, Any]]) -> _Kept:
        """Leave out copies and what the exclusion sets name."""
        work, inputs, config, buckets, tool = self.work, self.inputs, self.config, self.buckets, self.tools.exclusion
        references: dict[str, Any] = {}
        if inputs.sets:
            (references,) = run_stage(work.files, "references", 1, lambda _: write_references(work, inputs.sets, config))
        resolved = self.stage(
            "kept", buckets, lambda b: resolve_bucket(work, b, inputs.units, inputs.names, config, tool, buckets)
        )
        totals = sum_counts(inputs.names, scanned, resolved)
        if not totals["kept"]:
            raise CorpusError(f"{', '.join(config.data)}: no sequence to train on. {reasons_of(totals)}")
        starts = np.concatenate([[0], np.cumsum([record["kept"] for record in resolved])]).astype(np.int64)
        groups = sorted({name for record in scanned for name in record["groups"]})
        return _Kept(starts, sum(record["nucleotides"] for record in resolved), groups, totals, references)

    def cluster(self, kept: _Kept) -> Counter[int]:
        """Find clusters; how many there are of each size."""
        work, config, buckets, starts = self.work, self.config, self.buckets, kept.starts
        if self.tools.clustering == "none":
            return Counter({1: int(starts[-1])})
        if self.tools.clustering == "mmseqs2":
            self.stage("letters", buckets, lambda b: clustering.write_letters(work, b, int(starts[b])))
            self.stage("linclust", 1, lambda _: clustering.cluster_mmseqs(work, starts, kept.nucleotides, config))
        else:
            self._cluster_minhash(starts)
        self.stage("members", buckets, lambda b: writing.count_members(work, b))
        counted = self.stage("sizes", buckets, lambda b: writing.size_clusters(work, b, starts))
        return sum((Counter({int(k): v for k, v in r["clusters"].items()}) for r in counted), Counter())

    def _cluster_minhash(self, starts: NDArray[np.int64]) -> None:
        work, config, buckets = self.work, self.config, self.buckets
        self.stage("sketch", buckets, lambda b: clustering.sketch_bucket(work, b, int(starts[b]), buckets))
        self.stage("pairs", buckets, lambda b: clustering.pair_part(work, b, starts))
        self.stage("edges", buckets, lambda b: clustering.verify_bucket(work, b, starts, config))
        turn = 0
        while sum(r["undecided"] for r in self.stage(f"settle-{turn}", buckets, _settler(work, starts, turn))):
            turn += 1
        self.stage("cluster", buckets, lambda b: clustering.keep_settled(work, b, turn))

    def write(self, kept: _Kept) -> list[dict[str, Any]]:
        """Weigh the sequences and write the shards; what each holds."""
        work, out, inputs, config = self.work, self.out, self.inputs, self.config
        starts, groups, names, buckets = kept.starts, kept.groups, self.inputs.names, self.buckets
        weighed = self.stage("raw", buckets, lambda b: writing.weigh_bucket(work, b, starts, len(names), config))
        weights = [inputs.weights[name] for name in names]
        factors = writing.source_factors(weighed, weights, config.source_exponent)
        return self.stage(
            "shards", buckets, lambda b: writing.write_shard(work, out, b, starts, names, groups, factors, config)
        )

    def finish(self, contents: dict[str, Any], kept: _Kept, shards: list[dict[str, Any]]) -> dict[str, Any]:
        """Write what goes with the shards, and the manifest last; the manifest."""
        out, work = self.out, self.work
        write_json(out / "groups.json", kept.groups)
        gather_tables(work, out, "excluded", self.buckets, EXCLUDED_SCHEMA)
        gather_tables(work, out, "rejects", len(self.inputs.units), REJECT_SCHEMA)
        write_summary(out / "summary.html", contents)
        files = {name: entry for shard in shards for name, entry in shard["files"].items()}
        for name in ("groups.json", "excluded.parquet", "rejects.parquet", "summary.html"):
            files[name] = {"bytes": (out / name).stat().st_size, "blake2b": digest_file(out / name)}
        write_json(out / "manifest.json", {**contents, "files": files})
        shutil.rmtree(work.folder)
        return read_json(out / "manifest.json")


def _settler(work: Work, starts: NDArray[np.int64], turn: int) -> Callable[[int], dict[str, Any]]:
    return lambda bucket: clustering.settle_bucket(work, bucket, starts, turn)


# ---- inputs and settings -------------------------------------------------------------------------------------------


def _read_inputs(config: BuildConfig, work: Work) -> _Inputs:
    """Find the files, and check the columns that the settings name."""
    sources = parse_sources(config.data)
    names, units = plan_units(sources, str(work.folder), config.encoding)
    pieces = [piece for unit in units for piece in unit.pieces]
    stamps = stamps_of(piece.path for piece in pieces)
    _check_columns(pieces, config)
    weights = {source.name: source.weight for source in sources}
    return _Inputs(names, weights, units, parse_sources(config.exclude, weighted=False), stamps)


def _finished(out: Path, work: Work, recipe: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the corpus that is there, if it is of the same recipe."""
    manifest = read_json(out / "manifest.json")
    if manifest.get("recipe") != recipe:
        path = changed_file(manifest.get("recipe", {}).get("files", []), recipe["files"])
        other = f"an earlier content of {path}" if path else "other data or settings"
        raise CorpusError(f"{out} holds a corpus of {other}. Give another folder, or remove it")
    shutil.rmtree(work.folder, ignore_errors=True)
    return manifest


def _recipe(config: BuildConfig, inputs: _Inputs) -> dict[str, Any]:
    """What decides the corpus: settings and input files, not where it stands."""
    settings = {name: value for name, value in asdict(config).items() if name != "out"}
    pieces = [asdict(piece) for unit in inputs.units for piece in unit.pieces]
    excluded = [asdict(piece) for one in inputs.sets for piece in plan_pieces(one.path, encoding=config.encoding)]
    groups = [asdict(piece) for piece in plan_pieces(config.drop_groups)] if config.drop_groups else []
    files = contents_of(piece["path"] for piece in (*pieces, *excluded, *groups))
    recipe: dict[str, Any] = json.loads(
        json.dumps({**settings, "pieces": pieces, "exclude_pieces": excluded, "files": files})
    )
    return recipe


def _start(work: Work, out: Path, recipe: dict[str, Any], config: BuildConfig) -> _Tools:
    """Claim the folder; the tools to use, which an interrupted build has chosen already."""
    started = work.folder / "started.json"
    installed = mmseqs_version()
    if started.exists():
        before = read_json(started)
        same = before.get("work") == WORK_FORMAT and before["recipe"] == recipe
        if same and before["tools"]["mmseqs2"] in ("", installed):
            return _Tools(**before["tools"])
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
    tools = _Tools(chosen, exclusion, installed if uses else "")
    write_json(started, {"work": WORK_FORMAT, "recipe": recipe, "tools": asdict(tools)})
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
