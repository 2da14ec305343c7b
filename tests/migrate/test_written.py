"""What `migrate new` writes: each kind of change, on tables with rows, before and after the deployment."""

from __future__ import annotations

import datetime as dt
import enum
import re
from itertools import count
from pathlib import Path
from typing import Any, get_origin

import pytest
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    Uuid,
    column,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import KeyedModel, Model, Monthly, Policy, uuid7
from holdfast.errors import MigrationError
from holdfast.migrate import Limits, Migrations, execution, inspection, writer
from holdfast.model import NAMING, Amount, Text, UtcTime
from holdfast.rollup import Count, Rollup, Sum
from holdfast.store import Store
from tests.migrate.versions import fill, migrations, write

_numbers = count()
_NOW = f"{dt.datetime.now(dt.UTC):%Y-%m-%d} 00:00:00.000000"


def version(**tables: dict[str, Any]) -> MetaData:
    """The metadata of models: by table, what a class body holds, annotations among it."""

    metadata_ = MetaData(naming_convention=NAMING)

    class Base(Model):
        __abstract__ = True
        metadata = metadata_

    class KeyedBase(KeyedModel):
        __abstract__ = True
        metadata = metadata_

    for name, body in tables.items():
        plain = {key: value for key, value in body.items() if get_origin(value) is not Mapped}
        typed = {key: value for key, value in body.items() if get_origin(value) is Mapped}
        base = KeyedBase if plain.pop("__base__", None) is KeyedModel else Base
        members = {"__module__": __name__, "__tablename__": name, "__annotations__": typed, **plain}
        type(f"{name.title()}{next(_numbers)}", (base,), members)
    return metadata_


async def run(store: Store, *statements: str) -> None:
    for sql in statements:
        async with store.unit() as unit:
            await unit.execute(sql)


async def query(store: Store, sql: str) -> list[Any]:
    async with store.read() as unit:
        return [tuple(row) for row in (await unit.execute(sql)).all()]


async def test_what_the_old_program_leaves_empty_is_filled_and_not_null_after_the_deployment(
    store: Store, folder: Path
) -> None:
    begun = migrations(store, folder, version(customers={"name": Mapped[str], "nick": Mapped[str | None]}))
    await writer.write_new(begun, "Begin")
    await begun.up()
    grown = migrations(
        store, folder, version(customers={"name": Mapped[str], "nick": Mapped[str], "phone": Mapped[str]})
    )
    written = await writer.write_new(grown, "Strict")
    assert set(written.unfilled) == {"customers.nick", "customers.phone"}
    assert [path.stem for path in written.paths] == ["0002_strict", "0003_strict_tighten"]
    fill(folder, "name")
    await grown.up(phase="pre")
    await run(
        store,
        "INSERT INTO customers (name, nick) VALUES ('old', NULL)",
        "INSERT INTO customers (name, nick, phone) VALUES ('new', 'n', '1')",
    )
    await grown.up(phase="post")
    assert await query(store, "SELECT name, nick, phone FROM customers ORDER BY name") == [
        ("new", "n", "1"),
        ("old", "old", "old"),
    ]
    with pytest.raises(Exception, match=r"(?i)null"):
        await run(store, "INSERT INTO customers (name, nick) VALUES ('old', 'o')")


async def test_the_length_of_a_text_is_written(store: Store, folder: Path) -> None:
    short = version(labels={"name": Mapped[str], "code": mapped_column(Text(8), default="x")})
    written = await writer.write_new(migrations(store, folder, short), "Begin")
    assert written.left == ()
    assert "Text(8)" in written.paths[0].read_text()


async def test_what_cannot_run_is_told_and_no_file_is_left(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = migrations(store, folder, version(customers={"name": Mapped[str]}))
    await writer.write_new(begun, "Begin")
    monkeypatch.setattr(writer.generate, "render", lambda *given: ("    raise ValueError('as written')", set()))
    grown = migrations(store, folder, version(customers={"name": Mapped[str], "nick": Mapped[str | None]}))
    with pytest.raises(MigrationError, match=r"nothing was written, for .*0002_more .*as written.*--empty"):
        await writer.write_new(grown, "More")
    assert [file.revision for file in grown.files()] == ["0001_begin"]


def changed_index() -> tuple[Any, Any, list[str]]:
    columns = {"x": Mapped[int], "y": Mapped[int]}
    return (
        {"a": {**columns, "__table_args__": (Index("ix_a_x", "x"), UniqueConstraint("x", name="uq_a"))}},
        {"a": {**columns, "__table_args__": (Index("ix_a_x", "x", "y"), UniqueConstraint("x", "y", name="uq_a"))}},
        ["INSERT INTO a (x, y) VALUES (1, 1)"],
    )


def changed_foreign_key() -> tuple[Any, Any, list[str]]:
    a = {"x": Mapped[int]}
    return (
        {"a": a, "b": {"n": Mapped[int], "a_id": mapped_column(ForeignKey("a.id"))}},
        {"a": a, "b": {"n": Mapped[int], "a_id": mapped_column(ForeignKey("a.id", ondelete="CASCADE"))}},
        ["INSERT INTO a (x) VALUES (1)", "INSERT INTO b (n, a_id) SELECT 1, id FROM a"],
    )


def values_that_are_wanted() -> tuple[Any, Any, list[str]]:
    return (
        {"a": {"x": Mapped[int], "note": Mapped[str | None]}},
        {"a": {"x": Mapped[int], "note": Mapped[str], "more": Mapped[str]}},
        ["INSERT INTO a (x, note) VALUES (1, NULL)"],
    )


def keys_of_a_table_in_partitions() -> tuple[Any, Any, list[str]]:
    def monthly(**more: Any) -> Any:
        return {
            "id": mapped_column(Uuid, primary_key=True, default=uuid7),
            "at": mapped_column(UtcTime(), primary_key=True),
            "n": mapped_column(Integer, nullable=False),
            "__policy__": Policy(Monthly("at", ahead=2)),
            "__base__": KeyedModel,
            **more,
        }

    more = {
        "__table_args__": (
            UniqueConstraint("n", "at"),
            Index("ix_views_n", "n"),
            CheckConstraint("n > 0", name="some"),
        ),
        "o_id": mapped_column(ForeignKey("o.id")),
    }
    return (
        {"o": {"n": Mapped[int]}, "views": monthly()},
        {"o": {"n": Mapped[int]}, "views": monthly(**more)},
        ["INSERT INTO o (n) VALUES (1)", f"INSERT INTO views (id, at, n) SELECT id, '{_NOW}', 1 FROM o"],
    )


def key_of_partitions_that_changes() -> tuple[Any, Any, list[str]]:
    before, after, rows = keys_of_a_table_in_partitions()
    named = {"__table_args__": (UniqueConstraint("n", "at", name="uq"), Index("ix", "n"))}
    changed = {"__table_args__": (UniqueConstraint("n", "id", "at", name="uq"), Index("ix", "at"))}
    key, other = mapped_column(ForeignKey("o.id")), mapped_column(ForeignKey("o.id", ondelete="CASCADE"))
    before["views"] |= named | {"o_id": key}
    after["views"] |= changed | {"o_id": other}
    return before, after, rows


class Few(enum.Enum):
    a = "a"
    b = "b"


class More(enum.Enum):
    a = "a"
    b = "b"
    longer = "longer"


def changed_checks() -> tuple[Any, Any, list[str]]:
    def checked(rule: str, kind: Any) -> Any:
        status = Enum(kind, native_enum=False, create_constraint=True, name="status")
        return {
            "x": Mapped[int],
            "status": mapped_column(status, nullable=False),
            "__table_args__": (CheckConstraint(rule, name="rule"),),
        }

    rows = ["INSERT INTO a (x, status) VALUES (20, 'a')"]
    return {"a": checked("x > 0", Few)}, {"a": checked("x > 10", More)}, rows


def changed_types() -> tuple[Any, Any, list[str]]:
    def typed(s: Any, n: Any, d: Any) -> Any:
        columns = {"s": (s, "s"), "number": (n, None), "d": (d, None)}
        made = {name: mapped_column(kind, nullable=False, default=value) for name, (kind, value) in columns.items()}
        return {"a": {"x": Mapped[int], **made}}

    return (
        typed(String(20), Integer(), String()),
        typed(String(), BigInteger(), UtcTime()),
        ["INSERT INTO a (x, s, number, d) VALUES (1, 's', 1, '2026-01-01 00:00:00.000000')"],
    )


def a_default_of_another_type() -> tuple[Any, Any, list[str]]:
    return (
        {"a": {"x": Mapped[int], "n": mapped_column(String(), nullable=False, default="1")}},
        {"a": {"x": Mapped[int], "n": mapped_column(Integer(), nullable=False, default=2)}},
        ["INSERT INTO a (x) VALUES (1)"],
    )


def indexes_of_expressions() -> tuple[Any, Any, list[str]]:
    def table(*indexes: Index) -> Any:
        return {"a": {"x": Mapped[int], "name": Mapped[str], "__table_args__": indexes}}

    where = {"sqlite_where": text("x > 5"), "postgresql_where": text("x > 5")}
    return (
        table(Index("ix_gone", text("lower(name)")), Index("ix_changed", text("x DESC"))),
        table(Index("ix_new", text("upper(name)"), **where), Index("ix_changed", text("x DESC"), "name")),
        ["INSERT INTO a (x, name) VALUES (1, 'a')"],
    )


def columns_beside_a_computed_one() -> tuple[Any, Any, list[str]]:
    def table(length: int, **more: Any) -> Any:
        twice = mapped_column(Integer, Computed("x * 2", persisted=True))
        return {"a": {"x": Mapped[int], "twice": twice, "name": mapped_column(String(length)), **more}}

    return table(20), table(40, note=Mapped[str]), ["INSERT INTO a (x, name) VALUES (1, 'a')"]


CHANGES = {
    change.__name__: change
    for change in (
        columns_beside_a_computed_one,
        changed_checks,
        changed_types,
        a_default_of_another_type,
        indexes_of_expressions,
        values_that_are_wanted,
        keys_of_a_table_in_partitions,
        key_of_partitions_that_changes,
        changed_index,
        changed_foreign_key,
    )
}


@pytest.mark.parametrize("store", ["sqlite", "postgres", "sqld"], indirect=True)  # a pooler changes nothing of a draft
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_leads_there_and_back_and_there_again(store: Store, folder: Path, change: str) -> None:
    before, after, rows = CHANGES[change]()
    begun = migrations(store, folder, version(**before))
    assert (await writer.write_new(begun, "Begin")).left == ()
    await begun.up()
    await run(store, *rows)
    grown = migrations(store, folder, version(**after))
    written = await writer.write_new(grown, "Change")
    assert written.paths
    assert written.left == ()
    fill(folder)
    for _ in range(2):
        await grown.up()
        assert await inspection.undeclared(grown) == []
        assert await inspection.drift(grown) == []
        assert (await writer.write_new(grown, "Again")).paths == ()
        await _writes_are_captured(store, grown)
        await grown.down(to="0001_begin")
        assert await inspection.drift(grown) == []
        await _writes_are_captured(store, grown)
    assert await inspection.irreversible(grown) == []


async def test_tables_come_and_go_with_their_indexes_of_expressions(store: Store, folder: Path) -> None:
    b = {"name": Mapped[str], "__table_args__": (Index("ix_lower", text("lower(name)")),)}
    c = {"name": Mapped[str], "__table_args__": (Index("ix_upper", func.upper(column("name"))),)}
    begun = migrations(store, folder, version(b=b))
    assert (await writer.write_new(begun, "Begin")).left == ()
    await begun.up()
    grown = migrations(store, folder, version(c=c))
    assert (await writer.write_new(grown, "Other")).left == ()
    for _ in range(2):
        await grown.up()
        assert await inspection.undeclared(grown) == await inspection.drift(grown) == []
        await grown.down(to="0001_begin")
        assert await inspection.drift(grown) == []


async def test_what_rewrites_a_table_is_told_and_what_does_not_is_not(store: Store, folder: Path) -> None:
    def typed(kind: Any, number: Any) -> MetaData:
        return version(a={"name": mapped_column(kind), "number": mapped_column(number)})

    begun = migrations(store, folder, typed(String(20), Integer()))
    await writer.write_new(begun, "Begin")
    longer = await writer.write_new(migrations(store, folder, typed(String(40), Integer())), "Longer")
    assert len(longer.paths) == 1
    assert longer.rewrites == ()
    shorter = await writer.write_new(migrations(store, folder, typed(String(10), BigInteger())), "Shorter")
    assert shorter.rewrites == ("a.name", "a.number")


async def test_what_has_to_be_said_to_go_back_is_listed(store: Store, folder: Path) -> None:
    def dated(**more: Any) -> MetaData:
        return version(a={"x": Mapped[int], **more})

    begun = migrations(store, folder, dated(day=mapped_column(Date, nullable=False), n=Mapped[int]))
    await writer.write_new(begun, "Begin")
    written = await writer.write_new(migrations(store, folder, dated()), "Gone")
    assert written.unfilled_back == ("a.day",)


async def test_a_rollup_is_written_once(store: Store, folder: Path) -> None:
    policy = Policy(Rollup("daily", time="at", by=("name",), paid=Sum("amount"), many=Count()))
    columns = {"at": mapped_column(UtcTime()), "amount": mapped_column(Amount()), "name": Mapped[str]}
    a = {"__policy__": policy, **columns}
    begun = migrations(store, folder, version(a=a))
    assert (await writer.write_new(begun, "Begin")).left == ()
    await begun.up()
    assert (await writer.write_new(begun, "Again")).paths == ()


async def _writes_are_captured(store: Store, runner: Migrations) -> None:
    """All rows are there, and an update of each lands in the journal."""
    for table in sorted(runner.metadatas[0].tables):
        before = await query(store, "SELECT count(*) FROM holdfast_journal")
        rows = await query(store, f"SELECT count(*) FROM {table}")
        assert rows == [(1,)]
        await run(store, f"UPDATE {table} SET id = id, {'x = x' if table == 'a' else 'n = n'}")
        after = await query(store, "SELECT count(*) FROM holdfast_journal")
        assert after[0][0] > before[0][0], table


async def test_what_cannot_be_written_is_listed_and_no_file_says_otherwise(postgres: Store, folder: Path) -> None:
    def views(*aspects: Any, also: bool = False) -> Any:
        key = {"more": mapped_column(Integer, primary_key=True)} if also else {}
        return {
            "id": mapped_column(Uuid, primary_key=True, default=uuid7),
            "at": mapped_column(UtcTime(), primary_key=True),
            "n": mapped_column(Integer, primary_key=also, nullable=False),
            "__policy__": Policy(*aspects),
            "__base__": KeyedModel,
            **key,
        }

    begun = migrations(postgres, folder, version(views=views()))
    await writer.write_new(begun, "Begin")
    parted = await writer.write_new(migrations(postgres, folder, version(views=views(Monthly("at")))), "Parted")
    assert parted.paths == ()
    assert parted.left == ("views: partitions is missing (RANGE (at))",)
    grown = await writer.write_new(migrations(postgres, folder, version(views=views(also=True))), "Grown")
    assert "views: primary key is id, at, and declared id, at, n, more" in " ".join(grown.left)


def indexed() -> dict[str, Any]:
    return {
        "x": Mapped[int],
        "k": mapped_column(String, nullable=False, index=True),
        "u": mapped_column(String, unique=True),
        "amount": mapped_column(Amount(), default=0),
        "p_id": mapped_column(ForeignKey("p.id")),
        "__table_args__": (
            CheckConstraint("x > 0 AND length(k) < 9", name="both"),
            Index("ix_a_x_k", "x", "k"),
            Index("ix_a_part", "x", postgresql_where=text("k <> ''"), sqlite_where=text("k <> ''")),
            UniqueConstraint("x", "k"),
        ),
    }


async def test_a_column_goes_with_all_that_names_it(store: Store, folder: Path) -> None:
    p = {"n": Mapped[int]}
    begun = migrations(store, folder, version(p=p, a=indexed()))
    await writer.write_new(begun, "Begin")
    await begun.up()
    await run(store, "INSERT INTO a (x, k, u) VALUES (1, 'k', 'u')")
    less = migrations(store, folder, version(p=p, a={"x": Mapped[int]}))
    await writer.write_new(less, "Less")
    await less.up()
    assert await inspection.undeclared(less) == []
    assert await inspection.drift(less) == []
    await less.down(to="0001_begin")
    assert await query(store, "SELECT x, k FROM a") == [(1, "")]
    assert await inspection.drift(less) == []
    await less.up()
    assert await inspection.drift(less) == []


async def test_an_index_or_unique_key_of_the_name_that_is_another_one_is_not_taken_for_it(
    postgres: Store, folder: Path
) -> None:
    await run(
        postgres, "CREATE TABLE t (x INTEGER, y INTEGER, CONSTRAINT uq_t UNIQUE (x))", "CREATE INDEX ix_t ON t (x)"
    )
    more = "transactional = False"
    write(folder, "a", "op.create_index('ix_t', 't', ['x', 'y'], postgresql_concurrently=True)", more=more)
    with pytest.raises(
        MigrationError, match=r"has an index ix_t already, .*btree \(x\), not btree \(x, y\).*rename_index"
    ):
        await migrations(postgres, folder).up()
    write(folder, "a", "op.add_unique('uq_t', 't', ['x', 'y'])", more=more)
    with pytest.raises(MigrationError, match=r"unique key uq_t already, of x; .*rename_constraint"):
        await migrations(postgres, folder).up()
    both = "op.create_index('ix_t', 't', ['x'], postgresql_concurrently=True); op.add_unique('uq_t', 't', ['x'])"
    write(folder, "a", both, more=more)
    await migrations(postgres, folder).up()


@pytest.mark.parametrize("dies_after", range(1, 7))
async def test_a_foreign_key_that_is_replaced_is_taken_up_where_it_stopped(
    postgres: Store, folder: Path, dies_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(
        postgres,
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE b (a_id INTEGER CONSTRAINT fk REFERENCES a (id))",
    )
    key = "op.add_foreign_key('fk', 'b', 'a', ['a_id'], ['id'], ondelete='CASCADE', replace=True)"
    write(folder, "a", key, more="transactional = False")
    done, patiently = 0, execution.patiently

    def dying(work: Any, limits: Limits) -> Any:
        nonlocal done
        outcome = patiently(work, limits)
        done += 1
        if done == dies_after:
            raise RuntimeError("killed after the database did it")
        return outcome

    monkeypatch.setattr(execution, "patiently", dying)
    runner = migrations(postgres, folder)
    if dies_after < 6:
        with pytest.raises(MigrationError, match="killed"):
            await runner.up()
    monkeypatch.setattr(execution, "patiently", patiently)
    await runner.up()
    found = await query(
        postgres, "SELECT conname, confdeltype::text, convalidated FROM pg_constraint WHERE contype = 'f'"
    )
    assert found == [("fk", "c", True)]


async def test_rows_without_a_value_are_counted_before_anything_is_done_and_it_can_be_taken_back(
    store: Store, folder: Path
) -> None:
    begun = migrations(store, folder, version(a={"x": Mapped[str | None]}))
    await writer.write_new(begun, "Begin")
    await begun.up()
    await run(store, "INSERT INTO a (x) VALUES (NULL)")
    grown = migrations(store, folder, version(a={"x": mapped_column(String, nullable=False, default="-")}))
    assert (await writer.write_new(grown, "Strict")).unfilled == ("a.x",)
    with pytest.raises(MigrationError, match=r"0003_strict_tighten \(up\) failed, nothing of it was done: .*fill a.x"):
        await grown.up()
    tighten = grown.files()[-1].path
    tighten.write_text(re.sub(r"raise NotImplementedError\(.*\)", "pass", tighten.read_text()))
    with pytest.raises(MigrationError, match=r"a.x is NULL in 1 rows and cannot be NOT NULL; fill them"):
        await grown.up()
    assert [one.state for one in await grown.status()] == ["applied", "applied", "pending"]
    assert await inspection.drift(grown) == []
    await grown.down()
    await run(store, "UPDATE a SET x = '-'")
    await grown.up()
    assert await inspection.drift(grown) == []
