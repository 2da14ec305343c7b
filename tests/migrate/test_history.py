"""What follows from a history: rules only."""

from __future__ import annotations

import datetime as dt
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.migrate.files import MigrationFile
from holdfast.migrate.history import Event, applied, problems

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
_numbers = count()


def event(revision: str, kind: Any = "up", *, ended: bool = True, checksum: str = "1", steps: int = 0) -> Event:
    return Event(
        id=next(_numbers),
        revision=revision,
        kind=kind,
        checksum=checksum,
        steps=steps,
        actor="ada",
        began=NOW,
        ended=NOW if ended else None,
    )


def file(revision: str, follows: str | None = None, checksum: str = "1") -> MigrationFile:
    return MigrationFile(
        revision=revision,
        follows=follows,
        path=Path(f"{revision}.py"),
        title=revision,
        checksum=checksum,
        phase="pre",
        transactional=True,
        irreversible=None,
        statement_timeout=None,
        module=ModuleType(revision),
    )


def revisions(events: list[Event]) -> list[str]:
    return [one.revision for one in applied(events)]


def kinds(files: list[MigrationFile], events: list[Event]) -> list[tuple[str, str]]:
    return [(problem.kind, problem.revision) for problem in problems(files, applied(events))]


def test_what_was_taken_back_or_forgotten_is_not_applied() -> None:
    assert revisions([event("a"), event("b"), event("b", "down")]) == ["a"]
    assert revisions([event("a"), event("b"), event("a", "forget")]) == ["b"]
    assert revisions([event("a", "adopt"), event("b")]) == ["a", "b"]


def test_an_interrupted_one_says_how_far_it_came() -> None:
    [one] = applied([event("a", ended=False, steps=3)])
    assert one.interrupted is not None
    assert one.interrupted.steps == 3
    [_, back] = applied([event("a"), event("b"), event("b", "down", ended=False)])
    assert back.interrupted is not None
    assert back.interrupted.kind == "down"


def test_an_edited_file_is_a_problem_until_it_is_accepted() -> None:
    events = [event("a"), event("b")]
    files = [file("a"), file("b", "a", checksum="2")]
    assert kinds(files, events) == [("edited", "b")]
    assert kinds(files, [*events, event("b", "accept", checksum="2")]) == []


def test_an_interrupted_one_may_be_edited_for_that_is_how_it_is_mended() -> None:
    assert kinds([file("a", checksum="2")], [event("a", ended=False)]) == []


def test_a_missing_file_is_a_problem_until_it_is_forgotten() -> None:
    assert kinds([file("a")], [event("a"), event("b")]) == [("missing", "b")]
    assert kinds([file("a")], [event("a"), event("b"), event("b", "forget")]) == []


def test_one_put_before_what_is_applied_is_a_problem() -> None:
    files = [file("a"), file("new", "a"), file("b", "new")]
    assert kinds(files, [event("a"), event("b")]) == [("reordered", "new")]


@given(st.data())
def test_any_prefix_of_the_files_is_a_sound_history_and_no_other_order_is(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=6))
    files = [file(name, before) for name, before in zip(names, [None, *names], strict=False)]
    have = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    found = kinds(files, [event(name) for name in have])
    assert (found == []) == (have == names[: len(have)])
