"""Prometheus metrics of the front end. Labels are routes and codes, never data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class FrontendMetrics:
    """Counters of one front end, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "strongroom_requests",
            "Requests answered, by way in and HTTP status",
            ("mode", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "strongroom_request_seconds",
            "Time from the last byte of a request to its answer",
            ("mode",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.received = Counter(
            "strongroom_received_bytes", "Body bytes received", ("mode",), registry=self.registry
        )
        self.sent = Counter("strongroom_sent_bytes", "Body bytes sent", ("mode",), registry=self.registry)
        self.pending = Gauge(
            "strongroom_pending_requests", "Requests that wait for an answer", registry=self.registry
        )
        self.depth = Gauge("strongroom_queue_depth", "Entries in the request queue", registry=self.registry)

    def render(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)
