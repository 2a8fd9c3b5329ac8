"""Weights of the loops, and the small functions that both passes over a sequence use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unirna.fold.compiled import compiled
from unirna.fold.energies import LONGEST, Energies

Array = NDArray[np.float64]
PAD: Final = LONGEST + 2
"""Columns of zeros beside a table, so that sums over the sizes of a loop have one length and no bounds, which makes them
vectors; impossible sizes have weight 0, and so have places that cannot pair."""

jit = compiled(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
"""Sums may be done in another order, as vectors need. NaN and infinity keep their meaning: the search for mu uses them."""


class Weights(NamedTuple):
    """Weights of the loops, e to their scores, divided by e^mu for each unpaired nucleotide.

    Attributes:
        hairpin: by size. loops: by the sizes of both sides, symmetric; mirrored: with the right side from 30 down to 0.
        branch: [6, 5, 5], of a pair in a multiloop, the nucleotides beside it. closing: of the pair that closes it.
        unpaired: of so many unpaired nucleotides of a multiloop. outer: of a pair outside all others. free: of a nucleotide
            there. The others: as in `Energies`.
    """

    hairpin: Array
    hairpin_mismatch: Array
    tetraloop: Array
    stack: Array
    loops: Array
    mirrored: Array
    interior_mismatch: Array
    one_mismatch: Array
    close: Array
    branch: Array
    closing: Array
    unpaired: Array
    outer: Array
    pair: Array
    free: float


def weights_of(energies: Energies, length: int, mu: float) -> Weights:
    """Weights of the loops of a sequence.

    Args:
        energies: scores of loops.
        length: nucleotides of the sequence.
        mu: what each nucleotide is divided by, as a logarithm.
    """
    sizes = np.arange(length + 1)
    left, right = np.indices((LONGEST + 1, LONGEST + 1))
    loops = np.exp(energies.loops() - mu * (left + right))
    close = energies.close[:, None, None]
    a, b, c = energies.multi
    return Weights(
        hairpin=np.exp(energies.hairpins(length) - mu * sizes),
        hairpin_mismatch=np.exp(energies.hairpin_mismatch),
        tetraloop=np.exp(energies.tetraloop),
        stack=np.exp(energies.stack),
        loops=loops,
        mirrored=np.ascontiguousarray(loops[:, ::-1]),
        interior_mismatch=np.exp(energies.interior_mismatch),
        one_mismatch=np.exp(energies.one_mismatch),
        close=np.exp(energies.close),
        branch=np.exp(energies.multi_mismatch + close + c),
        closing=np.exp(energies.multi_mismatch + close + c + a),
        unpaired=np.exp((b - mu) * sizes),
        outer=np.exp(energies.outer_mismatch + close),
        pair=np.exp(energies.pair),
        free=float(np.exp(-mu)),
    )


@jit
def tetraloop_number(codes: Any, i: int) -> Any:
    """The four nucleotides after i as a base-4 number; -1 if one is ambiguous."""
    for place in range(i + 1, i + 5):
        if codes[place] > 3:
            return -1
    return 64 * codes[i + 1] + 16 * codes[i + 2] + 4 * codes[i + 3] + codes[i + 4]


@jit
def hairpin_weight(codes: Any, i: int, j: int, t: int, hairpin: Any, mismatch: Any, tetraloop: Any) -> Any:
    """Weight of the hairpin that the pair (i, j) of kind t closes."""
    weight = hairpin[j - i - 1] * mismatch[t, codes[i + 1], codes[j - 1]]
    if j - i == 5 and tetraloop_number(codes, i) >= 0:
        weight *= tetraloop[tetraloop_number(codes, i)]
    return weight


@jit
def dot(a: Any, b: Any) -> Any:
    """Sum of products of two slices. For an index that is a sum, Numba asks each time whether it is negative, and makes no
    vectors; a slice has no such index."""
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@jit
def add(to: Any, factor: float, what: Any) -> None:
    """Add a multiple of one slice to another, in place."""
    for k in range(len(to)):
        to[k] += factor * what[k]
