"""On SQLite, replaying the journal gives the table, whatever the statements and their conflict clauses."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import journal
from holdfast.journal.shapes import Shapes
from holdfast.model import Model, Policy
from holdfast.settings import Settings
from holdfast.store import Store
from tests.journal.conftest import Facts


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Keyed(Base):
    """A text key, as all models have; two more unique keys, one of two columns."""

    __tablename__ = "keyed"
    __policy__ = Policy(Facts("u", "a", "b", "v"))
    __table_args__ = (UniqueConstraint("u"), UniqueConstraint("a", "b"))
    id: Mapped[str] = mapped_column(primary_key=True)
    u: Mapped[int | None]
    a: Mapped[int | None]
    b: Mapped[int | None]
    v: Mapped[int | None]


class Numbered(Base):
    """An integer key, which is the rowid."""

    __tablename__ = "numbered"
    __policy__ = Policy(Facts("u", "a", "b", "v"))
    __table_args__ = (UniqueConstraint("u"), UniqueConstraint("a", "b"))
    id: Mapped[int] = mapped_column(primary_key=True)
    u: Mapped[int | None]
    a: Mapped[int | None]
    b: Mapped[int | None]
    v: Mapped[int | None]


class Rowless(Base):
    """A table without a rowid."""

    __tablename__ = "rowless"
    __policy__ = Policy(Facts("u", "a", "b", "v"))
    __table_args__ = (UniqueConstraint("u"), UniqueConstraint("a", "b"), {"sqlite_with_rowid": False})
    id: Mapped[str] = mapped_column(primary_key=True)
    u: Mapped[int | None]
    a: Mapped[int | None]
    b: Mapped[int | None]
    v: Mapped[int | None]


async def make(file: Path) -> None:
    store = Store(Settings(database_url=f"sqlite:///{file}"))
    async with store.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        # A partial index is unique only where its condition holds.
        for table in ("keyed", "numbered", "rowless"):
            await connection.exec_driver_sql(f"CREATE UNIQUE INDEX {table}_v ON {table} (v) WHERE u > 2")
        await journal.install(connection, [Keyed, Numbered, Rowless])
        assert await journal.verify(connection, [Keyed, Numbered, Rowless]) == []
    await store.close()


class Template:
    """A captured schema that can be made anew quickly."""

    def __init__(self, file: Path) -> None:
        connection = sqlite3.connect(file)
        self._script = "\n".join(connection.iterdump())
        connection.close()

    def open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(self._script)
        return connection


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(make(file))
    return Template(file)


KEYS = st.integers(1, 4)
VALUES = st.one_of(st.none(), st.integers(1, 4))
ROWS = st.tuples(KEYS, VALUES, VALUES, VALUES, VALUES)
OR = st.sampled_from(["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"])
COLUMNS = st.sampled_from(["id", "u", "a", "b", "v"])
CONFLICTS = st.sampled_from(
    [
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "ON CONFLICT (u) DO UPDATE SET a = excluded.a, v = 9",
        "ON CONFLICT (id) DO UPDATE SET id = excluded.u",
        "ON CONFLICT (a, b) DO NOTHING",
    ]
)
STATEMENTS = st.one_of(
    st.tuples(st.just("insert"), OR, st.lists(ROWS, min_size=1, max_size=3)),
    st.tuples(st.just("upsert"), CONFLICTS, st.lists(ROWS, min_size=1, max_size=3)),
    st.tuples(st.just("update"), OR, COLUMNS, VALUES, st.one_of(st.none(), KEYS)),
    st.tuples(st.just("shift"), OR, COLUMNS, st.sampled_from([-1, 1])),
    st.tuples(st.just("delete"), st.one_of(st.none(), KEYS)),
    st.tuples(st.just("rollback"), ROWS),
)


def run(connection: sqlite3.Connection, table: str, statement: tuple[Any, ...], *, automatic: bool) -> None:
    kind, *rest = statement
    key = str if table != "numbered" else int
    if kind == "insert" or kind == "upsert":
        clause, rows = rest
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
        values = [part for row in rows for part in (key(row[0]), *row[1:])]
        if automatic:
            values[0] = None  # an integer key of SQLite's own choice
        head, tail = (f"INSERT {clause}", "") if kind == "insert" else ("INSERT", clause)
        connection.execute(f"{head} INTO {table} (id, u, a, b, v) VALUES {places} {tail}", values)
    elif kind == "update":
        clause, column, value, where = rest
        condition = "" if where is None else f"WHERE id = '{where}'"
        connection.execute(f"UPDATE {clause} {table} SET {column} = ? {condition}", (value,))
    elif kind == "shift":
        clause, column, by = rest
        connection.execute(f"UPDATE {clause} {table} SET {column} = {column} + ?", (by,))
    elif kind == "delete":
        connection.execute(f"DELETE FROM {table}" + ("" if rest[0] is None else f" WHERE id = '{rest[0]}'"))
    else:
        connection.execute("SAVEPOINT s")
        try:
            run(connection, table, ("insert", "OR REPLACE", [rest[0]]), automatic=automatic)
        finally:
            connection.execute("ROLLBACK TO s")
            connection.execute("RELEASE s")


def replay(connection: sqlite3.Connection, shapes: Shapes) -> dict[str, tuple[Any, ...]]:
    """The table as the journal tells it; every change must fit what was there before it."""
    rows: dict[str, tuple[Any, ...]] = {}
    for seq, shape, op, body in connection.execute("SELECT seq, shape, op, body FROM holdfast_journal ORDER BY seq"):
        for change in shapes.changes(shape, op, seq, seq, None, None, None, body):
            assert change.key is not None
            old = None if change.old is None else tuple(change.old.values())
            assert rows.get(change.key) == old, f"{change.op} of {change.key}: {rows.get(change.key)} is not {old}"
            if change.new is None:
                del rows[change.key]
            else:
                rows[change.key] = tuple(change.new.values())
    return rows


@pytest.mark.parametrize("table", ["keyed", "numbered", "rowless"])
@pytest.mark.parametrize("recursive", [False, True])
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statements=st.lists(STATEMENTS, max_size=12), automatic=st.booleans())
@example([("insert", "", [(1, 1, 1, 1, 1)]), ("insert", "OR REPLACE", [(1, 2, 2, 2, 2)])], False)
@example([("insert", "", [(1, 1, 1, 1, 1), (2, 2, 2, 2, 2)]), ("insert", "OR REPLACE", [(3, 1, 2, 2, 3)])], False)
@example(
    [
        ("insert", "", [(1, 1, None, None, 1)]),
        ("insert", "OR IGNORE", [(2, 1, None, None, 2)]),
        ("update", "", "v", 3, 1),
        ("insert", "OR REPLACE", [(3, 1, None, None, 3)]),
        ("insert", "", [(4, 4, None, None, None)]),
    ],
    False,
)
@example([("insert", "", [(1, 1, 1, 1, 1), (2, 2, 2, 2, 2), (3, 3, 3, 3, 3)]), ("shift", "OR REPLACE", "id", 1)], False)
@example(
    [("insert", "", [(1, 1, 1, 1, 1)]), ("upsert", "ON CONFLICT DO NOTHING", [(1, 2, 2, 2, 2)]), ("delete", 1)], False
)
def test_replaying_the_journal_gives_the_table(
    template: Template, table: str, recursive: bool, statements: list[tuple[Any, ...]], automatic: bool
) -> None:
    connection = template.open()
    connection.execute(f"PRAGMA recursive_triggers = {int(recursive)}")
    shapes = Shapes("sqlite")
    for number, definition in connection.execute("SELECT id, definition FROM holdfast_shapes"):
        shapes.add(number, definition)
    for statement in statements:
        with contextlib.suppress(sqlite3.IntegrityError):  # refused; what it did before FAIL stays
            run(connection, table, statement, automatic=automatic and table == "numbered")
    there = {str(row[0]): tuple(row[1:]) for row in connection.execute(f"SELECT id, u, a, b, v FROM {table}")}
    assert replay(connection, shapes) == there
    connection.close()
