"""The structure predictor: an encoder, a pair network and loop scores, with what was measured of them.

A predictor is a folder of `fold.json` (what it is) and `head.safetensors` (network and loop scores). The encoder is named
in it, not copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from unirna.fold.constraint import Constraint, ConstraintError, FoldError, read_constraint
from unirna.fold.contacts import FILE as CONTACTS
from unirna.fold.contacts import ContactHead
from unirna.fold.decode import CrossingModel, crossing_candidates, crossing_helices, most_accurate
from unirna.fold.energies import KIND, Energies, codes_of
from unirna.fold.inside_outside import NoStructureError, fold_all
from unirna.fold.network import NetworkConfig, PairNetwork
from unirna.fold.turner import free_energy
from unirna.model import SHIPPED, CheckpointError, Model, load, tokenise
from unirna.model.tensors import save_tensors
from unirna.sequence import normalise, write_dot_bracket

FORMAT: Final = 1
NAME: Final = "secondary-structure"
"""Of the predictor that comes with the package."""
MAX_LENGTH: Final = 4_000
"""Nucleotides that are folded: memory grows with the square of the length, some 3 GB at this one."""
PAIRS_AT_ONCE: Final = 1_000_000
"""Pairs of nucleotides of the sequences that are folded together."""
FAINT: Final = 0.01
"""Probability below which a pair is not listed."""

ONE_ON: Final = str.maketrans("()[]{}<", "[]{}<>A")
"""Brackets of crossing helices: the next kind, since the first is the nested structure's."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """The structure of a sequence of L nucleotides.

    Attributes:
        sequence: normalised.
        nested: int64 [P, 2], pairs of the nested structure, 0-based, ascending. crossing: [Q, 2], of helices that cross it.
        matrix: float32 [L, L], probability of each pair in the upper triangle, over nested structures.
        log_z: natural logarithm of the sum of the weights of all of them.
    """

    sequence: str
    nested: NDArray[np.int64]
    crossing: NDArray[np.int64]
    matrix: NDArray[np.float32]
    log_z: float

    @cached_property
    def dot_bracket(self) -> str:
        """The structure in brackets; crossing helices in `[]`, and in `{}` and so on those that cross these too."""
        length = len(self.sequence)
        nested, crossing = (write_dot_bracket(pairs, length) for pairs in (self.nested, self.crossing))
        return "".join(a if b == "." else b.translate(ONE_ON) for a, b in zip(nested, crossing, strict=True))

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """All pairs, int64 [P + Q, 2], ascending."""
        both = np.concatenate([self.nested, self.crossing])
        return both[np.argsort(both[:, 0])]

    @cached_property
    def paired(self) -> NDArray[np.float32]:
        """Probability of each nucleotide to be paired, float32 [L]."""
        either: NDArray[np.float32] = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        return either.clip(0, 1)

    @cached_property
    def free_energy(self) -> float:
        """Of the nested pairs, in kcal/mol at 37 °C, by the published parameters (`turner`); crossing pairs add nothing."""
        return free_energy(self.sequence, self.nested)

    def probabilities(self, least: float = FAINT) -> list[tuple[int, int, float]]:
        """The pairs of at least this probability, 0-based, in the order of their first nucleotide."""
        first, second = np.nonzero(self.matrix >= least)
        values = self.matrix[first, second]
        return [(int(i), int(j), float(p)) for i, j, p in zip(first, second, values, strict=True)]


class StructurePredictor:
    """Predicts secondary structures. Safe to use from several threads.

    Attributes:
        model: the encoder. network, energies: what was trained on its states. info: the content of `fold.json`.
        contact_head: tells contacts in space from a structure; None if there is none.
        crossing: says which helices across the nested structure are real; None if none are looked for.
    """

    def __init__(
        self,
        model: Model,
        network: PairNetwork,
        energies: Energies,
        info: dict[str, Any],
        contact_head: ContactHead | None = None,
    ) -> None:
        self.model, self.energies, self.info, self.contact_head = model, energies, info, contact_head
        self.network = network.eval().to(model.device)
        self.gamma = float(info.get("gamma", 2.0))
        self.crossing = CrossingModel(**info["crossing"]) if info.get("crossing") else None

    def __repr__(self) -> str:
        return f"StructurePredictor({self.info.get('name', NAME)!r}, {self.model.name})"

    def fold(
        self, sequences: Sequence[str], *, pseudoknots: bool = True, constraints: Sequence[str | None] | None = None
    ) -> list[Fold]:
        """Fold sequences, RNA or DNA in either case.

        Args:
            sequences: at most `MAX_LENGTH` nucleotides each.
            pseudoknots: also look for helices that cross the nested structure.
            constraints: of each sequence, what its structure has to satisfy, in the notation of `read_constraint`; None or
                an empty text for nothing.

        Raises:
            SequenceError: a sequence that is not RNA or DNA.
            FoldError: one that is too long, or a constraint that is not valid or that no structure satisfies
                (`ConstraintError`).
        """
        if isinstance(sequences, str):
            raise TypeError("fold takes a list of sequences, got one string. Write fold([sequence])")
        normalised = [normalise(text, f"sequence {i}") for i, text in enumerate(sequences)]
        for i, text in enumerate(normalised):
            if len(text) > MAX_LENGTH:
                raise FoldError(
                    f"sequence {i} has {len(text):,} nucleotides: structures are predicted up to {MAX_LENGTH:,}. "
                    "Fold its parts"
                )
        asked = self.read_constraints(normalised, constraints)
        found: list[Fold] = []
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            for chunk in _chunks(normalised):
                states = self.model.nucleotides_tokens([tokenise(text) for text in chunk])
                scores = [self.pair_scores(text, state) for text, state in zip(chunk, states, strict=True)]
                first = len(found)
                decode = partial(self._decode_one, pseudoknots=pseudoknots)
                found += pool.map(
                    decode, range(first, first + len(chunk)), chunk, scores, asked[first : first + len(chunk)]
                )
        return found

    def read_constraints(
        self, normalised: Sequence[str], constraints: Sequence[str | None] | None
    ) -> list[Constraint | None]:
        """The constraints of normalised sequences.

        Raises:
            ConstraintError: one that is not valid; `number` says which.
        """
        if constraints is None:
            return [None] * len(normalised)
        if isinstance(constraints, str) or len(constraints) != len(normalised):
            given = "one text" if isinstance(constraints, str) else f"{len(constraints):,}"
            raise ConstraintError(f"expected a list of {len(normalised):,} constraints, one for each sequence; got {given}")
        found = []
        for i, (text, sequence) in enumerate(zip(constraints, normalised, strict=True)):
            try:
                found.append(read_constraint(text.strip(), sequence) if text else None)
            except ConstraintError as error:
                raise ConstraintError(error.message, i) from error
        return found

    def _decode_one(
        self, number: int, sequence: str, scores: Array, constraint: Constraint | None, *, pseudoknots: bool
    ) -> Fold:
        try:
            return self.decode(sequence, scores, pseudoknots=pseudoknots, constraint=constraint)
        except ConstraintError as error:
            raise ConstraintError(error.message, number) from error

    def contacts(self, found: Fold) -> NDArray[np.float32]:
        """Probability that two nucleotides are close in space: float32 [L, L], symmetric, 0 for those nearer than six.

        Raises:
            FoldError: this predictor has no head for contacts.
        """
        if self.contact_head is None:
            raise FoldError(f"{self!r} has no head for contacts: make one with recipes/contacts.py")
        return self.contact_head.probabilities(found.matrix, found.crossing)

    def pair_scores(self, sequence: str, states: NDArray[np.float32]) -> Array:
        """Scores of each pair of a normalised sequence by the network: float64 [L, L].

        Args:
            sequence: L nucleotides. states: float32 [L, D], `Model.nucleotides`.
        """
        codes = codes_of(sequence)
        kinds = torch.from_numpy(KIND[codes[:, None], codes[None, :]])
        device = self.model.device
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(states).to(device), torch.from_numpy(codes).to(device), kinds.to(device))
        found: Array = scores.double().cpu().numpy()
        return found

    def decode(
        self, sequence: str, scores: Array, *, pseudoknots: bool = True, constraint: Constraint | None = None
    ) -> Fold:
        """The structure of a normalised sequence with given pair scores.

        Raises:
            FoldError: no scale keeps the sums over its structures within a double's range.
            ConstraintError: no structure satisfies the constraint.
        """
        forced = None
        if constraint is not None:
            scores, forced = np.where(constraint.allowed, scores, -np.inf), constraint.forced
        try:
            ensemble = fold_all(sequence, self.energies, scores, forced=forced)
        except FloatingPointError as error:
            raise FoldError(f"{error}: it cannot be folded. Fold its parts") from error
        except NoStructureError as error:
            raise ConstraintError(
                f"{error}: pairs do not cross, and the two sides of a loop between two pairs have 30 nucleotides at most"
            ) from error
        nested = most_accurate(ensemble.pairs, self.gamma, forced)
        crossing = np.zeros((0, 2), np.int64)
        if pseudoknots and self.crossing is not None:
            allowed = None if constraint is None else constraint.allowed
            candidates = crossing_candidates(sequence, nested, self.energies, ensemble.pairs, allowed)
            crossing = crossing_helices(candidates, self.crossing)
        return Fold(sequence, nested, crossing, ensemble.pairs.astype(np.float32), ensemble.log_z)

    def save(self, folder: str | Path) -> Path:
        """Write the predictor's folder, the encoder left out."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"network.{name}": value.half().contiguous() for name, value in self.network.state_dict().items()}
        tensors["energies"] = torch.from_numpy(self.energies.flat()).float()
        save_tensors(tensors, folder / "head.safetensors")
        info = {
            **self.info,
            "format": FORMAT,
            "task": NAME,
            "encoder": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "network": self.network.config.to_dict(),
        }
        if self.contact_head is not None:
            self.contact_head.save(folder)
        (folder / "fold.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        return folder


def _chunks(normalised: list[str]) -> Iterator[list[str]]:
    """Sequences whose pairs are held at once."""
    chunk: list[str] = []
    size = 0
    for text in normalised:
        if chunk and size + len(text) ** 2 > PAIRS_AT_ONCE:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text) ** 2
    if chunk:
        yield chunk


def load_structure_predictor(
    name_or_path: str | Path = NAME, *, model: Model | None = None, device: str | None = None
) -> StructurePredictor:
    """Read a structure predictor.

    Args:
        name_or_path: a shipped name or a folder. model: its encoder, if that is loaded already; else it is loaded by name.
        device: of the encoder.

    Raises:
        FoldError: no predictor there, or one of another format, or an encoder that it was not trained on.
    """
    folder = Path(name_or_path)
    if not (folder / "fold.json").is_file():
        folder = SHIPPED / "predictors" / str(name_or_path)
    try:
        info = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "head.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        what = f"no structure predictor {str(name_or_path)!r}: expected a folder of fold.json and head.safetensors"
        raise FoldError(f"{what} ({error})") from error
    if info.get("format") != FORMAT:
        raise FoldError(f"{folder}: format {info.get('format')!r}; this version of unirna reads {FORMAT}")
    made = info["encoder"]
    if model is None:
        try:
            model = load(made["name"], device=device)
        except CheckpointError as error:
            raise FoldError(f"{folder} needs the encoder {made['name']!r}: {error}") from error
    if model.fingerprint != made["fingerprint"]:
        raise FoldError(
            f"{folder} was trained on the states of {made['name']} ({made['fingerprint']}), got those of {model.name} "
            f"({model.fingerprint})"
        )
    network = PairNetwork(NetworkConfig(**info["network"]))
    network.load_state_dict(
        {name.removeprefix("network."): value.float() for name, value in tensors.items() if name.startswith("network.")}
    )
    try:
        contact_head = ContactHead.load(folder) if (folder / CONTACTS).exists() else None
    except ValueError as error:
        raise FoldError(str(error)) from error
    return StructurePredictor(model, network, Energies.from_flat(tensors["energies"].double().numpy()), info, contact_head)
