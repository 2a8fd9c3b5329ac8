"""The largest request that is answered, and the checks of what every request holds: sequences, and how many hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from unirna.sequence import normalise
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.tasks import PAIR_MARK


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered.

    Attributes:
        max_sequence_length: nucleotides of one sequence. max_k: hits of one search.
        max_variant_nucleotides: passes of the model over a sequence whose variants are scored, times its length.
        max_fold_length: nucleotides of a sequence that is folded; a request may take as long as one of this length.
    """

    max_sequence_length: int = 20_000
    max_k: int = 1_000
    max_fold_length: int = 1_500
    max_variant_nucleotides: int = 150_000

    def check_sequences(self, sequences: Sequence[str], field: str = "sequences") -> list[str]:
        """Bring sequences to one spelling.

        Args:
            sequences: RNA or DNA, upper or lower case.
            field: what to call them in errors; the i-th is `field[i]`.

        Raises:
            RequestError: no sequence, or any that is not RNA or DNA or is too long. All bad ones are named.
        """
        if isinstance(sequences, str) or not isinstance(sequences, Sequence):
            raise bad_field(field, f"expected a list of sequences, got {type(sequences).__name__}")
        if not sequences:
            raise bad_field(field, "expected at least one sequence, got none")
        good: list[str] = []
        bad: list[FieldError] = []
        for i, sequence in enumerate(sequences):
            try:
                good.append(self._checked(sequence))
            except ValueError as error:
                bad.append(FieldError(f"{field}[{i}]", str(error)))
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise RequestError(422, f"{bad[0].field}: {bad[0].message}{more}", *bad[:100])
        return good

    def check_pairs(self, sequences: Sequence[str], field: str = "sequences") -> list[str]:
        """Bring pairs, FIRST&SECOND, to one spelling.

        Raises:
            RequestError: what is no pair, or as `check_sequences`.
        """
        if isinstance(sequences, str) or not isinstance(sequences, Sequence):
            raise bad_field(field, f"expected a list of pairs, got {type(sequences).__name__}")
        parts = [text.split(PAIR_MARK) if isinstance(text, str) else [] for text in sequences]
        for i, part in enumerate(parts):
            if len(part) != 2:
                raise bad_field(f"{field}[{i}]", f"expected two sequences as FIRST{PAIR_MARK}SECOND, got {len(part)}")
        sides = [self.check_sequences([part[side] for part in parts], field) for side in (0, 1)]
        return [PAIR_MARK.join(pair) for pair in zip(*sides, strict=True)]

    def check_sequence(self, sequence: str, field: str = "similar_to") -> str:
        """One sequence in one spelling.

        Raises:
            RequestError: it is not RNA or DNA, or too long.
        """
        try:
            return self._checked(sequence)
        except ValueError as error:
            raise bad_field(field, str(error)) from error

    def _checked(self, sequence: object) -> str:
        if not isinstance(sequence, str):
            raise ValueError(f"expected a sequence as text, got {type(sequence).__name__}")
        sequence = sequence.strip()
        if len(sequence) > self.max_sequence_length:
            raise ValueError(
                f"{len(sequence):,} nucleotides; this service takes sequences of at most "
                f"{self.max_sequence_length:,} (max_sequence_length). Split it into meaningful parts"
            )
        return normalise(sequence)

    def check_k(self, k: object, offset: object = 0) -> None:
        """See that k is a number of hits that the service gives, and that the first of them are within as many.

        Raises:
            RequestError: it is not.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.max_k:
            raise bad_field("k", f"expected a whole number from 1 to {self.max_k:,} (max_k), got {k!r}")
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= self.max_k - k:
            most = f"from 0 to {self.max_k - k:,}, so that offset and k are at most {self.max_k:,} (max_k)"
            raise bad_field("offset", f"expected a whole number {most}, got {offset!r}")


DEFAULT_LIMITS: Final = Limits()
