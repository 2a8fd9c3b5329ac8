"""Numbers in sentences: counts with their nouns, and shares."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 sequence", "1,200 sequences".

    Args:
        number: how many.
        noun: the noun for one.
        plural: the noun for several; by default the noun with an s.
    """
    return f"{number:,} {noun if abs(number) == 1 else plural or f'{noun}s'}"


def percent(share: float, digits: int = 0) -> str:
    """A share in percent that says 100% or 0% only where that is exact: .997 is 99.7%.

    Args:
        share: 0 to 1.
        digits: decimals; further ones are added, up to 4, where the rounded figure would be 0 or 100.
    """
    for places in range(digits, 5):
        text = f"{100 * share:.{places}f}"
        if float(text) not in (0.0, 100.0) or share in (0.0, 1.0):
            return f"{text}%"
    return ">99.9999%" if share > 0.5 else "<0.0001%"
