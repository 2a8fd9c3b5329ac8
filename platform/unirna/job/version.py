"""Which version of the code computed something, for cards and provenance."""

from __future__ import annotations

from importlib import metadata


def package_version() -> str:
    """Of unirna as installed; "source" where its folders only stand on the path."""
    try:
        return metadata.version("unirna")
    except metadata.PackageNotFoundError:
        return "source"
