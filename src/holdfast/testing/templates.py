"""A database with the models' tables, made once, and copies of it that a test may do anything with."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, MetaData
from sqlalchemy.engine import make_url

from holdfast.cli.models import metadata_of
from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.hold import Holdfast
from holdfast.settings import Settings, hide_password

T = TypeVar("T")
Models = Sequence[MetaData]

_DENIED = "42501"
_numbers = itertools.count(1)


class Template:
    """A database that is copied for each test.

    Args:
        copy: makes a copy for a folder of the test's own; gives its URL, and what removes it.
    """

    def __init__(self, metadatas: Models, copy: Callable[[Path], tuple[str, Callable[[], None]]]) -> None:
        self.metadatas = tuple(metadatas)
        self._copy = copy

    @contextmanager
    def copied(self, folder: Path) -> Iterator[str]:
        """The URL of a database of one's own, gone after the block."""
        url, remove = self._copy(folder)
        try:
            yield url
        finally:
            remove()


def configured_models() -> tuple[MetaData, ...]:
    """The metadata of the models that HOLDFAST_MODELS names. ConfigurationError: there are none."""
    return metadata_of(Settings.from_environment(environment="development"))


@contextmanager
def template(metadatas: Models, folder: Path, server: str | None = None) -> Iterator[Template]:
    """Make a template: a SQLite file in `folder`, or on the PostgreSQL at the URL `server` a database of its own.

    Nothing in the database that `server` names is touched; its role must be allowed to create databases.

    Raises:
        ConfigurationError: the role may not create databases, or the URL is none of PostgreSQL.
    """
    if server is None:
        with _sqlite(metadatas, folder) as made:
            yield made
    else:
        with _postgres(metadatas, server) as made:
            yield made


@asynccontextmanager
async def opened(url: str, metadatas: Models) -> AsyncIterator[Holdfast]:
    """A `Holdfast` on a copy, closed at the end."""
    hold = Holdfast(_settings(url), metadata=metadatas)
    await hold.start(migrate=False)
    async with hold:
        yield hold


@contextmanager
def _sqlite(metadatas: Models, folder: Path) -> Iterator[Template]:
    original = folder / "template.db"
    _run(_make(f"sqlite:///{original}", metadatas))

    def copy(into: Path) -> tuple[str, Callable[[], None]]:
        file = into / f"holdfast-{next(_numbers)}.db"
        for end in ("", "-wal"):
            if (whole := Path(f"{original}{end}")).exists():
                shutil.copyfile(whole, f"{file}{end}")

        def remove() -> None:
            for end in ("", "-wal", "-shm"):
                Path(f"{file}{end}").unlink(missing_ok=True)

        return f"sqlite:///{file}", remove

    yield Template(metadatas, copy)


@contextmanager
def _postgres(metadatas: Models, server: str) -> Iterator[Template]:
    url = _parsed(server)
    name = f"holdfast_test_{os.getpid()}_{next(_numbers)}"
    _run(_execute(server, f'CREATE DATABASE "{name}"'))
    try:
        _run(_make(_told(url.set(database=name)), metadatas))

        def copy(into: Path) -> tuple[str, Callable[[], None]]:
            mine = f"{name}_{next(_numbers)}"
            _run(_execute(server, f'CREATE DATABASE "{mine}" TEMPLATE "{name}"'))
            drop = f'DROP DATABASE IF EXISTS "{mine}" WITH (FORCE)'
            return _told(url.set(database=mine)), lambda: _run(_execute(server, drop))

        yield Template(metadatas, copy)
    finally:
        _run(_execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def _make(url: str, metadatas: Models) -> None:
    async with await Holdfast.open(settings=_settings(url), metadata=metadatas, migrate=True):
        pass


async def _execute(server: str, statement: str) -> None:
    try:
        import asyncpg
    except ImportError:
        raise MissingExtra("HOLDFAST_TEST_DATABASE_URL needs asyncpg: pip install 'holdfast[postgres]'") from None
    try:
        connection = await asyncpg.connect(server)
    except OSError as error:
        raise ConfigurationError(
            f"HOLDFAST_TEST_DATABASE_URL is {hide_password(server)}, which cannot be reached ({error}); start it,"
            " or unset it to test on SQLite"
        ) from error
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        if error.sqlstate != _DENIED:
            raise
        role = await connection.fetchval("SELECT current_user")
        raise ConfigurationError(
            f"the role {role} of HOLDFAST_TEST_DATABASE_URL may not create databases, and every test gets one; run"
            f' ALTER ROLE "{role}" CREATEDB, name another role, or unset it to test on SQLite'
        ) from error
    finally:
        await connection.close()


def _settings(url: str) -> Settings:
    """As configured, but for the database, and never production."""
    given = {name: value for name, value in os.environ.items() if name in ("HOLDFAST_ENCRYPTION_KEYS",)}
    return Settings.from_environment(given, database_url=url, environment="development", migrations="/nonexistent")


def _parsed(server: str) -> URL:
    url = make_url(server)
    if not url.drivername.startswith(("postgresql", "postgres")):
        raise ConfigurationError(
            f"HOLDFAST_TEST_DATABASE_URL is {hide_password(server)}; name a PostgreSQL, or unset it to test on SQLite"
        )
    return url


def _told(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own: the test's must not be touched."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
