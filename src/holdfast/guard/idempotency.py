"""A request that is sent again is answered again, and does nothing twice.

Who is not sure that his request arrived sends it again under the same key. The answer is kept in the transaction that
did what was asked for: either both are there, or neither is. Answers that did nothing are not kept, so what was
refused may be sent again, mended, under its key.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, delete, select

from holdfast.errors import Conflict, InvalidValue
from holdfast.model import Text
from holdfast.store import ALL, Store, Unit
from holdfast.store.row_security import APP

KEPT = 86_400.0  # seconds
LONGEST = 255  # characters of a key
_PRUNED_EVERY = 60.0  # seconds
_PRUNED = 1_000  # rows a statement

metadata = MetaData()
answers = Table(
    "holdfast_answers",
    metadata,
    Column("caller", Text(80), nullable=False),
    Column("key", Text(LONGEST), nullable=False),
    Column("request", LargeBinary(), nullable=False),  # its SHA-256
    Column("status", Integer(), nullable=False),
    Column("headers", LargeBinary(), nullable=False),  # JSON
    Column("body", LargeBinary(), nullable=False),
    Column("digest", LargeBinary(), nullable=False),  # of the body, its SHA-256
    Column("ends", BigInteger(), nullable=False, index=True),  # seconds since 1970
    PrimaryKeyConstraint("caller", "key"),
)

# One transaction at a time answers a key; who finds another at it need not wait to know.
_ROLE = "SELECT set_config('role', :role, true)"
_TRY = "SELECT pg_try_advisory_xact_lock(hashtextextended(:place, 1751739494))"


class InFlight(Conflict):
    """The same request is being answered just now."""


class OtherRequest(InvalidValue):
    """The key was used for another request."""


class Kept(msgspec.Struct, frozen=True):
    """An answer as it is kept."""

    status: int
    headers: dict[str, str]
    body: bytes


def caller_of(user_id: object, org_id: object = None) -> str:
    """For whom answers are kept: an organisation, or a user without one, with the kind before it."""
    return f"user:{user_id}" if org_id is None else f"org:{org_id}"


def digest_of(*parts: str | bytes) -> bytes:
    """What tells one request from another: SHA-256 of its parts, each with its length before it."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big") + data)
    return found.digest()


def checked_key(key: str) -> str:
    """`key`. InvalidValue: it can be none."""
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidValue(f"Idempotency-Key is 1 to {LONGEST} visible ASCII characters, such as a UUID")
    return key


class Answers:
    """The answers of this data layer's requests, by caller and key, for 24 hours."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._now: set[tuple[str, str]] = set()
        self._prune_at = 0.0

    @contextmanager
    def turn(self, caller: str, key: str) -> Iterator[None]:
        """The time in which a request is answered in this process.

        Raises:
            InFlight: it is being answered already.
        """
        place = (caller, key)
        if place in self._now:
            raise _in_flight()
        self._now.add(place)
        try:
            yield
        finally:
            self._now.discard(place)

    async def find(self, unit: Unit, caller: str, key: str, request: bytes) -> Kept | None:
        """The answer that was given before; None where there is none, and then nobody else gives one until the unit
        ends.

        Args:
            request: the digest of the request.

        Raises:
            InFlight: another process answers it just now. OtherRequest: the key was used for another request.
        """
        if unit.store.dialect == "postgresql":
            place = {"place": f"{caller} {key}"}
            if not (await unit.execute(_TRY, place)).scalar_one():
                raise _in_flight()
        mine = (answers.c.caller == caller) & (answers.c.key == key)
        async with _as_the_login(unit):
            row = (await unit.execute(select(answers).where(mine))).first()
            if row is not None and row.ends <= time.time():
                await unit.execute(delete(answers).where(mine))
                row = None
        if row is None:
            return None
        if row.request != request:
            raise OtherRequest("this Idempotency-Key was used for another request; take a new one for each")
        if hashlib.sha256(row.body).digest() != row.digest:
            raise Conflict("what was kept of the answer is not what was given; look whether it was done")
        return Kept(row.status, msgspec.json.decode(row.headers, type=dict[str, str]), row.body)

    async def keep(self, unit: Unit, caller: str, key: str, request: bytes, kept: Kept) -> None:
        """Keep an answer with what this unit does."""
        values = {
            "caller": caller,
            "key": key,
            "request": request,
            "status": kept.status,
            "headers": msgspec.json.encode(kept.headers),
            "body": kept.body,
            "digest": hashlib.sha256(kept.body).digest(),
            "ends": int(time.time() + KEPT),
        }
        async with _as_the_login(unit):
            await unit.execute(answers.insert().values(**values))
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + _PRUNED_EVERY
            unit.after_commit(self._prune)

    async def prune(self) -> int:
        """Remove answers that are kept no longer, a thousand at most; returns how many."""
        ended = select(answers.c.caller, answers.c.key).where(answers.c.ends <= int(time.time())).limit(_PRUNED)
        async with self._store.connect(write=True) as connection:
            gone = (await connection.execute(ended)).all()
            for row in gone:
                mine = (answers.c.caller == row.caller) & (answers.c.key == row.key)
                await connection.execute(delete(answers).where(mine, answers.c.ends <= int(time.time())))
        return len(gone)

    async def _prune(self) -> None:
        await self.prune()


@asynccontextmanager
async def _as_the_login(unit: Unit) -> AsyncIterator[None]:
    """A time in which a unit is not confined by row security: the table of answers is no tenant's.

    Nothing but the statements of this module runs in it. What raises inside leaves the role as it is, and the
    transaction to be rolled back.
    """
    is_confined = (
        unit.store.settings.row_security and unit.store.dialect == "postgresql" and unit.scope.tenant is not ALL
    )
    if is_confined:
        await unit.execute(_ROLE, {"role": "none"})
    yield
    if is_confined:
        await unit.execute(_ROLE, {"role": APP})


def _in_flight() -> InFlight:
    return InFlight("a request with this Idempotency-Key is being answered just now; try again in a moment")
