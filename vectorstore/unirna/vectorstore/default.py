"""The default collection of a store: the one that is searched where none is named.

A small file in the store, `unirna.json`, names it. It is written when the first collection is made and when a default is
set, so another collection that comes later, or another name, does not change it.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

import lance
import pyarrow.fs

from unirna.vectorstore.collection import exists, filesystem_of, list_collections, table_uri
from unirna.vectorstore.errors import StoreError

SETTINGS: Final = "unirna.json"


def default_collection(uri: str) -> str | None:
    """The collection that is searched where none is named: the one that was set, else the first that was made.

    Args:
        uri: the store.

    Returns:
        Its name; None for a store without collections.

    Raises:
        StoreError: `unirna.json` of the store cannot be read, or names a collection that is not there.
    """
    name = _recorded(uri)
    if name is None:
        return _first_made(uri, list_collections(uri))
    if not exists(uri, name):
        if others := list_collections(uri):
            raise StoreError(
                f"the default collection of {uri}, {name!r}, is no longer there. Name one of: {', '.join(others)}; or set "
                f"another default (unirna collections default NAME --store {uri})"
            )
        return None
    return name


def set_default(uri: str, name: str) -> None:
    """Set the collection that is searched where none is named.

    Args:
        uri: the store.
        name: the collection.

    Raises:
        StoreError: no such collection.
    """
    there = list_collections(uri)
    if name not in there:
        raise StoreError(f"no collection {name!r} in {uri}. Collections there: {', '.join(there) or 'none yet'}")
    _record(uri, name)


def keep_default(uri: str) -> None:
    """Record the first collection as the default, if none is recorded: called when a collection has been made."""
    with contextlib.suppress(StoreError):  # a damaged file is reported where the default is asked for
        recorded = _recorded(uri)
        there = list_collections(uri)
        if recorded is None or (recorded not in there and len(there) == 1):  # dropped with all others: this is a new first
            first = _first_made(uri, there)
            if first is not None:
                _record(uri, first)


def rename_default(uri: str, name: str, new: str) -> None:
    """Follow a collection that was renamed, if it is the default."""
    if _recorded(uri) == name:
        _record(uri, new)


def _first_made(uri: str, names: list[str]) -> str | None:
    """The collection whose oldest version is the oldest; of equally old ones the first by name."""
    if len(names) < 2:
        return names[0] if names else None

    def made(name: str) -> tuple[float, str]:
        versions = lance.dataset(table_uri(uri, name)).versions()
        return min(entry["timestamp"].timestamp() for entry in versions), name

    return min(names, key=made)


def _recorded(uri: str) -> str | None:
    filesystem, path = filesystem_of(f"{uri.rstrip('/')}/{SETTINGS}")
    try:
        with filesystem.open_input_stream(path) as file:
            name = json.loads(file.read())["default"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{uri}/{SETTINGS} does not name a default collection ({error}). Set one: unirna collections default NAME "
            f"--store {uri}"
        ) from error
    return str(name)


def _record(uri: str, name: str) -> None:
    filesystem, path = filesystem_of(f"{uri.rstrip('/')}/{SETTINGS}")
    text = (json.dumps({"default": name}) + "\n").encode()
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    written = f"{path}.{os.getpid()}" if local else path  # an object appears whole in any case
    with filesystem.open_output_stream(written) as file:
        file.write(text)
    if local:
        Path(written).replace(path)
