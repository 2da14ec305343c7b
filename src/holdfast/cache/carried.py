"""An entry as it is carried from node to node: bytes in Redis, or in the table of results.

Nobody trusts them: whether an entry may be served each node decides by its own marks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from holdfast.cache.counts import Counts
from holdfast.cache.entry import Entry
from holdfast.cache.marks import Marks
from holdfast.cache.wire import Codec, Head

_LONG_AGO = float("-inf")
_UNCOUNTED = Counts()  # until a node keeps it, and says where; making one for each would cost a tenth of reading it


def written(entry: Entry, codec: Codec, now: float) -> bytes:
    """The entry as bytes, on a node whose clock says `now`.

    Raises:
        InvalidValue: the value cannot be written.
    """
    return codec.encode(_heading(entry, now), entry.value)


def read(data: bytes, codec: Codec, marks: Marks, now: float, clock: float) -> Entry | None:
    """The entry that was written as `data`, for a node with these marks; None for bytes that are none.

    Args:
        now, clock: by the node's own clock, and by the wall's.
    """
    decoded = codec.decode(data)
    if decoded is None:
        return None
    head, value = decoded
    # A clock that was set lets it live longer by no more than its own time.
    age, lives = clock - head.at, head.ttl + head.fail_safe
    age = 0.0 if age < 0.0 else age if age < lives else lives
    expires = now + head.ttl - age
    return Entry(
        value=value,
        epoch=head.epoch,
        as_of=head.as_of,
        buckets=marks.buckets(head.hashes),
        hashes=head.hashes,
        began=_LONG_AGO,  # by another's clock, of which nothing is known here
        max_staleness=head.max_staleness,
        refresh_from=expires - head.ahead,
        expires=expires,
        kept=expires + head.fail_safe,
        cost=head.cost,
        weight=head.weight,
        note=head.note,
        counts=_UNCOUNTED,
    )


def _heading(entry: Entry, now: float) -> Callable[[int], Head]:
    return lambda form: Head(
        epoch=entry.epoch,
        as_of=entry.as_of,
        hashes=entry.hashes,
        at=time.time(),
        ttl=entry.expires - now,
        fail_safe=entry.kept - entry.expires,
        ahead=entry.expires - entry.refresh_from,
        max_staleness=entry.max_staleness,
        cost=entry.cost,
        weight=entry.weight,
        note=entry.note,
        form=form,
    )
