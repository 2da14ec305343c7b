"""Where else than in rows something about a person lies, and how it goes from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import delete

from holdfast.cache import Cache
from holdfast.errors import ConfigurationError
from holdfast.guard.idempotency import answers, caller_of
from holdfast.guard.subject_keys import SubjectKeys
from holdfast.journal import Change
from holdfast.journal.dead_letters import rewrite_letters
from holdfast.journal.handler import place_of
from holdfast.model import Model
from holdfast.operate.privacy.marks import Marks
from holdfast.operate.privacy.rows import Opened, blank_mentions, erase_rows, personal_models
from holdfast.store.row_security import SUBJECT_KEYS

ERASED = "erased"
"""Stands where a text was that told somebody from others."""


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be forgotten.

    Attributes:
        subject: the key of the person.
        marks: what else tells him from others: `text in marks`.
        opened: opens a unit in which it is done: for all tenants, of who asked for it.
    """

    subject: str
    marks: Marks
    opened: Opened


Eraser = Callable[[Forgotten], Awaitable[Counter[str]]]
"""Forgets a person at one place: `await eraser(who)` returns how much it erased, by what that is called.

It is asked at least twice for everybody: as soon as he is to be forgotten, and again when the journal has forgotten
him, for what came from there meanwhile. So it must find what there is to do by itself, and do nothing where there is
nothing. What it raises has it asked again later.
"""
E = TypeVar("E", bound=Eraser)

declared: dict[str, Eraser] = {}
"""What `erases` declared in the modules that are imported, by name."""


def erases(name: str) -> Callable[[E], E]:
    """Have `await eraser(who)` asked to forget people by every data layer that imports its module.

    So declare it in a module that every process imports, as that of the models: the command line erases too.

    Args:
        name: the place's, for the log of erasures.

    Raises:
        ConfigurationError: the name is another's.

    Example::

        @erases("newsletter")
        async def from_the_newsletter(who: Forgotten) -> Counter[str]:
            return Counter({"newsletter": await newsletter.remove(who.subject)})
    """

    def declare(eraser: E) -> E:
        known = declared.get(name)
        if known is not None and place_of(known) != place_of(eraser):
            raise ConfigurationError(f"there is an eraser {name!r} already ({'.'.join(place_of(known))})")
        declared[name] = eraser
        return eraser

    return declare


class InRows:
    """Rows of models that are `Personal`, and documents of those that say `Mentions`."""

    def __init__(self, models: Sequence[type[Model]]) -> None:
        self._models = models

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Erase them."""
        # First what only speaks of him: it is found by marks that his rows have.
        done = await blank_mentions(who.opened, self._models, who.marks)
        return done + await erase_rows(who.opened, self._models, who.subject)


class InTrail:
    """What the audit trail has sealed about him, wherever copies of it lie."""

    def __init__(self) -> None:
        self._keys = SubjectKeys(None)  # without a ring it shreds, and no more

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Shred the key that it is under."""
        async with who.opened() as unit:
            return +Counter({SUBJECT_KEYS: int(await self._keys.shred(unit, who.subject))})


class InAnswers:
    """Answers that are kept for requests that may be sent again."""

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Delete those that he was given."""
        async with who.opened() as unit:
            connection = await unit.connection()
            with unit.translated():
                gone = await connection.execute(delete(answers).where(answers.c.caller == caller_of(who.subject)))
        return +Counter({answers.name: gone.rowcount})


class InLetters:
    """Dead letters: changes that a follower could not take, with the facts that it wanted."""

    def __init__(self, models: Sequence[type[Model]]) -> None:
        self._private = {
            str(model.__tablename__): frozenset((*model.__policy__.private, *model.__policy__.secret))
            for model in models
        }
        self._subjects = {str(model.__tablename__): personal.subject for model, personal in personal_models(models)}

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Take what is private out of those that are about him; of events every text that is a mark of his."""

        def rewritten(change: Change) -> Change:
            if change.op == "event":
                return msgspec.structs.replace(change, new=who.marks.without(change.new, ERASED))
            if not self._is_about(change, who):
                return change
            private = self._private.get(change.table, frozenset())
            old, new = _without(change.old, private), _without(change.new, private)
            return msgspec.structs.replace(change, old=old, new=new)

        async with who.opened() as unit:
            return +Counter({"holdfast_dead_letters": await rewrite_letters(unit, rewritten, error=ERASED)})

    def _is_about(self, change: Change, who: Forgotten) -> bool:
        column = self._subjects.get(change.table)
        facts = [facts for facts in (change.old, change.new) if facts is not None]
        if column is not None and who.subject in (change.key, *(str(one.get(column)) for one in facts)):
            return True
        return who.marks.among(facts)


class InCaches:
    """Redis, the table of results, and the memory of every node."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Remove what his rows have ended, and what else may never be served again."""
        return +Counter({"cached values": await self._cache.sweep()})


def _without(facts: dict[str, Any] | None, private: frozenset[str]) -> dict[str, Any] | None:
    return None if facts is None else {name: None if name in private else value for name, value in facts.items()}
