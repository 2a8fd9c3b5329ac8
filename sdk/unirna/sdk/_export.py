"""Rows written to a file of any of several formats, some at a time, so that memory does not grow with the rows."""

from __future__ import annotations

import csv
import errno
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from zipfile import ZIP_STORED, ZipFile

from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._export_format import Content, Rows, Writer, text_of, values_of
from unirna.sdk._h5ad import H5adWriter
from unirna.sdk._output import check_file

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

COPIED: Final = 1 << 20
"""Bytes that are copied at once."""
IDS_AT_ONCE: Final = 65_536


@contextmanager
def exporting(path: Path, content: Content, endings: Sequence[str], *, force: bool = False) -> Iterator[Writer]:
    """A writer of a file, which stands in its place once all is written, and else not at all.

    Args:
        path: the file; its ending says the format.
        content: what it is to hold.
        endings: formats that may be asked for.
        force: replace a file that is there.

    Raises:
        InvalidRequestError: another ending, a file that is there, or a folder that is not.
        ImportError: what the format needs is not installed.
    """
    check_target(path, endings, force=force)
    kind = _writer(path)
    parts = {name: name.with_name(f".{name.name}.{uuid.uuid4().hex[:8]}.part") for name in kind.files(path)}
    try:
        writer = kind(list(parts.values()), content)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        for name, part in parts.items():
            part.replace(name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
            raise OSError(error.errno, f"{error.strerror}. Make room, then run it again", str(path)) from error
        raise
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def check_target(path: Path, endings: Sequence[str], *, force: bool = False) -> None:
    """See that a file can be written, before any work.

    Raises:
        InvalidRequestError: as `exporting`.
    """
    if path.suffix not in endings:
        raise InvalidRequestError(f"--out {path}: expected a name that ends in {', '.join(endings[:-1])} or {endings[-1]}")
    there = [name for name in _writer(path).files(path) if name.exists()]
    if there and not force:
        raise InvalidRequestError(f"{there[0]} is there already: give another --out, or --force to replace it")
    if not path.parent.is_dir():
        raise InvalidRequestError(f"--out {path}: there is no folder {path.parent}")
    check_file("--out", path)


class _Matrix:
    """A .npy file of vectors [N, H]; N is written when it is known."""

    def __init__(self, file: IO[bytes], dimension: int) -> None:
        self.file, self.dimension, self.count = file, dimension, 0
        self._header()
        self.start = file.tell()

    def add(self, vectors: Vectors) -> None:
        import numpy as np

        self.count += len(vectors)
        self.file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def finish(self) -> None:
        self.file.seek(0)
        self._header()  # numpy leaves room in it for any number of rows
        if self.file.tell() != self.start:
            raise AssertionError("the header has another length")
        self.file.seek(0, 2)

    def _header(self) -> None:
        import numpy as np

        shape = (self.count, self.dimension)
        np.lib.format.write_array_header_1_0(self.file, {"descr": "<f4", "fortran_order": False, "shape": shape})


class CsvWriter(Writer):
    """Comma-separated values with a header: id, sequence if rows have one, and the labels."""

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        self._file = paths[0].open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(["id", *(["sequence"] if content.sequences else []), *content.names])

    def _add(self, rows: Rows) -> None:
        columns = [rows.ids, *([rows.sequences] if self.content.sequences else [])]
        columns += [list(map(text_of, values_of(rows.labels[name]))) for name in self.content.names]
        self._csv.writerows(zip(*columns, strict=True))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NpyWriter(Writer):
    """A matrix float32 [N, H], and beside it a CSV file of the rows, in the same order."""

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        self._file = paths[0].open("w+b")
        self._matrix, self._rows = _Matrix(self._file, content.dimension), CsvWriter(paths[1:], content)

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """The matrix and the rows."""
        return [path, path.with_suffix(".csv")]

    def _add(self, rows: Rows) -> None:
        self._matrix.add(rows.vectors)
        self._rows.write(rows)

    def finish(self) -> None:
        """Write the number of rows."""
        self._matrix.finish()

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._rows.close()


class NpzWriter(Writer):
    """Arrays `ids` [N] and `vectors` float32 [N, H]."""

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        self._beside = [paths[0].with_name(f"{paths[0].name}.{name}") for name in ("vectors", "ids")]
        self._vectors, self._ids = self._beside[0].open("w+b"), self._beside[1].open("w+", encoding="utf-8")
        self._matrix, self._longest = _Matrix(self._vectors, content.dimension), 1

    def _add(self, rows: Rows) -> None:
        self._matrix.add(rows.vectors)
        for name in rows.ids:
            self._longest = max(self._longest, len(name))
            self._ids.write(json.dumps(name) + "\n")

    def finish(self) -> None:
        """Put both arrays into one archive."""
        import numpy as np

        self._matrix.finish()
        kind = np.dtype(f"<U{self._longest}")
        with ZipFile(self.paths[0], "w", ZIP_STORED) as archive:
            self._ids.seek(0)
            with archive.open("ids.npy", "w", force_zip64=True) as member:
                shape = {"descr": kind.str, "fortran_order": False, "shape": (self.count,)}
                np.lib.format.write_array_header_2_0(member, shape)
                while names := [json.loads(line) for line in islice(self._ids, IDS_AT_ONCE)]:
                    member.write(np.array(names, kind).tobytes())
            self._vectors.seek(0)
            with archive.open("vectors.npy", "w", force_zip64=True) as member:
                while part := self._vectors.read(COPIED):
                    member.write(part)

    def close(self) -> None:
        """Close and remove what was written beside."""
        self._vectors.close()
        self._ids.close()
        for path in self._beside:
            path.unlink(missing_ok=True)


class FastaWriter(Writer):
    """FASTA; labels stand in the header as `[name=value]`, as NCBI writes them."""

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        self._file = paths[0].open("w", encoding="utf-8", newline="\n")

    def _add(self, rows: Rows) -> None:
        names = self.content.names
        labels = zip(*(map(text_of, values_of(rows.labels[name])) for name in names), strict=True) if names else None
        for name, sequence in zip(rows.ids, rows.sequences, strict=True):
            if not name or any(c.isspace() for c in name):
                raise InvalidRequestError(
                    f"the id {name!r} is empty or has a space, where FASTA ends an id: export to .csv or .parquet instead"
                )
            of_row = next(labels) if labels is not None else ()
            notes = [
                f"[{key}={' '.join(value.split())}]"
                for key, value in zip(names, of_row, strict=True)
                if value and key != "length"
            ]
            self._file.write(f"{' '.join(['>' + name, *notes])}\n{sequence}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetWriter(Writer):
    """Parquet: id, sequence if rows have one, the labels with their types, and `vector`, lists of H float32."""

    def __init__(self, paths: Sequence[Path], content: Content) -> None:
        super().__init__(paths, content)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError('.parquet needs pyarrow: pip install "unirna[vectorstore]"') from error
        own = [("id", pyarrow.string()), *([("sequence", pyarrow.string())] if content.sequences else [])]
        fields = [pyarrow.field(name, kind) for name, kind in own]
        fields += [] if content.labels is None else list(content.labels)
        fields.append(pyarrow.field("vector", pyarrow.list_(pyarrow.float32(), content.dimension)))
        about = {f"unirna.{key}": value for key, value in content.about.items()}
        self._schema = pyarrow.schema(fields, metadata=about)
        self._writer = pyarrow.parquet.ParquetWriter(paths[0], self._schema)

    def _add(self, rows: Rows) -> None:
        import numpy as np
        import pyarrow

        flat = pyarrow.array(np.ascontiguousarray(rows.vectors, np.float32).reshape(-1))
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, self.content.dimension)
        columns = [pyarrow.array(rows.ids, pyarrow.string())]
        columns += [pyarrow.array(rows.sequences, pyarrow.string())] if self.content.sequences else []
        columns += [rows.labels[name] for name in self.content.names]
        self._writer.write_table(pyarrow.Table.from_arrays([*columns, vectors], schema=self._schema))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _writer(path: Path) -> type[Writer]:
    writers: dict[str, type[Writer]] = {
        ".npy": NpyWriter,
        ".npz": NpzWriter,
        ".parquet": ParquetWriter,
        ".h5ad": H5adWriter,
        ".csv": CsvWriter,
        ".fasta": FastaWriter,
        ".fa": FastaWriter,
    }
    return writers[path.suffix]


OF_VECTORS: Final = (".npy", ".npz", ".parquet", ".h5ad")
"""Formats that hold vectors."""
OF_ROWS: Final = (*OF_VECTORS, ".csv", ".fasta", ".fa")
"""Formats of a collection."""


def content_of(schema: pyarrow.Schema, about: Mapping[str, str]) -> Content:
    """What a file of a collection's rows is to hold.

    Args:
        schema: of the rows: `id`, `sequence`, `vector` and the labels. about: what made the vectors.
    """
    import pyarrow

    labels = [field for field in schema if field.name not in ("id", "sequence", "sha", "vector")]
    return Content(schema.field("vector").type.list_size, pyarrow.schema(labels), True, about)


def rows_of(batch: pyarrow.RecordBatch) -> Rows:
    """Rows of a batch of a collection."""
    import numpy as np

    column = batch["vector"]
    flat: Vectors = np.asarray(column.flatten(), np.float32)
    names = [name for name in batch.schema.names if name not in ("id", "sequence", "sha", "vector")]
    return Rows(
        batch["id"].to_pylist(),
        flat.reshape(len(batch), column.type.list_size),
        batch["sequence"].to_pylist(),
        {name: batch[name] for name in names},
    )
