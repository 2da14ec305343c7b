"""Every committed write is in the journal, however it was made, and says what it was."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text

from holdfast.errors import HoldfastError, InvalidValue
from holdfast.journal import Change, Journal, retiring
from holdfast.model import uuid7
from holdfast.store import ALL, Store
from tests.journal.conftest import Line, Note, Odd, Payment, Reader


def told(changes: list[Change]) -> list[tuple[str, str, str | None]]:
    return [(change.op, change.table, change.key) for change in changes]


async def test_writes_of_a_unit_and_of_raw_sql_are_captured_in_order(store: Store, reader: Reader) -> None:
    note = Note(text="a")
    async with store.unit() as unit:
        unit.add(note)
    async with store.engine.begin() as connection:
        await connection.execute(text("UPDATE notes SET text = 'b'"))
        await connection.execute(text("DELETE FROM notes"))
    key = str(note.id)
    assert told(await reader.changes()) == [
        ("insert", "notes", key),
        ("update", "notes", key),
        ("delete", "notes", key),
    ]


async def test_a_statement_over_many_rows_is_one_change_a_row(store: Store, reader: Reader) -> None:
    notes = [Note(n=i) for i in range(700)]
    async with store.unit() as unit:
        unit.add(*notes)
        await unit.flush()
        await unit.execute("UPDATE notes SET n = n + 1")
    changes = await reader.changes()
    assert [c.key for c in changes if c.op == "insert"] == [str(note.id) for note in notes]
    assert {c.key for c in changes if c.op == "update"} == {str(note.id) for note in notes}
    assert len({c.seq for c in changes}) == len(changes) == 1_400


async def test_what_is_rolled_back_is_not_in_the_journal(store: Store, reader: Reader) -> None:
    with pytest.raises(RuntimeError):
        async with store.unit() as unit:
            unit.add(Note(text="gone"))
            await unit.flush()
            raise RuntimeError
    async with store.unit() as unit:
        unit.add(kept := Note(text="kept"))
        await unit.flush()
        with pytest.raises(RuntimeError):
            async with unit.savepoint():
                await unit.execute("UPDATE notes SET text = 'gone'")
                raise RuntimeError
    assert told(await reader.changes()) == [("insert", "notes", str(kept.id))]


async def test_a_changed_key_is_a_delete_and_an_insert(store: Store, reader: Reader) -> None:
    note, other = Note(), uuid7()
    async with store.unit() as unit:
        unit.add(note)
    await reader.skip()
    async with store.unit() as unit:
        value = other.hex if store.dialect == "sqlite" else other
        await unit.execute("UPDATE notes SET id = :id", {"id": value})
    assert told(await reader.changes()) == [("delete", "notes", str(note.id)), ("insert", "notes", str(other))]


async def test_a_row_that_changes_its_tenant_leaves_one_and_enters_the_other(store: Store, reader: Reader) -> None:
    one, two = uuid7(), uuid7()
    payment = Payment(owner=one, token="USDC")
    async with store.unit(tenant=ALL) as unit:
        unit.add(payment)
    await reader.skip()
    async with store.unit(tenant=ALL) as unit:
        payment = await unit[Payment].get(payment.id)
        payment.owner = two
    left, entered = await reader.changes()
    assert (left.op, left.tenant, left.old["token"]) == ("delete", str(one), "USDC")
    assert (entered.op, entered.tenant, entered.new["token"]) == ("insert", str(two), "USDC")


async def test_an_upsert_tells_what_it_did(store: Store, reader: Reader) -> None:
    there, new = Note(id=uuid7(), text="there"), Note(id=uuid7(), text="new")
    async with store.unit() as unit:
        unit.add(there)
    await reader.skip()
    upsert = "INSERT INTO notes (id, text) VALUES (:a, 'x'), (:b, 'y') ON CONFLICT (id) DO UPDATE SET text = 'z'"
    ids = {"a": there.id, "b": new.id}
    if store.dialect == "sqlite":
        ids = {name: value.hex for name, value in ids.items()}
    async with store.unit() as unit:
        await unit.execute(upsert, ids)
    assert sorted(told(await reader.changes())) == [
        ("insert", "notes", str(new.id)),
        ("update", "notes", str(there.id)),
    ]
    async with store.unit() as unit:
        await unit.execute(upsert.replace("DO UPDATE SET text = 'z'", "DO NOTHING"), ids)
    assert await reader.changes() == []


async def test_rows_deleted_with_their_parent_are_told(store: Store, reader: Reader) -> None:
    note = Note(id=uuid7())
    part = Line(id=uuid7(), note_id=note.id)
    async with store.unit() as unit:
        unit.add(note)
        await unit.flush()
        unit.add(part)
    await reader.skip()
    async with store.unit() as unit:
        await unit.execute("DELETE FROM notes")
    assert sorted(told(await reader.changes())) == [
        ("delete", "notes", str(note.id)),
        ("delete", "parts", str(part.id)),
    ]


async def test_facts_are_exact_and_the_same_on_every_backend(store: Store, reader: Reader) -> None:
    owner, payee = UUID("0190b0f0-0000-7000-8000-00000000000a"), UUID("0190b0f0-0000-7000-8000-00000000000b")
    payment = Payment(
        owner=owner,
        amount=2**256 - 1,
        price=Decimal("1234567.125"),
        ratio=0.1 + 0.2,
        token='quo"te \\ \n\t\x01 ünï€ 🦀',
        ok=False,
        paid_at=dt.datetime(2024, 2, 29, 23, 59, 59, 5, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
        payee=payee,
        blob=b"\x00\xff",
        extra={"a": [1, None, "x"]},
    )
    async with store.unit(tenant=ALL) as unit:
        unit.add(payment)
    [change] = await reader.changes()
    new = dict(change.new or {})
    assert Decimal(new.pop("price")) == Decimal("1234567.125")
    assert new == {
        "amount": str(2**256 - 1),
        "ratio": 0.1 + 0.2,
        "token": 'quo"te \\ \n\t\x01 ünï€ 🦀',
        "ok": False,
        "paid_at": "2024-02-29T18:14:59.000005Z",
        "payee": str(payee),
        "blob": "00ff",
        "extra": {"a": [1, None, "x"]},
    }
    assert (change.tenant, change.old) == (str(owner), None)


async def test_a_missing_value_is_none_and_zero_is_zero(store: Store, reader: Reader) -> None:
    async with store.unit(tenant=ALL) as unit:
        unit.add(Payment(owner=uuid7(), amount=0))
    [change] = await reader.changes()
    assert change.new is not None
    assert change.new.pop("amount") == "0"
    assert set(change.new.values()) == {None}


async def test_an_update_has_both_sides(store: Store, reader: Reader) -> None:
    async with store.unit(tenant=ALL) as unit:
        unit.add(Payment(owner=uuid7(), token="a", amount=1))
    await reader.skip()
    async with store.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE payments SET token = 'b'")
        await unit.execute("DELETE FROM payments")
    updated, deleted = await reader.changes()
    assert (updated.old["token"], updated.new["token"], updated.new["amount"]) == ("a", "b", "1")
    assert (deleted.old["token"], deleted.new) == ("b", None)


async def test_a_composite_key_is_a_json_array_and_odd_names_are_no_matter(store: Store, reader: Reader) -> None:
    odd = Odd(region=7, order='1"')
    async with store.unit() as unit:
        unit.add(odd)
    [change] = await reader.changes()
    assert (change.table, change.key, change.new) == ("odd table", f'["{odd.id}",7]', {"Ord er": '1"'})


async def test_the_actor_and_the_request_are_told_and_only_for_their_unit(store: Store, reader: Reader) -> None:
    async with store.unit(actor="ada", request_id="r-1") as unit:
        unit.add(Note())
    async with store.engine.begin() as connection:
        await connection.execute(text("UPDATE notes SET n = 1"))
    async with store.unit(actor="o'br\"ien") as unit:
        await unit.execute("UPDATE notes SET n = 2")
    with pytest.raises(RuntimeError):
        async with store.unit(actor="eve") as unit:
            await unit.execute("UPDATE notes SET n = 3")
            raise RuntimeError
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 4")
    who = [(change.actor, change.request) for change in await reader.changes()]
    assert who == [("ada", "r-1"), (None, None), ("o'br\"ien", None), (None, None)]


async def test_an_event_goes_the_way_of_a_change(store: Store, reader: Reader) -> None:
    async with store.unit(actor="ada", tenant="t1") as unit:
        unit.add(Note())
        await unit.emit("cache.cleared", tags=["user:1"], data={"why": "ünï", "n": [1]})
    inserted, event = await reader.changes()
    assert inserted.op == "insert"
    assert (event.op, event.table, event.key, event.tenant, event.actor) == (
        "event",
        "cache.cleared",
        None,
        "t1",
        "ada",
    )
    assert event.new == {"tags": ["user:1"], "data": {"why": "ünï", "n": [1]}}


@pytest.mark.parametrize(
    ("topic", "tags", "data", "says"),
    [("", [], None, "topic"), ("*", [], None, "topic"), ("t", "abc", None, "tags"), ("t", [], object(), "JSON")],
)
async def test_an_event_that_cannot_be_is_refused(
    store: Store, log: Journal, topic: str, tags: list[str], data: object, says: str
) -> None:
    async with store.unit() as unit:
        with pytest.raises(InvalidValue, match=says):
            await unit.emit(topic, tags=tags, data=data)


async def test_what_retention_removes_is_retired(store: Store, reader: Reader) -> None:
    async with store.unit() as unit:
        unit.add(Note(n=1), Note(n=2))
    await reader.skip()
    async with store.unit(actor="retention") as unit:
        async with retiring(unit):
            await unit.execute("DELETE FROM notes WHERE n = 1")
        await unit.execute("DELETE FROM notes")
    async with store.unit() as unit:
        unit.add(Note(n=3))
        await unit.flush()
        await unit.execute("DELETE FROM notes")
    assert [change.op for change in await reader.changes()] == ["retired", "delete", "insert", "delete"]


async def test_a_model_kept_out_of_the_journal_is_not_in_it(store: Store, reader: Reader) -> None:
    async with store.engine.begin() as connection:
        await connection.execute(text("INSERT INTO quiet DEFAULT VALUES"))
    assert await reader.changes() == []


async def test_only_the_tables_asked_for_are_read(store: Store, reader: Reader) -> None:
    async with store.unit(tenant=ALL) as unit:
        unit.add(Note(), Payment(owner=uuid7()))
        await unit.emit("told")
        await unit.emit("untold")
    upto = await reader.log.make_tick()
    pages = [page async for page in reader.log.read(reader.position, upto, tables=["payments", "told"])]
    assert sorted(change.table for page in pages for change in page.changes) == ["payments", "told"]


async def test_a_change_that_was_not_captured_names_the_reason(store: Store, reader: Reader) -> None:
    async with store.unit() as unit:
        unit.add(Note())
    async with store.engine.begin() as connection:
        await connection.execute(text("DELETE FROM holdfast_shapes"))
    with pytest.raises(HoldfastError, match="doctor"):
        await reader.changes()
