"""The torture of migrations: a round holds, and every planted fault is caught for what it is."""

from __future__ import annotations

import pytest

from torture import migrate
from torture.harness import Options, Result


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of everything: each process takes a second to start."""
    monkeypatch.setattr(migrate, "ROWS", 5_000)
    monkeypatch.setattr(migrate, "KILLS", (1, 1))


async def test_a_round_on_each_database_holds() -> None:
    options = Options(seconds=0.1, seed=3)
    result = await migrate.run(options)
    assert not result.broken, result.details
    assert result.figures["sqlite rounds"] == result.figures["postgresql rounds"] == 1
    kills = result.figures["sqlite kills while it migrated"] + result.figures["postgresql kills while it migrated"]  # type: ignore[operator]
    assert kills == 2
    assert result.figures["postgresql writes"] > 200  # type: ignore[operator]


@pytest.mark.parametrize(
    ("plant", "violation"),
    [("no-lock-timeout", "blocked"), ("edited-file", "accepted_edit"), ("empty-search", "not_found")],
)
async def test_a_planted_fault_is_caught(plant: str, violation: str) -> None:
    options = Options(seconds=0.1, seed=4, plant=plant)
    result = Result("migrate", options, migrate.VIOLATIONS)
    half = migrate.run_postgres if plant == "no-lock-timeout" else migrate.run_sqlite
    await half(options, result, options.seconds)
    assert result.violations[violation] > 0, result.violations
