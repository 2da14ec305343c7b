"""`holdfast doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import typer

from holdfast.cli.output import FAILED, Database, Json, print_json, say, visible

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

_MIGRATE = "run `holdfast migrate up`"
_NAMED = 5  # of what is missing


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
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not wrong, "findings": findings})
    else:
        for finding in findings:
            say(f"{'ok' if finding.ok else 'WRONG':<6}{finding.check:<14}{visible(finding.detail)}", _style(finding))
            if finding.do:
                say(f"{'':<20}→ {finding.do}")
        say("Everything is as it must be." if not wrong else "Not everything is as it must be.")
    if wrong:
        raise typer.Exit(FAILED)


def _style(finding: Finding) -> str:
    return "" if finding.ok else "red"


async def _examine(database: str | None) -> list[Finding]:
    from holdfast.apps import agents  # noqa: F401  declares the models
    from holdfast.errors import HoldfastError
    from holdfast.hold import Holdfast
    from holdfast.settings import Settings
    from holdfast.store.failures import translate

    try:
        hold = Holdfast(Settings.from_environment(database_url=database))
    except HoldfastError as error:
        return [Finding(check="configuration", ok=False, detail=str(error), do="correct the variable or option named")]
    findings = [Finding(check="configuration", ok=True, detail=f"{hold.settings.environment}, {hold.store.place}")]
    try:
        if hold.store.file is not None and not hold.store.file.exists():
            missing = f"there is no file {hold.store.file}"
            findings.append(Finding(check="database", ok=False, detail=missing, do="make it: holdfast migrate up"))
            return findings
        seconds = await hold.store.ping()
        detail = f"{hold.store.dialect}, answers in {seconds * 1000:.1f} ms"
        findings.append(Finding(check="database", ok=True, detail=detail))
        findings.extend(await _examine_schema(hold))
    except Exception as error:
        meaning = translate(error, hold.store.place)
        if meaning is None:
            raise
        advice = "see that the database runs, and that the URL and the login are right"
        findings.append(Finding(check="database", ok=False, detail=str(meaning), do=advice))
    finally:
        await hold.close()
    return findings


async def _examine_schema(hold: Holdfast) -> list[Finding]:
    difference = await hold.pending()
    lacking = [
        *(f"table {name}" for name in difference.tables),
        *(f"column {name}" for name in difference.columns),
        *(f"index {name}" for name in difference.indexes),
    ]
    findings = [
        Finding(
            check="migrations",
            ok=not lacking,
            detail=f"missing: {_first(lacking, ', ')}" if lacking else "none pending",
            do=_MIGRATE if lacking else None,
        )
    ]
    if difference.tables:
        return findings  # what is not there yet cannot be captured either
    capture = [line.rpartition("; ")[0] or line for line in difference.capture]  # without what to do, the same for all
    captured = sum(m.__policy__.capture for m in hold.models)
    findings.append(
        Finding(
            check="capture",
            ok=not capture,
            detail=_first(capture, "; ") if capture else f"whole: {captured} tables",
            do=f"{_MIGRATE}, then `holdfast journal rebuild FOLLOWER` for each: what was written meanwhile they missed"
            if capture
            else None,
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
        do="see `holdfast journal status` and `holdfast journal parked FOLLOWER`" if wrong else None,
    )


def _first(names: list[str], between: str) -> str:
    return between.join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
