"""MMseqs2 as a program: its linear-time clustering and its nucleotide search (Steinegger & Söding 2017, 2018).

It is run when it is installed and never imported or shipped. Forward strand only, since RNA has one.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

from unirna.corpus.shards import CorpusError


def mmseqs_version() -> str:
    """Version of the installed program, or an empty text."""
    program = shutil.which("mmseqs")
    if program is None:
        return ""
    return subprocess.run([program, "version"], capture_output=True, text=True, check=True, encoding="utf-8").stdout.strip()


def search(
    queries: Path, references: Path, hits: Path, scratch: Path, *, identity: float, least: int, threads: int
) -> None:
    """Local alignments of queries with references, as a table.

    Columns, without a header: query, target, identity of the aligned part, first and last aligned position and length
    of the query, and the same of the target.

    Args:
        queries, references: FASTA of DNA sequences. hits: table to write. scratch: folder for temporary files.
        identity: least share of identical positions of an alignment, gaps counted.
        least: shortest alignment, in columns. threads: to use.
    """
    # 10-mers without gaps and any E-value: at 80 % identity over 50 nt the default 15-mers would miss most pairs. An
    # ungapped stretch of score 30, such as 18 matches and 2 mismatches, stands in nearly all that is 80 % identical, and in
    # little that is alike by chance (docs/log.md has the figures of other choices).
    options = ["--search-type", "3", "--strand", "1", "-k", "10", "--spaced-kmer-mode", "0", "-e", "1e9", "--mask", "0"]
    options += ["--min-seq-id", str(identity), "--min-aln-len", str(least), "--min-ungapped-score", "30"]
    columns = "query,target,fident,qstart,qend,qlen,tstart,tend,tlen"
    _run("easy-search", queries, references, hits, scratch, *options, "--format-output", columns, "--threads", threads)


def linclust(
    inputs: list[Path],
    clusters: Path,
    scratch: Path,
    *,
    nucleotides: int,
    identity: float,
    coverage: float,
    threads: int,
) -> None:
    """Cluster sequences in linear time; write (representative, member), a cluster's lines one after the other.

    Args:
        inputs: FASTA of DNA sequences. clusters: table to write. scratch: folder for temporary files.
        nucleotides: how many there are in all. identity: least, to the representative.
        coverage: least share of the member in the alignment. threads: to use.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    _run("createdb", *inputs, scratch / "db", "--dbtype", 2, "--shuffle", 0)
    # k-mers as short as chance allows, since each must mean a relative more often than not: the default of 17 loses a
    # seventh of the relatives at 90 % identity, 12 a fiftieth. The coverage is the member's (--cov-mode 1).
    k = min(max(math.ceil(math.log(4 * max(nucleotides, 1), 4)), 12), 17)
    options = ["--min-seq-id", str(identity), "-c", str(coverage), "--cov-mode", "1", "-k", k, "--spaced-kmer-mode", "0"]
    options += ["--kmer-per-seq", "300"]
    _run("linclust", scratch / "db", scratch / "clusters", scratch / "tmp", *options, "--threads", threads)
    _run("createtsv", scratch / "db", scratch / "db", scratch / "clusters", clusters, "--threads", threads)


def _run(*arguments: object) -> None:
    done = subprocess.run(["mmseqs", *map(str, arguments), "-v", "1"], capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise CorpusError(f"mmseqs {arguments[0]} failed with exit code {done.returncode}:\n{tail}")
