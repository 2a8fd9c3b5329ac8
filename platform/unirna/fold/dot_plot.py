"""A plot of the pair probabilities as SVG: squares above the diagonal by probability, below it the structure."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from unirna.base import counted

LEAST = 0.01
"""Pairs less probable than this are not drawn."""
SIDE = 800.0
"""Pixels of the plot's side; a nucleotide has at most `WIDEST`."""
WIDEST = 12.0
SMALLEST = 3.0
"""Pixels of a nucleotide below which squares have this side, and the probability is their opacity."""
MARGIN = 42.0
TICKS = (5, 10, 20, 50, 100, 200, 500, 1_000)
MOST_TICKS = 12
LETTERED = 60
"""Up to this length the nucleotides stand along the axes."""


def plot(
    sequence: str,
    matrix: NDArray[np.float32],
    pairs: NDArray[np.int64],
    crossing: NDArray[np.int64] | None = None,
    title: str = "",
) -> str:
    """The pair probabilities of a sequence as an SVG document.

    Above the diagonal the area of a square (of more than some 260 nucleotides its opacity) is the probability of its pair
    over all nested structures; below it are the pairs of the predicted structure. Each square has a tooltip.

    Args:
        sequence: L nucleotides.
        matrix: [L, L], probability of each pair in the upper triangle.
        pairs: int64 [P, 2], of the nested structure.
        crossing: int64 [Q, 2], of helices that cross it, in another colour.
        title: read out by screen readers.
    """
    length = len(sequence)
    unit = min(SIDE / max(length, 1), WIDEST)
    side = unit * length
    whole = side + 2 * MARGIN
    title = title or f"Base pair probabilities of {counted(length, 'nucleotide')}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:.0f} {whole:.0f}" width="{whole:.0f}" '
        f'height="{whole:.0f}" role="img" font-family="sans-serif" text-anchor="middle" font-size="10">',
        f"<title>{escape(title)}</title>",
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{side:.1f}" height="{side:.1f}" fill="#fff" stroke="#999"/>',
        f'<path d="M{MARGIN},{MARGIN} l{side:.1f},{side:.1f}" stroke="#ccc"/>',
    ]
    parts += _axes(sequence, unit, side)

    def square(row: int, column: int, share: float, colour: str, text: str) -> str:
        edge, shown = unit * share**0.5, ""
        if unit < SMALLEST:  # too small for areas to be told apart
            edge, shown = SMALLEST, f' fill-opacity="{max(share, 0.1):.2f}"'
        x, y = (MARGIN + (place + 0.5) * unit - edge / 2 for place in (column, row))
        return (
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{edge:.2f}" height="{edge:.2f}" fill="{colour}"{shown}>'
            f"<title>{escape(text)}</title></rect>"
        )

    for i, j in np.argwhere(np.triu(matrix) >= LEAST).tolist():
        name = f"{sequence[i]}{i + 1}-{sequence[j]}{j + 1}, probability {matrix[i, j]:.2f}"
        parts.append(square(i, j, min(float(matrix[i, j]), 1.0), "#2b7bb9", name))
    kinds = ((pairs, "#555", "in the structure"), (crossing, "#c0392b", "in a helix that crosses others"))
    for chosen, colour, what in kinds:
        for i, j in [] if chosen is None else chosen.tolist():
            parts.append(square(j, i, 1.0, colour, f"{sequence[i]}{i + 1}-{sequence[j]}{j + 1}, {what}"))
    return "\n".join([*parts, "</svg>"])


def _axes(sequence: str, unit: float, side: float) -> list[str]:
    """Numbers at the top and left, with lines; nucleotides at the bottom and right if the sequence is short."""
    length = len(sequence)
    every = next((tick for tick in TICKS if length / tick <= MOST_TICKS), TICKS[-1])
    parts = []
    for number in [1, *range(every, length + 1, every)]:
        at = MARGIN + (number - 0.5) * unit
        parts += [
            f'<path d="M{at:.1f},{MARGIN} v{side:.1f} M{MARGIN},{at:.1f} h{side:.1f}" stroke="#eee" fill="none"/>',
            f'<text x="{at:.1f}" y="{MARGIN - 8}" fill="#444">{number}</text>',
            f'<text x="{MARGIN - 6}" y="{at + 3.5:.1f}" fill="#444" text-anchor="end">{number}</text>',
        ]
    if length <= LETTERED:
        for place, letter in enumerate(sequence):
            at = MARGIN + (place + 0.5) * unit
            parts += [
                f'<text x="{at:.1f}" y="{MARGIN + side + 14:.1f}" fill="#444">{escape(letter)}</text>',
                f'<text x="{MARGIN + side + 10:.1f}" y="{at + 3.5:.1f}" fill="#444">{escape(letter)}</text>',
            ]
    return parts
