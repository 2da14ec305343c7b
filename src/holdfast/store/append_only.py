"""`AppendOnly`: a table whose rows are only ever added."""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import ModelError
from holdfast.model import Aspect, Model
from holdfast.store.partitions import Monthly

_FUNCTION = """
    CREATE OR REPLACE FUNCTION {schema}.holdfast_append_only() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $holdfast${source}$holdfast$
"""
_SOURCE = """
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('holdfast.retiring', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% of % is refused: its rows are only ever added', TG_OP, TG_TABLE_NAME
        USING HINT = 'retention alone deletes them', ERRCODE = 'feature_not_supported';
END
"""
_TRIGGER = """
    CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.holdfast_append_only()
"""
_THERE = """
    SELECT t.tgenabled::text, p.prosrc, t.tgtype FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = to_regclass($1) AND t.tgname = 'append_only'
"""
_ON_UPDATE_DELETE_TRUNCATE = 2 | 8 | 16 | 32  # of tgtype: before, delete, update, truncate; for each statement


class AppendOnly(Aspect):
    """Refuses UPDATE and TRUNCATE of the table, and DELETE by anybody but retention (`holdfast.journal.retiring`).

    Triggers do that, on PostgreSQL and SQLite, against programs and people that err. Who may alter the table, or says
    that he is retention, gets around them. Where row security is on, no role of the application has the privileges
    either; and where it must be found out, chain the rows as the audit trail does.

    Args:
        by_workers: whether only units for all tenants add rows; those of a tenant read theirs.
    """

    def __init__(self, *, by_workers: bool = False) -> None:
        self.by_workers = by_workers

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a table with partitions, which could be written to by themselves."""
        if model.__policy__.aspect(Monthly) is not None:
            raise ModelError(f"{model.__name__} is AppendOnly and Monthly, which do not go together; leave one of them")


def append_only_models(models: Iterable[type[Model]]) -> list[type[Model]]:
    """Those of which roles have SELECT and INSERT at most."""
    return [model for model in models if model.__policy__.aspect(AppendOnly) is not None]


async def install(connection: AsyncConnection, models: Iterable[type[Model]]) -> None:
    """Make or replace the triggers of those models that are append-only, in the connection's transaction."""
    schema = None
    for model in append_only_models(models):
        if connection.dialect.name == "sqlite":
            for name, sql in _sqlite_triggers(model).items():
                await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
                await connection.exec_driver_sql(sql)
            continue
        if schema is None:
            schema = _quoted((await connection.exec_driver_sql("SELECT current_schema()")).scalar_one())
            await connection.exec_driver_sql(_FUNCTION.format(schema=schema, source=_SOURCE))
        await connection.exec_driver_sql(_TRIGGER.format(schema=schema, table=_quoted(model.__tablename__)))


async def verify(connection: AsyncConnection, models: Iterable[type[Model]]) -> list[str]:
    """What is missing or disabled of these triggers, a sentence each; `install` mends it."""
    problems = []
    for model in append_only_models(models):
        name = model.__tablename__
        if connection.dialect.name == "sqlite":
            sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
            there = {row.name: row.sql for row in await connection.exec_driver_sql(sql, (name,))}
            is_whole = all(there.get(trigger) == sql for trigger, sql in _sqlite_triggers(model).items())
        else:
            row = (await connection.exec_driver_sql(_THERE, (_quoted(name),))).first()
            is_whole = (
                row is not None
                and row.tgenabled in ("O", "A")
                and row.prosrc == _SOURCE
                and row.tgtype & _ON_UPDATE_DELETE_TRUNCATE == _ON_UPDATE_DELETE_TRUNCATE
            )
        if not is_whole:
            problems.append(f"{name} lacks the triggers that refuse UPDATE and DELETE of it")
    return problems


def _sqlite_triggers(model: type[Model]) -> dict[str, str]:
    """The triggers by name. REPLACE evicts rows without a trigger for DELETE, so it is refused as the INSERT it is."""
    table: Any = model.__table__
    keys = [table.primary_key.columns, *(c.columns for c in table.constraints if isinstance(c, UniqueConstraint))]
    same = " OR ".join(
        "(" + " AND ".join(f"{_quoted(c.name)} = NEW.{_quoted(c.name)}" for c in key) + ")" for key in keys
    )
    whens = {
        "update": ("UPDATE", ""),
        "delete": ("DELETE", " WHEN (SELECT retiring FROM holdfast_context) IS NOT 1"),
        "replace": ("INSERT", f" WHEN EXISTS (SELECT 1 FROM {_quoted(table.name)} WHERE {same})"),
    }
    made = {}
    for what, (event, when) in whens.items():
        name = f"append_only_{table.name}_{what}"
        told = f"{what.upper()} of {table.name} is refused: its rows are only ever added".replace("'", "''")
        made[name] = (
            f"CREATE TRIGGER {_quoted(name)} BEFORE {event} ON {_quoted(table.name)} FOR EACH ROW{when}"
            f" BEGIN SELECT RAISE(ABORT, '{told}'); END"
        )
    return made


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
