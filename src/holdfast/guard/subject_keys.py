"""A key for each person: what is kept under it is unreadable, wherever it lies, once the key is shredded.

The table must be in no backup of the rest: a restore would bring shredded keys back. See docs/adr/0018.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    LargeBinary,
    MetaData,
    Table,
    any_,
    bindparam,
    func,
    inspect,
    null,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.guard.kept_text import kept_text
from holdfast.model import Text, UtcTime
from holdfast.model.keyring import Cipher, KeyRing, header_of
from holdfast.store import Store, Unit
from holdfast.store.bulk import write
from holdfast.store.rotation import BATCH, Rotated, count_column
from holdfast.store.row_security import SUBJECT_KEYS

SUBJECT = 255  # characters
FORMAT = b"\x02"
"""What a ciphertext under the key of a person begins with; that under a key of a ring begins with another byte."""

_KEY = 32  # bytes

metadata = MetaData()
_keys = Table(
    SUBJECT_KEYS,
    metadata,
    Column("subject", Text(SUBJECT), primary_key=True),
    Column("wrapped", LargeBinary()),  # the key, under a key of the ring; NULL once it is shredded
    Column("created_at", UtcTime(), nullable=False),
    Column("shredded_at", UtcTime()),
    CheckConstraint("(wrapped IS NULL) = (shredded_at IS NOT NULL)", name="ck_holdfast_subject_keys_shredded"),
    # What a shredded key was does not lie about until so many others are that a vacuum is worth it.
    postgresql_with={"autovacuum_vacuum_threshold": 0, "autovacuum_vacuum_scale_factor": 0},
)


class SubjectKey:
    """The key of one person: AES-256-GCM. What it makes is bound to him and to a place."""

    def __init__(self, subject: str, key: bytes) -> None:
        self.subject = subject
        self._cipher = Cipher(key)

    def encrypt(self, plain: bytes, place: str) -> bytes:
        """`plain` under this key, for a place that has no NUL in its name."""
        return self._cipher.encrypt(plain, self._bound(place))

    def decrypt(self, ciphertext: bytes, place: str) -> bytes:
        """What was encrypted for `place`. InvalidValue: it was changed, or is another person's or another place's."""
        plain = self._cipher.decrypt(ciphertext, self._bound(place))
        if plain is None:
            raise InvalidValue(
                f"a value in {place} was changed, or is not under the key that its subject has now; restore it, or the"
                f" table {SUBJECT_KEYS}, from a backup"
            )
        return plain

    def _bound(self, place: str) -> bytes:
        return b"\0".join((b"holdfast", FORMAT, place.encode(), self.subject.encode()))

    def __repr__(self) -> str:
        return "<SubjectKey>"


class SubjectKeys:
    """The keys of people, by whatever text names them, in the table `holdfast_subject_keys`.

    Nothing of them is kept between two units, so that what is shredded is shredded in every process at once.

    Args:
        ring: encrypts the keys; without one none can be made or read, only shredded.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring

    async def of(self, unit: Unit, subjects: Iterable[str], *, make: bool) -> Mapping[str, SubjectKey | None]:
        """The keys of these people, by their names; None for one that is shredded.

        Args:
            make: make those that are missing, and let none be shredded until the unit ends: who shreds one waits for
                what is written under it. Otherwise who has none is left out.

        Raises:
            ConfigurationError: there is no ring, or it lacks the key that one is under. InvalidValue: one was changed.
        """
        wanted = sorted(set(subjects))
        if not wanted:
            return {}
        if self._ring is None:
            raise ConfigurationError("keys of people are encrypted under HOLDFAST_ENCRYPTION_KEYS, which is not set")
        found = await self._read(unit, wanted, make)
        if make and (missing := [subject for subject in wanted if subject not in found]):
            unit.must_write("make a key")
            now = dt.datetime.now(dt.UTC)
            made = [
                {"subject": one, "wrapped": self._ring.encrypt(os.urandom(_KEY), _place(one)), "created_at": now}
                for one in missing
            ]
            connection = await unit.connection()
            with unit.translated():
                await write(connection, _keys, made, (("subject",), ()))
            # Somebody else may have made one first, or shredded it: his holds.
            found |= await self._read(unit, missing, make)
        return {
            subject: None if wrapped is None else SubjectKey(subject, self._ring.decrypt(wrapped, _place(subject)))
            for subject, wrapped in found.items()
        }

    async def shred(self, unit: Unit, subject: str | UUID | int) -> bool:
        """Make everything under the key of a person unreadable for good, as soon as the unit is committed.

        The row stays, so that nobody makes him a new key: what is still to be kept of him is left out. It waits for
        those who write under the key just now; what they write is unreadable too. Those who come later wait for the
        unit: it must not wait for them, as `audit.caught_up` does.

        Returns whether he was not shredded before.

        Raises:
            InvalidValue: the subject is empty.
        """
        unit.must_write("shred a key")
        name = kept_text(subject, SUBJECT)
        if not name:
            raise InvalidValue(f"whose key to shred is said by the text that names him, not by {subject!r}")
        now = dt.datetime.now(dt.UTC)
        connection = await unit.connection()
        is_postgresql = connection.dialect.name == "postgresql"
        insert: Any = postgresql.insert if is_postgresql else sqlite.insert
        added = insert(_keys).values(subject=name, wrapped=null(), created_at=now, shredded_at=now)
        shredded = added.on_conflict_do_update(
            index_elements=["subject"],
            set_={"wrapped": null(), "shredded_at": now},
            where=_keys.c.shredded_at.is_(None),
        ).returning(_keys.c.subject)
        with unit.translated():
            if unit.store.file is None:
                return (await connection.execute(shredded)).first() is not None
            # Else the key would stay in a free part of its page, for whoever has the file.
            before = (await connection.exec_driver_sql("PRAGMA secure_delete")).scalar_one()
            await connection.exec_driver_sql("PRAGMA secure_delete = ON")
            found = (await connection.execute(shredded)).first()
            await connection.exec_driver_sql(f"PRAGMA secure_delete = {int(before)}")
            return found is not None

    async def _read(self, unit: Unit, subjects: Sequence[str], lock: bool) -> dict[str, bytes | None]:
        asked = select(_keys.c.subject, _keys.c.wrapped)
        if unit.store.dialect == "postgresql":
            asked = asked.where(_keys.c.subject == any_(bindparam("subjects", list(subjects), ARRAY(Text(SUBJECT)))))
        else:
            given = func.json_each(msgspec.json.encode(list(subjects)).decode()).table_valued("value")
            asked = asked.where(_keys.c.subject.in_(select(given.c.value)))
        if lock:
            asked = asked.order_by(_keys.c.subject).with_for_update(read=True)
        return {row.subject: row.wrapped for row in await unit.execute(asked)}


async def count_by_key(store: Store, ids: Sequence[str]) -> dict[str, int]:
    """How many keys of people are under each of these keys of a ring, and under "other" ones; empty where are none."""
    async with store.connect() as connection:
        if not await _is_there(connection):
            return {}
        counts = await count_column(connection, _keys.c.wrapped, ids)
        return counts if any(counts.values()) else {}


async def rotate(
    store: Store, ring: KeyRing, *, batch: int = BATCH, progress: Callable[[Rotated], None] | None = None
) -> Rotated | None:
    """Encrypt the keys of people anew, under the first key of the ring; None where there are none.

    What is under them stays as it is. A key that is shredded meanwhile stays shredded; a batch is a transaction, and
    what was interrupted goes on where it was.

    Raises:
        ConfigurationError: the ring lacks the key that one is under.
    """
    header = header_of(ring.ids[0])
    is_old = func.substr(_keys.c.wrapped, 1, len(header), type_=LargeBinary()) != header
    asked = select(_keys.c.subject, _keys.c.wrapped).where(_keys.c.wrapped.is_not(None), is_old)
    asked = asked.order_by(_keys.c.subject).limit(batch)
    last, rows, unreadable = "", 0, []
    while True:
        async with store.connect(write=True) as connection:
            if not await _has_any(connection):
                return None
            part = (await connection.execute(asked.where(_keys.c.subject > last))).all()
            for subject, wrapped in part:
                last = subject
                try:
                    key = ring.decrypt(wrapped, _place(subject))
                except InvalidValue as error:  # one row must not keep all others under a key that is to go
                    unreadable.append((subject, str(error)))
                    continue
                # What was shredded since it was read is shredded.
                same = (_keys.c.subject == subject) & (_keys.c.wrapped == wrapped)
                changed = _keys.update().where(same).values(wrapped=ring.encrypt(key, _place(subject)))
                rows += (await connection.execute(changed)).rowcount
        state = Rotated(table=SUBJECT_KEYS, rows=rows, done=len(part) < batch, unreadable=tuple(unreadable))
        if progress is not None:
            progress(state)
        if state.done:
            return state


async def _has_any(connection: AsyncConnection) -> bool:
    if not await _is_there(connection):
        return False
    return (await connection.execute(select(_keys.c.subject).limit(1))).first() is not None


async def _is_there(connection: AsyncConnection) -> bool:
    """Whether the database was migrated since there is such a table."""
    return await connection.run_sync(lambda plain: inspect(plain).has_table(SUBJECT_KEYS))


def _place(subject: str) -> str:
    return f"{SUBJECT_KEYS}.wrapped of {subject}"
