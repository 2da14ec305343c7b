"""`Holdfast`: the store, its journal and what follows it, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import MetaData

from holdfast.blocking import BlockingHoldfast
from holdfast.cache import Cache, result_metadata
from holdfast.errors import ConfigurationError, Unavailable
from holdfast.guard import idempotency, subject_keys
from holdfast.guard.audit import Trail
from holdfast.guard.consent import Consents, consent_model
from holdfast.guard.keys import ApiKeys, Peppers, keys_models
from holdfast.guard.keys.slow import Slow
from holdfast.guard.keys.told import Told
from holdfast.guard.limits import Limiter, Tiers
from holdfast.guard.services import Services
from holdfast.guard.sessions import Sessions, session_model
from holdfast.guard.subject_keys import SubjectKeys
from holdfast.index import rejected
from holdfast.journal import Event, Handler, Handlers, Journal
from holdfast.journal.changes import Op
from holdfast.migrate import Difference, Limits, MigrationFile, Migrations, Planned, hooks, migrate_up, pending, unsound
from holdfast.model import Model, check_foreign_keys, models_of
from holdfast.model.keyring import KeyRing
from holdfast.operate import (
    CatchUp,
    Examiner,
    PastRun,
    RedisReport,
    Schedule,
    ScheduleRunner,
    Schedules,
    ScheduleTable,
    Work,
    Worker,
    drop_our_keys,
    examine_redis,
    registered,
    review_metadata,
    schedule_metadata,
)
from holdfast.operate.privacy import Privacy, erasure_metadata, resume_erasures
from holdfast.rollup import Rollups
from holdfast.rollup import metadata as rollup_metadata
from holdfast.settings import Settings
from holdfast.store import Appends, Counters, Isolation, Store, Tenant, Unit
from holdfast.store.redis import Redis

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Holdfast:
    """A data layer over one database.

    Attributes:
        settings: what it was opened with.
        store: the engines and units of work.
        journal: what changed, in order.
        handlers: the functions that are called for events and changes, and how they fare.
        cache: what is kept near, and follows the journal.
        limits: who may call how often.
        services: services that sign their calls, and pass without a limit.
        rollups: what is added up.
        audit: who did what to what, on record.
        privacy: what is kept of people: classified, exported, erased.
        counters: how often rows are used, written once a second.
        appends: rows of logs, written once a second.
        schedules: how what is done again and again fares: states, history, pause, resume, forget.
        models: the models it keeps, in dependency order.

    Example::

        async with await Holdfast.open("sqlite:///notes.db") as hold:
            async with hold.unit(actor="ada") as unit:
                unit.add(Note(text="hold fast"))
    """

    def __init__(self, settings: Settings, *, metadata: MetaData | Sequence[MetaData] = Model.metadata) -> None:
        self.settings = settings
        metadatas = (metadata,) if isinstance(metadata, MetaData) else tuple(metadata)
        self.models = [model for one in metadatas for model in models_of(one)]
        check_foreign_keys(self.models)
        self.store = Store(settings, models=self.models)
        self.journal = Journal(self.store)
        self.rollups = Rollups(self.store, self.journal, self.models)
        self.handlers = Handlers(self.journal, self.models, {"Holdfast": self})
        self._redis = Redis.of(settings)
        self.cache = Cache(
            self.store,
            self.journal,
            self.models,
            redis=self._redis,
            capacity=settings.cache_capacity,
            ttls=settings.cache_ttls,
        )
        self.limits = Limiter(
            self._redis,
            tiers=Tiers(settings.limits),
            prefix=settings.redis_prefix,
            instances=settings.instances,
        )
        self.services = Services(
            settings.service_keys,
            redis=self._redis,
            prefix=settings.redis_prefix,
            tolerance=settings.service_tolerance,
        )
        self.audit = Trail(self.store, self.journal, self.models, settings)
        self.privacy = Privacy(self.store, self.journal, self.cache, self.audit, self.models)
        self._metadatas = metadatas
        self.counters = Counters(self.store)
        self.appends = Appends(self.store)
        self.schedules = ScheduleTable(self.store)
        self._schedules = Schedules()
        if self.privacy.is_on:
            self.schedule("privacy.erasures", resume_erasures, every=600.0)
        self._house = (
            rollup_metadata,
            rejected.metadata,
            schedule_metadata,
            review_metadata,
            erasure_metadata,
            result_metadata,
            idempotency.metadata,
            subject_keys.metadata,
        )

    @classmethod
    async def open(
        cls,
        url: str | None = None,
        *,
        metadata: MetaData | Sequence[MetaData] = Model.metadata,
        migrate: bool | None = None,
        follow: bool = False,
        settings: Settings | None = None,
        **overrides: Any,
    ) -> Self:
        """Connect, and be ready for units of work.

        Args:
            url: the database; else `HOLDFAST_DATABASE_URL`, else `./holdfast.db`.
            metadata: of the models to keep, one or several; `Model.metadata` unless given.
            migrate: make what the models have and the database lacks; by default only in development.
            follow: also run the followers (rollups, handlers) in this process.
            settings: everything at once, in place of `url`, the environment and `overrides`, which are single ones.

        Raises:
            ConfigurationError: the environment or the URL is malformed, or `settings` is not all that was given.
            Unavailable: the database cannot be reached within `start_timeout` seconds.
            MigrationError: the models need what cannot be made without you.
        """
        if settings is None:
            settings = Settings.from_environment(database_url=url, **overrides)
        elif url is not None or overrides:
            raise ConfigurationError("give settings=… or a URL and single settings, not both")
        hold = cls(settings, metadata=metadata)
        await hold.start(migrate=migrate, follow=follow)
        return hold

    @classmethod
    def blocking(
        cls,
        url: str | None = None,
        *,
        metadata: MetaData | Sequence[MetaData] = Model.metadata,
        migrate: bool | None = None,
        follow: bool = False,
        settings: Settings | None = None,
        **overrides: Any,
    ) -> BlockingHoldfast:
        """What `open` does, for synchronous code: its methods are called without `await`, from any thread.

        It may be made before the process forks; each child opens connections of its own at its first use, and neither
        migrates nor follows.

        Raises:
            As `open`. StoreError: it is called inside a running event loop.

        Example::

            with Holdfast.blocking("sqlite:///notes.db") as hold, hold.unit(actor="ada") as unit:
                unit[Note].add(Note(text="hold fast"))
        """
        if settings is None:
            settings = Settings.from_environment(database_url=url, **overrides)
        elif url is not None or overrides:
            raise ConfigurationError("give settings=… or a URL and single settings, not both")

        async def opening(forked: bool) -> Holdfast:
            return await cls.open(
                settings=settings,
                metadata=metadata,
                migrate=False if forked else migrate,
                follow=follow and not forked,
            )

        return BlockingHoldfast(opening)

    async def start(self, *, migrate: bool | None = None, follow: bool = False) -> None:
        """What `open` does with a `Holdfast` that was made without connecting; closes it when that fails."""
        migrate = self.settings.environment == "development" if migrate is None else migrate
        try:
            if not migrate and self.store.file is not None and not self.store.file.exists():
                # Connecting would make an empty one, and the next question would be why nothing is in it.
                raise Unavailable(f"there is no database {self.store.file}; make it with `holdfast migrate up`")
            await self.store.start()
            if migrate:
                await self.migrate()
            await self.journal.start()
            await self.audit.prepare()
            self.counters.start()
            self.appends.start()
            self.cache.start()
            if follow:
                await self.follow()
        except BaseException:
            await self.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def unit(
        self,
        *,
        actor: str | None = None,
        tenant: Tenant = None,
        request_id: str | None = None,
        isolation: Isolation | None = None,
    ) -> AbstractAsyncContextManager[Unit]:
        """One transaction, committed when the block ends and rolled back when it raises; see `Store.unit`."""
        return self.store.unit(actor=actor, tenant=tenant, request_id=request_id, isolation=isolation)

    def read(
        self,
        *,
        tenant: Tenant = None,
        replica: bool = False,
        at_least: str | None = None,
        actor: str | None = None,
        request_id: str | None = None,
    ) -> AbstractAsyncContextManager[Unit]:
        """A unit that only reads, from the replica if it may; see `Store.read`."""
        reading = self.store.read(tenant=tenant, replica=replica, at_least=at_least, actor=actor, request_id=request_id)
        return self.audit.reading(reading) if self.audit.watches_reads else reading

    async def position(self) -> str:
        """What a read from a replica must not be behind of, to see everything that is committed now.

        See `Store.position`.
        """
        return await self.store.position()

    async def run(self, work: Callable[[Unit], Awaitable[T]], **options: Any) -> T:
        """Run `work(unit)`, again when it loses against a concurrent transaction; see `Store.run`."""
        return await self.store.run(work, **options)

    async def migrate(self) -> Difference:
        """Run the migrations of the folder, or without any make what the models have and the database lacks.

        Returns what was made: revisions, or tables, columns and indexes.
        """
        migrations = self.migrations()
        if migrations.files():
            made = Difference(migrations=[done.revision for done in await migrations.up()])
        else:
            if await self.pending():
                await hooks.announce(
                    hooks.registered, self.store, Planned(place=self.store.place, direction="up", revisions=())
                )
            made = await migrate_up(self.store, (*self._metadatas, *self._house), self.models)
        if made:
            # The first epoch begins here, so that a position means something before anybody follows.
            await self.journal.make_tick()
            await self.audit.prepare()
        return made

    async def pending(self) -> Difference:
        """What `migrate` would make."""
        migrations = self.migrations()
        if not migrations.files():
            return await pending(self.store, (*self._metadatas, *self._house), self.models)
        waiting = [file.revision for file in await migrations.pending()]
        return Difference(migrations=waiting, capture=[] if waiting else await self._capture_problems())

    async def _capture_problems(self) -> list[str]:
        async with self.store.connect() as connection:
            return await unsound(self.store, connection, self.models)

    def migrations(
        self, folder: Path | None = None, *, wait: float = 600.0, known: Sequence[MigrationFile] | None = None
    ) -> Migrations:
        """The migrations of `folder`, else of `settings.migrations`, and this database.

        Args:
            wait: seconds to wait for another process that migrates it.
            known: the migrations of the folder, where they are read once for many databases.
        """
        limits = Limits(
            lock_timeout=self.settings.migration_lock_timeout,
            statement_timeout=self.settings.migration_statement_timeout,
            give_up=self.settings.migration_give_up,
        )
        return Migrations(
            self.store,
            folder or Path(self.settings.migrations),
            metadatas=self._metadatas,
            models=self.models,
            house=self._house,
            limits=limits,
            wait=wait,
            known=known,
        )

    @cached_property
    def keys(self) -> ApiKeys[Any]:
        """The API keys: made, verified, rotated, revoked.

        Raises:
            ConfigurationError: no model keeps any, or several do; or production has no `HOLDFAST_KEY_PEPPERS`.
        """
        found = keys_models(self.models)
        if found is None:
            raise ConfigurationError(
                "API keys want one model with KeyColumns and one with KeyUseColumns; those of the accounts app are"
                " holdfast.apps.accounts: name it in HOLDFAST_MODELS, or open with metadata=accounts.metadata"
            )
        model, uses = found
        return ApiKeys(
            self.store,
            self.cache,
            self.counters,
            self._peppers,
            model=model,
            uses=uses,
            prefix=self.settings.key_prefix,
            told=Told(self.audit, model) if self.audit.is_on else None,
            slow=Slow(self.settings.key_bcrypt) if self.settings.key_bcrypt else None,
        )

    @cached_property
    def sessions(self) -> Sessions[Any]:
        """Who is signed in: begun, verified, ended.

        Raises:
            ConfigurationError: no model keeps sessions, or several do; or production has no `HOLDFAST_KEY_PEPPERS`.
        """
        model = session_model(self.models)
        if model is None:
            raise ConfigurationError(
                "sessions want one model with SessionColumns; that of the accounts app is in holdfast.apps.accounts:"
                " name it in HOLDFAST_MODELS, or open with metadata=accounts.metadata"
            )
        return Sessions(self.store, self.cache, self._peppers, model=model, prefix=self.settings.key_prefix)

    @cached_property
    def consents(self) -> Consents[Any]:
        """Who agreed to what, and took it back.

        Raises:
            ConfigurationError: no model keeps it. ModelError: several do.
        """
        model = consent_model(self.models)
        if model is None:
            raise ConfigurationError(
                "consents want one model with ConsentColumns; that of the accounts app is in holdfast.apps.accounts:"
                " name it in HOLDFAST_MODELS, or open with metadata=accounts.metadata"
            )
        return Consents(model)

    @cached_property
    def subject_keys(self) -> SubjectKeys:
        """The keys of people, under which the audit trail keeps what is private: shredded where somebody is erased.

        Raises:
            ConfigurationError: HOLDFAST_ENCRYPTION_KEYS is malformed.
        """
        text = self.settings.encryption_keys
        return SubjectKeys(KeyRing.parse(text) if text else None)

    @cached_property
    def _peppers(self) -> Peppers:
        return Peppers.configured(self.settings.key_peppers, production=self.settings.environment == "production")

    def examiner(self) -> Examiner:
        """Who looks at whether everything is as it must be."""
        return Examiner(
            self.store,
            self.journal,
            self.pending,
            captured=sum(model.__policy__.capture for model in self.models),
            is_followed=bool(self.rollups.rollups or self.handlers.all() or self.audit.is_on),
            redis=self._redis,
        )

    async def redis_report(self) -> RedisReport | None:
        """How the Redis of the cache fares, with what is wrong and what to do; None where none is configured.

        Never raises for a Redis that is gone or refuses: those are findings. It changes nothing.
        """
        return None if self._redis is None else await examine_redis(self._redis)

    async def flush_redis(self) -> int:
        """For an emergency: drop every key in Redis that begins with `HOLDFAST_REDIS_PREFIX`, and no other.

        It looks at every key, a thousand at a time, and never uses FLUSHALL. Nodes keep what they have in memory;
        to end values for good say `cache.clear()`. Returns how many keys were dropped; 0 where no Redis is configured.

        Raises:
            Unavailable: Redis did not answer, or refused; it says how many were dropped until then.
        """
        return 0 if self._redis is None else await drop_our_keys(self._redis)

    async def follow(self) -> None:
        """Run Holdfast's own followers of the journal, rollups, handlers and the audit, in this process until `close`.

        Called again, it runs the handlers that were declared since.
        """
        await self.audit.start()
        await self.rollups.start()
        await self.handlers.start()

    def on(
        self, subject: type[Event] | type[Model] | str, *, op: Op | Iterable[Op] | None = None, name: str | None = None
    ) -> Callable[[F], F]:
        """Have an async function called for each event or change, by this data layer; arguments as `on` takes them.

        It runs where followers run: `Holdfast.open(follow=True)`, `await hold.follow()`.

        Raises:
            ConfigurationError: as `on` says; or the model is not kept here.
        """

        def register(function: F) -> F:
            self.handlers.add(Handler.checked(function, subject, op=op, name=name))
            return function

        return register

    def schedule(
        self,
        name: str,
        work: Work,
        *,
        cron: str | None = None,
        every: float | None = None,
        catch_up: CatchUp = "once",
        timeout: float | None = None,
        attempts: int = 5,
        tenant: Tenant = None,
    ) -> None:
        """Have this data layer's workers do `work(hold, run)` on a schedule; arguments as `scheduled` takes them.

        Raises:
            ConfigurationError: an argument cannot be, or the name is another's.
        """
        self._schedules.add(
            Schedule.checked(
                name,
                work,
                cron=cron,
                every=every,
                catch_up=catch_up,
                timeout=timeout,
                attempts=attempts,
                tenant=tenant,
            )
        )

    def worker(self, *, concurrency: int = 4, ended: Callable[[PastRun], None] | None = None) -> Worker:
        """Who runs the schedules of this data layer and of the modules that are imported: `await worker.run()`.

        Args:
            concurrency: runs at a time.
            ended: told of every run that ended.
        """
        return Worker([self._runner(ended)], concurrency=concurrency)

    async def run_schedule(self, name: str) -> PastRun:
        """Run one schedule now, under its lease; returns how it ended.

        Raises:
            NotFound: no module that is imported declares it. StoreError: another instance runs it just now.
        """
        return await self._runner(None).run_now(name)

    def _runner(self, ended: Callable[[PastRun], None] | None) -> ScheduleRunner:
        kept = frozenset(self.models)
        known = Schedules(schedule for schedule in registered if kept.issuperset(schedule.models))
        for schedule in self._schedules:
            known.add(schedule)
        return ScheduleRunner(self.schedules, known, self, ended=ended)

    async def close(self) -> None:
        """Stop the followers, let open units finish, drop the connections."""
        await self.audit.close()
        await self.counters.close()
        await self.appends.close()
        await self.cache.close()
        await self.rollups.close()
        await self.journal.close()
        await self.store.close()
