"""`holdfast doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.models import metadata_of
from holdfast.cli.opening import opened
from holdfast.cli.output import FAILED, Database, Json, print_json, say, visible
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.operate import Isolation, Report, Reviewed

_STYLES = {"ok": "", "note": "yellow", "wrong": "red"}


def doctor(
    isolation: Annotated[
        bool, typer.Option("--isolation", help="Try whether every table keeps tenants apart, and nothing else.")
    ] = False,
    writes: Annotated[
        bool, typer.Option("--writes", help="With --isolation: try writes too. They are undone, and lock meanwhile.")
    ] = False,
    security: Annotated[
        bool, typer.Option("--security", help="Go through the list of what makes it safe, and nothing else.")
    ] = False,
    reviewed: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Keep that it was reviewed today: rotation, access or restore."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="WHO", help="With --reviewed: who did it; who is logged in unless given.")
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Look at the configuration, the database, capture, the journal's lag, pending migrations and rejected records.

    Says what to do about whatever is wrong, and exits with 1 then. It changes nothing, but for --reviewed.

    Example:

    holdfast doctor --database postgresql://app@127.0.0.1/app

    holdfast doctor --isolation

    holdfast doctor --security

    holdfast doctor --reviewed access --by ada@example.com
    """
    if reviewed is not None:
        if isolation or security or writes:
            raise typer.BadParameter("--reviewed is given by itself, with --by")
        _say_reviewed(asyncio.run(_reviewed(database, reviewed, by or _login())), as_json)
        return
    if by is not None:
        raise typer.BadParameter("--by goes with --reviewed")
    if writes and not isolation:
        raise typer.BadParameter("--writes goes with --isolation")
    if isolation and security:
        raise typer.BadParameter("--isolation is a part of --security; give one of them")
    if isolation:
        _say_isolation(asyncio.run(_isolation(database, writes)), as_json)
        return
    report = asyncio.run(_security(database) if security else _examine(database))
    if as_json:
        print_json(report)
    else:
        for finding in report.findings:
            state = finding.state.upper() if finding.state == "wrong" else finding.state
            say(f"{state:<6}{finding.check:<18}{visible(finding.detail)}", _STYLES[finding.state])
            if finding.do:
                say(f"{'':<24}→ {finding.do}")
        say("Everything is as it must be." if report.ok else "Not everything is as it must be.")
    if not report.ok:
        raise typer.Exit(FAILED)


def _say_reviewed(done: Reviewed, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        say(f"{done.name}: reviewed {done.at:%Y-%m-%d} by {visible(done.actor)}")


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise typer.BadParameter("--reviewed wants --by WHO: the system does not know who is logged in") from None


def _say_isolation(found: Isolation, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        tried = f" as {' and '.join(found.roles)}" if found.roles else ""
        say(f"{found.places} tables, partitions and views; {found.attempts} attempts{tried}.")
        for leak in found.leaks:
            how = ", ".join(part for part in (leak.role, leak.operation, leak.context) if part)
            say(f"LEAK  {visible(leak.place)}: {visible(leak.told)}{f' ({how})' if how else ''}", "red")
        if found.untried:
            say(f"Without rows of two tenants, so that trying shows less: {', '.join(map(visible, found.untried))}.")
        say("Tenants are kept apart." if not found.leaks else "Tenants are not kept apart.")
    if found.leaks:
        raise typer.Exit(FAILED)


async def _reviewed(database: str | None, name: str, by: str) -> Reviewed:
    from holdfast.operate import REVIEWS, record_review
    from holdfast.store import ALL

    if name not in REVIEWS:
        raise typer.BadParameter(f"--reviewed is one of {', '.join(REVIEWS)}, not {name[:40]!r}")
    async with opened(database) as hold, hold.unit(actor=by, tenant=ALL) as unit:
        done = await record_review(unit, name)
        if hold.audit.is_on:
            await hold.audit.record(unit, "review", details={"what": name})
        return done


async def _isolation(database: str | None, writes: bool) -> Isolation:
    from holdfast.hold import Holdfast
    from holdfast.operate import examine_isolation
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    hold = Holdfast(settings, metadata=metadata_of(settings))
    try:
        return await examine_isolation(hold.store, hold.models, writes=writes)
    finally:
        await hold.close()


async def _security(database: str | None) -> Report:
    from holdfast.hold import Holdfast
    from holdfast.operate import Report, examine_security
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    hold = Holdfast(settings, metadata=metadata_of(settings))
    try:
        return Report.of(await examine_security(hold.store, hold.models))
    finally:
        await hold.close()


def _check_what_is_read_later(hold: Holdfast) -> None:
    """Raise `HoldfastError` for what a service, or its first key, would refuse."""
    from holdfast.guard.keys.slow import Slow
    from holdfast.http import create_app

    if hold.settings.key_bcrypt:
        Slow(hold.settings.key_bcrypt)
    create_app(hold)


async def _examine(database: str | None) -> Report:
    from holdfast.hold import Holdfast
    from holdfast.operate import Finding, Report
    from holdfast.settings import Settings

    try:
        settings = Settings.from_environment(database_url=database)
        hold = Holdfast(settings, metadata=metadata_of(settings))
        _check_what_is_read_later(hold)
    except HoldfastError as error:
        advice = "correct the variable or option named"
        return Report.of([Finding(check="configuration", state="wrong", detail=str(error), do=advice)])
    configured = Finding(check="configuration", state="ok", detail=f"{hold.settings.environment}, {hold.store.place}")
    try:
        report = await hold.examiner().examine()
    finally:
        await hold.close()
    return Report.of([configured, *report.findings])
