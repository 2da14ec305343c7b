"""`Sessions`: that somebody is signed in, known everywhere and taken back everywhere."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.cache import Cache, Load, Options
from holdfast.cache.aspect import Tier
from holdfast.cache.durations import Duration, seconds
from holdfast.errors import HoldfastError, InvalidValue, ModelError
from holdfast.guard.keys import Peppers
from holdfast.guard.keys.columns import Listed
from holdfast.guard.keys.text import checked_prefix, new_key, read_key
from holdfast.model import Text
from holdfast.model.policy import PLAIN
from holdfast.store import ALL, Store, Unit

S = TypeVar("S", bound=Any)

TAG = "session:{lookup}"
"""What a session that was looked up depends on; the policy of the model has `Warm(tags=(TAG, …))`."""

_OPTIONS = Options.of(ttl="1h", jitter=0.1, negative_ttl="10s", counted_as="session:{lookup}")
_LARGEST = 16_384  # bytes of details as JSON


class SessionColumns:
    """Mixed into the model of an application's sessions: `class Session(SessionColumns, Model)`.

    Attributes:
        lookup, pepper: the HMAC of the token, which is nowhere, and the id of the pepper under which it was made.
        user_id: who is signed in.
        expires_at, revoked_at: from when on he is not any more.
        details: what the application wants to know of it: address, user agent, what the auth provider says.
    """

    lookup: Mapped[str] = mapped_column(Text(64), unique=True, sort_order=-90)
    pepper: Mapped[str] = mapped_column(Text(32), sort_order=-89)
    user_id: Mapped[UUID] = mapped_column(index=True, sort_order=-88)
    created_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC), sort_order=-87, info=PLAIN)
    expires_at: Mapped[dt.datetime] = mapped_column(index=True, sort_order=-86, info=PLAIN)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(sort_order=-85, info=PLAIN)
    details: Mapped[dict[str, Any]] = mapped_column(Listed, default=dict, sort_order=-84)


class SessionRefused(HoldfastError):
    """Nobody is signed in by this token; why is nobody's business who does not have a good one."""


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is known where it is verified.

    Attributes:
        id, user_id, details: as in `SessionColumns`.
        expires_at: seconds since 1970.
        is_revoked: whether it was ended.
    """

    id: UUID
    user_id: UUID
    details: dict[str, Any]
    expires_at: float
    is_revoked: bool


_KIND: Any = SessionFacts | None


class NewSession(Generic[S]):
    """A session that was just begun.

    Attributes:
        row: what is kept of it.
        token: by which its user is known from now on; for a cookie that scripts cannot read. It is shown once.
    """

    __slots__ = ("row", "token")

    def __init__(self, row: S, token: str) -> None:
        self.row = row
        self.token = token

    def __repr__(self) -> str:
        return f"<NewSession {self.row.id}>"


class Sessions(Generic[S]):
    """The sessions of one model.

    A session that is verified is an ordinary value of the cache, for an hour, and depends on its row: one that is ended
    is known nowhere from `max_staleness` (a second) later at the latest.

    Args:
        model: that keeps sessions; it mixes in `SessionColumns`.
        prefix: what tokens begin with: the name of the product.

    Raises:
        ModelError: a session of the model could not be ended at once.
    """

    def __init__(self, store: Store, cache: Cache, peppers: Peppers, *, model: type[S], prefix: str) -> None:
        tier = model.__policy__.aspect(Tier)
        if tier is None or TAG not in tier.tags:
            raise ModelError(
                f"{model.__name__} keeps sessions, and what is kept of one must end with its row; write"
                f" Policy(Warm(tags=(TAG,)), …) with TAG = {TAG!r}"
            )
        self._store = store
        self._cache = cache
        self._peppers = peppers
        self._model = model
        self._prefix = checked_prefix(prefix)

    async def begin(
        self, unit: Unit, user_id: UUID, *, lasting: Duration = "30d", details: Mapping[str, Any] | None = None
    ) -> NewSession[S]:
        """Sign a user in, in this unit.

        Args:
            lasting: after how long he is to sign in anew.
            details: what JSON can hold, up to 16 KiB.

        Raises:
            InvalidValue: the details cannot be kept. Conflict: there is no such user. ConfigurationError: `lasting` is
                no duration.
        """
        found = dict(details or {})
        try:
            size = len(msgspec.json.encode(found))
        except (TypeError, ValueError, RecursionError):
            size = -1
        if not 0 <= size <= _LARGEST:
            raise InvalidValue(f"the details of a session are what JSON can hold, in {_LARGEST:,} bytes at most")
        token = new_key(self._prefix, "session")
        row = self._model(
            lookup=self._peppers.hashed(token),
            pepper=self._peppers.ids[0],
            user_id=user_id,
            expires_at=_now() + dt.timedelta(seconds=seconds(lasting, "lasting", least=1)),
            details=found,
        )
        return NewSession(await unit[self._model].add(row), token)

    async def verify(self, token: str) -> SessionFacts:
        """Who is signed in by a token.

        Raises:
            SessionRefused: nobody. Unavailable: it is not known just now.
        """
        read = read_key(token)
        if read is None or read.mode != "session":
            raise SessionRefused("this is no token of a session of ours")
        facts: SessionFacts | None = await self._cache.get_or_load(
            TAG.format(lookup=self._peppers.hashed(token)), partial(self._load, token), options=_OPTIONS, kind=_KIND
        )
        if facts is None or facts.is_revoked or time.time() >= facts.expires_at:
            raise SessionRefused("this session is over; sign in again")
        return facts

    def is_near(self, token: str) -> bool:
        """Whether this node has the session of a token in memory, so that nobody is asked for it: a plain call."""
        if read_key(token) is None:
            return False
        return (
            self._cache.peek(TAG.format(lookup=self._peppers.hashed(token)), None, _OPTIONS.max_staleness) is not None
        )

    async def end(self, unit: Unit, session_id: UUID) -> None:
        """Sign out. What is over already stays as it is."""
        await self._end(unit, self._model.id == session_id)

    async def end_all(self, unit: Unit, user_id: UUID, *, but: UUID | None = None) -> int:
        """Sign a user out everywhere, but for one session; returns how many were ended."""
        mine = self._model.user_id == user_id
        return await self._end(unit, mine if but is None else mine & (self._model.id != but))

    async def delete_over(self, unit: Unit, *, after: Duration = "30d") -> int:
        """Delete sessions that have been over for so long; returns how many."""
        before = _now() - dt.timedelta(seconds=seconds(after, "after"))
        model = self._model
        gone = await unit.execute(select(model.id).where(or_(model.revoked_at < before, model.expires_at < before)))
        ids = list(gone.scalars())
        for session_id in ids:
            await unit[model].delete(session_id)
        return len(ids)

    async def _end(self, unit: Unit, which: Any) -> int:
        model = self._model
        ended: Any = await unit.execute(
            update(model)
            .where(which, model.revoked_at.is_(None))
            .values(revoked_at=_now())
            .execution_options(synchronize_session=False)
        )
        return int(ended.rowcount)

    async def _load(self, token: str, load: Load) -> SessionFacts | None:
        lookups = list(self._peppers.all_hashed(token).values())
        load.tags(*(TAG.format(lookup=lookup) for lookup in lookups))
        model = self._model
        async with self._store.read(tenant=ALL) as unit:
            row: Any = (await unit.execute(select(model).where(model.lookup.in_(lookups)))).scalars().first()
        if row is None:
            return None
        return SessionFacts(
            id=row.id,
            user_id=row.user_id,
            details=row.details,
            expires_at=row.expires_at.timestamp(),
            is_revoked=row.revoked_at is not None,
        )


def session_model(models: Iterable[type[Any]]) -> type[Any] | None:
    """The model that keeps sessions; None where there is not exactly one."""
    found = [model for model in models if issubclass(model, SessionColumns)]
    return found[0] if len(found) == 1 else None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
