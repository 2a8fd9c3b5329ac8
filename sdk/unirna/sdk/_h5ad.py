"""AnnData files (.h5ad), written some rows at a time; anndata itself writes a whole table from memory.

The format is https://anndata.readthedocs.io/en/stable/fileformat-prose.html: an HDF5 file whose groups say what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from unirna.sdk._export_format import Content, Rows, Writer, text_of, values_of

if TYPE_CHECKING:
    import pyarrow

CHUNK: Final = 1024
"""Rows of a chunk of the file."""


class H5adWriter(Writer):
    """`X` [N, H] the vectors; `obs` the ids (its index), sequences and labels; `uns["unirna"]` what made them.

    Numbers stay numbers, missing ones as in pandas' nullable types; texts become categories; all else is text.
    """

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        try:
            import h5py
        except ImportError as error:
            raise ImportError('.h5ad needs h5py: pip install "unirna[h5ad]"') from error
        self._file = h5py.File(paths[0], "w")
        _say(self._file, "anndata", "0.1.0")
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            _say(self._file.create_group(name), "dict", "0.1.0")
        about = self._file["uns"].create_group("unirna")
        _say(about, "dict", "0.1.0")
        for key, value in content.about.items():
            about[key] = value
            _say(about[key], "string", "0.2.0")
        size = content.dimension
        self._matrix = self._file.create_dataset("X", (0, size), "f4", maxshape=(None, size), chunks=(CHUNK, size))
        _say(self._matrix, "array", "0.2.0")
        self._ids = _Texts(self._file.create_group("obs"), "_index")
        self._sequences = _Texts(self._file["obs"], "sequence") if content.sequences else None
        self._columns: dict[str, _Numbers | _Categories] = {}
        taken = {"sequence", "_index"}
        for column in content.labels or ():
            name = re.sub("/", "_", column.name)  # a slash is a group of HDF5
            while name in taken:
                name += "_"
            taken.add(name)
            self._columns[column.name] = _column(self._file["obs"], name, column.type)

    def _add(self, rows: Rows) -> None:
        self._matrix.resize(self.count, axis=0)
        self._matrix[self.count - len(rows.ids) :] = rows.vectors
        self._ids.add(rows.ids)
        if self._sequences is not None:
            self._sequences.add(rows.sequences)
        for name, column in self._columns.items():
            column.add(rows.labels[name])

    def finish(self) -> None:
        """Write what is known at the end: categories, and the names of the numbers of a vector."""
        for column in self._columns.values():
            column.finish()
        own = ["sequence"] if self._sequences is not None else []
        _frame(self._file["obs"], [*own, *(column.name for column in self._columns.values())])
        var = self._file.create_group("var")
        _Texts(var, "_index").add([str(i) for i in range(self.content.dimension)])
        _frame(var, [])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _say(thing: Any, kind: str, version: str) -> None:
    thing.attrs["encoding-type"], thing.attrs["encoding-version"] = kind, version


def _frame(group: Any, columns: list[str]) -> None:
    import h5py
    import numpy as np

    _say(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(columns, dtype=h5py.string_dtype())


def _grow(dataset: Any, values: Any) -> None:
    count = len(dataset)
    dataset.resize(count + len(values), axis=0)
    dataset[count:] = values


class _Texts:
    """A column of texts, none of them missing."""

    def __init__(self, group: Any, name: str) -> None:
        import h5py

        kind = h5py.string_dtype()
        self._data = group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(CHUNK,))
        _say(self._data, "string-array", "0.2.0")

    def add(self, texts: Sequence[str]) -> None:
        _grow(self._data, [_clean(text) for text in texts])


class _Numbers:
    """A column of numbers or truth values; those that may be missing have a mask, which goes if none is."""

    def __init__(self, group: Any, name: str, kind: Any) -> None:
        self.name, self._group, self._kind = name, group, kind
        self._part = group.create_group(name)
        self._values, self._mask = (
            self._part.create_dataset(key, (0,), dtype, maxshape=(None,), chunks=(CHUNK,))
            for key, dtype in (("values", kind), ("mask", bool))
        )
        self._missing = False

    def add(self, column: pyarrow.Array) -> None:
        import numpy as np
        import pyarrow.compute as pc

        missing = column.is_null().to_numpy(zero_copy_only=False)
        if self._kind.kind == "f":
            values = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)  # null is NaN
        else:
            values = pc.fill_null(column, pc.cast(0, column.type)).to_numpy(zero_copy_only=False)
            self._missing = self._missing or bool(missing.any())
        _grow(self._values, np.asarray(values, self._kind))
        _grow(self._mask, missing)

    def finish(self) -> None:
        for part in (self._values, self._mask):
            _say(part, "array", "0.2.0")
        if self._missing:
            _say(self._part, "nullable-boolean" if self._kind.kind == "b" else "nullable-integer", "0.1.0")
            return
        self._group.move(f"{self.name}/values", f"{self.name}.values")
        del self._group[self.name]
        self._group.move(f"{self.name}.values", self.name)


class _Categories:
    """A column of texts of which some may be missing. The different ones are held in memory."""

    def __init__(self, group: Any, name: str) -> None:
        self.name, self._places = name, dict[str, int]()
        self._part = group.create_group(name)
        self._codes = self._part.create_dataset("codes", (0,), "i4", maxshape=(None,), chunks=(CHUNK,))

    def add(self, column: pyarrow.Array) -> None:
        texts = [text if value is not None and (text := _clean(text_of(value))) else None for value in values_of(column)]
        _grow(self._codes, [-1 if text is None else self._places.setdefault(text, len(self._places)) for text in texts])

    def finish(self) -> None:
        _say(self._codes, "array", "0.2.0")
        _Texts(self._part, "categories").add(list(self._places))
        _say(self._part, "categorical", "0.2.0")
        self._part.attrs["ordered"] = False


def _column(group: Any, name: str, kind: pyarrow.DataType) -> _Numbers | _Categories:
    import numpy as np
    import pyarrow

    if pyarrow.types.is_boolean(kind):
        return _Numbers(group, name, np.dtype(bool))
    if pyarrow.types.is_integer(kind):
        return _Numbers(group, name, np.dtype(kind.to_pandas_dtype()))
    if pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind):
        return _Numbers(group, name, np.dtype("f4" if kind == pyarrow.float32() else "f8"))
    return _Categories(group, name)


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd")  # HDF5 ends a text there
