"""Searches as requests ask for them: checked, embedded by whoever called, answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.base import counted, is_name
from unirna.model import Model
from unirna.serve.catalogue import OWN_COLUMNS, Catalogue, check_text
from unirna.serve.encoders import Encoders
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.serve.limits import Limits
from unirna.serve.lookup import IDENTIFIER, find_id
from unirna.serve.values import plain_row
from unirna.vectorstore import VERIFIED, ChangedError, Collection, FilterError, ModelMismatchError, StoreError

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class SearchAnswer:
    """The nearest sequences of a collection.

    Attributes:
        collection: its name. model: what made its vectors.
        hits: one dict for each, best first: rank, id, similarity, found_by, alignment, length, sequence, labels.
        notes: how the query was understood where that is not plain, and why a filter passes no row.
    """

    collection: str
    model: str
    hits: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SearchPlan:
    """A checked search. Either `letters` is to be embedded first, by `encoder`, or `vector` [H] is there already.

    With `words`, the query's sequence, words are searched as well as vectors, and with `verify` the hits are aligned.
    """

    collection: Collection
    k: int
    offset: int
    where: str | None
    letters: str | None
    vector: Vectors | None
    encoder: Model
    words: str | None = None
    verify: bool = False
    notes: tuple[str, ...] = ()


class Search:
    """Searches the collections of a catalogue. Safe to use from several threads.

    `search(similar_to=…)` is all of it; a caller that embeds in batches calls its halves, `plan` and `run`.

    Args:
        model: of the service: what vectors that are given were made by. catalogue: the collections.
        encoders: the models that embed queries. limits: the largest request.
    """

    def __init__(self, model: Model, catalogue: Catalogue, encoders: Encoders, limits: Limits) -> None:
        self.model, self.catalogue, self.encoders, self.limits = model, catalogue, encoders, limits

    def __call__(self, **asked: Any) -> SearchAnswer:
        """The k sequences of a collection whose vectors are nearest to that of a sequence: both halves.

        Args:
            asked: as `plan` takes them.

        Raises:
            RequestError: as `plan` and `run`; or a collection that is switched to another model again and again (409).
        """
        for last in (False, True):
            try:
                plan = self.plan(**asked)
                return self.run(plan, plan.encoder.embed([plan.letters])[0] if plan.letters else plan.vector)
            except ChangedError as error:  # switched to another model meanwhile: once more, with that one
                if last:
                    raise changed(error) from error
        raise AssertionError("unreachable")

    def plan(
        self,
        *,
        similar_to: str | None = None,
        vector: Sequence[float] | Vectors | None = None,
        id: str | None = None,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        hybrid: bool = False,
        verify: bool = False,
    ) -> SearchPlan:
        """The first half: everything is checked, and a sequence is left for the caller to embed.

        Args:
            similar_to: the sequence, or the identifier of a stored one; or
            vector: its vector, H floats of the service's model; or
            id: the id of a stored sequence, which will be its own first hit.
            k: hits wanted. offset: hits to pass over first.
            where: SQL condition on the columns, such as "length < 200".
            collection: which; by default the default one.
            hybrid: search by words (8-mers) as well as by the vector; each hit says what found it. At most 400 hits.
            verify: search so, align the hits with the sequence and rank the best by the score.

        Raises:
            RequestError: not exactly one of the three; a sequence, vector, k or filter that is not valid; words without a
                sequence, or of a collection too large for them (422); an unknown collection or id (404); a collection of
                another model (409).
        """
        given = [name for name, value in (("similar_to", similar_to), ("vector", vector), ("id", id)) if value is not None]
        if len(given) != 1:
            field = given[1] if given else "similar_to"
            raise bad_field(field, f"wanted one of similar_to, vector and id, got {' and '.join(given) or 'none of them'}")
        self.limits.check_k(k, offset)
        if where is not None:
            check_text(where, "where")
        query = None if vector is None else self._given_vector(vector)
        table = self.catalogue.open(collection)
        letters: str | None = None
        notes: tuple[str, ...] = ()
        if similar_to is not None:
            letters, id = self._understood(table, similar_to)
            notes = () if id is None else (f"{similar_to.strip()} is not a sequence: searched with the stored {id}",)
        words = letters
        if id is not None:
            query, words = self._stored(table, id)
        encoder = self.encoders.of(table) if letters is not None else self.model
        if vector is not None:
            self._check_model(table)
        if not (hybrid or verify):
            return SearchPlan(table, k, offset, where, letters, query, encoder, notes=notes)
        field = "verify" if verify else "hybrid"
        if words is not None and len(words) > self.limits.max_sequence_length:
            raise bad_field(field, f"the stored sequence has {len(words):,} nucleotides: too long (max_sequence_length)")
        if words is None:
            raise bad_field(field, "a vector has no letters to compare: give similar_to or id, or leave it out")
        return SearchPlan(table, k, offset, where, letters, query, encoder, words, verify, notes)

    def run(self, plan: SearchPlan, vector: Vectors | None) -> SearchAnswer:
        """The second half: the neighbours of a vector, float32 [H].

        Raises:
            RequestError: a filter that the store cannot read, or a collection too large for a search by words (422).
            ChangedError: the collection was switched to another model since it was planned.
        """
        if vector is None:
            raise ValueError("a plan with letters wants their vector")
        try:
            if plan.words is None:
                rows = plan.collection.search(vector, k=plan.k, offset=plan.offset, where=plan.where)
            else:
                several = plan.offset + plan.k
                found = vectorstore.search_hybrid(
                    plan.collection, [plan.words], vector, k=several, where=plan.where, verify=plan.verify
                )
                rows = found.slice(plan.offset)
        except FilterError as error:
            raise bad_field("where", str(error)) from error
        except ChangedError:
            raise
        except StoreError as error:
            raise bad_field("verify" if plan.verify else "hybrid", str(error)) from error
        hits = [_hit(row, plan) for row in rows.to_pylist()]
        notes = list(plan.notes)
        if not hits and not plan.offset and plan.where is not None:
            notes += vectorstore.explain_empty(plan.collection, plan.where)
        return SearchAnswer(plan.collection.name, plan.collection.provenance.model, hits, notes)

    def _understood(self, collection: Collection, text: str) -> tuple[str | None, str | None]:
        """A query as a sequence, or as the identifier of a stored one.

        Raises:
            RequestError: it is neither.
        """
        refused: RequestError | None = None
        letters = ""
        try:
            letters = self.limits.check_sequence(text)
            if not is_name(letters):
                return letters, None
        except RequestError as error:
            refused = error
        name = text.strip() if isinstance(text, str) else ""
        found, several = find_id(collection, name)
        if found is not None:
            return None, found
        if several:
            tried = f"several identifiers of {collection.name} contain {name!r}: {', '.join(several)}. Give one of them"
            raise bad_field("similar_to", tried, 422)
        if refused is None:
            raise bad_field(
                "similar_to",
                f"{name!r} reads as {counted(len(letters), 'nucleotide')}, many of them ambiguity codes, and no "
                f"sequence of {collection.name} has it as its identifier. {_labelled(collection, name)}",
            )
        if IDENTIFIER.fullmatch(name):
            message = f"{refused.errors[0].message} No sequence of {collection.name} has it as its identifier either."
            raise bad_field("similar_to", message) from refused
        raise refused

    def _check_model(self, collection: Collection) -> None:
        """See that the service's model made the collection.

        Raises:
            RequestError: it did not (409); both models are named.
        """
        try:
            collection.check_model(self.model.fingerprint, self.model.name)
        except ModelMismatchError as error:
            raise RequestError(409, str(error), FieldError("collection", str(error))) from error

    def _stored(self, collection: Collection, id: str) -> tuple[Vectors, str]:
        """Vector and sequence of a record."""
        check_text(id, "id")
        rows = collection.get([id], columns=["vector", "sequence"])
        if not rows.num_rows:
            raise bad_field("id", f"no sequence {id!r} in collection {collection.name!r}", 404)
        return _vector_of(rows), rows["sequence"][0].as_py()

    def _given_vector(self, vector: Sequence[float] | Vectors | None) -> Vectors:
        wanted = f"wanted {self.model.dimension} finite numbers, not all zero"
        try:
            array = np.asarray(vector, np.float32)
        except (TypeError, ValueError) as error:
            raise bad_field("vector", f"{wanted}; got something else") from error
        if array.shape != (self.model.dimension,):
            raise bad_field("vector", f"{wanted}; got shape {list(array.shape)}")
        if not np.isfinite(array).all() or not array.any():
            raise bad_field("vector", f"{wanted}; got values that are not finite, or only zeros")
        return array


def changed(error: ChangedError) -> RequestError:
    """The answer to a request whose collection is switched to another model again and again."""
    return RequestError(409, str(error), FieldError("collection", str(error)))


def _labelled(collection: Collection, name: str) -> str:
    columns = vectorstore.columns_with(collection, name)
    if not columns:
        return "Give a longer sequence"
    return f"There are rows with {columns[0]} = '{name}': give one of their sequences, and that as the filter"


def _hit(row: dict[str, Any], plan: SearchPlan) -> dict[str, Any]:
    # Rounding may leave a cosine a hair outside its range.
    similarity = min(max(row["similarity"], -1.0), 1.0)
    aligned = plan.verify and row["alignment_score"] is not None
    alignment = {name: row[name] for name in VERIFIED.names} if aligned else None
    return {
        "rank": row["rank"],
        "similarity": similarity,
        "found_by": "vector" if plan.words is None else row["found_by"],
        "alignment": alignment,
        **plain_row(row, OWN_COLUMNS),
    }


def _vector_of(rows: pa.Table) -> Vectors:
    flat: Vectors = np.asarray(rows["vector"].combine_chunks().flatten(), np.float32)
    return flat
