"""A drawing of a secondary structure as SVG: helices as ladders, loops as circles, crossing pairs as arcs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from unirna.base import counted
from unirna.fold.layout import layout

UNIT = 16.0
"""Pixels from one nucleotide to the next."""
MARGIN = 26.0
NUMBER_EVERY = 10
LOW, HIGH = (0xF2, 0xE2, 0xB3), (0x2B, 0x7B, 0xB9)
"""Colours of a nucleotide whose place in the structure is uncertain and certain."""


def draw(
    sequence: str,
    pairs: NDArray[np.int64],
    certainty: Sequence[float] | None = None,
    title: str = "",
    crossing: NDArray[np.int64] | None = None,
    matrix: NDArray[np.float32] | None = None,
) -> str:
    """A structure as an SVG document; each nucleotide has a tooltip.

    Args:
        sequence: L nucleotides.
        pairs: int64 [P, 2], nested.
        certainty: of each nucleotide's place in the structure, 0 to 1: its colour.
        title: read out by screen readers.
        crossing: int64 [Q, 2], drawn as arcs over these; without it, those of `pairs` that cross an earlier one are.
        matrix: [L, L], probability of each pair in the upper triangle, for the tooltips.
    """
    length = len(sequence)
    nested, crossing = _split(pairs) if crossing is None else (pairs, crossing)
    places, outward = layout(nested, length)
    places, outward = places * (UNIT, -UNIT), outward * (1, -1)
    low, high = (places.min(axis=0), places.max(axis=0)) if length else (np.zeros(2), np.zeros(2))
    places = places - low + MARGIN
    width, height = high - low + 2 * MARGIN
    title = (
        title
        or f"Secondary structure of {counted(length, 'nucleotide')}, {counted(len(nested) + len(crossing), 'base pair')}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="sans-serif" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<polyline fill="none" stroke="#999" stroke-width="1.5" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        + '"/>',
    ]
    for i, j in nested.tolist():
        (a, b), (c, d) = places[i], places[j]
        parts.append(f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" stroke="#555" stroke-width="2"/>')
    for i, j in crossing.tolist():
        (a, b), (c, d) = places[i], places[j]
        bend = 0.25 * np.array([b - d, c - a]) + np.array([a + c, b + d]) / 2
        parts.append(
            f'<path d="M{a:.1f},{b:.1f} Q{bend[0]:.1f},{bend[1]:.1f} {c:.1f},{d:.1f}" fill="none" stroke="#c0392b" '
            'stroke-width="1.5" stroke-dasharray="4 2"/>'
        )
    shades = [1.0] * length if certainty is None else list(certainty)
    notes = tooltips(sequence, np.concatenate([nested, crossing]), matrix)
    for place, letter in enumerate(sequence):
        x, y = places[place]
        ink = "#fff" if shades[place] > 0.6 else "#222"
        parts.append(
            f'<g><title>{escape(notes[place])}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="6.5" '
            f'fill="{_shade(shades[place])}" stroke="#777"/><text x="{x:.1f}" y="{y + 3.2:.1f}" font-size="9" '
            f'fill="{ink}">{escape(letter)}</text></g>'
        )
    for place in range(length):
        if (place + 1) % NUMBER_EVERY == 0 or place in (0, length - 1):
            x, y = places[place] + outward[place] * 15
            parts.append(f'<text x="{x:.1f}" y="{y + 3:.1f}" font-size="8" fill="#666">{place + 1}</text>')
    return "\n".join([*parts, "</svg>"])


def tooltips(sequence: str, pairs: NDArray[np.int64], matrix: NDArray[np.float32] | None = None) -> list[str]:
    """Of each nucleotide: its position from 1, its partner, the probability of that pair or of being unpaired."""
    partner = dict(pairs.tolist()) | {j: i for i, j in pairs.tolist()}
    paired = None if matrix is None else matrix.sum(axis=0) + matrix.sum(axis=1)
    found = []
    for i, letter in enumerate(sequence):
        j = partner.get(i)
        share = None
        if matrix is not None and paired is not None:
            share = max(1 - paired[i], 0) if j is None else matrix[min(i, j), max(i, j)]
        what = "unpaired" if j is None else f"paired with {sequence[j]}{j + 1}"
        found.append(f"{letter}{i + 1} {what}" + ("" if share is None else f", probability {share:.2f}"))
    return found


def _split(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that cross none of those kept so far, and the others."""
    kept: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for i, j in pairs.tolist():
        (others if any(a < i < b < j for a, b in kept) else kept).append((i, j))
    return np.array(kept, np.int64).reshape(-1, 2), np.array(others, np.int64).reshape(-1, 2)


def _shade(share: float) -> str:
    share = min(max(float(share), 0.0), 1.0)
    mixed = (round(low + share * (high - low)) for low, high in zip(LOW, HIGH, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
