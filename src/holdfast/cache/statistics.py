"""How the cache of a node is used: by key template, tier, tag, endpoint and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from holdfast.cache.clock import boottime
from holdfast.cache.counts import NAMES, OTHERS, Counts, Series
from holdfast.cache.options import Options, tier_of

OWN = "(performance test)"
"""The template of what the tests of the cache's performance read: it is no part of the sums."""

_TAGS = 64  # kinds of tags that a template is known to carry
_MEASURED = 16  # one of so many loaded values

endpoint: ContextVar[Counts | None] = ContextVar("holdfast_cache_endpoint", default=None)
"""Where reads of this context are counted beside their template; see `Statistics.counting`."""


class Kind(msgspec.Struct, eq=False):
    """The values of one key template.

    Attributes:
        template: such as `user:{user_id}`, or `user:*` where none was declared.
        options: how they were kept the last time.
        tags: the kinds of tags that they were seen to carry, such as `user:*`.
        counts: what happened to them.
    """

    template: str
    options: Options
    counts: Counts
    tags: set[str] = msgspec.field(default_factory=set)

    @property
    def tier(self) -> str:
        """`hot`, `warm` or `cold`, by how long they are kept."""
        return tier_of(self.options)

    def carry(self, tags: Iterable[str]) -> None:
        """Note the tags of one of them."""
        for tag in tags:
            if (kind := template_of(tag)) not in self.tags and len(self.tags) < _TAGS:
                self.tags.add(kind)


class Tally(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Counts what happens to one read, for its template and its endpoint."""

    kind: Kind
    place: Counts | None

    def hit(self) -> None:
        """It was served from memory."""
        for counts in self._both():
            counts.hits += 1

    def shared(self, seconds: float, reads: int = 1) -> None:
        """It was served from Redis, or so many were by one question."""
        for counts in self._both():
            counts.shared += reads
            counts.shared_seconds += seconds * reads

    def missed(self, *, changed: bool = False) -> None:
        """Nothing fresh was kept, perhaps because it had been changed."""
        for counts in self._both():
            counts.misses += 1
            counts.changed += changed

    def bypassed(self) -> None:
        """The cache was left alone."""
        for counts in self._both():
            counts.bypassed += 1

    def stale(self) -> None:
        """It was served with an older value."""
        for counts in self._both():
            counts.stale += 1

    def loaded(self, seconds: float, tags: Iterable[str], size: Callable[[], int | None]) -> None:
        """A value was loaded, with these tags; `size()` is asked now and then, and may not know."""
        for counts in self._both():
            counts.loads += 1
            counts.load_seconds += seconds
        self.kind.carry(tags)
        counts = self.kind.counts
        if counts.loads % _MEASURED == 1 and (bytes := size()) is not None:
            counts.bytes += bytes
            counts.measured += 1

    def failed(self, seconds: float) -> None:
        """Loading raised."""
        for counts in self._both():
            counts.failures += 1
            counts.load_seconds += seconds

    def _both(self) -> tuple[Counts, ...]:
        return (self.kind.counts,) if self.place is None else (self.kind.counts, self.place)


class Statistics:
    """What is counted on one node, since it was opened.

    Attributes:
        templates: counts by key template.
        endpoints: counts by endpoint.
        tags: changes by kind of tag.
        since: when counting began, seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.since = clock()
        self.templates = Series(clock)
        self.endpoints = Series(clock)
        self.tags = Series(clock)
        self._kinds: dict[str, Kind] = {}

    def kinds(self) -> list[Kind]:
        """Every template that was read or kept, in the order in which they came."""
        return list(self._kinds.values())

    def tally(self, key: str, options: Options) -> Tally:
        """Counts one read of `key`."""
        template = options.counted_as or template_of(key)
        kind = self._kinds.get(template) or self._new(template, options)
        if kind.options is not options:
            kind.options = options
        return Tally(kind, endpoint.get())

    def tallies(self, options: Options) -> Callable[[str], Tally]:
        """What gives `tally` of each of many keys, which mostly have one template."""
        if options.counted_as is not None:
            same = self.tally("", options)
            return lambda key: same
        known: dict[str, Tally] = {}

        def tally(key: str) -> Tally:
            start = key.rpartition(":")[0] or key
            found = known.get(start)
            if found is None:
                found = known[start] = self.tally(key, options)
            return found

        return tally

    def _new(self, template: str, options: Options) -> Kind:
        if len(self._kinds) >= NAMES:
            template = OTHERS
        return self._kinds.setdefault(template, Kind(template, options, self.templates.of(template)))

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count the reads of a block of code apart; see `Cache.counted_as`."""
        counts = Counts()
        token = endpoint.set(counts)
        try:
            yield counts
        finally:
            endpoint.reset(token)

    def changed(self, tags: Iterable[str]) -> None:
        """What carries these tags was changed. The tag of a single key is left out: there are as many as keys."""
        for tag in tags:
            if not tag.startswith("="):
                self.tags.of(template_of(tag)).changes += 1

    def turn(self) -> None:
        """End the minute and the hour, if they are over; called now and then."""
        for series in (self.templates, self.endpoints, self.tags):
            series.turn()


def timed(counts: Counts, began: float) -> None:
    """Take the time of a hit that began then, on the clock of `boottime`."""
    counts.timed += 1
    counts.hit_seconds += boottime() - began


def template_of(key: str) -> str:
    """The template of a key or a tag for which none was said: what stands before its last part."""
    start, colon, _ = key.rpartition(":")
    return f"{start}:*" if colon else key
