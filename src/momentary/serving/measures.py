"""What the service tells Prometheus of itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from momentary.recommend.index import Index
from momentary.serving.tracing import Stages

CONTENT_TYPE = CONTENT_TYPE_LATEST

_LATENCY_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The counters of one server; each has its own, so that two in a process do not mix."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = _Requests()
        registry.register(self._requests)
        self.stage: Stages = Histogram(
            "momentary_stage_seconds",
            "Time of one tick by stage: recall of visits, ranking, commit to the disk.",
            ("stage",),
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.batch = Histogram(
            "momentary_batch_requests",
            "Requests that one tick settled together.",
            buckets=_BATCH,
            registry=registry,
        )
        self.events = Counter(
            "momentary_events",
            "Events by outcome: accepted or duplicate.",
            ("outcome",),
            registry=registry,
        )
        self.answers = Counter(
            "momentary_answers", "Lists by the arm that made them.", ("variant",), registry=registry
        )
        self.shown = Counter("momentary_shown_items", "Items on lists.", registry=registry)
        self.cold = Counter(
            "momentary_cold_items",
            "Items on lists of which the training saw no event.",
            registry=registry,
        )
        self.searched = Counter(
            "momentary_searched",
            "Lists whose items a search found: along the graph, or an exact one. Lists that needed "
            "a score of every item are not counted.",
            ("index",),
            registry=registry,
        )
        self.waiting = Gauge(
            "momentary_waiting_requests", "Requests that wait for a tick.", registry=registry
        )
        self.visits = Gauge("momentary_live_visits", "Visits in memory.", registry=registry)
        self.covered = Gauge(
            "momentary_covered_items_share",
            "Share of the catalogue that was on some list since this model came to work.",
            registry=registry,
        )
        self.model = Gauge(
            "momentary_model", "1 for the model at work.", ("version",), registry=registry
        )

    def answered(self, route: str, status: int, *, seconds: float) -> None:
        """Count one request."""
        self._requests.count(route, status, seconds=seconds)

    def count_searches(self, index: Index | None) -> None:
        """Count the lists that an index made since this was called for it last."""
        walked, scanned = (0, 0) if index is None else index.taken()
        self.searched.labels("graph").inc(walked)
        self.searched.labels("exact").inc(scanned)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Requests(Collector):
    """Requests by route and status, and how long they took.

    Counted by the event loop alone, so without the locks of Prometheus' own counters, which cost
    more than a request's other bookkeeping.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._routes: dict[str, tuple[list[int], list[float]]] = {}

    def count(self, route: str, status: int, *, seconds: float) -> None:
        key = (route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = [0] * (len(_LATENCY_S) + 1), [0.0]
        buckets, total_s = found
        buckets[bisect_left(_LATENCY_S, seconds)] += 1
        total_s[0] += seconds

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "momentary_requests", "Requests by route and status.", labels=("route", "status")
        )
        for (route, status), count in self._counts.items():
            requests.add_metric((route, str(status)), count)
        latency = HistogramMetricFamily(
            "momentary_request_seconds",
            "From the first byte of a request to the last of its answer.",
            labels=("route",),
        )
        bounds = (*map(str, _LATENCY_S), "+Inf")
        for route, (buckets, (total_s,)) in self._routes.items():
            counts = zip(bounds, accumulate(buckets), strict=True)
            latency.add_metric((route,), buckets=list(counts), sum_value=total_s)
        return iter((requests, latency))


def labelled(texts: Mapping[int, bytes]) -> bytes:
    """The counters of several workers as one text, each with the label `worker`.

    Args:
        texts: By worker, in Prometheus' text format.
    """
    families: dict[str, Metric] = {}
    for worker, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text.decode()):
            kept = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {**sample.labels, "worker": str(worker)}
                kept.samples.append(sample._replace(labels=labels))

    class Found(Collector):
        def collect(self) -> Iterable[Metric]:
            return families.values()

    registry = CollectorRegistry()
    registry.register(Found())
    return generate_latest(registry)
