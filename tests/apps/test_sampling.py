"""The sample ledger in a database: when it is put there, and what is there then."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select

from holdfast import Holdfast, Query, Settings
from holdfast.apps import agents
from holdfast.apps.agents import sample
from holdfast.apps.agents.models import Agent, AgentCapability, AgentPricing, TokenTransfer, X402Payment
from holdfast.apps.agents.sampling import index_sample, wants_sample
from holdfast.index import list_rejected


async def test_the_sample_goes_only_into_an_empty_default_database_unless_it_is_said(
    sqlite_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Holdfast.open(sqlite_url, metadata=agents.metadata) as named:
        assert [await wants_sample(named, asked) for asked in (None, True, False)] == [False, True, False]
    for model, row in ((Agent, {"address": "a"}), (TokenTransfer, TRANSFER)):
        folder = tmp_path / model.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        async with await Holdfast.open(settings=Settings.from_environment({}), metadata=agents.metadata) as default:
            assert [await wants_sample(default, asked) for asked in (None, True, False)] == [True, True, False]
            async with default.unit() as unit:
                await unit[model].add_many([row])  # type: ignore[type-var]
            assert not await wants_sample(default, None)
            assert await wants_sample(default, True)


TRANSFER = {
    "signature": "s",
    "instruction": 0,
    "kind": "transfer",
    "amount": 1,
    "source": "a",
    "destination": "b",
    "authority": "c",
    "successful": True,
    "payment": False,
    "confidence": 0.0,
    "reason": "none",
}


async def test_the_sample_is_indexed_whole_and_again_adds_nothing(database_url: str) -> None:
    async with await Holdfast.open(database_url, metadata=agents.metadata) as hold:
        counts = await index_sample(hold)
        labels = list(sample.labels())
        assert counts.transactions == 6_000
        assert counts.transfers == len(labels)
        assert counts.duplicates == 0
        assert abs(counts.payments - sum(label.is_payment for label in labels)) < 20
        first = await contents(hold)
        async with hold.unit() as unit:
            await unit.execute("UPDATE agents SET name = 'mine'")
            for pricing in await unit[AgentPricing].list():
                pricing.price = 999
        again = await index_sample(hold)
        async with hold.read() as unit:
            named = await unit.execute(select(func.count()).select_from(Agent).where(Agent.name == "mine"))
            assert named.scalar() == first["agents"], "rows that are there stay as they are"
            assert {pricing.price for pricing in await unit[AgentPricing].list()} == {999}
        assert again.duplicates == again.transfers == counts.transfers
        assert await contents(hold) == first
        async with hold.read() as unit:
            assert await list_rejected(unit) == []


async def contents(hold: Holdfast) -> dict[str, Any]:
    async with hold.read() as unit:
        rows = {
            model.__tablename__: await unit[model].count()  # type: ignore[type-var]
            for model in (Agent, AgentCapability, AgentPricing, TokenTransfer, X402Payment)
        }
        paid = select(X402Payment.status, func.count()).group_by(X402Payment.status)
        return {**rows, **{str(status): number for status, number in (await unit.execute(paid)).all()}}


async def test_the_agents_of_the_sample_are_paid_what_their_labels_say(sqlite_url: str) -> None:
    async with await Holdfast.open(sqlite_url, metadata=agents.metadata) as hold:
        await index_sample(hold)
        rows = sample.agents()
        async with hold.read() as unit:
            registered = await unit[Agent].list(Query(Agent).where(claimed=True).include("capabilities", "pricing"))
            payments = await unit[X402Payment].list()
        assert {a.address for a in registered} == {row["address"] for row in rows if row["claimed"]}
        tideline = next(a for a in registered if a.name == "Tideline")
        assert {c.capability for c in tideline.capabilities} == {"weather", "forecast"}
        assert [(p.price, p.token_decimals) for p in tideline.pricing] == [(4_000, 6)]
        truth = {(x.signature, x.instruction, -1 if x.inner is None else x.inner): x for x in sample.labels()}
        agreeing = Counter(
            truth[p.signature, p.instruction, p.inner_instruction].agent == p.agent_address
            for p in payments
            if truth[p.signature, p.instruction, p.inner_instruction].is_payment
        )
        assert agreeing[True] > 4_700
        assert agreeing[False] == 0


async def test_the_figures_of_the_sample_equal_its_payments(database_url: str) -> None:
    async with await Holdfast.open(database_url, metadata=agents.metadata) as hold:
        await index_sample(hold)
        await hold.rollups.rebuild()
        async with hold.read() as unit:
            payments = await unit[X402Payment].list()
            daily = (await unit.execute("SELECT volume, settled, failed FROM x402_payments_daily")).all()
        settled = [p for p in payments if p.status == "settled"]
        assert sum(int(row.volume) for row in daily) == sum(p.amount for p in settled)
        assert sum(row.settled for row in daily) == len(settled)
        assert sum(row.failed for row in daily) == len(payments) - len(settled) > 100
