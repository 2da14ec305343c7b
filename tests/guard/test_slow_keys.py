"""Keys that are checked by bcrypt as well: in a thread, when they are read from the database."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import bcrypt
import pytest

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import ApiKey, User
from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.guard.keys import KeyRefused, NewKey, new_pepper
from holdfast.guard.keys.slow import Slow
from tests.backends import settings_for

OLD = new_pepper("p1")


@asynccontextmanager
async def opened(url: str, **given: Any) -> AsyncIterator[Holdfast]:
    settings = settings_for(url, **{"key_peppers": OLD, **given})
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        yield hold


async def made(hold: Holdfast) -> NewKey[Any]:
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="ada"))
        return await hold.keys.create(unit, name="ci", user_id=ada.id)


async def row(hold: Holdfast, key: NewKey[Any]) -> ApiKey:
    async with hold.read(tenant=ALL) as unit:
        return await unit[ApiKey].get(key.row.id)


async def test_a_key_is_checked_by_both(sqlite_url: str) -> None:
    async with opened(sqlite_url, key_bcrypt=10) as hold:
        key = await made(hold)
        kept = await row(hold, key)
        assert kept.slow is not None
        assert kept.slow.startswith("$2b$10$")
        assert not bcrypt.checkpw(kept.lookup.encode(), kept.slow.encode())  # what the row tells does not open it
        assert (await hold.keys.verify(key.text)).id == key.row.id
        for forged in (bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode(), "no hash"):
            async with hold.unit(tenant=ALL) as unit:
                await unit[ApiKey].update(key.row.id, slow=forged)
            await hold.cache.renew()
            with pytest.raises(KeyRefused, match="not known"):
                await hold.keys.verify(key.text)
    async with opened(sqlite_url) as hold:  # without the option nobody looks at it
        assert (await hold.keys.verify(key.text)).id == key.row.id


async def test_older_keys_get_theirs_and_a_new_pepper_another(sqlite_url: str) -> None:
    async with opened(sqlite_url) as hold:
        key = await made(hold)
        assert (await row(hold, key)).slow is None
    async with opened(sqlite_url, key_bcrypt=10) as hold:
        await hold.keys.verify(key.text)
        first = (await row(hold, key)).slow
        assert first is not None
    async with opened(sqlite_url, key_bcrypt=10, key_peppers=f"{new_pepper('p2')},{OLD}") as hold:
        await hold.keys.verify(key.text)
        now = await row(hold, key)
        assert now.pepper == "p2"
        assert now.slow not in (None, first)
        await hold.cache.clear()
        assert (await hold.keys.verify(key.text)).id == key.row.id


@pytest.mark.parametrize("rounds", [-1, 4, 9, 17, 31])
async def test_rounds_that_protect_nothing_or_take_for_ever_are_refused(sqlite_url: str, rounds: int) -> None:
    async with opened(sqlite_url, key_bcrypt=rounds) as hold:
        with pytest.raises(ConfigurationError, match=f"HOLDFAST_KEY_BCRYPT={rounds} must be"):
            _ = hold.keys


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(MissingExtra, match=r"holdfast\[bcrypt\]"):
        Slow(10)
