"""No row crosses tenants: whatever is done, by whichever way, in whatever context."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    ForeignKey,
    MetaData,
    String,
    Table,
    Uuid,
    column,
    delete,
    exists,
    func,
    insert,
    join,
    literal,
    literal_column,
    select,
    table,
    text,
    true,
    union,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    Mapped,
    aliased,
    column_property,
    joinedload,
    make_transient_to_detached,
    mapped_column,
    relationship,
    undefer,
    with_expression,
)

from holdfast.errors import HoldfastError, InvalidValue, ModelError, NotFound, WrongTenant
from holdfast.model import Model, Policy, uuid7
from holdfast.store import ALL, Query, Store, Unit
from holdfast.store.namesakes import confined_by_name, namesakes
from tests.store.conftest import statements
from tests.store.office import Base, Country, Folder, Membership, Report, Sheet
from tests.store.opening import opened

OWN, OTHER = "t1", "t2"
GARBAGE = ["", " ", " t1", "t1\n", "t\0", "x" * 256, 5, b"t1", ["t1"], "t\u200b"]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


Keys = dict[str, Any]
TABLE = Folder.__table__
EITHER = "folders.org = :org OR folders.title <> ''"


async def fill(store: Store) -> Keys:
    """One country; per tenant a folder with a sheet, a deleted folder and a membership."""
    keys: Keys = {"country": uuid7(), "member": uuid7(), "report": uuid7()}
    async with store.unit(tenant=ALL) as unit:
        for table in ("sheets", "folders", "memberships", "countries", "reports"):
            await unit.execute(f"DELETE FROM {table}")
        await unit[Country].add(Country(id=keys["country"], name="shared"))
        await unit[Report].add(Report(id=keys["report"], name="shared"))
        for org in (OWN, OTHER):
            for title in ("kept", "deleted"):
                folder = Folder(org=org, title=f"{title} {org}", country_id=keys["country"])
                keys[f"{title} {org}"] = (await unit[Folder].add(folder)).id
            sheet = Sheet(org=org, folder_id=keys[f"kept {org}"], text=f"sheet {org}")
            keys[f"sheet {org}"] = (await unit[Sheet].add(sheet)).id
            await unit[Membership].add(Membership(org=org, member=keys["member"], role=f"role {org}"))
            await unit[Folder].delete(keys[f"deleted {org}"])
    return keys


async def snapshot(store: Store) -> list[Any]:
    """Every row of the other tenant, as the database has it."""
    async with store.unit(tenant=ALL) as unit:
        return [
            sorted(map(str, (await unit.execute(f"SELECT * FROM {table} WHERE org = :org", {"org": OTHER})).all()))
            for table in ("folders", "sheets", "memberships")
        ]


@pytest.fixture
async def keys(store: Store) -> Keys:
    return await fill(store)


Operation = Callable[[Unit, Keys, str], Awaitable[Any]]


async def _stream(unit: Unit, keys: Keys, org: str) -> Any:
    return [row.title async for row in unit[Folder].stream(Query(Folder).with_deleted())]


async def _all_pages(unit: Unit, keys: Keys, org: str) -> Any:
    query = Query(Folder).with_deleted().order_by("title")
    page = await unit[Folder].page(query, limit=1, total=True)
    seen = [page.items, page.total]
    while page.next:
        page = await unit[Folder].page(query, limit=1, after=page.next, total=True)
        seen += [page.items, page.total]
    return seen


async def _included(unit: Unit, keys: Keys, org: str) -> Any:
    country = await unit[Country].get(keys["country"], include=("folders.sheets",))
    return [(folder.title, [sheet.text for sheet in folder.sheets]) for folder in country.folders]


async def _joined(unit: Unit, keys: Keys, org: str) -> Any:
    statement = select(Country).options(joinedload(Country.folders).joinedload(Folder.sheets))
    (country,) = (await unit.execute(statement)).unique().scalars()
    return [(folder.title, [sheet.text for sheet in folder.sheets]) for folder in country.folders]


async def _lazily(unit: Unit, keys: Keys, org: str) -> Any:
    country = await unit[Country].get(keys["country"])
    return await unit.session.run_sync(lambda session: [folder.title for folder in country.folders])


async def _attached(unit: Unit, keys: Keys, org: str) -> Any:
    """A row of `org` that was read elsewhere, changed in this unit."""
    async with unit.store.read(tenant=ALL) as reading:
        row = await reading[Folder].get(keys[f"kept {org}"])
    unit.session.add(row)
    row.pages = 99
    await unit.flush()


async def _moved(unit: Unit, keys: Keys, org: str) -> Any:
    row = await unit[Folder].first(Query(Folder))
    if row is not None:
        row.org = org
        await unit.flush()


async def _removed(unit: Unit, keys: Keys, org: str) -> Any:
    async with unit.store.read(tenant=ALL) as reading:
        row = await reading[Sheet].get(keys[f"sheet {org}"])
    await unit.session.delete(row)
    await unit.flush()


async def _merged(unit: Unit, keys: Keys, org: str) -> None:
    await unit.session.merge(Folder(id=keys[f"kept {org}"], org=org, title="merged"))


async def _report(unit: Unit, keys: Keys, org: str) -> Any:
    """The columns of a row that are SELECTs, as it is read, read again, and loaded later."""
    row = await unit[Report].get(keys["report"])
    seen = [row.folders]
    await unit.session.refresh(row)
    seen += [row.folders, await unit.session.run_sync(lambda session: row.last)]
    unit.session.expire(row)
    return [*seen, await unit.session.run_sync(lambda session: (row.folders, row.last))]


async def _asked(unit: Unit, keys: Keys, org: str) -> Any:
    last = select(func.max(Folder.title)).scalar_subquery()
    statement = select(Report).options(with_expression(Report.asked, last), undefer(Report.last))
    (row,) = (await unit.execute(statement)).scalars()
    return [row.asked, row.last]


async def _core_option(unit: Unit, keys: Keys, org: str) -> Any:
    last = select(func.max(TABLE.c.title)).scalar_subquery()
    (row,) = (await unit.execute(select(Report).options(with_expression(Report.asked, last)))).scalars()
    return row.asked


# The same table, made up anew: nothing but its name tells whose it is.
LIGHT = table("folders", column("id"), column("org"), column("title"), column("country_id"))
COPY = Table("FOLDERS", MetaData(), Column("id", Uuid), Column("org", String), Column("title", String))
OUT = "1 = 1) OR (folders.title <> ''"
_CORE_JOIN = join(Country, TABLE, TABLE.c.country_id == Country.id)


def _of_a_folder(title: str) -> Any:
    return (
        select(func.max(Country.name)).where(Country.id == Folder.country_id, Folder.title == title).scalar_subquery()
    )


def _or_empty(expression: Any) -> Any:
    return func.coalesce(expression, "")


def _copying(make: Callable[[Any], Any]) -> Operation:
    """Write what a SELECT on folders gives into everybody's rows, and look."""

    async def operation(unit: Unit, keys: Keys, org: str) -> Any:
        result: Any = await unit.execute(make(select(func.max(Folder.title)).scalar_subquery()))
        seen = result.all() if getattr(result, "returns_rows", True) else None
        return [seen, (await unit.execute(select(Country.name))).all()]

    return operation


async def _upserted(unit: Unit, last: Any) -> Any:
    insert_or_update = (sqlite if unit.store.dialect == "sqlite" else postgresql).insert(Country)
    every = insert_or_update.from_select(["id", "name"], select(Country.id, Country.name).where(true()))
    await unit.execute(
        every.on_conflict_do_update(index_elements=["id"], set_={"name": _or_empty(last.scalar_subquery())})
    )
    return (await unit.execute(select(Country.name))).all()


def _made_up(model: type[Any], keys: Keys, org: str, claimed: str = OWN) -> Any:
    """An object that claims to be a row of `org`'s that was read, and to be of `claimed`."""
    row = model(id=keys[f"{'kept' if model is Folder else 'sheet'} {org}"], org=claimed)
    make_transient_to_detached(row)
    return row


async def _made_up_change(unit: Unit, keys: Keys, org: str) -> Any:
    row = _made_up(Folder, keys, org)
    unit.session.add(row)
    row.title = "changed"
    await unit.flush()


async def _made_up_relation(unit: Unit, keys: Keys, org: str) -> Any:
    """The foreign key of a row is set by what it is put into, which changes nothing of the row itself."""
    unit.session.add(Country(name="new", folders=[_made_up(Folder, keys, org)]))
    await unit.flush()


async def _made_up_removal(unit: Unit, keys: Keys, org: str) -> Any:
    await unit.session.delete(_made_up(Sheet, keys, org))
    await unit.flush()


async def _made_up_merge(unit: Unit, keys: Keys, org: str) -> Any:
    row = await unit.session.merge(_made_up(Folder, keys, org), load=False)
    row.title = "merged"
    await unit.flush()


async def _read_again(unit: Unit, keys: Keys, org: str) -> Any:
    row = _made_up(Folder, keys, org)
    unit.session.add(row)
    seen = []
    with contextlib.suppress(InvalidRequestError):
        await unit.session.refresh(row)
        seen.append(row.title)
    unit.session.expire(row)
    with contextlib.suppress(InvalidRequestError):
        seen.append(await unit.session.run_sync(lambda session: row.title))
    with contextlib.suppress(InvalidRequestError):
        await unit.session.refresh(row, ["sheets"])
        seen.append([sheet.text for sheet in row.sheets])
    assert org == unit.tenant or not seen[:2]
    return seen


def _given(expression: Callable[[], Any]) -> Operation:
    """A SELECT as the value of an attribute, of a new row and of one that was read."""

    async def operation(unit: Unit, keys: Keys, org: str) -> Any:
        new = Country(name=expression())
        if org == OWN:
            country = await unit[Country].get(keys["country"])
            country.name = expression()
            await unit.flush()
        else:
            await unit[Country].add(new)
        return (await unit.execute(select(Country.name))).all()

    return operation


def _run(make: Callable[[Keys, str], Any]) -> Operation:
    async def operation(unit: Unit, keys: Keys, org: str) -> Any:
        result: Any = await unit.execute(make(keys, org))
        return result.all() if getattr(result, "returns_rows", True) else None

    return operation


FOLDERS = Query(Folder)
READS: dict[str, Operation] = {
    "get": lambda u, k, o: u[Folder].get(k[f"kept {o}"]),
    "get with include": lambda u, k, o: u[Folder].get(k[f"kept {o}"], include=("sheets",)),
    "find": lambda u, k, o: u[Folder].find(k[f"kept {o}"]),
    "get_many": lambda u, k, o: u[Folder].get_many([k[f"kept {o}"], k[f"deleted {o}"]]),
    "get by a key of several": lambda u, k, o: u[Membership].find((o, k["member"])),
    "list": lambda u, k, o: u[Folder].list(FOLDERS.with_deleted()),
    "list where": lambda u, k, o: u[Folder].list(FOLDERS.where(Folder.org == o)),
    "first": lambda u, k, o: u[Folder].first(FOLDERS.where(org=o)),
    "count": lambda u, k, o: u[Folder].count(FOLDERS.where(org=o)),
    "exists": lambda u, k, o: u[Folder].exists(FOLDERS.where(org=o)),
    "only deleted": lambda u, k, o: u[Folder].list(FOLDERS.only_deleted()),
    "pages": _all_pages,
    "stream": _stream,
    "include": _included,
    "has": lambda u, k, o: u[Country].count(Query(Country).where(Country.folders.any(org=o))),
    "joinedload": _joined,
    "lazily": _lazily,
    "select": _run(lambda k, o: select(Folder)),
    "select columns": _run(lambda k, o: select(Folder.title).where(Folder.org == o)),
    "select an alias": _run(lambda k, o: select(aliased(Folder).title)),
    "sum": _run(lambda k, o: select(func.sum(Folder.pages), func.count()).where(Folder.org == o)),
    "subquery": _run(lambda k, o: select(select(Folder.title).subquery())),
    "scalar subquery": _run(lambda k, o: select(literal(1), select(func.count(Folder.id)).scalar_subquery())),
    "in a subquery": _run(lambda k, o: select(Country.name).where(Country.id.in_(select(Folder.country_id)))),
    "exists around": _run(lambda k, o: select(exists().where(Folder.org == o))),
    "union": _run(lambda k, o: union(select(Folder.title), select(Sheet.text))),
    "cte": _run(lambda k, o: select(select(Folder.title).cte())),
    "join": _run(lambda k, o: select(Country.name, Folder.title).join(Country.folders)),
    "join on": _run(lambda k, o: select(Country.name, Sheet.text).join(Sheet, Sheet.org == o)),
    "join an alias": _run(lambda k, o: select(Country.name).join(Country.folders.of_type(aliased(Folder)))),
    "core": _run(lambda k, o: select(Folder.__table__)),
    "core inside": _run(lambda k, o: select(Country.name).where(Country.id.in_(select(Folder.__table__.c.country_id)))),
    "mapped columns": _report,
    "mapped columns in a list": lambda u, k, o: u[Report].list(),
    "mapped columns in a page": lambda u, k, o: u[Report].page(Query(Report).where(Report.last != "")),
    "mapped column alone": _run(lambda k, o: select(Report.last)),
    "mapped column in an order": _run(lambda k, o: select(Report.folders).order_by(Report.last)),
    "mapped columns through an option": _asked,
    "core in an option": _core_option,
    "a column of the core": _run(lambda k, o: select(Country.name, TABLE.c.title)),
    "a column of the core in a function": _run(lambda k, o: select(Country.name, func.max(TABLE.c.title))),
    "a column of the core instead": _run(lambda k, o: select(Folder).with_only_columns(TABLE.c.title)),
    "a join of the core": _run(lambda k, o: select(Country.name, TABLE.c.title).join(TABLE, true())),
    "a join of the core inside": _run(lambda k, o: select(Country.name, TABLE.c.title).select_from(_CORE_JOIN)),
    "an alias of the core": _run(lambda k, o: select(Country.name, TABLE.alias("x").c.title)),
    "a cte of the core": _run(lambda k, o: select(select(Country.id, TABLE.c.title).cte())),
    "a condition alone": _run(lambda k, o: select(Country.name).where(func.lower(Folder.title) == f"kept {o}")),
    "a condition of the core": _run(
        lambda k, o: select(Country.name).where(select(Country.id).where(TABLE.c.title == f"kept {o}").exists())
    ),
    "not correlated": _run(lambda k, o: select(Folder.title, _of_a_folder(f"kept {o}").correlate(None))),
    "from_statement": _run(
        lambda k, o: select(Country).from_statement(select(Country.id, TABLE.c.title.label("name")))
    ),
    "text with OR": lambda u, k, o: u[Folder].list(FOLDERS.where(text(EITHER).bindparams(org=o))),
    "written out with OR": lambda u, k, o: u[Folder].count(
        FOLDERS.where(literal_column(f"folders.org = '{o}' OR 1 = 1"))
    ),
    "text with OR inside": _run(
        lambda k, o: select(select(Folder.title).where(text(EITHER).bindparams(org=o)).scalar_subquery())
    ),
    "text with OR in a join": _run(
        lambda k, o: select(Country.name, Folder.title).outerjoin(Folder, text(EITHER).bindparams(org=o))
    ),
    "a light table": _run(lambda k, o: select(LIGHT)),
    "a light table beside a model": _run(lambda k, o: select(Country.name, LIGHT.c.title)),
    "a light table in a condition": _run(
        lambda k, o: select(Country.name).where(Country.id.in_(select(LIGHT.c.country_id).where(LIGHT.c.org == o)))
    ),
    "a light table joined": _run(lambda k, o: select(Country.name, LIGHT.c.title).join(LIGHT, true())),
    "an alias of a light table": _run(lambda k, o: select(LIGHT.alias("x").c.title)),
    "a cte of a light table": _run(lambda k, o: select(select(LIGHT.c.title).cte())),
    "a light table in an option": _run(
        lambda k, o: select(Report).options(with_expression(Report.asked, select(LIGHT.c.title).scalar_subquery()))
    ),
    "a copied table": _run(lambda k, o: select(TABLE.to_metadata(MetaData()))),
    "a table of ones own": _run(lambda k, o: select(COPY.c.title)),
    "a table of ones own in a schema": _run(lambda k, o: select(COPY.to_metadata(MetaData(), schema="main"))),
    "text out of its parentheses": lambda u, k, o: u[Folder].list(FOLDERS.where(text(OUT))),
    "written out of its parentheses": _run(lambda k, o: select(Folder).where(literal_column(OUT))),
    "text out of its parentheses in a join": _run(
        lambda k, o: select(Country.name, Folder.title).outerjoin(Folder, text(OUT))
    ),
    "an operator out of its parentheses": _run(
        lambda k, o: select(Folder).where(Folder.title.op("<> '') OR ('' <>")(Folder.title))
    ),
    "a comment": _run(lambda k, o: select(Folder).where(Folder.title != "", text("1 = 1) --"))),
    "a prefix": _run(lambda k, o: select(Folder.title).prefix_with("title FROM folders UNION ALL SELECT")),
    "a prefix with a SELECT": _run(
        lambda k, o: select(Folder.title).prefix_with(select(func.group_concat(TABLE.c.title)).scalar_subquery())
    ),
    "a suffix": _run(lambda k, o: select(Folder.title).where(Folder.title != "").suffix_with("OR 1 = 1")),
    "a hint": _run(lambda k, o: select(Folder.title).where(Folder.title != "").with_statement_hint("OR 1 = 1")),
    "upsert that only looks": lambda u, k, o: u[Folder].upsert_many(
        [{"id": k[f"kept {o}"], "title": "x"}], update_columns=()
    ),
}
WRITES: dict[str, Operation] = {
    "add": lambda u, k, o: u[Folder].add(Folder(org=o, title="new")),
    "add_many": lambda u, k, o: u[Folder].add_many([{"title": "mine"}, {"org": o, "title": "theirs"}]),
    "add many instances": lambda u, k, o: u[Folder].add_many([Folder(org=o, title="theirs")]),
    "upsert": lambda u, k, o: u[Folder].upsert_many([{"id": k[f"kept {o}"], "org": o, "title": "x"}]),
    "upsert without": lambda u, k, o: u[Folder].upsert_many([{"id": k[f"kept {o}"], "title": "x"}]),
    "upsert moving": lambda u, k, o: u[Folder].upsert_many([{"title": "x", "org": o}], update_columns=("org",)),
    "upsert members": lambda u, k, o: u[Membership].upsert_many([{"org": o, "member": k["member"], "role": "x"}]),
    "update": lambda u, k, o: u[Folder].update(k[f"kept {o}"], pages=5),
    "update moving": lambda u, k, o: u[Folder].update(k[f"kept {OWN}"], org=o),
    "delete": lambda u, k, o: u[Folder].delete(k[f"kept {o}"]),
    "delete by a key of several": lambda u, k, o: u[Membership].delete((o, k["member"])),
    "restore": lambda u, k, o: u[Folder].restore(k[f"deleted {o}"]),
    "purge": lambda u, k, o: u[Folder].purge(k[f"deleted {o}"]),
    "attach": _attached,
    "move": _moved,
    "session.delete": _removed,
    "merge": _merged,
    "update statement": _run(lambda k, o: update(Folder).values(pages=7)),
    "update statement where": _run(lambda k, o: update(Folder).where(Folder.org == o).values(pages=7)),
    "update statement moving": _run(lambda k, o: update(Folder).values(org=o)),
    "delete statement": _run(lambda k, o: delete(Sheet)),
    "insert statement": _run(lambda k, o: insert(Folder).values(id=uuid7(), org=o, title="new")),
    "core update": _run(lambda k, o: update(Folder.__table__).values(pages=7)),
    "core delete": _run(lambda k, o: delete(Sheet.__table__)),
    "insert from select": _copying(
        lambda _: insert(Country).from_select(["id", "name"], select(Folder.id, Folder.title))
    ),
    "insert from the core": _copying(
        lambda _: insert(Country).from_select(["id", "name"], select(TABLE.c.id, TABLE.c.title))
    ),
    "insert a subquery": _copying(lambda last: insert(Country).values(id=uuid7(), name=_or_empty(last))),
    "insert subqueries": _copying(lambda last: insert(Country).values([{"id": uuid7(), "name": _or_empty(last)}])),
    "insert returning": _copying(lambda last: insert(Country).values(id=uuid7(), name="x").returning(last)),
    "update to a subquery": _copying(lambda last: update(Country).values(name=_or_empty(last))),
    "update from": _copying(lambda _: update(Country).values(name=Folder.title).where(Folder.title != "")),
    "update from the core": _copying(lambda _: update(Country).values(name=TABLE.c.title)),
    "update returning": _copying(lambda last: update(Country).values(name="x").returning(last)),
    "insert or update": lambda u, k, o: _upserted(u, select(func.max(Folder.title))),
    "insert or update on the core": lambda u, k, o: _upserted(u, select(func.max(TABLE.c.title))),
    "update in an order": _copying(lambda last: update(Country).ordered_values(("name", _or_empty(last)))),
    "delete where": _copying(lambda last: delete(Report).where(Report.name == last)),
    "delete using": _copying(lambda _: delete(Report).where(Report.name == Folder.title)),
    "update with a subquery": lambda u, k, o: u[Country].update(
        k["country"], name=_or_empty(select(func.max(Folder.title)).scalar_subquery())
    ),
    "update where text": _run(lambda k, o: update(Folder).where(text(EITHER).bindparams(org=o)).values(pages=7)),
    "delete where text": _run(lambda k, o: delete(Sheet).where(text("text = :org OR 1 = 1").bindparams(org=o))),
    "light update": _run(lambda k, o: LIGHT.update().values(title="x")),
    "light delete": _run(lambda k, o: COPY.delete()),
    "light insert": _run(lambda k, o: LIGHT.insert().values(id=str(uuid7()), org=o, title="new")),
    "insert from a light table": _copying(
        lambda _: insert(Country).from_select(["id", "name"], select(LIGHT.c.id, LIGHT.c.title))
    ),
    "update to a light table": _copying(lambda _: update(Country).values(name=LIGHT.c.title)),
    "given a subquery on a light table": _given(lambda: func.lower(select(LIGHT.c.title).limit(1).scalar_subquery())),
    "update out of its parentheses": _run(lambda k, o: update(Folder).where(text(OUT)).values(pages=7)),
    "delete with a prefix": _run(lambda k, o: delete(Sheet).prefix_with("FROM sheets --")),
    "made up, changed": _made_up_change,
    "made up, related": _made_up_relation,
    "made up, deleted": _made_up_removal,
    "made up, merged": _made_up_merge,
    "made up, read again": _read_again,
    "given a subquery": _given(lambda: select(func.max(Folder.title)).scalar_subquery()),
    "given a subquery of the core": _given(lambda: func.lower(select(func.max(TABLE.c.title)).scalar_subquery())),
    "given an attribute": _given(lambda: Folder.title),
    "add_many of subqueries": lambda u, k, o: u[Country].add_many(
        [{"name": select(func.max(Folder.title)).scalar_subquery()}]
    ),
    "bulk update": lambda u, k, o: u.session.execute(update(Folder), [{"id": k[f"kept {o}"], "pages": 8}]),
    "bulk insert": lambda u, k, o: u.session.run_sync(
        lambda s: s.bulk_insert_mappings(Folder, [{"id": uuid7(), "org": o, "title": "new"}])  # type: ignore[arg-type]
    ),
}
OPERATIONS = {**READS, **WRITES}
NOTHING = {"count": 0, "exists": False, "has": 0, "sum": [(None, 0)]}
CONTEXTS: list[Any] = [OWN, None, "nobody", *GARBAGE]


def flat(found: Any) -> str:
    """Everything that a caller could have seen of what an operation gave."""
    if isinstance(found, Base):
        return str({name: flat(value) for name, value in found.__dict__.items() if not name.startswith("_sa")})
    if isinstance(found, dict):
        return str([(str(key), flat(value)) for key, value in found.items()])
    if isinstance(found, list | tuple) or type(found).__name__ == "Row":
        return str([flat(value) for value in found])
    return str(found)


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)  # below each operation runs on all
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(OPERATIONS)), context=st.sampled_from(CONTEXTS), target=st.sampled_from([OWN, OTHER])
)
async def test_no_row_crosses(store: Store, name: str, context: Any, target: str) -> None:
    await check(store, name, context, target)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_no_operation_reaches_another_tenants_rows(store: Store, name: str) -> None:
    await check(store, name, OWN, OTHER)


async def check(store: Store, name: str, context: Any, target: str) -> None:
    keys = await fill(store)
    before, found, refusal = await snapshot(store), None, None
    try:
        async with store.unit(tenant=context) as unit:
            found = await OPERATIONS[name](unit, keys, target)
    except HoldfastError as error:
        refusal = error
    seen = flat(found)
    assert await snapshot(store) == before
    assert OTHER not in seen, seen
    if target == OTHER and refusal is None and name in NOTHING:
        assert found == NOTHING[name]
    if name == "written out with OR" and refusal is None:
        assert found == int(context == OWN)  # whatever it asks for, the rows of its own tenant
    if name == "scalar subquery" and refusal is None:
        assert found == [(1, int(context == OWN))]
    if context is None and name == "joinedload":  # what a join brings along unasked is nobody's
        assert OWN not in seen, seen
    elif context is None or any(context is garbage for garbage in GARBAGE):
        assert refusal is not None, f"{name} was let through with tenant={context!r}"
    if any(context is garbage for garbage in GARBAGE):
        assert isinstance(refusal, InvalidValue)
    if context == OWN and target == OWN and name in READS:
        assert refusal is None or isinstance(refusal, WrongTenant), refusal


async def test_another_tenants_row_is_as_if_it_were_not(store: Store, keys: Keys) -> None:
    theirs = keys[f"kept {OTHER}"]
    async with store.unit(tenant=OWN) as unit:
        folders = unit[Folder]
        for asked in (
            folders.get(theirs),
            folders.update(theirs, pages=1),
            folders.delete(theirs),
            folders.purge(theirs),
            folders.restore(keys[f"deleted {OTHER}"]),
        ):
            with pytest.raises(NotFound, match="there is no Folder with the key"):
                await asked


async def test_what_is_inserted_is_the_units(store: Store, keys: Keys) -> None:
    async with store.unit(tenant=OWN) as unit:
        one = await unit[Folder].add(Folder(title="one"))
        await unit[Folder].add_many([{"title": "two"}, {"title": "three", "org": OWN}, Folder(title="four")])
        await unit[Folder].upsert_many([{"title": "five"}])
        assert one.org == OWN
        assert {row.org for row in await unit[Folder].list()} == {OWN}
        assert await unit[Folder].count() == 6
    for write in (
        lambda unit: unit[Folder].add(Folder(title="x", org=OTHER)),
        lambda unit: unit[Folder].add_many([{"title": "x", "org": OTHER}]),
        lambda unit: unit[Folder].upsert_many([{"title": "x", "org": OTHER}]),
    ):
        with pytest.raises(WrongTenant, match="a row of Folder names another tenant than its unit; leave org out"):
            async with store.unit(tenant=OWN) as unit:
                await write(unit)


async def test_a_unit_without_a_tenant_has_no_way_to_tenanted_rows_but_says_so(store: Store, keys: Keys) -> None:
    told = r"Folder is tenanted, and this unit names no tenant; open it with hold\.unit\(tenant=…\), or with tenant=ALL"
    async with store.unit() as unit:
        for ask in (unit[Folder].list, unit[Folder].count, lambda: unit[Folder].add_many([{"title": "x", "org": OWN}])):
            with pytest.raises(WrongTenant, match=told):
                await ask()
        with pytest.raises(WrongTenant, match=told):
            await unit[Country].list(Query(Country).include("folders"))
        assert await unit[Country].count() == 1  # what is everybody's is everybody's
        country = await unit[Country].get(keys["country"])
        country.name = "renamed"


async def test_all_tenants_is_for_who_asks_for_it(store: Store, keys: Keys) -> None:
    async with store.unit(tenant=ALL) as unit:
        assert await unit[Folder].count() == 2
        assert {row.org for row in await unit[Folder].list()} == {OWN, OTHER}
        await unit[Folder].add_many([{"title": "x", "org": "t3"}])
        await unit[Folder].update(keys[f"kept {OTHER}"], pages=3)
        with pytest.raises(InvalidValue, match="breaks a rule of its table"):
            async with unit.savepoint():
                await unit[Folder].add(Folder(title="nobody's"))
        assert unit.tenant is None  # the journal names none
        assert repr(ALL) == "ALL"


async def test_a_cursor_is_of_one_tenant(store: Store, keys: Keys) -> None:
    async with store.unit(tenant=ALL) as unit:
        await unit[Folder].add_many([{"title": f"{n}", "org": org} for org in (OWN, OTHER) for n in range(3)])
    async with store.read(tenant=OTHER) as unit:
        cursor = (await unit[Folder].page(limit=2)).next
        assert cursor is not None
    for tenant in (OWN, ALL):
        async with store.read(tenant=tenant) as unit:
            with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
                await unit[Folder].page(limit=2, after=cursor)


@pytest.mark.parametrize("tenant", GARBAGE)
async def test_what_can_be_no_tenant_is_refused(store: Store, tenant: Any) -> None:
    for opening in (store.unit, store.read):
        with pytest.raises(InvalidValue, match="tenant"):
            async with opening(tenant=tenant):
                raise AssertionError("the block is not entered")


async def test_what_is_on_no_model_reads_no_tenanted_one(store: Store, keys: Keys) -> None:
    """Criteria do not reach into it."""
    countries: Any = Country.__table__
    found = select(func.min(Folder.title)).scalar_subquery()
    rows = select(Folder.id, Folder.title)
    for statement in (
        countries.update().values(name=found),
        countries.insert().values(id=uuid7(), name=found),
        countries.insert().from_select(["id", "name"], rows).returning(countries.c.name),
        select(countries.c.name, text("q.title")).select_from(countries.join(rows.subquery("q"), text("1 = 1"))),
        select(text("title FROM q")).add_cte(rows.cte("q")),
    ):
        for tenant in (OWN, None):
            with pytest.raises(WrongTenant):
                async with store.unit(tenant=tenant) as unit:
                    await unit.execute(statement)
    async with store.unit(tenant=ALL) as unit:
        await unit.execute(countries.update().values(name=found))


async def test_a_table_of_ones_own_is_refused_by_its_name_and_schema(store: Store, keys: Keys) -> None:
    told = r"on a table 'folders' of its own making, which is that of Folder.*write it on Folder, or.*tenant=ALL"
    async with store.read(tenant=OWN) as unit:
        with pytest.raises(WrongTenant, match=told):
            await unit.execute(select(LIGHT.c.title))
    async with store.read() as unit:
        with pytest.raises(WrongTenant, match="Folder is tenanted, and this unit names no tenant"):
            await unit.execute(select(LIGHT.c.title))
        everybodys = table("countries", column("name"))
        assert (await unit.execute(select(everybodys.c.name))).scalars().all() == ["shared"]
    async with store.read(tenant=ALL) as unit:
        assert len((await unit.execute(select(LIGHT.c.title))).all()) == 4

    class Apart(Model):
        __abstract__ = True
        metadata = MetaData(schema="apart")

    class Parcel(Apart):
        __tablename__ = "parcels"
        __policy__ = Policy(tenant="org")
        org: Mapped[str]

    names = confined_by_name([Parcel])
    for schema, found in ((None, [Parcel]), ("Apart", [Parcel]), ("elsewhere", [])):
        assert namesakes(table("Parcels", schema=schema), names) == found


async def test_a_mapped_column_or_a_link_on_a_table_of_ones_own_is_refused(sqlite_url: str) -> None:
    class Place(Model):
        __abstract__ = True
        metadata = MetaData()

    class Barn(Place):
        __tablename__ = "barns"
        __policy__ = Policy(tenant="org")
        org: Mapped[str]

    class Lane(Place):
        __tablename__ = "lanes"
        barns: Mapped[int] = column_property(select(func.count()).select_from(table("barns")).scalar_subquery())

    class Village(Place):
        __tablename__ = "villages"
        lane_id: Mapped[UUID | None] = mapped_column(ForeignKey("lanes.id"))
        lane: Mapped[Lane | None] = relationship(lazy="joined")

    async with opened(sqlite_url, Place.metadata) as store:
        for model in (Lane, Village):
            async with store.read(tenant=OWN) as unit:
                with pytest.raises(WrongTenant, match="on a table 'barns' of its own making"):
                    await unit.execute(select(model))


async def test_text_that_keeps_to_its_place_is_let_through(store: Store, keys: Keys) -> None:
    closed = text("title LIKE 'kept%)' ESCAPE '\\' OR (title = 'a--(' OR \"folders\".title LIKE 'kept%')")
    async with store.read(tenant=OWN) as unit:
        assert [row.title for row in await unit[Folder].list(FOLDERS.where(closed))] == [f"kept {OWN}"]
        hinted = select(Folder.title).prefix_with("/*+ SeqScan(folders) */", "ALL").with_statement_hint("/*+ Rows */")
        assert (await unit.execute(hinted)).scalars().all() == [f"kept {OWN}"]
        joined = Folder.title.op("||")("!").label("loud")
        assert (await unit.execute(select(joined))).scalars().all() == [f"kept {OWN}!"]
        with pytest.raises(WrongTenant, match="written out as text, is not closed in itself; balance its parentheses"):
            await unit.execute(select(Folder).where(text(OUT)))
        with pytest.raises(WrongTenant, match="'OR 1 = 1' is put before or behind a statement"):
            await unit.execute(select(Folder).suffix_with("OR 1 = 1"))
        await unit.execute(select(Country).where(text("1 = 1 -- what is everybody's may be asked for anyhow")))
    async with store.read(tenant=ALL) as unit:
        assert len(await unit[Folder].list(FOLDERS.where(text("1 = 1 /* all */")))) == 2


def test_a_default_that_is_a_select_is_refused_while_the_class_is_made() -> None:
    class Own(Model):
        __abstract__ = True
        metadata = MetaData()

    found = select(func.max(Folder.title)).scalar_subquery()
    for options in ({"insert_default": found}, {"onupdate": found}):
        with pytest.raises(ModelError, match=r"Street.name is given what a SELECT finds"):

            class Street(Own):
                __tablename__ = "streets"
                name: Mapped[str] = mapped_column(**options)


async def test_text_is_not_confined(store: Store, keys: Keys) -> None:
    async with store.read(tenant=OWN) as unit:
        assert (await unit.execute(text("SELECT count(*) FROM folders"))).scalar_one() == 4


async def test_a_row_loaded_for_one_tenant_loads_nothing_of_its_own_in_a_unit_of_another(
    store: Store, keys: Keys
) -> None:
    async with store.read(tenant=OTHER) as unit:
        country = await unit[Country].get(keys["country"])
    async with store.unit(tenant=OWN) as unit:
        unit.session.add(country)
        titles = await unit.session.run_sync(lambda session: [folder.title for folder in country.folders])
    assert all(OTHER not in title for title in titles)


async def test_a_mapped_column_that_reads_tenanted_rows_is_the_units(store: Store, keys: Keys) -> None:
    for tenant, folders in ((OWN, 1), ("nobody", 0), (ALL, 2)):  # those deleted softly are counted for no one
        async with store.read(tenant=tenant) as unit:
            assert (await unit[Report].get(keys["report"])).folders == folders
            assert await unit[Report].count(Query(Report).where(Report.folders == folders)) == 1
    async with store.read() as unit:
        with pytest.raises(WrongTenant, match="Folder is tenanted, and this unit names no tenant"):
            await unit[Report].get(keys["report"])


async def test_a_mapped_column_on_a_tenanted_table_itself_is_refused_whenever_it_comes(sqlite_url: str) -> None:
    class Place(Model):
        __abstract__ = True
        metadata = MetaData()

    class House(Place):
        __tablename__ = "houses"
        __policy__ = Policy(tenant="org")

        org: Mapped[str]

    class Street(Place):
        __tablename__ = "streets"

        name: Mapped[str]

    table: Any = House.__table__
    street: Any = Street
    async with opened(sqlite_url, Place.metadata) as store, store.unit(tenant=OWN) as unit:
        await unit[House].add(House())
        await unit[Street].add(Street(name="shore"))
        assert await unit[Street].count() == 1
        street.houses = column_property(select(func.count(House.id)).scalar_subquery())
        assert [row.houses for row in (await unit.execute(select(street))).scalars()] == [1]
        street.every = column_property(select(func.count()).select_from(table).scalar_subquery(), deferred=True)
        with pytest.raises(ModelError, match=r"Street\.every reads the table houses of the tenanted model House"):
            await unit[Street].list()


async def test_a_relationship_through_a_tenanted_table_is_refused_however_it_is_used(sqlite_url: str) -> None:
    class Place(Model):
        __abstract__ = True
        metadata = MetaData()

    class Team(Place):
        __tablename__ = "teams"

        name: Mapped[str]

    class Member(Place):
        __tablename__ = "members"
        __policy__ = Policy(tenant="org")

        org: Mapped[str]
        team_id: Mapped[UUID] = mapped_column(ForeignKey("teams.id"))
        player_id: Mapped[UUID] = mapped_column(ForeignKey("players.id"))

    class Player(Place):
        __tablename__ = "players"

        teams: Mapped[list[Team]] = relationship(Team, secondary=Member.__table__, viewonly=True)

    joined = select(Team.name).select_from(Player).join(Player.teams)
    async with opened(sqlite_url, Place.metadata) as store:
        for statement in (joined, select(Player).options(joinedload(Player.teams)), select(Player)):
            for tenant in (OWN, None):
                with pytest.raises(
                    ModelError, match=r"Player\.teams goes through the table of the tenanted model Member"
                ):
                    async with store.read(tenant=tenant) as unit:
                        await unit.execute(statement)


async def test_a_row_of_ones_own_may_be_taken_from_one_unit_into_another(store: Store, keys: Keys) -> None:
    async with store.read(tenant=OWN) as unit:
        row = await unit[Folder].get(keys[f"kept {OWN}"])
        members = [await unit[Membership].get((OWN, keys["member"]))]
    async with store.unit(tenant=OWN) as unit:
        unit.session.add_all([row, *members])
        row.pages, members[0].role = 3, "writer"
    async with store.read(tenant=OWN) as unit:
        assert (await unit[Folder].get(row.id)).pages == 3
        assert (await unit[Membership].get((OWN, keys["member"]))).role == "writer"
    with pytest.raises(WrongTenant, match="a row of Folder that it did not read and cannot see"):
        async with store.unit(tenant=OTHER) as unit:
            unit.session.add(row)
            row.pages = 4


async def test_what_a_unit_has_read_or_added_itself_costs_no_statement_more_to_write(store: Store, keys: Keys) -> None:
    async with store.unit(tenant=OWN) as unit:
        row = await unit[Folder].get(keys[f"kept {OWN}"])
        new = await unit[Folder].add(Folder(title="new"))
        with statements(store) as sent:
            row.pages, new.pages = 1, 2
            await unit.flush()
            await unit.session.delete(new)
            await unit.flush()
    assert {statement.split()[0] for statement in sent} == {"UPDATE", "DELETE"}


async def test_an_expression_on_the_row_itself_may_be_given(store: Store, keys: Keys) -> None:
    async with store.unit(tenant=OWN) as unit:
        row = await unit[Folder].get(keys[f"kept {OWN}"])
        row.pages = Folder.pages + 5
        await unit.flush()
    async with store.read(tenant=OWN) as unit:
        assert (await unit[Folder].get(row.id)).pages == 5
