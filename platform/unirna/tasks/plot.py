"""A plot of predicted against true values, as SVG."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from unirna.base import percent
from unirna.tasks.kinds.task import Truth

SIZE, MARGIN = 420, 56
MOST_POINTS = 2000
"""More rows than this are thinned out evenly."""


def predicted_against_true(truth: Truth, prediction: Truth, facts: dict[str, Any]) -> str:
    """Points of test rows, the diagonal, and the band of the interval.

    Args:
        truth, prediction: float64 [N]. facts: `unit` and `interval` as `predictor.json` has them.
    """
    chosen = np.linspace(0, len(truth) - 1, min(len(truth), MOST_POINTS)).astype(int)
    low, high = (float(f(np.concatenate([truth, prediction]))) for f in (np.min, np.max))
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room
    inner = SIZE - 2 * MARGIN

    def x(value: float) -> float:
        return MARGIN + inner * (value - low) / (high - low)

    def y(value: float) -> float:
        return SIZE - MARGIN - inner * (value - low) / (high - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" font-family="sans-serif" font-size="11">',
        f'<clipPath id="inside"><rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}"/></clipPath>',
        f'<rect width="{SIZE}" height="{SIZE}" fill="#fff"/><g clip-path="url(#inside)">',
    ]
    width = facts["interval"]["half_width"]
    if width is not None:
        corners = ((low, low - width), (high, high - width), (high, high + width), (low, low + width))
        lines.append(f'<polygon points="{" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners)}" fill="#e8eef7"/>')
    lines.append(f'<line x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}" stroke="#888"/>')
    lines += [
        f'<circle cx="{x(t):.1f}" cy="{y(p):.1f}" r="1.8" fill="#1f5fa8" fill-opacity="0.45"/>'
        for t, p in zip(truth[chosen].tolist(), prediction[chosen].tolist(), strict=True)
    ]
    lines.append(f'</g><rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}" fill="none" stroke="#444"/>')
    for value in ticks(low, high):
        lines.append(f'<path d="M{x(value):.1f} {SIZE - MARGIN}v4M{MARGIN} {y(value):.1f}h-4" stroke="#444"/>')
        lines.append(f'<text x="{x(value):.1f}" y="{SIZE - MARGIN + 16}" text-anchor="middle">{value:g}</text>')
        lines.append(f'<text x="{MARGIN - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    unit = f" ({escape(facts['unit'])})" if facts["unit"] else ""
    lines += [
        f'<text x="{SIZE / 2}" y="{SIZE - 14}" text-anchor="middle">true value{unit}</text>',
        f'<text transform="translate(14 {SIZE / 2}) rotate(-90)" text-anchor="middle">predicted value{unit}</text>',
        f'<text x="{SIZE / 2}" y="{MARGIN - 14}" text-anchor="middle">{len(truth):,} values of test rows; band: '
        f"{percent(facts['interval']['coverage'])} interval</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def ticks(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten between two numbers."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) < 7)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
