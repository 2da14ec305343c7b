"""`holdfast doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import typer

from holdfast.cli.output import FAILED, Database, Json, console, print_json

if TYPE_CHECKING:
    from holdfast.hold import Holdfast


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str
    do: str | None = None


def doctor(database: Database = None, as_json: Json = False) -> None:
    """Look at the configuration, the database, capture, the journal's lag and pending migrations.

    Says what to do about whatever is wrong, and exits with 1 then. It changes nothing.

    Example:

      holdfast doctor --database postgresql://app@127.0.0.1/app
    """
    findings = asyncio.run(_examine(database))
    well = all(f.ok for f in findings)
    if as_json:
        print_json({"ok": well, "findings": findings})
    else:
        out = console()
        for finding in findings:
            out.print(f"{'[green]ok   [/green]' if finding.ok else '[red]wrong[/red]'} {finding.check}: ", end="")
            out.print(finding.detail, markup=False)
            if finding.do and not finding.ok:
                out.print(f"      → {finding.do}", markup=False)
        out.print("Everything is as it must be." if well else "Something is wrong.")
    if not well:
        raise typer.Exit(FAILED)


async def _examine(database: str | None) -> list[Finding]:
    from holdfast.apps import agents  # noqa: F401  declares the models
    from holdfast.errors import HoldfastError
    from holdfast.hold import Holdfast
    from holdfast.settings import Settings

    try:
        settings = Settings.from_environment(database_url=database)
        hold = Holdfast(settings)
    except HoldfastError as error:
        return [Finding(check="configuration", ok=False, detail=str(error), do="correct the variable or option named")]
    findings = [Finding(check="configuration", ok=True, detail=f"{settings.environment}, {hold.store.place}")]
    try:
        if hold.store.file is not None and not hold.store.file.exists():
            missing = f"there is no file {hold.store.file}"
            findings.append(Finding(check="database", ok=False, detail=missing, do="make it: holdfast migrate up"))
            return findings
        seconds = await hold.store.ping()
        findings.append(
            Finding(check="database", ok=True, detail=f"{hold.store.dialect}, answers in {seconds * 1000:.1f} ms")
        )
        findings.extend(await _examine_schema(hold))
    except HoldfastError as error:
        findings.append(
            Finding(check="database", ok=False, detail=str(error), do="see that the database runs and the URL is right")
        )
    finally:
        await hold.close()
    return findings


async def _examine_schema(hold: Holdfast) -> list[Finding]:
    difference = await hold.pending()
    capture, difference.capture = difference.capture, []
    lacking = difference.lines()
    findings = [
        Finding(
            check="migrations",
            ok=not lacking,
            detail="; ".join(lacking) or "none pending",
            do="run `holdfast migrate up`" if lacking else None,
        )
    ]
    if difference.tables:
        return findings  # what is not there yet cannot be captured either
    captured = sum(m.__policy__.capture for m in hold.models)
    findings.append(
        Finding(
            check="capture",
            ok=not capture,
            detail="; ".join(capture) or f"whole: {captured} tables",
            do="run `holdfast migrate up`" if capture else None,
        )
    )
    if not capture:
        findings.append(await _examine_journal(hold))
    return findings


async def _examine_journal(hold: Holdfast) -> Finding:
    status = await hold.journal.status()
    wrong = [problem for f in status.followers for problem in f.problems()]
    behind = [f"{f.name} {f.lag_changes:,} changes ({f.lag_seconds:.1f} s) behind" for f in status.followers]
    return Finding(
        check="journal",
        ok=not wrong,
        detail="; ".join(wrong) or f"at {status.position}; {', '.join(behind) or 'no followers yet'}",
        do="see `holdfast journal status`" if wrong else None,
    )
