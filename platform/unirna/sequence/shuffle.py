"""Random sequences that keep what counting short words sees: what a model of RNA should do better than."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def shuffle_dinucleotides(sequence: str, random: np.random.Generator) -> str:
    """A random sequence with the same first and last nucleotide and the same dinucleotides (Altschul & Erickson 1985).

    Args:
        sequence: L characters of any alphabet; fewer than four are returned unchanged. random: the source of chance.

    Returns:
        L characters; each such sequence is equally probable.
    """
    if len(sequence) < 4:
        return sequence
    end = sequence[-1]
    following: dict[str, list[str]] = {}
    for one, other in pairwise(sequence):
        following.setdefault(one, []).append(other)
    while True:  # last edges that lead from every character to the end make an Eulerian walk
        last = {one: str(random.choice(others)) for one, others in following.items() if one != end}
        if all(_leads(one, last, end) for one in last):
            break
    for one, others in following.items():
        if one in last:
            others.remove(last[one])
        random.shuffle(others)
        if one in last:
            others.append(last[one])
    walk = [sequence[0]]
    while following.get(walk[-1]):
        walk.append(following[walk[-1]].pop(0))
    return "".join(walk)


def _leads(letter: str, last: dict[str, str], end: str) -> bool:
    """Whether last edges lead from a character to the end."""
    for _ in range(len(last)):
        if letter == end:
            return True
        letter = last[letter]
    return letter == end
