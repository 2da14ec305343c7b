"""What is kept for a key: the value, and what decides whether it may be served."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from holdfast.cache import tags as tagging
from holdfast.cache.clock import boottime
from holdfast.cache.counts import Counts
from holdfast.cache.marks import Marks
from holdfast.cache.options import Options

SURE = 20.0  # -ln of a chance of two in a billion: before that many loads' time is left, no read refreshes ahead


class Entry(msgspec.Struct, kw_only=True, gc=False):
    """A cached value. Never changed once it is kept, but for `retry_from` and `held_at`.

    Attributes:
        value: what was loaded.
        epoch, as_of: the life of the database, and the last tick before the load began: all up to it was seen.
        buckets: of its key and tags, in this node's marks.
        hashes: the same tags for other nodes.
        began: when loading it began, on this node's clock.
        sees: the number of this process' last commit before that; -1 where another process loaded it.
        max_staleness: seconds.
        refresh_from: when refreshing ahead may begin, on this node's clock.
        expires: when it ends.
        kept: until when it may be served after its end, marked as stale.
        cost: seconds that loading it took.
        weight: in memory.
        note: what the loader wants to see again with the next load, such as an ETag.
        retry_from: when a load may be tried again after one that failed.
        held_at: of `Freshness.notes`, the one at which it was last found to be fresh.
        counts: where reads that it serves are counted.
    """

    value: Any
    epoch: int
    as_of: int
    buckets: tuple[int, ...]
    hashes: tuple[int, ...]
    began: float
    max_staleness: float
    refresh_from: float
    expires: float
    kept: float
    cost: float
    weight: int
    note: Any = None
    retry_from: float = 0.0
    sees: int = -1
    held_at: int = -1
    counts: Counts = msgspec.field(default_factory=Counts)


def made_entry(
    marks: Marks,
    key: str,
    value: Any,
    options: Options,
    tags: tuple[str, ...],
    seen: tuple[int, int, int],
    began: float,
    note: Any = None,
) -> Entry:
    """The entry of a value that was loaded from `began` on, when everything up to `seen` was committed.

    Args:
        seen: the epoch, the tick, and the number of this process' last commit.
    """
    now = boottime()
    ttl = options.negative_ttl if value is None else options.ttl
    ttl *= 1.0 - options.jitter * random.random()
    ahead = options.refresh_ahead * (now - began)
    hashes = tuple(tagging.hashed(tag) for tag in (tagging.of_key(key), *tags))
    return Entry(
        value=value,
        epoch=seen[0],
        as_of=seen[1],
        sees=seen[2],
        buckets=marks.buckets(hashes),
        hashes=hashes,
        began=began,
        max_staleness=options.max_staleness,
        refresh_from=now + max(0.0, ttl - SURE * ahead),
        expires=now + ttl,
        kept=now + ttl + options.fail_safe,
        cost=now - began,
        weight=options.weight,
        note=note,
    )
