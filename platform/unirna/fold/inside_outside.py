"""The sum over all nested structures of a sequence, the probability of every pair, and expected counts of every loop.

The recurrences are McCaskill's (Biopolymers 29:1105, 1990), of an unambiguous grammar, in O(L^3) with interior loops of at
most 30 unpaired nucleotides. With the quantities called as in the code, and sums over all places between i and j:

    bonds(i, j)    = pair(i, j) * (hairpin + stacks and bulges + interior loops + multiloops)
    interior loops = sum over left + right <= 30 of loops(left, right) * bonds(i + 1 + left, j - 1 - right)
    multiloops     = sum over k of parts(i + 1, k) * tails(k, j - 1)
    tails(i, j)    = bonds(i, j) as a branch + tails(i, j - 1) * unpaired
    parts(i, j)    = sum over k of (unpaired(i, k) + parts(i, k)) * tails(k, j)
    ends(j)        = ends(j - 1) * unpaired + sum over i of ends(i) * bonds(i, j) outside all pairs

The last branch of `parts` is the one in `tails`, so each structure is counted once. The outward pass runs the same
backwards. It is the derivative of the inward one, so its counts are the gradient of ln Z in the scores. Weights are divided
by e^mu for each nucleotide, so that sums stay within a double's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.fold.energies import KIND, LONGEST, NEAREST, OTHER, Energies, codes_of
from unirna.fold.weights import PAD, Array, add, dot, hairpin_weight, jit, tetraloop_number, weights_of

TYPICAL: Final = 0.25
"""ln Z for each nucleotide that is tried first as mu; another is sought where a sum leaves a double's range."""
SMALL: Final = 1e-280
TRIES: Final = 60


@dataclass(frozen=True)
class Ensemble:
    """All structures of a sequence of L nucleotides.

    Attributes:
        log_z: natural logarithm of the sum of their weights.
        pairs: float64 [L, L], probability of each pair, in the upper triangle.
        counts: expected number of each loop, in the shape of the scores; None if it was not asked for.
    """

    log_z: float
    pairs: Array
    counts: Energies | None = None


class NoStructureError(ValueError):
    """No structure has all the pairs that are forced."""


def fold_all(
    sequence: str,
    energies: Energies,
    extra: Array | None = None,
    *,
    forced: NDArray[np.bool_] | None = None,
    counts: bool = False,
) -> Ensemble:
    """Sum over all nested structures of A-U, C-G and G-U pairs.

    Args:
        sequence: normalised, L nucleotides.
        energies: scores of loops.
        extra: float64 [L, L], a score of each pair (upper triangle) on top; -inf forbids it.
        forced: bool [L], nucleotides that have to pair; None for none.
        counts: also expected counts.

    Raises:
        NoStructureError: no structure pairs all nucleotides of `forced`.
        FloatingPointError: scores so large or small that no scale keeps the sums within a double's range.
    """
    codes = codes_of(sequence)
    length = len(codes)
    if length <= NEAREST:
        if forced is not None and forced.any():
            raise NoStructureError(f"none of {length} nucleotides can pair")
        return Ensemble(0.0, np.zeros((length, length)), Energies.zeros() if counts else None)
    added = np.zeros((length, length)) if extra is None else np.ascontiguousarray(extra, np.float64)
    kind = _kinds(codes, added)
    loose = _loose(length, forced)
    if forced is not None and forced.any():
        counted = _inside(codes, kind, np.ones_like(added), weights_of(Energies.zeros(), length, 0.0), *loose)
        if counted[0][-1] == 0:  # their number; more than a double holds is no 0
            raise NoStructureError("no structure pairs all nucleotides that have to")
    mu, low, high = TYPICAL, -np.inf, np.inf
    for _ in range(TRIES):
        tables = weights_of(energies, length, mu)
        weights = np.exp(added - 2 * mu)
        inside = _inside(codes, kind, weights, tables, *loose)
        ends = inside[0]
        total, least = float(ends[-1]), float(ends.min() if forced is None else ends[ends > 0].min())
        # least: of a long start that cannot pair, say; the start of a pair that is forced has none
        if np.isfinite(total) and min(total, least) > SMALL and total < 1 / SMALL:
            break
        if not np.isfinite(total) or total >= 1 / SMALL:  # too large: more has to be divided out
            low = mu
            mu = (low + high) / 2 if np.isfinite(high) else 2 * mu + 0.1
        else:
            high = mu
            mu = (low + high) / 2 if np.isfinite(low) else mu / 2 - 0.1
    else:
        raise FloatingPointError(f"the scores of a sequence of {length} nucleotides are out of range")
    pairs, *found = _outside(codes, kind, weights, tables, *loose, *inside, counts)
    if not np.isfinite(pairs).all():
        raise FloatingPointError(f"the scores of a sequence of {length} nucleotides are out of range")
    log_z = float(np.log(total)) + mu * length
    return Ensemble(log_z, pairs, _collect(found, length) if counts else None)


def _kinds(codes: NDArray[np.int64], added: Array) -> NDArray[np.int64]:
    """Kind of each pair that may form, -1 for the others. int64 [L, L]."""
    kind = KIND[codes[:, None], codes[None, :]]
    places = np.arange(len(codes))
    kind[(places[None, :] - places[:, None] < NEAREST) | ~np.isfinite(added)] = -1
    return kind


def _loose(length: int, forced: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many nucleotides may stay unpaired in a row, from each one on and up to each one: int64 [L + 1] each."""
    ahead, behind = np.zeros(length + 1, np.int64), np.zeros(length + 1, np.int64)
    may = np.ones(length, bool) if forced is None else ~forced
    for i in range(length):
        behind[i] = behind[i - 1] + 1 if may[i] else 0  # behind[-1] is 0
        ahead[length - 1 - i] = ahead[length - i] + 1 if may[length - 1 - i] else 0
    return ahead, behind


@jit
def _inside(
    codes: Any,
    kind: Any,
    extra: Any,
    w: Any,
    ahead: Any,
    behind: Any,
) -> Any:
    """Inward pass. Runs of unpaired nucleotides are at most as long as `ahead` and `behind` say (`_loose`).

    One function, as is the outward pass: cut into a function for each loop, with the arrays in named tuples, Numba's code
    gave the same numbers in 1.5 times the time (the outward pass 1.7 times), inlined or not.

    Returns: `ends` [L + 1], all structures of the first nucleotides; `bonds` [L, L], of (i, j) given that they pair;
    `seen`, `one`, `plain` [L, PAD + L], after columns of zeros: the same times the weight of the pair's end towards a
    larger interior loop, one with a side of 1, a bulge; `parts` [L + 1, L + 1], of i to j - 1 in a multiloop with one
    branch or more; `tails` [L, L] at [j, i], of i to j with one branch that begins at i.
    """
    n = len(codes)
    bonds, seen = np.zeros((n, n)), np.zeros((n, PAD + n))
    one, plain = np.zeros((n, PAD + n)), np.zeros((n, PAD + n))
    turned_one, turned_plain = np.zeros((n, n + PAD)), np.zeros((n, n + PAD))  # with j first
    parts, tails = np.zeros((n + 1, n + 1)), np.zeros((n, n))
    for i in range(n - 1, -1, -1):
        for j in range(i + NEAREST, n):
            t = kind[i, j]
            if t >= 0:
                weight = 0.0
                if ahead[i + 1] >= j - i - 1:
                    weight = hairpin_weight(codes, i, j, t, w.hairpin, w.hairpin_mismatch, w.tetraloop)
                before, after = min(ahead[i + 1], LONGEST), min(behind[j - 1], LONGEST)  # unpaired at most on each side
                low = max(1, LONGEST - after)
                # stacks and bulges
                if kind[i + 1, j - 1] >= 0:
                    weight += bonds[i + 1, j - 1] * w.stack[t, kind[i + 1, j - 1] ^ 1]
                if before > 0 and kind[i + 2, j - 1] >= 0:
                    weight += bonds[i + 2, j - 1] * w.stack[t, kind[i + 2, j - 1] ^ 1] * w.loops[0, 1]
                if after > 0 and kind[i + 1, j - 2] >= 0:
                    weight += bonds[i + 1, j - 2] * w.stack[t, kind[i + 1, j - 2] ^ 1] * w.loops[0, 1]
                bulges = dot(w.loops[0, 2 : before + 1], turned_plain[j - 1, i + 3 : i + 2 + before])
                bulges += dot(
                    w.mirrored[0, LONGEST - after : LONGEST - 1], plain[i + 1, j + 1 + LONGEST - after : j + LONGEST]
                )
                weight += bulges * w.close[t]
                # interior loops: one side of 1, then the left and the right side from 2 on
                single, total = 0.0, 0.0
                if before > 0:
                    single += dot(w.mirrored[1, low:LONGEST], one[i + 2, j + 1 + low : j + 1 + LONGEST])
                if after > 0:
                    most = min(before + 1, LONGEST)
                    single += dot(w.loops[1, 2:most], turned_one[j - 2, i + 3 : i + 1 + most])
                for left in range(2, min(LONGEST - 1, j - i - 3 - NEAREST, before + 1)):
                    total += dot(w.mirrored[left, low : LONGEST - 1], seen[i + 1 + left, j + 1 + low : j + LONGEST])
                weight += total * w.interior_mismatch[t, codes[i + 1], codes[j - 1]]
                weight += single * w.one_mismatch[t, codes[i + 1], codes[j - 1]]
                # multiloops
                first, last = i + 2 + NEAREST, max(i + 2 + NEAREST, j - NEAREST)
                several = dot(parts[i + 1, first:last], tails[j - 1, first:last])
                weight += several * w.closing[t ^ 1, codes[j - 1], codes[i + 1]]
                weight *= extra[i, j] * w.pair[t]
                bonds[i, j] = weight
                left_code = codes[i - 1] if i > 0 else OTHER
                right_code = codes[j + 1] if j + 1 < n else OTHER
                seen[i, PAD + j] = weight * w.interior_mismatch[t ^ 1, right_code, left_code]
                one[i, PAD + j] = turned_one[j, i] = weight * w.one_mismatch[t ^ 1, right_code, left_code]
                plain[i, PAD + j] = turned_plain[j, i] = weight * w.close[t ^ 1]
                tails[j, i] = weight * w.branch[t, left_code, right_code]
            if behind[j] > 0:
                tails[j, i] += tails[j - 1, i] * w.unpaired[1]
            last = j - NEAREST + 1
            first = min(last, i + ahead[i] + 1)  # what a first branch may begin before
            several = dot(w.unpaired[: first - i], tails[j, i:first])
            parts[i, j + 1] = several + dot(parts[i, i:last], tails[j, i:last])
    ends = np.zeros(n + 1)
    ends[0] = 1.0
    for j in range(n):
        total = ends[j] * w.free if behind[j] > 0 else 0.0
        after = codes[j + 1] if j + 1 < n else OTHER
        for i in range(j - NEAREST + 1):
            if kind[i, j] >= 0:
                total += ends[i] * bonds[i, j] * w.outer[kind[i, j], codes[i - 1] if i > 0 else OTHER, after]
        ends[j + 1] = total
    return ends, bonds, seen, one, plain, parts, tails


@jit
def _outside(
    codes: Any,
    kind: Any,
    extra: Any,
    w: Any,
    ahead: Any,
    behind: Any,
    ends: Any,
    bonds: Any,
    seen: Any,
    one: Any,
    plain: Any,
    parts: Any,
    tails: Any,
    counting: bool,
) -> Any:
    """Outward pass: the derivative of ln(ends[L]) in each quantity of the inward pass, and what it makes of each weight.

    `d_x` is the derivative in `x`; a pair's, times `bonds`, is its probability. `c_x` is the expected number of the loop
    `x`: the derivative in its weight, times the weight. `g` and `flow` are what is handed from the outside in. It is one
    function for the reason given at `_inside`.
    """
    n = len(codes)
    d_bonds = np.zeros((n, n))
    # what a pair that closes a loop hands to those inside it, by the loop's kind
    many, few, bulge = np.zeros((n, n + PAD)), np.zeros((n, n + PAD)), np.zeros((n, n + PAD))
    turned_few, turned_bulge = np.zeros((n, PAD + n)), np.zeros((n, PAD + n))  # with j first
    d_parts, d_tails = np.zeros((n + 1, n + 1)), np.zeros((n, n))
    pairs = np.zeros((n, n))
    c_hairpin, c_hairpin_mismatch, c_tetraloop = np.zeros(n + 1), np.zeros((6, 5, 5)), np.zeros(256)
    c_stack, c_loops = np.zeros((6, 6)), np.zeros((LONGEST + 1, LONGEST + 1))
    c_mirrored = np.zeros((LONGEST + 1, LONGEST + 1))
    c_interior_mismatch, c_one_mismatch, c_close = np.zeros((6, 5, 5)), np.zeros((6, 5, 5)), np.zeros(6)
    c_branch, c_closing, c_outer = np.zeros((6, 5, 5)), np.zeros((6, 5, 5)), np.zeros((6, 5, 5))
    c_unpaired = 0.0
    c_pair = np.zeros(6)
    d_ends = np.zeros(n + 1)
    d_ends[n] = 1.0 / ends[n]
    for j in range(n - 1, -1, -1):
        if behind[j] > 0:
            d_ends[j] += d_ends[j + 1] * w.free
        after = codes[j + 1] if j + 1 < n else OTHER
        for i in range(j - NEAREST + 1):
            t = kind[i, j]
            if t >= 0:
                before = codes[i - 1] if i > 0 else OTHER
                g = d_ends[j + 1] * w.outer[t, before, after]
                d_bonds[i, j] += g * ends[i]
                d_ends[i] += g * bonds[i, j]
                c_outer[t, before, after] += g * ends[i] * bonds[i, j]
    for i in range(n):
        for j in range(n - 1, i + NEAREST - 1, -1):
            g = d_parts[i, j + 1]
            if g > 0.0:
                loose = 0.0
                last = j - NEAREST + 1
                first = min(last, i + ahead[i] + 1)
                add(d_tails[j, i:first], g, w.unpaired[: first - i])
                add(d_tails[j, i:last], g, parts[i, i:last])
                add(d_parts[i, i:last], g, tails[j, i:last])
                if counting:
                    for k in range(i, first):
                        loose += (k - i) * w.unpaired[k - i] * tails[j, k]
                c_unpaired += g * loose
            g = d_tails[j, i]
            if behind[j] > 0:
                d_tails[j - 1, i] += g * w.unpaired[1]
                c_unpaired += g * w.unpaired[1] * tails[j - 1, i]
            t = kind[i, j]
            if t < 0 or bonds[i, j] == 0.0:
                continue
            before = codes[i - 1] if i > 0 else OTHER
            after = codes[j + 1] if j + 1 < n else OTHER
            # the loops that this pair is the inner end of: sizes as in the inward pass
            d_seen, d_one, d_plain = 0.0, 0.0, 0.0
            left_most, right_most = min(behind[i - 1], LONGEST), min(ahead[j + 1], LONGEST)  # behind[-1] is 0
            most, low = min(right_most + 1, LONGEST), max(1, LONGEST - left_most)
            for left in range(2, min(LONGEST - 1, i, left_most + 1)):
                d_seen += dot(w.loops[left, 2:most], many[i - 1 - left, j + 3 : j + 1 + most])
            if i > 1 and left_most > 0:
                d_one += dot(w.loops[1, 1:most], few[i - 2, j + 2 : j + 1 + most])
            if j + 2 < n and right_most > 0:
                d_one += dot(w.mirrored[1, low : LONGEST - 1], turned_few[j + 2, i + 1 + low : i + LONGEST])
            if i > 0:
                d_plain += dot(w.loops[0, 2 : right_most + 1], bulge[i - 1, j + 3 : j + 2 + right_most])
            if j + 1 < n:
                start = LONGEST - left_most
                d_plain += dot(w.mirrored[0, start : LONGEST - 1], turned_bulge[j + 1, i + 1 + start : i + LONGEST])
            c_branch[t, before, after] += g * bonds[i, j] * w.branch[t, before, after]
            c_interior_mismatch[t ^ 1, after, before] += d_seen * seen[i, PAD + j]
            c_one_mismatch[t ^ 1, after, before] += d_one * one[i, PAD + j]
            c_close[t ^ 1] += d_plain * plain[i, PAD + j]
            total = d_bonds[i, j] + g * w.branch[t, before, after] + d_plain * w.close[t ^ 1]
            total += d_seen * w.interior_mismatch[t ^ 1, after, before] + d_one * w.one_mismatch[t ^ 1, after, before]
            pairs[i, j] = total * bonds[i, j]
            c_pair[t] += total * bonds[i, j]
            g = total * extra[i, j] * w.pair[t]
            if g == 0.0:
                continue
            x = 0.0
            if ahead[i + 1] >= j - i - 1:
                x = g * hairpin_weight(codes, i, j, t, w.hairpin, w.hairpin_mismatch, w.tetraloop)
            left_most, right_most = min(ahead[i + 1], LONGEST), min(behind[j - 1], LONGEST)
            c_hairpin[j - i - 1] += x
            c_hairpin_mismatch[t, codes[i + 1], codes[j - 1]] += x
            if j - i == 5 and tetraloop_number(codes, i) >= 0:
                c_tetraloop[tetraloop_number(codes, i)] += x
            s = kind[i + 1, j - 1]
            if s >= 0:
                d_bonds[i + 1, j - 1] += g * w.stack[t, s ^ 1]
                c_stack[t, s ^ 1] += g * w.stack[t, s ^ 1] * bonds[i + 1, j - 1]
            for side in range(2):
                a, b = (i + 2, j - 1) if side == 0 else (i + 1, j - 2)
                s = kind[a, b]
                if s >= 0 and (left_most if side == 0 else right_most) > 0:
                    flow = g * w.stack[t, s ^ 1] * w.loops[0, 1]
                    d_bonds[a, b] += flow
                    c_stack[t, s ^ 1] += flow * bonds[a, b]
                    c_loops[0, 1] += flow * bonds[a, b]
            bulge[i, j] = turned_bulge[j, PAD + i] = g * w.close[t]
            many[i, j] = g * w.interior_mismatch[t, codes[i + 1], codes[j - 1]]
            few[i, j] = turned_few[j, PAD + i] = g * w.one_mismatch[t, codes[i + 1], codes[j - 1]]
            if counting:
                shift = LONGEST + 1 - j
                for p in range(i + 3, min(i + 1 + left_most, j - 1 - NEAREST) + 1):
                    flow = bulge[i, j] * w.loops[0, p - i - 1] * plain[p, PAD + j - 1]
                    c_close[t] += flow
                    c_loops[0, p - i - 1] += flow
                for q in range(max(j - 1 - right_most, i + 1 + NEAREST), j - 2):
                    flow = bulge[i, j] * w.mirrored[0, q + shift] * plain[i + 1, PAD + q]
                    c_close[t] += flow
                    c_mirrored[0, q + shift] += flow
                x, y = 0.0, 0.0
                for left in range(1, min(LONGEST, left_most + 1)):
                    p = i + 1 + left
                    lowest = max(p + NEAREST, j - 1 - min(LONGEST - left, right_most))
                    if lowest > j - 2:
                        break
                    if left == 1:
                        for q in range(lowest, j - 1):
                            flow = few[i, j] * w.mirrored[1, q + shift] * one[p, PAD + q]
                            c_mirrored[1, q + shift] += flow
                            y += flow
                    else:
                        flow = few[i, j] * w.loops[left, 1] * one[p, PAD + j - 2]
                        c_loops[left, 1] += flow
                        y += flow
                        for q in range(lowest, j - 2):
                            flow = many[i, j] * w.mirrored[left, q + shift] * seen[p, PAD + q]
                            c_mirrored[left, q + shift] += flow
                            x += flow
                c_interior_mismatch[t, codes[i + 1], codes[j - 1]] += x
                c_one_mismatch[t, codes[i + 1], codes[j - 1]] += y
            flow = g * w.closing[t ^ 1, codes[j - 1], codes[i + 1]]
            first, last = i + 2 + NEAREST, max(i + 2 + NEAREST, j - NEAREST)
            add(d_parts[i + 1, first:last], flow, tails[j - 1, first:last])
            add(d_tails[j - 1, first:last], flow, parts[i + 1, first:last])
            if counting:
                several = dot(parts[i + 1, first:last], tails[j - 1, first:last])
                c_closing[t ^ 1, codes[j - 1], codes[i + 1]] += flow * several
    return (
        pairs,
        c_hairpin,
        c_hairpin_mismatch,
        c_tetraloop,
        c_stack,
        c_loops + c_mirrored[:, ::-1],
        c_interior_mismatch,
        c_one_mismatch,
        c_close,
        c_branch,
        c_closing,
        c_outer,
        c_unpaired,
        c_pair,
    )


def _collect(found: list[Any], length: int) -> Energies:
    """Counts of the outward pass in the shape of the scores."""
    (hairpin, mismatch, tetraloop, stack, loops, interior, one, close, branch, closing, outer, unpaired, pair) = found
    counts = Energies.zeros()
    sizes = np.arange(length + 1)
    np.add.at(counts.hairpin, np.minimum(sizes, LONGEST), hairpin)
    counts.hairpin_slope[:] = (hairpin * np.log(np.maximum(sizes, LONGEST) / LONGEST)).sum()
    counts.hairpin_mismatch[:], counts.tetraloop[:], counts.stack[:] = mismatch, tetraloop, stack
    counts.count_loops(loops)
    counts.interior_mismatch[:], counts.one_mismatch[:] = interior, one
    counts.close[:] = close + (branch + closing + outer).sum(axis=(1, 2))
    counts.multi[:] = closing.sum(), unpaired, branch.sum() + closing.sum()
    counts.multi_mismatch[:] = branch + closing
    counts.outer_mismatch[:] = outer
    counts.pair[:] = pair
    return counts
