"""The report of a running ingest as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from splade_os.errors import IngestError, MissingExtraError
from splade_os.ingest.report import COUNTERS, IngestReport


@contextmanager
def metrics_server(
    port: int, index: str, host: str = "127.0.0.1"
) -> Iterator[Callable[[IngestReport], None]]:
    """Serve ``/metrics`` while the context lasts; call what it yields with every new report.

    ``host``: where to listen; the default is for this machine alone, ``0.0.0.0`` for all.

    Counters ``splade_os_ingest_<name>_total`` (of `COUNTERS`), gauges
    ``splade_os_ingest_queue{stage}``, ``splade_os_ingest_requests`` and
    ``splade_os_ingest_seconds``; all with the label ``index``.

    Raises:
        MissingExtraError: ``prometheus-client`` is not installed.
        IngestError: the port is taken.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    except ImportError:
        raise MissingExtraError("--metrics-port", "metrics") from None
    latest = IngestReport(index)

    class Collector:
        def collect(self) -> Iterator[Any]:
            for name in COUNTERS:
                counter = CounterMetricFamily(
                    f"splade_os_ingest_{name}", f"{name} so far", labels=["index"]
                )
                counter.add_metric([index], getattr(latest, name))
                yield counter
            queues = GaugeMetricFamily(
                "splade_os_ingest_queue", "what waits before a stage", labels=["index", "stage"]
            )
            for stage, waiting in latest.queues.items():
                queues.add_metric([index, stage], waiting)
            yield queues
            for name, text in (("requests", "bulk requests under way"), ("seconds", "run time")):
                gauge = GaugeMetricFamily(f"splade_os_ingest_{name}", text, labels=["index"])
                gauge.add_metric([index], getattr(latest, name))
                yield gauge

    registry = CollectorRegistry()
    registry.register(Collector())
    try:
        server, thread = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise IngestError(f"Metrics cannot be served at {host}:{port}: {error}") from error

    def update(report: IngestReport) -> None:
        nonlocal latest
        latest = replace(report)

    try:
        yield update
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
