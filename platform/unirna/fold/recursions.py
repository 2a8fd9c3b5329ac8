"""The sum over all nested structures of a sequence, the probability of every pair, and expected counts of every loop.

The recursions are McCaskill's (1990), of an unambiguous grammar, in O(L^3) with interior loops of at most 30 unpaired
nucleotides. The outward pass is the derivative of the inward one, so its counts are the gradient of ln Z in the scores.
Weights are divided by e^mu for each nucleotide, so that sums stay within a double's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unirna.fold.energies import KIND, LONGEST, NEAREST, OTHER, Energies, codes_of

Array = NDArray[np.float64]

_jit: Any = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")


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


def fold_all(sequence: str, energies: Energies, extra: Array | None = None, *, counts: bool = False) -> Ensemble:
    """Sum over all nested structures of A-U, C-G and G-U pairs.

    Args:
        sequence: normalised letters, L of them.
        energies: scores of loops.
        extra: float64 [L, L], a score of each pair (upper triangle) on top; -inf forbids it.
        counts: also expected counts.
    """
    codes = codes_of(sequence)
    length = len(codes)
    if length <= NEAREST:
        return Ensemble(0.0, np.zeros((length, length)), Energies.zeros() if counts else None)
    added = np.zeros((length, length)) if extra is None else np.ascontiguousarray(extra, np.float64)
    kind = _kinds(codes, added)
    mu = 0.35 if extra is None else 0.5
    step = 0.2
    for _ in range(40):
        tables = _tables(energies, length, mu)
        weights = np.exp(added - 2 * mu)
        inside = _inside(codes, kind, weights, *tables)
        total = inside[0][-1]
        if np.isfinite(total) and total > 1e-280 and total < 1e280:
            break
        mu += step if total > 1 or not np.isfinite(total) else -step
        step *= 0.9
    else:
        raise FloatingPointError(f"the scores of a sequence of {length} nucleotides are out of range")
    pairs, *found = _outside(codes, kind, weights, *tables, *inside, counts)
    log_z = float(np.log(total)) + mu * length
    return Ensemble(log_z, pairs, _collect(found, tables, length) if counts else None)


def count_structure(sequence: str, pairs: NDArray[np.int64]) -> Energies:
    """Counts of the loops of one nested structure, in the shape of the scores.

    Args:
        sequence: normalised letters.
        pairs: int64 [P, 2], nested, of A-U, C-G and G-U alone, at least 4 apart.
    """
    codes = codes_of(sequence)
    partner = np.full(len(codes), -1)
    for i, j in np.asarray(pairs).tolist():
        partner[i], partner[j] = j, i
    found = Energies.zeros()
    loops = np.zeros((LONGEST + 1, LONGEST + 1))

    def at(place: int) -> int:
        return int(codes[place]) if 0 <= place < len(codes) else OTHER

    def children(start: int, end: int) -> list[tuple[int, int]]:
        inner, place = [], start
        while place < end:
            if partner[place] > place:
                inner.append((place, int(partner[place])))
                place = int(partner[place])
            place += 1
        return inner

    for i, j in children(0, len(codes)):
        t = KIND[codes[i], codes[j]]
        found.close[t] += 1
        found.outer_mismatch[t, at(i - 1), at(j + 1)] += 1
    for i, j in ((i, int(partner[i])) for i in range(len(codes)) if partner[i] > i):
        t = KIND[codes[i], codes[j]]
        found.pair[t] += 1
        inner = children(i + 1, j)
        if not inner:
            size = j - i - 1
            found.hairpin[min(size, LONGEST)] += 1
            found.hairpin_slope += np.log(max(size, LONGEST) / LONGEST)
            found.hairpin_mismatch[t, at(i + 1), at(j - 1)] += 1
            if size == 4 and _tetraloop(codes, i) >= 0:
                found.tetraloop[_tetraloop(codes, i)] += 1
        elif len(inner) == 1:
            p, q = inner[0]
            left, right = p - i - 1, j - q - 1
            back = KIND[codes[p], codes[q]] ^ 1
            if left + right > LONGEST:  # not in the model; counted at the longest, so that the gradient points somewhere
                left, right = min(left, LONGEST // 2), min(right, LONGEST // 2)
            loops[left, right] += left + right > 0
            if left == 0 and right == 0:
                found.stack[t, back] += 1
            elif left == 0 or right == 0:
                if left + right == 1:
                    found.stack[t, back] += 1
                else:
                    found.close[t] += 1
                    found.close[back] += 1
            else:
                table = found.one_mismatch if min(left, right) == 1 else found.interior_mismatch
                table[t, at(i + 1), at(j - 1)] += 1
                table[back, at(q + 1), at(p - 1)] += 1
        else:
            found.multi += np.array([1, j - i - 1 - sum(q - p + 1 for p, q in inner), 1 + len(inner)])
            found.close[t ^ 1] += 1
            found.multi_mismatch[t ^ 1, at(j - 1), at(i + 1)] += 1
            for p, q in inner:
                found.close[KIND[codes[p], codes[q]]] += 1
                found.multi_mismatch[KIND[codes[p], codes[q]], at(p - 1), at(q + 1)] += 1
    found.count_loops(loops)
    return found


def _kinds(codes: NDArray[np.int64], added: Array) -> NDArray[np.int64]:
    """Kind of each pair that may form, -1 for the others. int64 [L, L]."""
    kind = KIND[codes[:, None], codes[None, :]]
    places = np.arange(len(codes))
    kind[(places[None, :] - places[:, None] < NEAREST) | ~np.isfinite(added)] = -1
    return kind


def _tables(energies: Energies, length: int, mu: float) -> tuple[Array, ...]:
    """Weights of the loops: hairpins by size, stacks, interior loops reversed in their right side, ends of helices."""
    sizes = np.arange(length + 1)
    hairpin = np.exp(energies.hairpins(length) - mu * sizes)
    left, right = np.indices((LONGEST + 1, LONGEST + 1))
    loops = np.exp(energies.loops() - mu * (left + right))
    close, pair = energies.close[:, None, None], energies.pair[:, None, None]
    a, b, c = energies.multi
    return (
        hairpin,
        np.exp(energies.hairpin_mismatch),
        np.exp(energies.tetraloop),
        np.exp(energies.stack),
        loops,
        np.ascontiguousarray(loops[:, ::-1]),
        np.exp(energies.interior_mismatch),
        np.exp(energies.one_mismatch),
        np.exp(energies.close),
        np.exp(energies.multi_mismatch + close + c),
        np.exp(energies.multi_mismatch + close + c + a),
        np.exp((b - mu) * sizes),
        np.exp(energies.outer_mismatch + close),
        np.exp(pair[:, 0, 0]),
        np.array([np.exp(-mu)]),
    )


@_jit
def _tetraloop(codes: Any, i: int) -> Any:
    """The four letters after i as a number to the base 4; -1 where one is no letter."""
    for place in range(i + 1, i + 5):
        if codes[place] > 3:
            return -1
    return 64 * codes[i + 1] + 16 * codes[i + 2] + 4 * codes[i + 3] + codes[i + 4]


@_jit
def _hairpin(codes: Any, i: int, j: int, t: int, hairpin: Any, mismatch: Any, tetraloop: Any) -> Any:
    weight = hairpin[j - i - 1] * mismatch[t, codes[i + 1], codes[j - 1]]
    if j - i == 5 and _tetraloop(codes, i) >= 0:
        weight *= tetraloop[_tetraloop(codes, i)]
    return weight


@_jit
def _inside(
    codes: Any,
    kind: Any,
    extra: Any,
    hairpin: Any,
    hairpin_mismatch: Any,
    tetraloop: Any,
    stack: Any,
    loops: Any,
    mirrored: Any,
    interior_mismatch: Any,
    one_mismatch: Any,
    close: Any,
    branch: Any,
    closing: Any,
    unpaired: Any,
    outer: Any,
    pair: Any,
    free: Any,
) -> Any:
    """Inward pass.

    Returns: `ends` [L + 1], all structures of the first nucleotides; `bonds` [L, L], of (i, j) given that they pair;
    `seen`, `one`, `plain` [L, L]: the same times the weight of the pair's end towards a larger interior loop, one with a
    side of 1, a bulge; `parts` [L + 1, L + 1], of i to j - 1 in a multiloop with one branch or more; `tails` [L, L] at
    [j, i], of i to j with one branch that begins at i.
    """
    n = len(codes)
    bonds, seen = np.zeros((n, n)), np.zeros((n, n))
    one, plain = np.zeros((n, n)), np.zeros((n, n))
    parts, tails = np.zeros((n + 1, n + 1)), np.zeros((n, n))
    for i in range(n - 1, -1, -1):
        for j in range(i + NEAREST, n):
            t = kind[i, j]
            if t >= 0:
                weight = _hairpin(codes, i, j, t, hairpin, hairpin_mismatch, tetraloop)
                # stacks and bulges
                if kind[i + 1, j - 1] >= 0:
                    weight += bonds[i + 1, j - 1] * stack[t, kind[i + 1, j - 1] ^ 1]
                end = close[t]
                for size in range(1, min(LONGEST, j - i - 2 - NEAREST) + 1):
                    p, q = i + 1 + size, j - 1 - size
                    for side in range(2):
                        a, b = (p, j - 1) if side == 0 else (i + 1, q)
                        s = kind[a, b]
                        if s >= 0:
                            if size == 1:
                                weight += bonds[a, b] * stack[t, s ^ 1] * loops[0, 1]
                            else:
                                weight += plain[a, b] * end * loops[0, size]
                # interior loops
                total = 0.0
                single = 0.0
                for left in range(1, LONGEST):
                    p = i + 1 + left
                    lowest = max(p + NEAREST, j - 1 - (LONGEST - left))
                    if lowest > j - 2:
                        break
                    if left == 1:
                        for q in range(lowest, j - 1):
                            single += mirrored[1, q + LONGEST + 1 - j] * one[p, q]
                    else:
                        single += loops[left, 1] * one[p, j - 2]
                        for q in range(lowest, j - 2):
                            total += mirrored[left, q + LONGEST + 1 - j] * seen[p, q]
                weight += total * interior_mismatch[t, codes[i + 1], codes[j - 1]]
                weight += single * one_mismatch[t, codes[i + 1], codes[j - 1]]
                # multiloops
                several = 0.0
                for k in range(i + 2 + NEAREST, j - NEAREST):
                    several += parts[i + 1, k] * tails[j - 1, k]
                weight += several * closing[t ^ 1, codes[j - 1], codes[i + 1]]
                weight *= extra[i, j] * pair[t]
                bonds[i, j] = weight
                before = codes[i - 1] if i > 0 else OTHER
                after = codes[j + 1] if j + 1 < n else OTHER
                seen[i, j] = weight * interior_mismatch[t ^ 1, after, before]
                one[i, j] = weight * one_mismatch[t ^ 1, after, before]
                plain[i, j] = weight * close[t ^ 1]
                tails[j, i] = weight * branch[t, before, after]
            tails[j, i] += tails[j - 1, i] * unpaired[1]
            several = 0.0
            for k in range(i, j - NEAREST + 1):
                several += (unpaired[k - i] + parts[i, k]) * tails[j, k]
            parts[i, j + 1] = several
    ends = np.zeros(n + 1)
    ends[0] = 1.0
    for j in range(n):
        total = ends[j] * free[0]
        after = codes[j + 1] if j + 1 < n else OTHER
        for i in range(j - NEAREST + 1):
            if kind[i, j] >= 0:
                total += ends[i] * bonds[i, j] * outer[kind[i, j], codes[i - 1] if i > 0 else OTHER, after]
        ends[j + 1] = total
    return ends, bonds, seen, one, plain, parts, tails


@_jit
def _outside(
    codes: Any,
    kind: Any,
    extra: Any,
    hairpin: Any,
    hairpin_mismatch: Any,
    tetraloop: Any,
    stack: Any,
    loops: Any,
    mirrored: Any,
    interior_mismatch: Any,
    one_mismatch: Any,
    close: Any,
    branch: Any,
    closing: Any,
    unpaired: Any,
    outer: Any,
    pair: Any,
    free: Any,
    ends: Any,
    bonds: Any,
    seen: Any,
    one: Any,
    plain: Any,
    parts: Any,
    tails: Any,
    counting: bool,
) -> Any:
    """Outward pass: the derivative of ln(ends[L]) in each quantity of the inward pass, and what it makes of each weight."""
    n = len(codes)
    d_bonds, d_seen = np.zeros((n, n)), np.zeros((n, n))
    d_one, d_plain = np.zeros((n, n)), np.zeros((n, n))
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
        d_ends[j] += d_ends[j + 1] * free[0]
        after = codes[j + 1] if j + 1 < n else OTHER
        for i in range(j - NEAREST + 1):
            t = kind[i, j]
            if t >= 0:
                before = codes[i - 1] if i > 0 else OTHER
                g = d_ends[j + 1] * outer[t, before, after]
                d_bonds[i, j] += g * ends[i]
                d_ends[i] += g * bonds[i, j]
                c_outer[t, before, after] += g * ends[i] * bonds[i, j]
    for i in range(n):
        for j in range(n - 1, i + NEAREST - 1, -1):
            g = d_parts[i, j + 1]
            if g > 0.0:
                loose = 0.0
                for k in range(i, j - NEAREST + 1):
                    d_tails[j, k] += g * (unpaired[k - i] + parts[i, k])
                    d_parts[i, k] += g * tails[j, k]
                if counting:
                    for k in range(i, j - NEAREST + 1):
                        loose += (k - i) * unpaired[k - i] * tails[j, k]
                c_unpaired += g * loose
            g = d_tails[j, i]
            d_tails[j - 1, i] += g * unpaired[1]
            c_unpaired += g * unpaired[1] * tails[j - 1, i]
            t = kind[i, j]
            if t < 0 or bonds[i, j] == 0.0:
                continue
            before = codes[i - 1] if i > 0 else OTHER
            after = codes[j + 1] if j + 1 < n else OTHER
            c_branch[t, before, after] += g * bonds[i, j] * branch[t, before, after]
            c_interior_mismatch[t ^ 1, after, before] += d_seen[i, j] * seen[i, j]
            c_one_mismatch[t ^ 1, after, before] += d_one[i, j] * one[i, j]
            c_close[t ^ 1] += d_plain[i, j] * plain[i, j]
            total = d_bonds[i, j] + g * branch[t, before, after] + d_plain[i, j] * close[t ^ 1]
            total += (
                d_seen[i, j] * interior_mismatch[t ^ 1, after, before] + d_one[i, j] * one_mismatch[t ^ 1, after, before]
            )
            pairs[i, j] = total * bonds[i, j]
            c_pair[t] += total * bonds[i, j]
            g = total * extra[i, j] * pair[t]
            if g == 0.0:
                continue
            x = g * _hairpin(codes, i, j, t, hairpin, hairpin_mismatch, tetraloop)
            c_hairpin[j - i - 1] += x
            c_hairpin_mismatch[t, codes[i + 1], codes[j - 1]] += x
            if j - i == 5 and _tetraloop(codes, i) >= 0:
                c_tetraloop[_tetraloop(codes, i)] += x
            s = kind[i + 1, j - 1]
            if s >= 0:
                d_bonds[i + 1, j - 1] += g * stack[t, s ^ 1]
                c_stack[t, s ^ 1] += g * stack[t, s ^ 1] * bonds[i + 1, j - 1]
            end = close[t]
            for size in range(1, min(LONGEST, j - i - 2 - NEAREST) + 1):
                p, q = i + 1 + size, j - 1 - size
                for side in range(2):
                    a, b = (p, j - 1) if side == 0 else (i + 1, q)
                    s = kind[a, b]
                    if s >= 0:
                        if size == 1:
                            w = g * stack[t, s ^ 1] * loops[0, 1]
                            d_bonds[a, b] += w
                            c_stack[t, s ^ 1] += w * bonds[a, b]
                            c_loops[0, 1] += w * bonds[a, b]
                        else:
                            w = g * end * loops[0, size]
                            d_plain[a, b] += w
                            c_close[t] += w * plain[a, b]
                            c_loops[0, size] += w * plain[a, b]
            many = g * interior_mismatch[t, codes[i + 1], codes[j - 1]]
            few = g * one_mismatch[t, codes[i + 1], codes[j - 1]]
            x, y = 0.0, 0.0
            for left in range(1, LONGEST):
                p = i + 1 + left
                lowest = max(p + NEAREST, j - 1 - (LONGEST - left))
                if lowest > j - 2:
                    break
                shift = LONGEST + 1 - j
                if left == 1:
                    for q in range(lowest, j - 1):
                        d_one[p, q] += few * mirrored[1, q + shift]
                else:
                    d_one[p, j - 2] += few * loops[left, 1]
                    for q in range(lowest, j - 2):
                        d_seen[p, q] += many * mirrored[left, q + shift]
                if counting:
                    if left == 1:
                        for q in range(lowest, j - 1):
                            w = few * mirrored[1, q + shift] * one[p, q]
                            c_mirrored[1, q + shift] += w
                            y += w
                    else:
                        w = few * loops[left, 1] * one[p, j - 2]
                        c_loops[left, 1] += w
                        y += w
                        for q in range(lowest, j - 2):
                            w = many * mirrored[left, q + shift] * seen[p, q]
                            c_mirrored[left, q + shift] += w
                            x += w
            c_interior_mismatch[t, codes[i + 1], codes[j - 1]] += x
            c_one_mismatch[t, codes[i + 1], codes[j - 1]] += y
            w = g * closing[t ^ 1, codes[j - 1], codes[i + 1]]
            several = 0.0
            for k in range(i + 2 + NEAREST, j - NEAREST):
                d_parts[i + 1, k] += w * tails[j - 1, k]
                d_tails[j - 1, k] += w * parts[i + 1, k]
            if counting:
                for k in range(i + 2 + NEAREST, j - NEAREST):
                    several += parts[i + 1, k] * tails[j - 1, k]
            c_closing[t ^ 1, codes[j - 1], codes[i + 1]] += w * several
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


def _collect(found: list[Any], tables: tuple[Array, ...], length: int) -> Energies:
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
