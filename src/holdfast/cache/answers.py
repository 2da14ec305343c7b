"""Answering: what a node keeps for a key or for many, by what it knows of the journal now, or what it loads."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from holdfast.cache import tags as tagging
from holdfast.cache.asked import Asked, Kept
from holdfast.cache.batches import Batches
from holdfast.cache.clock import boottime
from holdfast.cache.entry import SURE, Entry
from holdfast.cache.finding import Finder
from holdfast.cache.found import Found
from holdfast.cache.freshness import Freshness
from holdfast.cache.keys import checked_key, checked_keys
from holdfast.cache.loader import Load, Loader, Loading, ManyLoader, values_of
from holdfast.cache.loads import Loads
from holdfast.cache.options import Options
from holdfast.cache.own_writes import leaves_alone, sees_own
from holdfast.cache.peeking import SEEK, Peek, Unfit
from holdfast.cache.renewal import Renewal
from holdfast.cache.statistics import Statistics
from holdfast.cache.wire import Codec, codec_of
from holdfast.errors import HoldfastError
from holdfast.store.current import current

RENEWAL = 0.25  # the share of `max_staleness` for which a read waits for the journal before it loads


class Answers:
    """What one node answers.

    Args:
        peek: looks into its memory.

    Attributes:
        freshness: what it knows of the journal.
    """

    def __init__(self, peek: Peek, finder: Finder, loads: Loads, renewal: Renewal, statistics: Statistics) -> None:
        self.freshness: Freshness = finder.freshness
        self._peek = peek
        self._finder = finder
        self._loads = loads
        self._batches = Batches(loads)
        self._renewal = renewal
        self._statistics = statistics

    def ask(
        self,
        key: str,
        loader: Loader | None,
        options: Options,
        tags: Iterable[str],
        kind: Any,
        seen: Unfit | None = None,
    ) -> Asked:
        """What somebody wants; see there. Without a loader it is not to be loaded."""
        tally = self._statistics.tally(checked_key(key), options)
        return Asked(key, loader or _never, options, tagging.checked(tags), codec_of(kind), boottime(), tally, seen)

    async def answer(self, asked: Asked) -> Found[Any]:
        """What is kept for what somebody asks, or loaded."""
        kept = await self.kept(asked)
        if kept is None:  # what is loaded now is for this unit alone
            asked.tally.bypassed()
            load = Load(asked.key, asked.options, asked.tags)
            return Found(await asked.loader(load), loaded=True)
        if kept.fresh is not None:
            if _is_due(kept.fresh, asked.began):
                self._loads.refresh(asked, kept.fresh)
            return Found(kept.fresh.value)
        entry, is_stale = await self._loads.load(asked, kept.older)
        # What began nowhere that is known of was found after all: in Redis, or in the table of results.
        return Found(entry.value, stale=is_stale, loaded=not is_stale and math.isfinite(entry.began))

    async def get(self, key: str, default: Any, options: Options, kind: Any, seen: Unfit) -> Any:
        """What is kept for a key that this node's memory was asked for, or `default`."""
        kept = await self.kept(self.ask(key, None, options, (), kind, seen))
        return default if kept is None or kept.fresh is None else kept.fresh.value

    async def kept(self, asked: Asked) -> Kept | None:
        """What is kept for a key, by what is known of the journal now; None where the cache is to be left alone."""
        if current.get() is None and self.freshness.is_known(asked.began, asked.options.max_staleness):
            return await self._finder.find(asked)  # which is how it mostly is
        ready = await self.ready(asked.options)
        if ready == "bypass":
            return None
        if ready == "use":
            return await self._finder.find(asked)
        asked.tally.missed()
        return Kept(None, self._finder.older(asked))

    def peek_many(self, keys: Iterable[str], options: Options) -> tuple[dict[str, Any], dict[str, Unfit | None]]:
        """What this node holds for `keys`, and for the others what it found instead.

        Raises:
            InvalidValue: one of the others is no key.
        """
        if options.skip_l1:
            return {}, dict.fromkeys(checked_keys(keys))
        peek = self._peek
        found: dict[str, Any] = {}
        missing: dict[str, Unfit | None] = {}
        for key in keys:
            value = peek(key, SEEK, options.max_staleness)
            if value.__class__ is Unfit:
                missing[key] = value
            else:
                found[key] = value
        checked_keys(missing)
        return found, missing

    async def kept_many(self, missing: Mapping[str, Unfit | None], options: Options, codec: Codec) -> dict[str, Any]:
        """What is kept among keys that this node does not hold."""
        if await self.ready(options) != "use":
            return {}
        found, _ = await self._finder.find_many(missing, options, codec, self._statistics.tallies(options))
        return {key: entry.value for key, entry in found.items()}

    async def answer_many(
        self,
        missing: Mapping[str, Unfit | None],
        ask: Callable[[str, Unfit | None], Asked],
        loader: ManyLoader,
        options: Options,
        codec: Codec,
    ) -> dict[str, Any]:
        """What is kept for keys that this node does not hold, or loaded by one call of the loader.

        Args:
            ask: what is wanted of a key that is to be loaded.
        """
        ready = await self.ready(options)
        if ready == "bypass":  # what is loaded now is for this unit alone
            wanted = {key: ask(key, seen) for key, seen in missing.items()}
            for one in wanted.values():
                one.tally.bypassed()
            return await values_of(loader, {key: Loading(key, options, one.tags) for key, one in wanted.items()})
        found: dict[str, Any] = {}
        left: Mapping[str, Entry | None] = {}
        tally = self._statistics.tallies(options)
        if ready == "use":
            entries, left = await self._finder.find_many(missing, options, codec, tally)
            found = {key: entry.value for key, entry in entries.items()}
        else:
            for key in missing:
                tally(key).missed()
            left = {key: self._finder.older(ask(key, seen)) for key, seen in missing.items()}
        if left:
            unkept = {ask(key, missing[key]): older for key, older in left.items()}
            loaded = await self._batches.load(unkept, loader)
            found |= {key: entry.value for key, (entry, _) in loaded.items()}
        return found

    async def refresh(self, asked: Asked, until: float) -> bool:
        """Load anew what is asked for, unless what is kept lasts until then; whether it was loaded."""
        if await self.ready(asked.options) == "bypass":
            return False
        entry = self._finder.in_memory(asked)
        if (
            entry is not None
            and entry.expires >= until
            and self._finder.may_serve(entry, asked.began, asked.options.max_staleness)
        ):
            return False
        return await self._loads.renew(asked, entry, until)

    async def put(self, given: Sequence[tuple[Asked, Any]]) -> None:
        """Keep values that are given, as of now, with the options of the first; not where the cache is left alone."""
        if leaves_alone(self.freshness.covers):
            for asked, _ in given:
                asked.tally.bypassed()
            return
        options = given[0][0].options
        self._renewal.start(at_least=options.max_staleness)
        if not self.freshness.epoch or not self.sees_own():
            await self._try_to_renew(options)
        await self._loads.put(given)

    async def ready(self, options: Options) -> Literal["use", "load", "bypass"]:
        """What may be done with the cache now, by what is known of the journal and what this task writes."""
        if leaves_alone(self.freshness.covers):
            return "bypass"
        self._renewal.start(at_least=options.max_staleness)
        if not self.freshness.is_known(boottime(), options.max_staleness) or not self.sees_own():
            await self._try_to_renew(options)
        return "use" if self.sees_own() else "load"

    def sees_own(self) -> bool:
        """Whether what this task has committed is known here."""
        return sees_own(self.freshness.covers)

    async def _try_to_renew(self, options: Options) -> None:
        try:
            async with asyncio.timeout(options.max_staleness * RENEWAL):
                await self._renewal.now()
        except (HoldfastError, TimeoutError):
            return  # then it is loaded, from a database that may be there again by then


def _is_due(entry: Entry, now: float) -> bool:
    """XFetch (https://cseweb.ucsd.edu/~avattani/papers/cache_stampede.pdf): whether to load before the end."""
    if now < entry.refresh_from:
        return False
    window = (entry.expires - entry.refresh_from) / SURE
    return now - window * math.log(1.0 - random.random()) >= entry.expires


async def _never(load: Load) -> None:
    raise AssertionError("nothing is loaded")
