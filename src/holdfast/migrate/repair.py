"""Putting right what the history and the files say, when a person has decided which of them is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from holdfast.errors import MigrationError
from holdfast.migrate import files, history, schema
from holdfast.migrate.inspection import replay
from holdfast.migrate.runner import Migrations, actor
from holdfast.migrate.scratch import scratch
from holdfast.migrate.turns import turn


async def accept(migrations: Migrations, revision: str) -> None:
    """Take an applied migration's edited file for what was applied."""
    file = next((file for file in migrations.files() if file.revision == revision), None)
    if file is None:
        raise MigrationError(f"there is no file of {revision!r} in {migrations.folder}")
    await _note(migrations, revision, file.checksum, "accept")


async def forget(migrations: Migrations, revision: str) -> None:
    """Drop a migration from what counts as applied; nothing in the database is undone."""
    await _note(migrations, revision, "", "forget")


async def adopt(migrations: Migrations, upto: str | None = None) -> list[str]:
    """Take migrations as applied without running them: the database has their tables already. Returns which.

    Raises:
        MigrationError: the database has not what they make.
    """
    migrations.require(upto)
    known = migrations.files()
    names = [file.revision for file in known]
    chosen = known[: names.index(upto) + 1] if upto is not None else known
    have = {one.revision for one in history.applied(await migrations.events())}
    async with scratch(migrations.store) as connection:
        await replay(connection, chosen)
        wanted = await connection.run_sync(schema.read)
    async with migrations.store.connect() as connection:
        there = await connection.run_sync(schema.read)
    if wrong := schema.differences(there, wanted, of=wanted.tables):
        raise MigrationError(
            f"{migrations.store.place} has not what the migrations make ({'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if wrong[3:] else ''}); bring it there first"
        )
    async with turn(migrations.store, wait=migrations.wait):
        await migrations.prepare()
        async with migrations.store.connect(write=True) as connection:
            for file in chosen:
                if file.revision not in have:
                    await connection.run_sync(history.note, file.revision, file.checksum, "adopt", actor())
        await migrations.make_whole()
    return [file.revision for file in chosen if file.revision not in have]


def move(folder: Path, revision: str) -> Path:
    """Put a migration behind all others of the folder, by rewriting what it follows. Returns its file."""
    known = files.read_all(folder)
    file = next((file for file in known if file.revision == revision), None)
    if file is None:
        raise MigrationError(f"there is no file of {revision!r} in {folder}")
    others = [one for one in known if one is not file]
    line = files.in_line([one if one.follows != revision else replace(one, follows=file.follows) for one in others])
    for one in others:
        if one.follows == revision:
            files.move_behind(one, file.follows)
    files.move_behind(file, line[-1].revision if line else None)
    return file.path


async def _note(migrations: Migrations, revision: str, checksum: str, kind: history.Kind) -> None:
    have = {one.revision for one in history.applied(await migrations.events())}
    if revision not in have:
        raise MigrationError(f"{migrations.store.place} does not have {revision!r}; `holdfast migrate status` lists it")
    async with turn(migrations.store, wait=migrations.wait), migrations.store.connect(write=True) as connection:
        await connection.run_sync(history.note, revision, checksum, kind, actor())
