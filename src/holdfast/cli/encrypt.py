"""`holdfast encrypt`: the keys of encrypted columns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import DONE_IN_PART, Database, Json, console, help_of, print_json, say

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.store.rotation import Rotated

_SHOWN = 20  # rows that are told to a person; --json has all

app = typer.Typer(
    no_args_is_help=True, help="The keys of encrypted columns.", epilog="Example: holdfast encrypt new-key k2"
)


@app.callback()
def _group() -> None:
    """The keys of encrypted columns."""


def new_key(
    name: Annotated[str, typer.Argument(metavar="ID", help="What the key is called, as k1; values carry it.")],
    as_json: Json = False,
) -> None:
    """Make a key, as HOLDFAST_ENCRYPTION_KEYS takes it; it is printed and kept nowhere.

    To rotate, put it before the others, restart every process, run `holdfast encrypt rotate`, then drop the old one; or
    keep it as ID:BASE64:read where `holdfast encrypt status` says that the audit trail has records under it.

    Example:

    holdfast encrypt new-key k2
    """
    from holdfast.secrets import new_key as make

    made = make(name)
    if as_json:
        print_json({"id": name, "key": made})
    else:
        say(made)


def status(database: Database = None, as_json: Json = False) -> None:
    """How many values each encrypted column, and the audit trail, has under each key; a key with none may be dropped.

    Keys of people, which the trail has one of for each, are counted as holdfast_subject_keys.wrapped.

    Example:

    holdfast encrypt status --json
    """
    found, trail = asyncio.run(_status(database))
    if as_json:
        for place, counts in found.items():
            print_json({"column": place, "keys": counts, "rotates": True})
        if trail is not None:
            print_json({"column": trail.place, "keys": trail.keys, "rotates": False})
        return
    if not found and trail is None:
        say("No model has encrypted columns.")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("column", "key", "values"):
        table.add_column(heading, overflow="fold")
    for place, counts in (found if trail is None else {**found, trail.place: trail.keys}).items():
        for key, count in counts.items():
            table.add_row(Text(place), Text(key), f"{count:,}")
    console().print(table)
    _say_kept(trail)


def rotate(
    database: Database = None,
    batch: Annotated[int, typer.Option(metavar="ROWS", min=1, max=10_000, help="Rows a transaction.")] = 500,
    as_json: Json = False,
) -> None:
    """Encrypt anew, under the first key, what is under another; may be interrupted and run again.

    A row that cannot be read is left as it is and told; exit 3 then. The keys of people are encrypted anew, and what is
    under these stays. So do records of the audit trail that are under a key of the ring itself: their seals cover the
    ciphertext, so these keys stay in the ring.

    Example:

    holdfast encrypt rotate
    """
    done, trail = asyncio.run(_rotate(database, batch))
    if as_json:
        for one in done:
            print_json(
                {
                    "table": one.table,
                    "rows": one.rows,
                    "unreadable": [dict(zip(("key", "reason"), row, strict=True)) for row in one.unreadable],
                    "kept": {},
                }
            )
        if trail is not None:
            print_json({"table": trail.table, "rows": 0, "unreadable": [], "kept": trail.older})
    elif not done and trail is None:
        say("No model has encrypted columns.")
    else:
        for one in done:
            say(f"{one.table}: {one.rows:,} rows encrypted anew")
            for key, reason in one.unreadable[:_SHOWN]:
                say(f"  the row {key} is left as it is: {reason}", "red")
            if one.unreadable[_SHOWN:]:
                say(f"  and {len(one.unreadable) - _SHOWN:,} more; --json lists them all", "red")
        _say_kept(trail)
    if any(one.unreadable for one in done):
        raise typer.Exit(DONE_IN_PART)


app.command("new-key", help=help_of(new_key))(new_key)
app.command("status", help=help_of(status))(status)
app.command("rotate", help=help_of(rotate))(rotate)


@dataclass(frozen=True)
class _Trail:
    """The audit trail: its table, its column of ciphertexts, and how many records are under which key."""

    table: str
    place: str
    keys: dict[str, int]
    first: str | None

    @property
    def older(self) -> dict[str, int]:
        """How many are under another key than the one that encrypts."""
        return {key: count for key, count in self.keys.items() if count and key != self.first}


def _say_kept(trail: _Trail | None) -> None:
    for key, count in ({} if trail is None else trail.older).items():
        assert trail is not None
        records = f"{trail.table}: {count:,} records are under"
        if key == "other":
            say(f"{records} keys that HOLDFAST_ENCRYPTION_KEYS does not have: what is private in them cannot be read")
        else:
            say(f"{records} {key} and stay so, for their seals cover it: keep {key} in the ring, as {key}:BASE64:read")


def _ids(hold: Holdfast) -> tuple[str, ...]:
    """Of the keys of the ring; none where there is no ring."""
    from holdfast.model.encrypted import ring_of

    return ring_of(hold.store.engine.dialect).ids if hold.settings.encryption_keys else ()


async def _trail(hold: Holdfast) -> _Trail | None:
    from holdfast.guard.audit.ciphertexts import count_by_key

    if not hold.audit.is_on:
        return None
    ids, table = _ids(hold), hold.audit.tables.records
    keys = await count_by_key(hold.store, hold.audit.tables, ids)
    return _Trail(str(table.name), f"{table.name}.sealed", keys, ids[0] if ids else None) if keys else None


async def _status(database: str | None) -> tuple[dict[str, dict[str, int]], _Trail | None]:
    from holdfast.guard import subject_keys
    from holdfast.model import encrypted_columns
    from holdfast.store.rotation import count_by_key

    async with opened(database) as hold:
        models = [model for model in hold.models if list(encrypted_columns(model.__table__))]
        found = await count_by_key(hold.store, models) if models else {}
        if keys := await subject_keys.count_by_key(hold.store, _ids(hold)):
            found["holdfast_subject_keys.wrapped"] = keys
        return found, await _trail(hold)


async def _rotate(database: str | None, batch: int) -> tuple[list[Rotated], _Trail | None]:
    from holdfast.guard import subject_keys
    from holdfast.model.encrypted import ring_of
    from holdfast.store.rotation import rotate as rotate_all

    messages = console(stderr=True)
    async with opened(database) as hold:
        with messages.status("encrypting anew") as shown:

            def progress(one: Rotated) -> None:
                shown.update(f"{one.table}: {one.rows:,} rows encrypted anew")

            done = await rotate_all(hold.store, hold.models, batch=batch, progress=progress)
            if hold.settings.encryption_keys:
                ring = ring_of(hold.store.engine.dialect)
                keys = await subject_keys.rotate(hold.store, ring, batch=batch, progress=progress)
                done += [] if keys is None else [keys]
        return done, await _trail(hold)
