"""What an operator's Prometheus reads of a service."""

from __future__ import annotations

from typing import Any

from splade_os.errors import MissingExtraError

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ServeMetrics:
    """``splade_os_http_requests_total{path,status}``, ``splade_os_http_seconds{path}``,
    ``splade_os_http_running``, ``splade_os_documents_written_total{result}``.

    Raises:
        MissingExtraError: ``prometheus-client`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError:
            raise MissingExtraError("The service", "serve") from None
        self._registry: Any = CollectorRegistry()
        named = {"registry": self._registry}
        self._requests = Counter(
            "splade_os_http_requests", "requests that were answered", ["path", "status"], **named
        )
        self._seconds = Histogram(
            "splade_os_http_seconds", "time of a request", ["path"], buckets=_SECONDS, **named
        )
        self.running = Gauge("splade_os_http_running", "requests that are worked on", **named)
        self._written = Counter(
            "splade_os_documents_written", "documents by outcome", ["result"], **named
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            path: of a route, not of the request: a client must not make names.
        """
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def written(self, result: str) -> None:
        """Count a document."""
        self._written.labels(result).inc()

    def render(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
