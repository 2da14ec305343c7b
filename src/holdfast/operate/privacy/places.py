"""Where else than in rows something about a person lies, and how it goes from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import delete

from holdfast.cache import Cache
from holdfast.guard.idempotency import answers
from holdfast.guard.subject_keys import SubjectKeys
from holdfast.journal import Change
from holdfast.journal.dead_letters import rewrite_letters
from holdfast.model import Model
from holdfast.operate.privacy.marks import Marks
from holdfast.operate.privacy.rows import Opened, blank_mentions, erase_rows
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


class Eraser(Protocol):
    """Forgets a person at one place; `hold.privacy.register(…)` has it asked.

    It is asked at least twice for everybody: as soon as he is to be forgotten, and again when the journal has forgotten
    him, for what came from there meanwhile. So it must find what there is to do by itself, and do nothing where there
    is nothing. What it raises has it asked again later.
    """

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """How much was erased, by what it is called."""


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
                gone = await connection.execute(delete(answers).where(answers.c.caller == f"user:{who.subject}"))
        return +Counter({answers.name: gone.rowcount})


class InLetters:
    """Dead letters: changes that a follower could not take, with the facts that it wanted."""

    def __init__(self, models: Sequence[type[Model]]) -> None:
        self._private = {str(model.__tablename__): frozenset(model.__policy__.private) for model in models}

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Take what is private out of those that are about him; of events every text that is a mark of his."""

        def rewritten(change: Change) -> Change:
            if not (who.marks.among([change.key, change.old, change.new])):
                return change
            if change.op == "event":
                return msgspec.structs.replace(change, new=who.marks.without(change.new, ERASED))
            private = self._private.get(change.table, frozenset())
            old, new = _without(change.old, private), _without(change.new, private)
            return msgspec.structs.replace(change, old=old, new=new)

        async with who.opened() as unit:
            return +Counter({"holdfast_dead_letters": await rewrite_letters(unit, rewritten, error=ERASED)})


class InCaches:
    """Redis, the table of results, and the memory of every node."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def __call__(self, who: Forgotten) -> Counter[str]:
        """Remove what his rows have ended, and what else may never be served again."""
        return +Counter({"cached values": await self._cache.sweep()})


def _without(facts: dict[str, Any] | None, private: frozenset[str]) -> dict[str, Any] | None:
    return None if facts is None else {name: None if name in private else value for name, value in facts.items()}
