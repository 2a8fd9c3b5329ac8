"""Where the command line's answers come from."""

from __future__ import annotations

from dataclasses import dataclass

from unirna.sdk._client import Client
from unirna.sdk._connect import TIMEOUT, connect
from unirna.sdk._exceptions import InvalidRequestError


@dataclass(frozen=True)
class ConnectionOptions:
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
        if self.url and not self.url.startswith(("http://", "https://")):
            raise InvalidRequestError(f"--url {self.url}: expected an address such as http://127.0.0.1:8000, or --store")
        if (self.model or self.registry) and not self.store:
            raise InvalidRequestError("--model and --registry go with --store; a service has its own")
        if self.store:
            return connect(self.store, model=self.model or None, registry=self.registry or None)
        return connect(self.url or None, timeout=self.timeout)
