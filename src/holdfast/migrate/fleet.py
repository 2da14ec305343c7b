"""The same migrations over many databases: a file for each tenant."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from holdfast.errors import HoldfastError
from holdfast.migrate.files import Phase
from holdfast.migrate.runner import Migrations

Opener = Callable[[Path], Awaitable[Migrations]]


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A database that could not be migrated, and why."""

    file: str
    reason: str


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many databases.

    Attributes:
        migrated: how many were brought further; unchanged: how many were there already.
        failed: those that were not; nothing of the migration that failed was done to them.
    """

    migrated: int
    unchanged: int
    failed: tuple[Failed, ...]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every database is where it should be."""
        return not self.failed


async def migrate_fleet(
    files: Iterable[Path],
    open_migrations: Opener,
    *,
    phase: Phase | None = None,
    to: str | None = None,
    told: Callable[[Path], None] | None = None,
) -> FleetReport:
    """Bring each database up in turn; one that fails is reported, and the others go on.

    It may be stopped at any moment and run again: what was migrated is not touched twice.

    Args:
        open_migrations: the migrations of one database, whose store is closed here.
        told: called with each file when it is done.
    """
    began = time.monotonic()
    migrated = unchanged = 0
    failed: list[Failed] = []
    for file in files:
        try:
            migrations = await open_migrations(file)
            try:
                done = await migrations.up(phase=phase, to=to)
            finally:
                await migrations.store.close()
        except HoldfastError as error:
            failed.append(Failed(file=str(file), reason=str(error)))
        else:
            migrated += bool(done)
            unchanged += not done
        if told is not None:
            told(file)
    return FleetReport(
        migrated=migrated, unchanged=unchanged, failed=tuple(failed), seconds=round(time.monotonic() - began, 3)
    )
