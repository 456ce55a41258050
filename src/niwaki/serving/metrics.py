"""What a monitoring system reads at /metrics (Prometheus text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self._registry = of = CollectorRegistry()
        self._requests = Counter("niwaki_requests", "Answered requests", ["route", "status"], registry=of)
        self._seconds = Histogram(
            "niwaki_request_seconds",
            "Seconds from a request to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=of,
        )
        self._batches = Histogram(
            "niwaki_batch_samples", "Samples made in one batch", ["model"], buckets=_SIZES, registry=of
        )
        self._busy = Counter(
            "niwaki_batch_seconds", "Seconds in which batches were made", ["model"], registry=of
        )
        self._queued = Gauge("niwaki_queued_samples", "Samples that wait", ["model"], registry=of)

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch_of(self, model: str) -> Callable[[int, float], None]:
        """What the batches of a model are told to."""
        sizes, busy = self._batches.labels(model), self._busy.labels(model)

        def observe(samples: int, seconds: float) -> None:
            sizes.observe(samples)
            busy.inc(seconds)

        return observe

    def text(self, queued: Iterable[tuple[str, int]]) -> bytes:
        """All of them, with the samples that wait for each model now."""
        for model, n in queued:
            self._queued.labels(model).set(n)
        return generate_latest(self._registry)
