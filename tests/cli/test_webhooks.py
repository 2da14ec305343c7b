"""`holdfast webhooks`: what lies in the inbox is shown, and applied by hand."""

from tests.cli.command import Shell

HERE = {"HOLDFAST_MODELS": "holdfast.apps.accounts", "HOLDFAST_DATABASE_URL": "sqlite:///here.db"}
FILL = """
import asyncio, datetime as dt
from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.guard.inbox import Received, take_in

NOW = dt.datetime.now(dt.UTC)

async def main():
    async with await Holdfast.open(metadata=accounts.metadata) as hold, hold.unit(tenant=ALL) as unit:
        for number, kind in enumerate(("user.created", "user.updated")):
            payload = {"id": "user_ada"} if number == 0 else {}
            received = Received(
                source="clerk", event_id=f"msg_{number}", kind=kind, occurred_at=NOW, payload=payload
            )
            assert await take_in(unit, accounts.WebhookEvent, received)
            assert not await take_in(unit, accounts.WebhookEvent, received)

asyncio.run(main())
"""


def test_the_inbox_is_shown_and_applied(shell: Shell) -> None:
    assert shell.run("migrate", "up", **HERE).code == 0
    assert "empty" in shell.run("webhooks", "list", **HERE).out
    shell.python(FILL, **HERE)
    assert [one["event_id"] for one in shell.run("webhooks", "list", "--json", **HERE).lines] == ["msg_1", "msg_0"]
    done = shell.run("webhooks", "replay", "--json", **HERE)
    assert done.code == 3
    assert done.json == {"applied": 1, "failed": 1}
    table = shell.run("webhooks", "list", "--waiting", **HERE).out
    assert "msg_1" in table
    assert "msg_0" not in table
