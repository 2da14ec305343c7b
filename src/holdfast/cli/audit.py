"""`holdfast audit`: whether the trail is whole, what is in it, and what is to be kept of it elsewhere."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import FAILED, Database, Json, complain, console, help_of, print_json, say, visible
from holdfast.errors import NotFound

if TYPE_CHECKING:
    from holdfast.guard.audit import Checkpoint, Record, Verified
    from holdfast.hold import Holdfast

_SHOWN = 20  # broken chains that are told to a person; --json has all

Tenant = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="Only his chain; '' is nobody's.")]

app = typer.Typer(
    no_args_is_help=True,
    help="The audit trail: verified, exported, and known elsewhere.",
    epilog="Example: holdfast audit verify --checkpoint /mnt/elsewhere/audit.checkpoint",
)


@app.callback()
def _group() -> None:
    """The audit trail: verified, exported, and known elsewhere."""


def verify(
    tenant: Tenant = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the chains must agree with: finds that an end was cut off."),
    ] = None,
    after: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint; what lies before it is not looked at.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An export of whole chains, in place of the database.")
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Say whether every record is as it was sealed; else name the first of each chain that is not (exit 1).

    Others may write meanwhile. Cutting off the end of a chain, and putting its head back, only a checkpoint finds.

    Examples:

    holdfast audit verify

    holdfast audit verify --checkpoint /mnt/elsewhere/audit.checkpoint --json
    """
    if file is not None and (tenant is not None or after is not None):
        raise typer.BadParameter("--file is verified whole: leave --tenant and --after out")
    found = asyncio.run(
        _verify(database, tenant, checkpoint, after) if file is None else _verify_file(file, checkpoint)
    )
    if tenant is not None and not found.faults and not found.heads[tenant].seq:
        raise NotFound(
            f"there is no chain of {repr(tenant) if tenant else 'nobody'}; leave --tenant out to see how many are"
        )
    _show(found, as_json)
    if found.faults:
        raise typer.Exit(FAILED)
    if checkpoint is None:
        _say_what_is_not_seen(found)


def export(
    tenant: Tenant = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 2026-01-31, 2026-01-31T12:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    action: Annotated[str | None, typer.Option(help="Only these: login, update, …")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Also what is encrypted in the records, where its key was not shredded.")
    ] = False,
    database: Database = None,
) -> None:
    """Print records as lines of JSON, one chain after the other.

    Whole chains can be verified from them later: `holdfast audit verify --file`.

    Examples:

    holdfast audit export > trail.jsonl

    holdfast audit export --tenant 019f… --since 2026-01-01 --action login --private
    """
    asyncio.run(
        _export(
            database,
            private,
            tenant=tenant,
            since=_time(since, "--since"),
            until=_time(until, "--until"),
            action=action,
        )
    )


def checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: away from the database.")],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Verify all chains, and keep where each ends, signed, in a file.

    Keep it where who has the database cannot write. A file that is there is agreed with first, then replaced; where a
    chain is broken nothing is written (exit 1). That it was made is on record, and `holdfast doctor --security` tells
    when it was last.

    Example:

    holdfast audit checkpoint /mnt/elsewhere/audit.checkpoint
    """
    found = asyncio.run(_checkpoint(database, file, file if file.exists() else None))
    _show(found, as_json)
    if found.faults:
        complain(f"holdfast: {file} is left as it is")
        raise typer.Exit(FAILED)


def new_key(
    name: Annotated[str, typer.Argument(metavar="ID", help="What the key is called, as a1; records carry it.")],
    as_json: Json = False,
) -> None:
    """Make a key, as HOLDFAST_AUDIT_KEYS takes it; it is printed and kept nowhere.

    To change it, put the new one before the others and restart every process. Keep the old ones: what was sealed under
    them cannot be verified without.

    Example:

    holdfast audit new-key a2
    """
    from holdfast.secrets import new_key as make

    made = make(name)
    if as_json:
        print_json({"id": name, "key": made})
    else:
        say(made)


app.command("verify", help=help_of(verify))(verify)
app.command("export", help=help_of(export))(export)
app.command("checkpoint", help=help_of(checkpoint))(checkpoint)
app.command("new-key", help=help_of(new_key))(new_key)


def _show(found: Verified, as_json: bool) -> None:
    if as_json:
        print_json(
            {"whole": not found.faults, "chains": found.chains, "records": found.records, "faults": found.faults}
        )
        return
    counted = f"{found.records:,} records in {found.chains:,} chains"
    if not found.faults:
        say(f"{counted}: each is as it was sealed.")
        return
    say(f"{counted} were looked at; {len(found.faults):,} broken:", "red")
    for fault in found.faults[:_SHOWN]:
        say(visible(f"  {fault.tenant or 'nobody'}, record {fault.seq}: {fault.told}"), "red")
    if found.faults[_SHOWN:]:
        say(f"  and {len(found.faults) - _SHOWN:,} more; --json lists them all", "red")


def _say_what_is_not_seen(found: Verified) -> None:
    """Without a checkpoint nobody knows what there was."""
    unseen = (
        "a chain that was taken away whole, or its end, is not missed"
        if found.records
        else "a trail that was emptied cannot be told from a new one"
    )
    complain(
        f"Without a checkpoint {unseen}: `holdfast audit checkpoint FILE` makes one to keep elsewhere, and --checkpoint"
        " FILE verifies with it."
    )


async def _verify(database: str | None, tenant: str | None, known: Path | None, after: Path | None) -> Verified:
    async with opened(database) as hold:
        return await _along(hold, tenant, _load(known, hold), _load(after, hold))


async def _along(hold: Holdfast, tenant: str | None, known: Checkpoint | None, after: Checkpoint | None) -> Verified:
    with console(stderr=True).status("verifying") as shown:
        return await hold.audit.verify(
            tenant=tenant,
            known=known,
            after=after,
            progress=lambda chains, records: shown.update(f"verifying: {records:,} records in {chains:,} chains"),
        )


async def _verify_file(file: Path, known: Path | None) -> Verified:
    from holdfast.guard.audit import AuditKeys
    from holdfast.guard.audit.checkpoint import load
    from holdfast.guard.audit.export import LONGEST, records_in
    from holdfast.guard.audit.verify import verify_exported
    from holdfast.settings import Settings

    settings = Settings.from_environment()
    keys = AuditKeys.configured(settings.audit_keys, production=settings.environment == "production")
    with file.open("rb") as lines:
        records = records_in(iter(lambda: lines.readline(LONGEST + 1), b""))
        return verify_exported(records, keys, known=None if known is None else load(known, keys))


async def _export(database: str | None, private: bool, **chosen: Any) -> None:
    from holdfast.errors import ConfigurationError
    from holdfast.guard.audit.export import export as records_of
    from holdfast.guard.audit.export import in_parts, line_of
    from holdfast.store import ALL

    async with opened(database) as hold:
        box = hold.audit.box if private else None
        if private and box is None:
            raise ConfigurationError("--private wants HOLDFAST_ENCRYPTION_KEYS, under which it was encrypted")
        records: AsyncIterator[Record] = records_of(hold.store, hold.audit.tables, **chosen)
        async with aclosing(records):  # type: ignore[type-var]
            async for part in in_parts(records):
                found: Sequence[Mapping[str, Any] | None] = [None] * len(part)
                if box is not None:
                    async with hold.read(tenant=ALL) as unit:
                        found = await box.open(part, unit)
                for record, what in zip(part, found, strict=True):
                    print_json(line_of(record, what))


async def _checkpoint(database: str | None, file: Path, known: Path | None) -> Verified:
    from holdfast.errors import StoreError
    from holdfast.guard.audit import Checkpoint
    from holdfast.guard.audit.checkpoint import CHECKPOINT, save

    async with opened(database) as hold:
        found = await _along(hold, None, _load(known, hold), None)
        if not found.faults:
            save(file, Checkpoint.now(found.heads), hold.audit.keys)
            try:
                counted = {"chains": found.chains, "records": found.records}
                await hold.audit.record(None, CHECKPOINT, actor="holdfast audit", details=counted)
            except StoreError as error:  # as of a standby, which is a good place to look from
                complain(f"holdfast: the checkpoint is made, and not on record: {error}")
        return found


def _load(file: Path | None, hold: Holdfast) -> Checkpoint | None:
    from holdfast.guard.audit.checkpoint import load

    return None if file is None else load(file, hold.audit.keys)


def _time(text: str | None, option: str) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option} is a time such as 2026-01-31 or 2026-01-31T12:00Z, not {text!r}") from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
