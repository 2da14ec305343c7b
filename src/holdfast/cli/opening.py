"""A database opened for one command, and what goes wrong with it said so that a person can act."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holdfast.cli.models import metadata_of
from holdfast.cli.output import OutputLost

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from holdfast.hold import Holdfast

_NAMED = 3  # of what a database lacks


@asynccontextmanager
async def opened(
    database: str | None, *, metadata: MetaData | None = None, migrate: bool = False, **overrides: Any
) -> AsyncIterator[Holdfast]:
    """The database that was asked for, with the configured models unless others are given; closed at the end.

    Raises:
        MigrationError: what the block asked for failed, and the database lacks what the models have.
        HoldfastError: as opening it, or the block, says; what a driver raises is translated.
    """
    from holdfast.errors import ConfigurationError, MigrationError, StoreError, Unavailable
    from holdfast.hold import Holdfast
    from holdfast.settings import Settings
    from holdfast.store.failures import is_of_the_driver, translate

    settings = Settings.from_environment(database_url=database, **overrides)
    kept = metadata_of(settings) if metadata is None else metadata
    hold = Holdfast(settings, metadata=kept)
    if hold.store.in_memory:
        raise ConfigurationError(
            f"{settings.database_url} is a database in memory, which is gone when the command ends; name a file, as in"
            " sqlite:///holdfast.db"
        )
    await hold.start(migrate=migrate)
    async with hold:
        try:
            yield hold
        except OutputLost:
            raise
        except Exception as error:
            meaning = translate(error, hold.store.place)
            if meaning is None and not is_of_the_driver(error):
                raise
            meaning = meaning or StoreError(f"{hold.store.place}: {error}")
            if lacking := await _lacking(hold) if not isinstance(meaning, (Unavailable, ConfigurationError)) else []:
                more = f" and {len(lacking) - _NAMED} more" if lacking[_NAMED:] else ""
                meaning = MigrationError(
                    f"{hold.store.place} is not migrated ({', '.join(lacking[:_NAMED])}{more});"
                    " run `holdfast migrate up`"
                )
            raise meaning from error


async def _lacking(hold: Holdfast) -> list[str]:
    from holdfast.errors import HoldfastError

    try:
        return (await hold.pending()).lines()
    except HoldfastError:
        return []  # then it is not what is missing that stands in the way
