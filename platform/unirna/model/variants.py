"""Scores of substitutions by the language model: how much less likely the new nucleotides are in their place.

The score of a variant is the sum over its sites of ln p(new nucleotide) - ln p(old nucleotide), all its sites hidden
(masked marginals, Meier et al. 2021); or ln of the pseudo-likelihood of the whole variant less that of the sequence
(Salazar et al. 2020). Positive: the model finds the variant more likely.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from unirna.model.model import Model
from unirna.model.tokens import tokenise
from unirna.sequence import normalise

LETTERS: Final = "ACGU"
Method = Literal["masked", "pseudo-likelihood"]
SUBSTITUTION: Final = re.compile(r"([ACGTU])([0-9]{1,9})([ACGTU])", re.IGNORECASE)
SHOWN: Final = 60
"""Characters of an invalid variant that the error repeats."""
SEPARATORS: Final = re.compile(r"[,;+:\s]+")


class VariantError(ValueError):
    """A variant that does not fit the sequence; the message says what was expected."""


@dataclass(frozen=True)
class Variant:
    """Substitutions in a sequence.

    Attributes:
        name: as it was given. sites: of each substitution its position (from 0), old and new nucleotide, ordered by
            position.
    """

    name: str
    sites: tuple[tuple[int, str, str], ...]


def parse_variant(text: str, sequence: str) -> Variant:
    """Read a variant such as "A10G", or "G3C+C70G" for several substitutions at once; places count from 1.

    Args:
        text: substitutions, with `+`, `,`, `;`, `:` or spaces between them. sequence: normalised.

    Raises:
        VariantError: it is not a variant, or the sequence has another nucleotide there.
    """
    sites: dict[int, tuple[int, str, str]] = {}
    shown = f"variant {text if len(text) <= SHOWN else text[:SHOWN] + '…'!r}"
    for part in SEPARATORS.split(text.strip()):
        found = SUBSTITUTION.fullmatch(part)
        if found is None:
            raise VariantError(f"{shown}: expected a form such as A10G, or G3C+C70G for several substitutions at once")
        old, new = (found[i].upper().replace("T", "U") for i in (1, 3))
        place = int(found[2]) - 1
        if not 0 <= place < len(sequence):
            raise VariantError(f"{shown}: position {place + 1} is outside the sequence of {len(sequence):,} nucleotides")
        if sequence[place] != old:
            raise VariantError(f"{shown}: the sequence has {sequence[place]} at {place + 1}, not {old}")
        if old == new or place in sites:
            raise VariantError(f"{shown}: it {'changes nothing' if old == new else 'names a place twice'}")
        sites[place] = (place, old, new)
    return Variant(text, tuple(sites[place] for place in sorted(sites)))


def score_variants(
    model: Model, sequence: str, variants: Sequence[str] | None = None, *, method: Method = "masked"
) -> list[tuple[Variant, float]]:
    """Score variants of a sequence, or all its single substitutions.

    Args:
        model: with a language-model head. sequence: RNA or DNA, upper or lower case; L nucleotides.
        variants: such as "A10G"; None for all 3 L single substitutions, in the order of places, then A, C, G, U.
        method: "masked" takes one pass for each site of a variant; "pseudo-likelihood" L for each variant, and L for the
            sequence.

    Returns:
        Each variant with its score in nats.

    Raises:
        SequenceError: not RNA or DNA. VariantError: see `parse_variant`. CheckpointError: no language-model head.
    """
    normalised = normalise(sequence)
    if variants is None:
        parsed = [
            Variant(f"{old}{place + 1}{new}", ((place, old, new),))
            for place, old in enumerate(normalised)
            if old in LETTERS
            for new in LETTERS
            if new != old
        ]
    else:
        parsed = [parse_variant(text, normalised) for text in variants]
    tokens = tokenise(normalised)
    if method == "pseudo-likelihood":
        whole = model.pseudo_log_likelihood(tokens)
        return [(v, model.pseudo_log_likelihood(tokenise(_changed(normalised, v))) - whole) for v in parsed]
    masks = sorted({tuple(place for place, _, _ in variant.sites) for variant in parsed})
    found = dict(zip(masks, model.masked_log_probabilities(tokens, masks), strict=True))
    scores = []
    for variant in parsed:
        log_p = found[tuple(place for place, _, _ in variant.sites)]
        scores.append(
            sum(
                float(row[LETTERS.index(new)]) - float(row[LETTERS.index(old)])
                for row, (_, old, new) in zip(log_p, variant.sites, strict=True)
            )
        )
    return list(zip(parsed, scores, strict=True))


def substitutions(scored: Sequence[tuple[Variant, float]], length: int) -> NDArray[np.float32]:
    """Scores of single substitutions as float32 [L, 4]: A, C, G, U at each place; 0 for the nucleotide that is there."""
    table = np.zeros((length, len(LETTERS)), np.float32)
    for variant, score in scored:
        ((place, _, new),) = variant.sites
        table[place, LETTERS.index(new)] = score
    return table


def _changed(normalised: str, variant: Variant) -> str:
    changed = list(normalised)
    for place, _, new in variant.sites:
        changed[place] = new
    return "".join(changed)


def heat_map(sequence: str, table: NDArray[np.float32], title: str = "") -> str:
    """A table of substitutions as an SVG document: blue more likely, red less; 60 places a row.

    Args:
        sequence: L nucleotides. table: [L, 4] (`substitutions`). title: read out by screen readers.
    """
    width, cell, gap = 60, 14, 26
    largest = max(float(np.abs(table).max(initial=0)), 1e-9)
    blocks = -(-len(sequence) // width)
    high, wide = blocks * (5 * cell + gap) + 30, 40 + cell * min(width, max(len(sequence), 1))
    title = title or f"Scores of all substitutions of {len(sequence)} nucleotides, {-largest:.1f} to {largest:.1f} nats"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img" '
        'font-family="sans-serif" font-size="9">',
        f"<title>{escape(title)}</title>",
    ]
    for place, letter in enumerate(sequence):
        block, column = divmod(place, width)
        left, top = 30 + column * cell, 16 + block * (5 * cell + gap)
        parts.append(f'<text x="{left + cell / 2}" y="{top + 9}" text-anchor="middle" fill="#222">{escape(letter)}</text>')
        if (place + 1) % 10 == 0:
            parts.append(f'<text x="{left + cell / 2}" y="{top - 4}" text-anchor="middle" fill="#888">{place + 1}</text>')
        for row, new in enumerate(LETTERS):
            if column == 0:
                parts.append(f'<text x="18" y="{top + (row + 1) * cell + 10}" fill="#888">{new}</text>')
            score = float(table[place, row])
            fill = "#ddd" if new == letter else _colour(score / largest)
            parts.append(
                f'<rect x="{left}" y="{top + (row + 1) * cell}" width="{cell - 1}" height="{cell - 1}" fill="{fill}">'
                f"<title>{escape(letter)}{place + 1}{new} {score:+.2f}</title></rect>"
            )
    parts.append(
        f'<text x="30" y="{high - 6}" fill="#555">blue: more likely than the nucleotide that is there; red: less; '
        f"full colour {largest:.1f} nats</text>"
    )
    return "\n".join([*parts, "</svg>"])


def _colour(share: float) -> str:
    """From red (-1) over white to blue (1)."""
    to = (0x2B, 0x6C, 0xB0) if share > 0 else (0xC0, 0x39, 0x2B)
    mixed = (round(255 + min(abs(share), 1.0) * (part - 255)) for part in to)
    return "#" + "".join(f"{value:02x}" for value in mixed)
