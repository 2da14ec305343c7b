"""Which backfills there are, how far each came and who runs it: one row each, which moves with every batch."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from typing import Any, Literal

import msgspec
from sqlalchemy import BigInteger, Column, Double, MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import MigrationError
from holdfast.journal.clock import UNIX_NOW
from holdfast.migrate.backfills.report import Progress
from holdfast.model import Text

State = Literal["running", "stopped", "done"]

metadata = MetaData()
BACKFILLS = Table(
    "holdfast_backfills",
    metadata,
    Column("name", Text(), primary_key=True),
    Column("source", Text(), nullable=False),
    Column("checksum", Text(), nullable=False),
    Column("state", Text(), nullable=False),
    Column("progress", Text(), nullable=False),
    Column("holder", Text()),
    Column("token", BigInteger(), nullable=False, server_default="0"),
    Column("until", Double(), nullable=False, server_default="0"),
)

BEGIN = """
    INSERT INTO holdfast_backfills (name, source, checksum, state, progress, token, until)
    VALUES (:name, :source, :checksum, 'stopped', :progress, 0, 0)
    ON CONFLICT (name) DO NOTHING
"""
ANEW = """
    UPDATE holdfast_backfills SET source = :source, checksum = :checksum, state = 'stopped', progress = :progress
    WHERE name = :name AND until < {now}
"""
ACQUIRE = """
    UPDATE holdfast_backfills SET holder = :holder, token = token + 1, until = {now} + :ttl
    WHERE name = :name AND until < {now}
    RETURNING token, checksum, state, progress
"""
HOLDER = "SELECT holder, until - {now} AS seconds FROM holdfast_backfills WHERE name = :name"
MOVE = """
    UPDATE holdfast_backfills SET progress = :progress, state = :state, until = {now} + :ttl
    WHERE name = :name AND token = :token
"""
RENEW = "UPDATE holdfast_backfills SET until = {now} + :ttl WHERE name = :name AND token = :token"
RELEASE = """
    UPDATE holdfast_backfills
    SET until = 0, holder = NULL, state = CASE state WHEN 'running' THEN 'stopped' ELSE state END
    WHERE name = :name AND token = :token
"""

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Progress)


class Taken(msgspec.Struct, frozen=True):
    """The right to run a backfill, and where it stands."""

    token: int
    checksum: str
    state: State
    progress: Progress


class Ledger:
    """The row of one backfill, as one runner sees it.

    Args:
        ttl: seconds after which a runner that says nothing is taken for dead.
    """

    def __init__(self, name: str, dialect: str, *, ttl: float) -> None:
        self._name = name
        self._now = UNIX_NOW[dialect]
        self._ttl = ttl
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._token = 0

    async def begin(self, connection: AsyncConnection, source: str, checksum: str, *, anew: bool) -> None:
        """Make the row where there is none; `anew` takes back how far it came, unless somebody is at it."""
        values = {"source": source, "checksum": checksum, "progress": _encode(Progress()).decode()}
        await self._run(connection, ANEW if anew else BEGIN, **values)
        if anew:
            await self._run(connection, BEGIN, **values)

    async def acquire(self, connection: AsyncConnection) -> Taken | None:
        """Become the runner; None while there is another."""
        row = (await self._run(connection, ACQUIRE, holder=self._holder, ttl=self._ttl)).first()
        if row is None:
            return None
        self._token = row.token
        return Taken(row.token, row.checksum, row.state, _decoder.decode(row.progress))

    async def holder(self, connection: AsyncConnection) -> str:
        """Who runs it, in words."""
        row = (await self._run(connection, HOLDER)).first()
        return f"{row.holder}, which last said so for another {max(0.0, row.seconds):.0f} s" if row else "nobody"

    async def move(self, connection: AsyncConnection, progress: Progress, state: State = "running") -> None:
        """Note, in the batch's own transaction, how far it came.

        Raises:
            MigrationError: another runner took over, and the batch must not stand.
        """
        await self._mine(connection, MOVE, progress=_encode(progress).decode(), state=state, ttl=self._ttl)

    async def renew(self, connection: AsyncConnection) -> None:
        """Stay the runner through a rest. MigrationError: another one took over."""
        await self._mine(connection, RENEW, ttl=self._ttl)

    async def release(self, connection: AsyncConnection) -> None:
        """Let another runner begin at once."""
        await self._run(connection, RELEASE, token=self._token)

    async def _mine(self, connection: AsyncConnection, statement: str, **values: Any) -> None:
        if not (await self._run(connection, statement, token=self._token, **values)).rowcount:
            raise MigrationError(
                f"the backfill {self._name!r} was taken over by another process, because this one said nothing for"
                f" {self._ttl:g} s; what it committed stands, and the other goes on from there"
            )

    async def _run(self, connection: AsyncConnection, statement: str, **values: Any) -> Any:
        return await connection.execute(text(statement.format(now=self._now)), {"name": self._name, **values})


def checksum(*parts: Any) -> str:
    """Of what a backfill is asked to do, as far as it can be told from outside: not of the transform's code."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
