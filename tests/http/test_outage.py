"""A database that crashes under requests: they fail cleanly, and go on without a restart."""

import asyncio
import time

from tests.cli.postgres import mortal_postgres
from tests.http.press import press_at


async def test_requests_fail_cleanly_while_the_database_is_away_and_go_on_when_it_is_back() -> None:
    with mortal_postgres() as postgres, postgres.server.database() as url:
        async with press_at(url, connect_timeout=2.0, pool_timeout=2.0) as press:
            key = {"Idempotency-Key": "before"}
            made = await press.ask("ada", "POST", "articles", json={"headline": "before"}, headers=key)
            assert made.status_code == 201
            one = f"articles/{made.json()['data']['id']}"
            seen: set[tuple[str, int]] = set()
            is_over = False

            async def hammer(number: int) -> None:
                while not is_over:
                    for method, path in (("GET", one), ("PATCH", one), ("POST", "articles"), ("GET", "memos")):
                        given = {} if method == "GET" else {"json": {"headline": f"{number}"}}
                        answer = await press.ask("ada", method, path, **given)
                        seen.add((method, answer.status_code))
                        if answer.status_code == 503:
                            assert int(answer.headers["retry-after"]) >= 1
                            assert answer.headers["content-type"] == "application/problem+json"
                    await asyncio.sleep(0.02)

            async def until(method: str, status: int) -> None:
                deadline = time.monotonic() + 60
                seen.clear()
                while (method, status) not in seen:
                    assert time.monotonic() < deadline, seen
                    await asyncio.sleep(0.05)

            at_work = [asyncio.create_task(hammer(number)) for number in range(3)]
            try:
                await until("PATCH", 200)
                postgres.crash()
                for method in ("GET", "PATCH", "POST"):
                    await until(method, 503)
                    assert {status for _, status in seen} <= {200, 201, 503}
                postgres.come_back()
                await until("PATCH", 200)
                await until("POST", 201)
                assert {status for _, status in seen} <= {200, 201, 503}
            finally:
                is_over = True
                await asyncio.gather(*at_work)
            again = await press.ask("ada", "POST", "articles", json={"headline": "before"}, headers=key)
            assert (again.status_code, again.content) == (201, made.content)
            assert (await press.client.get(made.headers["location"])).status_code == 200
