"""Keys of people: made once whoever asks first, shredded for good, and never used after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from devservers import find_postgres
from holdfast import ALL
from holdfast.errors import ConfigurationError, InvalidValue, StoreError
from holdfast.guard import subject_keys
from holdfast.guard.subject_keys import SubjectKey, SubjectKeys
from holdfast.migrate import roles, tenant_policies
from holdfast.model.keyring import KeyRing
from holdfast.secrets import new_key
from holdfast.store import Store, Unit
from tests.backends import settings_for

K1, K2 = new_key("k1"), new_key("k2")
OLD, BOTH, NEW = (KeyRing.parse(text) for text in (K1, f"{K2},{K1}", K2))
KEYS = SubjectKeys(OLD)


async def prepared(url: str) -> Store:
    store = Store(settings_for(url))
    async with store.connect(write=True) as connection:
        await connection.run_sync(subject_keys.metadata.create_all)
    return store


@pytest.fixture(params=("sqlite", "postgres", "sqld"))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A database with the table of keys alone."""
    made = await prepared(request.getfixturevalue(f"{request.param}_url"))
    yield made
    await made.close()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Store]:
    made = await prepared(postgres_url)
    yield made
    await made.close()


async def seal(store: Store, subject: str, text: bytes, keys: SubjectKeys = KEYS) -> bytes | None:
    """`text` under the key of somebody; None where that is shredded."""
    async with store.unit(tenant=ALL) as unit:
        key = (await keys.of(unit, [subject], make=True))[subject]
    return None if key is None else key.encrypt(text, "x")


async def read(store: Store, subject: str, keys: SubjectKeys = KEYS) -> SubjectKey | None:
    async with store.read(tenant=ALL) as unit:
        return (await keys.of(unit, [subject], make=False))[subject]


async def shred(store: Store, subject: str) -> bool:
    async with store.unit(tenant=ALL) as unit:
        return await KEYS.shred(unit, subject)


async def test_what_is_under_a_key_is_readable_until_it_is_shredded_and_nobody_gets_another(store: Store) -> None:
    sealed = await seal(store, "ada", b"Elm Street")
    other = await seal(store, "bob", b"Oak Street")
    assert sealed is not None
    assert other is not None
    key = await read(store, "ada")
    assert key is not None
    assert key.decrypt(sealed, "x") == b"Elm Street"
    assert await shred(store, "ada")
    assert not await shred(store, "ada")
    assert await shred(store, "cy")  # who has no key yet is never to have one
    for subject in ("ada", "cy"):
        assert await read(store, subject) is None
        assert await seal(store, subject, b"new") is None
    left = await read(store, "bob")
    assert left is not None
    assert left.decrypt(other, "x") == b"Oak Street"
    async with store.read(tenant=ALL) as unit:
        assert await KEYS.of(unit, ["nobody"], make=False) == {}
        rows = (await unit.execute("SELECT subject, wrapped, shredded_at FROM holdfast_subject_keys")).all()
        assert {row.subject: (row.wrapped is None, row.shredded_at is None) for row in rows} == {
            "ada": (True, False), "bob": (False, True), "cy": (True, False)
        }  # fmt: skip


async def test_no_copy_of_a_shredded_key_is_left_in_a_file(sqlite_url: str) -> None:
    store = await prepared(sqlite_url)
    for number in range(40):
        await seal(store, f"s{number}", b"x")
    async with store.read(tenant=ALL) as unit:
        wrapped = (await unit.execute("SELECT wrapped FROM holdfast_subject_keys WHERE subject = 's7'")).scalar_one()
    await shred(store, "s7")
    await store.close()
    file = store.file
    assert file is not None
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    content = file.read_bytes()
    assert not [start for start in range(4, len(wrapped) - 7) if wrapped[start : start + 8] in content]


async def test_a_batch_asks_no_more_for_many_than_for_one(store: Store) -> None:
    asked: list[str] = []
    event.listen(store.engine.sync_engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for make, most in ((True, 3), (True, 1), (False, 1)):
        async with store.unit(tenant=ALL) as unit:
            await unit.execute("SELECT 1")
            asked.clear()
            found = await KEYS.of(unit, [f"s{number}" for number in range(300)], make=make)
        assert len(found) == 300
        about = [sql for sql in asked if "holdfast_subject_keys" in sql]
        assert 0 < len(about) <= most


async def test_whoever_makes_a_key_at_the_same_time_all_use_one(store: Store) -> None:
    sealed: dict[str, list[bytes]] = {}

    async def one(number: int) -> None:
        subjects = [f"s{(number + other) % 9}" for other in range(6)]

        async def work(unit: Unit) -> None:
            found = await KEYS.of(unit, subjects, make=True)
            await asyncio.sleep(0.01)
            for subject, key in found.items():
                assert key is not None
                sealed.setdefault(subject, []).append(key.encrypt(b"x", "x"))

        await store.run(work, tenant=ALL)

    await asyncio.gather(*map(one, range(6)))
    for subject, each in sealed.items():
        key = await read(store, subject)
        assert key is not None
        assert [key.decrypt(ciphertext, "x") for ciphertext in each] == [b"x"] * len(each)


async def waits(task: asyncio.Task[Any], store: Store) -> None:
    """Until the database makes `task` wait for somebody's lock."""
    async with asyncio.timeout(20):
        while True:
            assert not task.done()
            async with store.read(tenant=ALL) as unit:
                found = (
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
                )
                if (await unit.execute(found)).scalar():
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_new", [True, False])
async def test_who_shreds_waits_for_who_writes_under_the_key(postgres: Store, is_new: bool) -> None:
    if not is_new:
        await seal(postgres, "ada", b"before")
    async with postgres.unit(tenant=ALL) as unit:
        key = (await KEYS.of(unit, ["ada"], make=True))["ada"]
        assert key is not None
        shredding = asyncio.create_task(shred(postgres, "ada"))
        await waits(shredding, postgres)
    assert await shredding
    assert await read(postgres, "ada") is None


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("undone", [False, True])
async def test_who_writes_waits_for_who_shreds_and_finds_no_key(postgres: Store, is_new: bool, undone: bool) -> None:
    before = None if is_new else await seal(postgres, "ada", b"before")
    try:
        async with postgres.unit(tenant=ALL) as unit:
            await KEYS.shred(unit, "ada")
            writing = asyncio.create_task(seal(postgres, "ada", b"x"))
            await waits(writing, postgres)
            if undone:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    sealed = await writing
    if not undone:
        assert sealed is None
        assert await read(postgres, "ada") is None
        return
    key = await read(postgres, "ada")
    assert key is not None
    for ciphertext, text in ((sealed, b"x"), (before, b"before")):
        assert ciphertext is None or key.decrypt(ciphertext, "x") == text


async def test_who_lost_to_another_uses_his_key_and_who_was_undone_leaves_none(postgres: Store) -> None:
    for undone in (False, True):
        subject = f"undone {undone}"
        first = None
        try:
            async with postgres.unit(tenant=ALL) as unit:
                first = (await KEYS.of(unit, [subject], make=True))[subject]
                second = asyncio.create_task(seal(postgres, subject, b"second"))
                await waits(second, postgres)
                if undone:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        sealed, key = await second, await read(postgres, subject)
        assert sealed is not None
        assert key is not None
        assert first is not None
        assert key.decrypt(sealed, "x") == b"second"
        if undone:
            with pytest.raises(InvalidValue):
                first.decrypt(sealed, "x")
        else:
            assert first.decrypt(sealed, "x") == b"second"


@settings(max_examples=60)
@given(st.binary(max_size=60), st.data())
def test_what_was_changed_or_belongs_elsewhere_is_refused(plain: bytes, data: st.DataObject) -> None:
    secret = os.urandom(32)
    key = SubjectKey("ada", secret)
    sealed = key.encrypt(plain, "audit 1 values")
    assert key.decrypt(sealed, "audit 1 values") == plain
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:place] + bytes((sealed[place] ^ data.draw(st.integers(1, 255)),)) + sealed[place + 1 :]
    for who, ciphertext, where in (
        (key, changed, "audit 1 values"),
        (key, sealed[:place], "audit 1 values"),
        (key, sealed, "audit 2 values"),
        (SubjectKey("bob", secret), sealed, "audit 1 values"),
        (SubjectKey("ada", os.urandom(32)), sealed, "audit 1 values"),
    ):
        with pytest.raises(InvalidValue):
            who.decrypt(ciphertext, where)


steps = st.lists(
    st.tuples(st.sampled_from(("seal", "seal", "shred", "rotate", "back")), st.sampled_from(("ada", "bob", "cy"))),
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
async def test_in_whatever_order_things_happen_the_shredded_alone_is_unreadable(
    database_url: str, done: list[tuple[str, str]]
) -> None:
    store = await prepared(database_url)
    try:
        async with store.unit(tenant=ALL) as unit:
            await unit.execute("DELETE FROM holdfast_subject_keys")
        ring, other = BOTH, KeyRing.parse(f"{K1},{K2}")
        kept: list[tuple[str, bytes]] = []
        shredded: set[str] = set()
        for what, subject in done:
            if what == "seal":
                sealed = await seal(store, subject, subject.encode(), SubjectKeys(ring))
                assert (sealed is None) == (subject in shredded)
                kept += [] if sealed is None else [(subject, sealed)]
            elif what == "shred":
                assert await shred(store, subject) == (subject not in shredded)
                shredded.add(subject)
            else:
                ring, other = other, ring
                await subject_keys.rotate(store, ring, batch=2)
        for subject, sealed in kept:
            key = await read(store, subject, SubjectKeys(ring))
            assert (key is None) == (subject in shredded)
            assert key is None or key.decrypt(sealed, "x") == subject.encode()
    finally:
        await store.close()


async def test_the_keys_are_counted_and_rotated_and_what_is_shredded_meanwhile_stays_so(store: Store) -> None:
    assert await subject_keys.rotate(store, BOTH) is None
    assert await subject_keys.count_by_key(store, BOTH.ids) == {}
    sealed = [(f"s{number}", await seal(store, f"s{number}", b"x")) for number in range(5)]
    async with store.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE holdfast_subject_keys SET subject = 'moved' WHERE subject = 's3'")
    assert await subject_keys.count_by_key(store, BOTH.ids) == {"k2": 0, "k1": 5}
    with pytest.raises(ConfigurationError, match="'k1', which HOLDFAST_ENCRYPTION_KEYS does not have"):
        await subject_keys.rotate(store, NEW)
    told: list[int] = []
    state = await subject_keys.rotate(store, BOTH, batch=2, progress=lambda one: told.append(one.rows))
    assert state is not None
    assert (state.rows, state.done, [key for key, _ in state.unreadable]) == (4, True, ["moved"])
    assert told == [1, 3, 4] or told == [2, 4, 4]
    assert await subject_keys.count_by_key(store, BOTH.ids) == {"k2": 4, "k1": 1}
    key = await read(store, "s0", SubjectKeys(NEW))
    assert key is not None
    assert key.decrypt(sealed[0][1] or b"", "x") == b"x"
    with pytest.raises(ConfigurationError, match="k2"):
        await read(store, "s0")
    with pytest.raises(InvalidValue, match="changed"):
        await read(store, "moved")


async def test_a_key_that_is_shredded_while_it_is_rotated_does_not_come_back(
    postgres: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal(postgres, "ada", b"x")
    real = KeyRing.encrypt
    done: list[bool] = []

    def meanwhile(ring: KeyRing, plain: bytes, place: str) -> bytes:
        shredded = asyncio.run_coroutine_threadsafe(shred(postgres, "ada"), other)
        done.append(shredded.result(20))
        return real(ring, plain, place)

    other = asyncio.get_running_loop()
    monkeypatch.setattr(KeyRing, "encrypt", meanwhile)
    rotating = asyncio.to_thread(lambda: asyncio.run(rotated(postgres)))
    state = await rotating
    assert (done, state) == ([True], 0)
    assert await read(postgres, "ada", SubjectKeys(BOTH)) is None


async def rotated(store: Store) -> int:
    own = Store(store.settings)
    try:
        state = await subject_keys.rotate(own, BOTH)
        return -1 if state is None else state.rows
    finally:
        await own.close()


async def test_what_cannot_be_is_said(sqlite_url: str) -> None:
    store = Store(settings_for(sqlite_url))
    assert await subject_keys.count_by_key(store, BOTH.ids) == {}  # not migrated since
    assert await subject_keys.rotate(store, BOTH) is None
    await store.close()
    store = await prepared(sqlite_url)
    async with store.unit(tenant=ALL) as unit:
        with pytest.raises(InvalidValue, match="whose key to shred"):
            await KEYS.shred(unit, "")
        with pytest.raises(ConfigurationError, match="HOLDFAST_ENCRYPTION_KEYS"):
            await SubjectKeys(None).of(unit, ["ada"], make=True)
        assert await SubjectKeys(None).shred(unit, "long\0" + "x" * 300)
        assert list(await KEYS.of(unit, ["long\ufffd" + "x" * 250], make=False)) == ["long\ufffd" + "x" * 250]
    async with store.read(tenant=ALL) as unit:
        with pytest.raises(StoreError, match="read-only"):
            await KEYS.shred(unit, "ada")
        with pytest.raises(StoreError, match="read-only"):
            await KEYS.of(unit, ["ada"], make=True)
    await store.close()


async def test_neither_tenants_nor_backups_read_the_keys_and_nobody_deletes_one(postgres_url: str) -> None:
    store = await prepared(postgres_url)
    async with store.connect(write=True) as connection:
        await roles.create(connection)
        await tenant_policies.install(connection, [])
    allowed = {"holdfast_worker": {"SELECT", "INSERT", "UPDATE"}}
    async with store.connect() as connection:
        for role in ("holdfast_app", "holdfast_worker", "holdfast_readonly", "holdfast_backup"):
            for what in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                asked = "SELECT has_table_privilege($1, 'holdfast_subject_keys', $2)"
                may = (await connection.exec_driver_sql(asked, (role, what))).scalar()
                assert may == (what in allowed.get(role, set())), (role, what)
        assert await tenant_policies.verify(connection, []) == []
    async with store.unit(tenant=ALL) as unit:
        await unit.execute("SET LOCAL ROLE holdfast_worker")
        await KEYS.of(unit, ["ada", "bob"], make=True)
        assert await KEYS.shred(unit, "bob")
    for role in ("app", "readonly", "backup"):
        with pytest.raises(StoreError, match="permission denied"):
            async with store.unit(tenant=ALL) as unit:
                await unit.execute(f"SET LOCAL ROLE holdfast_{role}")
                await KEYS.of(unit, ["ada"], make=False)
    await seal(store, "ada", b"x")
    await store.close()
    binaries = find_postgres()
    assert binaries is not None
    dump = (binaries / "pg_dump", "--role=holdfast_backup", "-d", postgres_url)
    for options, refused in (((), True), (("--exclude-table=holdfast_subject_keys",), False)):
        process = await asyncio.create_subprocess_exec(
            *map(str, (*dump, *options)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode != 0) == refused, err
        assert (b"permission denied" in err) == refused
        assert b"ada" not in out
