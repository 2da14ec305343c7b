"""`ApiKeys`: made, verified, rotated, revoked."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Uuid, bindparam, func, literal, or_, select, true, update

from holdfast.cache import Cache, Load, Options
from holdfast.cache.aspect import Tier
from holdfast.cache.derived import Source
from holdfast.cache.durations import Duration, seconds
from holdfast.errors import Conflict, InvalidValue, ModelError, NotFound
from holdfast.guard.keys.access import KeyFacts, KeyRefused, checked_name, checked_networks, checked_scopes, seconds_of
from holdfast.guard.keys.columns import TAG, KeyColumns, KeyUseColumns
from holdfast.guard.keys.own_limits import checked_limits
from holdfast.guard.keys.peppers import Peppers
from holdfast.guard.keys.slow import Slow
from holdfast.guard.keys.text import LONGEST, checked_prefix, new_key, read_key
from holdfast.guard.keys.told import Told
from holdfast.journal.templates import renderer
from holdfast.store import ALL, Counters, Store, Unit
from holdfast.store.current import NOTHING, current

K = TypeVar("K", bound=Any)

DEFAULT_SCOPES = ("tools:read",)
_LOOKED_AT = (
    *("id", "lookup", "pepper", "slow", "name", "user_id", "org_id", "scopes", "live", "tier", "networks", "limits"),
    *("expires_at", "revoked_at"),
)
_OPTIONS = Options.of(ttl="5m", jitter=0.1, negative_ttl="10s", counted_as="api_key:{lookup}")
_KIND: Any = KeyFacts | None
_UNSEEN: Any = object()


class NewKey(Generic[K]):
    """A key that was just made.

    Attributes:
        row: what is kept of it.
        text: the key itself. It is shown once: nobody can read it again.
    """

    __slots__ = ("row", "text")

    def __init__(self, row: K, text: str) -> None:
        self.row = row
        self.text = text

    def __repr__(self) -> str:
        return f"<NewKey {self.row.shown}…>"


class KeyUse(msgspec.Struct, frozen=True):
    """How often a key was used, and when last; a minute may be missing.

    Attributes:
        is_held: whether whose the key is may have it still; it opens nothing if not.
    """

    usage_count: int
    last_used_at: dt.datetime | None
    is_held: bool = True


class ApiKeys(Generic[K]):
    """The API keys of one model.

    What a key may do is an ordinary value of the cache, which depends on the key's row: one that is revoked opens
    nothing anywhere from `max_staleness` (a second) later at the latest, whatever of Redis or the other nodes is down.

    Args:
        model: that keeps keys; it mixes in `KeyColumns`.
        uses: that counts their uses; it mixes in `KeyUseColumns`.
        prefix: what keys begin with: the name of the product.
        told: the audit of the keys that are verified.
        slow: bcrypt, which keys are to be checked by as well.

    Raises:
        ModelError: a key of the model could not be taken back at once. ConfigurationError: the prefix cannot be.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        counters: Counters,
        peppers: Peppers,
        *,
        model: type[K],
        uses: type[Any],
        prefix: str,
        told: Told | None = None,
        slow: Slow | None = None,
    ) -> None:
        tier = model.__policy__.aspect(Tier)
        if tier is None or TAG not in tier.tags:
            raise ModelError(
                f"{model.__name__} keeps API keys, and what is kept of one must end with its row; write"
                f" Policy(Warm(tags=(TAG,)), …) with TAG = {TAG!r}"
            )
        self._store = store
        self._cache = cache
        self._counters = counters
        self._peppers = peppers
        self._model = model
        self._uses = uses
        self._prefix = checked_prefix(prefix)
        self._told = told
        self._slow = slow
        self._look_up = select(*(getattr(model, name) for name in _LOOKED_AT), self._held().label("is_held")).where(
            model.lookup.in_(bindparam("lookups", expanding=True))
        )
        self._held_tags = [renderer(tag) for tag in (model.holders.tags if model.holders is not None else ())]

    async def create(
        self,
        unit: Unit,
        *,
        name: str,
        user_id: UUID,
        org_id: UUID | None = None,
        scopes: Iterable[str] = DEFAULT_SCOPES,
        live: bool = True,
        tier: str = "free",
        networks: Iterable[str] | None = None,
        limits: Iterable[str] | None = None,
        expires_at: dt.datetime | None = None,
        at_most: int | None = None,
    ) -> NewKey[K]:
        """Make a key in this unit; it opens something once the unit is committed.

        Args:
            name: what its owner calls it.
            scopes: what it may do: `tools:read`, `tools:*`, `*`.
            networks: addresses it may be used from, as CIDR; None for all.
            limits: how often it may be used, beside the limits of its tier: `100/minute`, at most 5.
            at_most: keys that the organisation, or the user without one, may have that open something.

        Raises:
            InvalidValue: an argument cannot be. Conflict: there are `at_most` already, or whose it is to be is not
                there, or may not have it. StoreError: the unit only reads.
        """
        checked_name(name)
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= _now()):
            raise InvalidValue(f"expires_at={expires_at} must be to come, and have a time zone")
        scopes, networks, limits = checked_scopes(scopes), checked_networks(networks), checked_limits(limits)
        await self._must_hold(unit, user_id, org_id)
        if at_most is not None:
            await self._make_room(unit, user_id, org_id, at_most)
        return await self._add(
            unit,
            name=name,
            user_id=user_id,
            org_id=org_id,
            scopes=scopes,
            live=live,
            tier=tier,
            networks=networks,
            limits=limits,
            expires_at=expires_at,
        )

    async def verify(
        self, text: str, *, scope: str | None = None, address: str | None = None, live: bool | None = None
    ) -> KeyFacts:
        """Whose a key is and what it may do, and count the use.

        Args:
            text: the key, as it came.
            scope: what is to be done with it.
            address: of who gave it; a key that is confined to networks wants one.
            live: whether a live key or one for tests is wanted; None takes both.

        Raises:
            KeyRefused: it does not open this; its `reason` says why. Unavailable: nobody knows just now.
        """
        facts: KeyFacts = (await self.traced(text)).value
        self.use(facts, scope=scope, address=address, live=live)
        return facts

    def name_of(self, text: str) -> str | None:
        """Under what the cache keeps the facts of a key, which does not tell what it is; None for what can be none."""
        if len(text) > LONGEST or not text.isascii():
            return None
        return TAG.format(lookup=self._peppers.hashed(text))

    async def traced(self, text: str) -> Source:
        """The facts of a key, revoked or not, as the cache gives them, for what is made of them; nothing is counted.

        Raises:
            KeyRefused: it is not known. Unavailable: nobody knows just now.
        """
        name = self.name_of(text)
        facts = _UNSEEN if name is None else self._cache.peek(name, _UNSEEN, _OPTIONS.max_staleness)
        if facts is _UNSEEN:  # what is kept is well written
            read = read_key(text)
            if name is None or read is None or read.mode == "session":
                raise KeyRefused("malformed", "this is no API key of ours, or was cut or mistyped")
            facts = await self._cache.get_or_load(name, partial(self._load, text), options=_OPTIONS, kind=_KIND)
        if facts is None:
            raise KeyRefused("unknown", "this API key is not known")
        assert name is not None
        return Source(name, facts, _OPTIONS.max_staleness)

    def use(self, facts: KeyFacts, *, scope: str | None, address: str | None, live: bool | None = None) -> None:
        """Check that a key opens what is asked for, and count the use; arguments and errors as of `verify`."""
        try:
            facts.check(time.time(), scope=scope, address=address, live=live)
        except KeyRefused as refused:
            if self._told is not None:
                self._told.refused(facts, refused, address)
            raise
        if self._told is not None and self._told.of_use:
            self._told.used(facts, address)
        self._counters.add(self._uses, facts.id, touching="last_used_at")

    async def get(self, unit: Unit, key_id: UUID) -> K:
        """What is kept of a key. NotFound: there is none."""
        row: K = await unit[self._model].get(key_id)
        return row

    async def list(
        self, unit: Unit, *, user_id: UUID | None = None, org_id: UUID | None = None, dead: bool = False
    ) -> list[tuple[K, KeyUse]]:
        """The keys of an organisation, or those that a user made, newest first, and how they are used.

        Args:
            dead: also those that were revoked, have expired, or are not his any more whose they were.

        Raises:
            InvalidValue: neither a user nor an organisation is given.
        """
        if user_id is None and org_id is None:
            raise InvalidValue("say whose keys to list: user_id=… or org_id=…")
        model: Any = self._model
        uses: Any = self._uses
        statement: Any = select(model, uses, self._held()).outerjoin(uses, uses.key_id == model.id)
        if user_id is not None:
            statement = statement.where(model.user_id == user_id)
        if org_id is not None:
            statement = statement.where(model.org_id == org_id)
        if not dead:
            statement = statement.where(*self._alive())
        found: Any = await unit.execute(statement.order_by(model.id.desc()))
        return [
            (row, KeyUse(0, None, held) if use is None else KeyUse(use.usage_count, use.last_used_at, held))
            for row, use, held in found
        ]

    async def rotate(self, unit: Unit, key_id: UUID, *, grace: Duration = 0) -> NewKey[K]:
        """Make a key that takes the place of another, which goes on opening things for `grace`, and no longer.

        Where the old one was to expire before that, it does.

        Raises:
            NotFound: there is no such key. Conflict: it opens nothing any more, or was rotated before; or whose it is
                may not have it any more.
            ConfigurationError: the grace is no duration.
        """
        old = await self._locked(unit, key_id)
        now = _now()
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise Conflict(f"the key {old.name!r} opens nothing any more; create a new one")
        if old.rotated_to is not None:
            raise Conflict(f"the key {old.name!r} was rotated before; rotate the one that took its place")
        await self._must_hold(unit, old.user_id, old.org_id)
        made = await self._add(
            unit,
            name=old.name,
            user_id=old.user_id,
            org_id=old.org_id,
            scopes=old.scopes,
            live=old.live,
            tier=old.tier,
            networks=old.networks,
            limits=old.limits,
            expires_at=old.expires_at,
        )
        ends = now + dt.timedelta(seconds=seconds(grace, "grace"))
        old.expires_at = ends if old.expires_at is None else min(ends, old.expires_at)
        old.rotated_to = made.row.id
        await unit.flush()
        return made

    async def revoke(self, unit: Unit, key_id: UUID) -> K:
        """Let a key open nothing any more; one that was revoked before stays as it is.

        Raises:
            NotFound: there is no such key.
        """
        row = await self._locked(unit, key_id)
        if row.revoked_at is None:
            row.revoked_at = _now()
            await unit.flush()
        return row

    async def delete_dead(self, unit: Unit, *, after: Duration = "90d") -> int:
        """Delete keys that were revoked or expired so long ago; returns how many."""
        before = _now() - dt.timedelta(seconds=seconds(after, "after"))
        model = self._model
        gone = await unit.execute(
            select(model.id).where(or_(model.revoked_at < before, model.expires_at < before)).with_for_update()
        )
        ids = list(gone.scalars())
        for key_id in ids:
            await unit[model].delete(key_id)
        return len(ids)

    async def _add(self, unit: Unit, *, live: bool, **values: Any) -> NewKey[K]:
        text = new_key(self._prefix, "live" if live else "test")
        read = read_key(text)
        assert read is not None
        pepper = self._peppers.ids[0]
        row = self._model(
            lookup=self._peppers.hashed(text),
            pepper=pepper,
            slow=await self._slowly(text, pepper),
            shown=read.shown,
            live=live,
            **values,
        )
        await unit[self._model].add(row)
        await unit[self._uses].add(self._uses(key_id=row.id))
        return NewKey(row, text)

    def _held(self) -> ColumnElement[bool]:
        """Whether whose a key is may have it, in a statement on keys."""
        holders = self._model.holders
        return true() if holders is None else holders.condition(self._model.user_id, self._model.org_id)

    async def _must_hold(self, unit: Unit, user_id: UUID, org_id: UUID | None) -> None:
        """Conflict: who is to have a key may not."""
        holders = self._model.holders
        if holders is None or org_id is None:
            return
        may = select(holders.condition(literal(user_id, Uuid), literal(org_id, Uuid)))
        if not (await unit.execute(may)).scalar_one():
            raise Conflict(
                f"the user {user_id} may have no keys of the organisation {org_id}: these are for {holders.words}"
            )

    async def _locked(self, unit: Unit, key_id: UUID) -> K:
        """The row of a key, which nobody else changes until the unit ends."""
        found = await unit.execute(select(self._model).where(self._model.id == key_id).with_for_update())
        row: K | None = found.scalars().first()
        if row is None:
            raise NotFound(f"there is no API key {key_id}")
        return row

    async def _make_room(self, unit: Unit, user_id: UUID, org_id: UUID | None, at_most: int) -> None:
        """Wait for who makes a key for the same owner, and count: two at a time would each see room for one."""
        if unit.is_snapshot:
            raise InvalidValue("keys are counted as they are now; make them in a unit without isolation=…")
        if self._store.dialect == "postgresql":
            await unit.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))", {"owner": f"api_keys {org_id or user_id}"}
            )
        model = self._model
        mine = model.org_id == org_id if org_id is not None else (model.user_id == user_id) & model.org_id.is_(None)
        there = (
            await unit.execute(
                select(func.count()).select_from(model).where(mine, model.rotated_to.is_(None), *self._alive())
            )
        ).scalar_one()
        if there >= at_most:
            raise Conflict(
                f"there are {there} API keys, and {at_most} are allowed; revoke one that is not needed any more"
            )

    def _alive(self) -> tuple[Any, ...]:
        model = self._model
        return model.revoked_at.is_(None), or_(model.expires_at.is_(None), model.expires_at > _now()), self._held()

    async def _load(self, text: str, load: Load) -> KeyFacts | None:
        lookups = self._peppers.all_hashed(text)
        load.tags(*(TAG.format(lookup=lookup) for lookup in lookups.values()))
        found = await self._store.select(self._look_up, {"lookups": list(lookups.values())})
        if not found:
            return None
        row: Any = found[0]
        owner = {"user_id": row.user_id, "org_id": row.org_id}
        load.tags(*(tag for render in self._held_tags if (tag := render(owner)) is not None))
        if not await self._is_right(row, text):
            return None
        newest = self._peppers.ids[0]
        is_older = row.pepper != newest or (self._slow is not None and row.slow is None)
        # Who has a unit open may hold the one connection that writes, and would wait for himself.
        if is_older and not (current.get() or NOTHING).units:
            await self._rehash(row, newest, lookups[newest], await self._slowly(text, newest))
        return KeyFacts(
            id=row.id,
            name=row.name,
            user_id=row.user_id,
            org_id=row.org_id,
            scopes=tuple(row.scopes),
            live=row.live,
            tier=row.tier,
            networks=None if row.networks is None else tuple(row.networks),
            limits=None if row.limits is None else tuple(row.limits),
            expires_at=seconds_of(row.expires_at),
            is_revoked=row.revoked_at is not None,
            is_held=row.is_held,
        )

    async def _is_right(self, row: Any, text: str) -> bool:
        """Whether a key that was found is it by bcrypt too, where that is asked for."""
        if self._slow is None or row.slow is None:
            return True
        return await self._slow.matches(self._peppers.named(row.pepper), text, row.slow)

    async def _slowly(self, text: str, pepper: str) -> str | None:
        return None if self._slow is None else await self._slow.hashed(self._peppers.named(pepper), text)

    async def _rehash(self, row: Any, pepper: str, lookup: str, slow: str | None) -> None:
        """Keep a key by the current pepper from now on, so that the older one can be dropped some day."""
        model = self._model
        async with self._store.unit(actor="api keys", tenant=ALL) as unit:
            await unit.execute(
                update(model)
                .where(model.id == row.id, model.lookup == row.lookup)
                .values(lookup=lookup, pepper=pepper, slow=slow)
                .execution_options(synchronize_session=False)
            )


def keys_models(models: Iterable[type[Any]]) -> tuple[type[Any], type[Any]] | None:
    """The model that keeps API keys and the one that counts their uses; None where there is not exactly one of each."""
    known = list(models)
    keeping = [model for model in known if issubclass(model, KeyColumns)]
    counting = [model for model in known if issubclass(model, KeyUseColumns)]
    return (keeping[0], counting[0]) if len(keeping) == 1 and len(counting) == 1 else None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
