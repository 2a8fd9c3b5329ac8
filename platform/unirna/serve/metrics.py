"""What the service counts, for Prometheus."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
SHARES: Final = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class Metrics:
    """Counters of one replica, whose name stands as `replica` at every number.

    Attributes:
        requests, seconds: by route, method and status; by route. nucleotides: embedded. fill: of a batch, of its budget.
        one_at_a_time: for whoever sets gauges and reads them all.
    """

    def __init__(self) -> None:
        self.one_at_a_time = threading.Lock()
        self._registry = CollectorRegistry()
        registry: Any = self._registry
        self.requests = Counter("unirna_requests", "Requests.", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "unirna_request_seconds",
            "From a request's arrival to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.nucleotides = Counter("unirna_embedded_nucleotides", "Nucleotides that were embedded.", registry=registry)
        self.sequences = Counter("unirna_embedded_sequences", "Sequences that were embedded.", registry=registry)
        self.fill = Histogram(
            "unirna_batch_fill", "Nucleotides of a batch, as a share of its budget.", buckets=SHARES, registry=registry
        )
        self.waiting = Gauge("unirna_waiting_nucleotides", "Nucleotides that wait to be embedded.", registry=registry)
        self.model = Gauge(
            "unirna_model", "The model of the service.", ["name", "fingerprint", "version"], registry=registry
        )
        self.rows = Gauge("unirna_collection_rows", "Rows of a collection.", ["collection"], registry=registry)
        self.version = Gauge("unirna_collection_version", "Version of a collection.", ["collection"], registry=registry)

    def batch(self, sequences: int, nucleotides: int, share: float) -> None:
        """Enter a batch that was embedded."""
        self.sequences.inc(sequences)
        self.nucleotides.inc(nucleotides)
        self.fill.observe(share)

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(_Named(self._registry.collect, f"{socket.gethostname()}-{os.getpid()}"))


class _Named:
    """A registry whose numbers all carry the replica's name."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], replica: str) -> None:
        self._collect, self._replica = collect, replica

    def collect(self) -> Iterable[Metric]:
        for family in self._collect():
            family.samples = [s._replace(labels={**s.labels, "replica": self._replica}) for s in family.samples]
            yield family
