"""Agents to look at while developing: made up, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from holdfast.apps.agents.mints import MINTS
from holdfast.apps.agents.models import Agent, AgentCapability, AgentPricing
from holdfast.migrate import Sowing, plant, seed

CAPABILITIES = ("translate", "summarise", "transcribe", "price-feed", "image", "search", "classify", "route")
FEW = 12
_SIGNS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _address(number: int, what: str) -> str:
    """Looks like an account, and is none."""
    return "".join(random.Random(f"{what}:{number}").choices(_SIGNS, k=43))


@seed()
async def demo_agents(sowing: Sowing) -> None:
    """Agents that are made up, of which some take x402 payments."""
    await sowing.plant(Agent, _agents(sowing.rows or FEW), on=("address",))


@seed(after=(demo_agents,))
async def demo_capabilities(sowing: Sowing) -> None:
    """What the agents that are made up can do: one to three things each."""
    agents = await plant(sowing.unit, Agent, _agents(sowing.rows or FEW), on=("address",))
    rows = (
        {"agent_id": key, "capability": CAPABILITIES[(number + step) % len(CAPABILITIES)]}
        for number, key in enumerate(agents.keys)
        for step in range(1 + number % 3)
    )
    await sowing.plant(AgentCapability, rows, on=("agent_id", "capability"))


@seed(after=(demo_agents,))
async def demo_pricing(sowing: Sowing) -> None:
    """What those of them ask for a call that take payments."""
    agents = await plant(sowing.unit, Agent, _agents(sowing.rows or FEW), on=("address",))
    rows = (
        {
            "agent_id": row["id"],
            "network": "solana",
            "token_mint": MINTS[0].address,
            "token_decimals": MINTS[0].decimals,
            "price": 1_000 * (1 + number % 50),
        }
        for number, row in enumerate(agents.rows)
        if row["x402_enabled"]
    )
    await sowing.plant(AgentPricing, rows, on=("agent_id", "network", "token_mint"))


def _agents(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        takes = number % 3 != 2
        yield {
            "address": _address(number, "agent"),
            "owner": _address(number // 4, "owner"),
            "claimed": number % 2 == 0,
            "name": f"Demo agent {number + 1}",
            "description": f"Made up, to {CAPABILITIES[number % len(CAPABILITIES)]}.",
            "x402_enabled": takes,
            "x402_payment_address": _address(number, "payments") if takes else None,
            "is_verified": number % 5 == 0,
            "reputation_score": number * 37 % 101,
            "total_jobs": number * 13 % 500,
            "success_rate": 5_000 + number * 97 % 5_001,
        }
