"""`holdfast privacy`: whether everything about people is classified; a person's data taken along, and forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import FAILED, Database, Json, console, help_of, print_json, say, visible

if TYPE_CHECKING:
    from holdfast.operate.privacy import Erasure

Person = Annotated[str, typer.Argument(metavar="PERSON", help="Who: the key that rows have of him, as a user's id.")]
Actor = Annotated[str, typer.Option("--by", metavar="NAME", help="Who asks for it, for the record.")]

app = typer.Typer(
    no_args_is_help=True,
    help="What is kept of people: classified, exported, erased.",
    epilog="Example: holdfast privacy export 019f… ada.zip",
)
consent = typer.Typer(
    no_args_is_help=True,
    help="Who agreed to what, and took it back.",
    epilog="Example: holdfast privacy consent list 019f…",
)
app.add_typer(consent, name="consent")


@app.callback()
def _group() -> None:
    """What is kept of people: classified, exported, erased."""


@consent.callback()
def _consent_group() -> None:
    """Who agreed to what, and took it back."""


def check(as_json: Json = False) -> None:
    """Say which columns of the configured models nobody has classified, and what would stand in the way of erasing.

    It looks at the models alone, at no database; exit 1 where something is left, so a build can call it.

    Examples:

    holdfast privacy check

    HOLDFAST_MODELS=shop.models holdfast privacy check --json
    """
    from holdfast.cli.models import metadata_of
    from holdfast.model import models_of
    from holdfast.operate import Report
    from holdfast.operate.privacy import examine_privacy
    from holdfast.settings import Settings

    metadatas = metadata_of(Settings.from_environment())
    report = Report.of(examine_privacy([model for one in metadatas for model in models_of(one)]))
    if as_json:
        print_json(report)
    else:
        for finding in report.findings:
            say(visible(f"{finding.check}: {finding.detail}"), "" if finding.state == "ok" else "red")
            if finding.do:
                say(visible(f"  {finding.do}"))
    if not report.ok:
        raise typer.Exit(FAILED)


def export(
    person: Person,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The ZIP to write; it must not be there.")],
    by: Actor = "holdfast privacy",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write what is kept of a person into a ZIP of JSON files, with a manifest of their hashes.

    Encrypted columns are in it as they were before, with HOLDFAST_ENCRYPTION_KEYS; nothing secret is. That it was made
    is on record, with the hash of the manifest.

    Example:

    holdfast privacy export 019f… ada.zip --by support@example.com
    """
    exported = asyncio.run(_export(database, person, file, by))
    if as_json:
        print_json(exported)
    else:
        say(visible(f"{exported.file}: {exported.rows:,} rows in {exported.files} files"))
        say(f"manifest  sha256 {exported.sha256}")


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The ZIP.")],
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="The hash of the manifest, as it is on record.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether every file of an export is as its manifest says (exit 1 where not).

    Who changes a file and the manifest too is found out by the hash of the manifest.

    Example:

    holdfast privacy verify ada.zip
    """
    from holdfast.operate.privacy import verify_export

    manifest = verify_export(file, sha256=sha256)
    if as_json:
        print_json(manifest)
        return
    say(visible(f"of {manifest.subject}, made {manifest.made_at:%Y-%m-%d %H:%M} UTC; every file is as it was written:"))
    for name, told in manifest.files.items():
        say(visible(f"  {name}  {told.rows:,} rows"))


def erase(
    person: Person,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Actor = "holdfast privacy",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Forget a person: delete or blank his rows, and what lies about him in caches, answers and dead letters.

    The journal remembers what was written for about an hour; the schedule privacy.erasures (`holdfast work`) finishes
    when it has forgotten, or this command, given again. It cannot be undone.

    Example:

    holdfast privacy erase 019f… --reason "asked by mail on 1 March"
    """
    if not yes:
        typer.confirm(f"Erase {visible(person)} for good?", abort=True, err=True)
    erasure = asyncio.run(_erase(database, person, by, reason))
    _show([erasure], as_json, one=True)
    if erasure.failure:
        raise typer.Exit(FAILED)


def erasures(
    person: Annotated[str | None, typer.Option("--person", metavar="PERSON", help="Only his.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Only what is not done yet.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List who was erased, and how far it got.

    Keep what --json prints away from the database: after a restore `holdfast privacy replay` forgets them again.

    Examples:

    holdfast privacy erasures --open

    holdfast privacy erasures --json > /mnt/elsewhere/erasures.jsonl
    """
    _show(asyncio.run(_erasures(database, person, is_open)), as_json)


def resume(database: Database = None, as_json: Json = False) -> None:
    """Go on with every erasure that is not done, as the schedule privacy.erasures does.

    Example:

    holdfast privacy resume
    """
    found = asyncio.run(_resume(database))
    _show(found, as_json)
    if any(one.failure for one in found):
        raise typer.Exit(FAILED)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `erasures --json` printed before the restore.")],
    by: Actor = "holdfast privacy",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Forget once more everybody who was erased since the backup that this database was restored from.

    Those of whom nothing is kept are passed over.

    Example:

    holdfast privacy replay /mnt/elsewhere/erasures.jsonl
    """
    found = asyncio.run(_replay(database, file, by))
    _show(found, as_json)
    if any(one.failure for one in found):
        raise typer.Exit(FAILED)


def consent_list(person: Person, database: Database = None, as_json: Json = False) -> None:
    """List what a person agreed to and took back, by purpose.

    Example:

    holdfast privacy consent list 019f…
    """
    rows = asyncio.run(_consents(database, person))
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        say("He has said nothing yet.")
    for row in rows:
        said = "agreed" if row["given"] else "withdrew"
        told = f"{row['said_at']:%Y-%m-%d %H:%M}  {said:9} {row['purpose']}  ({row['basis']}, by {row['source']})"
        say(visible(told + (f"  text {row['text_hash'][:12]}…" if row["text_hash"] else "")))


def consent_give(
    person: Person,
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="What for: newsletter.")],
    text: Annotated[
        Path, typer.Option("--text", metavar="FILE", help="The text that he was shown, as he was shown it.")
    ],
    source: Annotated[str, typer.Option(metavar="WORD", help="Where he said it.")] = "support",
    basis: Annotated[str, typer.Option(metavar="WORD", help="On what it rests, as in article 6 (1).")] = "consent",
    by: Actor = "holdfast privacy",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Note that a person agreed to a text.

    Example:

    holdfast privacy consent give 019f… newsletter --text newsletter-2026.txt --source letter
    """
    from holdfast.errors import InvalidValue

    try:
        shown = text.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{text} cannot be read as UTF-8 text: {error}") from None
    _show_said(asyncio.run(_give(database, person, purpose, shown, source, basis, by)), as_json)


def consent_withdraw(
    person: Person,
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="What he agreed to.")],
    source: Annotated[str, typer.Option(metavar="WORD", help="Where he said it.")] = "support",
    by: Actor = "holdfast privacy",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Note that a person takes his consent back.

    Example:

    holdfast privacy consent withdraw 019f… newsletter
    """
    _show_said(asyncio.run(_withdraw(database, person, purpose, source, by)), as_json)


app.command("check", help=help_of(check))(check)
app.command("export", help=help_of(export))(export)
app.command("verify", help=help_of(verify))(verify)
app.command("erase", help=help_of(erase))(erase)
app.command("erasures", help=help_of(erasures))(erasures)
app.command("resume", help=help_of(resume))(resume)
app.command("replay", help=help_of(replay))(replay)
consent.command("list", help=help_of(consent_list))(consent_list)
consent.command("give", help=help_of(consent_give))(consent_give)
consent.command("withdraw", help=help_of(consent_withdraw))(consent_withdraw)


def _show(found: list[Erasure], as_json: bool, *, one: bool = False) -> None:
    import msgspec

    if as_json:
        for erasure in found:
            print_json({**msgspec.structs.asdict(erasure), "state": erasure.state})
        return
    if not found:
        say("There is none.")
    for erasure in found:
        told = {"asked": "under way", "erased": "erased; the journal still remembers", "done": "done"}[erasure.state]
        say(visible(f"{erasure.subject}  asked {erasure.asked_at:%Y-%m-%d %H:%M}: {told}"))
        if erasure.erased:
            say("  " + ", ".join(f"{name} {count:,}" for name, count in erasure.erased.items()))
        if erasure.failure:
            say(visible(f"  the last attempt failed: {erasure.failure}"), "red")
    if one and found[0].state == "erased":
        say("`holdfast work`, or `holdfast privacy resume`, ends it when the journal has forgotten, in an hour or two.")


def _show_said(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        say(visible(f"{row['subject']} {'agrees to' if row['given'] else 'has withdrawn'} {row['purpose']}."))


async def _export(database: str | None, person: str, file: Path, by: str) -> Any:
    async with opened(database) as hold:
        with console(stderr=True).status("reading what is kept"):
            return await hold.privacy.export(person, file, actor=by)


async def _erase(database: str | None, person: str, by: str, reason: str | None) -> Erasure:
    async with opened(database) as hold:
        with console(stderr=True).status("erasing"):
            return await hold.privacy.erase(person, actor=by, reason=reason)


async def _erasures(database: str | None, person: str | None, is_open: bool) -> list[Erasure]:
    async with opened(database) as hold:
        return await hold.privacy.erasures(subject=person, is_open=is_open)


async def _resume(database: str | None) -> list[Erasure]:
    async with opened(database) as hold:
        with console(stderr=True).status("erasing"):
            return await hold.privacy.resume()


async def _replay(database: str | None, file: Path, by: str) -> list[Erasure]:
    import msgspec

    from holdfast.errors import InvalidValue
    from holdfast.operate.privacy import Erasure

    told = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                told.append(msgspec.json.decode(line, type=Erasure))
            except msgspec.DecodeError as error:
                problem = str(error)
            else:
                continue
            raise InvalidValue(f"line {number} of {file} is no erasure, as `erasures --json` prints them: {problem}")
    async with opened(database) as hold:
        with console(stderr=True).status(f"erasing {len(told):,} people"):
            return await hold.privacy.replay(told, actor=by)


async def _consents(database: str | None, person: str) -> list[dict[str, Any]]:
    from holdfast.store import ALL

    async with opened(database) as hold, hold.read(tenant=ALL) as unit:
        return [_values(row) for row in await hold.consents.history(unit, person)]


async def _give(
    database: str | None, person: str, purpose: str, text: str, source: str, basis: Any, by: str
) -> dict[str, Any]:
    from holdfast.store import ALL

    async with opened(database) as hold, hold.unit(actor=by, tenant=ALL) as unit:
        return _values(await hold.consents.give(unit, person, purpose, text=text, source=source, basis=basis))


async def _withdraw(database: str | None, person: str, purpose: str, source: str, by: str) -> dict[str, Any]:
    from holdfast.store import ALL

    async with opened(database) as hold, hold.unit(actor=by, tenant=ALL) as unit:
        return _values(await hold.consents.withdraw(unit, person, purpose, source=source))


def _values(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in type(row).__table__.columns}
