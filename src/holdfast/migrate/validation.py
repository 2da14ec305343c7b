"""Whether the data is what the models say, and the schema whole: questions to the database, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    and_,
    cast,
    func,
    inspect,
    literal_column,
    not_,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.migrate import schema
from holdfast.migrate.scratch import scratch
from holdfast.model import Amount, UtcTime
from holdfast.model.encrypted import Encrypted
from holdfast.model.types import AMOUNT_CHECK
from holdfast.store import Store

Kind = Literal["schema", "extra", "constraint", "index", "orphans", "values"]
Told = Callable[[str], None]

_UNDECLARED = "nothing declares it"
_DIGITS = "[0-9]"
_TIME = f"{_DIGITS * 4}-[0-1]{_DIGITS}-[0-3]{_DIGITS} [0-2]{_DIGITS}:[0-5]{_DIGITS}:[0-6]{_DIGITS}.{_DIGITS * 6}"
_DATE = f"{_DIGITS * 4}-[0-1]{_DIGITS}-[0-3]{_DIGITS}"

CONSTRAINTS = """
    SELECT c.conrelid::regclass::text AS tbl, c.conname AS name FROM pg_constraint c
    JOIN pg_class t ON t.oid = c.conrelid
    WHERE NOT c.convalidated AND t.relnamespace = current_schema()::regnamespace ORDER BY 1, 2
"""
INDEXES = """
    SELECT i.indrelid::regclass::text AS tbl, i.indexrelid::regclass::text AS name FROM pg_index i
    JOIN pg_class t ON t.oid = i.indrelid
    WHERE NOT (i.indisvalid AND i.indisready) AND t.relnamespace = current_schema()::regnamespace ORDER BY 1, 2
"""
ORPHANS_SQLITE = """
    SELECT "table" AS tbl, parent, count(*) AS found, min(rowid) AS example
    FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be, and what to do about it.

    Attributes:
        kind: schema (not what the models declare), extra (there, and not declared: no fault), constraint (not
            validated), index (not usable), orphans, values (that the models' types cannot read).
    """

    kind: Kind
    table: str
    message: str
    fix: str


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and the rows of each table."""

    rows: dict[str, int]
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """The findings that are wrong, not only worth knowing."""
        return [finding for finding in self.findings if finding.kind != "extra"]


async def validate(store: Store, metadatas: Sequence[MetaData], *, told: Told | None = None) -> Validation:
    """Look at the schema and at every row of the models' tables; nothing is changed.

    Args:
        told: called with the name of each table before it is looked at.
    """
    async with store.connect() as connection:
        there = await connection.run_sync(schema.read)
    async with scratch(store) as connection:
        for metadata in metadatas:
            await connection.run_sync(metadata.create_all)
        wanted = await connection.run_sync(schema.read)
    findings = [_of_schema(line) for line in schema.differences(there, wanted, of=wanted.tables)]
    rows: dict[str, int] = {}
    async with store.connect() as connection:
        findings += await _broken(connection)
        for table in (table for metadata in metadatas for table in metadata.sorted_tables):
            if table.name not in there.tables:
                continue
            if told is not None:
                told(table.name)
            known = {name.removeprefix("column ") for name in there.tables[table.name]}
            rows[table.name] = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            findings += await _unreadable(connection, table, known)
    return Validation(rows=rows, findings=findings)


def _of_schema(line: str) -> Finding:
    table = line.partition(":")[0].removeprefix("table ").split()[0]
    if _UNDECLARED in line:
        return Finding(
            kind="extra", table=table, message=line, fix="declare it, or drop it in a migration of the phase post"
        )
    return Finding(
        kind="schema",
        table=table,
        message=line,
        fix="run `holdfast migrate up`; if that has nothing to do, write what is missing: `holdfast migrate new TITLE`",
    )


async def _broken(connection: AsyncConnection) -> list[Finding]:
    """Constraints and indexes that do not hold, and rows that refer to nothing."""
    if connection.dialect.name == "sqlite":
        return [
            _orphans(row.tbl, row.parent, row.found, f"rowid {row.example}")
            for row in await connection.execute(text(ORPHANS_SQLITE))
        ]
    found = [
        Finding(
            kind="constraint",
            table=row.tbl,
            message=f"the constraint {row.name} was never validated: rows of before may break it",
            fix=f'op.validate_constraint("{row.tbl}", "{row.name}") in a migration with `transactional = False`',
        )
        for row in await connection.execute(text(CONSTRAINTS))
    ]
    found += [
        Finding(
            kind="index",
            table=row.tbl,
            message=f"the index {row.name} is not usable: building it was interrupted, or found values twice",
            fix=f"DROP INDEX CONCURRENTLY {row.name}, put right what it failed for, and build it again",
        )
        for row in await connection.execute(text(INDEXES))
    ]
    for table, key in await connection.run_sync(_foreign_keys):
        found += await _orphans_of(connection, table, key)
    return found


def _foreign_keys(connection: Connection) -> list[tuple[str, Any]]:
    inspector = inspect(connection)
    tables = [name for name in inspector.get_table_names() if not schema.is_ours(name)]
    return [(name, key) for name in sorted(tables) for key in inspector.get_foreign_keys(name)]


async def _orphans_of(connection: AsyncConnection, name: str, key: Any) -> list[Finding]:
    child = Table(name, MetaData(), *(Column(c) for c in key["constrained_columns"]))
    referred = Table(
        key["referred_table"],
        MetaData(),
        *(Column(c) for c in key["referred_columns"]),
        schema=key["referred_schema"],
    ).alias("parent")
    pairs = list(zip(child.columns, (referred.c[c] for c in key["referred_columns"]), strict=True))
    refers = and_(*(mine == other for mine, other in pairs))
    given = and_(*(mine.is_not(None) for mine, _ in pairs))
    orphaned = given & ~select(literal_column("1")).select_from(referred).where(refers).exists()
    statement = select(func.count(), func.min(cast(child.columns[0], String))).select_from(child).where(orphaned)
    count, example = (await connection.execute(statement)).one()
    return [_orphans(name, key["referred_table"], count, f"{child.columns[0].name} {example}")] if count else []


def _orphans(table: str, parent: str, count: int, example: str) -> Finding:
    return Finding(
        kind="orphans",
        table=table,
        message=f"{count} rows of {table} refer to rows of {parent} that are not there, such as {example}",
        fix=f"bring the rows of {parent} back, or delete or clear what refers to them",
    )


async def _unreadable(connection: AsyncConnection, table: Table, known: set[str]) -> list[Finding]:
    """Values that the models' types cannot read, or that would be ordered wrongly; only SQLite takes such."""
    if connection.dialect.name != "sqlite":
        return []
    rules = [(c, rule) for c in table.columns if c.name in known and (rule := is_unfit(c)) is not None]
    if not rules:
        return []
    counts = (await connection.execute(select(*(func.count().filter(rule) for _, rule in rules)))).one()
    found = []
    for (column, rule), count in zip(rules, counts, strict=True):
        if not count:
            continue
        keys = (type_coerce(key, String()) for key in table.primary_key.columns)
        first = (await connection.execute(select(type_coerce(column, String()), *keys).where(rule).limit(1))).one()
        found.append(
            Finding(
                kind="values",
                table=table.name,
                message=f"{count} rows of {table.name} have in {column.name} what {column.type!r} cannot read,"
                f" as the row {', '.join(map(str, first[1:]))}",
                fix="correct them by SQL, or with `holdfast.migrate.backfill`",
            )
        )
    return found


def is_unfit(column: Column[Any]) -> ColumnElement[bool] | None:
    """The condition that SQLite holds in `column` what its type cannot read; None for a type that reads anything."""
    kind: Any = column.type
    plain = type_coerce(column, String())
    stored = func.typeof(column)
    if isinstance(kind, Amount):
        [check] = [c for c in kind.checks(column.name) if c.info[AMOUNT_CHECK][-1] == "sqlite"]
        return column.is_not(None) & or_(stored != "text", not_(check.sqltext))
    rule = _unfit(kind if isinstance(kind, Encrypted) else getattr(kind, "impl_instance", kind), plain, stored)
    if isinstance(kind, UtcTime):
        rule = or_(not_(plain.op("GLOB", is_comparison=True)(_TIME)), func.julianday(column).is_(None))
    return None if rule is None else column.is_not(None) & rule


def _unfit(kind: Any, plain: ColumnElement[Any], stored: ColumnElement[Any]) -> Any:
    if isinstance(kind, Encrypted | LargeBinary):
        return stored != "blob"
    if isinstance(kind, JSON):
        return func.json_valid(plain) == literal_column("0")
    if isinstance(kind, Enum):
        return plain.not_in(list(kind.enums))
    if isinstance(kind, Uuid):
        return or_(func.length(plain) != 32, plain.op("GLOB", is_comparison=True)("*[^0-9a-f]*"))
    if isinstance(kind, Boolean):
        return or_(stored != "integer", type_coerce(plain, Integer()).not_in([0, 1]))
    if isinstance(kind, Integer):
        return stored != "integer"
    if isinstance(kind, Numeric | Float):
        return stored.not_in(["integer", "real"])
    if isinstance(kind, Date):
        return not_(plain.op("GLOB", is_comparison=True)(_DATE))
    if isinstance(kind, String):
        return stored != "text"
    return None
