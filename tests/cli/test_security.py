"""`holdfast doctor --security` and `--reviewed`: what was reviewed is kept, and told when it is due again."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from holdfast import Holdfast
from holdfast.apps import accounts
from holdfast.settings import Settings
from tests.cli.conftest import Run

HERE = {
    "HOLDFAST_MODELS": "holdfast.apps.accounts",
    "HOLDFAST_DATABASE_URL": "sqlite:///here.db",
    "HOLDFAST_AUDIT_KEYS": f"a1:{'B' * 43}=",
}


def states(run: Run) -> dict[str, tuple[str, str]]:
    """The checks, with what is said of each."""
    found = run("doctor", "--security", "--json", **HERE).json["findings"]
    return {one["check"]: (one["state"], one["detail"]) for one in found}


async def seal() -> None:
    settings = Settings.from_environment(HERE)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        await hold.audit.caught_up()


def test_what_was_reviewed_by_whom_is_kept_and_on_record(run: Run) -> None:
    assert run("migrate", "up", **HERE).code == 0
    before = states(run)
    assert before["access review"] == ("note", "never done, as far as is known")
    assert before["audit checkpoint"][0] == "note"
    said = run("doctor", "--reviewed", "access", "--by", "ada@example.com", **HERE)
    assert said.code == 0
    today = said.out.removeprefix("access: reviewed ").removesuffix(" by ada@example.com\n")
    assert abs(dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(today)) <= dt.timedelta(days=1)
    assert run("doctor", "--reviewed", "restore", "--json", **HERE).json["actor"]  # who is logged in
    assert run("audit", "checkpoint", "kept", **HERE).code == 0
    waiting = states(run)
    assert waiting["audit sealing"][0] == "note"
    assert "nobody seals" in waiting["audit sealing"][1]
    asyncio.run(seal())
    after = states(run)
    assert after["access review"][0] == "ok"
    assert after["access review"][1].startswith(f"last {today} by ada@example.com, due 20")
    assert after["restore rehearsal"][0] == after["audit sealing"][0] == "ok"
    assert after["audit checkpoint"][0] == "ok"
    assert after["rotation"][0] == "note"
    record, other = run("audit", "export", "--action", "review", **HERE).lines
    assert (record["actor"], record["changes"]) == ("ada@example.com", {"what": "access"})
    assert other["changes"] == {"what": "restore"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--reviewed", "everything"), "rotation, access"),
        (("--reviewed", "access", "--security"), "by itself"),
        (("--by", "ada"), "goes with --reviewed"),
        (("--security", "--isolation"), "one of them"),
    ],
)
def test_what_cannot_be_reviewed_is_said(run: Run, arguments: tuple[str, ...], told: str) -> None:
    said = run("doctor", *arguments, **HERE)
    assert said.code == 2
    assert told in " ".join(said.err.replace("│", " ").split())
