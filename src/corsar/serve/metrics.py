"""What Prometheus reads: requests by route and status, their seconds, what waits, and what is served."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from corsar.serve.service import Service

BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self._service, self._registry = service, CollectorRegistry()
        self._requests = Counter("corsar_requests", "Requests.", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "corsar_request_seconds",
            "Seconds from a request to its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        questions, writes = service.questions, service.writes
        for name, what, value in (
            ("waiting_questions", "Questions that wait or are being answered.", lambda: len(questions)),
            ("waiting_writes", "Requests whose events wait or are being written.", lambda: len(writes)),
            ("question_seconds", "Running mean of seconds a question takes.", lambda: questions.seconds_each),
            ("answered_questions", "Questions answered.", lambda: questions.questions),
            ("batches", "Batches that they were answered in.", lambda: questions.batches),
            ("stored_events", "Events stored since the start.", lambda: service.events),
            ("reloads", "Models that took the place of another.", lambda: service.reloads),
            ("refused_reloads", "Models that were refused.", lambda: service.refused_reloads),
            ("loaded_timestamp_seconds", "When the model was loaded.", lambda: service.loaded_at),
        ):
            Gauge(f"corsar_{name}", what, registry=self._registry).set_function(value)

    def saw(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        told: bytes = generate_latest(self._registry)
        return told
