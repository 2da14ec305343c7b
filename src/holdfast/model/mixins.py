"""Columns that many models have, kept by the library: times, actors, versions, deletion without loss."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from holdfast.model.defaults import database_actor, database_now
from holdfast.model.policy import PLAIN


class Timestamps:
    """Adds `created_at` and `updated_at` (UTC), kept by the library and defaulted by the database."""

    created_at: Mapped[dt.datetime] = mapped_column(
        info=PLAIN, default=lambda: dt.datetime.now(dt.UTC), server_default=database_now(), sort_order=90
    )
    updated_at: Mapped[dt.datetime] = mapped_column(
        info=PLAIN,
        default=lambda: dt.datetime.now(dt.UTC),
        onupdate=lambda: dt.datetime.now(dt.UTC),
        server_default=database_now(),
        sort_order=91,
    )


class Attributed:
    """Adds `created_by` and `updated_by`: the actor of the unit that wrote the row, None where it names none.

    A row that gives `created_by` or `updated_by` as it is inserted (an import) keeps what it gives. On PostgreSQL raw
    SQL inside a unit is attributed too.
    """

    created_by: Mapped[str | None] = mapped_column(server_default=database_actor(), sort_order=93, info=PLAIN)
    updated_by: Mapped[str | None] = mapped_column(server_default=database_actor(), sort_order=94, info=PLAIN)


class Versioned:
    """Adds `version`, raised by every update but raw SQL's.

    `update(…, expect=version)` refuses to overwrite a newer one, as `delete` and `restore` do, and so does the flush
    of a row that was changed in Python: `Conflict`.
    """

    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=92, info=PLAIN)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


class SoftDeleted:
    """Adds `deleted_at`: `delete` sets it, `restore` clears it, `purge` really deletes.

    Queries leave deleted rows out, also as related rows, unless they say `with_deleted()` or `only_deleted()`. A
    `deleted_by` that the model declares beside it is the actor of the unit that deleted. What is to be unique among
    the rows that are not deleted is declared with `live_unique`.
    """

    deleted_at: Mapped[dt.datetime | None] = mapped_column(sort_order=95, info=PLAIN)


def live_unique(*columns: str) -> Index:
    """For `__table_args__` of a `SoftDeleted` model: unique among the rows that are not deleted.

    A row whose values are taken again meanwhile cannot be restored: `Conflict`.
    """
    kept = text("deleted_at IS NULL")
    return Index(None, *columns, unique=True, sqlite_where=kept, postgresql_where=kept)
