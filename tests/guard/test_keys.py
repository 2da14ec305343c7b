"""API keys on real servers: made once, verified everywhere, dead everywhere within the bound."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import MetaData, event, inspect, select

from holdfast import ALL, Holdfast, KeyedModel, Model, Policy
from holdfast.apps import accounts
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.apps.accounts.models import ApiKey, ApiKeyUse, Organization, OrganizationMember, User
from holdfast.cache.clock import boottime
from holdfast.errors import ConfigurationError, Conflict, InvalidValue, ModelError, NotFound
from holdfast.guard.keys import KeyColumns, KeyRefused, KeyUseColumns, NewKey, new_pepper
from holdfast.guard.keys.text import new_key
from tests.backends import settings_for

NEAR = dt.timedelta(hours=1)


async def user(hold: Holdfast, **values: Any) -> User:
    async with hold.unit(tenant=ALL) as unit:
        return await unit[User].add(User(external_id=f"user_{uuid4().hex}", **values))


async def organization(hold: Holdfast, **values: Any) -> Organization:
    async with hold.unit(tenant=ALL) as unit:
        return await unit[Organization].add(Organization(name="Acme", **values))


async def key(hold: Holdfast, **values: Any) -> NewKey[ApiKey]:
    if "user_id" not in values:
        values["user_id"] = (await user(hold)).id
    if (org_id := values.get("org_id")) is not None and values.pop("joins", True):
        await join(hold, org_id, values["user_id"])
    async with hold.unit(tenant=ALL) as unit:
        return await create_api_key(hold, unit, **{"name": "ci", **values})


async def join(hold: Holdfast, org_id: UUID, user_id: UUID, role: str = "owner") -> None:
    """Let a user be a member of an organisation, in this role."""
    member = OrganizationMember
    async with hold.unit(tenant=ALL) as unit:
        here = unit[member].query().where(member.org_id == org_id, member.user_id == user_id)
        there = await unit[member].first(here)
        if there is not None:
            await unit[member].update(there.id, role=role)
        elif await unit[Organization].find(org_id) is not None and await unit[User].find(user_id) is not None:
            await unit[member].add(member(org_id=org_id, user_id=user_id, role=role))


async def refusal(hold: Holdfast, text: str, **asked: Any) -> str:
    with pytest.raises(KeyRefused) as refused:
        await hold.keys.verify(text, **asked)
    assert len(text) < 20 or text not in str(refused.value)
    return refused.value.reason


async def until(hold: Holdfast, text: str, wanted: str) -> float:
    """When the first verification began that said so, by the clock of `boottime`."""
    async with asyncio.timeout(30):
        while True:
            began, found = boottime(), "good"
            try:
                await hold.keys.verify(text)
            except KeyRefused as refused:
                found = refused.reason
            if found == wanted:
                return began
            await asyncio.sleep(0.002)


async def test_a_key_opens_what_it_was_made_for(hold: Holdfast, other: Holdfast) -> None:
    org = await organization(hold, tier="pro")
    made = await key(hold, org_id=org.id, scopes=("tools:read", "agents:*"))
    assert made.text.startswith("hold_live_")
    assert made.text not in repr(made)
    for node in (hold, hold, other, other):
        facts = await node.keys.verify(made.text, scope="tools:read")
        assert (facts.id, facts.org_id, facts.tier, facts.live) == (made.row.id, org.id, "pro", True)
        assert (await node.keys.verify(made.text, scope="agents:write")).id == made.row.id
        assert await refusal(node, made.text, scope="tools:write") == "scope"
        assert await refusal(node, made.text, live=False) == "mode"


async def test_the_text_of_a_key_is_kept_nowhere(hold: Holdfast) -> None:
    made = await key(hold)
    secret = made.text.split("_")[2]
    await hold.keys.verify(made.text)
    async with hold.unit(tenant=ALL) as unit:
        row = (await unit.execute(select(ApiKey.__table__))).mappings().one()
        assert not any(secret in str(value) for value in row.values())
        assert made.row.shown == made.text[: len("hold_live_") + 4]
        connection = await unit.connection()
        tables = await connection.run_sync(lambda there: inspect(there).get_table_names())
        assert len(tables) > 10
        for table in tables:
            assert secret not in str((await unit.execute(f"SELECT * FROM {table}")).all())
    await hold.keys.verify(made.text)
    assert not any(secret in name for name in hold.cache.statistics.templates.total())


async def test_what_is_no_key_is_told_from_what_is_not_known(hold: Holdfast) -> None:
    made = await key(hold)
    wrong = made.text[:-1] + ("0" if made.text[-1] != "0" else "1")
    for text in ("", "x", wrong, made.text + "0", made.text.upper(), made.text * 3, f" {made.text}", "hold_live_é_x"):
        assert await refusal(hold, text) == "malformed"
    stranger = new_key("hold", "live")
    for _ in range(3):
        assert await refusal(hold, stranger) == "unknown"


async def test_a_revoked_key_is_dead_on_every_node_within_the_bound(hold: Holdfast, other: Holdfast) -> None:
    made = await key(hold)
    await hold.keys.verify(made.text)
    await other.keys.verify(made.text)
    async with hold.unit(tenant=ALL) as unit:
        await hold.keys.revoke(unit, made.row.id)
    committed = boottime()
    assert await refusal(hold, made.text) == "revoked"
    assert await until(other, made.text, "revoked") - committed <= 1.0
    async with hold.unit(tenant=ALL) as unit:
        again = await hold.keys.revoke(unit, made.row.id)
        with pytest.raises(NotFound):
            await hold.keys.revoke(unit, uuid4())
    assert again.revoked_at is not None


async def test_raw_sql_revokes_too(hold: Holdfast, other: Holdfast) -> None:
    made = await key(hold)
    await other.keys.verify(made.text)
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM api_keys")
    committed = boottime()
    assert await until(other, made.text, "unknown") - committed <= 1.0


async def test_a_key_that_was_unknown_is_good_as_soon_as_it_is_there(hold: Holdfast, other: Holdfast) -> None:
    made = await key(hold)
    async with hold.unit(tenant=ALL) as unit:
        row = (await unit.execute("SELECT * FROM api_keys")).mappings().one()
        await unit.execute("DELETE FROM api_keys")
    assert await refusal(hold, made.text) == "unknown"
    assert await refusal(other, made.text) == "unknown"
    async with hold.unit(tenant=ALL) as unit:
        names = ", ".join(row)
        await unit.execute(
            f"INSERT INTO api_keys ({names}) VALUES ({', '.join(f':{name}' for name in row)})", _raw(row)
        )
    committed = boottime()
    assert (await hold.keys.verify(made.text)).id == made.row.id
    assert await until(other, made.text, "good") - committed <= 1.0


def _raw(row: Any) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}


async def test_a_key_ends_when_it_said(hold: Holdfast) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    made = await key(hold, expires_at=soon)
    await hold.keys.verify(made.text)
    await asyncio.sleep(1.6)
    assert await refusal(hold, made.text) == "expired"
    for wrong in (dt.datetime.now(dt.UTC), dt.datetime(2990, 1, 1)):  # noqa: DTZ001
        with pytest.raises(InvalidValue, match="expires_at"):
            await key(hold, expires_at=wrong)


async def test_a_rotated_key_goes_on_for_its_grace_and_no_longer_than_it_would_have(hold: Holdfast) -> None:
    made = await key(hold, scopes=("a:b",))
    async with hold.unit(tenant=ALL) as unit:
        fresh = await hold.keys.rotate(unit, made.row.id, grace="1h")
    for text in (made.text, fresh.text):
        assert (await hold.keys.verify(text)).scopes == ("a:b",)
    async with hold.unit(tenant=ALL) as unit:
        with pytest.raises(Conflict, match="rotated before"):
            await hold.keys.rotate(unit, made.row.id)
        at_once = await hold.keys.rotate(unit, fresh.row.id)
    assert await refusal(hold, fresh.text) == "expired"
    async with hold.unit(tenant=ALL) as unit:
        with pytest.raises(Conflict, match="opens nothing"):
            await hold.keys.rotate(unit, fresh.row.id)
        with pytest.raises(NotFound):
            await hold.keys.rotate(unit, uuid4())
    assert (await hold.keys.verify(at_once.text)).name == "ci"
    ending = await key(hold, expires_at=dt.datetime.now(dt.UTC) + NEAR)
    async with hold.unit(tenant=ALL) as unit:
        await hold.keys.rotate(unit, ending.row.id, grace="30d")
        row = await hold.keys.get(unit, ending.row.id)
        assert row.expires_at is not None
        assert row.expires_at <= dt.datetime.now(dt.UTC) + NEAR


async def test_a_key_is_confined_to_its_networks(hold: Holdfast) -> None:
    made = await key(hold, networks=("10.0.0.0/8", "2001:db8::/32"))
    for good in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        await hold.keys.verify(made.text, address=good)
    for bad in ("11.0.0.1", "2001:db9::1", "::ffff:11.0.0.1", "10.1.2.3.evil", "", None):
        assert await refusal(hold, made.text, address=bad) == "address"
    for wrong in ((), ("10.0.0.1/8",), ("nowhere",), "10.0.0.0/8"):
        with pytest.raises(InvalidValue):
            await key(hold, networks=wrong)


async def test_an_organisation_has_as_many_keys_as_it_may_and_no_race_makes_it_more(hold: Holdfast) -> None:
    org, who = await organization(hold, max_api_keys=3), await user(hold)
    await join(hold, org.id, who.id)

    async def one(number: int) -> Any:
        return await key(hold, user_id=who.id, org_id=org.id, name=f"key {number}", joins=False)

    made = await asyncio.gather(*(one(number) for number in range(8)), return_exceptions=True)
    good = [one for one in made if isinstance(one, NewKey)]
    assert len(good) == 3
    assert all(isinstance(one, NewKey | Conflict) for one in made)
    async with hold.unit(tenant=ALL) as unit:
        await hold.keys.revoke(unit, good[0].row.id)
    assert isinstance(await one(9), NewKey)
    with pytest.raises(Conflict, match="3 are allowed"):
        await one(10)
    async with hold.unit(tenant=ALL) as unit:
        await hold.keys.rotate(unit, good[1].row.id, grace="1h")  # takes no room of its own
        listed = await hold.keys.list(unit, org_id=org.id)
        assert len(listed) == 4
        assert len(await hold.keys.list(unit, org_id=org.id, dead=True)) == 5
        assert len(await hold.keys.list(unit, user_id=who.id)) == 4
        with pytest.raises(InvalidValue, match="whose keys"):
            await hold.keys.list(unit)
    for _ in range(5):
        await key(hold, user_id=who.id)
    with pytest.raises(Conflict, match="5 are allowed"):
        await key(hold, user_id=who.id)


async def test_a_key_of_an_organisation_ends_for_who_leaves_it_or_loses_his_role(
    hold: Holdfast, other: Holdfast
) -> None:
    org, who = await organization(hold), await user(hold)
    ours, mine = await key(hold, user_id=who.id, org_id=org.id), await key(hold, user_id=who.id)
    assert (await other.keys.verify(ours.text)).org_id == org.id
    await join(hold, org.id, who.id, "member")
    committed = boottime()
    assert await refusal(hold, ours.text) == "holder"
    assert await until(other, ours.text, "holder") - committed <= 1.0
    await join(hold, org.id, who.id, "admin")  # and begins again
    committed = boottime()
    assert await until(other, ours.text, "good") - committed <= 1.0
    assert (await hold.keys.verify(ours.text)).is_held
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM organization_members")
    committed = boottime()
    assert await until(other, ours.text, "holder") - committed <= 1.0
    assert await refusal(hold, ours.text) == "holder"
    async with hold.unit(tenant=ALL) as unit:
        with pytest.raises(Conflict, match="owners and admins"):
            await hold.keys.rotate(unit, ours.row.id)
        assert await hold.keys.list(unit, org_id=org.id) == []
        [(row, use)] = await hold.keys.list(unit, org_id=org.id, dead=True)
        assert (row.id, use.is_held) == (ours.row.id, False)
        [(_, use)] = await hold.keys.list(unit, user_id=who.id)
        assert use.is_held
    assert (await hold.keys.verify(mine.text)).org_id is None  # his own goes on
    await key(hold, org_id=org.id)


async def test_a_key_that_is_in_no_cache_is_verified_by_one_statement(hold: Holdfast, other: Holdfast) -> None:
    org = await organization(hold)
    ours, mine = await key(hold, org_id=org.id, limits=("5/s",)), await key(hold)
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "api_keys" in statement or "organization_members" in statement:
            asked.append(statement)

    event.listen(other.store.read_engine.sync_engine, "before_cursor_execute", note)
    for made in (ours, mine):
        asked.clear()
        assert (await other.keys.verify(made.text)).id == made.row.id
        assert len(asked) == 1, asked
        assert "organization_members" in asked[0]


async def test_a_key_is_verified_behind_a_pooler(pgbouncer_url: str) -> None:
    settings = settings_for(pgbouncer_url, pooler="transaction")
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as pooled:
        made = [await key(pooled) for _ in range(3)]
        await pooled.cache.clear()
        found = await asyncio.gather(*(pooled.keys.verify(one.text) for one in made))
        assert [facts.id for facts in found] == [one.row.id for one in made]


async def test_who_is_no_owner_or_admin_gets_no_key_of_an_organisation(hold: Holdfast) -> None:
    org, who = await organization(hold, max_api_keys=1), await user(hold)
    for role in (None, "viewer", "member"):
        if role is not None:
            await join(hold, org.id, who.id, role)
        with pytest.raises(Conflict, match="these are for its owners and admins"):
            await key(hold, user_id=who.id, org_id=org.id, joins=False)
    await join(hold, org.id, who.id, "admin")
    await key(hold, user_id=who.id, org_id=org.id, joins=False)
    await join(hold, org.id, who.id, "viewer")
    await key(hold, org_id=org.id)  # a key that opens nothing any more takes no room


async def test_who_is_not_active_or_not_there_gets_no_key(hold: Holdfast) -> None:
    idle, org = await user(hold, is_active=False), await organization(hold, is_active=False)
    with pytest.raises(Conflict, match="not active"):
        await key(hold, user_id=idle.id)
    with pytest.raises(Conflict, match="not active"):
        await key(hold, org_id=org.id)
    for wrong in ({"user_id": uuid4()}, {"org_id": uuid4()}):
        with pytest.raises(NotFound):
            await key(hold, **wrong)
    for wrong in ({"name": ""}, {"name": "x" * 256}, {"name": "a\nb"}, {"scopes": ("a b",)}, {"scopes": "tools:read"}):
        with pytest.raises(InvalidValue):
            await key(hold, **wrong)


async def test_uses_are_counted_and_do_not_end_what_is_kept(hold: Holdfast) -> None:
    made = await key(hold)
    for _ in range(7):
        await hold.keys.verify(made.text)
    await hold.counters.flush()
    before = hold.cache.statistics.templates.total()["api_key:{lookup}"].loads
    await asyncio.sleep(0.3)
    await hold.keys.verify(made.text)
    assert hold.cache.statistics.templates.total()["api_key:{lookup}"].loads == before
    async with hold.unit(tenant=ALL) as unit:
        [(row, use)] = await hold.keys.list(unit, user_id=made.row.user_id)
    assert row.id == made.row.id
    assert use.usage_count == 7
    assert use.last_used_at is not None


async def test_dead_keys_go_after_their_time(hold: Holdfast) -> None:
    who = await user(hold)
    old, fresh, alive = [await key(hold, user_id=who.id) for _ in range(3)]
    async with hold.unit(tenant=ALL) as unit:
        for one, days in ((old, 91), (fresh, 89)):
            at = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
            await unit[ApiKey].update(one.row.id, revoked_at=at)
        assert await hold.keys.delete_dead(unit) == 1
    async with hold.unit(tenant=ALL) as unit:
        assert {row.id for row, _ in await hold.keys.list(unit, user_id=who.id, dead=True)} == {
            fresh.row.id,
            alive.row.id,
        }
        assert await unit[ApiKeyUse].count() == 2


async def test_a_pepper_is_changed_under_keys_that_go_on(hold: Holdfast) -> None:
    made = await key(hold)
    old = "development:" + base64.b64encode(b"holdfast: no pepper is set, which development may do").decode()
    settings = settings_for(
        hold.settings.database_url,
        redis_url=hold.settings.redis_url,
        key_peppers=f"{new_pepper('p2')},{old}",
    )
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as later:
        assert (await later.keys.verify(made.text)).id == made.row.id
        async with later.read(tenant=ALL) as unit:
            row = await unit[ApiKey].get(made.row.id)
            assert row.pepper == "p2"
        assert (await later.keys.verify(made.text)).id == made.row.id
        newer = await key(later)
        assert newer.row.pepper == "p2"


async def test_production_wants_a_pepper_and_a_model_of_keys(hold: Holdfast) -> None:
    settings = settings_for(hold.settings.database_url, environment="production")
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as bare:
        with pytest.raises(ConfigurationError, match="HOLDFAST_KEY_PEPPERS"):
            bare.keys  # noqa: B018
    async with await Holdfast.open(settings=hold.settings, metadata=MetaData(), migrate=False) as none:
        with pytest.raises(ConfigurationError, match="KeyColumns"):
            none.keys  # noqa: B018


def test_a_model_whose_keys_could_not_be_taken_back_is_refused(tmp_path: Path) -> None:
    class Base(Model):
        __abstract__ = True
        metadata = MetaData()

    class LooseToken(KeyColumns, Base):
        __tablename__ = "loose_tokens"

    class LooseTokenUse(KeyUseColumns, KeyedModel):
        __tablename__ = "loose_token_uses"
        __policy__ = Policy(capture=False)
        metadata = Base.metadata

    hold = Holdfast(settings_for(f"sqlite:///{tmp_path}/loose.db"), metadata=Base.metadata)
    with pytest.raises(ModelError, match=r"api_key:\{lookup\}"):
        hold.keys  # noqa: B018
