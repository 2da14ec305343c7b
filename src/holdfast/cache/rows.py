"""`Rows`: the rows of one model by key, from the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec
from sqlalchemy import Integer, String, Uuid, inspect, types

from holdfast.cache import tags as tagging
from holdfast.cache.asked import Asked
from holdfast.cache.aspect import Tier
from holdfast.cache.clock import boottime
from holdfast.cache.derived import Source
from holdfast.cache.found import Found
from holdfast.cache.keys import shortened
from holdfast.cache.loader import Load, Loader, LoadMany
from holdfast.cache.options import DEFAULT, Options
from holdfast.cache.own_writes import verdict
from holdfast.cache.peeking import SEEK, Unfit
from holdfast.cache.row_form import RowForm
from holdfast.cache.templates import part
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.model import Model, Text
from holdfast.store import ALL, Store, Tenant, Unit
from holdfast.store.current import current
from holdfast.store.keys import key_of
from holdfast.store.scope import Scope, checked_tenant

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache

M = TypeVar("M", bound=Model)

_LOCK = "holdfast_cached_rows"  # of a session's info
_encode = msgspec.json.Encoder().encode


class Rows(Generic[M]):
    """The rows of `model` by key, kept until they change. Made by `hold.cache[Model]`.

    They come from the database alone, through a unit of their tenant: deleted ones are not found, and another tenant's
    are not. Each call gives rows of the caller's own, detached from every unit, with the columns of the table and no
    relationships; to change one changes nothing else. To write, `unit[Model].update(…)`.

    Rows of a model with an encrypted column, a `secret` one or one of a type of the application's own are kept in this
    process' memory alone, and never written into Redis. In a unit that has written, or that reads a snapshot, rows are
    read through that unit, and not kept.

    Attributes:
        model: as given.
        options: how its rows are kept: as its policy's tier says, else as any value.
        is_shared: whether they are kept in Redis too.

    Raises:
        ConfigurationError: nobody would learn of the model's changes, or its keys are not in the journal as they are.
    """

    def __init__(self, cache: Cache, store: Store, model: type[M], options: Options) -> None:
        _check(model)
        self.model = model
        self._form = RowForm(model)
        self.is_shared = self._form.is_shared
        # What finds a row in a table of results would as well find it in its own.
        self.options = options.but(
            skip_l2=options.skip_l2 or not self.is_shared,
            skip_l3=True,
            counted_as=options.counted_as or f"rows of {model.__tablename__}",
        )
        self._cache = cache
        self._store = store
        self._key = key_of(model)
        self._table = str(model.__table__.name)  # type: ignore[attr-defined]
        self._codec = codec_of(cast(Any, self._form.kind | None) if self.is_shared else Any)
        self._start = lru_cache(maxsize=4_096)(self._start_of)

    async def get(self, key: Any, *, tenant: Tenant = None) -> M | None:
        """The row with this key, or None; `negative_ttl` says how long it is kept that there is none.

        Args:
            key: as `unit[Model].get` takes it.
            tenant: whose row it is, where the model is tenanted; `ALL` for anybody's.

        Raises:
            InvalidValue: it is no key. WrongTenant: the model is tenanted, and no tenant is given.
        """
        key = self._key.parse(key)
        name = self._name(key, tenant)
        seen = None if self.options.skip_l1 else self._cache.peek(name, SEEK, self.options.max_staleness)
        if seen.__class__ is not Unfit and not self.options.skip_l1:
            return self._row(seen)
        return (await self._found(name, key, tenant, seen)).value

    async def lookup(self, key: Any, *, tenant: Tenant = None) -> Found[M | None]:
        """What `get` gives, and how it was had: whether it is stale, where the options allow that."""
        key = self._key.parse(key)
        name = self._name(key, tenant)
        seen = None if self.options.skip_l1 else self._cache.peek(name, SEEK, self.options.max_staleness)
        if seen.__class__ is not Unfit and not self.options.skip_l1:
            return Found(self._row(seen))
        return await self._found(name, key, tenant, seen)

    async def traced(self, key: Any, *, tenant: Tenant = None) -> tuple[M | None, Source | None]:
        """What `get` gives, and what is kept of it, for what is made of the row; None where it is not kept here."""
        key = self._key.parse(key)
        name = self._name(key, tenant)
        if self.options.skip_l1 or self._unit(tenant) is not None:
            return await self.get(key, tenant=tenant), None
        kept = self._cache.peek(name, SEEK, self.options.max_staleness)
        if kept.__class__ is Unfit:
            found = await self._cache.answers.answer(self._asked(name, key, self._loader(key, tenant), kept))
            kept = found.value
        row = self._row(kept)
        return row, None if row is None else Source(name, kept, self.options.max_staleness)

    async def _found(self, name: str, key: Any, tenant: Tenant, seen: Unfit | None) -> Found[M | None]:
        if (unit := self._unit(tenant)) is not None:
            return Found((await self._through(unit, [key])).get(key), loaded=True)
        found = await self._cache.answers.answer(self._asked(name, key, self._loader(key, tenant), seen))
        return Found(self._row(found.value), stale=found.stale, loaded=found.loaded)

    def _loader(self, key: Any, tenant: Tenant) -> Loader:
        async def load(load: Load) -> Any:
            return (await self._read([key], tenant)).get(key)

        return load

    async def get_many(self, keys: Iterable[Any], *, tenant: Tenant = None) -> dict[Any, M]:
        """The rows that exist among `keys`, by key, in the order of `keys`: one question to Redis, one SELECT.

        Raises:
            As `get`.
        """
        wanted = {self._name(key, tenant): key for key in map(self._key.parse, keys)}
        looked = (
            {}
            if self.options.skip_l1
            else {name: self._cache.peek(name, SEEK, self.options.max_staleness) for name in wanted}
        )
        found: dict[str, Any] = {name: kept for name, kept in looked.items() if kept.__class__ is not Unfit}
        missing = {name: key for name, key in wanted.items() if name not in found}
        if missing and (unit := self._unit(tenant)) is not None:
            return await self._through(unit, list(wanted.values()))
        if missing:

            async def load(load: LoadMany) -> Mapping[str, Any]:
                rows = await self._read([wanted[name] for name in load.keys], tenant)
                return {name: rows.get(wanted[name]) for name in load.keys}

            def ask(name: str, seen: Unfit | None) -> Asked:
                return self._asked(name, wanted[name], _never, seen)

            others = {name: looked.get(name) for name in missing}
            found |= await self._cache.answers.answer_many(others, ask, load, self.options, self._codec)
        return {key: self._form.row(found[name]) for name, key in wanted.items() if found[name] is not None}

    def peek(self, key: Any, *, tenant: Tenant = None) -> M | None:
        """The fresh row that this node holds, or None: a plain call."""
        return self._row(self._cache.peek(self._name(self._key.parse(key), tenant), None, self.options.max_staleness))

    async def invalidate(self, *keys: Any) -> None:
        """End what is kept of the rows with these keys, and whatever carries their tags, on every node."""
        await self._cache.end([self._tag(self._key.parse(key)) for key in keys])

    def _name(self, key: Any, tenant: Tenant) -> str:
        """The key in the cache: the tenant's own, so that what one has loaded is nobody else's."""
        if self.model.__policy__.is_shared:
            tenant = None
        elif tenant is not None and not isinstance(tenant, str | UUID):
            checked_tenant(tenant)
        return shortened(self._start(tenant) + part(key))

    def _start_of(self, tenant: Tenant) -> str:
        if tenant is ALL:
            return f"=all rows:{self._table}:"
        whose = Scope(checked_tenant(tenant), None).tenant_of(self.model)
        return f"=rows:{self._table}:{'' if whose is None else part(whose)}:"

    def _tag(self, key: Any) -> str:
        """The tag of a row, by its key in the journal's words."""
        text = _encode(key).decode() if isinstance(key, tuple) else str(key)
        return tagging.of_row(self._table, text)[1]

    def _asked(self, name: str, key: Any, loader: Any, seen: Unfit | None) -> Asked:
        tally = self._cache.statistics.tally(name, self.options)
        return Asked(name, loader, self.options, (self._tag(key),), self._codec, boottime(), tally, seen)

    def _row(self, kept: Any) -> M | None:
        return None if kept is None else self._form.row(kept)

    async def _read(self, keys: list[Any], tenant: Tenant) -> dict[Any, Any]:
        """What is kept of the rows with these keys, by key, read by a unit of its own."""
        async with self._store.read(tenant=tenant) as unit:
            rows = await unit[self.model].get_many(keys)
            return {key: self._form.kept(row) for key, row in rows.items()}

    def _unit(self, tenant: Tenant) -> Unit | None:
        """The unit whose writes, or whose snapshot, this task has to see."""
        state = current.get()
        if state is None or verdict(state, self._cache.answers.freshness.covers) != "bypass":
            return None
        whose = checked_tenant(tenant)
        for unit in reversed(state.units):
            is_mine = unit.store is self._store and unit.is_open and (unit.has_written or unit.is_snapshot)
            if is_mine and (self.model.__policy__.is_shared or unit.scope.tenant == whose):
                return unit
        return None

    async def _through(self, unit: Unit, keys: list[Any]) -> dict[Any, M]:
        """Rows as the unit sees them."""
        for key in keys:
            self._cache.statistics.tally(str(key), self.options).bypassed()
        # Tasks that ask at the same time take turns, for a session serves one at a time.
        async with unit.session.info.setdefault(_LOCK, asyncio.Lock()):
            rows = await unit[self.model].get_many(keys)
            return {key: self._form.row(self._form.kept(row)) for key, row in rows.items()}


class RowsOfModels:
    """The `Rows` of each model, made once, with the options of its tier."""

    def __init__(self, cache: Cache, store: Store, models: Iterable[type[Model]]) -> None:
        self._cache = cache
        self._store = store
        self._models = frozenset(models)
        self._made: dict[type[Model], Rows[Any]] = {}

    def of(self, model: type[M]) -> Rows[M]:
        """The rows of `model`.

        Raises:
            InvalidValue: it is none of the models that are kept here. ConfigurationError: as `Rows`.
        """
        made = self._made.get(model) if isinstance(model, type) else None
        if made is None:
            if not isinstance(model, type) or model not in self._models:
                told = getattr(model, "__name__", None) or f"an object of {type(model).__name__}"
                raise InvalidValue(f"cache[…] takes a model of this data layer or a declared key, not {told}")
            tier = model.__policy__.aspect(Tier)
            options = DEFAULT if tier is None else tier.options
            made = self._made[model] = Rows(self._cache, self._store, model, options)
        return made


async def _never(load: Load) -> Any:
    raise AssertionError("rows are loaded together")


def _check(model: type[Any]) -> None:
    """Raise `ConfigurationError` for a model whose rows cannot be kept by key."""
    mapper = inspect(model)
    problem = ""
    if not model.__policy__.capture:
        problem = "Policy(capture=False) keeps its changes out of the journal, and nobody would learn of them"
    elif mapper.inherits is not None or mapper.polymorphic_on is not None:
        problem = "its rows lie in several tables or are of several classes"
    elif not all(_is_told(column.type) for column in mapper.primary_key):
        problem = "a row is found by a key of UUIDs, whole numbers and texts, compared as they are written"
    if problem:
        raise ConfigurationError(
            f"hold.cache[{model.__name__}] cannot be: {problem}; read it with unit[{model.__name__}]"
        )


def _is_told(kind: Any) -> bool:
    """Whether a key of this type is written in one way, and equals nothing that is written in another."""
    if isinstance(kind, Text):
        kind = kind.impl_instance
    if isinstance(kind, Uuid):
        return kind.as_uuid
    if isinstance(kind, Integer):
        return True
    texts = (String, types.Text, types.VARCHAR, types.TEXT, types.Unicode, types.UnicodeText)
    return type(kind) in texts and cast(String, kind).collation is None
