"""From parsed transactions to rows: what is kept, what is counted, and what writing again changes."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from holdfast import Holdfast, Query
from holdfast.apps import agents
from holdfast.apps.agents import sample
from holdfast.apps.agents.ledger import Counts, PaymentLedger
from holdfast.apps.agents.models import Agent, TokenTransfer, X402Payment, X402Transaction
from holdfast.apps.agents.recognition import Recogniser, RecognitionConfig
from holdfast.apps.agents.revision import look_up
from holdfast.upstreams.solana.parse import parse_transaction
from holdfast.upstreams.solana.records import Transaction
from tests.apps.x402 import BUYER, PAYAI, RELAYER, SELLER, USDC, limit, move, price, program, transaction

KNOWING = Recogniser(RecognitionConfig(facilitators={PAYAI: "PayAI"}))
UNKNOWING = Recogniser(RecognitionConfig())
OTHER_SELLER = "5Q544fKrFoe6tsEbD7S8EmxGTJYAKtTVhAW5Q5pge4j1"


def payment(signature: str = "pay", amount: int = 10_000, fee_payer: str = PAYAI, **given: Any) -> Transaction:
    return transaction(fee_payer, limit(), price(), move(amount=amount, **given), signature=signature)


def failed(of: Transaction, signature: str = "fail") -> Transaction:
    transfers = tuple(msgspec.structs.replace(t, successful=False) for t in of.transfers)
    error = '{"InstructionError":[2,{"Custom":1}]}'
    return msgspec.structs.replace(of, signature=signature, successful=False, error=error, transfers=transfers)


def plain(signature: str = "plain", amount: int = 5) -> Transaction:
    """Somebody sends tokens and pays the fee: no payment."""
    return transaction(BUYER, move(amount=amount), signature=signature)


def swap(signature: str = "swap") -> Transaction:
    moves = [move(BUYER, SELLER, amount=3), move(SELLER, BUYER, amount=4, mint="other")]
    return transaction(BUYER, (program("Swap", BUYER), moves), signature=signature)


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(database_url, metadata=agents.metadata) as opened:
        yield opened


async def write(hold: Holdfast, *transactions: Transaction, keep_all: bool = False, by: Recogniser = KNOWING) -> Counts:
    ledger = PaymentLedger(by, keep_all=keep_all)
    await hold.run(lambda unit: ledger.write(unit, transactions))
    return ledger.counts


async def rows(hold: Holdfast, model: Any) -> list[Any]:
    async with hold.read() as unit:
        return await unit[model].list(Query(model).order_by("id"))


async def everything(hold: Holdfast) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, without the ids that are made anew, in no order."""
    found = {}
    for model in (TokenTransfer, X402Transaction, X402Payment, Agent):
        names = [c.name for c in model.__table__.columns if c.name not in ("id", "created_at", "updated_at")]
        found[model.__tablename__] = sorted(
            (tuple(getattr(r, n) for n in names) for r in await rows(hold, model)), key=repr
        )
    return found


async def test_only_payments_are_kept_unless_all_are_asked_for(hold: Holdfast) -> None:
    counts = await write(hold, payment(), plain(), swap(), transaction(BUYER, limit(), signature="none"))
    assert counts == Counts(transactions=4, failed=0, transfers=4, payments=1, duplicates=0)
    assert [t.signature for t in await rows(hold, TokenTransfer)] == ["pay"]
    assert [(t.signature, t.payments) for t in await rows(hold, X402Transaction)] == [("pay", 1)]
    counts = await write(hold, payment(), plain(), swap(), keep_all=True)
    assert counts == Counts(transactions=3, failed=0, transfers=4, payments=1, duplicates=1)
    assert [(t.signature, t.inner_instruction, t.payment) for t in await rows(hold, TokenTransfer)] == [
        ("pay", -1, True),
        ("plain", -1, False),
        ("swap", 0, False),
        ("swap", 1, False),
    ]


async def test_a_payment_is_kept_with_what_the_transaction_says(hold: Holdfast) -> None:
    await write(hold, payment(amount=2**64 - 1))
    (paid,) = await rows(hold, X402Payment)
    assert (paid.signature, paid.instruction, paid.inner_instruction) == ("pay", 2, -1)
    assert (paid.payer_address, paid.recipient_address, paid.token_mint) == (BUYER, SELLER, USDC)
    assert (paid.amount, paid.fee, paid.token_decimals, paid.status) == (2**64 - 1, None, 6, "settled")
    assert (paid.slot, paid.block_time) == (1, dt.datetime.fromtimestamp(1_772_409_600, dt.UTC))
    assert paid.facilitator == "PayAI"
    assert "PayAI" in paid.reason
    (sent,) = await rows(hold, X402Transaction)
    assert (sent.status, sent.error, sent.fee_payer, sent.facilitator, sent.fee) == (
        "settled",
        None,
        PAYAI,
        "PayAI",
        10_000,
    )


async def test_a_failed_attempt_is_kept_and_is_no_revenue(hold: Holdfast) -> None:
    counts = await write(hold, payment(), failed(payment()), failed(plain(), "fails too"))
    assert counts == Counts(transactions=3, failed=2, transfers=3, payments=2, duplicates=0)
    assert [(p.signature, p.status) for p in await rows(hold, X402Payment)] == [("pay", "settled"), ("fail", "failed")]
    assert [(t.signature, t.successful) for t in await rows(hold, TokenTransfer)] == [("pay", True), ("fail", False)]
    assert (await rows(hold, X402Transaction))[-1].error == '{"InstructionError":[2,{"Custom":1}]}'
    await hold.rollups.rebuild()
    async with hold.read() as unit:
        daily = (await unit.execute("SELECT volume, settled, failed FROM x402_payments_daily")).all()
    assert [(int(d.volume), d.settled, d.failed) for d in daily] == [(10_000, 1, 1)]


async def test_writing_again_adds_nothing_and_counts_what_was_there(hold: Holdfast) -> None:
    given = [payment(), failed(payment()), plain(), swap()]
    await write(hold, *given, keep_all=True)
    before, tick = await everything(hold), await hold.journal.make_tick()
    counts = await write(hold, *given, keep_all=True)
    assert counts == Counts(transactions=4, failed=1, transfers=5, payments=2, duplicates=5)
    assert await everything(hold) == before
    assert await hold.journal.make_tick() == tick, "something was written"


async def test_a_transaction_that_comes_twice_in_one_batch_is_kept_once(hold: Holdfast) -> None:
    counts = await write(hold, payment(), swap(), payment(), swap(), payment(), keep_all=True)
    assert counts == Counts(transactions=5, failed=0, transfers=7, payments=3, duplicates=4)
    assert len(await rows(hold, TokenTransfer)) == 3
    assert len(await rows(hold, X402Payment)) == 1


async def test_every_transfer_of_a_batch_instruction_is_kept(hold: Holdfast) -> None:
    batch = transaction(BUYER, move(amount=1), move(amount=2), move(amount=3))
    placed = [msgspec.structs.replace(t, instruction=0, batch=n) for n, t in enumerate(batch.transfers)]
    batch = msgspec.structs.replace(batch, transfers=tuple(placed))
    for duplicates in (0, 3):
        assert (await write(hold, batch, keep_all=True)).duplicates == duplicates
    assert [(t.instruction, t.batched, t.amount) for t in await rows(hold, TokenTransfer)] == [
        (0, 0, 1),
        (0, 1, 2),
        (0, 2, 3),
    ]


async def test_counts_grow_only_when_the_unit_commits(hold: Holdfast) -> None:
    ledger = PaymentLedger(KNOWING)
    with pytest.raises(LookupError):
        async with hold.unit() as unit:
            await ledger.write(unit, [payment()])
            raise LookupError
    assert ledger.counts == Counts()
    await hold.run(lambda unit: ledger.write(unit, [payment()]))
    assert ledger.counts == Counts(transactions=1, transfers=1, payments=1)
    assert [p.agent_address for p in await rows(hold, X402Payment)] == [SELLER]


async def test_a_recipient_that_nobody_knows_becomes_a_ghost(hold: Holdfast) -> None:
    await write(hold, payment("a"), payment("b"))
    (ghost,) = await rows(hold, Agent)
    assert (ghost.address, ghost.x402_payment_address, ghost.owner, ghost.claimed) == (SELLER, SELLER, None, False)
    assert ghost.x402_enabled
    assert {p.agent_address for p in await rows(hold, X402Payment)} == {SELLER}


async def test_a_payment_belongs_to_the_agent_that_is_paid_there(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        await unit[Agent].add_many([{"address": "agent", "x402_payment_address": SELLER}])
    await write(hold, payment("a"), payment("b", recipient=OTHER_SELLER))
    assert {(p.signature, p.agent_address) for p in await rows(hold, X402Payment)} == {
        ("a", "agent"),
        ("b", OTHER_SELLER),
    }
    assert {a.address for a in await rows(hold, Agent)} == {"agent", OTHER_SELLER}


async def test_an_agent_that_is_known_later_gets_the_payments_from_then_on(hold: Holdfast) -> None:
    await write(hold, payment("a"))
    async with hold.unit() as unit:
        # One that comes after the ghost by name, and one before it.
        await unit[Agent].add_many([{"address": name, "x402_payment_address": SELLER} for name in ("zeta", "zz")])
    await write(hold, payment("b"))
    assert {(p.signature, p.agent_address) for p in await rows(hold, X402Payment)} == {("a", SELLER), ("b", "zeta")}


async def test_what_a_block_does_not_tell_is_filled_in_by_a_transaction(hold: Holdfast) -> None:
    whole = payment()
    bare = msgspec.structs.replace(
        whole,
        slot=None,
        block_time=None,
        transfers=(msgspec.structs.replace(whole.transfers[0], source_owner=None, decimals=None),),
    )
    await write(hold, bare)
    (transfer,) = await rows(hold, TokenTransfer)
    assert (transfer.slot, transfer.block_time, transfer.source_owner, transfer.decimals) == (None, None, None, None)
    assert (await write(hold, whole)).duplicates == 1
    (transfer,) = await rows(hold, TokenTransfer)
    assert (transfer.slot, transfer.block_time.year, transfer.source_owner, transfer.decimals) == (1, 2026, BUYER, 6)
    for model in (X402Payment, X402Transaction):
        (row,) = await rows(hold, model)
        assert (row.slot, row.block_time.year) == (1, 2026)
    await write(hold, bare)  # and what is known stays
    assert (await rows(hold, TokenTransfer))[0].slot == 1


async def test_a_recogniser_that_knows_more_makes_a_payment_of_a_transfer_that_is_there(hold: Holdfast) -> None:
    unclear = transaction(PAYAI, limit(), move(), signature="unclear")
    await write(hold, unclear, keep_all=True, by=UNKNOWING)
    (transfer,) = await rows(hold, TokenTransfer)
    assert not transfer.payment
    counts = await write(hold, unclear, keep_all=True, by=KNOWING)
    assert (counts.payments, counts.duplicates) == (1, 1)
    (transfer,) = await rows(hold, TokenTransfer)
    assert transfer.payment
    assert "PayAI" in transfer.reason
    assert [p.signature for p in await rows(hold, X402Payment)] == ["unclear"]


async def test_a_recogniser_that_knows_less_takes_nothing_back(hold: Holdfast) -> None:
    unclear = transaction(PAYAI, limit(), move(), signature="unclear")
    await write(hold, unclear, keep_all=True, by=KNOWING)
    before = await everything(hold)
    await write(hold, unclear, keep_all=True, by=UNKNOWING)
    assert await everything(hold) == before


@pytest.mark.parametrize("keep_all", [True, False])
async def test_a_transaction_is_judged_anew_as_a_whole(hold: Holdfast, keep_all: bool) -> None:
    """One of two transfers seems to be the payment, until more is known."""
    two = transaction(
        RELAYER,
        limit(),
        price(),
        move(recipient=SELLER, amount=9),
        move(recipient=OTHER_SELLER, amount=5),
        signature="two",
    )
    await write(hold, two, keep_all=keep_all, by=Recogniser(RecognitionConfig(threshold=0.4, pay_to={SELLER: ()})))
    assert [p.recipient_address for p in await rows(hold, X402Payment)] == [SELLER]
    knowing = RecognitionConfig(threshold=0.5, pay_to={OTHER_SELLER: ()}, facilitators={RELAYER: "R"})
    await write(hold, two, keep_all=keep_all, by=Recogniser(knowing))
    assert [p.recipient_address for p in await rows(hold, X402Payment)] == [OTHER_SELLER]
    assert [t.payments for t in await rows(hold, X402Transaction)] == [1]
    assert {t.destination_owner: t.payment for t in await rows(hold, TokenTransfer)} == {
        SELLER: False,
        OTHER_SELLER: True,
    }


async def test_who_is_better_founded_is_said_by_the_best_transfer(hold: Holdfast) -> None:
    await write(hold, plain("a"), plain("b"), keep_all=True)
    async with hold.read() as unit:
        found = await unit.execute(select(TokenTransfer.signature, TokenTransfer.confidence))
        stored: dict[str, float] = dict(found.all())  # type: ignore[arg-type]
        given = [
            {"id": None, "signature": "a", "confidence": stored["a"]},
            {"id": None, "signature": "b", "confidence": stored["b"] + 0.01},
            {"id": None, "signature": "new", "confidence": 0.9},
        ]
        assert (await look_up(unit, given)).better_founded == {"b"}


def test_the_instructions_that_recognition_asks_for_are_enough() -> None:
    """Inner instructions are not among them: reading those would cost more than all the rest."""
    recogniser = Recogniser(sample.recognition())
    asked = 0
    for line in islice(sample.ledger(), 400):
        whole, wanted = (parse_transaction(line, instructions=which) for which in (True, recogniser.wants))
        assert recogniser.recognise(wanted) == recogniser.recognise(whole)
        assert wanted.instructions in ((), tuple(i for i in whole.instructions if i.inner is None))
        asked += bool(wanted.instructions)
    assert 0 < asked < 400


async def test_two_who_write_the_same_at_once_end_alike(hold: Holdfast) -> None:
    given = [payment(f"p{n}") for n in range(300)] + [swap(f"s{n}") for n in range(300)]
    first, second = await asyncio.gather(
        write(hold, *given, keep_all=True), write(hold, *reversed(given), keep_all=True)
    )
    assert first.duplicates + second.duplicates == first.transfers == 900
    assert len(await rows(hold, TokenTransfer)) == 900
    assert len(await rows(hold, X402Payment)) == 300
    assert len(await rows(hold, Agent)) == 1


async def test_the_order_of_the_ids_is_the_order_of_reading(hold: Holdfast) -> None:
    await write(hold, plain("b"), plain("a"), plain("c"), keep_all=True)
    assert [t.signature for t in await rows(hold, TokenTransfer)] == ["b", "a", "c"]
