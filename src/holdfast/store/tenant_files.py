"""A SQLite file for each tenant: opened when first used, closed when idle, never more than so many at a time."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from holdfast.errors import InvalidValue, Unavailable
from holdfast.settings import Settings
from holdfast.store.scope import checked_tenant
from holdfast.store.unit import Unit

_SUFFIX = ".db"
_LONGEST = 120  # characters of a name: file systems take 255 bytes, and SQLite adds -journal
_PLAIN = re.compile(rb"[a-z0-9_-]")


class Database(Protocol):
    """What is opened for a tenant: a `Store`, or a `Holdfast` with a journal of its own."""

    def unit(self, **context: Any) -> AbstractAsyncContextManager[Unit]:
        """A unit that writes."""
        ...

    def read(self, **context: Any) -> AbstractAsyncContextManager[Unit]:
        """A unit that reads."""
        ...

    async def close(self) -> None:
        """Drop its connections."""
        ...


D = TypeVar("D", bound=Database)


class _Open(Generic[D]):
    """One tenant's database, or its opening."""

    def __init__(self, opening: asyncio.Task[D]) -> None:
        self.opening = opening
        self.users = 1
        self.used = time.monotonic()
        self.closing: asyncio.Task[None] | None = None


class TenantFiles(Generic[D]):
    """The databases of all tenants, `folder/<name>.db` each.

    Args:
        settings: of every one of them, but for the URL.
        folder: where the files are; made if it is not there.
        opener: opens a database with its settings; it makes the tables too.
        most: files open at a time; a further tenant waits until one of them is idle.
        idle: seconds after which a file that nobody uses is closed.
        create: whether a tenant without a file gets one; else it is `Unavailable`.

    Example::

        tenants = TenantFiles(settings, "tenants", lambda one: Holdfast.open(settings=one, metadata=Base.metadata))
        async with tenants.unit(tenant="acme", actor="ada") as unit:
            unit.add(Note(text="hers alone"))
    """

    def __init__(
        self,
        settings: Settings,
        folder: str | Path,
        opener: Callable[[Settings], Awaitable[D]],
        *,
        most: int = 100,
        idle: float = 60.0,
        create: bool = True,
    ) -> None:
        if most < 1 or idle < 0:
            raise InvalidValue(f"most={most} must be at least 1 and idle={idle} at least 0")
        self.settings = settings
        self.folder = Path(folder)
        self.most = most
        self.idle = idle
        self.create = create
        self._opener = opener
        self._open: OrderedDict[str, _Open[D]] = OrderedDict()
        self._freed = asyncio.Event()
        self._sweeping: asyncio.Task[None] | None = None
        self._refusing = False

    def file(self, tenant: str) -> Path:
        """Where the rows of `tenant` are. Different tenants have different files, on any file system.

        Raises:
            InvalidValue: it can be no tenant.
        """
        return self.folder / (file_name(tenant) + _SUFFIX)

    def files(self) -> list[Path]:
        """The file of every tenant that has one, sorted."""
        return sorted(self.folder.glob(f"*{_SUFFIX}"))

    def unit(self, *, tenant: str, **context: Any) -> AbstractAsyncContextManager[Unit]:
        """A unit in the database of `tenant`, confined to it where models are tenanted too; see `Store.unit`.

        Raises:
            InvalidValue: it can be no tenant. Unavailable: it has no file, or no file became idle in time.
        """
        return self._unit(tenant, lambda database: database.unit(tenant=tenant, **context))

    def read(self, *, tenant: str) -> AbstractAsyncContextManager[Unit]:
        """A unit that only reads; see `unit`."""
        return self._unit(tenant, lambda database: database.read(tenant=tenant))

    @asynccontextmanager
    async def database(self, tenant: str) -> AsyncIterator[D]:
        """The database of `tenant`, open as long as the block lasts."""
        entry = await self._enter(tenant)
        try:
            yield await asyncio.shield(entry.opening)
        except BaseException:
            if entry.opening.done() and (entry.opening.cancelled() or entry.opening.exception() is not None):
                self._open.pop(tenant, None)  # the next one tries again
            raise
        finally:
            entry.users -= 1
            entry.used = time.monotonic()
            self._freed.set()

    async def close(self) -> None:
        """Refuse further units, and close every file; units that are open are waited for as `Store.close` does."""
        self._refusing = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*(self._drop(tenant) for tenant in list(self._open)))

    def __len__(self) -> int:
        """How many files are open."""
        return len(self._open)

    @asynccontextmanager
    async def _unit(self, tenant: str, begin: Callable[[D], AbstractAsyncContextManager[Unit]]) -> AsyncIterator[Unit]:
        async with self.database(tenant) as database, begin(database) as unit:
            yield unit

    async def _enter(self, tenant: str) -> _Open[D]:
        file = self.file(tenant)
        deadline = time.monotonic() + self.settings.pool_timeout
        while True:
            if self._refusing:
                raise Unavailable(f"{self.folder} is being closed; no new unit begins")
            entry = self._open.get(tenant)
            if entry is not None and entry.closing is None:
                entry.users += 1
                self._open.move_to_end(tenant)
                return entry
            if entry is not None and entry.closing is not None:
                await asyncio.shield(entry.closing)
            elif len(self._open) < self.most:
                if not self.create and not file.exists():
                    raise Unavailable(f"the tenant {tenant!r} has no file in {self.folder}; make it first")
                entry = self._open[tenant] = _Open(asyncio.ensure_future(self._begin(file)))
                if self._sweeping is None:
                    self._sweeping = asyncio.create_task(self._sweep())
                return entry
            elif (oldest := self._idle()) is not None:
                await self._drop(oldest)
            else:
                await self._one_is_freed(deadline)

    async def _begin(self, file: Path) -> D:
        self.folder.mkdir(parents=True, exist_ok=True)
        own: dict[str, Any] = {"database_url": f"sqlite:///{file}", "database_url_is_default": False}
        return await self._opener(msgspec.structs.replace(self.settings, **own))

    def _idle(self, before: float = float("inf")) -> str | None:
        """The tenant that nobody uses since longest, and since `before`."""
        unused = (t for t, e in self._open.items() if not e.users and e.closing is None and e.used <= before)
        return next(unused, None)

    async def _one_is_freed(self, deadline: float) -> None:
        self._freed.clear()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._freed.wait()
        except TimeoutError:
            raise Unavailable(
                f"all {self.most} files of {self.folder} that may be open are in use; raise most, or end units sooner"
            ) from None

    async def _drop(self, tenant: str) -> None:
        entry = self._open[tenant]
        if entry.closing is None:
            entry.closing = asyncio.create_task(self._close(tenant, entry))
        await asyncio.shield(entry.closing)

    async def _close(self, tenant: str, entry: _Open[D]) -> None:
        try:
            await (await entry.opening).close()
        finally:
            self._open.pop(tenant, None)
            self._freed.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(max(self.idle / 4, 0.01))
            while (tenant := self._idle(time.monotonic() - self.idle)) is not None:
                await self._drop(tenant)


def file_name(tenant: str) -> str:
    """A name that only this tenant has, made of lower-case letters, digits, `_`, `-` and `~`.

    Every other byte of its UTF-8 is written `~` and two hexadecimal digits, capitals too, since some file systems do
    not tell them apart. What would be too long ends in a hash instead.

    Raises:
        InvalidValue: it can be no tenant.
    """
    checked = checked_tenant(tenant)
    if not isinstance(checked, str):
        raise InvalidValue(f"a file belongs to one tenant, not to {tenant!r}")
    whole = checked.encode()
    name = "".join(chr(byte) if _PLAIN.match(bytes((byte,))) else f"~{byte:02x}" for byte in whole)
    if len(name) <= _LONGEST:
        return name
    # `~h` is never followed so in the other form, for h is no hexadecimal digit.
    return f"{name[: _LONGEST - 66]}~h{hashlib.sha256(whole).hexdigest()}"
