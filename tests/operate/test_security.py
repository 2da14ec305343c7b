"""The security checklist finds what is planted, and nothing where all is as it should be."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import ALL, Encrypted, Holdfast, Model, Policy
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.apps.agents import Agent
from holdfast.errors import InvalidValue
from holdfast.guard.keys import new_pepper
from holdfast.journal import FollowerStatus
from holdfast.migrate import roles
from holdfast.model import models_of
from holdfast.operate import REVIEWS, Finding, Reviewed, examine_security, record_review
from holdfast.operate.reviews import examine_reviews
from holdfast.operate.trail import of_checkpoint, of_follower
from holdfast.secrets import new_key
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
    given = {
        "key_peppers": new_pepper("p1"),
        "audit_keys": new_key("a1"),
        "secret_key": "s" * 40,
        "environment": "production",
    }
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
        for actor in ("bob", "ada"):
            async with hold.unit(actor=actor, tenant=ALL) as unit:
                await record_review(unit, "access")
        findings = await found(hold)
    assert findings["access review"].state == "ok"
    assert " by ada, due " in findings["access review"].detail
    assert findings["audit keys"].state == "ok"
    assert findings["TLS"].state == "note"
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


SETTINGS: list[tuple[dict[str, object], str, str]] = [
    ({}, "origins", "ok"),
    ({"cors_origins": "https://app.example"}, "origins", "ok"),
    ({"cors_origins": "https://app.example, *"}, "origins", "wrong"),
    ({"cors_origins": "http://app.example"}, "origins", "note"),
    ({"cors_origins": "http://localhost:3000"}, "origins", "ok"),
    ({"require_tls": True}, "TLS", "ok"),
    ({"environment": "production"}, "TLS", "note"),
    ({"audit_keys": None}, "audit keys", "wrong"),
    ({"audit_keys": new_key("a1")}, "audit keys", "ok"),
    ({}, "audit, private", "note"),
]


@pytest.mark.parametrize(("changed", "check", "state"), SETTINGS)
async def test_settings_are_looked_at(changed: dict[str, object], check: str, state: str) -> None:
    store = Store(settings_for("sqlite://", **changed))
    findings = {finding.check: finding for finding in await examine_security(store, models_of(accounts.metadata))}
    await store.close()
    assert findings[check].state == state
    assert (findings[check].do is None) == (state == "ok")


async def test_what_anybody_may_read_over_http_is_named() -> None:
    for changed, state, told in (
        ({}, "ok", "anybody may read agents"),
        ({"environment": "production"}, "note", "anybody may read agents"),
        ({"http_reads": "closed"}, "ok", "nothing is read"),
    ):
        store = Store(settings_for("sqlite://", **changed))
        findings = {finding.check: finding for finding in await examine_security(store, [Agent])}
        await store.close()
        assert findings["reads over HTTP"].state == state
        assert told in findings["reads over HTTP"].detail


async def test_values_that_look_ups_do_not_find_are_told(sqlite_url: str) -> None:
    class Sealed(Model):
        metadata = MetaData()
        __tablename__ = "security_sealed"
        name: Mapped[str] = mapped_column(Encrypted(blind=True))

    old, new = new_key("k1"), new_key("k2")
    for keys, state, told in (
        (old, None, ""),
        (f"{new},{old}", "note", "1 values are under an older key than k2"),
        (f"{new},{old}:read", "wrong", "security_sealed.name"),
        (new, "note", "1 values"),
    ):
        settings = settings_for(sqlite_url, encryption_keys=keys)
        async with await Holdfast.open(settings=settings, metadata=Sealed.metadata) as hold:
            if state is None:
                async with hold.unit() as unit:
                    await unit[Sealed].add(Sealed(name="ada"))
                continue
            mine = [one for one in await examine_security(hold.store, hold.models) if one.check == "encryption"]
            assert (mine[-1].state, told in mine[-1].detail) == (state, True), mine


def test_the_trail_is_looked_at() -> None:
    def follower(lag: int, seconds: float, **given: Any) -> FollowerStatus:
        values = {"state": "following", "parked": 0, "holder": "here", "reason": None, **given}
        return FollowerStatus(name="audit", position="1-1-1", lag_changes=lag, lag_seconds=seconds, **values)

    for status, state, told in (
        (None, "wrong", "is not kept for the trail"),
        (follower(0, 0), "ok", "nothing waits"),
        (follower(3, 1.0), "ok", "3 changes"),
        (follower(3, 1.0, holder=None), "note", "nobody seals"),
        (follower(3, 61.0), "note", "does not keep up"),
        (follower(3, 601.0, holder=None), "wrong", "has not run for 601 s"),
        (follower(3, 1.0, state="failing", reason="full"), "wrong", "full"),
    ):
        finding = of_follower(status)
        assert (finding.state, told in finding.detail) == (state, True), finding
    now = dt.datetime(2026, 8, 10, tzinfo=dt.UTC)
    assert of_checkpoint(None, now).state == "note"
    assert of_checkpoint(now - dt.timedelta(days=8), now).detail.startswith("the last is of 2026-08-02")
    assert of_checkpoint(now - dt.timedelta(days=7), now).state == "ok"


@given(st.sampled_from(sorted(REVIEWS)), st.timedeltas(dt.timedelta(0), dt.timedelta(days=1000)))
def test_a_review_is_due_when_its_time_is_over_and_never_before(name: str, ago: dt.timedelta) -> None:
    now = dt.datetime(2026, 8, 10, tzinfo=dt.UTC)
    findings = {
        finding.check: finding
        for finding in examine_reviews({name: Reviewed(name=name, at=now - ago, actor="ada")}, now)
    }
    mine = findings.pop(REVIEWS[name].check)
    assert (mine.state == "note") == (ago >= REVIEWS[name].every)
    assert ("due since" in mine.detail) == (mine.state == "note")
    assert {finding.state for finding in findings.values()} == {"note"}
    assert all("holdfast doctor --reviewed" in (finding.do or "") for finding in findings.values())


async def test_a_review_is_somebodys_and_the_last_one_counts(hold: Holdfast) -> None:
    long_ago = dt.datetime(2020, 2, 29, 12, tzinfo=dt.UTC)
    for actor, at in (("ada", long_ago), ("bob", long_ago - dt.timedelta(days=1)), ("ada", long_ago)):
        async with hold.unit(actor=actor) as unit:
            await record_review(unit, "restore", at=at)
    assert (await found(hold))["restore rehearsal"].detail == "last 2020-02-29 by ada, due since 2020-03-31"
    for actor, name in ((None, "restore"), ("a\nb", "restore"), ("x" * 256, "restore"), ("ada", "nonsense")):
        with pytest.raises(InvalidValue):
            async with hold.unit(actor=actor) as unit:
                await record_review(unit, name)
    async with hold.unit() as unit:
        await unit.execute("DROP TABLE holdfast_reviews")
    assert (await found(hold))["reviews"].do == "holdfast migrate up"


async def test_erasures_that_fail_or_take_too_long_are_told(hold: Holdfast) -> None:
    assert (await found(hold))["classification"].state == "ok"
    assert (await found(hold))["erasures"].detail == "0 under way"
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="ada"))
    await hold.privacy.erase(ada.id)
    assert (await found(hold))["erasures"].detail == "1 under way"
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE holdfast_erasures SET asked_at = '2026-01-01 00:00:00.000000'")
    late = (await found(hold))["erasures"]
    assert (late.state, late.detail) == ("wrong", "1 were asked for over a day ago, and are not done")
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE holdfast_erasures SET failure = 'x'")
    assert (await found(hold))["erasures"].detail == "1 failed when they were last tried"
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("DROP TABLE holdfast_erasures")
    assert (await found(hold))["erasures"].state == "note"


async def test_columns_that_nobody_classified_are_told(sqlite_url: str) -> None:
    class Unsaid(Model):
        __abstract__ = True
        metadata = MetaData()

    class Guest(Unsaid):
        __tablename__ = "guests"
        __policy__ = Policy(private=("name",))
        name: Mapped[str]
        phone: Mapped[str]

    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Unsaid.metadata) as hold:
        told = (await found(hold))["classification"]
    assert told.state == "note"
    assert told.detail.startswith("guests.phone: nobody said")
    assert told.detail.endswith("; and 1 more")
