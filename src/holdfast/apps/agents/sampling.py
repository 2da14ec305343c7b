"""The sample ledger in a database: what `holdfast up` shows on a fresh laptop."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from holdfast.apps.agents import sample
from holdfast.apps.agents.ledger import Counts, PaymentLedger
from holdfast.apps.agents.models import Agent, AgentCapability, AgentPricing, TokenTransfer
from holdfast.apps.agents.recognition import Recogniser
from holdfast.errors import ConfigurationError
from holdfast.hold import Holdfast
from holdfast.index import Indexer, Item
from holdfast.store import Query, Unit
from holdfast.upstreams.solana.parse import parse_answer
from holdfast.upstreams.solana.records import Transaction


async def wants_sample(hold: Holdfast, asked: bool | None) -> bool:
    """Whether to index the sample: where it was said, else only into an empty default database.

    Raises:
        ConfigurationError: it was said, and this `Holdfast` does not keep the models of this app.
    """
    if Agent not in hold.models:
        if asked:
            raise ConfigurationError("the sample needs the agents app: add holdfast.apps.agents to HOLDFAST_MODELS")
        return False
    if asked is not None:
        return asked
    if not hold.settings.database_url_is_default:
        return False
    async with hold.read() as unit:
        for model in (Agent, TokenTransfer):
            if await unit[model].first(Query(model)) is not None:
                return False
    return True


async def index_sample(hold: Holdfast) -> Counts:
    """Write the sample's agents and index its ledger, all transfers kept.

    Again it adds nothing, and rows that are there stay as they are.
    """
    await hold.run(_write_agents, actor="sample")
    recogniser = Recogniser(sample.recognition())
    ledger = PaymentLedger(recogniser, keep_all=True)
    indexer = Indexer[Transaction](hold.store, "sample", ledger)
    await indexer.run(_items(recogniser))
    return ledger.counts


def _items(recogniser: Recogniser) -> Iterator[Item[Transaction]]:
    for line, answer in enumerate(sample.ledger(), start=1):
        for _, record in parse_answer(answer, instructions=recogniser.wants):
            yield Item("sample ledger", f"line {line}", record)


async def _write_agents(unit: Unit) -> None:
    rows = sample.agents()
    agents = [_agent_row(row) for row in rows]
    await unit[Agent].upsert_many(agents, on=("address",), update_columns=())
    stored = await unit[Agent].list(Query(Agent).where(Agent.address.in_([row["address"] for row in rows])))
    ids = {agent.address: agent.id for agent in stored}
    await unit[AgentCapability].upsert_many(
        [{"agent_id": ids[row["address"]], "capability": c} for row in rows for c in row["capabilities"]],
        on=("agent_id", "capability"),
        update_columns=(),
    )
    await unit[AgentPricing].upsert_many(
        [
            {**price, "agent_id": ids[row["address"]], "price": int(price["price"])}
            for row in rows
            for price in row["pricing"]
        ],
        on=("agent_id", "network", "token_mint"),
        update_columns=(),
    )


def _agent_row(row: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in row.items() if name not in ("capabilities", "pricing", "created_at")}
    return {**plain, "created_at": dt.datetime.fromtimestamp(row["created_at"], dt.UTC)}
