"""What the database itself gives a row that was written by raw SQL."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import String, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from holdfast.model.types import UtcTime


class database_id(FunctionElement[UUID]):
    """The id that the database gives a row written by raw SQL without one (random, not ordered by time)."""

    type = Uuid()
    inherit_cache = True


class database_now(FunctionElement[dt.datetime]):
    """Now, in the form in which `UtcTime` is kept."""

    type = UtcTime()
    inherit_cache = True


@compiles(database_id)
def _id_default(element: database_id, compiler: Any, **options: Any) -> str:
    return "gen_random_uuid()"


@compiles(database_id, "sqlite")
def _id_default_sqlite(element: database_id, compiler: Any, **options: Any) -> str:
    return "(lower(hex(randomblob(16))))"


@compiles(database_now)
def _now_default(element: database_now, compiler: Any, **options: Any) -> str:
    return "now()"


@compiles(database_now, "sqlite")
def _now_default_sqlite(element: database_now, compiler: Any, **options: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class database_actor(FunctionElement[str]):
    """Who acts in the unit of work, on PostgreSQL; SQLite has nowhere to ask."""

    type = String()
    inherit_cache = True


@compiles(database_actor)
def _actor_default(element: database_actor, compiler: Any, **options: Any) -> str:
    return "nullif(current_setting('holdfast.actor', true), '')"


@compiles(database_actor, "sqlite")
def _actor_default_sqlite(element: database_actor, compiler: Any, **options: Any) -> str:
    return "NULL"
