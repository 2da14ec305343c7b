"""Counters in the form that Prometheus reads; a registry for each app, so that a process may have several."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from holdfast.store import Store, Unit

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What is counted for one app."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = self._counter("http_requests", "Requests answered.", ("method", "route", "status"))
        self.seconds = Histogram(
            "holdfast_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.units = self._counter("units_committed", "Units of work committed by this process.")
        self.connections = self._gauge(
            "database_connections", "Connections of a pool by what they do.", ("pool", "state")
        )
        self.database_up = self._gauge("database_up", "Whether the database answered just now.")
        self.database_seconds = self._gauge("database_ping_seconds", "How long it took to answer.")
        self.position = self._gauge("journal_tick", "The tick the journal is at.")
        self.lag = self._gauge("journal_lag_changes", "Changes that a follower has not taken yet.", ("follower",))
        self.lag_seconds = self._gauge("journal_lag_seconds", "Age of the oldest of them.", ("follower",))
        self.dead_letters = self._gauge("journal_dead_letters", "Changes a follower could not take.", ("follower",))
        self.dirty = self._gauge("rollup_dirty_buckets", "Buckets that wait to be computed.", ("rollup",))
        self.streams = self._gauge("stream_clients", "Open event streams.")
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        store.hooks.after_commit.append(self._committed)

    def close(self) -> None:
        """Count no more units of the store."""
        if self._committed in self.store.hooks.after_commit:
            self.store.hooks.after_commit.remove(self._committed)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = self._children.get((method, route, status))
        if known is None:  # a look-up by labels costs more than the counting
            counted = self.requests.labels(method if method in _METHODS else "other", route, str(status))
            known = (counted, self.seconds.labels(route))
            if method in _METHODS:
                self._children[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def render(self) -> bytes:
        """Everything, as text."""
        for role, engine in self.store.engines().items():
            pool = engine.pool
            self.connections.labels(role, "idle").set(pool.checkedin())  # type: ignore[attr-defined]
            self.connections.labels(role, "busy").set(pool.checkedout())  # type: ignore[attr-defined]
        return generate_latest(self.registry)

    async def _committed(self, unit: Unit) -> None:
        self.units.inc()

    def _counter(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"holdfast_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"holdfast_{name}", words, labels, registry=self.registry)
