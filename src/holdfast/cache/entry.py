"""What is kept for a key: the value, and what decides whether it may be served."""

from __future__ import annotations

from typing import Any

import msgspec


class Entry(msgspec.Struct, kw_only=True, gc=False):
    """A cached value. Never changed once it is made, but for `retry_from`.

    Attributes:
        value: what was loaded.
        epoch, as_of: the life of the database, and the last tick before the load began: all up to it was seen.
        buckets: of its key and tags, in this node's marks.
        hashes: the same tags for other nodes.
        began: when loading it began, on this node's clock.
        max_staleness: seconds.
        refresh_from: when refreshing ahead may begin, on this node's clock.
        expires: when it ends.
        kept: until when it may be served after its end, marked as stale.
        cost: seconds that loading it took.
        weight: in memory.
        note: what the loader wants to see again with the next load, such as an ETag.
        retry_from: when a load may be tried again after one that failed.
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
