"""Where the nucleotides of a structure stand in a drawing: helices as ladders, loops as circles, nothing over anything.

A loop starts as a regular polygon whose sides are its backbone steps and its pairs. Where what stands on two neighbouring
helices would meet, the loop's circle grows until every branch has a sector of its own.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD = 0.7
"""Units that are kept free on each side of what stands on a helix."""
TRIES = 200
"""Radii of a loop, at most, each larger than the one before."""


@dataclass
class _Loop:
    """The loop inside a pair; the pair itself lies from -0.5 to 0.5, the loop's centre at `height` above its middle.

    Attributes:
        first, last: the pair; -1 and L outside all pairs.
        runs: unpaired nucleotides before each branch and after the last. branches: the loops inside the inner pairs.
        radius, height: of the circle, and of its centre above the pair. gaps: angles from branch to branch.
        hull: corners of the convex hull of all that stands on the pair, as x + iy.
    """

    first: int
    last: int
    runs: list[int]
    branches: list[_Loop]
    radius: float = 0.0
    height: float = 0.0
    gaps: tuple[float, ...] = ()
    hull: tuple[complex, ...] = ()


def layout(pairs: NDArray[np.int64], length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places of the nucleotides of a nested structure.

    Args:
        pairs: int64 [P, 2], nested, 0-based.
        length: L, nucleotides.

    Returns:
        Places, float64 [L, 2], y upwards: neighbours are one unit apart, or more in a loop that had to grow. Beside them
        the direction in which there is room for a label, [L, 2], of length 1.
    """
    loops = _loops(pairs, length)
    for loop in reversed(loops):  # inner ones first
        _measure(loop)
    places, outward = np.zeros((length, 2)), np.zeros((length, 2))
    open_ = [(loops[0], -0.5 + 0j, 0.5 + 0j)]
    while open_:
        loop, left, right = open_.pop()
        out = (right - left) * 1j
        out /= abs(out)
        centre = (left + right) / 2 + out * loop.height
        for place, angle, branch in _corners(loop):
            spot = centre + loop.radius * -out * cmath.exp(-1j * angle)
            places[place] = spot.real, spot.imag
            away = (spot - centre) / max(abs(spot - centre), 1e-9)
            outward[place] = away.real, away.imag
            if branch is not None:
                other = complex(*places[branch.first])
                open_.append((branch, other, spot))
                side = (spot - other) / max(abs(spot - other), 1e-9)
                outward[branch.last] = side.real, side.imag
                outward[branch.first] = -side.real, -side.imag
    return places, outward


def _loops(pairs: NDArray[np.int64], length: int) -> list[_Loop]:
    """All loops, each before those inside it."""
    partner = np.full(length, -1)
    for i, j in pairs.tolist():
        partner[i], partner[j] = j, i
    found = [_Loop(-1, length, [0], [])]
    for loop in found:
        place = loop.first + 1
        while place < loop.last:
            if partner[place] > place:
                branch = _Loop(place, int(partner[place]), [0], [])
                loop.branches.append(branch)
                loop.runs.append(0)
                found.append(branch)
                place = branch.last
            else:
                loop.runs[-1] += 1
            place += 1
    return found


def _measure(loop: _Loop) -> None:
    """Radius, angles and hull of a loop whose branches are measured."""
    corners = 2 + sum(loop.runs) + 2 * len(loop.branches)
    stacked = len(loop.branches) == 1 and corners == 4
    loop.radius = 0.5 / math.sin(math.pi / corners) if corners > 2 else 0.5
    for _ in range(TRIES):
        loop.height = math.sqrt(max(loop.radius**2 - 0.25, 0.0))
        step = 2 * math.asin(min(0.5 / loop.radius, 1.0))
        gaps = [(run + 2) * step for run in loop.runs]
        if not stacked:
            sectors = [_sector(branch, loop.height) for branch in loop.branches]
            own = math.atan2(0.5 + PAD, loop.height) if loop.first >= 0 else 0.0
            rights, lefts = [own, *(right for _, right in sectors)], [*(left for left, _ in sectors), own]
            gaps = [max(gap, right + left) for gap, right, left in zip(gaps, rights, lefts, strict=True)]
        spare = 2 * math.pi - sum(gaps)
        gaps[0], gaps[-1] = gaps[0] + spare / 2, gaps[-1] + spare / 2  # away from the pair that closes the loop
        loop.gaps = tuple(gaps)
        own_points, branch_points = _points(loop)
        if spare >= -1e-9 and (loop.first < 0 or all(point.imag >= PAD for point in branch_points)):
            break
        loop.radius = loop.radius * 1.05 + 0.05
    loop.hull = _hull([-0.5 + 0j, 0.5 + 0j, *own_points, *branch_points])


def _points(loop: _Loop) -> tuple[list[complex], list[complex]]:
    """Nucleotides on a loop's circle, and the hulls of what stands on its branches, seen from its pair."""
    centre = 1j * loop.height
    circle: list[complex] = []
    hulls: list[complex] = []
    for _, angle, branch in _corners(loop):
        circle.append(centre - 1j * loop.radius * cmath.exp(-1j * angle))
        if branch is not None:
            turn = (circle[-1] - circle[-2]) / abs(circle[-1] - circle[-2])
            hulls += [(circle[-2] + circle[-1]) / 2 + turn * point for point in branch.hull]
    return circle, hulls


def _corners(loop: _Loop) -> list[tuple[int, float, _Loop | None]]:
    """Nucleotides on a loop's circle, the angle of each from the closing pair clockwise, and the branch that it ends."""
    half = math.asin(min(0.5 / loop.radius, 1.0))
    found: list[tuple[int, float, _Loop | None]] = []
    place, start, axis = loop.first + 1, half, 0.0
    for number, (run, gap) in enumerate(zip(loop.runs, loop.gaps, strict=True)):
        axis += gap
        step = (axis - half - start) / (run + 1)
        found += [(place + k, start + (k + 1) * step, None) for k in range(run)]
        if number < len(loop.branches):
            branch = loop.branches[number]
            found += [(branch.first, axis - half, None), (branch.last, axis + half, branch)]
            place, start = branch.last + 1, axis + half
    return found


def _sector(branch: _Loop, height: float) -> tuple[float, float]:
    """Angles that what stands on a branch takes to the left and right, seen from a centre `height` below its pair."""
    left = right = 0.0
    for point in branch.hull:
        above = height + point.imag
        left = max(left, math.atan2(PAD - point.real, above))
        right = max(right, math.atan2(PAD + point.real, above))
    return left, right


def _hull(points: list[complex]) -> tuple[complex, ...]:
    """Convex hull (Andrew 1979)."""
    ordered = sorted(points, key=lambda point: (point.real, point.imag))
    halves = []
    for way in (ordered, ordered[::-1]):
        half: list[complex] = []
        for point in way:
            while len(half) > 1 and ((half[-1] - half[-2]).conjugate() * (point - half[-1])).imag <= 0:
                half.pop()
            half.append(point)
        halves += half[:-1]
    return tuple(halves)
