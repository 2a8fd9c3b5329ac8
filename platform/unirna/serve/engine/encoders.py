"""The models of a store's collections: the service's own, and those of others, loaded when they are met."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

from unirna.model import CheckpointError, Model, load
from unirna.serve.errors import FieldError, RequestError
from unirna.vectorstore import Collection, ModelMismatchError, Provenance

log = logging.getLogger(__name__)
LOOK_AGAIN = 60.0
"""Seconds after which a model that could not be loaded is looked for again."""


class Encoders:
    """Finds the model that made a collection. Safe to use from several threads.

    Args:
        own: the service's model.
        others: how many further ones stay loaded; 0 for none, and then other models' collections are refused.
    """

    def __init__(self, own: Model, others: int) -> None:
        self.own, self.others = own, others
        self._loaded: OrderedDict[tuple[str, int], Model] = OrderedDict()
        self._missing: dict[tuple[str, int], float] = {}
        self._loading = threading.Lock()

    def known(self, made: Provenance) -> bool:
        """Whether a collection can be searched, as far as is known without loading its model."""
        missed = self._missing.get((made.fingerprint, made.layer), float("-inf"))
        return made.fingerprint == self.own.fingerprint or (self.others > 0 and time.monotonic() - missed > LOOK_AGAIN)

    def of(self, collection: Collection) -> Model:
        """The model that made a collection.

        Raises:
            RequestError: it is not to be had here (409); the service's and the collection's are named.
        """
        made = collection.provenance
        if made.fingerprint == self.own.fingerprint:
            return self.own
        if self.known(made):
            with self._loading:
                try:
                    if self.known(made):  # who waited need not try again what has just failed
                        return self._load(made)
                except (CheckpointError, OSError, ValueError, RuntimeError) as error:  # the last: no memory for it
                    log.warning("the model %s of collection %s cannot be loaded: %s", made.model, collection.name, error)
                    self._missing[made.fingerprint, made.layer] = time.monotonic()
        refusal = str(
            ModelMismatchError(collection.name, (made.model, made.fingerprint), (self.own.name, self.own.fingerprint))
        )
        raise RequestError(409, refusal, FieldError("collection", refusal))

    def _load(self, made: Provenance) -> Model:
        key = made.fingerprint, made.layer
        if key not in self._loaded:
            found = load(made.model, device=self.own.device, layer=made.layer)
            if found.fingerprint != made.fingerprint:
                raise CheckpointError(f"{made.model!r} is another model now ({found.fingerprint})")
            log.info("loaded the model %s (%s), of a collection that it made", made.model, made.fingerprint)
            self._loaded[key] = found
            while len(self._loaded) > self.others:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]
