"""The torture of the journal: short runs hold, and every planted fault is caught for what it is."""

from collections.abc import Awaitable, Callable

import pytest

from torture import journal
from torture.harness import Options, Result
from torture.journal_check import Effect, Ledger, check
from torture.journal_follower import Taken
from torture.journal_transactions import Committed, Write


@pytest.mark.parametrize("half", [journal.run_sqlite, journal.run_postgres])
async def test_a_short_run_holds(half: Callable[[Options, Result, float], Awaitable[None]]) -> None:
    options = Options(seconds=2, seed=1)
    result = Result("journal", options, journal.VIOLATIONS)
    await half(options, result, options.seconds)
    assert not result.broken, result.details
    figures = {name.partition(" ")[2]: figure for name, figure in result.figures.items()}
    assert figures["changes"] == figures["ledger delivered"] == figures["file delivered"]
    assert figures["some delivered"] > 0
    assert figures["kills"] >= 3
    assert figures["restores"] == 3


@pytest.mark.parametrize(
    ("plant", "violation"),
    [
        ("cursor-by-seq", "lost"),
        ("cursor-by-time", "lost"),
        ("xmin-order", "regression"),
        ("context-kept", "wrong_actor"),
    ],
)
async def test_a_planted_fault_is_caught(plant: str, violation: str) -> None:
    result = await journal.run(Options(seconds=3, seed=2, plant=plant))
    assert result.violations[violation] > 0, result.violations


INSERTED, UPDATED, DELETED = (
    Write("things", "1", "insert", 1),
    Write("things", "1", "update", 2),
    Write("things", "1", "delete", 2),
)
RESET = Effect(Taken(1, 0, "*", None, "reset", None, None, None), 0)


def effect(number: int, write: Write, actor: str | None = "ann") -> Effect:
    return Effect(Taken(number, number, write.table, write.key, write.op, write.version, None, actor), 0)


def violations(*effects: Effect, exactly_once: bool = True, truncated: int = 0) -> set[str]:
    """What the checker says to `effects`, when one row was inserted, updated and deleted by ann."""
    ledger = Ledger()
    ledger.add([Committed("1", "ann", 1, True, [INSERTED, UPDATED, DELETED], truncated)], {"1"})
    found: set[str] = set()
    check(ledger, "follower", effects, None, exactly_once, lambda violation, detail: found.add(violation))
    return found


def test_what_was_committed_and_delivered_is_no_violation() -> None:
    assert violations(RESET, effect(1, INSERTED), effect(2, UPDATED), effect(3, DELETED)) == set()


def test_each_violation_is_named() -> None:
    one, two, three = effect(1, INSERTED), effect(2, UPDATED), effect(3, DELETED)
    assert violations(RESET, one, three) == {"lost"}
    assert violations(RESET, one, two, two, three) == {"effect_twice"}
    assert violations(RESET, effect(1, UPDATED), effect(2, INSERTED), three) == {"regression"}
    assert violations(RESET, one, effect(2, UPDATED, None), three) == {"wrong_actor"}
    assert violations(one, two, three) == {"missed_reset"}
    assert violations(RESET, one, two, three, truncated=1) == {"missed_reset"}
    assert violations(RESET, one, two, three, effect(4, Write("things", "2", "insert", 1))) == {"invented"}


def test_a_repetition_from_an_earlier_position_is_none_of_an_effect_at_least_once() -> None:
    one, two, three = effect(1, INSERTED), effect(2, UPDATED), effect(3, DELETED)
    assert violations(RESET, one, two, one, two, three, exactly_once=False) == set()
    assert violations(RESET, one, two, effect(4, UPDATED), three, exactly_once=False) == {"effect_twice"}


def test_a_transaction_of_which_only_the_table_knows_the_end_counts_when_it_is_there() -> None:
    ledger = Ledger()
    ledger.add([Committed("1", None, 0, False, [INSERTED]), Committed("2", None, 0, False, [UPDATED])], {"1"})
    assert set(ledger.actors) == {INSERTED}
