"""What a corpus is made of: its sources with their names and weights, and every setting of the builder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import tyro

from unirna.corpus.shards import CorpusError
from unirna.sequence.pieces import COMPRESSIONS, FORMATS

CLUSTERINGS: Final = ("auto", "mmseqs2", "minhash", "none")


@dataclass(frozen=True)
class CorpusSource:
    """One named part of a corpus: files that are weighted and counted together."""

    name: str
    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class BuildConfig:
    """Build a training corpus from sequence files."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """Inputs `[NAME=]PATH[@WEIGHT]`: sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, bz2, zst), folders, globs,
    URIs, or - for standard input. Inputs of one name are one source."""
    out: str = "runs/corpus"
    """Folder of the corpus; on a cluster one that every node sees."""
    valid_share: float = 0.02
    """Share of the clusters held out for validation."""
    id_column: str = "id"
    """Column of table input with the identifiers."""
    sequence_column: str = "sequence"
    """Column of table input with the sequences."""
    test_share: float = 0.0
    """Share of the clusters held out for testing."""
    group_column: str = ""
    """Label column that names a sequence's group, such as its family. Inputs without it give records without a group."""
    drop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Boolean label column: a sequence with a true value in any of its copies is left out. May be given several times."""
    drop_groups: str = ""
    """CSV or TSV with the names of groups to leave out, in a column with the name of the group column."""
    exclude: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Sequence set `[NAME=]PATH`: what is identical or near-identical to a member is left out. May be repeated."""
    exclude_identity: float = 0.8
    """Least identity of an alignment with a member, forward strand."""
    exclude_coverage: float = 0.8
    """Least share of the shorter of the two sequences in the alignment."""
    clustering: Literal["auto", "mmseqs2", "minhash", "none"] = "none"
    """How near-duplicates are clustered. auto: MMseqs2 where it is installed, else MinHash; none: a cluster is a distinct
    sequence."""
    identity: float = 0.8
    """Least identity of a member to its cluster's representative."""
    coverage: float = 0.8
    """Least share of the member in its alignment with the representative."""
    cluster_exponent: float = 0.5
    """A cluster of n sequences is drawn in proportion to n to this power. 1: by sequences; 0: by clusters."""
    source_exponent: float = 0.5
    """A source is drawn in proportion to its weight times its number of clusters to this power."""
    shard_nucleotides: int = 64_000_000
    """About how many nucleotides a shard holds; also bounds the memory of a worker."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what a file's byte-order mark says."""

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            CorpusError: names the setting and what it may be.
        """
        if min(self.valid_share, self.test_share) < 0 or self.valid_share + self.test_share >= 1:
            raise CorpusError(
                f"valid share {self.valid_share}, test share {self.test_share}: expected 0 or more, together less than 1"
            )
        for name in ("identity", "coverage", "exclude_identity", "exclude_coverage"):
            if not 0.5 <= getattr(self, name) <= 1:
                raise CorpusError(f"{name.replace('_', ' ')} {getattr(self, name)}: expected 0.5 to 1")
        for name in ("cluster_exponent", "source_exponent"):
            if not 0 <= getattr(self, name) <= 1:
                raise CorpusError(f"{name.replace('_', ' ')} {getattr(self, name)}: expected 0 to 1")
        if self.clustering not in CLUSTERINGS:
            raise CorpusError(f"clustering {self.clustering!r}: expected one of {', '.join(CLUSTERINGS)}")
        if self.drop_groups and not self.group_column:
            raise CorpusError("groups to drop need the column that names them: give --group-column too")
        if self.shard_nucleotides < 1:
            raise CorpusError(f"shard nucleotides {self.shard_nucleotides}: expected 1 or more")


def parse_source(spec: str, *, weighted: bool = True) -> CorpusSource:
    """Read `[NAME=]PATH[@WEIGHT]`; a file whose own name has these signs is taken as it is.

    Args:
        spec: the text. The name is by default the file's or folder's, without its endings.
        weighted: whether `@WEIGHT` may follow.

    Raises:
        CorpusError: a weight that is not a positive number, or no path.
    """
    name, path, weight = "", spec, 1.0
    if not Path(path).exists() and (match := re.fullmatch(r"([\w.+-]+)=(.+)", path)):
        name, path = match.groups()
    if weighted and not Path(path).exists() and (match := re.fullmatch(r"(.+)@([^@/]*)", path)):
        path = match[1]
        try:
            weight = float(match[2])
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise CorpusError(f"{spec}: weight {match[2]!r} is not a positive number. Expected [NAME=]PATH[@WEIGHT]")
    if not path:
        raise CorpusError(f"{spec!r}: no path. Expected [NAME=]PATH[@WEIGHT]")
    return CorpusSource(name or _name_of(path), path, weight)


def parse_sources(specs: tuple[str, ...], *, weighted: bool = True) -> list[CorpusSource]:
    """Sources of several specifications, in their order.

    Raises:
        CorpusError: one name with two weights, or a specification that `parse_source` refuses.
    """
    sources = [parse_source(spec, weighted=weighted) for spec in specs]
    weights: dict[str, float] = {}
    for source in sources:
        if weights.setdefault(source.name, source.weight) != source.weight:
            raise CorpusError(
                f"source {source.name!r} has weights {weights[source.name]:g} and {source.weight:g}. "
                "Give its inputs one weight, or name them apart: NAME=PATH@WEIGHT"
            )
    if len(weights) > 65_535:
        raise CorpusError(f"{len(weights):,} sources: expected 65,535 at most. Give inputs that belong together one name")
    return sources


def _name_of(path: str) -> str:
    if path == "-":
        return "stdin"
    name = PurePosixPath(path.rstrip("/")).name
    for endings in (COMPRESSIONS, FORMATS):
        stem, dot, ending = name.rpartition(".")
        if stem and dot + ending.lower() in endings:
            name = stem
    return name or path
