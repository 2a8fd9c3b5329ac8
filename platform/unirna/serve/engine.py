"""What the service does, without HTTP or Ray: embed, search and predict over one model, one store and one registry.

The HTTP application and `sdk.connect("path/to/store")` run this same code, so both give the same answers and errors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.model import CheckpointError, Model, load
from unirna.sequence import normalise
from unirna.serve.catalogue import OWN_COLUMNS, Catalogue, check_text
from unirna.serve.encoders import Encoders
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.serve.folding import Folding
from unirna.serve.maps import Maps
from unirna.serve.predictors import Predictors, answers_of, check_top
from unirna.serve.values import plain, plain_row
from unirna.serve.variants import Variants
from unirna.tasks import TaskError
from unirna.vectorstore import VERIFIED, ChangedError, Collection, FilterError, ModelMismatchError, StoreError

log = logging.getLogger(__name__)
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered.

    Attributes:
        max_sequence_length: nucleotides of one sequence. max_k: hits of one search.
        max_variant_nucleotides: passes of the model over a sequence whose variants are scored, times its length.
        max_fold_length: nucleotides of a sequence that is folded; a request may take as long as one of this length.
    """

    max_sequence_length: int = 20_000
    max_k: int = 1_000
    max_fold_length: int = 1_500
    max_variant_nucleotides: int = 150_000


@dataclass(frozen=True)
class SearchAnswer:
    """The nearest sequences of a collection.

    Attributes:
        collection: its name. model: what made its vectors.
        hits: one dict for each, best first: rank, id, similarity, found_by, alignment, length, sequence, labels.
    """

    collection: str
    model: str
    hits: list[dict[str, Any]]


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


class Engine:
    """One model, one store and one registry of predictors. Safe to use from several threads.

    Attributes:
        model: makes the vectors of queries. store: URI of the store. predictors: of the registry.
        encoders: the model and those of other collections. catalogue: of its collections. maps: of them.
        limits: the largest request.
    """

    def __init__(
        self,
        model: Model,
        store: str,
        registry: Path | None = None,
        *,
        default_collection: str | None = None,
        limits: Limits = Limits(),
        own_encoders: int = 2,
        other_models: int = 0,
    ) -> None:
        self.model, self.store = model, store
        self.limits = limits
        self.encoders = Encoders(model, other_models)
        self.catalogue = Catalogue(store, self.encoders, default_collection)
        self.maps = Maps(self.catalogue)
        self.predictors = Predictors(registry, model, own_encoders)
        self.folding = Folding(model, limits.max_fold_length)
        self.variants = Variants(model, limits.max_variant_nucleotides)

    @classmethod
    def open(
        cls,
        store: str,
        model: str | None = None,
        registry: str | Path | None = None,
        *,
        default_collection: str | None = None,
        limits: Limits = Limits(),
        other_models: int = 0,
    ) -> Engine:
        """Load what an engine needs.

        Args:
            store: folder or URI of the store.
            model: name, folder or URI; by default the one that made the (default) collection, as it says itself.
            registry: folder of predictors.
            default_collection: what is searched when a request names none; by default the only one there is.
            limits: the largest request.
            other_models: how many models of other collections may be loaded too, when they are searched.

        Raises:
            ValueError: a store without collections, a model that cannot be found; the message says what to do.
        """
        names = vectorstore.list_collections(store)
        if not names:
            raise StoreError(f"there is no collection in {store!r}. Make one with jobs/embed.py, or name another store")
        if default_collection is not None and default_collection not in names:
            raise StoreError(f"no collection {default_collection!r} in {store!r}. There are: {', '.join(names)}")
        if registry is not None and not Path(registry).is_dir():
            raise TaskError(
                f"no registry at {str(registry)!r}: wanted a folder of predictors, as jobs/finetune.py makes it"
            )
        loaded = load(model) if model else _recorded_model(store, default_collection or names[0])
        folder = None if registry is None else Path(registry)
        return cls(loaded, store, folder, default_collection=default_collection, limits=limits, other_models=other_models)

    # ---- embed -----------------------------------------------------------------------------------------------------

    def check_sequences(self, sequences: Sequence[str], field: str = "sequences") -> list[str]:
        """Bring sequences to one spelling.

        Args:
            sequences: RNA or DNA letters, either case.
            field: what to call them in errors; the i-th is `field[i]`.

        Raises:
            RequestError: no sequence, or any that is not RNA or DNA or is too long. All bad ones are named.
        """
        if isinstance(sequences, str) or not isinstance(sequences, Sequence):
            raise bad_field(field, f"wanted a list of sequences, got {type(sequences).__name__}")
        if not sequences:
            raise bad_field(field, "wanted at least one sequence, got none")
        good: list[str] = []
        bad: list[FieldError] = []
        for i, letters in enumerate(sequences):
            try:
                good.append(self._checked(letters))
            except ValueError as error:
                bad.append(FieldError(f"{field}[{i}]", str(error)))
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise RequestError(422, f"{bad[0].field}: {bad[0].message}{more}", *bad[:100])
        return good

    def check_sequence(self, letters: str, field: str = "similar_to") -> str:
        """One sequence in one spelling.

        Raises:
            RequestError: it is not RNA or DNA, or too long.
        """
        try:
            return self._checked(letters)
        except ValueError as error:
            raise bad_field(field, str(error)) from error

    def _checked(self, letters: object) -> str:
        if not isinstance(letters, str):
            raise ValueError(f"wanted a sequence as text, got {type(letters).__name__}")
        letters = letters.strip()
        if len(letters) > self.limits.max_sequence_length:
            raise ValueError(
                f"{len(letters):,} nucleotides; this service takes sequences of at most "
                f"{self.limits.max_sequence_length:,} (max_sequence_length). Cut it into parts that mean something to you"
            )
        return normalise(letters)

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """One vector per sequence: float32 [N, H].

        Raises:
            RequestError: see `check_sequences`.
        """
        return self.model.embed(self.check_sequences(sequences))

    # ---- search ----------------------------------------------------------------------------------------------------

    def search(
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
    ) -> SearchAnswer:
        """The k sequences of a collection whose vectors are nearest to that of a sequence.

        Args:
            similar_to: the sequence; or
            vector: its vector, H floats of this engine's model; or
            id: the id of a stored sequence, which will be its own first hit.
            k: hits wanted. offset: hits to pass over first.
            where: SQL condition on the columns, such as "length < 200".
            collection: which; by default the default one.
            hybrid: search by words (8-mers) as well as by the vector; each hit says what found it. At most 400 hits.
            verify: search so, align the candidates with the sequence and rank them by the score.

        Raises:
            RequestError: not exactly one of the three; a sequence, vector, k or filter that is not valid; words without a
                sequence, or of a collection too large for them (422); an unknown collection or id (404); a collection of
                another model (409).
        """
        for last in (False, True):
            try:
                plan = self.plan_search(
                    similar_to=similar_to,
                    vector=vector,
                    id=id,
                    k=k,
                    offset=offset,
                    where=where,
                    collection=collection,
                    hybrid=hybrid,
                    verify=verify,
                )
                return self.run_search(plan, plan.encoder.embed([plan.letters])[0] if plan.letters else plan.vector)
            except ChangedError as error:  # switched to another model meanwhile: once more, with that one
                if last:
                    raise changed(error) from error
        raise AssertionError("unreachable")

    def plan_search(
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
        """The first half of `search`: everything is checked, and a sequence is left for the caller to embed."""
        given = [name for name, value in (("similar_to", similar_to), ("vector", vector), ("id", id)) if value is not None]
        if len(given) != 1:
            field = given[1] if given else "similar_to"
            raise bad_field(field, f"wanted one of similar_to, vector and id, got {' and '.join(given) or 'none of them'}")
        self.check_k(k, offset)
        if where is not None:
            check_text(where, "where")
        letters = None if similar_to is None else self.check_sequence(similar_to)
        query = None if vector is None else self._given_vector(vector)
        table = self.catalogue.open(collection)
        words = letters
        if id is not None:
            query, words = self._stored(table, id)
        encoder = self.encoders.of(table) if letters is not None else self.model
        if vector is not None:
            self.check_model(table)
        if not (hybrid or verify):
            return SearchPlan(table, k, offset, where, letters, query, encoder)
        field = "verify" if verify else "hybrid"
        if words is not None and len(words) > self.limits.max_sequence_length:
            raise bad_field(field, f"the stored sequence has {len(words):,} nucleotides: too long (max_sequence_length)")
        if words is None:
            raise bad_field(field, "a vector has no letters to compare: give similar_to or id, or leave it out")
        return SearchPlan(table, k, offset, where, letters, query, encoder, words, verify)

    def run_search(self, plan: SearchPlan, vector: Vectors | None) -> SearchAnswer:
        """The second half of `search`: the neighbours of a vector, float32 [H].

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
        return SearchAnswer(plan.collection.name, plan.collection.provenance.model, hits)

    def check_k(self, k: object, offset: object = 0) -> None:
        """See that k is a number of hits that this engine gives, and that the first of them are within as many.

        Raises:
            RequestError: it is not.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.limits.max_k:
            raise bad_field("k", f"wanted a whole number from 1 to {self.limits.max_k:,} (max_k), got {k!r}")
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= self.limits.max_k - k:
            most = f"from 0 to {self.limits.max_k - k:,}, so that offset and k are at most {self.limits.max_k:,} (max_k)"
            raise bad_field("offset", f"wanted a whole number {most}, got {offset!r}")

    def check_model(self, collection: Collection) -> None:
        """See that this engine's model made the collection.

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

    # ---- the map ---------------------------------------------------------------------------------------------------

    def plan_place(self, name: str | None, sequence: str) -> tuple[Collection, str, Model]:
        """See that a sequence can be placed on a collection's map; the collection, the letters, and what embeds them.

        Raises:
            RequestError: a sequence that is not valid (422), no such collection or map (404), another model's (409).
        """
        letters = self.check_sequence(sequence, "sequence")
        collection = self.maps.check(name)
        return collection, letters, self.encoders.of(collection)

    # ---- predict ---------------------------------------------------------------------------------------------------

    def predict(self, task: str, sequences: Sequence[str], *, top: int = 5) -> list[dict[str, Any]]:
        """The most probable class, or the value, of each sequence, as `answers_of` gives it.

        Raises:
            RequestError: an unknown task (404); sequences or a `top` that are not valid (422).
        """
        predictor = self.predictors.get(task)
        letters = self.check_sequences(sequences)
        check_top(top)
        if not self.predictors.share_encoder(predictor):
            return answers_of(predictor.predict(letters), top)
        return answers_of(predictor.predict_vectors(self.model.embed(letters), letters), top)

    # ---- fold ------------------------------------------------------------------------------------------------------

    def fold(
        self, sequences: Sequence[str], *, drawing: bool = False, contacts: bool = False, bounded: bool = True
    ) -> list[dict[str, Any]]:
        """The secondary structure of each sequence, as `folding.answer` gives it; `bounded` refuses what takes long.

        Raises:
            RequestError: sequences that are not valid or too long (422), or too much work for one request (413).
        """
        letters = self.check_sequences(sequences)
        self.folding.check(letters, bounded=bounded)
        return self.folding.fold(letters, drawing=drawing, contacts=contacts)

    # ---- variants --------------------------------------------------------------------------------------------------

    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked", drawing: bool = False
    ) -> dict[str, Any]:
        """What the language model says of variants: sequence, model, method, variants with their scores, and a heat map.

        Raises:
            RequestError: a sequence or variants that are not valid, or that would take too many passes (422); a model
                without a language-model head (409).
        """
        letters = self.check_sequence(sequence, "sequence")
        self.variants.check(letters, variants, method)
        return self.variants.score(letters, variants, method, drawing=drawing)

    # ---- what there is ---------------------------------------------------------------------------------------------

    def describe_models(self) -> dict[str, Any]:
        """The encoder and the predictors, as the service lists them."""
        model = self.model
        encoder = {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "dimension": model.dimension,
            "context": model.context,
            "parameters": model.config.num_parameters,
        }
        predictors = [
            {
                "name": p.folder.name,
                "task": p.task,
                "labels": p.labels,
                "unit": p.unit,
                "lengths": list(p.lengths),
                "mode": p.mode,
                "fingerprint": p.encoder_fingerprint,
                "metrics": plain(p.metrics),
            }
            for p in self.predictors.all()
        ]
        return {"encoder": encoder, "predictors": predictors}


def changed(error: ChangedError) -> RequestError:
    """The answer to a request whose collection is switched to another model again and again."""
    return RequestError(409, str(error), FieldError("collection", str(error)))


def _recorded_model(store: str, collection: str) -> Model:
    made = vectorstore.open(store, collection).provenance
    try:
        model = load(made.model, layer=made.layer)
    except CheckpointError as error:
        raise CheckpointError(
            f"collection {collection!r} was made with the model {made.model!r}, which is not to be found from here. "
            f"Say where it is (model=…, --model): {error}"
        ) from error
    if model.fingerprint != made.fingerprint:
        raise ModelMismatchError(collection, (made.model, made.fingerprint), (model.name, model.fingerprint))
    return model


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
