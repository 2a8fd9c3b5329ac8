"""Local alignment of a query and a hit: identity, coverage, coordinates and CIGAR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from typing import Any, Final

MATCH: Final = 5
MISMATCH: Final = -4
GAP_OPEN: Final = 8
GAP_EXTEND: Final = 6
"""One of blastn's sets of scores, for distant sequences: a gap of n nucleotides costs 8 + 6 n."""
CELLS: Final = 16_000_000
"""Query length times target length up to which an alignment is traced; it takes up to 4 bytes per cell."""
LETTERS: Final = "ACGUNRYSWKMBDHV"
STEP: Final = re.compile(r"(\d+)(\D)")


@dataclass(frozen=True)
class Alignment:
    """The best local alignment of a query and a target.

    Attributes:
        score: in units of `MATCH` 5, `MISMATCH` -4, gaps of n nucleotides -(8 + 6 n).
        identity: share of columns with equal nucleotides. query_coverage, target_coverage: share of each sequence that
            it spans.
        query_start, query_end, target_start, target_end: half-open, from 0.
        cigar: with `=` and `X`; insertions are nucleotides of the query that the target lacks. Empty where nothing aligns.

    All but the score is None for two sequences so long that only their score is worked out (`CELLS`).
    """

    score: int
    identity: float | None = None
    query_coverage: float | None = None
    target_coverage: float | None = None
    query_start: int | None = None
    query_end: int | None = None
    target_start: int | None = None
    target_end: int | None = None
    cigar: str | None = None


@cache
def _matrix() -> Any:
    import parasail

    matrix = parasail.matrix_create(LETTERS, MATCH, MISMATCH)
    for i in range(4, len(LETTERS)):
        matrix[i, i] = MISMATCH
    return matrix


class Aligner:
    """Aligns one query with many targets. Smith-Waterman with affine gaps, by parasail (Daily 2016).

    Args:
        query: the normalised sequence. N and the other IUPAC codes match nothing, not even themselves.
    """

    def __init__(self, query: str) -> None:
        import parasail  # here: only verified searches need it

        self._parasail: Any = parasail
        self.query = query
        self._plain = set(query) <= set("ACGU")
        self._matrix = _matrix()

    @cached_property
    def _profile(self) -> Any:
        return self._parasail.profile_create_sat(self.query, self._matrix)

    def score(self, target: str) -> int:
        """Score of the best local alignment; 0 if nothing aligns."""
        # parasail counts the first nucleotide of a gap in the opening penalty.
        found = self._parasail.sw_striped_profile_sat(self._profile, target, GAP_OPEN + GAP_EXTEND, GAP_EXTEND)
        return int(found.score)

    def align(self, target: str) -> Alignment:
        """The best local alignment."""
        if len(self.query) * len(target) > CELLS:
            return Alignment(self.score(target))
        traced = self._parasail.sw_trace_striped_sat(self.query, target, GAP_OPEN + GAP_EXTEND, GAP_EXTEND, self._matrix)
        if traced.score <= 0:
            return Alignment(0, 0.0, 0.0, 0.0, 0, 0, 0, 0, "")
        cigar = traced.cigar
        steps = [(int(count), step) for count, step in STEP.findall(cigar.decode.decode())]
        query_start, target_start = int(cigar.beg_query), int(cigar.beg_ref)
        while steps[0][1] in "ID":  # parasail counts what stands before the alignment as a gap
            count, step = steps.pop(0)
            query_start += count * (step == "I")
            target_start += count * (step == "D")
        if not self._plain:
            steps = list(_marked(steps, self.query[query_start:], target[target_start:]))
        query_end, target_end = int(traced.end_query) + 1, int(traced.end_ref) + 1
        return Alignment(
            score=int(traced.score),
            identity=sum(count for count, step in steps if step == "=") / sum(count for count, _ in steps),
            query_coverage=(query_end - query_start) / len(self.query),
            target_coverage=(target_end - target_start) / len(target),
            query_start=query_start,
            query_end=query_end,
            target_start=target_start,
            target_end=target_end,
            cigar="".join(f"{count}{step}" for count, step in steps),
        )


def _marked(steps: list[tuple[int, str]], query: str, target: str) -> Iterator[tuple[int, str]]:
    """Steps with `=` for equal A, C, G or U only: parasail also calls two N equal."""
    columns: list[str] = []
    i = j = 0
    for count, step in steps:
        if step in "=X":
            pairs = zip(query[i : i + count], target[j : j + count], strict=True)
            columns += ["=" if a == b and a in "ACGU" else "X" for a, b in pairs]
        else:
            columns += [step] * count
        i += count * (step != "D")
        j += count * (step != "I")
    for step, run in groupby(columns):
        yield sum(1 for _ in run), step
