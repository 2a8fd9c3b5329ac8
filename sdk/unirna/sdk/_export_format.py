"""What the writers of all export formats share: the rows, what a file is to hold, and values as text."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Some rows.

    Attributes:
        ids: N ids. sequences: N sequences, or none. vectors: float32 [N, H].
        labels: name -> N values, as Arrow arrays.
    """

    ids: Sequence[str]
    vectors: Vectors
    sequences: Sequence[str] = ()
    labels: Mapping[str, pyarrow.Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """What a file is to hold.

    Attributes:
        dimension: H. labels: the Arrow schema of the labels; None for none. sequences: whether rows have sequences.
        about: what made the vectors, for formats that can say it.
    """

    dimension: int
    labels: pyarrow.Schema | None = None
    sequences: bool = False
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the labels."""
        return [] if self.labels is None else list(self.labels.names)


class Writer(ABC):
    """Writes rows to files of one format.

    Args:
        paths: of the files. content: what they are to hold.
    """

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        self.paths, self.content = paths, content
        self.count = 0

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """The files that a name stands for."""
        return [path]

    def write(self, rows: Rows) -> None:
        """Add rows."""
        self.count += len(rows.ids)
        self._add(rows)

    @abstractmethod
    def _add(self, rows: Rows) -> None: ...

    def finish(self) -> None:
        """Write what stands at the end."""
        return

    @abstractmethod
    def close(self) -> None:
        """Close the files, whether all is written or not."""


def values_of(column: pyarrow.Array) -> list[Any]:
    """Values of an Arrow array as Python ones, as text where there is none (a date beyond the year 9999)."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(column, place) for place in range(len(column))]


def _value(column: pyarrow.Array, place: int) -> Any:
    try:
        return column[place].as_py()
    except (OverflowError, ValueError):
        return str(column.slice(place, 1).to_string()).strip("[] \n")


def text_of(value: Any) -> str:
    """A label's value as text: nothing for a missing one, ISO 8601 for times, hexadecimal for bytes, JSON for lists."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=text_of, ensure_ascii=False)
    if isinstance(value, bytes):
        return value.hex()
    iso: Callable[[], str] | None = getattr(value, "isoformat", None)
    return iso() if iso is not None else str(value)
