"""Constraints of a tenanted table never span tenants: the model is refused, or the database refuses the row."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, MetaData, UniqueConstraint, inspect
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.errors import Conflict, ModelError
from holdfast.model import NAMING, Model, Policy, check_foreign_keys, models_of, uuid7
from holdfast.store import ALL
from tests.store.opening import opened


def base() -> type[Any]:
    """An abstract model on metadata of its own."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    return Base


def declare(
    parent: type[Any], name: str, columns: dict[str, Any], *arguments: Any, tenant: str | None = "org"
) -> type[Any]:
    """A model with text columns, or the given mapped columns."""
    return type(
        name,
        (parent,),
        {
            "__tablename__": name.lower(),
            "__module__": f"{__name__}.{uuid7()}",  # one name, one class a test
            "__policy__": Policy(tenant=tenant),
            "__table_args__": arguments,
            "__annotations__": dict.fromkeys(columns, Mapped[str]),
            **{column: kind for column, kind in columns.items() if kind is not None},
        },
    )


@pytest.mark.parametrize(
    ("columns", "arguments", "told"),
    [
        ({"org": mapped_column(nullable=True)}, (), "may be NULL"),
        (
            {"org": None, "slug": mapped_column(unique=True)},
            (),
            r"UNIQUE \(slug\) spans tenants; write UNIQUE \(org, slug\)",
        ),
        ({"org": None, "slug": None}, (UniqueConstraint("slug"),), r"UNIQUE \(slug\) spans tenants"),
        ({"org": None, "slug": mapped_column(unique=True, index=True)}, (), "ix_note_slug spans tenants"),
        ({"org": None, "slug": mapped_column(index=True)}, (), "ix_note_slug does not lead with it"),
        ({"org": None, "slug": None}, (Index("by_slug", "slug", "org"),), "by_slug does not lead with it"),
    ],
)
def test_a_constraint_that_spans_tenants_is_refused(columns: dict[str, Any], arguments: Any, told: str) -> None:
    with pytest.raises(ModelError, match=rf"Note is tenanted by 'org'.*{told}"):
        declare(base(), "Note", columns, *arguments)


def test_a_tenanted_table_gets_a_key_of_tenant_and_id_once() -> None:
    note = declare(base(), "Note", {"org": None})
    keys = [c for c in note.__table__.constraints if isinstance(c, UniqueConstraint)]
    assert [[column.name for column in key.columns] for key in keys] == [["org", "id"]]
    said = declare(base(), "Note", {"org": None}, UniqueConstraint("org", "id"))
    assert len([c for c in said.__table__.constraints if isinstance(c, UniqueConstraint)]) == 1


def test_the_table_of_the_tenants_themselves_needs_no_second_key() -> None:
    org = declare(base(), "Org", {"name": None}, tenant="id")
    assert not [c for c in org.__table__.constraints if isinstance(c, UniqueConstraint)]


@pytest.mark.parametrize(
    ("link", "right"),
    [
        (lambda: ForeignKeyConstraint(("note",), ("note.id",)), False),
        (lambda: ForeignKeyConstraint(("org", "note"), ("note.org", "note.id")), True),
        (lambda: ForeignKeyConstraint(("note", "org"), ("note.id", "note.org")), True),
        (lambda: ForeignKeyConstraint(("org", "note"), ("note.title", "note.id")), False),
    ],
)
def test_a_foreign_key_between_tenanted_tables_carries_the_tenant(link: Callable[[], Any], right: bool) -> None:
    parent = base()
    declare(parent, "Note", {"org": None, "title": None})
    declare(parent, "Page", {"org": None, "note": None}, link())
    models = models_of(parent.metadata)
    if right:
        check_foreign_keys(models)
    else:
        with pytest.raises(ModelError, match=r"Page: the foreign key .* to note leaves the tenant out; write Foreign"):
            check_foreign_keys(models)


def test_foreign_keys_to_the_tenant_and_to_shared_tables_are_free() -> None:
    parent = base()
    declare(parent, "Org", {"name": None}, tenant="id")
    declare(parent, "Country", {"name": None}, tenant=None)
    columns = {"org": mapped_column(ForeignKey("org.id")), "country": mapped_column(ForeignKey("country.id"))}
    declare(parent, "Note", columns)
    check_foreign_keys(models_of(parent.metadata))


async def test_the_database_refuses_a_row_that_points_at_another_tenants(database_url: str) -> None:
    parent = base()
    note = declare(parent, "Note", {"org": None})
    page = type(
        "Page",
        (parent,),
        {
            "__tablename__": "page",
            "__module__": f"{__name__}.{uuid7()}",
            "__policy__": Policy(tenant="org"),
            "__annotations__": {"org": Mapped[str], "note_id": Mapped[Any]},
            "note_id": mapped_column(inspect(note).local_table.c.id.type),
            "__table_args__": (ForeignKeyConstraint(("org", "note_id"), ("note.org", "note.id")),),
        },
    )
    async with opened(database_url, parent.metadata) as store:
        async with store.unit(tenant=ALL) as unit:
            mine = await unit[note].add(note(org="mine"))
            await unit[page].add(page(org="mine", note_id=mine.id))
        with pytest.raises(Conflict, match="constraint"):
            async with store.unit(tenant=ALL) as unit:
                await unit[page].add(page(org="other", note_id=mine.id))


async def test_upserting_another_tenants_key_is_a_conflict_and_not_a_way_to_the_row(database_url: str) -> None:
    parent = base()
    note = declare(parent, "Note", {"org": None, "title": None})
    key = uuid7()
    async with opened(database_url, parent.metadata) as store:
        async with store.unit(tenant=ALL) as unit:
            await unit[note].add_many([{"id": key, "org": "mine", "title": "first"}])
        with pytest.raises(Conflict):
            async with store.unit(tenant=ALL) as unit:
                await unit[note].upsert_many([{"id": key, "org": "other", "title": "stolen"}])
        async with store.unit(tenant=ALL) as unit:
            assert await unit[note].upsert_many([{"id": key, "org": "mine", "title": "second"}]) == 1
            row = await unit[note].get(key)
            assert (row.org, row.title) == ("mine", "second")
