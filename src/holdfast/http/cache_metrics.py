"""The counts of the cache in the form that Prometheus reads, made of them when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.cache import Cache
from holdfast.cache.counts import ENDED, LOADS, READS, Counts


class CacheCollector(Collector):
    """The counts of one cache, by key template and by endpoint; there are at most a thousand of each."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        statistics = self._cache.statistics
        templates, endpoints = statistics.templates.total(), statistics.endpoints.total()
        yield _split(
            "cache_reads", "Reads of the cache, by where they were served from.", "key", "level", templates, READS
        )
        yield _split("cache_loads", "Loads of values.", "key", "outcome", templates, LOADS)
        yield _split("cache_ended", "Values that were kept no more.", "key", "reason", templates, ENDED)
        yield _one("cache_stale", "Reads served with an older value.", templates, "stale")
        yield _one("cache_load_seconds", "Time that loads took.", templates, "load_seconds")
        yield _split("cache_endpoint_reads", "Reads of the cache by endpoint.", "endpoint", "level", endpoints, READS)
        changes = statistics.tags.total()
        family = CounterMetricFamily("holdfast_cache_changes", "Changes of tags, by kind.", labels=("tag",))
        for tag, counts in changes.items():
            family.add_metric((tag,), counts.changes)
        yield family
        size = self._cache.size()
        yield GaugeMetricFamily("holdfast_cache_entries", "Values in memory.", value=size.entries)
        yield GaugeMetricFamily("holdfast_cache_weight", "Sum of their weights.", value=size.weight)
        yield GaugeMetricFamily("holdfast_cache_capacity", "What that may be.", value=size.capacity)
        redis = self._cache.redis_state()
        if redis != "none":
            yield GaugeMetricFamily("holdfast_redis_up", "Whether Redis is used.", value=float(redis == "ok"))


def _split(
    name: str, words: str, label: str, split: str, counted: dict[str, Counts], fields: dict[str, str]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"holdfast_{name}", words, labels=(label, split))
    for one, counts in counted.items():
        for value, field in fields.items():
            family.add_metric((one, value), getattr(counts, field))
    return family


def _one(name: str, words: str, counted: dict[str, Counts], field: str) -> CounterMetricFamily:
    family = CounterMetricFamily(f"holdfast_{name}", words, labels=("key",))
    for one, counts in counted.items():
        family.add_metric((one,), getattr(counts, field))
    return family
