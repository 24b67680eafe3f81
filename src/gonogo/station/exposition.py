"""The metrics of a station in the text format of Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gonogo.line.state import Health
from gonogo.schema import State
from gonogo.station.forwarder import LinkState
from gonogo.station.metrics import Metrics
from gonogo.station.outbox import DestinationState
from gonogo.station.status import StationState

_PREFIX = "gonogo_station_"


def exposition(
    metrics: Metrics,
    state: StationState,
    *,
    free_bytes: int,
    link: LinkState | None = None,
    results: Sequence[DestinationState] = (),
) -> str:
    """Return all metrics of a station in text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, state, free_bytes, link, results))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(
        self,
        metrics: Metrics,
        state: StationState,
        free_bytes: int,
        link: LinkState | None,
        results: Sequence[DestinationState],
    ) -> None:
        self._metrics, self._state, self._free_bytes, self._link = metrics, state, free_bytes, link
        self._results = results

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        leftovers = Counter[str]()
        for counts in self._state.report.pictures.values():
            leftovers.update({reason: count for reason, count in counts.items() if reason != "waiting"})
        answers = {state.value: metrics.answers[state] for state in State}
        yield self._counter("answers", "Answers given.", "state", answers)
        yield self._counter("faults", "Faults by cause.", "cause", metrics.faults)
        yield self._counter("events", "Triggers, repeats, restarts and other events.", "event", metrics.events)
        yield self._counter("leftover_pictures", "Pictures that were not used.", "reason", leftovers)
        yield self._products()
        if (tracking := self._state.tracking) is not None:
            yield self._counter("gate", "Parts that passed the gate, orders and stops.", "event", tracking.counts)
        if self._state.adapters:
            yield self._adapters()
        yield self._stages()
        yield from self._destinations()
        for name, text, value in self._gauges():
            family = GaugeMetricFamily(_PREFIX + name, text, labels=("station",))
            family.add_metric((metrics.station,), value)
            yield family

    def _counter(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(_PREFIX + name, text, labels=("station", label))
        for key, count in counts.items():
            family.add_metric((self._metrics.station, key), count)
        return family

    def _products(self) -> Metric:
        labels = ("station", "product", "state")
        family = CounterMetricFamily(f"{_PREFIX}product_answers", "Answers by product.", labels=labels)
        for (product, state), count in self._metrics.products.items():
            family.add_metric((self._metrics.station, product, state.value), count)
        return family

    def _adapters(self) -> Metric:
        labels = ("station", "adapter", "event")
        family = CounterMetricFamily(f"{_PREFIX}adapter_events", "Messages of the adapters.", labels=labels)
        for each in self._state.adapters:
            for event in ("triggers", "delivered", "undelivered", "refused"):
                family.add_metric((self._metrics.station, each.name, event), getattr(each, event))
        return family

    def _destinations(self) -> Iterator[Metric]:
        for name, text, values in (
            ("results_lag_rows", "Rows that a destination does not have.", [each.lag_rows for each in self._results]),
            ("results_lag_seconds", "Age of the oldest of them.", [each.lag_s for each in self._results]),
            ("results_up", "Whether results are delivered.", [not each.trouble for each in self._results]),
        ):
            family = GaugeMetricFamily(_PREFIX + name, text, labels=("station", "destination"))
            for each, value in zip(self._results, values, strict=True):
                family.add_metric((self._metrics.station, each.name), float(value))
            if self._results:
                yield family

    def _stages(self) -> Metric:
        name = f"{_PREFIX}stage_seconds"
        family = Metric(name, "Duration of each stage of a part.", "summary")
        for stage, quantiles in self._metrics.stages().items():
            labels = {"station": self._metrics.station, "stage": stage}
            for quantile, key in (("0.5", "p50_ms"), ("0.99", "p99_ms")):
                family.add_sample(name, {**labels, "quantile": quantile}, quantiles[key] / 1e3)
            count, total_ms = self._metrics.sums[stage]
            family.add_sample(f"{name}_sum", labels, total_ms / 1e3)
            family.add_sample(f"{name}_count", labels, count)
        return family

    def _gauges(self) -> tuple[tuple[str, str, float], ...]:
        state = self._state
        judging = state.health in (Health.RUNNING, Health.HELD) and not state.faulting
        link = self._link
        centre = (
            ()
            if link is None
            else (
                ("centre_lag_rows", "Rows that the centre does not have.", float(link.lag_rows)),
                ("centre_lag_seconds", "Age of the oldest row that the centre does not have.", link.lag_s),
                ("centre_up", "Whether the ledger is forwarded.", float(not link.trouble)),
            )
        )
        tracking = state.tracking
        gate = (
            ()
            if tracking is None
            else (
                ("in_flight", "Parts between camera and gate.", float(len(tracking.parts))),
                ("rejects_unconfirmed", "Rejects that wait for their confirmation.", float(tracking.unconfirmed)),
                ("line_stopped", "Whether the line is stopped until a person acknowledges.", bool(tracking.stopped)),
            )
        )
        return (
            ("up", "Whether parts are judged.", judging),
            ("adapters_down", "Adapters that are not connected.", sum(not each.connected for each in state.adapters)),
            ("held", "Whether no part may pass until a person acknowledges.", state.health is Health.HELD),
            (
                "device_fallbacks",
                "Bundles that judge on another device than the one asked for.",
                sum(bundle.fell_back for bundle in state.report.bundles),
            ),
            ("waiting", "Parts that wait for the worker.", state.waiting),
            ("unrecorded", "Faults that are not yet recorded.", state.unrecorded),
            ("beat_timestamp_seconds", "When these metrics were written.", time.time()),
            ("free_bytes", "Free space on the disk of the state folder.", self._free_bytes),
            *centre,
            *gate,
        )
