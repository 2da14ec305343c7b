"""The security checklist finds what is planted, and nothing where all is as it should be."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.guard.keys import new_pepper
from holdfast.migrate import roles
from holdfast.operate import Finding, examine_security
from holdfast.store import Store
from tests.backends import settings_for


@pytest.fixture
async def hold(sqlite_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=accounts.metadata) as hold:
        yield hold


async def found(hold: Holdfast) -> dict[str, Finding]:
    return {finding.check: finding for finding in await examine_security(hold.store, hold.models)}


async def test_what_a_laptop_leaves_open_is_told(hold: Holdfast, sqlite_url: str) -> None:
    file = sqlite_url.removeprefix("sqlite:///")
    os.chmod(file, 0o644)
    findings = await found(hold)
    assert findings["keys, sessions"].state == "wrong"
    assert {findings[name].state for name in ("environment", "page cursors", "database file")} == {"note"}
    assert "contacts.name" in findings["private columns"].detail
    assert findings["tenants"].state == findings["transport"].state == "ok"
    os.chmod(file, 0o600)
    assert (await found(hold))["database file"].state == "ok"


async def test_keys_without_an_end_and_dead_ones_are_counted(hold: Holdfast) -> None:
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=91)
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="ada"))
        for _ in range(2):
            await hold.keys.create(unit, name="endless", user_id=ada.id)
        dead = await hold.keys.create(unit, name="dead", user_id=ada.id)
        await unit.execute(
            text("UPDATE api_keys SET revoked_at = :at WHERE id = :id"),
            {"at": long_ago.isoformat(sep=" "), "id": dead.row.id.hex},
        )
    findings = await found(hold)
    assert findings["keys that never end"].detail == "2 API keys have no end"
    assert findings["dead keys"].detail == "1 API keys have been dead for over 90 days"


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("redis://cache.internal:6379/0", "wrong"),
        ("redis://u:p@cache.internal:6379/0", "ok"),
        ("redis://127.0.0.1:6379/0", "note"),
        ("unix:///tmp/redis.sock", "note"),
    ],
)
async def test_a_redis_without_a_login_is_told(sqlite_url: str, url: str, state: str) -> None:
    store = Store(settings_for(sqlite_url, redis_url=url))
    findings = {finding.check: finding for finding in await examine_security(store, [])}
    assert findings["redis login"].state == state
    assert findings["transport"].state == ("wrong" if "internal" in url else "ok")
    assert "u:p" not in str(findings)
    await store.close()


async def test_on_postgresql_login_and_tenants_are_looked_at(postgres_url: str) -> None:
    given = {"key_peppers": new_pepper("p1"), "secret_key": "s" * 40, "environment": "production"}
    store = Store(settings_for(postgres_url))
    async with store.connect(write=True) as connection:
        await roles.create(connection)
        await connection.execute(text("DROP ROLE IF EXISTS security_login"))
        await connection.execute(text("CREATE ROLE security_login LOGIN"))
        await roles.create(connection, serving=["security_login"])
    await store.close()
    settings = settings_for(postgres_url, **given)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=True) as hold:
        findings = await found(hold)
        assert findings["tenants"].state == findings["login"].state == "wrong"
        assert findings["environment"].state == findings["keys, sessions"].state == "ok"
    settings = settings_for(postgres_url, row_security=True, **given)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=True):
        pass
    mine = postgres_url.replace("holdfast@", "security_login@")
    settings = settings_for(mine, row_security=True, **given)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as hold:
        findings = await found(hold)
    assert {check for check, finding in findings.items() if finding.state == "wrong"} == set()
    assert findings["tenants"].state == findings["login"].state == "ok"


async def test_a_database_that_is_away_is_one_finding(unused_tcp_url: str) -> None:
    store = Store(settings_for(unused_tcp_url))
    findings = {finding.check: finding for finding in await examine_security(store, [])}
    assert findings["database"].state == "wrong"
    await store.close()


@pytest.fixture
def unused_tcp_url() -> str:
    return "postgresql://nobody@127.0.0.1:1/none"
