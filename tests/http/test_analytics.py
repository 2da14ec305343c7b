"""The figures over HTTP: names, shapes and refusals. That they are right is tested with the app."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.apps.payments import HUGE, USDC, figures
from tests.http.agents import ROWS, agents_client

PATH = "/v1/analytics"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Two hundred payments on each backend."""
    async with agents_client(database_url) as (_, client):
        yield client


async def get(client: httpx.AsyncClient, url: str, **query: str) -> Any:
    answer = await client.get(f"{PATH}/{url}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_amounts_are_strings_with_the_tokens_symbol_and_decimals_beside_them(client: httpx.AsyncClient) -> None:
    summary = await get(client, "summary")
    by_token = figures(ROWS, lambda row: row["token_mint"])
    assert {row["token"]["mint"]: row["volume"] for row in summary["volume"]} == {
        mint: str(volume) for mint, (volume, _, _) in by_token.items()
    }
    assert {row["token"]["mint"]: (row["token"]["symbol"], row["token"]["decimals"]) for row in summary["volume"]} == {
        USDC: ("USDC", 6),
        "OtherMint1111111111111111111111111111111111": (None, 6),
        HUGE: (None, None),
    }


async def test_a_series_says_which_range_was_meant(client: httpx.AsyncClient) -> None:
    series = await get(client, "volume", **{"period": "week", "token": USDC, "from": "2026-01-05", "to": "2026-01-19"})
    assert (series["period"], series["from"], series["to"]) == ("week", "2026-01-05", "2026-01-19")
    assert [(p["start"], p["end"]) for p in series["data"]] == [
        ("2026-01-05", "2026-01-12"),
        ("2026-01-12", "2026-01-19"),
    ]
    assert {p["token"] for p in series["data"]} == {USDC}
    assert [token["mint"] for token in series["tokens"]] == [USDC]
    total = await get(client, "volume", period="total", token=USDC)
    assert [(p["start"], p["end"]) for p in total["data"]] == [(None, None)]


async def test_a_ranking_has_so_many_agents_as_were_asked_for(client: httpx.AsyncClient) -> None:
    ranking = await get(client, "top-agents", limit="2", by="payments")
    assert [row["rank"] for row in ranking["data"]] == [1, 2]
    assert ranking["data"][0]["settled"] >= ranking["data"][1]["settled"]
    assert ranking["token"] is None


async def test_a_success_rate_is_a_number_or_null(client: httpx.AsyncClient) -> None:
    (whole,) = (await get(client, "success-rate"))["data"]
    assert whole["success_rate"] == whole["settled"] / (whole["settled"] + whole["failed"])
    (nothing,) = (await get(client, "success-rate", agent="nobody"))["data"]
    assert (nothing["settled"], nothing["failed"], nothing["success_rate"]) == (0, 0, None)


async def test_payments_are_shown_as_their_resource_shows_them(client: httpx.AsyncClient) -> None:
    page = await get(client, "payments", payer="payer2", status="failed", limit="3")
    assert len(page["data"]) == 3
    for row in page["data"]:
        one = await client.get(f"/v1/resources/x402-payments/{row['id']}")
        assert one.json()["data"] == row
        assert (row["payer_address"], row["status"]) == ("payer2", "failed")
        assert isinstance(row["amount"], str)
    following = await get(client, "payments", payer="payer2", status="failed", limit="3", after=page["next"])
    assert not {row["id"] for row in following["data"]} & {row["id"] for row in page["data"]}


async def test_a_question_that_cannot_be_meant_is_refused_with_what_can(sqlite_url: str) -> None:
    async with agents_client(sqlite_url, []) as (_, client):
        for url, told in REFUSED:
            answer = await client.get(f"{PATH}/{url}")
            assert (answer.status_code, told in answer.json()["detail"]) == (422, True), (url, answer.text)


REFUSED = (
    ("volume?period=hour", "day, week, month, total"),
    ("volume?from=2026-01-05T00:00:00Z", "YYYY-MM-DD"),
    ("volume?from=20260105", "YYYY-MM-DD"),
    ("volume?from=2026-01-05&to=2026-01-05", "no day in it"),
    ("volume?from=2026-01-05&to=2026-01-04", "no day in it"),
    ("volume?token=", "1 to 200"),
    ("volume?token=" + "x" * 201, "1 to 200"),
    ("volume?token=a%00", "NUL"),
    ("volume?mint=x", "no parameter mint"),
    ("top-agents?limit=0", "1 to 100"),
    ("top-agents?limit=101", "1 to 100"),
    ("top-agents?by=fame", "volume, payments"),
    ("success-rate?period=year", "day, week, month, total"),
    ("payments?status=pending", "settled, failed"),
    ("payments?after=x", "cursor"),
    ("payments?limit=1001", "1 to 1000"),
    ("summary?token=x", "takes none"),
    ("volume?to=0001-01-01", "outside"),
    ("volume?from=9999-12-31", "outside"),
    ("top-agents?from=9999-12-31", "outside"),
    ("payments?to=9999-12-31", "outside"),
    ("volume?from=2026-02-30", "YYYY-MM-DD"),
)


async def test_the_first_and_the_last_day_there_is_are_answered(client: httpx.AsyncClient) -> None:
    for period in ("day", "week", "month", "total"):
        whole = {"from": "1970-01-01", "to": "2999-12-31", "period": period}
        assert (await get(client, "volume", **whole))["data"]
        assert (await get(client, "volume", **{"from": "2999-12-31", "period": period}))["data"] == []
        assert (await get(client, "volume", to="1970-01-01", period=period))["data"] == []


async def test_an_answer_is_not_sent_again_until_it_changes(client: httpx.AsyncClient) -> None:
    first = await client.get(f"{PATH}/summary")
    again = await client.get(f"{PATH}/summary", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
