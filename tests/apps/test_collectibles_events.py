"""Each event of the collectibles ends what is made of what it changed, on every node, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import MetaData

from holdfast import Change, Event, Holdfast, Load
from holdfast.apps.collectibles.events import (
    EVENTS,
    CollectionRefreshed,
    CollectionUpdated,
    NftTransferred,
    OwnershipChanged,
    UserUpdated,
)
from holdfast.cache import CacheCleared
from holdfast.journal.events import declared
from tests.backends import settings_for

APES, CATS, ANN, BOB, EVE = "0xa9e5", "0xca75", "0xa", "0xb", "0xe"

VALUES = {  # what is kept, with the tags that values of its kind carry
    "collection apes": (f"contract:{APES}", f"collection:{APES}"),
    "nfts apes 1": (f"contract:{APES}", f"collection:{APES}"),
    "holders apes": (f"contract:{APES}", f"owners:{APES}"),
    "owner apes 1": (f"contract:{APES}", f"nft:{APES}:1"),
    "owner apes 2": (f"contract:{APES}", f"nft:{APES}:2"),
    "collection cats": (f"contract:{CATS}", f"collection:{CATS}"),
    "holders cats": (f"contract:{CATS}", f"owners:{CATS}"),
    "owner cats 1": (f"contract:{CATS}", f"nft:{CATS}:1"),
    "wallet ann": (f"wallet:{ANN}",),
    "wallet bob": (f"wallet:{BOB}",),
    "wallet eve": (f"wallet:{EVE}",),
    "profile 1": ("user:1",),
    "collections of 1": ("user:1", f"wallet:{ANN}", f"wallet:{EVE}"),
    "collections of 11": ("user:11", f"wallet:{BOB}"),
}
ENDS: list[tuple[Event, set[str]]] = [
    (CollectionUpdated(contract=APES), {"collection apes", "nfts apes 1"}),
    (
        NftTransferred(contract=APES, token_id=1, sender=ANN, recipient=BOB),
        {"owner apes 1", "holders apes", "wallet ann", "wallet bob", "collections of 1", "collections of 11"},
    ),
    (
        NftTransferred(contract=CATS, token_id=1, recipient=BOB),
        {"owner cats 1", "holders cats", "wallet bob", "collections of 11"},
    ),
    (
        NftTransferred(contract=CATS, token_id=2**256 - 1, sender=EVE),
        {"holders cats", "wallet eve", "collections of 1"},
    ),
    (UserUpdated(fid=1), {"profile 1", "collections of 1"}),
    (
        CollectionRefreshed(contract=APES),
        {"collection apes", "nfts apes 1", "holders apes", "owner apes 1", "owner apes 2"},
    ),
    (OwnershipChanged(contract=APES, wallet=EVE), {"holders apes", "wallet eve", "collections of 1"}),
    (
        OwnershipChanged(contract=APES, wallet=BOB, token_id=2),
        {"owner apes 2", "holders apes", "wallet bob", "collections of 11"},
    ),
]


@pytest.fixture
async def nodes(postgres_url: str, redis_url: str) -> AsyncIterator[tuple[Holdfast, Holdfast]]:
    """Two nodes over one PostgreSQL and one Redis."""
    settings = settings_for(postgres_url, redis_url=redis_url, redis_timeout=5.0)
    async with (
        await Holdfast.open(settings=settings, metadata=MetaData()) as here,
        await Holdfast.open(settings=settings, metadata=MetaData(), migrate=False) as there,
    ):
        yield here, there


async def kept(node: Holdfast) -> set[str]:
    """What a node would serve: of its own memory or from Redis."""
    return {key for key in VALUES if await node.cache.get(key) is not None}


async def fill(*nodes: Holdfast) -> None:
    async def load(load: Load) -> str:
        load.tags(*VALUES[load.key])
        return load.key

    for node in nodes:
        for key in VALUES:
            await node.cache.get_or_load(key, load, ttl="1h")


async def test_each_event_ends_what_it_must_and_nothing_else(nodes: tuple[Holdfast, Holdfast]) -> None:
    here, there = nodes
    for event, ended in ENDS:
        await fill(here, there)
        assert await kept(here) == await kept(there) == set(VALUES)
        async with here.unit() as unit:
            await unit.emit(event)
        await there.cache.renew()
        assert set(VALUES) - await kept(here) == ended, event
        assert set(VALUES) - await kept(there) == ended, event


async def test_clearing_ends_everything_and_is_an_event_that_can_be_handled(nodes: tuple[Holdfast, Holdfast]) -> None:
    here, there = nodes
    seen: list[tuple[str, object]] = []

    @there.on(CacheCleared)
    async def note(event: CacheCleared, change: Change, hold: Holdfast) -> None:
        assert hold is there
        seen.append((change.table, change.new and change.new["tags"]))

    await there.follow()
    await fill(here, there)
    await here.cache.delete("profile 1")
    await here.cache.clear()
    await there.cache.renew()
    assert await kept(here) == await kept(there) == set()
    await there.journal.wait_until(await there.journal.make_tick(), "on:note")
    assert seen == [("cache_cleared", ["=profile 1"]), ("cache_cleared", ["*"])]
    [status] = await there.handlers.status()
    assert (status.handled, status.parked, status.lag_changes) == (2, 0, 0)


def test_there_are_six_and_their_topics_are_declared() -> None:
    topics = [event.topic for event in EVENTS]
    assert topics == [
        "collection_updated",
        "nft_transferred",
        "user_updated",
        "collection_refreshed",
        "ownership_changed",
        "cache_cleared",
    ]
    assert [declared.get(topic) for topic in topics] == list(EVENTS)
