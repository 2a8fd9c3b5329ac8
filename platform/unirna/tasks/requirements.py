"""What a predictor takes: lengths, required nucleotides and, in words, what the sequence must be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from unirna.tasks.errors import TaskError
from unirna.tasks.table.pairs import PAIR_MARK

NUCLEOTIDES: Final[Mapping[str, frozenset[str]]] = {
    code: frozenset(stands_for)
    for code, stands_for in {
        **{"A": "A", "C": "C", "G": "G", "U": "U"},
        **{"R": "AG", "Y": "CU", "K": "GU", "M": "AC", "S": "CG", "W": "AU"},
        **{"B": "CGU", "D": "AGU", "H": "ACU", "V": "ACG", "N": "ACGU"},
    }.items()
}
"""IUPAC code -> the nucleotides that it stands for (Cornish-Bowden 1985)."""
TEXT: Final = re.compile(r"([A-Za-z]+)@(start|centre|end)([+-]\d+)?")
Anchor = Literal["start", "centre", "end"]


@dataclass(frozen=True)
class Motif:
    """Nucleotides at a place of a sequence.

    Attributes:
        pattern: IUPAC codes, such as "DRACH".
        anchor: what `offset` counts from: the first nucleotide, the middle one (of 2n nucleotides the one at n + 1), or the
            last one.
        offset: place of the pattern's first nucleotide from the anchor, in nucleotides; negative is towards the 5' end.
        why: what the nucleotides are, or why they must be there; shown when a sequence is refused.
    """

    pattern: str
    anchor: Anchor = "centre"
    offset: int = 0
    why: str = ""

    def __post_init__(self) -> None:
        if not self.pattern or set(self.pattern) - NUCLEOTIDES.keys():
            raise TaskError(f"motif {self.pattern!r}: expected IUPAC codes of RNA ({''.join(NUCLEOTIDES)})")
        if self.anchor not in ("start", "centre", "end"):
            raise TaskError(f"motif {self.pattern}: anchor {self.anchor!r} is not start, centre or end")

    def __str__(self) -> str:
        return f"{self.pattern}@{self.anchor}" + (f"{self.offset:+d}" if self.offset else "")

    @classmethod
    def parse(cls, text: str) -> Motif:
        """A motif from text.

        Args:
            text: PATTERN@ANCHOR, then the offset if it is not 0, such as "A@centre", "DRACH@centre-2" or "AUG@end-2".

        Raises:
            TaskError: text of another form.
        """
        found = TEXT.fullmatch(text.strip())
        if found is None:
            raise TaskError(
                f"motif {text!r}: expected PATTERN@start, PATTERN@centre or PATTERN@end, and an offset if it is not 0, "
                "such as A@centre or DRACH@centre-2"
            )
        anchor: Any = found[2]
        return cls(found[1].upper().replace("T", "U"), anchor, int(found[3] or 0))

    def start(self, length: int) -> int:
        """Index of the pattern's first nucleotide in a sequence of this length; it may lie outside."""
        return {"start": 0, "centre": length // 2, "end": length - 1}[self.anchor] + self.offset

    def mismatch(self, sequence: str) -> int | None:
        """The first place where a normalised sequence does not have the pattern.

        An ambiguity code fits where all nucleotides that it stands for fit: N fits N only.

        Returns:
            The index in the sequence (it may lie outside), or None if the sequence has the pattern.
        """
        first = self.start(len(sequence))
        for at, code in enumerate(self.pattern, first):
            if not 0 <= at < len(sequence) or not NUCLEOTIDES[sequence[at]] <= NUCLEOTIDES[code]:
                return at
        return None


@dataclass(frozen=True)
class Applicability:
    """Whether a predictor applies to a sequence.

    Attributes:
        reason: why it does not apply; "" if it does.
        kind: what the sequence lacks, "length" or "nucleotides"; "" where the predictor applies.
        motifs: reported motif -> whether the sequence has it.
        in_training_length_range: whether the sequence is within the lengths of the training data.
    """

    reason: str = ""
    kind: Literal["", "length", "nucleotides"] = ""
    motifs: Mapping[str, bool] = field(default_factory=dict)
    in_training_length_range: bool = True

    @property
    def applicable(self) -> bool:
        """Whether the predictor applies."""
        return not self.reason


@dataclass(frozen=True)
class InputRequirements:
    """What a predictor takes. Stands in `predictor.json` under `requirements`.

    Attributes:
        what: what the sequence must be, such as "the last 50 nt of a 5'UTR". Shown to users; it cannot be checked.
        min_length, max_length: in nucleotides, both inclusive; None for no limit. Of pairs they hold for both sequences.
        required: motifs that a sequence must have.
        reported: motifs that an answer tells of: name -> motif.
    """

    what: str = ""
    min_length: int | None = None
    max_length: int | None = None
    required: tuple[Motif, ...] = ()
    reported: Mapping[str, Motif] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shortest, longest = self.min_length, self.max_length
        if (shortest is not None and shortest < 1) or (longest is not None and longest < (shortest or 1)):
            raise TaskError(f"lengths {shortest} to {longest}: expected at least 1 nt, and a minimum not above the maximum")

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> InputRequirements:
        """What `to_json` wrote.

        Raises:
            TaskError: an entry that is not valid.
        """
        try:
            return cls(
                str(found.get("what", "")),
                found.get("min_length"),
                found.get("max_length"),
                tuple(Motif(**one) for one in found.get("required", ())),
                {name: Motif(**one) for name, one in found.get("reported", {}).items()},
            )
        except (TypeError, AttributeError) as error:
            raise TaskError(f"requirements: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "what": self.what,
            "min_length": self.min_length,
            "max_length": self.max_length,
            "required": [asdict(motif) for motif in self.required],
            "reported": {name: asdict(motif) for name, motif in self.reported.items()},
        }

    @property
    def exact_length(self) -> int | None:
        """The one length that is taken, None if there are several."""
        return self.min_length if self.min_length == self.max_length else None

    def lengths(self) -> str:
        """The lengths in words, "" if there is no limit."""
        shortest, longest = self.min_length, self.max_length
        if self.exact_length is not None:
            return f"exactly {shortest:,} nt"
        if shortest is not None and longest is not None:
            return f"{shortest:,} to {longest:,} nt"
        if shortest is not None:
            return f"at least {shortest:,} nt"
        return "" if longest is None else f"at most {longest:,} nt"

    def describe(self) -> str:
        """All of it as one line for a person, "" if nothing is required."""
        motifs = [f"{_place(motif)}{f' ({motif.why})' if motif.why else ''}" for motif in self.required]
        return "; ".join(part for part in (self.what, self.lengths(), *motifs) if part)

    def check(self, sequence: str) -> Applicability:
        """Whether a normalised sequence, or pair FIRST&SECOND, is what is taken.

        Args:
            sequence: upper-case RNA, as `unirna.sequence.normalise` returns it.

        Returns:
            The `Applicability`; motifs are reported of the last sequence of a pair.
        """
        parts = sequence.split(PAIR_MARK)
        motifs = {name: motif.mismatch(parts[-1]) is None for name, motif in self.reported.items()}
        for number, part in enumerate(parts, 1):
            which = "" if len(parts) == 1 else f"sequence {number} of the pair: "
            length = len(part)
            if (self.min_length or 0) > length or (self.max_length is not None and self.max_length < length):
                what = f" ({self.what})" if self.what else ""
                return Applicability(f"{which}expected {self.lengths()}{what}, got {length:,} nt", "length", motifs)
            for motif in self.required:
                if (at := motif.mismatch(part)) is not None:
                    got = f"position {at + 1:,} is {part[at]}" if 0 <= at < length else f"has no position {at + 1:,}"
                    code = motif.pattern[at - motif.start(length)]
                    why = f" ({motif.why})" if motif.why else ""
                    return Applicability(f"{which}{got}, expected {code}{why}", "nucleotides", motifs)
        return Applicability("", "", motifs)


def of_equal_lengths(requirements: InputRequirements, lengths: Sequence[int]) -> InputRequirements:
    """The requirements, with the one length of all training sequences where none is declared.

    Args:
        requirements: as declared.
        lengths: of all training sequences, of pairs of both, in nucleotides.
    """
    if requirements.min_length is not None or requirements.max_length is not None or len(set(lengths)) != 1:
        return requirements
    return replace(requirements, min_length=lengths[0], max_length=lengths[0])


def _place(motif: Motif) -> str:
    where = {"start": "the first nucleotide", "centre": "the middle nucleotide", "end": "the last nucleotide"}[motif.anchor]
    if not motif.offset:
        return f"{motif.pattern} at {where}"
    return f"{motif.pattern} from {abs(motif.offset)} nt {'after' if motif.offset > 0 else 'before'} {where}"
