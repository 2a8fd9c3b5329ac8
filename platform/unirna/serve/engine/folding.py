"""The structure predictor as the service gives its answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.base import counted
from unirna.fold import (
    ConstraintError,
    Fold,
    FoldError,
    StructurePredictor,
    draw,
    load_structure_predictor,
    plot,
    read_constraint,
)
from unirna.model import Model
from unirna.serve.errors import FieldError, RequestError, bad_field

log = logging.getLogger(__name__)
LISTED: Final = 0.05
"""Probability below which a pair is not in an answer."""
CONTACTS_LISTED: Final = 0.2
"""Probability below which a contact is not."""

SHORT: Final = 500
"""Up to this length the encoder, the network and the drawing count more than the cube of the length: all count as this."""


@dataclass(frozen=True)
class Asked:
    """How sequences are folded, and what is given with each structure.

    Attributes:
        drawing: a drawing. contacts: the nucleotides that are close in space. plot: a plot of the pair probabilities.
        pseudoknots: add helices that cross the nested structure.
        constraints: of each sequence, as for `read_constraint`; None for none.
    """

    drawing: bool = False
    contacts: bool = False
    plot: bool = False
    pseudoknots: bool = True
    constraints: Sequence[str | None] | None = None


class Folding:
    """Loads the structure predictor at its first use. Safe to use from several threads.

    Args:
        model: of the service; it is used if the predictor was trained on its states, else the predictor's own is loaded.
        max_length: longest sequence that is folded. Time grows with the cube of it, so one request may take as much as
            one of this length.
    """

    def __init__(self, model: Model, max_length: int) -> None:
        self.model, self.max_length = model, max_length
        self._predictor: StructurePredictor | None = None
        self._loading = threading.Lock()

    def predictor(self) -> StructurePredictor:
        """The predictor.

        Raises:
            RequestError: it cannot be loaded (500; the log says why).
        """
        with self._loading:
            if self._predictor is None:
                try:
                    self._predictor = self._load()
                except FoldError as error:
                    log.warning("the structure predictor cannot be loaded: %s", error)
                    raise RequestError(500, "structures cannot be predicted here; the service's log says why") from error
            return self._predictor

    def _load(self) -> StructurePredictor:
        try:
            return load_structure_predictor(model=self.model)
        except FoldError:
            return load_structure_predictor(device=str(self.model.device))

    def check(self, sequences: Sequence[str], *, bounded: bool = True) -> None:
        """See that sequences are short and, where they are `bounded`, few enough.

        Raises:
            RequestError: one is too long (422), or all together would take too long (413).
        """
        errors = [
            FieldError(
                f"sequences[{i}]",
                f"{counted(len(sequence), 'nucleotide')}; structures are predicted up to {self.max_length:,} "
                "(max_fold_length)",
            )
            for i, sequence in enumerate(sequences)
            if len(sequence) > self.max_length
        ]
        if errors:
            raise RequestError(422, f"{errors[0].field}: {errors[0].message}", *errors[:100])
        cost = sum(max(len(sequence), SHORT) ** 3 for sequence in sequences)
        if bounded and len(sequences) > 1 and cost > self.max_length**3:
            message = (
                f"these {len(sequences):,} sequences take longer to fold than one of {self.max_length:,} nucleotides "
                "(max_fold_length): send fewer at once"
            )
            raise bad_field("sequences", message, 413)

    def check_constraints(self, sequences: Sequence[str], asked: Asked) -> None:
        """See that there is a constraint for each of the checked sequences, and that each can be read.

        Raises:
            RequestError: one is not valid (422).
        """
        given = asked.constraints
        if given is None:
            return
        if isinstance(given, str) or len(given) != len(sequences):
            got = "one text" if isinstance(given, str) else f"{len(given):,}"
            raise bad_field("constraints", f"expected a list of {len(sequences):,}, one for each sequence; got {got}")
        errors = []
        for i, (text, sequence) in enumerate(zip(given, sequences, strict=True)):
            try:
                if text:
                    read_constraint(text.strip(), sequence)
            except ConstraintError as error:
                errors.append(FieldError(f"constraints[{i}]", error.message))
        if errors:
            raise RequestError(422, f"{errors[0].field}: {errors[0].message}", *errors[:100])

    def fold(self, sequences: Sequence[str], asked: Asked) -> list[dict[str, Any]]:
        """Structures of checked sequences, as `answer` gives them.

        Raises:
            RequestError: a constraint that is not valid, or a sequence or constraint without a structure (422).
        """
        self.check_constraints(sequences, asked)
        predictor = self.predictor()
        try:
            return [
                answer(found, asked, predictor.contacts(found) if asked.contacts else None)
                for found in predictor.fold(sequences, pseudoknots=asked.pseudoknots, constraints=asked.constraints)
            ]
        except ConstraintError as error:
            raise bad_field(f"constraints[{error.number or 0}]", error.message) from error
        except FoldError as error:
            raise bad_field("sequences", str(error)) from error


def answer(found: Fold, asked: Asked, contacts: NDArray[np.float32] | None = None) -> dict[str, Any]:
    """A structure as the service gives it.

    Args:
        found: the structure.
        asked: what is given with it.
        contacts: float32 [L, L], where they are asked for.

    Returns:
        The fields of `schemas.Structure`.
    """
    listed = None
    if contacts is not None:
        places = np.argwhere(np.triu(contacts) >= CONTACTS_LISTED).tolist()
        listed = [[i, j, round(float(contacts[i, j]), 4)] for i, j in places]
    sure = found.paired.copy()
    unpaired = [place for place in range(len(sure)) if found.dot_bracket[place] == "."]
    sure[unpaired] = 1 - sure[unpaired]
    return {
        "sequence": found.sequence,
        "structure": found.dot_bracket,
        "pairs": [[i, j, round(p, 4)] for i, j, p in found.probabilities(LISTED)],
        "certainty": [round(float(share), 4) for share in sure],
        "free_energy": found.free_energy,
        "svg": draw(found.sequence, found.nested, sure.tolist(), crossing=found.crossing, matrix=found.matrix)
        if asked.drawing
        else None,
        "contacts": listed,
        "plot": plot(found.sequence, found.matrix, found.nested, found.crossing) if asked.plot else None,
    }
