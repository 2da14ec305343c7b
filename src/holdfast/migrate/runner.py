"""`Migrations`: the migrations of a folder and one database."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, MetaData

from holdfast.errors import MigrationError
from holdfast.journal import schema as journal_schema
from holdfast.logs import get_logger
from holdfast.migrate import files, history, hooks, schema, triggers
from holdfast.migrate.additive import make_missing, make_sound, unsound
from holdfast.migrate.backfills.report import Progress
from holdfast.migrate.execution import Stepped, run_script, writing
from holdfast.migrate.files import Direction, MigrationFile, Phase
from holdfast.migrate.history import Event, Problem
from holdfast.migrate.limits import Limits, LockBudget, is_worth_another_try, pause
from holdfast.migrate.partitions import keep_partitions
from holdfast.migrate.selection import Status, of_phase, raise_for, statuses, to_take_back
from holdfast.migrate.turns import turn
from holdfast.model import Model
from holdfast.store import Monthly, Store
from holdfast.store.failures import translate

log = get_logger("holdfast.migrate")


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that was run: which, in which direction, and how long it took in seconds."""

    revision: str
    direction: Direction
    seconds: float


Told = Callable[[str, str], None]


class Migrations:
    """Brings one database along the migrations of a folder.

    Args:
        house: the metadata of Holdfast's own tables, which are made when they are missing.
        before: awaited before anything is run; those given to `before_migrate` unless others are.
        wait: seconds to wait for another runner.
        known: the migrations of the folder, where they are read once for many databases.

    Attributes:
        progress: called after each batch of a backfill that is among the migrations.
    """

    progress: Callable[[Progress], None] | None = None

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        metadatas: Sequence[MetaData] = (),
        models: Sequence[type[Model]] = (),
        house: Sequence[MetaData] = (),
        limits: Limits | None = None,
        before: Sequence[hooks.Before] | None = None,
        wait: float = 600.0,
        known: Sequence[MigrationFile] | None = None,
    ) -> None:
        self.store = store
        self.folder = folder
        self.metadatas = tuple(metadatas)
        self.models = list(models)
        self._house = (*house, history.metadata)
        self._limits = limits or Limits()
        self._before = hooks.registered if before is None else list(before)
        self.wait = wait
        self._known_files = known

    def files(self) -> list[MigrationFile]:
        """The migrations, first to newest. MigrationError: they do not stand in one line, or one is no migration."""
        return files.read_folder(self.folder) if self._known_files is None else list(self._known_files)

    async def events(self) -> list[Event]:
        """What was done to the database, oldest first."""
        async with self.store.connect() as connection:
            return await connection.run_sync(history.read)

    async def status(self) -> list[Status]:
        """Each migration of the folder, and those that the database has without a file."""
        return statuses(self.files(), history.applied(await self.events()))

    async def problems(self) -> list[Problem]:
        """Why nothing may run: files that were edited, are missing or were put into another order."""
        return history.problems(self.files(), history.applied(await self.events()))

    async def pending(self) -> list[MigrationFile]:
        """What `up` would run, in order.

        Raises:
            MigrationError: the files are not what was applied.
        """
        known = self.files()
        have = history.applied(await self.events())
        raise_for(history.problems(known, have))
        whole = {one.revision for one in have if one.interrupted is None}
        return [file for file in known if file.revision not in whole]

    async def chosen(self, *, phase: Phase | None = None, to: str | None = None) -> list[MigrationFile]:
        """What `up` with the same arguments would run, in order.

        Raises:
            MigrationError: the files are not what was applied, or the phase cannot be run yet.
        """
        self.require(to)
        pending = of_phase(await self.pending(), phase)
        if to is None:
            return pending
        names = [file.revision for file in pending]
        return pending[: names.index(to) + 1] if to in names else []

    async def up(self, *, phase: Phase | None = None, to: str | None = None, told: Told | None = None) -> list[Done]:
        """Run what is pending, and make sure that Holdfast's own tables and the capture are whole.

        Args:
            phase: "pre" stops before the first that is to run after the deployment; "post" runs those only.
            to: the last revision to run.
            told: called with a revision and its title before each.

        Raises:
            MigrationError: the files are not what was applied, a migration failed, or the phase cannot be run yet.
            Unavailable: another runner is at work, or the database cannot be reached.
        """
        self.require(to)
        async with turn(self.store, wait=self.wait):
            await self.prepare()
            done = await self._finish_down(told)
            pending = await self.chosen(phase=phase, to=to)
            await self._announce("up", pending)
            for file in pending:
                done.append(await self._run(file, "up", told))
            await self.make_whole()
        return done

    async def down(self, *, to: str | None = None, steps: int = 1, told: Told | None = None) -> list[Done]:
        """Take back the newest `steps` migrations, or all after `to`; `to="base"` takes back all.

        Raises:
            MigrationError: one is irreversible (nothing is then taken back), was interrupted, or failed.
        """
        if to != "base":
            self.require(to)
        async with turn(self.store, wait=self.wait):
            await self.prepare()
            done = await self._finish_down(told)
            known = {file.revision: file for file in self.files()}
            have = history.applied(await self.events())
            raise_for(history.problems(list(known.values()), have))
            back = to_take_back(have, to, steps)
            for one in back:
                known[one.revision].script("down")
                if one.interrupted is not None:
                    raise MigrationError(f"{one.revision} was interrupted; finish it with `holdfast migrate up` first")
            await self._announce("down", [known[one.revision] for one in back])
            for one in back:
                done.append(await self._run(known[one.revision], "down", told))
        return done

    def require(self, revision: str | None) -> None:
        """Raise `MigrationError` when a revision is named that the folder does not have."""
        if revision is None:
            return
        names = [file.revision for file in self.files()]
        if revision not in names:
            raise MigrationError(
                f"there is no migration {revision!r} in {self.folder}; it has {', '.join(names) or 'none'}"
            )

    async def prepare(self) -> None:
        """Make Holdfast's own tables where they are missing."""
        async with self.store.connect(write=True) as connection:
            await connection.run_sync(make_missing, self._house)
            await journal_schema.install(connection)

    async def _announce(self, direction: Direction, pending: Sequence[MigrationFile]) -> None:
        if not pending:
            return
        planned = hooks.Planned(
            place=self.store.place, direction=direction, revisions=tuple(file.revision for file in pending)
        )
        await hooks.announce(self._before, self.store, planned)

    async def _finish_down(self, told: Told | None) -> list[Done]:
        """Finish what was being taken back when it was killed: halfway, neither program fits."""
        known = {file.revision: file for file in self.files()}
        return [
            await self._run(known[one.revision], "down", told)
            for one in history.applied(await self.events())
            if one.interrupted is not None and one.interrupted.kind == "down" and one.revision in known
        ]

    async def _run(self, file: MigrationFile, direction: Direction, told: Told | None) -> Done:
        if told is not None:
            told(file.revision, file.title)
        log.info("migration_begins", place=self.store.place, revision=file.revision, direction=direction)
        began = time.monotonic()
        try:
            if file.transactional or self.store.dialect == "sqlite":
                await self._in_one_transaction(file, direction)
            else:
                await self._in_steps(file, direction)
        except MigrationError:
            raise
        except Exception as error:
            raise failed(file, direction, error, self.store.place) from error
        seconds = round(time.monotonic() - began, 3)
        log.info("migration_ended", place=self.store.place, revision=file.revision, seconds=seconds)
        return Done(revision=file.revision, direction=direction, seconds=seconds)

    async def _in_one_transaction(self, file: MigrationFile, direction: Direction) -> None:
        async def work() -> None:
            async with writing(self.store) as connection:
                await connection.run_sync(self._transaction, file, direction)

        await self._patiently(file.revision, work)

    def _transaction(self, connection: Connection, file: MigrationFile, direction: Direction) -> None:
        have = {one.revision for one in history.applied(history.read(connection)) if one.interrupted is None}
        if (file.revision in have) == (direction == "up"):
            return  # another process was faster
        if connection.dialect.name == "sqlite":
            run_script(connection, file, direction, plainly=True)
        else:
            with self._budget(connection, file):
                run_script(connection, file, direction, plainly=direction == "down")
        history.note(connection, file.revision, file.checksum, direction, actor())

    async def _in_steps(self, file: MigrationFile, direction: Direction) -> None:
        async with self.store.connect(write=True) as connection:
            event, done, resumes = await connection.run_sync(_begin_or_resume, file, direction)
        if done:
            log.info("migration_resumes", revision=file.revision, step=done + 1)
        stepped = Stepped(
            self.store,
            event,
            done,
            self._limits,
            timeout=file.statement_timeout,
            resumes=resumes,
            progress=self.progress,
        )
        try:
            await stepped.run(file, direction)
        except Exception as error:
            if not stepped.began:
                async with self.store.connect(write=True) as connection:
                    await connection.run_sync(history.undo, event)
            elif not isinstance(error, MigrationError):
                raise failed(file, direction, error, self.store.place, stands=True) from error
            raise
        async with self.store.connect(write=True) as connection:
            await connection.run_sync(history.end, event)

    async def make_whole(self) -> None:
        """Once all migrations are applied, make the partitions to come, and what the models' capture lacks."""
        have = history.applied(await self.events())
        if len(have) < len(self.files()):
            return
        async with self.store.connect() as connection:
            names = set(await connection.run_sync(lambda c: schema.read(c).tables))
            models = [model for model in self.models if model.__tablename__ in names]
            is_whole = not await unsound(self.store, connection, models)
            is_parted = any(model.__policy__.aspect(Monthly) is not None for model in models)
        if not is_whole or (is_parted and self.store.dialect == "postgresql"):
            await self._patiently("capture and partitions", partial(self._keep, models, is_whole))

    async def _keep(self, models: Sequence[type[Model]], is_whole: bool) -> None:
        async with self.store.connect(write=True) as connection:
            with self._budget(connection.sync_connection):
                if await keep_partitions(connection, models) or not is_whole:
                    await triggers.install(connection, models)
                    await make_sound(self.store, connection, models)

    def _budget(self, connection: Any, file: MigrationFile | None = None) -> AbstractContextManager[None]:
        if self.store.dialect == "sqlite":
            return nullcontext()
        return LockBudget(connection, self._limits, statement_timeout=file.statement_timeout if file else None)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, a transaction, again after a pause as long as it does not get its locks."""
        began = time.monotonic()
        attempt = 0
        while True:
            try:
                return await work()
            except Exception as error:
                if not is_worth_another_try(error):
                    raise
                waited = time.monotonic() - began
                if waited >= self._limits.give_up:
                    raise MigrationError(
                        f"{what} did not get its locks in {waited:.0f} s, and nothing of it was done: a long"
                        " transaction holds a table (see pg_stat_activity); end it, or try again at a quieter time"
                    ) from error
                log.info("locks_not_had", what=what, attempt=attempt + 1, waited=round(waited, 1))
            await asyncio.sleep(pause(attempt))
            attempt += 1


def _begin_or_resume(connection: Connection, file: MigrationFile, direction: Direction) -> tuple[int, int, bool]:
    have = {one.revision: one for one in history.applied(history.read(connection))}
    there = have.get(file.revision)
    if there is not None and there.interrupted is not None and there.interrupted.kind == direction:
        history.resumed(connection, there.interrupted.id, file.checksum)
        return there.interrupted.id, there.interrupted.steps, True
    return history.begin(connection, file, direction, actor()), 0, False


def failed(
    file: MigrationFile, direction: Direction, error: Exception, place: str, *, stands: bool = False
) -> MigrationError:
    """What to raise for `error`, which stopped `file`; what it did before `stands`, or was undone."""
    meaning = translate(error, place)
    told = str(meaning) if meaning is not None else f"{type(error).__name__}: {error}"
    kept = "its steps so far stand, and `up` goes on from there" if stands else "nothing of it was done"
    return MigrationError(f"{file.revision} ({direction}) failed, {kept}: {told}")


def actor() -> str:
    """Who runs this: `user@machine`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"unknown@{socket.gethostname()}"
