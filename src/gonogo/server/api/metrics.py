"""Readiness and metrics of the server, as monitoring tools ask for them."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from gonogo import files
from gonogo.server.account import login
from gonogo.server.api.judges import Judges
from gonogo.server.context import Use
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.workspace import Workspace

_PREFIX = "gonogo_server_"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counts of one server since its start. Thread-safe."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.registry = CollectorRegistry()
        self.refusals = Counter(
            f"{_PREFIX}refusals", "Refused requests of programs.", ("route", "status"), registry=self.registry
        )
        self.verdicts = Counter(f"{_PREFIX}verdicts", "Verdicts given.", ("state",), registry=self.registry)
        self.repeats = Counter(f"{_PREFIX}repeats", "Recorded verdicts given again.", registry=self.registry)
        self.inferences = Counter(
            f"{_PREFIX}inferences", "KServe inferences, which are no verdicts.", ("protocol",), registry=self.registry
        )
        self.seconds = Histogram(
            f"{_PREFIX}judge_seconds",
            "Time from a whole request to its recorded verdict.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
            registry=self.registry,
        )
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        """Return nothing: the metrics of `collect` are not read before they are asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what is measured at the moment of asking."""
        yield GaugeMetricFamily(
            f"{_PREFIX}free_bytes", "Free space on the disk of the workspace.", files.free_bytes(self._workspace.root)
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}inspector_in_use",
            "Whether an inspector is in use.",
            float(self._workspace.active_bundle() is not None),
        )


def ready(ledger_pool: Use[LedgerPool], workspace: Use[Workspace], judges: Use[Judges]) -> Response:
    """Whether pictures can be judged: ledger and disk are usable, and an inspector is in use."""
    if login.health(ledger_pool, workspace).status_code != 200:
        return PlainTextResponse("not ready: the ledger or the disk\n", 503)
    if judges.in_use() is None:
        return PlainTextResponse("not ready: no inspector in use\n", 503)
    return PlainTextResponse("ready\n")


def metrics(metrics: Use[ServerMetrics]) -> Response:
    """Counts and durations in the text format of Prometheus."""
    return Response(generate_latest(metrics.registry), media_type=TEXT)
