"""`Privacy`: what is kept of a person, exported and erased."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from holdfast.cache import Cache
from holdfast.errors import HoldfastError, InvalidValue, NotFound
from holdfast.guard.audit import Trail
from holdfast.guard.subject_keys import SubjectKeys
from holdfast.journal import Event, Journal
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.operate.findings import Report
from holdfast.operate.privacy import erasures as log_of
from holdfast.operate.privacy.classified import examine_privacy
from holdfast.operate.privacy.erasures import Erasure
from holdfast.operate.privacy.export import Exported, Exporting
from holdfast.operate.privacy.marks import Marks
from holdfast.operate.privacy.places import Eraser, Forgotten, InAnswers, InCaches, InLetters, InRows, InTrail, declared
from holdfast.operate.privacy.rows import canonical_subject, find_marks, personal_models
from holdfast.operate.schedule_runs import Run
from holdfast.store import ALL, Store, Unit

log = get_logger("holdfast.privacy")

ACTION_ASKED, ACTION_DONE, ACTION_EXPORTED = "privacy.erase", "privacy.erased", "privacy.export"
_PERSON = "person"  # what records of the audit trail call whom these are done to
_REASON = 500  # characters
_FAILURE = 2_000


def _is_told(error: Exception) -> bool:
    """Whether what went wrong is said by the error itself; else the log has where it came from."""
    return isinstance(error, HoldfastError | OSError)


class PersonErased(Event, topic="person_erased"):
    """A person was erased from everything but the journal: for what an application keeps of him elsewhere.

    It may come twice.
    """

    subject: str


class Privacy:
    """What a data layer does for the people whose data it keeps.

    A person is known by the key that `Personal(…)` columns have of him.
    """

    def __init__(
        self, store: Store, journal: Journal, cache: Cache, trail: Trail, models: Sequence[type[Model]]
    ) -> None:
        self._store = store
        self._journal = journal
        self._trail = trail
        self._models = models
        self._rows = InRows(models)
        self._house: dict[str, Eraser] = {
            "audit trail": InTrail(),
            "rows": self._rows,
            "answers": InAnswers(),
            "dead letters": InLetters(models),
            "caches": InCaches(cache),
        }
        self.is_on = bool(personal_models(models))

    def check(self) -> Report:
        """Whether every column is classified, and everybody whose data is kept could be found and erased."""
        return Report.of(examine_privacy(self._models))

    async def erase(
        self, subject: object, *, actor: str | None = None, reason: str | None = None, request_id: str | None = None
    ) -> Erasure:
        """Forget a person: his rows now, what the journal remembers of them when it is pruned.

        It is kept in the log first, so it goes on after a crash, by `resume` or the schedule `privacy.erasures`. Where
        one is under way for him, everything is gone through again by that one.

        Returns how far it got: `erased`, where everything but the journal has forgotten him; `asked`, with a `failure`,
        where a place did not, and is asked again; `done` when the journal has forgotten too.

        Raises:
            NotFound: nothing is kept of him. InvalidValue: the key or the reason cannot be kept.
        """
        subject = canonical_subject(self._models, subject)
        if reason is not None and not 0 < len(reason) <= _REASON:
            raise InvalidValue(f"a reason has 1 to {_REASON} characters, not {len(reason):,}")
        async with self._store.unit(actor=actor, tenant=ALL, request_id=request_id) as unit:
            erasure, began = await log_of.begin(unit, subject, by=actor, reason=reason)
            if began:
                await self._begin(unit, erasure)
        return await self._go_through(erasure, is_last=False)

    async def resume(self) -> list[Erasure]:
        """Go on with everything that is not done: what was interrupted, and what waited for the journal.

        One that fails does not keep the others; its failure is in the log. Returns all of them, as they are now.
        """
        found = []
        for erasure in await log_of.erasures(self._store, is_open=True):
            # What is erased once the journal has forgotten is erased for good: nothing can come from there any more.
            is_last = erasure.edge is not None and await self._journal.is_behind(erasure.edge)
            waits = erasure.erased_at is not None and not is_last
            found.append(erasure if waits else await self._go_through(erasure, is_last=is_last))
        return found

    async def replay(self, log: Iterable[Erasure], *, actor: str | None = None) -> list[Erasure]:
        """Forget once more who was forgotten after the backup was made that this database was restored from.

        Args:
            log: as `erasures` gave it before, kept elsewhere: the log in the backup ends with the backup.

        People of whom nothing is kept any more are left out; what was sealed of them is made unreadable all the same.
        """
        done = []
        for subject in dict.fromkeys(erasure.subject for erasure in log):
            try:
                done.append(await self.erase(subject, actor=actor, reason="again, after a restore"))
            except NotFound:
                async with self._store.unit(actor=actor, tenant=ALL) as unit:
                    await SubjectKeys(None).shred(unit, subject)
        return done

    async def erasures(self, *, subject: object = None, is_open: bool = False) -> list[Erasure]:
        """The log of erasures, the oldest first: of one person, or what is not done yet."""
        whose = None if subject is None else canonical_subject(self._models, subject)
        return await log_of.erasures(self._store, subject=whose, is_open=is_open)

    async def _begin(self, unit: Unit, erasure: Erasure) -> None:
        if not await find_marks(unit, self._models, erasure.subject, Marks(erasure.id)):
            raise NotFound(f"nothing is kept of {erasure.subject[:80]!r}")
        await self._tell(unit, ACTION_ASKED, erasure.subject, erasure=erasure.id, reason=erasure.reason)

    async def _go_through(self, erasure: Erasure, *, is_last: bool) -> Erasure:
        """Have every place forget. What one of them raises is in the log, and none of the others waits for it."""
        erased = Counter(erasure.erased)
        failures = []
        had_rows = False
        try:
            marks = await self._marks(erasure)
            who = Forgotten(subject=erasure.subject, marks=marks, opened=partial(self._opened, erasure))
            for name, eraser in {**self._house, **declared}.items():
                try:
                    if done := await eraser(who):
                        erased += done
                        had_rows |= eraser is self._rows
                        erasure = await self._note(erasure, erased=dict(erased))
                except Exception as error:
                    log.warning("erasure_failed", erasure=erasure.id, place=name, exc_info=not _is_told(error))
                    failures.append(f"{name}: {str(error) or type(error).__name__}")
            if failures:
                return await self._note(erasure, failure="; ".join(failures)[:_FAILURE])
            if is_last and not had_rows:
                async with self._opened(erasure) as unit:
                    await self._tell(unit, ACTION_DONE, erasure.subject, erasure=erasure.id, erased=dict(erased))
                    return await log_of.finish(unit, erasure, erased)
            # What was in rows just now is in the journal too, again.
            edge = await self._journal.edge()
            async with self._opened(erasure) as unit:
                await unit.emit(PersonErased(subject=erasure.subject))
                return await log_of.note(unit, erasure, erased_at=dt.datetime.now(dt.UTC), edge=edge, failure=None)
        except HoldfastError as error:
            log.warning("erasure_failed", erasure=erasure.id, reason=str(error))
            return msgspec.structs.replace(erasure, failure=str(error)[:_FAILURE])

    async def _marks(self, erasure: Erasure) -> Marks:
        """What tells him from others: what was known of that before his rows went, and what they say now."""
        async with self._store.unit(tenant=ALL) as unit:
            marks = await log_of.marks_of(unit, erasure)
            await find_marks(unit, self._models, erasure.subject, marks)
            await log_of.keep_marks(unit, erasure, marks)
        return marks

    async def _note(self, erasure: Erasure, **values: Any) -> Erasure:
        async with self._store.unit(tenant=ALL) as unit:
            return await log_of.note(unit, erasure, **values)

    def _opened(self, erasure: Erasure) -> AbstractAsyncContextManager[Unit]:
        return self._store.unit(actor=f"erasure:{erasure.id}", tenant=ALL)

    async def export(
        self, subject: object, file: Path, *, actor: str | None = None, request_id: str | None = None
    ) -> Exported:
        """Write what is kept of a person into a ZIP of JSON files, with a manifest of their hashes; it is on record.

        Nothing secret is in it; encrypted columns are in it as they were before, and so is what the audit trail has
        sealed about him. All files are of one moment.

        Raises:
            NotFound: nothing is kept of him. InvalidValue: he is none, or the file is there already.
        """
        subject = canonical_subject(self._models, subject)
        exported = await Exporting(self._store, self._trail, self._models).write(subject, file)
        async with self._store.unit(actor=actor, tenant=ALL, request_id=request_id) as unit:
            await self._tell(unit, ACTION_EXPORTED, subject, sha256=exported.sha256, rows=exported.rows)
        return exported

    async def _tell(self, unit: Unit, action: str, subject: str, **details: Any) -> None:
        if self._trail.is_on:
            told = {name: value for name, value in details.items() if value is not None}
            await self._trail.record(unit, action, target=(_PERSON, subject), details=told)


async def resume_erasures(hold: Any, run: Run) -> None:
    """The work of the schedule `privacy.erasures`."""
    await hold.privacy.resume()
