"""Invented payments, and what their figures must be, computed from the rows one by one."""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from holdfast import Holdfast, uuid7
from holdfast.apps import agents
from holdfast.apps.agents import Agent, X402Payment

USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
OTHER = "OtherMint1111111111111111111111111111111111"
HUGE = "HugeMint11111111111111111111111111111111111"
U256 = 2**256 - 1
FIRST = dt.datetime(2025, 12, 29, tzinfo=dt.UTC)  # a Monday, three days before a year ends


def payment(number: int, **values: Any) -> dict[str, Any]:
    """One row of `x402_payments`; `values` overrides."""
    return {
        "id": uuid7(),
        "signature": f"signature{number}",
        "instruction": 0,
        "inner_instruction": -1,
        "slot": number,
        "block_time": FIRST,
        "status": "settled",
        "agent_address": "agent0",
        "payer_address": f"payer{number % 5}",
        "recipient_address": "wallet0",
        "amount": 1,
        "fee": None,
        "token_mint": USDC,
        "token_decimals": 6,
        "facilitator": None,
        "confidence": 0.9,
        "reason": "invented",
        "response_time_ms": None,
        "metadata_hash": None,
    } | values


def invented(count: int, *, seed: int = 1, days: int = 70, agents: int = 6) -> list[dict[str, Any]]:
    """Payments over `days` days: exact midnights, failures, amounts up to u256, one token of unknown decimals."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        at = FIRST + dt.timedelta(days=draw.randrange(days), microseconds=draw.choice([0, 1, 86_399_999_999]))
        mint = draw.choice([USDC, USDC, OTHER, HUGE])
        rows.append(
            payment(
                number,
                block_time=None if number % 50 == 49 else at,
                status="failed" if draw.random() < 0.2 else "settled",
                agent_address=f"agent{draw.randrange(agents)}",
                amount=U256 - draw.randrange(9) if mint == HUGE else draw.randrange(10**9),
                token_mint=mint,
                token_decimals=None if mint == HUGE else 6,
            )
        )
    return rows


@asynccontextmanager
async def ledger(url: str, rows: list[dict[str, Any]]) -> AsyncIterator[Holdfast]:
    """A database with these payments, three agents, and the rollup computed."""
    async with await Holdfast.open(url, migrate=True, metadata=agents.metadata) as hold:
        async with hold.unit() as unit:
            unit.add(Agent(address="agent0", name="Zero", is_verified=True), Agent(address="agent1", name="One"))
            unit.add(Agent(address="never-paid"))
            await unit[X402Payment].add_many(rows)
        await hold.rollups.rebuild()
        yield hold


def figures(rows: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, tuple[int, int, int]]:
    """(volume, settled, failed) by `key`, of the rows whose time is known."""
    found: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        if row["block_time"] is None:
            continue
        group = found[key(row)]
        if row["status"] == "settled":
            group[0] += row["amount"]
            group[1] += 1
        else:
            group[2] += 1
    return {k: (v[0], v[1], v[2]) for k, v in found.items()}
