"""Encrypted columns: the database never sees a value, and nobody can change, move or guess one unseen."""

import base64
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, insert, select, update
from sqlalchemy.orm import Mapped, aliased, mapped_column

from holdfast.errors import ConfigurationError, Conflict, InvalidValue, ModelError
from holdfast.model import NAMING, Aspect, Encrypted, Expose, Model, Policy, require_columns, uuid7
from holdfast.model.keyring import KeyRing, key_id_of
from holdfast.store import ALL, Query, Store, rotation
from tests.store.opening import opened
from tests.store.vault import Account, Base, Person

K1, K2, K3 = (f"k{n}:{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3))
SECRET = "ada@example.org"
PEOPLE = Query(Person)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata, encryption_keys=K1) as store:
        yield store


async def raw(store: Store, column: str) -> list[Any]:
    async with store.read() as unit:
        return list((await unit.execute(f"SELECT {column} FROM people ORDER BY name")).scalars())


async def add(store: Store, **values: Any) -> Any:
    async with store.unit() as unit:
        return (await unit[Person].add(Person(**{"name": "ada", **values}))).id


WRITES: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": lambda people, row: people.add(Person(**row)),
    "add_many": lambda people, row: people.add_many([row]),
    "add_many of instances": lambda people, row: people.add_many([Person(**row)]),
    "upsert_many": lambda people, row: people.upsert_many([row]),
}


@pytest.mark.parametrize("way", sorted(WRITES))
async def test_what_is_written_comes_back_and_the_database_does_not_see_it(store: Store, way: str) -> None:
    row = {
        "id": uuid7(),
        "name": "ada",
        "email": SECRET,
        "note": "ünï 🐚\0",
        "photo": b"\0\xff",
        "facts": {"a": [1, None]},
    }
    async with store.unit() as unit:
        await WRITES[way](unit[Person], row)
    async with store.read() as unit:
        found = await unit[Person].get(row["id"])
        assert {name: getattr(found, name) for name in row} == row
        assert await unit[Person].first(PEOPLE.where(email=SECRET)) is found
    for column in ("email", "note", "photo_bytes", "facts", "email_blind"):
        (value,) = await raw(store, column)
        assert isinstance(value, bytes)
        assert SECRET.encode() not in value
        assert key_id_of(value) == ("k1" if column != "email_blind" else None)
    assert len(value) == 16


async def test_nothing_is_null_and_equal_values_look_different(store: Store) -> None:
    for name in "ab":
        await add(store, name=name, note="same")
    first, second = await raw(store, "note")
    assert first != second
    assert await raw(store, "email") == [None, None]
    assert await raw(store, "email_blind") == [None, None]
    async with store.read() as unit:
        assert await unit[Person].count(PEOPLE.where(facts=None, email=None)) == 2
        assert await unit[Person].count(PEOPLE.where(Person.note.is_not(None))) == 2


async def test_changing_a_value_changes_what_it_is_found_by(store: Store) -> None:
    key = await add(store, email=SECRET)
    async with store.unit() as unit:
        people = unit[Person]
        await people.update(key, email="b@example.org")
        assert await people.exists(PEOPLE.where(email="b@example.org"))
        assert not await people.exists(PEOPLE.where(email=SECRET))
        (await people.get(key)).email = "c@example.org"
        assert await people.exists(PEOPLE.where(email="c@example.org"))
        assert await people.upsert_many([{"id": key, "name": "ada", "email": "d@example.org"}]) == 1
        assert await people.exists(PEOPLE.where(email="D@EXAMPLE.ORG"))
        await people.update(key, email=None)
        assert not await people.exists(PEOPLE.where(email="d@example.org"))


async def test_a_blind_index_answers_equality_and_membership(store: Store) -> None:
    for name in "abc":
        await add(store, name=name, email=f"{name.upper()}@Example.org")
    other = aliased(Person)
    async with store.read() as unit:
        for condition, names in (
            (Person.email == "a@example.org", "a"),
            (Person.email.in_(["A@EXAMPLE.ORG", "b@example.org", "x"]), "ab"),
            (Person.email.in_([]), ""),
            (Person.email != "a@example.org", "bc"),
            (Person.email.not_in(["a@example.org", "c@example.org"]), "b"),
        ):
            assert [p.name for p in await unit[Person].list(PEOPLE.where(condition).order_by("name"))] == list(names)
        found = await unit.execute(select(other.name).where(other.email == "c@example.org"))
        assert found.scalars().all() == ["c"]
    with pytest.raises(Conflict):
        await add(store, name="again", email="a@example.ORG")


@pytest.mark.parametrize(
    "make",
    [
        lambda: PEOPLE.where(note="x"),
        lambda: PEOPLE.where(Person.note == "x"),
        lambda: PEOPLE.where(Person.note.in_(["x"])),
        lambda: PEOPLE.where(Person.email > "x"),
        lambda: PEOPLE.where(Person.email.like("x%")),
        lambda: PEOPLE.where(Person.email.contains("x")),
        lambda: PEOPLE.where(Person.email.in_(select(Person.name))),
        lambda: PEOPLE.where(Person.email == 5),
        lambda: PEOPLE.where(Person.note + "x" == "y"),
        lambda: PEOPLE.where(Person.note.between("a", "b")),
        lambda: PEOPLE.order_by("email"),
        lambda: PEOPLE.order_by("-note"),
        lambda: PEOPLE.order_by("email_blind"),
        lambda: select(Person).order_by(Person.note.desc()),
    ],
)
def test_what_cannot_be_asked_of_an_encrypted_column_is_refused_as_it_is_asked(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidValue, match="encrypted"):
        make()


class Announced(Aspect):
    def __init__(self, column: str) -> None:
        self.column = column

    def check(self, model: type[Model]) -> None:
        require_columns(model, (self.column,), "Announced")

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        return (self.column,)


@pytest.mark.parametrize(
    ("column", "policy", "told"),
    [
        (lambda: mapped_column(Encrypted(), primary_key=True), Policy(), "cannot be a key or a tenant"),
        (lambda: mapped_column(Encrypted()), Policy(tenant="secret"), "cannot be a key or a tenant"),
        (lambda: mapped_column(Encrypted(), index=True), Policy(), "declare it with blind=True"),
        (lambda: mapped_column(Encrypted(), unique=True), Policy(), "declare it with blind=True"),
        (lambda: mapped_column(Encrypted(blind=True), unique=True), Policy(), "name secret_blind"),
        (lambda: mapped_column(Encrypted(blind=True), default="x"), Policy(), "a default would not be found by it"),
        (lambda: mapped_column(Encrypted()), Policy(Announced("secret")), "which is encrypted; leave it out"),
        (lambda: mapped_column(Encrypted()), Policy(Expose(filters=("secret",))), "which is encrypted; leave it out"),
        (lambda: mapped_column(Encrypted()), Policy(Expose(sort=("secret",))), "which is encrypted; leave it out"),
        (lambda: mapped_column(Encrypted()), Policy(Expose(fields=("secret",))), "which is encrypted; leave it out"),
        (lambda: mapped_column(Encrypted()), Policy(Expose(key="secret")), "which is encrypted; leave it out"),
        (lambda: mapped_column(Encrypted(int)), Policy(), "write Encrypted()"),
        (lambda: mapped_column(Encrypted(normalise=str.lower)), Policy(), "add blind=True"),
    ],
)
def test_a_declaration_that_would_show_or_compare_ciphertext_is_a_model_error(
    column: Callable[[], Any], policy: Policy, told: str
) -> None:
    class Fresh(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    with pytest.raises(ModelError, match=told):
        type(
            "Bad",
            (Fresh,),
            {
                "__tablename__": "bad",
                "__module__": f"{__name__}.{uuid7()}",
                "__annotations__": {"secret": Mapped[str]},
                "__policy__": policy,
                "secret": column(),
            },
        )


def test_an_encrypted_column_is_not_shown_unless_asked_for() -> None:
    assert set(Expose().shown(Person)) == {"id", "name", "created_at", "updated_at", "version"}


@few
@given(at=st.integers(0, 200), bit=st.integers(0, 7))
async def test_a_changed_ciphertext_is_an_invalid_value_that_names_the_column_alone(
    store: Store, at: int, bit: int
) -> None:
    key = await add(store, name=str(uuid7()), note=SECRET)
    async with store.unit() as unit:
        value = (await unit.execute("SELECT note FROM people WHERE note IS NOT NULL")).scalars().first()
        changed = bytearray(value)
        changed[at % len(changed)] ^= 1 << bit
        await unit.execute("DELETE FROM people")
        await unit[Person].add(Person(id=key, name="x"))
        await unit.execute("UPDATE people SET note = :note", {"note": bytes(changed)})
    with pytest.raises((InvalidValue, ConfigurationError), match=r"a value in people\.note") as refused:
        async with store.read() as unit:
            await unit[Person].get(key)
    assert SECRET not in str(refused.value)
    async with store.unit() as unit:
        await unit.execute("DELETE FROM people")


@pytest.mark.parametrize(
    "junk", [b"", b"\x01", b"\x01\x02k1", b"plain text that was never encrypted at all", b"\x01\xff" + b"a" * 60]
)
async def test_what_is_no_ciphertext_is_an_invalid_value(store: Store, junk: bytes) -> None:
    key = await add(store)
    async with store.unit() as unit:
        await unit.execute("UPDATE people SET note = :note", {"note": junk})
    with pytest.raises(InvalidValue, match=r"a value in people\.note is not encrypted, or was cut"):
        async with store.read() as unit:
            await unit[Person].get(key)


async def test_a_value_cannot_be_moved_to_another_column(store: Store) -> None:
    key = await add(store, email=SECRET)
    async with store.unit() as unit:
        await unit.execute("UPDATE people SET note = email")
    with pytest.raises(InvalidValue, match=r"a value in people\.note was changed, or belongs to another column"):
        async with store.read() as unit:
            await unit[Person].get(key)


async def test_values_never_reach_logs_or_errors(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await add(store, email=SECRET)
    with caplog.at_level(logging.DEBUG):
        for write in (
            lambda unit: unit[Person].add(Person(name="b", email=SECRET)),
            lambda unit: unit[Person].add_many([{"name": "b", "email": SECRET}]),
            lambda unit: unit[Person].add_many([{"name": None, "email": SECRET, "note": SECRET}]),
            lambda unit: unit[Person].add_many([{"name": "b", "note": [SECRET]}]),
            lambda unit: unit[Person].add_many([{"name": "b", "facts": {SECRET: object()}}]),
        ):
            with pytest.raises((Conflict, InvalidValue)) as refused:
                async with store.unit() as unit:
                    await write(unit)
            for error in (refused.value, refused.value.__cause__, refused.value.__context__):
                assert SECRET not in f"{error!r} {error}"
    assert SECRET not in caplog.text
    assert SECRET not in repr(Person(name="n", email=SECRET))


async def test_statements_that_would_leave_a_blind_index_behind_are_refused(store: Store) -> None:
    async with store.unit() as unit:
        for statement in (
            update(Person).values(email="x"),
            insert(Person).values(id=uuid7(), name="x", email="x"),
        ):
            with pytest.raises(InvalidValue, match="email is encrypted with a blind index, which this statement"):
                await unit.execute(statement)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (None, "needs HOLDFAST_ENCRYPTION_KEYS"),
        ("c2VjcmV0", "key 1 of HOLDFAST_ENCRYPTION_KEYS is not id:base64"),
        ("k1:c2VjcmV0", "the key 'k1' of HOLDFAST_ENCRYPTION_KEYS is not 32 bytes in base64"),
        ("k1:!!", "is not 32 bytes"),
        (f"{K1},{K1}", "has the key 'k1' twice"),
        (",".join(f"k{n}:{K1[3:]}" for n in range(5)), "has 5 keys and may have 4"),
        (f"{K1}:read,{K2}", "'k1' is there for reading alone"),
        (f"{K1},k2:c2VjcmV0:read", "the key 'k2' of HOLDFAST_ENCRYPTION_KEYS is not 32 bytes in base64"),
        (f"{K1},{K2}:write", "the key 'k2' of HOLDFAST_ENCRYPTION_KEYS is not 32 bytes in base64"),
    ],
)
async def test_a_ring_that_cannot_be_is_told_when_it_is_needed_without_the_key(
    sqlite_url: str, keys: str | None, told: str
) -> None:
    async with opened(sqlite_url, Base.metadata, encryption_keys=keys) as store:
        async with store.unit() as unit:
            await unit[Person].add(Person(name="needs none"))
        with pytest.raises(ConfigurationError, match=told) as refused:
            await add(store, note=SECRET)
    assert "c2VjcmV0" not in str(refused.value)


def test_a_ring_shows_its_ids_alone() -> None:
    assert repr(KeyRing.parse(f"{K2},{K1}")) == "<KeyRing k2, k1>"


async def test_keys_for_reading_alone_are_any_number_and_look_ups_leave_them_out(sqlite_url: str) -> None:
    first = ",".join(f"n{n}:{K3[3:]}" for n in range(4))
    many = ",".join(f"r{n}:{K2[3:]}:read" for n in range(20))
    text = f"{first}, {many}, {K1}:read"
    ring = KeyRing.parse(text)
    assert (len(ring.ids), ring.searched) == (25, ("n0", "n1", "n2", "n3"))
    assert K1[3:] not in repr(ring)
    async with opened(sqlite_url, Base.metadata, encryption_keys=K1) as store:
        key = await add(store, email=SECRET)
    async with opened(sqlite_url, Base.metadata, encryption_keys=text) as store:
        async with store.read() as unit:
            assert not await unit[Person].exists(PEOPLE.where(email=SECRET))  # which the checklist tells as wrong
            assert (await unit[Person].get(key)).email == SECRET
        assert (await rotation.count_by_key(store, [Person]))["people.email"]["k1"] == 1
        await rotation.rotate(store, [Person])
        async with store.read() as unit:
            assert await unit[Person].exists(PEOPLE.where(email=SECRET))


async def test_a_tenants_values_are_found_in_its_unit_only(store: Store) -> None:
    async with store.unit(tenant="t1") as unit:
        await unit[Account].add_many([{"iban": "DE1"}])
        assert await unit[Account].count(Query(Account).where(iban="DE1")) == 1
    async with store.unit(tenant="t2") as unit:
        assert await unit[Account].count(Query(Account).where(iban="DE1")) == 0
        await unit[Account].add(Account(iban="DE1"))
    async with store.unit(tenant=ALL) as unit:
        assert await unit[Account].count(Query(Account).where(Account.iban == "DE1")) == 2


async def test_rotation_goes_on_where_it_was_and_lookups_work_throughout(database_url: str) -> None:
    rows = 25
    async with opened(database_url, Base.metadata, encryption_keys=K1) as store:
        async with store.unit() as unit:
            await unit[Person].add_many(
                [{"name": f"{n:02}", "email": f"{n}@x", "note": f"note {n}"} for n in range(rows)]
            )
            await unit[Person].add(Person(name="99"))
        before = [(p.updated_at, p.version) for p in await everybody(store)]

    async with opened(database_url, encryption_keys=f"{K2},{K1}") as store:
        await add(store, name="new", email="new@x", note="n")
        assert await rotation.count_by_key(store, [Person]) == {
            "people.email": {"k2": 1, "k1": rows},
            "people.note": {"k2": 1, "k1": rows},
            "people.photo_bytes": {"k2": 0, "k1": 0},
            "people.facts": {"k2": 0, "k1": 0},
        }

        def interrupt(one: rotation.Rotated) -> None:
            if one.rows >= 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await rotation.rotate(store, [Person], batch=5, progress=interrupt)
        counts = await rotation.count_by_key(store, [Person])
        assert counts["people.email"] == {"k2": 11, "k1": rows - 10}
        async with store.read() as unit:
            for n in (0, 24):
                assert await unit[Person].count(PEOPLE.where(email=f"{n}@x")) == 1
        told: list[rotation.Rotated] = []
        (done,) = await rotation.rotate(store, [Person], batch=5, progress=told.append)
        assert (done.table, done.rows, done.done) == ("people", rows - 10, True)
        assert told[-1] == done
        assert (await rotation.rotate(store, [Person, Account]))[0].rows == 0
        with pytest.raises(InvalidValue, match="at least 1 row"):
            await rotation.rotate(store, [Person], batch=0)

    async with opened(database_url, encryption_keys=K2) as store:
        people = await everybody(store)
        assert [(p.updated_at, p.version) for p in people if p.name != "new"] == before
        assert [p.note for p in people[:rows]] == [f"note {n}" for n in range(rows)]
        async with store.read() as unit:
            assert await unit[Person].count(PEOPLE.where(Person.email.in_([f"{n}@x" for n in range(rows)]))) == rows
        assert (await rotation.count_by_key(store, [Person]))["people.email"] == {"k2": rows + 1}
    async with opened(database_url, encryption_keys=K3) as store:
        with pytest.raises(
            ConfigurationError, match="under the key 'k2', which HOLDFAST_ENCRYPTION_KEYS does not have"
        ):
            await everybody(store)
        assert (await rotation.count_by_key(store, [Person]))["people.email"] == {"k3": 0, "other": rows + 1}


async def everybody(store: Store) -> list[Person]:
    async with store.read() as unit:
        return await unit[Person].list(PEOPLE.order_by("name"))


async def test_a_row_that_cannot_be_read_keeps_no_other_under_the_old_key(database_url: str) -> None:
    async with opened(database_url, Base.metadata, encryption_keys=K1) as store:
        async with store.unit() as unit:
            await unit[Person].add_many([{"name": f"{n:02}", "email": f"{n}@x"} for n in range(12)])
        async with store.read() as unit:
            broken = (await unit[Person].list(PEOPLE.where(name="04")))[0].id
        async with store.unit() as unit:
            whole = (await unit.execute("SELECT email FROM people WHERE name = '04'")).scalar_one()
            cut = whole[:-1] + bytes([whole[-1] ^ 1])
            await unit.execute("UPDATE people SET email = :email WHERE name = '04'", {"email": cut})
    async with opened(database_url, encryption_keys=f"{K2},{K1}") as store:
        (done,) = await rotation.rotate(store, [Person], batch=5)
        assert done.rows == 11
        [(key, reason)] = done.unreadable
        assert key == str(broken)
        assert reason.startswith("a value in people.email was changed")
        assert (await rotation.count_by_key(store, [Person]))["people.email"] == {"k2": 11, "k1": 1}


async def test_an_upsert_that_changes_nothing_that_can_be_told_writes_nothing(store: Store) -> None:
    key = uuid7()
    async with store.unit(tenant="t1") as unit:
        assert await unit[Account].upsert_many([{"id": key, "iban": "DE1"}]) == 1
        assert await unit[Account].upsert_many([{"id": key, "iban": "DE1"}]) == 0
        assert await unit[Account].upsert_many([{"id": key, "iban": "DE2"}]) == 1
        assert (await unit[Account].get(key)).iban in ("DE1", "DE2")
