"""`unirna collections …`: what there is, and changing it in place. `list`, `show`, `default` and `sample` also ask
a service; the others need a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from urllib.parse import quote, urlencode

import tyro

from unirna.base import counted
from unirna.sdk._connection_options import ConnectionOptions
from unirna.sdk._exceptions import InvalidRequestError, NotFoundError, ServiceError
from unirna.sdk._export import OF_ROWS, check_target, content_of, exporting, rows_of
from unirna.sdk._output import Output, say

if TYPE_CHECKING:
    from types import ModuleType

    import pyarrow as pa


ROWS_AT_ONCE: Final = 4096
"""Rows of an export that are held at once."""
SURE: Final = 0.5
"""Share of a collection's rows above which a deletion asks."""


@dataclass(frozen=True)
class List:
    """List the collections that can be searched."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """List them."""
        if self.source.store and not self.source.url:  # no model is needed to say what there is
            store = _vectorstore()
            there = []
            for name in store.list_collections(self.source.store):
                try:
                    there.append(store.open(self.source.store, name).info)
                except store.StoreError as error:
                    say(f"left out: {error}")
            try:
                default = store.default_collection(self.source.store)
            except store.StoreError as error:
                default = None
                say(str(error))
            rows = [
                {
                    "name": info.name,
                    "default": info.name == default,
                    "sequences": info.num_rows,
                    "dimension": info.dimension,
                    "model": info.provenance.model,
                    "columns": ", ".join(info.columns),
                }
                for info in there
            ]
        else:
            with self.source.connect() as client:
                rows = [
                    {
                        "name": c.name,
                        "default": c.default,
                        "sequences": c.num_rows,
                        "dimension": c.dimension,
                        "model": c.model,
                        "searchable": c.searchable,
                        "columns": ", ".join(c.columns),
                    }
                    for c in client.collections()
                ]
        self.output.show(rows)


@dataclass(frozen=True)
class InStore:
    """A collection of a store."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The collection."""
    store: str
    """Its store: a folder or URI."""


@dataclass(frozen=True)
class Show:
    """Show the size and the model of a collection; with --store also its index and versions."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The collection."""
    version: str = ""
    """With --store: an older version, by number or tag."""
    json: bool = False
    """Print one JSON object."""
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """Show it."""
        facts = self._of_store() if self.source.store and not self.source.url else self._of_service()
        if self.json:
            print(json.dumps(facts))
            return
        for key, value in facts.items():
            print(f"{key.replace('_', ' '):13} {_text(value)}")

    def _of_service(self) -> dict[str, Any]:
        if self.version:
            raise InvalidRequestError("--version goes with --store; a service shows what it serves")
        with self.source.connect() as client:
            there = {found.name: found for found in client.collections()}
        if self.name not in there:
            raise NotFoundError(f"no collection {self.name!r}. There are: {', '.join(there) or 'none'}")
        return asdict(there[self.name])

    def _of_store(self) -> dict[str, Any]:
        store, place = _vectorstore(), self.source.store
        opened = store.open(place, self.name, version=_version(self.version))
        found = store.statistics(place, self.name, _version(self.version))
        chance = store.chance_of(opened)
        return {
            "name": self.name,
            **asdict(opened.info)["provenance"],
            "dimension": opened.info.dimension,
            "version": opened.info.version,
            **asdict(found),
            "index": None if opened.index is None else asdict(opened.index),
            "kmer_index": opened.has_kmer_index,
            "chance": None if chance is None else {"queries": chance.queries, "rows": chance.rows},
            "columns": opened.info.columns,
        }


@dataclass(frozen=True)
class Sample:
    """Print sequences of a collection, chosen at random."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The collection."""
    count: int = 10
    """Number of sequences, at most 1,000."""
    seed: int = 0
    """Random seed of the choice."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """Print them."""
        with self.source.connect() as client:
            found = client.sample(self.count, seed=self.seed, collection=self.name)
        self.output.show(found.to_dicts(), columns=("id", "length", "sequence"))


@dataclass(frozen=True)
class Export:
    """Write a collection, or the rows that pass a filter, to a file: vectors, sequences and labels, some rows at a time."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The collection."""
    out: Path
    """File to write, by its ending: .npy (vectors [N, H], with the rows in a .csv beside it), .npz (`ids` and `vectors`),
    .parquet, .h5ad (AnnData with the labels as obs; needs unirna[h5ad]), .csv or .fasta (without vectors)."""
    where: str = ""
    """SQL condition on the collection's columns; by default all rows."""
    version: str = ""
    """With --store: an older version, by number or tag."""
    force: bool = False
    """Replace an existing file."""
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """Write it."""
        check_target(self.out, OF_ROWS, force=self.force)
        count = self._of_store() if self.source.store and not self.source.url else self._of_service()
        say(f"{counted(count, 'row')} of {self.name} in {self.out}")

    def _of_store(self) -> int:
        store = _vectorstore()
        opened = store.open(self.source.store, self.name, version=_version(self.version))
        if "vector" not in opened.schema.names:
            raise InvalidRequestError(f"{self.name} holds vectors of nucleotides: read it with unirna.vectorstore instead")
        columns = [name for name in opened.schema.names if name != "sha"]
        batches = opened.scan(columns, batch_rows=ROWS_AT_ONCE, where=self.where or None)
        return self._write(opened.schema, batches, asdict(opened.provenance))

    def _of_service(self) -> int:
        if self.version:
            raise InvalidRequestError("--version goes with --store; a service shows what it serves")
        try:
            import pyarrow.ipc
        except ImportError as error:
            raise ImportError('an export needs pyarrow: pip install "unirna[vectorstore]"') from error
        query = urlencode({"where": self.where} if self.where else {})
        with self.source.connect() as client, TemporaryDirectory(dir=self.out.parent, prefix=".unirna-") as folder:
            there = Path(folder) / "rows.arrow"
            client._transport.service().save(f"/v1/collections/{quote(self.name, safe='')}/export?{query}", there)
            with pyarrow.OSFile(str(there)) as file, pyarrow.ipc.open_stream(file) as reader:
                said = reader.schema.metadata
                about, rows = json.loads(said[b"unirna.provenance"]), int(said[b"unirna.rows"])
                count = self._write(reader.schema, reader, about, rows)
        return count

    def _write(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], about: Mapping[str, Any], rows: int | None = None
    ) -> int:
        content = content_of(schema, {key: str(value) for key, value in about.items()})
        with exporting(self.out, content, OF_ROWS, force=self.force) as writer:
            for batch in batches:
                writer.write(rows_of(batch))
            if rows not in (None, writer.count):
                raise ServiceError(f"the service sent {writer.count:,} of {rows:,} rows. Ask again")
        return writer.count


@dataclass(frozen=True)
class Versions(InStore):
    """List the versions of a collection that can still be opened."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    def run(self) -> None:
        """List them."""
        found = _vectorstore().versions(self.store, self.name)
        rows = [
            {
                "version": v.number,
                "time": v.time.isoformat(timespec="seconds"),
                "change": v.change,
                "tags": ", ".join(v.tags),
            }
            for v in found
        ]
        self.output.show(rows)


@dataclass(frozen=True)
class Tag(InStore):
    """Give a version a name to open it by; tagged versions are kept."""

    label: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="LABEL")]
    """The name."""
    version: int = 0
    """The version; by default the newest."""

    def run(self) -> None:
        """Tag it."""
        _vectorstore().tag(self.store, self.name, self.label, self.version or None)
        say(f"{self.name}: a version is now called {self.label}")


@dataclass(frozen=True)
class Untag(InStore):
    """Remove the name of a version."""

    label: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="LABEL")]
    """The name."""

    def run(self) -> None:
        """Untag it."""
        _vectorstore().untag(self.store, self.name, self.label)
        say(f"{self.name}: the tag {self.label} is removed")


@dataclass(frozen=True)
class Restore(InStore):
    """Make an older version the newest again; the versions after it are kept."""

    version: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="VERSION")]
    """Its number or tag."""

    def run(self) -> None:
        """Restore it."""
        number = _vectorstore().restore(self.store, self.name, _version(self.version))
        say(f"{self.name}: version {number} is as {self.version} was")


@dataclass(frozen=True)
class Delete(InStore):
    """Delete rows of a collection. `restore` brings them back until `compact` removes the older versions."""

    where: str
    """SQL condition on the collection's columns, such as "length < 20"."""
    yes: bool = False
    """Delete more than half of the rows without asking."""
    dry_run: bool = False
    """Print how many rows would be deleted, and delete none."""

    def run(self) -> None:
        """Delete them."""
        store = _vectorstore()
        opened = store.open(self.store, self.name)
        found, rows = opened.count(self.where), opened.count()
        say(f"{self.name}: {found:,} of {counted(rows, 'row')} match {self.where}")
        for note in store.explain_passing(opened, self.where) or ([] if found else store.explain_empty(opened, self.where)):
            say(f"note: {note}")
        if self.dry_run:
            return
        if found > SURE * rows and not self.yes:
            self._ask(found, rows)
        count = store.delete(self.store, self.name, self.where)
        say(f"{self.name}: {counted(count, 'row')} deleted")

    def _ask(self, found: int, rows: int) -> None:
        if not sys.stdin.isatty():
            raise InvalidRequestError(
                f"--where matches {found:,} of {counted(rows, 'row')}: give --yes to delete more than half"
            )
        print(f"Delete {found:,} of {counted(rows, 'row')}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise InvalidRequestError("nothing was deleted")


@dataclass(frozen=True)
class Label(InStore):
    """Add label columns from a table with a column id."""

    table: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TABLE")]
    """A CSV, TSV or Parquet file."""
    encoding: str = ""
    """Encoding of its text, such as latin-1; by default UTF-8, or what its byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default what all
    values of a column are."""

    def run(self) -> None:
        """Label the rows."""
        from unirna.sequence import parse_types, plan_pieces, read_labels, unnamed_columns

        vectorstore = _vectorstore()
        table, missing = read_labels(str(self.table), encoding=self.encoding, types=parse_types(self.column_type))
        names = vectorstore.safe_names(name for name in table.column_names if name != "id")
        unnamed = [
            name for piece in plan_pieces(str(self.table), encoding=self.encoding) for name in unnamed_columns(piece)
        ]
        if told := vectorstore.tell_renamed(names, unnamed):
            say(told)
        for (column, word), count in sorted(missing.items()):
            if str(table.schema.field(column).type) == "string":
                say(f"{word} read as no value in column {column} ({count:,}); --column-type {column}=text keeps it")
        done = vectorstore.add_labels(self.store, self.name, table)
        say(f"{self.name}: {counted(done['labelled'], 'row')} labelled, {done['unknown']:,} ids of the table are not there")


@dataclass(frozen=True)
class Compact(InStore):
    """Join small files and remove old versions without a tag. Jobs may write and services may read meanwhile."""

    keep_days: float = 14.0
    """Keep versions younger than this."""

    def run(self) -> None:
        """Compact it."""
        done = _vectorstore().compact(self.store, self.name, keep=timedelta(days=self.keep_days))
        say(
            f"{self.name}: {done['files_before']:,} files became {done['files_after']:,}, "
            f"{done['versions_removed']:,} versions removed ({done['bytes_removed'] / 1e6:,.1f} MB)"
        )


@dataclass(frozen=True)
class Index(InStore):
    """Build an index for approximate search, measure its recall, and keep it if the recall is high enough.

    Small collections need none."""

    kind: Literal["hnsw", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq", "kmers"] = "hnsw"
    """hnsw: a graph, the fastest to search; the ivf kinds are built faster and smaller. kmers: of 8-mers, for hybrid and
    verified searches of a collection that does not fit in memory; it stands beside the others."""
    min_recall: float = 0.95
    """Minimum recall@10: share of the 10 nearest rows that the index must find."""
    drop: bool = False
    """Remove the index instead."""

    def run(self) -> None:
        """Build it."""
        store = _vectorstore()
        if self.kind == "kmers":
            if self.drop:
                store.drop_kmer_index(self.store, self.name)
                say(f"{self.name} has no index of its k-mers now")
            else:
                say(f"{self.name}: its k-mers are indexed, in {store.build_kmer_index(self.store, self.name):,.0f} s")
            return
        if self.drop:
            store.drop_index(self.store, self.name)
            say(f"{self.name} has no index any more: every search is exact")
            return
        index = store.build_index(self.store, self.name, kind=self.kind, min_recall=self.min_recall)
        found = index.measured
        say(
            f"{self.name}: {index.kind} over {index.rows:,} rows in {index.seconds:,.0f} s; recall@10 {found.recall:.3f} "
            f"of {found.queries} queries, {found.p50:.1f} ms a query (p99 {found.p99:.1f}; exact {found.exact_p50:.1f})"
        )


@dataclass(frozen=True)
class Calibrate(InStore):
    """Measure the hits of random sequences in a collection, so that its hits have a p-value."""

    model: str = ""
    """The model that made it; by default found by its name."""
    seed: int = 0
    """Random seed of the sequences."""

    def run(self) -> None:
        """Measure and keep it."""
        _vectorstore()
        from unirna.embed import calibrate
        from unirna.model import load

        found = calibrate(self.store, self.name, load(self.model) if self.model else None, seed=self.seed)
        assert found is not None
        done = f"searched with {found.queries:,} random sequences in {found.seconds:,.0f} s"
        say(f"{self.name}: {done}; its hits have a p now")


@dataclass(frozen=True)
class Map(InStore):
    """Lay a collection out on a plane, for the map on the service's page. Repeated only if the rows have changed."""

    method: Literal["umap", "pca"] = "umap"
    """umap needs umap-learn: pip install "unirna[map]". pca is fast, needs nothing else, and shows less."""
    seed: int = 0
    """Random seed of the sample and the layout."""
    rebuild: bool = False
    """Rebuild the map even if the rows have not changed."""

    def run(self) -> None:
        """Make it."""
        _vectorstore()
        from unirna.embed.projection import make_map
        from unirna.job import JobError

        try:
            done = make_map(self.store, self.name, method=self.method, seed=self.seed, rebuild=self.rebuild)
        except JobError as error:
            raise InvalidRequestError(str(error)) from error
        if not done["made"]:
            say(f"{self.name} has a map of its {done['points']:,} points already (--rebuild makes it again)")
            return
        say(f"{self.name}: {done['points']:,} of {done['rows']:,} rows on the map, in {done['seconds']:,.0f} s")


@dataclass(frozen=True)
class Copy(InStore):
    """Copy a collection to another name or store."""

    to: str = ""
    """Its new name; by default the same."""
    to_store: str = ""
    """Where to; by default the same store."""
    version: str = ""
    """An older version, by number or tag."""

    def run(self) -> None:
        """Copy it."""
        target, name = self.to_store or self.store, self.to or self.name
        count = _vectorstore().copy(self.store, self.name, target, name, version=_version(self.version))
        say(f"{counted(count, 'row')} copied to {name} in {target}")


@dataclass(frozen=True)
class Rename(InStore):
    """Give a collection another name."""

    to: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NEW")]
    """The new name."""

    def run(self) -> None:
        """Rename it."""
        _vectorstore().rename(self.store, self.name, self.to)
        say(f"{self.name} is now called {self.to}")


@dataclass(frozen=True)
class Drop(InStore):
    """Remove a collection for good."""

    confirm: str = ""
    """The name of the collection again, to confirm."""

    def run(self) -> None:
        """Drop it."""
        _vectorstore().drop(self.store, self.name, confirm=self.confirm)
        say(f"{self.name} is gone")


@dataclass(frozen=True)
class Default:
    """Show which collection is searched when none is named; with NAME, set it. Otherwise it is the one made first."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[NAME]")] = ""
    """The collection to set, with --store. (Of a service: PUT /v1/collections/NAME/default with an admin key.)"""
    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> None:
        """Show or set it."""
        place = "" if self.source.url else self.source.store
        if self.name:
            if not place:
                raise InvalidRequestError("setting the default needs the store: --store STORE")
            _vectorstore().set_default(place, self.name)
            say(f"{self.name} is the default collection of {place}")
            return
        if place:
            found = _vectorstore().default_collection(place)
        else:
            with self.source.connect() as client:
                found = next((c.name for c in client.collections() if c.default), None)
        if found is None:
            raise NotFoundError("there is no default collection")
        print(found)


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Default, tyro.conf.subcommand("default")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Versions, tyro.conf.subcommand("versions")]
    | Annotated[Tag, tyro.conf.subcommand("tag")]
    | Annotated[Untag, tyro.conf.subcommand("untag")]
    | Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Delete, tyro.conf.subcommand("delete")]
    | Annotated[Label, tyro.conf.subcommand("label")]
    | Annotated[Compact, tyro.conf.subcommand("compact")]
    | Annotated[Index, tyro.conf.subcommand("index")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Map, tyro.conf.subcommand("map")]
    | Annotated[Copy, tyro.conf.subcommand("copy")]
    | Annotated[Rename, tyro.conf.subcommand("rename")]
    | Annotated[Drop, tyro.conf.subcommand("drop")]
)


ACTIONS = tuple(get_args(part)[1].name for part in get_args(Command))


@dataclass(frozen=True)
class Collections:
    """List, describe and change collections."""

    action: tyro.conf.OmitSubcommandPrefixes[Command]

    def run(self) -> None:
        """Do it."""
        self.action.run()


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items()) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _vectorstore() -> ModuleType:
    try:
        from unirna import vectorstore
    except ImportError as error:
        raise ImportError(f'changing a store needs more than the SDK ({error}): pip install "unirna[platform]"') from error
    return vectorstore


def _version(text: str) -> int | str | None:
    return int(text) if text.isdigit() else text or None
