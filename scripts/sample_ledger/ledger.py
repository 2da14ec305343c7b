"""The sample's weeks: who pays whom and when, run one after the other, and the files that come of it."""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Any

from rich.progress import Progress

from .addresses import DOLLAR, EURO, MINTS, WALLET_PROGRAM, Mint, address, key
from .agents import Agent
from .lookalikes import plan_lookalike
from .payments import plan_failure, plan_payment
from .plan import Plan
from .world import World

SEED = "holdfast sample ledger 1"
START = 1_772_409_600  # 2026-03-02 00:00 UTC
DAYS = 60
FIRST_SLOT = 403_000_000
SLOT = 0.4  # seconds
TRANSACTIONS = 6_000
# Of the hours of a day, in UTC. Only plain arithmetic is used, so that the sample is the same on every machine.
RHYTHM = (6, 5, 4, 4, 4, 5, 6, 8, 10, 12, 13, 14, 14, 15, 16, 17, 17, 16, 15, 14, 12, 10, 9, 7)
LOOKALIKES, FAILURES = 0.2, 0.035  # shares


def make(transactions: int = TRANSACTIONS, progress: bool = True) -> dict[str, bytes]:
    """Return the sample's files by name; those named .zst are given unpacked."""
    world = World.make(SEED)
    records: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    tried: Counter[int] = Counter()
    paid: Counter[int] = Counter()
    with Progress(disable=not progress) as bar:
        task = bar.add_task("running", total=transactions)
        for moment in _moments(Random(SEED + " times"), transactions):
            slot = FIRST_SLOT + int((moment - START) / SLOT)
            day = int((moment - START) // 86_400)
            plan = _plan(world, day)
            signature, record = _run(world, plan, slot)
            records.append(record)
            ok = record["meta"]["err"] is None
            if ok == plan.kind.startswith("failed"):
                raise RuntimeError(f"a {plan.kind} went the other way: {record['meta']['err']}")
            for instruction, inner, payment in plan.labels:
                labels.append(
                    {
                        "signature": signature,
                        "instruction": instruction,
                        "inner": inner,
                        "is_payment": payment,
                        "kind": plan.kind,
                        "agent": None if plan.agent is None else str(world.agents[plan.agent].address),
                    }
                )
                if payment and plan.agent is not None:
                    tried[plan.agent] += 1
                    paid[plan.agent] += ok
            bar.advance(task)
    return {
        "ledger.jsonl.zst": _lines(records),
        "labels.jsonl.zst": _lines(labels),
        "agents.json": _document([_describe(a, tried[a.number], paid[a.number]) for a in world.agents]),
        "tokens.json": _document([_token(mint) for mint in MINTS]),
        "config.json": _document(_config(world)),
    }


def _moments(random: Random, count: int) -> Iterator[float]:
    """Yield `count` times in order: growing over the weeks, fewer at night and at weekends, uneven from day to day."""
    hours: list[float] = []
    for hour in range(24 * DAYS):
        day = hour // 24
        growth = 1 + 2.2 * day / DAYS
        weekend = 0.7 if day % 7 >= 5 else 1.0
        hours.append(growth * weekend * RHYTHM[hour % 24] * random.uniform(0.75, 1.3))
    bounds = list(accumulate(hours))
    picked = (bisect(bounds, random.random() * bounds[-1]) for _ in range(count))
    yield from sorted(START + 3600 * (hour + random.random()) for hour in picked)


def _plan(world: World, day: int) -> Plan:
    kind = world.random.random()
    if kind < LOOKALIKES:
        return plan_lookalike(world)
    open_agents = [a for a in world.agents if a.x402 and a.launched <= day]
    (agent,) = world.random.choices(open_agents, [a.popularity for a in open_agents])
    if kind < LOOKALIKES + FAILURES and not agent.sponsors:
        return plan_failure(world, agent, day)
    return plan_payment(world, agent, day)


def _run(world: World, plan: Plan, slot: int) -> tuple[str, dict[str, Any]]:
    draw = world.random.random()
    encoding = "jsonParsed" if draw < 0.05 and not plan.lookup else "base64" if draw < 0.5 else "json"
    return world.chain.run(
        plan.instructions,
        [key(name) for name in plan.signers],
        slot=slot,
        time=START + int((slot - FIRST_SLOT) * SLOT),
        encoding=encoding,
        legacy=plan.legacy,
        lookup=plan.lookup,
    )


def _describe(agent: Agent, tried: int, paid: int) -> dict[str, Any]:
    """Return an agent as its registry has it, its totals agreeing with the ledger."""
    return {
        "address": str(agent.address),
        "owner": None if agent.owner is None else str(agent.owner),
        "claimed": agent.owner is not None,
        "name": agent.name,
        "description": agent.description,
        "capabilities": list(agent.capabilities),
        "x402_enabled": agent.x402,
        "x402_payment_address": str(agent.pay_to) if agent.x402 else None,
        "x402_total_payments": paid,
        "is_verified": agent.reputation >= 7000 and not agent.ghost,
        "reputation_score": agent.reputation,
        "total_jobs": tried,
        "success_rate": paid * 10_000 // tried if tried else 0,
        "created_at": START + 86_400 * agent.launched if agent.launched else START - 86_400 * (30 + agent.number),
        "pricing": [
            {
                "network": "solana",
                "token_mint": str(agent.mint.address),
                "token_decimals": agent.mint.decimals,
                "price": str(agent.price),
            }
        ],
    }


def _token(mint: Mint) -> dict[str, Any]:
    program = str(mint.program)
    return {"mint": str(mint.address), "symbol": mint.symbol, "decimals": mint.decimals, "program": program}


def _config(world: World) -> dict[str, Any]:
    listed = {str(address(name)): name.split("/")[1] for name in world.fee_payers}
    return {
        "facilitators": listed,
        "pay_to": {str(a.pay_to): [str(a.mint.address)] for a in world.agents if a.x402},
        "stablecoins": [str(DOLLAR.address), str(EURO.address)],
        "smart_wallets": [str(WALLET_PROGRAM)],
    }


def _lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(r, separators=(",", ":")).encode() + b"\n" for r in records)


def _document(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
