"""Stored sequences by what people type of their identifiers: without the version, or a part such as the accession."""

from __future__ import annotations

import re
from typing import Final

from unirna.vectorstore import Collection

IDENTIFIER: Final = re.compile(r"[^\s>;,&*'\"\\]{2,200}")
LEAST_PART: Final = 4
"""Shortest part of an identifier that is looked for."""
NAMED: Final = 5
"""Identifiers that are named where several match."""


def find_id(collection: Collection, text: str) -> tuple[str | None, list[str]]:
    """Find the stored sequence that a text names.

    Args:
        collection: where to look.
        text: an identifier, with its version or without, or a part of one; in upper or lower case.

    Returns:
        The identifier, None if there is none or several; and in the latter case the first of these.
    """
    if not IDENTIFIER.fullmatch(text):
        return None, []
    if collection.get([text], columns=["id"]).num_rows:
        return text, []
    if len(text) < LEAST_PART or not any(character.isdigit() for character in text):
        return None, []
    for part in dict.fromkeys((text, re.sub(r"\.\d+$", "", text))):
        found = _containing(collection, part)
        whole = [id for id in found if id.lower() == part.lower()]
        if len(found) == 1 or len(whole) == 1:
            return (whole or found)[0], []
        if found:
            first = [id for id in found if re.split(r"[/|:.]", id)[0].lower() == part.lower()]
            return (first[0], []) if len(first) == 1 else (None, found[:NAMED])
    return None, []


def _containing(collection: Collection, part: str) -> list[str]:
    found: list[str] = []
    for batch in collection.scan(columns=["id"], where=f"contains(lower(id), '{part.lower()}')"):
        found += batch["id"].to_pylist()
        if len(found) > 1_000:
            break
    return found
