"""`holdfast keys`: API keys, and the peppers under which they are kept."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import FAILED, Database, Json, complain, console, help_of, print_json, say

if TYPE_CHECKING:
    from holdfast.guard.keys import KeyFacts, KeyUse, NewKey
    from holdfast.hold import Holdfast
    from holdfast.store import Unit

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `holdfast keys list` shows it.")]
User = Annotated[str | None, typer.Option("--user", metavar="USER", help="By id, email or the auth provider's id.")]
Org = Annotated[str | None, typer.Option("--org", metavar="ORG", help="By id, slug or the auth provider's id.")]

app = typer.Typer(
    no_args_is_help=True,
    help="API keys: made, listed, rotated, revoked.",
    epilog="Example: holdfast keys create ci --user ada@example.com --scope tools:read",
)


@app.callback()
def _group() -> None:
    """API keys: made, listed, rotated, revoked."""


def create(
    name: Annotated[str, typer.Argument(help="What its owner calls it.")],
    user: Annotated[str, typer.Option("--user", metavar="USER", help="By id, email or the auth provider's id.")],
    org: Org = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do, several times: tools:read, tools:*, *.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="A key for tests, not a live one.")] = False,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="From where it may be used, several times; all unless given."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT", help="How often it may be used beside its tier's limits, as 100/minute; up to 5."
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="After how long it ends, as 90d.")] = None,
    new_user: Annotated[bool, typer.Option("--new-user", help="Make the user where there is none.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once, and kept nowhere.

    Examples:

    holdfast keys create ci --user ada@example.com --scope tools:read --expires 90d

    holdfast keys create ci --user ada@example.com --limit 100/minute --limit 5000/day
    """
    from holdfast.guard.keys.access import checked_name, checked_networks, checked_scopes
    from holdfast.guard.keys.keys import DEFAULT_SCOPES
    from holdfast.guard.keys.own_limits import checked_limits

    with _usage():  # before anything is opened: what cannot be is the caller's to mend
        values = {
            "name": checked_name(name),
            "scopes": checked_scopes(scope or DEFAULT_SCOPES),
            "networks": checked_networks(network or None),
            "limits": checked_limits(limit or None),
            "live": not test,
        }
        lasting = None if expires is None else _seconds(expires, "--expires", least=1)
    made = asyncio.run(_create(database, user=user, org=org, lasting=lasting, new_user=new_user, **values))
    _show_new(made, as_json)


def list_(
    user: User = None,
    org: Org = None,
    dead: Annotated[bool, typer.Option("--dead", help="Also those that were revoked or have expired.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """The keys of a user or an organisation, newest first, and how they are used.

    Example:

    holdfast keys list --user ada@example.com --json
    """
    if user is None and org is None:
        raise typer.BadParameter("say whose keys to list: --user or --org")
    found = asyncio.run(_list(database, user, org, dead))
    if as_json:
        for row, use in found:
            print_json(_told(row, use))
        return
    if not found:
        say("No keys." if dead else "No keys that open anything; --dead lists the others too.")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("id", "name", "key", "scopes", "limits", "state", "used", "last used"):
        table.add_column(heading, overflow="fold")
    for row, use in found:
        table.add_row(
            Text(str(row.id)),
            Text(row.name),
            Text(f"{row.shown}…"),
            Text(", ".join(row.scopes)),
            Text(", ".join(row.limits or ())),
            Text(_state(row) if use.is_held else "not its user's any more"),
            f"{use.usage_count:,}",
            _minute(use.last_used_at),
        )
    console().print(table)


def rotate(
    key: KeyId,
    grace: Annotated[str, typer.Option(metavar="DURATION", help="How long the old one goes on, as 24h.")] = "0s",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key that takes the place of another.

    Example:

    holdfast keys rotate 019f… --grace 24h
    """
    with _usage():
        lasting = _seconds(grace, "--grace")
    _show_new(asyncio.run(_rotate(database, _id(key), lasting)), as_json)


def revoke(key: KeyId, database: Database = None, as_json: Json = False) -> None:
    """Let a key open nothing any more, in every process within a second.

    Example:

    holdfast keys revoke 019f…
    """
    row = asyncio.run(_revoke(database, _id(key)))
    if as_json:
        print_json(_told(row))
    else:
        say(f"{row.name} ({row.shown}…) opens nothing any more, in every process within a second.")


def verify(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key; - reads it from standard input.")] = "-",
    scope: Annotated[str | None, typer.Option(help="What is to be done with it.")] = None,
    address: Annotated[str | None, typer.Option(help="Where it is used from.")] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Say whose a key is, or why it opens nothing (exit 1). Give it on standard input, away from the shell's history.

    Example:

    holdfast keys verify --scope tools:read < key.txt
    """
    import sys

    from holdfast.guard.keys import KeyRefused

    text = (sys.stdin.readline(1_000) if key == "-" else key).strip()
    try:
        facts = asyncio.run(_verify(database, text, scope, address))
    except KeyRefused as refused:
        if as_json:
            print_json({"valid": False, "reason": refused.reason})
        complain(f"holdfast: {refused}")
        raise typer.Exit(FAILED) from None
    if as_json:
        print_json({"valid": True, "key": facts})
    else:
        whose = f"organisation {facts.org_id}" if facts.org_id else f"user {facts.user_id}"
        say(f"{facts.name}, of {whose}: {', '.join(facts.scopes) or 'no scopes'}")


def new_pepper(
    name: Annotated[str, typer.Argument(metavar="ID", help="What the pepper is called, as p1.")],
    as_json: Json = False,
) -> None:
    """Make a pepper, as HOLDFAST_KEY_PEPPERS takes it; it is printed and kept nowhere.

    To change it, put the new one before the others and restart every process: a key is kept under the new one from its
    next use on.

    Example:

    holdfast keys new-pepper p2
    """
    from holdfast.guard.keys import new_pepper as make

    with _usage():
        made = make(name)
    if as_json:
        print_json({"id": name, "pepper": made})
    else:
        say(made)


app.command("create", help=help_of(create))(create)
app.command("list", help=help_of(list_))(list_)
app.command("rotate", help=help_of(rotate))(rotate)
app.command("revoke", help=help_of(revoke))(revoke)
app.command("verify", help=help_of(verify))(verify)
app.command("new-pepper", help=help_of(new_pepper))(new_pepper)


def _show_new(made: NewKey[Any], as_json: bool) -> None:
    if as_json:
        print_json({**_told(made.row), "key": made.text})
        return
    say(made.text)
    complain("Keep it now: it cannot be shown again.")


def _told(row: Any, use: KeyUse | None = None) -> dict[str, Any]:
    names = ("id", "name", "shown", "user_id", "org_id", "scopes", "live", "tier", "networks", "limits", "created_at")
    found = {name: getattr(row, name) for name in (*names, "expires_at", "revoked_at", "rotated_to")}
    found["pepper"] = row.pepper
    if use is not None:
        found |= {"usage_count": use.usage_count, "last_used_at": use.last_used_at, "is_held": use.is_held}
    return found


def _state(row: Any) -> str:
    if row.revoked_at is not None:
        return f"revoked {_minute(row.revoked_at)}"
    if row.expires_at is None:
        return "good"
    over = row.expires_at <= dt.datetime.now(dt.UTC)
    return f"expired {_minute(row.expires_at)}" if over else f"until {_minute(row.expires_at)}"


def _minute(moment: dt.datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


async def _create(
    database: str | None,
    *,
    user: str,
    org: str | None,
    lasting: float | None,
    new_user: bool,
    **values: Any,
) -> NewKey[Any]:
    from holdfast.apps.accounts.api_keys import create_api_key

    async with _unit(database) as (hold, unit):
        return await create_api_key(
            hold,
            unit,
            user_id=await _user(hold, unit, user, make=new_user),
            org_id=None if org is None else await _org(hold, unit, org),
            expires_at=None if lasting is None else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lasting),
            **values,
        )


@asynccontextmanager
async def _unit(database: str | None) -> AsyncIterator[tuple[Holdfast, Unit]]:
    """A unit for keys of whomever."""
    from holdfast.store import ALL

    async with opened(database) as hold, hold.unit(actor="holdfast keys", tenant=ALL) as unit:
        yield hold, unit


async def _list(database: str | None, user: str | None, org: str | None, dead: bool) -> list[tuple[Any, KeyUse]]:
    async with _unit(database) as (hold, unit):
        return await hold.keys.list(
            unit,
            user_id=None if user is None else await _user(hold, unit, user),
            org_id=None if org is None else await _org(hold, unit, org),
            dead=dead,
        )


async def _rotate(database: str | None, key: UUID, grace: float) -> NewKey[Any]:
    async with _unit(database) as (hold, unit):
        return await hold.keys.rotate(unit, key, grace=grace)


async def _revoke(database: str | None, key: UUID) -> Any:
    async with _unit(database) as (hold, unit):
        return await hold.keys.revoke(unit, key)


async def _verify(database: str | None, text: str, scope: str | None, address: str | None) -> KeyFacts:
    async with opened(database) as hold:
        return await hold.keys.verify(text, scope=scope, address=address)


async def _user(hold: Holdfast, unit: Unit, text: str, *, make: bool | None = None) -> UUID:
    """The user whom a person means by `text`; `make` is None where none can be made."""
    from holdfast.apps.accounts.models import User as Kept
    from holdfast.apps.accounts.users import find_by_email, find_by_external_id
    from holdfast.errors import NotFound

    hold.keys  # noqa: B018  says which models are missing, where they are
    if (known := _uuid(text)) is not None:
        return (await unit[Kept].get(known)).id
    user = await find_by_email(unit, text) or await find_by_external_id(unit, text)
    if user is not None:
        return user.id
    if not make:
        raise NotFound(f"there is no user {text!r}{'' if make is None else '; --new-user makes one'}")
    made = await unit[Kept].add(Kept(external_id=text, email=text if "@" in text else None))
    return made.id


async def _org(hold: Holdfast, unit: Unit, text: str) -> UUID:
    from holdfast.apps.accounts.models import Organization
    from holdfast.errors import NotFound

    known = _uuid(text)
    which = unit[Organization].query()
    if known is not None:
        which = which.where(Organization.id == known)
    else:
        which = which.where((Organization.slug == text) | (Organization.external_id == text))
    found = await unit[Organization].first(which)
    if found is None:
        raise NotFound(f"there is no organisation {text!r}")
    return found.id


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@contextmanager
def _usage() -> Iterator[None]:
    """What an option cannot be is wrong use: exit 2, as of options that Typer itself refuses."""
    from holdfast.errors import ConfigurationError, InvalidValue

    try:
        yield
    except (ConfigurationError, InvalidValue) as error:
        raise typer.BadParameter(str(error)) from None


def _seconds(text: str, option: str, *, least: float = 0.0) -> float:
    from holdfast.cache.durations import seconds

    return seconds(text, option, least=least)


def _id(text: str) -> UUID:
    found = _uuid(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no id of a key; `holdfast keys list` shows them")
    return found
