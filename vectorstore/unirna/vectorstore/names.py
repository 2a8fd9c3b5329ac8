"""Names of label columns: one rule for all that store or rank a user's table.

A name that a collection cannot hold, or that a search result uses for itself, is replaced by one that says where it comes
from. Names that are safe are never touched, so a column that others rely on keeps its name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from unirna.vectorstore.columns import RESERVED

LONGEST: Final = 100
"""Most characters of a name."""
_UNSAFE: Final = '.`"'
"""Characters that Lance takes for the path of a nested field, or that quote a name in a filter."""


def is_safe(name: str, reserved: Iterable[str] = RESERVED) -> bool:
    """Whether a label column can have this name."""
    return bool(name) and name == _cleaned(name) and name not in reserved and not name.startswith("_")


def safe_names(names: Iterable[str], *, reserved: Iterable[str] = RESERVED, prefix: str = "label_") -> dict[str, str]:
    """Safe names for label columns.

    Args:
        names: those of a table, or of all tables of an input, in order; "" for a column without a name.
        reserved: names that others have.
        prefix: of a name that is reserved, or that starts with "_".

    Returns:
        Name -> safe name, for each of the names. Dots, quotes and control characters become "_", a column without a name is
        `column_1`, a long name is cut, and where the new name is taken it gets a number: `label_rank_2`.
    """
    reserved = frozenset(reserved)
    given = list(dict.fromkeys(names))
    found = {name: name for name in given if is_safe(name, reserved)}
    taken = set(found) | reserved
    for place, name in enumerate(given, 1):
        if name in found:
            continue
        cleaned = _cleaned(name) or f"column_{place}"
        base = prefix + cleaned if cleaned in reserved or cleaned.startswith("_") else cleaned
        new, number = base, 1
        while new in taken:
            number += 1
            new = f"{base}_{number}"
        found[name] = new
        taken.add(new)
    return {name: found[name] for name in given}


def renamed(names: Mapping[str, str]) -> dict[str, str]:
    """Of safe names those that are others than in the table."""
    return {old: new for old, new in names.items() if old != new}


def tell_renamed(names: Mapping[str, str], unnamed: Iterable[str] = (), most: int = 8) -> str:
    """One line that says which columns have other names now; empty if none has.

    Args:
        names: from `safe_names`.
        unnamed: those of them that a reader gave to columns without a name.
        most: pairs that are shown.
    """
    unnamed = frozenset(unnamed)
    pairs = [
        f"{_shown('' if old in unnamed else old)} -> {new}" for old, new in names.items() if old != new or old in unnamed
    ]
    if not pairs:
        return ""
    more = f", and {len(pairs) - most:,} more" if len(pairs) > most else ""
    return f"columns renamed: {', '.join(pairs[:most])}{more}"


def _cleaned(name: str) -> str:
    text = "".join("_" if one in _UNSAFE or not one.isprintable() else one for one in name.strip())
    text = "_" if text == "*" else text
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return re.sub("_{2,}", "_", text) if "_" in text and text != name else text


def _shown(name: str) -> str:
    text = name if name.isprintable() else repr(name)[1:-1]
    return (text if len(text) <= 40 else text[:39] + "…") or "(a column without a name)"
