"""`Trail`: what is put on record, and the follower of the journal that seals it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import cached_property
from typing import Any

from holdfast.errors import ConfigurationError, InvalidValue, JournalError, StoreError, WrongTenant
from holdfast.guard.audit import reads
from holdfast.guard.audit.checkpoint import Checkpoint
from holdfast.guard.audit.declaring import rules_of
from holdfast.guard.audit.entries import GAP, REQUEST, TOPIC, Origin, Told, id_of, shortened
from holdfast.guard.audit.gathered import Gathered
from holdfast.guard.audit.keys import AuditKeys
from holdfast.guard.audit.private import Box
from holdfast.guard.audit.record import Outcome
from holdfast.guard.audit.sealing import Sealing
from holdfast.guard.audit.tables import Tables
from holdfast.guard.audit.verify import Progress, Verified, verify
from holdfast.journal import Journal
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.model.keyring import KeyRing
from holdfast.settings import Settings
from holdfast.store import ALL, Store, Unit
from holdfast.store.current import own_unit
from holdfast.store.keys import key_of

log = get_logger("holdfast.audit")

FOLLOWER = "audit"
_OPS = frozenset(("insert", "update", "delete", "retired", "event"))


class Trail:
    """The audit trail of one data layer: a chain of records for each tenant, and one for what concerns no tenant.

    What is to be on record is in the journal first: changes of audited models by whatever program, and what `record`
    and its like write. So it is committed with the transaction that it is about, or not at all. A follower, which one
    process runs at a time, turns it into records and seals them, each once.

    Attributes:
        is_on: whether there are models that keep the trail.
        tables: that keep it.
    """

    def __init__(self, store: Store, journal: Journal, models: Sequence[type[Model]], settings: Settings) -> None:
        self._store = store
        self._journal = journal
        self._settings = settings
        self._rules = rules_of(models)
        self._tables = Tables.of(models)
        if self._rules and self._tables is None:
            raise ConfigurationError(
                f"{', '.join(sorted(self._rules))}: audited, and no model keeps the trail; those of the accounts app"
                " do: open with its metadata too (metadata=(…, accounts.metadata)), or name it in HOLDFAST_MODELS"
            )
        self.is_on = self._tables is not None
        self.watches_reads = reads.watch(models)
        if self.watches_reads:
            store.hooks.before_commit.append(self._record_reads)
        self._gathered = Gathered(self._write)
        self._running = False

    @property
    def tables(self) -> Tables:
        """The tables of the trail. ConfigurationError: no model keeps one."""
        if self._tables is None:
            raise ConfigurationError(
                "the audit trail wants one model with AuditColumns and one with AuditHeadColumns; those of the accounts"
                " app are holdfast.apps.accounts: name it in HOLDFAST_MODELS, or open with metadata=accounts.metadata"
            )
        return self._tables

    @cached_property
    def keys(self) -> AuditKeys:
        """The keys that seal.

        Raises:
            ConfigurationError: one is malformed, or production has none.
        """
        return AuditKeys.configured(self._settings.audit_keys, production=self._settings.environment == "production")

    @cached_property
    def box(self) -> Box | None:
        """What encrypts the private part of records; None where there are no keys, and the part is left out."""
        text = self._settings.encryption_keys
        return Box(KeyRing.parse(text)) if text else None

    async def record(
        self,
        unit: Unit | None,
        action: str,
        *,
        outcome: Outcome = "allowed",
        reason: str | None = None,
        target: Model | tuple[str, object] | None = None,
        tenant: object = None,
        actor: str | None = None,
        subject: object = None,
        details: Mapping[str, Any] | None = None,
        private: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> None:
        """Put on record what is no change of a row: a login, an export, a decision.

        Args:
            unit: with which it is committed; None commits it at once, by itself.
            action: what was done, in a word or two.
            outcome, reason: whether it was let happen, and why not.
            target: what it was done to: a row, or a table's name and a key.
            tenant: in whose chain it is; the unit's unless given. A unit of one tenant tells for that one alone.
            actor: who did it; the unit's unless given.
            subject: whom `private` is about.
            details: anything that JSON can hold.
            private: the same, encrypted; left out where there is no key to encrypt it with.
            origin: where the request came from.

        Raises:
            ConfigurationError: no model keeps the trail. InvalidValue: a value cannot be kept: 64 KiB is the most.
            WrongTenant: the unit is of another tenant.
        """
        self.tables  # noqa: B018  says what is missing
        if not isinstance(action, str) or not 0 < len(action) <= 100 or not action.isprintable():
            raise InvalidValue(f"an action is 1 to 100 characters that can be seen, not {str(action)[:60]!r}")
        if outcome not in ("allowed", "denied", "failed"):
            raise InvalidValue(f"an outcome is allowed, denied or failed, not {outcome!r}")
        if unit is not None and None not in (unit.tenant, tenant) and id_of(tenant) != id_of(unit.tenant):
            raise WrongTenant(f"a unit of tenant {unit.tenant!r} puts nothing on the record of {tenant!r}")
        kind, key = _target(target)
        told = Told(
            action=action,
            outcome=outcome,
            reason=reason,
            tenant=None if tenant is None else id_of(tenant),
            actor=actor,
            target_type=kind,
            target_id=key,
            subject=None if subject is None else id_of(subject),
            details=dict(details or {}),
            private=dict(private or {}),
            origin=shortened(origin),
        )
        if unit is not None:
            await unit.emit(TOPIC, data=told)
        else:
            await self._write([told])

    async def origin(self, unit: Unit, origin: Origin, *, tenant: object = None) -> None:
        """Put on record where this unit's request comes from, before it writes: what it writes is told the same.

        Raises:
            InvalidValue: the unit has no `request_id`, by which they belong together.
        """
        if unit.request_id is None:
            raise InvalidValue("a request is known again by its id; open the unit with request_id=…")
        await self.record(unit, REQUEST, origin=origin, tenant=tenant)

    def denied(
        self,
        action: str,
        reason: str,
        *,
        tenant: object = None,
        actor: object = None,
        target: tuple[str, object] | None = None,
        origin: Origin | None = None,
    ) -> None:
        """Have a denial put on record within a second, without waiting for it; see `gather`."""
        self.gather(action, outcome="denied", reason=reason, tenant=tenant, actor=actor, target=target, origin=origin)

    def gather(
        self,
        action: str,
        *,
        outcome: Outcome,
        reason: str | None = None,
        tenant: object = None,
        actor: object = None,
        target: tuple[str, object] | None = None,
        origin: Origin | None = None,
    ) -> None:
        """Have something put on record within a second that happens often; equal ones of that second are one.

        Does nothing where no model keeps the trail. A process that is killed loses those of its last second: where that
        is too much, `await record(None, …)`.
        """
        if not self.is_on:
            return
        kind, key = _target(target)
        self._gathered.add(
            Told(
                action=action[:100],
                outcome=outcome,
                reason=None if reason is None else reason[:500],
                tenant=None if tenant is None else id_of(tenant),
                actor=None if actor is None else id_of(actor),
                target_type=kind,
                target_id=key,
                origin=shortened(origin),
            )
        )

    async def flush(self) -> None:
        """Put on record what was gathered."""
        await self._gathered.flush()

    @asynccontextmanager
    async def reading(self, opening: AbstractAsyncContextManager[Unit]) -> AsyncIterator[Unit]:
        """A unit that only reads; what it has loaded is on record once it has ended, also where its block failed."""
        unit: Unit | None = None
        try:
            async with opening as unit:
                yield unit
        finally:
            if unit is not None and (told := reads.noted(unit)):
                await self._write(told, request_id=unit.request_id)

    async def _record_reads(self, unit: Unit) -> None:
        for told in reads.noted(unit):
            await unit.emit(TOPIC, data=told)

    async def _write(self, told: list[Told], request_id: str | None = None) -> None:
        # On SQLite there is one writer: who is it would wait for himself.
        own = own_unit(self._store) if self._store.dialect == "sqlite" else None
        async with nullcontext(own) if own else self._store.unit(tenant=ALL, request_id=request_id) as unit:
            for one in told:
                await unit.emit(TOPIC, data=one)

    async def prepare(self) -> None:
        """Have the journal kept for the trail from now on, whether anybody follows yet or not.

        Where the trail has records and the journal does not know its follower any more, somebody made it forget: that
        is on record then. Does nothing where there is no journal yet.
        """
        if not self.is_on:
            return
        try:
            is_new = await self._journal.keep_for(FOLLOWER)
            if is_new and not await self.tables.is_empty(self._store):
                told = "the journal was made to forget the trail: what was changed before this may be on no record"
                await self.record(None, GAP, outcome="failed", reason=told)
        except JournalError:
            return  # it is prepared when the database is migrated
        except StoreError as error:
            log.warning("audit_not_prepared", place=self._store.place, reason=str(error))

    async def start(self) -> None:
        """Seal what comes, in this process unless another one does, until the journal is closed.

        Raises:
            ConfigurationError: production has no key. MissingExtra: the private part cannot be encrypted here.
        """
        if not self.is_on or self._running:
            return
        self.keys  # noqa: B018  rather now than at each change
        if self.box is None:
            log.warning("audit_without_private_parts", reason="HOLDFAST_ENCRYPTION_KEYS is not set; they are left out")
        else:
            self.box.check()
        await self.prepare()
        await self._journal.subscribe(
            FOLLOWER,
            Sealing(self.tables, self._rules, self.keys, self.box),
            tables=(*self._rules, TOPIC),
            wants=lambda change: change.op in _OPS,
            transactional=True,
            start="now",
        )
        self._running = True

    async def caught_up(self, *, timeout: float = 30.0) -> None:
        """Wait until everything that is committed now is sealed, by this process.

        Raises:
            TimeoutError: it was not in `timeout` seconds. JournalError: this process does not seal.
        """
        await self.flush()
        await self._journal.wait_until(await self._journal.make_tick(), FOLLOWER, timeout=timeout)

    async def verify(
        self,
        *,
        tenant: str | None = None,
        known: Checkpoint | None = None,
        after: Checkpoint | None = None,
        progress: Progress = lambda chains, records: None,
    ) -> Verified:
        """Go along the chains, of one tenant ("" is nobody's) or all; see `audit.verify`."""
        return await verify(
            self._store, self.tables, self.keys, tenant=tenant, known=known, after=after, progress=progress
        )

    async def close(self) -> None:
        """Put on record what waits."""
        if self.is_on:
            await self._gathered.close()


def _target(target: Model | tuple[str, object] | None) -> tuple[str | None, str | None]:
    if target is None:
        return None, None
    if isinstance(target, Model):
        return str(target.__tablename__), id_of(key_of(type(target)).of(target))
    kind, key = target
    return kind, id_of(key)
