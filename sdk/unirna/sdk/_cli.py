"""The command `unirna`: search, embed and predict from a shell. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 2 an argument or input that is not valid, 1 anything else (no service, a failure), 130 interrupted.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from unirna.sdk._client import TIMEOUT, Client, connect
from unirna.sdk._exceptions import InvalidRequestError, ModelMismatchError, NotFoundError, UniRNAError
from unirna.sdk._fasta import read_fasta

Format = Literal["auto", "table", "tsv", "jsonl"]
NUCLEOTIDE_LETTERS = frozenset("ACGUTRYKMSWBDHVN")


@dataclass(frozen=True)
class Source:
    """Where the answers come from: a service, or a store that is read in this process."""

    url: str = ""
    """Address of a service; by default UNIRNA_URL, else http://127.0.0.1:8000."""
    store: str = ""
    """A store (folder or URI) to read in this process instead; needs unirna[platform]."""
    model: str = ""
    """With --store: the model; by default the one that made the collection."""
    registry: str = ""
    """With --store: the folder of predictors."""
    timeout: float = TIMEOUT
    """Seconds to wait for an answer."""

    def connect(self) -> Client:
        """The client."""
        if self.url and self.store:
            raise InvalidRequestError("give --url or --store, not both")
        if (self.model or self.registry) and not self.store:
            raise InvalidRequestError("--model and --registry go with --store; a service has its own")
        if self.store:
            return connect(self.store, model=self.model or None, registry=self.registry or None)
        return connect(self.url or None, timeout=self.timeout)


@dataclass(frozen=True)
class Search:
    """Find the stored sequences most similar to one or several."""

    sequence: tyro.conf.Positional[str]
    """RNA or DNA letters; or a FASTA file; or - for FASTA on standard input."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Hits wanted for each sequence."""
    where: str = ""
    """SQL condition on the collection's columns, such as "length < 200"."""
    collection: str = ""
    """Which collection; by default the service's default."""
    format: Format = "auto"
    """table for reading, tsv or jsonl for pipes; by default a table on a terminal, else tsv."""
    source: tyro.conf.OmitArgPrefixes[Source] = Source()

    def run(self) -> None:
        """Search and print."""
        queries = _sequences(self.sequence)
        rows: list[dict[str, Any]] = []
        with self.source.connect() as client:
            for name, letters in queries:
                found = client.search(letters, k=self.k, where=self.where or None, collection=self.collection or None)
                rows += [{"query": name, **row} if len(queries) > 1 else row for row in found.to_dicts()]
        _show(rows, self.format, hidden=("sequence",))
        if not rows:
            _say("no sequence passes the filter" if self.where else "the collection is empty")


@dataclass(frozen=True)
class Embed:
    """Turn sequences into vectors."""

    sequences: tyro.conf.Positional[str]
    """RNA or DNA letters; or a FASTA file; or - for FASTA on standard input."""
    out: Path
    """File to write: .npz (arrays `ids` [N] and `vectors` float32 [N, H])."""
    source: tyro.conf.OmitArgPrefixes[Source] = Source()

    def run(self) -> None:
        """Embed and write."""
        if self.out.suffix != ".npz":
            raise InvalidRequestError(f"--out {self.out}: wanted a name that ends in .npz")
        named = _sequences(self.sequences)
        with self.source.connect() as client:
            vectors = client.embed([letters for _, letters in named])
        np.savez(self.out, ids=np.array([name for name, _ in named]), vectors=vectors)
        _say(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers in {self.out}")


@dataclass(frozen=True)
class Predict:
    """Predict a class for each sequence."""

    task: tyro.conf.Positional[str]
    """Name of a predictor."""
    sequences: tyro.conf.Positional[str]
    """RNA or DNA letters; or a FASTA file; or - for FASTA on standard input."""
    format: Format = "auto"
    """table for reading, tsv or jsonl for pipes; by default a table on a terminal, else tsv."""
    source: tyro.conf.OmitArgPrefixes[Source] = Source()

    def run(self) -> None:
        """Predict and print."""
        named = _sequences(self.sequences)
        with self.source.connect() as client:
            predictions = client.predict(self.task, [letters for _, letters in named])
        rows = [
            {"id": name, "label": p.label, "probability": p.probability}
            for (name, _), p in zip(named, predictions, strict=True)
        ]
        _show(rows, self.format)


@dataclass(frozen=True)
class Collections:
    """List the collections that can be searched."""

    format: Format = "auto"
    """table for reading, tsv or jsonl for pipes; by default a table on a terminal, else tsv."""
    source: tyro.conf.OmitArgPrefixes[Source] = Source()

    def run(self) -> None:
        """List them."""
        with self.source.connect() as client:
            rows = [
                {
                    "name": c.name,
                    "sequences": c.num_rows,
                    "dimension": c.dimension,
                    "model": c.model,
                    "searchable": c.searchable,
                    "columns": ", ".join(c.columns),
                }
                for c in client.collections()
            ]
        _show(rows, self.format)


Command = (
    Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Embed, tyro.conf.subcommand("embed")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Collections, tyro.conf.subcommand("collections")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    command: Any = tyro.cli(
        Command,
        prog="unirna",
        description="Search, embed and classify RNA sequences.",
        args=arguments,
    )
    try:
        command.run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = None
        return 0
    except (InvalidRequestError, NotFoundError, ModelMismatchError) as error:
        _say(f"error: {error}")
        return 2
    except (UniRNAError, ImportError) as error:
        _say(f"error: {error}")
        return 1
    except (OSError, ValueError) as error:
        _say(f"error: {error}")
        return 2
    return 0


def _sequences(given: str) -> list[tuple[str, str]]:
    """Sequences from the command line, as (id, letters)."""
    if given == "-" or _is_file(given):
        return read_fasta(given)
    if given and not set(given.upper()) <= NUCLEOTIDE_LETTERS and (Path(given).suffix or "/" in given):
        raise InvalidRequestError(f"no file {given!r}; and it is no sequence of RNA or DNA letters either")
    return [("sequence_1", given)]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a sequence is longer than a file's name may be
        return False


def _show(rows: list[dict[str, Any]], format: Format, hidden: Sequence[str] = ()) -> None:
    if format == "auto":
        format = "table" if sys.stdout.isatty() else "tsv"
    if format == "jsonl":
        for row in rows:
            print(json.dumps(row))
    elif format == "tsv":
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    elif rows:
        _table([{name: value for name, value in row.items() if name not in hidden} for row in rows])


def _table(rows: list[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numbers = all(isinstance(row.get(name), (int, float)) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name), short=True)) for name in columns))
    Console().print(table)


def _cell(value: Any, short: bool = False) -> str:
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4f}"
    return value if isinstance(value, str) else json.dumps(value)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
