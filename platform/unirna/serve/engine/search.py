"""Searches as requests ask for them: checked, embedded by whoever called, answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.base import counted, is_name
from unirna.model import Model
from unirna.sequence import LOW_COMPLEXITY, complexity_of
from unirna.serve.engine.catalogue import OWN_COLUMNS, Catalogue, check_text
from unirna.serve.engine.encoders import Encoders
from unirna.serve.engine.limits import Limits
from unirna.serve.engine.lookup import IDENTIFIER, find_id
from unirna.serve.engine.values import plain_row, rows_of
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.vectorstore import (
    SIGNIFICANT,
    VERIFIED,
    Chance,
    ChangedError,
    Collection,
    FilterError,
    ModelMismatchError,
    StoreError,
)
from unirna.vectorstore.hybrid import DEPTH

ALIGNED_LENGTH: Final = 2_000
"""Nucleotides of a query up to which its hits are aligned where the request does not say."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class QueryAnswer:
    """The hits of one query.

    Attributes:
        hits: one dict for each, best first: rank, id, similarity, p, found_by, alignment, length, sequence, labels.
        aligned: whether k-mers were searched too and the hits ranked by their alignment.
        query_id: the stored sequence that was searched with, where the query was one.
        better_than_chance: how many of the hits have a p of at most .05; None if chance was not measured.
        verdict: the same in words.
        notes: how the query was understood where that is not plain, and why a filter passes no row.
        error: why this query of several was not searched, as {"field", "message"}; None if it was.
    """

    hits: list[dict[str, Any]]
    aligned: bool
    query_id: str | None = None
    better_than_chance: int | None = None
    verdict: str = ""
    notes: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class SearchAnswer:
    """The nearest sequences of a collection.

    Attributes:
        collection: its name.
        model: what made its vectors.
        hits, aligned, query_id, better_than_chance, verdict, notes: as in `QueryAnswer`.
    """

    collection: str
    model: str
    hits: list[dict[str, Any]]
    aligned: bool
    query_id: str | None = None
    better_than_chance: int | None = None
    verdict: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SearchesAnswer:
    """The answer to several queries.

    Attributes:
        collection: name of the collection.
        model: what made its vectors.
        results: one for each query, in their order.
    """

    collection: str
    model: str
    results: list[QueryAnswer]


@dataclass(frozen=True)
class Query:
    """A checked query.

    Attributes:
        letters: its sequence, None if only a vector was given.
        vector: its vector [H], None if the sequence is still to be embedded.
        id: of the stored sequence that it is, None if it is none.
        notes: how it was understood where that is not plain.
        error: why it cannot be searched, None if it can.
    """

    letters: str | None
    vector: Vectors | None = None
    id: str | None = None
    notes: tuple[str, ...] = ()
    error: FieldError | None = None


@dataclass(frozen=True)
class SearchPlan:
    """A checked search of one query or several.

    Attributes:
        collection: what is searched.
        queries: in their order.
        many: whether the answer is one of several queries (`SearchesAnswer`).
        k, offset, where: as `Search.plan` takes them.
        hybrid: search by k-mers too.
        verify: search so and align; None for queries of up to `ALIGNED_LENGTH` where the k-mers are held in memory.
        encoder: the model for what is to be embedded.
    """

    collection: Collection
    queries: tuple[Query, ...]
    many: bool
    k: int
    offset: int
    where: str | None
    hybrid: bool
    verify: bool | None
    encoder: Model

    @property
    def to_embed(self) -> list[str]:
        """The sequences whose vectors `Search.run` takes."""
        return [q.letters for q in self.queries if q.vector is None and q.error is None and q.letters is not None]


class Search:
    """Searches the collections of a catalogue. Safe to use from several threads.

    `search(similar_to=…)` is all of it; a caller that embeds in batches calls its halves, `plan` and `run`.

    Args:
        model: of the service: what vectors that are given were made by.
        catalogue: the collections.
        encoders: the models that embed queries.
        limits: the largest request.
    """

    def __init__(self, model: Model, catalogue: Catalogue, encoders: Encoders, limits: Limits) -> None:
        self.model, self.catalogue, self.encoders, self.limits = model, catalogue, encoders, limits

    def __call__(self, **asked: Any) -> SearchAnswer | SearchesAnswer:
        """The k sequences of a collection most similar to each query: both halves.

        Args:
            asked: as `plan` takes them.

        Raises:
            RequestError: as `plan` and `run`; or a collection that is switched to another model again and again (409).
        """
        for last in (False, True):
            try:
                plan = self.plan(**asked)
                return self.run(plan, plan.encoder.embed(plan.to_embed) if plan.to_embed else None)
            except ChangedError as error:  # switched to another model meanwhile: once more, with that one
                if last:
                    raise changed(error) from error
        raise AssertionError("unreachable")

    def plan(
        self,
        *,
        similar_to: str | None = None,
        queries: Sequence[str] | None = None,
        vector: Sequence[float] | Vectors | None = None,
        id: str | None = None,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        hybrid: bool = False,
        verify: bool | None = None,
    ) -> SearchPlan:
        """The first half: everything is checked, and sequences are left for the caller to embed.

        Args:
            similar_to: a sequence, or the identifier of a stored one; or
            queries: several; one that is neither gets an error in its place, and the others are searched; or
            vector: a vector, H floats of the service's model; or
            id: the id of a stored sequence, which will be its own first hit.
            k: hits of each query.
            offset: hits to pass over first.
            where: SQL condition on the columns, such as "length < 200".
            collection: which; by default the default one.
            hybrid: search by k-mers (8-mers) as well as by the vector; each hit says what found it.
            verify: search so, align the hits with the sequence and rank the best by the score. None does it for queries
                of up to 2,000 nucleotides, where the k-mers of the collection are held in memory and `hybrid` is not
                asked for.

        Raises:
            RequestError: not exactly one of the four; a sequence, vector, k or filter that is not valid; k-mers without a
                sequence, or of a collection too large for them (422); an unknown collection or id (404); a collection of
                another model (409).
        """
        choices = (("similar_to", similar_to), ("queries", queries), ("vector", vector), ("id", id))
        given = [name for name, value in choices if value is not None]
        if len(given) != 1:
            field = given[1] if given else "similar_to"
            message = f"expected one of similar_to, queries, vector and id, got {' and '.join(given) or 'none of them'}"
            raise bad_field(field, message)
        self.limits.check_k(k, offset)
        if where is not None:
            check_text(where, "where")
        table = self.catalogue.open(collection)
        checked: list[Query] = []
        if similar_to is not None:
            checked = [self._understood(table, similar_to)]
        if queries is not None:
            checked = self._several(table, queries)
        if vector is not None:
            checked = [Query(None, self._given_vector(vector))]
        if id is not None:
            checked = [self._stored(table, id)]
        embeds = any(query.vector is None and query.error is None for query in checked)
        encoder = self.encoders.of(table) if embeds else self.model
        if vector is not None:
            self._check_model(table)
        if hybrid or verify:
            self._check_kmers(checked, "verify" if verify else "hybrid")
        return SearchPlan(table, tuple(checked), queries is not None, k, offset, where, hybrid, verify, encoder)

    def run(self, plan: SearchPlan, vectors: Vectors | None) -> SearchAnswer | SearchesAnswer:
        """The second half: the hits of each query.

        Args:
            plan: what `plan` made.
            vectors: of its `to_embed`, float32 [n, H]; None if it has none.

        Raises:
            RequestError: a filter that the store cannot read, or a collection too large for a search by k-mers (422).
            ChangedError: the collection was switched to another model since it was planned.
        """
        embedded = iter(() if vectors is None else vectors)
        found = [q.vector if q.vector is not None or q.error else next(embedded) for q in plan.queries]
        automatic = plan.verify is None and not plan.hybrid
        in_memory = automatic and plan.collection.kmers_fit_in_memory
        align = [
            bool(plan.verify) or (in_memory and q.letters is not None and len(q.letters) <= ALIGNED_LENGTH)
            for q in plan.queries
        ]
        results = [
            QueryAnswer([], False, error=None if q.error is None else {"field": q.error.field, "message": q.error.message})
            for q in plan.queries
        ]
        chance, rows_now = vectorstore.chance_of(plan.collection), len(plan.collection)
        passing = vectorstore.explain_passing(plan.collection, plan.where) if plan.where is not None else []
        emptied: list[str] | None = None  # why the filter passes no row, once it is known
        for aligned in (True, False):
            which = [i for i, q in enumerate(plan.queries) if q.error is None and align[i] == aligned]
            if not which:
                continue
            vectors = np.stack([vector for i in which if (vector := found[i]) is not None])
            rows = self._rows(plan, which, vectors, aligned)
            place = rows["query"].combine_chunks()
            for number, i in enumerate(which):
                part = rows.filter(pc.equal(place, number)) if len(which) > 1 else rows
                notes = [*plan.queries[i].notes, *passing]
                if not part.num_rows and not plan.offset and plan.where is not None:
                    if emptied is None:
                        emptied = vectorstore.explain_empty(plan.collection, plan.where)
                    notes += emptied
                chances = _chances(chance, rows_now, part, plan, plan.queries[i], aligned)
                hits = [_hit(row, aligned, p) for row, p in zip(rows_of(part), chances, strict=True)]
                better = None if None in chances else sum(p is not None and p <= SIGNIFICANT for p in chances)
                verdict = _verdict(hits, better, plan.collection.name, plan.queries[i]) if hits else ""
                results[i] = QueryAnswer(hits, aligned, plan.queries[i].id, better, verdict, notes)
        name, model = plan.collection.name, plan.collection.provenance.model
        if plan.many:
            return SearchesAnswer(name, model, results)
        (found_one,) = results
        return SearchAnswer(name, model, **{key: value for key, value in vars(found_one).items() if key != "error"})

    def _rows(self, plan: SearchPlan, which: list[int], vectors: Vectors, align: bool) -> pa.Table:
        """Hits offset to offset + k of some of the queries, as the store gives them."""
        try:
            if not (align or plan.hybrid):
                return plan.collection.search(vectors, k=plan.k, offset=plan.offset, where=plan.where)
            several = plan.offset + plan.k
            found = vectorstore.search_hybrid(
                plan.collection,
                [plan.queries[i].letters or "" for i in which],
                vectors,
                k=several,
                where=plan.where,
                verify=align,
                # All hits that may be asked for come from one set of candidates, so that pages fit together.
                depth=DEPTH if several <= DEPTH else max(DEPTH, self.limits.max_k),
            )
            return found.filter(pc.greater(found["rank"], plan.offset)) if plan.offset else found
        except FilterError as error:
            raise bad_field("where", str(error)) from error
        except ChangedError:
            raise
        except StoreError as error:
            raise bad_field("verify" if plan.verify else "hybrid", str(error)) from error

    def _understood(self, collection: Collection, text: str, field: str = "similar_to") -> Query:
        """A query from a sequence, or from the identifier of a stored one.

        Raises:
            RequestError: it is neither.
        """
        refused: RequestError | None = None
        letters = ""
        try:
            letters = self.limits.check_sequence(text, field)
            if not is_name(letters):
                return Query(letters)
        except RequestError as error:
            refused = error
        name = text.strip() if isinstance(text, str) else ""
        found, several = find_id(collection, name)
        if found is not None:
            note = f"{name} is not a sequence: searched with the stored {found}"
            return replace(self._stored(collection, found), notes=(note,))
        if several:
            tried = f"several identifiers of {collection.name} contain {name!r}: {', '.join(several)}. Give one of them"
            raise bad_field(field, tried, 422)
        if refused is None:
            raise bad_field(
                field,
                f"{name!r} reads as {counted(len(letters), 'nucleotide')}, many of them ambiguity codes, and no "
                f"sequence of {collection.name} has it as its identifier. {_labelled(collection, name)}",
            )
        if IDENTIFIER.fullmatch(name):
            if 2 * sum(letter in "ACGTU" for letter in name.upper()) >= len(name):  # rather a sequence with an error in it
                message = f"{refused.errors[0].message} No sequence of {collection.name} has it as its identifier either."
                raise bad_field(field, message) from refused
            columns = vectorstore.columns_with(collection, name)
            rows = f" There are rows with {columns[0]} = '{name}': give that as the filter." if columns else ""
            message = f"No sequence of {collection.name} has {name!r} as its identifier.{rows}"
            raise bad_field(field, f"{message} It is not a sequence either: {refused.errors[0].message}") from refused
        raise refused

    def _several(self, collection: Collection, queries: Sequence[str]) -> list[Query]:
        if isinstance(queries, str) or not isinstance(queries, Sequence):
            raise bad_field("queries", f"expected a list of sequences, got {type(queries).__name__}")
        if not queries:
            raise bad_field("queries", "expected at least one sequence, got none")
        checked = []
        for i, text in enumerate(queries):
            try:
                checked.append(self._understood(collection, text, f"queries[{i}]"))
            except RequestError as error:
                checked.append(Query(None, error=error.errors[0]))
        return checked

    def _check_kmers(self, queries: Sequence[Query], field: str) -> None:
        """See that each query has a sequence, not too long to compare.

        Raises:
            RequestError: it has none, or it is too long.
        """
        for query in queries:
            if query.error is not None:
                continue
            if query.letters is None:
                raise bad_field(field, "a vector has no sequence to compare: give similar_to or id, or leave it out")
            if len(query.letters) > self.limits.max_sequence_length:
                length = f"{len(query.letters):,} nucleotides"
                raise bad_field(field, f"the stored sequence has {length}: too long (max_sequence_length)")

    def _check_model(self, collection: Collection) -> None:
        """See that the service's model made the collection.

        Raises:
            RequestError: it did not (409); both models are named.
        """
        try:
            collection.check_model(self.model.fingerprint, self.model.name)
        except ModelMismatchError as error:
            raise RequestError(409, str(error), FieldError("collection", str(error))) from error

    def _stored(self, collection: Collection, id: str) -> Query:
        """Vector and sequence of a record."""
        check_text(id, "id")
        rows = collection.get([id], columns=["vector", "sequence"])
        if not rows.num_rows:
            raise bad_field("id", f"no sequence {id!r} in collection {collection.name!r}", 404)
        return Query(rows["sequence"][0].as_py(), _vector_of(rows), id)

    def _given_vector(self, vector: Sequence[float] | Vectors | None) -> Vectors:
        expected = f"expected {self.model.dimension} finite numbers, not all zero"
        try:
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused below
                array = np.asarray(vector, np.float32)
        except (TypeError, ValueError) as error:
            raise bad_field("vector", f"{expected}; got something else") from error
        if array.shape != (self.model.dimension,):
            raise bad_field("vector", f"{expected}; got shape {list(array.shape)}")
        if not np.isfinite(array).all() or not array.any():
            raise bad_field("vector", f"{expected}; got values that are not finite, or only zeros")
        return array


def changed(error: ChangedError) -> RequestError:
    """The answer to a request whose collection is switched to another model again and again."""
    return RequestError(409, str(error), FieldError("collection", str(error)))


def _labelled(collection: Collection, name: str) -> str:
    columns = vectorstore.columns_with(collection, name)
    if not columns:
        return "Give a longer sequence"
    return f"There are rows with {columns[0]} = '{name}': give one of their sequences, and that as the filter"


def _chances(
    chance: Chance | None, rows: int, hits: pa.Table, plan: SearchPlan, query: Query, aligned: bool
) -> Sequence[float | None]:
    """The p of each hit of a query, None if it is not known."""
    if chance is None or not hits.num_rows:
        return [None] * hits.num_rows
    if _is_repeat(query):  # chance was measured with sequences of natural complexity
        return [1.0] * hits.num_rows
    found = chance.of_hits(
        hits["similarity"].to_numpy(),
        length=None if query.letters is None else sum(query.letters.count(letter) for letter in "ACGU"),
        rows=rows,
        shared=hits["_shared"].to_numpy() if plan.hybrid and not aligned else None,
        score=hits["alignment_score"].to_pylist() if aligned else None,
    )
    return [None] * hits.num_rows if found is None else found.tolist()


def _is_repeat(query: Query) -> bool:
    return query.letters is not None and complexity_of(query.letters) < LOW_COMPLEXITY


def _verdict(hits: list[dict[str, Any]], better: int | None, collection: str, query: Query) -> str:
    """What is said of some hits in words; `better` of them are better than chance."""
    if better is None:
        return (
            f"How often chance finds hits as good is not known for {collection}: unirna collections calibrate "
            f"{collection} --store … measures it."
        )
    if _is_repeat(query):
        return "No hit better than chance: the query is a repeat or made of few different 3-mers, which align with much."
    if not better:
        return f"No hit better than chance: random sequences of this length find hits as good (p above {SIGNIFICANT:g})."
    return f"{better:,} of {counted(len(hits), 'hit')} better than chance (p at most {SIGNIFICANT:g})."


def _hit(row: dict[str, Any], aligned: bool, p: float | None) -> dict[str, Any]:
    # Rounding may leave a cosine a hair outside its range.
    similarity = min(max(row["similarity"], -1.0), 1.0)
    alignment = {name: row[name] for name in VERIFIED.names} if aligned and row["alignment_score"] is not None else None
    return {
        "rank": row["rank"],
        "similarity": similarity,
        "p": p,
        "found_by": row.get("found_by", "vector"),
        "alignment": alignment,
        **plain_row(row, OWN_COLUMNS),
    }


def _vector_of(rows: pa.Table) -> Vectors:
    flat: Vectors = np.asarray(rows["vector"].combine_chunks().flatten(), np.float32)
    return flat
