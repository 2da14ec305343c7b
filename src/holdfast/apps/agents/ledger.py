"""From parsed Solana transactions to rows: transfers, payments, the agents that are paid."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import select

from holdfast.apps.agents.models import NO_BATCH, TOP_LEVEL, Agent, TokenTransfer, X402Payment, X402Transaction
from holdfast.apps.agents.recognition import Judgement, Recogniser
from holdfast.apps.agents.revision import (
    PAYMENT_KEY,
    TRANSACTION_KEY,
    TRANSFER_KEY,
    complete,
    judge_again,
    look_up,
)
from holdfast.model import uuid7
from holdfast.store import Unit
from holdfast.upstreams.solana import records


class Counts(msgspec.Struct, kw_only=True):
    """What one run read. `duplicates` counts transfers that were to be kept and were there already."""

    transactions: int = 0
    failed: int = 0
    transfers: int = 0
    payments: int = 0
    duplicates: int = 0


class PaymentLedger:
    """Writes transactions into the agents app's tables; writing one again changes nothing.

    What is written again may complete what is there: a slot that a block's answer did not have, an owner that its
    balances did not tell, the judgement of a recogniser that knows more. The better-founded judgement stays, so it
    does not matter in which order things are indexed.

    Args:
        recogniser: says which transfers are payments.
        keep_all: keep every token transfer, not only payments and attempts at one.
    """

    def __init__(self, recogniser: Recogniser, *, keep_all: bool = False) -> None:
        self.recogniser = recogniser
        self.keep_all = keep_all
        self.counts = Counts()
        self._agents: dict[str, str] = {}  # payment address → the agent's address, as far as seen

    async def write(self, unit: Unit, transactions: Sequence[records.Transaction]) -> None:
        """Write `transactions` in `unit`; `counts` grows when it commits."""
        counts = Counts()
        rest = list(transactions)
        while rest:  # what comes twice is written in a round of its own, as if it came later
            once: dict[str, records.Transaction] = {}
            again = [t for t in rest if once.setdefault(t.signature, t) is not t]
            await self._write(unit, list(once.values()), counts)
            rest = again

        async def add() -> None:
            for name in Counts.__struct_fields__:
                setattr(self.counts, name, getattr(self.counts, name) + getattr(counts, name))

        unit.after_commit(add)

    async def _write(self, unit: Unit, transactions: Sequence[records.Transaction], counts: Counts) -> None:
        transfers: list[dict[str, Any]] = []
        payments: list[dict[str, Any]] = []
        paying: list[dict[str, Any]] = []
        for transaction in transactions:
            if not transaction.successful:
                counts.failed += 1
            if not transaction.transfers:
                continue
            counts.transfers += len(transaction.transfers)
            paid = 0
            at = moment(transaction.block_time)
            for transfer, judgement in zip(transaction.transfers, self.recogniser.recognise(transaction), strict=True):
                if judgement.payment:
                    paid += 1
                    payments.append(_payment_row(transaction, transfer, judgement, at))
                elif not self.keep_all:
                    continue
                transfers.append(_transfer_row(transaction, transfer, judgement, at))
            if paid:
                paying.append(_transaction_row(transaction, paid, at, self.recogniser))
        counts.transactions += len(transactions)
        counts.payments += len(payments)
        # In one order, so that two who index the same at once do not wait for each other crosswise.
        for rows in (transfers, payments, paying):
            rows.sort(key=itemgetter("signature"))
        written = await unit[TokenTransfer].upsert_many(transfers, on=TRANSFER_KEY, update_columns=())
        counts.duplicates += len(transfers) - written
        known = None
        # Where not all are kept, the payment may be new and yet its transaction known, by another transfer.
        if transfers and (written < len(transfers) or not self.keep_all):
            known = await look_up(unit, transfers)
            if known.better_founded:
                again = [t for t in transactions if t.signature in known.better_founded]
                await judge_again(unit, self._rows(again))
        if payments:
            agents = await self._resolve(unit, {row["recipient_address"] for row in payments})
            for row in payments:
                row["agent_address"] = agents[row["recipient_address"]]
            await unit[X402Transaction].upsert_many(paying, on=TRANSACTION_KEY, update_columns=())
            await unit[X402Payment].upsert_many(payments, on=PAYMENT_KEY, update_columns=())
        if known is not None and known.incomplete:
            await complete(unit, known, transfers, paying, payments)

    def _rows(self, transactions: Sequence[records.Transaction]) -> list[dict[str, Any]]:
        """The rows of all transfers of `transactions`."""
        return [
            _transfer_row(transaction, transfer, judgement, moment(transaction.block_time))
            for transaction in transactions
            for transfer, judgement in zip(transaction.transfers, self.recogniser.recognise(transaction), strict=True)
        ]

    async def _resolve(self, unit: Unit, recipients: set[str]) -> dict[str, str]:
        """The agent of each payment address; a recipient that none names becomes a ghost."""
        unknown = sorted(recipients - self._agents.keys())
        if not unknown:
            return self._agents
        known = select(Agent.x402_payment_address, Agent.address).where(Agent.x402_payment_address.in_(unknown))
        found: list[Any] = list(await unit.execute(known))
        # The last one stays. An agent goes before a ghost, which is its own payment address; then the first by name.
        found.sort(key=lambda row: (row[0] == row[1], row[1]), reverse=True)
        named: dict[str, str] = dict(found)
        ghosts = [{"address": a, "x402_enabled": True, "x402_payment_address": a} for a in unknown if a not in named]
        if ghosts:
            await unit[Agent].upsert_many(ghosts, on=("address",), update_columns=())
        seen: dict[str, str] = named | {str(ghost["address"]): str(ghost["address"]) for ghost in ghosts}

        async def remember() -> None:
            self._agents |= seen

        unit.after_commit(remember)
        return self._agents | seen


@lru_cache(maxsize=4096)
def moment(block_time: int | None) -> dt.datetime | None:
    """The UTC time of Unix seconds."""
    return None if block_time is None else dt.datetime.fromtimestamp(block_time, dt.UTC)


def _transfer_row(
    transaction: records.Transaction, transfer: records.TokenTransfer, judgement: Judgement, at: dt.datetime | None
) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "signature": transaction.signature,
        "instruction": transfer.instruction,
        "inner_instruction": TOP_LEVEL if transfer.inner is None else transfer.inner,
        "batched": NO_BATCH if transfer.batch is None else transfer.batch,
        "slot": transaction.slot,
        "block_time": at,
        "kind": transfer.kind,
        "mint": transfer.mint,
        "decimals": transfer.decimals,
        "amount": transfer.amount,
        "fee": transfer.fee,
        "source": transfer.source,
        "source_owner": transfer.source_owner,
        "destination": transfer.destination,
        "destination_owner": transfer.destination_owner,
        "authority": transfer.authority,
        "successful": transfer.successful,
        "payment": judgement.payment,
        "confidence": judgement.confidence,
        "reason": judgement.reason,
    }


def _payment_row(
    transaction: records.Transaction, transfer: records.TokenTransfer, judgement: Judgement, at: dt.datetime | None
) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "signature": transaction.signature,
        "instruction": transfer.instruction,
        "inner_instruction": TOP_LEVEL if transfer.inner is None else transfer.inner,
        "slot": transaction.slot,
        "block_time": at,
        "status": "settled" if transfer.successful else "failed",
        "payer_address": transfer.source_owner or transfer.authority,
        "recipient_address": transfer.destination_owner or transfer.destination,
        "amount": transfer.amount,
        "fee": transfer.fee,
        "token_mint": transfer.mint or "",
        "token_decimals": transfer.decimals,
        "facilitator": judgement.facilitator,
        "confidence": judgement.confidence,
        "reason": judgement.reason,
        "response_time_ms": None,
        "metadata_hash": None,
    }


def _transaction_row(
    transaction: records.Transaction, paid: int, at: dt.datetime | None, recogniser: Recogniser
) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "signature": transaction.signature,
        "slot": transaction.slot,
        "block_time": at,
        "status": "settled" if transaction.successful else "failed",
        "error": transaction.error,
        "fee_payer": transaction.fee_payer,
        "facilitator": recogniser.config.facilitators.get(transaction.fee_payer),
        "fee": transaction.fee,
        "payments": paid,
    }
