"""Which of the migrations of a folder are to run on a database, and which to be taken back: rules only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from holdfast.errors import MigrationError
from holdfast.migrate.files import MigrationFile, Phase
from holdfast.migrate.history import Applied, Problem

State = Literal["applied", "pending", "interrupted"]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One migration and one database.

    Attributes:
        at: when it was applied, None when it was not.
        steps: how many steps of an interrupted one are done.
    """

    revision: str
    title: str
    phase: Phase
    state: State
    at: Any = None
    steps: int = 0


def statuses(files: Sequence[MigrationFile], have: Sequence[Applied]) -> list[Status]:
    """Each migration of the folder, then those that the database has without a file."""
    without = {one.revision: one for one in have}
    found = [_status(file, without.pop(file.revision, None)) for file in files]
    gone = without.values()
    return found + [
        Status(revision=one.revision, title="(no file)", phase="pre", state="applied", at=one.at) for one in gone
    ]


def _status(file: MigrationFile, have: Applied | None) -> Status:
    state: State = "pending" if have is None else "applied" if have.interrupted is None else "interrupted"
    steps = have.interrupted.steps if have is not None and have.interrupted is not None else 0
    return Status(
        revision=file.revision,
        title=file.title,
        phase=file.phase,
        state=state,
        at=have.at if have is not None else None,
        steps=steps,
    )


def raise_for(problems: Sequence[Problem]) -> None:
    """Raise `MigrationError` when there are any: what they are, and what to do."""
    if problems:
        told = "; ".join(f"{problem.message}: {problem.fix}" for problem in problems[:3])
        raise MigrationError(told + (f"; and {len(problems) - 3} more" if problems[3:] else ""))


def of_phase(pending: Sequence[MigrationFile], phase: Phase | None) -> list[MigrationFile]:
    """What of `pending` a phase may run. MigrationError: one of the other phase comes first."""
    if phase is None:
        return list(pending)
    run: list[MigrationFile] = []
    for file in pending:
        if file.phase != phase:
            break
        run.append(file)
    if not run and any(file.phase == phase for file in pending):
        first = pending[0]
        raise MigrationError(
            f"{first.revision} is of the phase {first.phase!r} and comes first;"
            f" run `holdfast migrate up --phase {first.phase}` when its time has come"
        )
    return run


def to_take_back(have: Sequence[Applied], to: str | None, steps: int) -> list[Applied]:
    """The newest `steps`, or all after `to`, newest first. MigrationError: `to` is not applied."""
    newest_first = list(reversed(have))
    if to == "base":
        return newest_first
    if to is None:
        return newest_first[: max(0, steps)]
    names = [one.revision for one in newest_first]
    if to not in names:
        raise MigrationError(f"{to!r} is not applied, so nothing can be taken back to it")
    return newest_first[: names.index(to)]
