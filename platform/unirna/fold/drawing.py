"""A drawing of a secondary structure as SVG: helices as ladders, loops as circles, crossing pairs as arcs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

UNIT = 16.0
"""Pixels from one nucleotide to the next."""
MARGIN = 26.0
NUMBER_EVERY = 10
LETTERED = 1_500
"""Longer sequences are drawn without letters."""
LOW, HIGH = (0xF2, 0xE2, 0xB3), (0x2B, 0x7B, 0xB9)
"""Colours of a nucleotide whose place in the structure is uncertain and certain."""


def layout(pairs: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """Where the nucleotides of a nested structure stand: float64 [L, 2], neighbours one unit apart, y upwards.

    Each loop is a regular polygon whose sides are its backbone steps and its pairs; a helix is a ladder of squares. Parts
    of large structures may lie over one another.
    """
    partner = np.full(length, -1)
    for i, j in pairs.tolist():
        partner[i], partner[j] = j, i
    places = np.zeros((length, 2))
    open_ = [(-1, length, np.array([-0.5, 0.0]), np.array([0.5, 0.0]))]  # the outside is closed by a pair that is not drawn
    while open_:
        first, last, left, right = open_.pop()
        corners: list[int] = []
        place = first + 1
        while place < last:
            corners.append(place)
            if partner[place] > place:
                place = int(partner[place])
                corners.append(place)
            place += 1
        count = len(corners) + 2
        radius = 0.5 / math.sin(math.pi / count)
        along = right - left
        out = np.array([-along[1], along[0]])
        centre = (left + right) / 2 + out * math.sqrt(max(radius**2 - 0.25, 0.0)) * (1 if count > 2 else 0)
        start = math.atan2(*(left - centre)[::-1])
        for number, corner in enumerate(corners, 1):
            angle = start - 2 * math.pi * number / count
            places[corner] = centre + radius * np.array([math.cos(angle), math.sin(angle)])
        open_ += [(i, int(partner[i]), places[i], places[partner[i]]) for i in corners if partner[i] > i]
    return places


def draw(
    sequence: str,
    pairs: NDArray[np.int64],
    certainty: Sequence[float] | None = None,
    title: str = "",
    crossing: NDArray[np.int64] | None = None,
) -> str:
    """A structure as an SVG document.

    Args:
        sequence: L letters.
        pairs: int64 [P, 2], nested. crossing: int64 [Q, 2], drawn as arcs over these; without it, those of `pairs` that
            cross an earlier one are.
        certainty: of each nucleotide's place in the structure, 0 to 1: its colour. title: read out by screen readers.
    """
    length = len(sequence)
    nested, crossing = _split(pairs) if crossing is None else (pairs, crossing)
    places = layout(nested, length) * UNIT
    places[:, 1] *= -1
    low, high = (places.min(axis=0), places.max(axis=0)) if length else (np.zeros(2), np.zeros(2))
    places = places - low + MARGIN
    width, height = high - low + 2 * MARGIN
    title = title or f"Secondary structure of {length} nucleotides, {len(pairs)} base pairs"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="sans-serif">',
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
    for place, letter in enumerate(sequence):
        x, y = places[place]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5" fill="{_shade(shades[place])}" stroke="#777"/>')
        if length <= LETTERED:
            ink = "#fff" if shades[place] > 0.6 else "#222"
            parts.append(
                f'<text x="{x:.1f}" y="{y + 3.2:.1f}" text-anchor="middle" font-size="9" fill="{ink}">'
                f"{escape(letter)}</text>"
            )
    centre = places.mean(axis=0) if length else np.zeros(2)
    for place in range(length):
        if (place + 1) % NUMBER_EVERY == 0 or place in (0, length - 1):
            step = places[min(place + 1, length - 1)] - places[max(place - 1, 0)]
            out = np.array([-step[1], step[0]])
            if out @ (places[place] - centre) < 0:
                out = -out
            x, y = places[place] + out / max(float(np.hypot(*out)), 1e-9) * 15
            parts.append(
                f'<text x="{x:.1f}" y="{y + 3:.1f}" text-anchor="middle" font-size="8" fill="#888">{place + 1}</text>'
            )
    return "\n".join([*parts, "</svg>"])


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
