"""`holdfast migrate lint`: what is unsafe about migrations, before they run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.output import FAILED, USAGE, Json, complain, print_json, say, visible
from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from holdfast.migrate.lint import Finding

_STYLES = {"error": "red", "warning": "yellow"}

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="SQL files, Alembic revisions, folders.")]
Dialect = Annotated[str, typer.Option("--dialect", metavar="postgresql|sqlite", help="Whose SQL it is.")]
Squawk = Annotated[
    bool | None,
    typer.Option("--squawk/--no-squawk", help="Add what squawk finds; by default when it is installed."),
]
SquawkRule = Annotated[
    list[str] | None,
    typer.Option("--squawk-rule", metavar="RULE", help="A rule of squawk to add, such as prefer-text-field."),
]
Trace = Annotated[
    str | None,
    typer.Option(
        "--trace", metavar="URL", help="Also run them in a scratch database on this server, and look at locks."
    ),
]
Schema = Annotated[
    Path | None, typer.Option("--schema", metavar="FILE", help="With --trace: SQL that makes what is there before.")
]


def lint(
    paths: Paths,
    as_json: Json = False,
    dialect: Dialect = "postgresql",
    squawk: Squawk = None,
    squawk_rule: SquawkRule = None,
    trace: Trace = None,
    schema: Schema = None,
) -> None:
    """Say which statements of migrations lock out the application, rewrite tables or break running code.

    Exits with 1 when there is an error among them. A rule is allowed by a comment that says why:
    -- holdfast: allow RULE because REASON

    Example:

    holdfast migrate lint migrations/ --json
    """
    try:
        findings = _findings(paths, dialect, squawk, squawk_rule or [], trace, schema)
    except ConfigurationError as error:
        complain(f"holdfast: {error}")
        raise typer.Exit(USAGE) from None
    if as_json:
        print_json(findings)
    else:
        _show(findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(FAILED)


def _findings(
    paths: list[Path], dialect: str, squawk: bool | None, rules: list[str], trace: str | None, schema: Path | None
) -> list[Finding]:
    from holdfast.migrate.lint import lint_paths
    from holdfast.migrate.lint.finding import DIALECTS
    from holdfast.migrate.lint.squawk import DEFAULT_RULES, squawk_path

    if dialect not in DIALECTS:
        raise ConfigurationError(f"--dialect {dialect!r} is neither postgresql nor sqlite")
    if schema is not None and trace is None:
        raise ConfigurationError("--schema is for --trace: name the server too")
    if trace is not None and dialect == "sqlite":
        raise ConfigurationError("--trace looks at the locks of PostgreSQL; leave it out with --dialect sqlite")
    wanted: Sequence[str] | None = None
    if squawk or rules or (squawk is None and squawk_path() is not None):
        wanted = (*DEFAULT_RULES, *rules)
    findings = lint_paths(paths, dialect=DIALECTS[dialect], squawk=wanted)
    if trace is not None:
        from holdfast.migrate.lint.trace import trace_paths

        findings += trace_paths(paths, url=trace, schema=schema)
    return findings


def _show(findings: list[Finding]) -> None:
    for file, of_file in groupby(sorted(findings, key=lambda finding: finding.file), key=lambda finding: finding.file):
        say(visible(file), "bold")
        for finding in of_file:
            say(f"  {finding.line}: {finding.level} {finding.rule}", _STYLES[finding.level])
            say(f"    {visible(finding.message)}")
            for line in finding.fix.splitlines():
                say(f"      {visible(line)}", "dim")
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    if findings:
        say(f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}")
    else:
        say("Nothing unsafe.")
