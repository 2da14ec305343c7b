"""What somebody wants of a key, and what is kept for it."""

from __future__ import annotations

import msgspec

from holdfast.cache.entry import Entry
from holdfast.cache.loader import Loader
from holdfast.cache.options import Options
from holdfast.cache.peeking import Unfit
from holdfast.cache.statistics import Tally
from holdfast.cache.wire import Codec


class Asked(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What somebody wants of one key.

    Attributes:
        began: when he asked: what was committed before that, he must see, but for `max_staleness`.
        tally: counts what happens to it.
        seen: what is in memory, if that was looked at already.
    """

    key: str
    loader: Loader
    options: Options
    tags: tuple[str, ...]
    codec: Codec
    began: float
    tally: Tally
    seen: Unfit | None = None


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What is kept for a key: a fresh entry, or else an older one that may do until it is loaded anew."""

    fresh: Entry | None
    older: Entry | None = None
