"""The plan of every statement that a repository makes: by an index, in its order, on each backend."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event

from holdfast.model import uuid7
from holdfast.store import ALL, Query, Store, Unit
from tests.store.office import Base, Country, Folder, Line, Notice, Sheet
from tests.store.opening import opened

ROWS = 2_000
KEYS = [uuid7() for _ in range(ROWS)]
BY_PAGES, BACKWARDS = Query(Folder).order_by("pages"), Query(Folder).order_by("-pages")
COUNTRIES = Query(Country).order_by("name")
INDEXES = (
    "CREATE INDEX ix_folders_org_pages ON folders (org, pages, id)",
    "CREATE INDEX ix_sheets_org_folder ON sheets (org, folder_id)",
    "CREATE INDEX ix_countries_name ON countries (name, id)",
)

Operation = Callable[[Unit, str], Awaitable[Any]]


async def _cursor(unit: Unit, query: Query[Any]) -> str | None:
    return (await unit[query.model].page(query, limit=10)).next


async def _stream(unit: Unit) -> None:
    async for _ in unit[Country].stream(COUNTRIES.limit(20)):
        pass


# Per statement what its plan says on SQLite, and on PostgreSQL.
SHAPES: dict[str, tuple[Operation, str, str]] = {
    "get": (lambda u, c: u[Country].get(KEYS[7]), "autoindex_countries_1 (id=?)", "pk_countries"),
    "get of a tenant": (lambda u, c: u[Folder].get(KEYS[7]), "(org=? AND id=?)|(id=?)", "pk_folders|uq_folders_org_id"),
    "get by two columns": (lambda u, c: u[Line].get((7, 7)), "(order_number=? AND number=?)", "pk_lines"),
    "get_many": (lambda u, c: u[Country].get_many(KEYS[:9]), "autoindex_countries_1 (id=?)", "pk_countries"),
    "get_many of a tenant": (
        lambda u, c: u[Folder].get_many(KEYS[:9]),
        "(org=? AND id=?)|(id=?)",
        "pk_folders|uq_folders_org_id",
    ),
    "get_many by two columns": (
        lambda u, c: u[Line].get_many([(7, 7), (8, 8)]),
        "(order_number=? AND number=?)",
        "pk_lines",
    ),
    "first page": (lambda u, c: u[Country].page(COUNTRIES), "ix_countries_name", "Scan using ix_countries_name"),
    "first page by key": (
        lambda u, c: u[Country].page(),
        "autoindex_countries_1",
        "Scan using pk_countries",
    ),
    "first page of a tenant": (
        lambda u, c: u[Folder].page(BY_PAGES, limit=10),
        "ix_folders_org_pages (org=?)",
        "Index Scan using ix_folders_org_pages",
    ),
    "first page backwards": (
        lambda u, c: u[Folder].page(BACKWARDS, limit=10),
        "ix_folders_org_pages (org=?)",
        "Index Scan Backward using ix_folders_org_pages",
    ),
    "page after": (
        lambda u, c: u[Folder].page(BY_PAGES, limit=10, after=c),
        "ix_folders_org_pages (org=? AND (pages,id)>(?,?))",
        "Index Scan using ix_folders_org_pages",
    ),
    "page after backwards": (
        lambda u, c: u[Folder].page(BACKWARDS, limit=10, after=c),
        "ix_folders_org_pages (org=? AND (pages,id)<(?,?))",
        "Index Scan Backward using ix_folders_org_pages",
    ),
    "count": (
        lambda u, c: u[Country].count(COUNTRIES.where(name="7")),
        "ix_countries_name (name=?)",
        "ix_countries_name",
    ),
    "count of a tenant": (
        lambda u, c: u[Folder].count(BY_PAGES.where(pages=7)),
        "(org=? AND pages=?)",
        "ix_folders_org",
    ),
    "exists": (
        lambda u, c: u[Country].exists(COUNTRIES.where(name="7")),
        "ix_countries_name (name=?)",
        "ix_countries_name",
    ),
    "exists of a tenant": (
        lambda u, c: u[Folder].exists(BY_PAGES.where(pages=7)),
        "(org=? AND pages=?)",
        "ix_folders_org",
    ),
    "list of what is live": (
        lambda u, c: u[Folder].list(Query(Folder).where(title="7")),
        "(org=? AND title=?)",
        "ix_folders_org_title",
    ),
    "stream": (lambda u, c: _stream(u), "ix_countries_name", "Scan using ix_countries_name"),
    "search": (
        lambda u, c: u[Notice].list(Query(Notice).search("n7 x")),
        "SEARCH notices USING INDEX sqlite_autoindex_notices_1 (id=?)",
        "Bitmap Index Scan on holdfast_search_notices",
    ),
    "search of two columns": (
        lambda u, c: u[Line].list(Query(Line).search("n7 x")),
        "SEARCH lines USING INDEX sqlite_autoindex_lines_1 (order_number=?",
        "Bitmap Index Scan on holdfast_search_lines",
    ),
    "search of a tenant": (
        lambda u, c: u[Sheet].list(Query(Sheet).search("n7 x")),
        "(id=?)|(org=? AND id=?)",
        "Bitmap Index Scan on holdfast_search_sheets",
    ),
    "page of a search": (
        lambda u, c: u[Sheet].page(Query(Sheet).search('"x n7" -y'), number=2, total=True),
        "(id=?)|(org=? AND id=?)",
        "Bitmap Index Scan on holdfast_search_sheets",
    ),
    "page of a search after": (
        lambda u, c: u[Notice].page(Query(Notice).search("n7").order_by("text")),
        "(id=?)",
        "Bitmap Index Scan on holdfast_search_notices",
    ),
    "include": (
        lambda u, c: u[Folder].list(BY_PAGES.where(pages=7).include("sheets")),
        "ix_sheets_org_folder (org=? AND folder_id=?)",
        "ix_sheets_org_folder",
    ),
    "update": (lambda u, c: u[Country].update(KEYS[7], name="x"), "(id=?)", "pk_countries"),
    "update of a tenant": (lambda u, c: u[Folder].update(KEYS[7], pages=3), "(id=?)|(org=? AND id=?)", "_folders"),
    "delete": (lambda u, c: u[Folder].delete(KEYS[11]), "(id=?)|(org=? AND id=?)", "_folders"),
    "restore": (lambda u, c: u[Folder].restore(KEYS[11]), "(id=?)|(org=? AND id=?)", "_folders"),
    "purge": (lambda u, c: u[Line].purge((9, 9)), "(order_number=? AND number=?)", "pk_lines"),
    "upsert": (
        lambda u, c: u[Country].upsert_many([{"id": KEYS[7], "name": "y"}]),
        "",
        "Conflict Arbiter Indexes: pk_countries",
    ),
    "upsert of a tenant": (
        lambda u, c: u[Folder].upsert_many([{"id": KEYS[7], "title": "y"}]),
        "",
        "Conflict Arbiter Indexes: uq_folders_org_id",
    ),
    "upsert of what is live": (
        lambda u, c: u[Folder].upsert_many([{"title": "y", "pages": 2}], on=("title",)),
        "",
        "Conflict Arbiter Indexes: ix_folders_org_title",
    ),
}
SORTED_BY_NOBODY = [name for name in SHAPES if ("page" in name and "search" not in name) or name == "stream"]

# FTS5 finds by its own index; what was found is kept for the order.
_SEARCHED = re.compile(r"SCAN holdfast_search_\w+ VIRTUAL TABLE INDEX \d+:M|SCAN found")


@pytest.fixture
async def store(database_url: str) -> Any:
    async with opened(database_url, Base.metadata) as store:
        async with store.unit(tenant=ALL) as unit:
            for index in INDEXES:
                await unit.execute(index)
            await unit[Country].add_many([{"id": key, "name": f"{n}"} for n, key in enumerate(KEYS)])
            folders = [{"id": k, "org": f"t{n % 4}", "title": f"{n}", "pages": n} for n, k in enumerate(KEYS)]
            await unit[Folder].add_many(folders)
            await unit[Sheet].add_many(
                [{"org": f"t{n % 4}", "folder_id": k, "text": f"x n{n}"} for n, k in enumerate(KEYS)]
            )
            await unit[Notice].add_many([{"text": f"x n{n}"} for n in range(ROWS)])
            await unit[Line].add_many([{"order": n, "number": n, "text": f"x n{n}"} for n in range(ROWS)])
        if not store.place.startswith("libsql"):  # which takes no ANALYZE over HTTP
            async with store.unit() as unit:
                for table in ("countries", "folders", "sheets", "lines", "notices"):
                    await unit.execute(f"ANALYZE {table}")
        yield store


async def test_every_statement_goes_by_an_index(store: Store) -> None:
    faults: list[str] = []
    for name, (operation, *expected) in SHAPES.items():
        told = await plan(store, name, operation)
        wanted = expected[store.dialect == "postgresql"]
        if not any(part in told for part in wanted.split("|")):
            faults.append(f"{name}: {wanted!r} is not in\n{told}")
        scans = [
            line
            for line in told.splitlines()
            if "SCAN " in line and " USING " not in line and not _SEARCHED.search(line)
        ]
        if scans or "Seq Scan" in told:
            faults.append(f"{name}: reads the whole table\n{told}")
        if name in SORTED_BY_NOBODY and ("TEMP B-TREE" in told or "Sort" in told):
            faults.append(f"{name}: sorts\n{told}")
    assert not faults, "\n\n".join(faults)


async def plan(store: Store, name: str, operation: Operation) -> str:
    """How the database carries out the last statement that `operation` sent."""
    seen: list[tuple[str, Any, bool]] = []

    def note(connection: Any, cursor: Any, text: str, values: Any, context: Any, many: bool) -> None:
        seen.append((text, values, many))

    engine = store.engine.sync_engine
    async with store.unit(tenant="t3") as unit:
        query = BACKWARDS if "backwards" in name else BY_PAGES
        cursor = await _cursor(unit, query)
        event.listen(engine, "before_cursor_execute", note)
        try:
            await operation(unit, cursor or "")
        finally:
            event.remove(engine, "before_cursor_execute", note)
        text, values, many = seen[-1]
        explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
        connection = await unit.connection()
        found = await connection.exec_driver_sql(explain + text, values[0] if many else values)
        return "\n".join(str(row) for row in found)
