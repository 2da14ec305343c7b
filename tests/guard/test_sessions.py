"""Sessions on real servers: verified everywhere, over everywhere within the bound."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any
from uuid import uuid4

import pytest

from holdfast import ALL, Holdfast
from holdfast.apps.accounts import Session, User
from holdfast.cache.clock import boottime
from holdfast.errors import ConfigurationError, Conflict, InvalidValue
from holdfast.guard.keys import KeyRefused
from holdfast.guard.keys.text import new_key
from holdfast.guard.sessions import NewSession, SessionRefused


async def user(hold: Holdfast) -> User:
    async with hold.unit(tenant=ALL) as unit:
        return await unit[User].add(User(external_id=f"user_{uuid4().hex}"))


async def begun(hold: Holdfast, who: User, **values: Any) -> NewSession[Session]:
    async with hold.unit(tenant=ALL) as unit:
        return await hold.sessions.begin(unit, who.id, **values)


async def is_over(hold: Holdfast, token: str) -> bool:
    try:
        await hold.sessions.verify(token)
    except SessionRefused as refused:
        return token[-20:] not in str(refused) or not token
    return False


async def test_who_is_signed_in_is_known_on_every_node(hold: Holdfast, other: Holdfast) -> None:
    who = await user(hold)
    session = await begun(hold, who, details={"agent": "Firefox", "roles": ["admin"]})
    assert session.token not in repr(session)
    for node in (hold, hold, other):
        facts = await node.sessions.verify(session.token)
        assert (facts.id, facts.user_id, facts.details["roles"]) == (session.row.id, who.id, ["admin"])
    loads = hold.cache.statistics.templates.total()["session:{lookup}"].loads
    for _ in range(20):
        await hold.sessions.verify(session.token)
    assert hold.cache.statistics.templates.total()["session:{lookup}"].loads == loads


async def test_a_session_that_was_ended_is_over_everywhere_within_the_bound(hold: Holdfast, other: Holdfast) -> None:
    who = await user(hold)
    here, there, third = [await begun(hold, who) for _ in range(3)]
    for session in (here, there, third):
        assert not await is_over(other, session.token)
    async with hold.unit(tenant=ALL) as unit:
        await hold.sessions.end(unit, here.row.id)
    ended = boottime()
    assert await is_over(hold, here.token)
    while not await is_over(other, here.token):
        assert boottime() - ended <= 1.0
        await asyncio.sleep(0.005)
    async with hold.unit(tenant=ALL) as unit:
        assert await hold.sessions.end_all(unit, who.id, but=third.row.id) == 1
        await hold.sessions.end(unit, here.row.id)
        await hold.sessions.end(unit, uuid4())
    assert await is_over(hold, there.token)
    assert not await is_over(hold, third.token)
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM users")
    assert await is_over(hold, third.token)


async def test_a_session_ends_by_itself_and_is_cleared_away(hold: Holdfast) -> None:
    who = await user(hold)
    session = await begun(hold, who, lasting="1s")
    assert not await is_over(hold, session.token)
    await asyncio.sleep(1.1)
    assert await is_over(hold, session.token)
    kept = await begun(hold, who)
    async with hold.unit(tenant=ALL) as unit:
        assert await hold.sessions.delete_over(unit) == 0
        assert await hold.sessions.delete_over(unit, after=0) == 1
        [row] = await unit[Session].list()
        assert row.id == kept.row.id
        assert row.expires_at > dt.datetime.now(dt.UTC) + dt.timedelta(days=29)


async def test_what_is_no_session_is_refused(hold: Holdfast) -> None:
    who = await user(hold)
    session = await begun(hold, who)
    for text in ("", "x", session.token[:-1], new_key("hold", "live"), new_key("hold", "session")):
        assert await is_over(hold, text)
    with pytest.raises(KeyRefused) as refused:  # nor is a session an API key
        await hold.keys.verify(session.token)
    assert refused.value.reason == "malformed"
    for wrong in ({"details": {"a": object()}}, {"details": {"a": "x" * 20_000}}):
        with pytest.raises(InvalidValue, match="details"):
            await begun(hold, who, **wrong)
    with pytest.raises(ConfigurationError, match="lasting"):
        await begun(hold, who, lasting="soon")
    with pytest.raises(Conflict):
        async with hold.unit(tenant=ALL) as unit:
            await hold.sessions.begin(unit, uuid4())
