"""Counts of the loops of one structure: what the expected counts of all structures are compared with in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unirna.fold.energies import KIND, LONGEST, OTHER, Energies, codes_of
from unirna.fold.weights import tetraloop_number


def count_structure(sequence: str, pairs: NDArray[np.int64]) -> Energies:
    """Counts of the loops of one nested structure, in the shape of the scores.

    Args:
        sequence: normalised.
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
            if size == 4 and tetraloop_number(codes, i) >= 0:
                found.tetraloop[tetraloop_number(codes, i)] += 1
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
