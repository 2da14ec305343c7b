"""What the audit trail has sealed of a person is unreadable once his key is shredded, and the chains are whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import ALL, Audited, Holdfast, Model, Policy
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.errors import InvalidValue
from holdfast.guard.audit import Origin, Record
from holdfast.guard.audit.export import export, line_of, records_in
from holdfast.guard.audit.private import Box
from holdfast.guard.audit.verify import verify_exported
from holdfast.model import NAMING
from holdfast.model.keyring import KeyRing
from holdfast.secrets import new_key
from tests.backends import settings_for

METADATA = MetaData(naming_convention=NAMING)
RING = new_key("k1")
KEYS = {"encryption_keys": RING, "audit_keys": f"a1:{'B' * 43}="}
ADDRESS = {"ip": "10.0.0.1", "agent": "curl"}


class Guest(Model):
    metadata = METADATA
    __tablename__ = "audited_guests"
    __policy__ = Policy(Audited(subject="person"), tenant="house", private=("name",))

    house: Mapped[str]
    person: Mapped[str | None]
    name: Mapped[str]


class Room(Model):
    """Whose private values are about nobody that is named."""

    metadata = METADATA
    __tablename__ = "audited_rooms"
    __policy__ = Policy(Audited(), tenant="house", private=("name",))

    house: Mapped[str]
    name: Mapped[str]


@pytest.fixture(params=("sqlite", "postgres"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    settings = settings_for(request.getfixturevalue(f"{request.param}_url"), **KEYS)
    async with await Holdfast.open(settings=settings, metadata=(METADATA, accounts.metadata), follow=True) as hold:
        yield hold


@pytest.fixture
async def here(sqlite_url: str) -> AsyncIterator[Holdfast]:
    settings = settings_for(sqlite_url, **KEYS)
    async with await Holdfast.open(settings=settings, metadata=(METADATA, accounts.metadata), follow=True) as hold:
        yield hold


async def trail(hold: Holdfast, tenant: str | None = None) -> list[Record]:
    await hold.audit.caught_up()
    return [record async for record in export(hold.store, hold.audit.tables, tenant=tenant)]


async def opened(hold: Holdfast, records: list[Record], box: Box | None = None) -> list[Any]:
    box = box or hold.audit.box
    assert box is not None
    async with hold.read(tenant=ALL) as unit:
        return await box.open(records, unit)


async def shred(hold: Holdfast, subject: Any) -> bool:
    async with hold.unit(tenant=ALL) as unit:
        return await hold.subject_keys.shred(unit, subject)


async def add(hold: Holdfast, **given: Any) -> Guest:
    async with hold.unit(actor="bob", tenant="inn", request_id="r1") as unit:
        await hold.audit.origin(unit, Origin(**ADDRESS))
        return await unit[Guest].add(Guest(**{"person": "p1", "name": "Ada", **given}))


async def test_each_part_is_erased_with_the_key_of_its_person_and_nothing_else(hold: Holdfast) -> None:
    row = await add(hold)
    await add(hold, person="p2", name="Grace")
    request, ada, _, grace = records = await trail(hold, "inn")
    whole: list[dict[str, Any]] = [ADDRESS, {"values": {"name": [None, "Ada"]}} | ADDRESS]
    whole += [ADDRESS, {"values": {"name": [None, "Grace"]}} | ADDRESS]
    assert await opened(hold, records) == whole
    assert all(record.sealed and record.sealed[0] == 2 for record in records)
    assert await shred(hold, "p1")
    assert not await shred(hold, "p1")
    whole[1] = {"values": "erased"} | ADDRESS
    assert await opened(hold, records) == whole

    # What is put on record of him later has nothing of him, and the chain goes on.
    async with hold.unit(actor="cy", tenant="inn") as unit:
        await unit[Guest].update(row.id, name="Augusta")
    late = (await trail(hold, "inn"))[-1]
    assert (late.sealed, late.subject, late.changes) == (None, "p1", '{"name":"private"}')

    assert await shred(hold, "bob")
    assert await opened(hold, [request, ada, grace, late]) == [
        {"origin": "erased"},
        {"values": "erased", "origin": "erased"},
        {"values": {"name": [None, "Grace"]}, "origin": "erased"},
        None,
    ]
    found = await hold.audit.verify()
    assert (found.faults, found.records) == ([], 5)
    lines = [msgspec.json.encode(line_of(one, private)) for one, private in zip(records, whole, strict=True)]
    assert b'"private":{"values":"erased"' in lines[1]
    exported = verify_exported(records_in(lines), hold.audit.keys)
    assert (exported.faults, exported.records) == ([], 4)


async def test_a_user_of_the_accounts_app_is_named_by_his_id(hold: Holdfast) -> None:
    async with hold.unit(tenant=ALL) as unit:
        user = await unit[User].add(User(external_id="u", email="ada@example.com"))
    [record] = await trail(hold)
    assert record.subject == str(user.id)
    await shred(hold, user.id)
    assert await opened(hold, [record]) == [{"values": "erased"}]


async def test_a_row_that_is_given_to_somebody_else_says_nothing_of_who_had_it(here: Holdfast) -> None:
    row = await add(here)
    async with here.unit(tenant="inn") as unit:
        await unit[Guest].update(row.id, person="p2", name="Grace")
    async with here.unit(tenant="inn") as unit:
        await unit[Guest].update(row.id, person=None, name="nobody")
    _, made, given, freed = await trail(here, "inn")
    assert (made.subject, given.subject, freed.subject) == ("p1", "p2", "p2")
    await shred(here, "p1")
    assert [one["values"] for one in await opened(here, [made, given, freed])] == [
        "erased", {"name": ["private", "Grace"]}, {"name": ["Grace", "nobody"]}
    ]  # fmt: skip
    await shred(here, "p2")
    assert [one["values"] for one in await opened(here, [made, given, freed])] == ["erased"] * 3


async def test_what_is_about_nobody_is_under_the_ring_as_older_records_are(here: Holdfast) -> None:
    async with here.unit(actor="bob", tenant="inn", request_id="r1") as unit:
        await here.audit.origin(unit, Origin(**ADDRESS))
        await unit[Room].add(Room(name="the blue one"))
    await here.audit.record(None, "login", private={"email": "a@b.c"}, origin=Origin(ip="10.0.0.1"))
    login, _, room = await trail(here)
    await shred(here, "bob")
    assert [record.sealed and record.sealed[0] for record in (login, room)] == [1, 1]
    assert await opened(here, [login, room]) == [
        {"values": {"email": "a@b.c"}, "ip": "10.0.0.1"},
        {"values": {"name": [None, "the blue one"]}} | ADDRESS,
    ]
    old = KeyRing.parse(RING).encrypt(b'{"values":{"name":[null,"Ada"]}}', f"audit {room.id}")
    before = msgspec.structs.replace(room, subject="p1", sealed=old)  # as it was before there were keys of people
    assert await opened(here, [before]) == [{"values": {"name": [None, "Ada"]}}]


async def test_a_ciphertext_that_was_changed_or_moved_or_lost_its_key_is_told(here: Holdfast) -> None:
    await add(here)
    await add(here)
    _, ada, _, again = await trail(here, "inn")
    assert ada.sealed is not None
    replace = msgspec.structs.replace
    for wrong in (
        replace(ada, sealed=ada.sealed[:-1]),
        replace(ada, sealed=ada.sealed[:-1] + bytes((ada.sealed[-1] ^ 1,))),
        replace(ada, sealed=b"\2"),
        replace(ada, sealed=b"\2\x80"),
        replace(ada, sealed=b"\2\x81\xa5thing\xc4\x00"),
        replace(ada, sealed=b"\3" + ada.sealed),
        replace(ada, sealed=again.sealed),
        replace(ada, subject=None),
        replace(ada, subject="bob"),
        replace(ada, subject="nobody"),
    ):
        with pytest.raises(InvalidValue, match=f"a value in audit {ada.id}"):
            await opened(here, [again, wrong])
    other = Box(KeyRing.parse(new_key("k1")))
    with pytest.raises(InvalidValue, match=r"holdfast_subject_keys\.wrapped of"):
        await opened(here, [ada], other)


async def test_a_change_whose_key_cannot_be_read_waits_and_is_on_record_once_it_can(here: Holdfast) -> None:
    await add(here)
    await trail(here)
    async with here.unit(tenant=ALL) as unit:
        await unit.execute(
            "UPDATE holdfast_subject_keys SET wrapped = CAST(wrapped || x'00' AS BLOB) WHERE subject = 'p1'"
        )
    async with here.unit(actor="cy", tenant="inn") as unit:
        await unit[Guest].add(Guest(person="p1", name="Augusta"))
        await unit[Guest].add(Guest(person="p3", name="Grace"))
    assert [one.subject for one in await trail(here, "inn")] == [None, "p1", "p3"]
    async with here.unit(tenant=ALL) as unit:
        fixed = "substr(wrapped, 1, length(wrapped) - 1)"  # as from a copy of the table
        await unit.execute(f"UPDATE holdfast_subject_keys SET wrapped = {fixed} WHERE subject = 'p1'")
    await here.journal.retry("audit")
    async with asyncio.timeout(20):
        while len(records := await trail(here, "inn")) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await opened(here, records[3:]) == [{"values": {"name": [None, "Augusta"]}}]
    assert not (await here.audit.verify()).faults
