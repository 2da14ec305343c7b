"""What `migrate new` writes: each kind of change, on tables with rows, before and after the deployment."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, get_origin

import pytest
from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Model
from holdfast.errors import MigrationError
from holdfast.migrate import inspection, writer
from holdfast.model import NAMING, Amount
from holdfast.store import Store
from tests.migrate.versions import fill, migrations

_numbers = count()


def version(**tables: dict[str, Any]) -> MetaData:
    """The metadata of models: by table, what a class body holds, annotations among it."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    for name, body in tables.items():
        plain = {key: value for key, value in body.items() if get_origin(value) is not Mapped}
        typed = {key: value for key, value in body.items() if get_origin(value) is Mapped}
        members = {"__module__": __name__, "__tablename__": name, "__annotations__": typed, **plain}
        type(f"{name.title()}{next(_numbers)}", (Base,), members)
    return Base.metadata


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
