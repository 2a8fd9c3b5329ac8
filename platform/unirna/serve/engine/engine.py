"""What the service does, without HTTP or Ray: embed, search and predict over one model, one store and one registry.

The HTTP application and `sdk.connect("path/to/store")` run this same code, so both give the same answers and errors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.model import CheckpointError, Model, load
from unirna.serve.engine.catalogue import Catalogue
from unirna.serve.engine.encoders import Encoders
from unirna.serve.engine.folding import Asked, Folding
from unirna.serve.engine.limits import DEFAULT_LIMITS, Limits
from unirna.serve.engine.maps import Maps
from unirna.serve.engine.predictors import Predictors, about, answers_of, check_options
from unirna.serve.engine.search import Search
from unirna.serve.engine.values import plain
from unirna.serve.engine.variants import Variants
from unirna.serve.errors import bad_field
from unirna.tasks import TaskError
from unirna.vectorstore import Collection, ModelMismatchError, StoreError

log = logging.getLogger(__name__)
Vectors = NDArray[np.float32]


class Engine:
    """One model, one store and one registry of predictors. Safe to use from several threads.

    Attributes:
        model: makes the vectors of queries. store: URI of the store. predictors: of the registry.
        encoders: the model and those of other collections. catalogue: of its collections. maps: of them.
        search: of the collections; `engine.search(similar_to=…)`.
        limits: the largest request.
    """

    def __init__(
        self,
        model: Model,
        store: str,
        registry: Path | None = None,
        *,
        default_collection: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        own_encoders: int = 2,
        other_models: int = 0,
    ) -> None:
        self.model, self.store = model, store
        self.limits = limits
        self.encoders = Encoders(model, other_models)
        self.catalogue = Catalogue(store, self.encoders, default_collection)
        self.search = Search(model, self.catalogue, self.encoders, limits)
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
        limits: Limits = DEFAULT_LIMITS,
        other_models: int = 0,
    ) -> Engine:
        """Load what an engine needs.

        Args:
            store: folder or URI of the store.
            model: name, folder or URI; by default the one that made the (default) collection, as it says itself.
            registry: folder of predictors.
            default_collection: what is searched when a request names none; by default the store's default.
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
                f"no registry at {str(registry)!r}: expected a folder of predictors, as jobs/finetune.py makes it"
            )
        first = default_collection or vectorstore.default_collection(store) or names[0]
        loaded = load(model) if model else _recorded_model(store, first)
        folder = None if registry is None else Path(registry)
        return cls(loaded, store, folder, default_collection=default_collection, limits=limits, other_models=other_models)

    # ---- embed -----------------------------------------------------------------------------------------------------

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """One vector per sequence: float32 [N, H].

        Raises:
            RequestError: see `Limits.check_sequences`.
        """
        return self.model.embed(self.limits.check_sequences(sequences))

    # ---- the map ---------------------------------------------------------------------------------------------------

    def plan_place(self, name: str | None, sequence: str) -> tuple[Collection, str, Model]:
        """See that a sequence can be placed on a collection's map; the collection, the sequence, and the encoder for it.

        Raises:
            RequestError: a sequence that is not valid (422), no such collection or map (404), another model's (409).
        """
        normalised = self.limits.check_sequence(sequence, "sequence")
        collection = self.maps.check(name)
        return collection, normalised, self.encoders.of(collection)

    # ---- predict ---------------------------------------------------------------------------------------------------

    def predict(
        self,
        task: str,
        sequences: Sequence[str],
        *,
        top: int | None = None,
        prior: float | Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """The most probable class, or the value, of each sequence: predictions, as `answers_of` gives them, and what holds
        for all of them, as `about` gives it.

        Raises:
            RequestError: an unknown task (404); sequences, a `top` or a `prior` that are not valid (422).
        """
        predictor = self.predictors.get(task)
        normalised = (self.limits.check_pairs if predictor.pairs else self.limits.check_sequences)(sequences)
        check_options(predictor, top, prior)
        shared = self.model if self.predictors.share_encoder(predictor) else None
        predictions = predictor.predict(normalised, shared, prior=prior)
        return {"task": task, "predictions": answers_of(predictions, top), **about(predictor, prior)}

    # ---- fold ------------------------------------------------------------------------------------------------------

    def fold(self, sequences: Sequence[str], *, bounded: bool = True, **asked: Any) -> list[dict[str, Any]]:
        """The secondary structure of each sequence, as `folding.answer` gives it.

        Args:
            sequences: RNA or DNA, either case.
            bounded: refuse what takes long.
            asked: of `folding.Asked`.

        Raises:
            RequestError: sequences or constraints that are not valid or too long (422), or too much work for one request
                (413).
        """
        normalised = self.limits.check_sequences(sequences)
        self.folding.check(normalised, bounded=bounded)
        return self.folding.fold(normalised, Asked(**asked))

    # ---- variants --------------------------------------------------------------------------------------------------

    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked", drawing: bool = False
    ) -> dict[str, Any]:
        """Language-model scores of variants: sequence, model, method, variants with their scores, and a heat map.

        Raises:
            RequestError: a sequence or variants that are not valid, or that would take too many passes (422); a model
                without a language-model head (409).
        """
        normalised = self.limits.check_sequence(sequence, "sequence")
        self.variants.check(normalised, variants, method)
        return self.variants.score(normalised, variants, method, drawing=drawing)

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
                "requirements": p.requirements.to_json() | {"text": p.requirements.describe()},
                "base_rates": p.base_rates,
                "thresholds": p.thresholds() or None,
                "mode": p.mode,
                "fingerprint": p.encoder_fingerprint,
                "metrics": plain(p.metrics),
                "primary_metric": plain(p.primary_metric),
                "verdict": plain(p.verdict.to_json()),
                "has_plot": p.plot is not None,
            }
            for p in self.predictors.all()
        ]
        return {"encoder": encoder, "predictors": predictors}

    def model_card(self, name: str) -> str:
        """The card of a predictor, Markdown.

        Raises:
            RequestError: no predictor of that name, or no card (404).
        """
        predictor = self.predictors.get(name, "name")
        try:
            return predictor.card
        except TaskError as error:
            raise bad_field("name", f"predictor {name!r} has no card", 404) from error

    def model_plot(self, name: str) -> str:
        """The plot of a predictor of values, SVG: predicted against true values of its test rows.

        Raises:
            RequestError: no predictor of that name, or no plot (404).
        """
        plot = self.predictors.get(name, "name").plot
        if plot is None:
            raise bad_field("name", f"predictor {name!r} has no plot: only predictors of values have one", 404)
        return plot.read_text(encoding="utf-8")


def _recorded_model(store: str, collection: str) -> Model:
    made = vectorstore.open(store, collection).provenance
    try:
        model = load(made.model, layer=made.layer)
    except CheckpointError as error:
        raise CheckpointError(
            f"collection {collection!r} was made with the model {made.model!r}, which was not found. "
            f"Say where it is (model=…, --model): {error}"
        ) from error
    if model.fingerprint != made.fingerprint:
        raise ModelMismatchError(collection, (made.model, made.fingerprint), (model.name, model.fingerprint))
    return model
