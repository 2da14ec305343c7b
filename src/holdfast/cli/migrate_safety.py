"""What the linter says of migrations that are about to run: told in development, refused in production."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.output import complain, visible

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.migrate import Difference
    from holdfast.migrate.files import MigrationFile
    from holdfast.migrate.lint import Finding
    from holdfast.migrate.lint.finding import Dialect

Unsafe = Annotated[bool, typer.Option("--unsafe", help="Run in production too what `holdfast migrate lint` refuses.")]


def unsafe(hold: Holdfast, pending: Sequence[MigrationFile]) -> list[str]:
    """What the linter finds to be errors in migrations that are to run on the database of `hold`, a line each."""
    from holdfast.migrate.lint import lint_paths

    dialect: Dialect = "postgresql" if hold.store.dialect == "postgresql" else "sqlite"
    found = lint_paths([file.path for file in pending], dialect=dialect, ours=True)
    return [_line(finding) for finding in found if finding.level == "error"]


def refuse(hold: Holdfast, lines: Sequence[str], allowed: bool) -> None:
    """Stop here in production when there is anything unsafe. MigrationError: there is, and nobody allowed it."""
    from holdfast.errors import MigrationError

    if not lines or allowed or hold.settings.environment != "production":
        return
    for line in lines:
        complain(line)
    raise MigrationError(
        "this is production, and what is pending is unsafe beside a running application, so nothing was run; mend it,"
        " or allow it in the file with a reason (# holdfast: allow RULE because …), or say --unsafe"
    )


def refuse_changes(hold: Holdfast, missing: Difference, allowed: bool) -> None:
    """Stop here in production when tables in use were to be changed without migrations. MigrationError: they were."""
    from holdfast.errors import MigrationError

    changed = (*missing.columns, *missing.indexes)
    if changed and not allowed and hold.settings.environment == "production":
        raise MigrationError(
            f"this is production, and tables that are there lack {', '.join(changed[:5])}; without a folder of"
            " migrations they would be changed while everybody waits, so nothing was: write one with `holdfast migrate"
            " new`, or say --unsafe"
        )


def _line(finding: Finding) -> str:
    fix = " ".join(line.strip() for line in finding.fix.splitlines())
    return visible(f"{Path(finding.file).name}:{finding.line}: {finding.rule}: {finding.message}; instead: {fix}")
