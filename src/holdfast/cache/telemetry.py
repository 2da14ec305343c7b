"""The counts of the caches for OpenTelemetry: an application that has its SDK gets them with everything else.

They are made when a reader asks. Without the SDK nobody does, and this costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from holdfast.cache.counts import ENDED, LOADS, READS, Counts, added
from holdfast.cache.running import running

Callback = Callable[[CallbackOptions], Iterable[Observation]]


@cache
def offer_counts() -> None:
    """Offer the counts of all caches of this process together, made once."""
    meter = get_meter("holdfast")
    counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
    counter("holdfast.cache.reads", [_by("level", READS)], "{read}", "Reads of the cache, by where from.")
    counter("holdfast.cache.loads", [_by("outcome", LOADS)], "{load}", "Loads of values.")
    counter("holdfast.cache.ended", [_by("reason", ENDED)], "{value}", "Values that were kept no more.")
    counter("holdfast.cache.stale", [_one("stale")], "{read}", "Reads served with an older value.")
    counter("holdfast.cache.load.time", [_one("load_seconds")], "s", "Time that loads took.")
    gauge("holdfast.cache.entries", [_entries], "{value}", "Values in memory.")


def _counts() -> dict[str, Counts]:
    """By key template, of all caches that are open."""
    found: dict[str, Counts] = {}
    for one in running.all():
        for template, counts in one.statistics.templates.total().items():
            added(found, template, counts)
    return found


def _by(name: str, fields: dict[str, str]) -> Callback:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        for template, counts in _counts().items():
            for value, field in fields.items():
                yield Observation(getattr(counts, field), {"key": template, name: value})

    return observe


def _one(field: str) -> Callback:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        for template, counts in _counts().items():
            yield Observation(getattr(counts, field), {"key": template})

    return observe


def _entries(options: CallbackOptions) -> Iterable[Observation]:
    yield Observation(sum(one.size().entries for one in running.all()))
